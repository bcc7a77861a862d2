package page

// MetaSize is the number of bytes at the beginning of a meta slot's page that hold the slot.
const MetaSize = 512

// FormatVersion is the version of the file format that this package reads and writes.
const FormatVersion = 1

// Meta is the content of a meta slot: the state of the store at a checkpoint.
type Meta struct {
	PageSize   int
	StoreID    [16]byte
	Checkpoint uint64       // number of the checkpoint; the highest valid one wins
	Tx         TxID         // last transaction in the state
	Clean      bool         // the store was closed: there is no log
	Pages      ID           // page count: every page in use is below it
	Root       BucketHeader // the root bucket; it is never inline
	Free       Ref          // run of the free set
	FreeLen    uint64       // bytes of the free set; 0: there is none, no page is free
	LogLSN     uint64       // where the log goes on behind the state
	LogOffset  int64
	LogEpoch   uint64
	LogChain   uint64
}

// Encode writes the meta for the slot (0 or 1) to p, a whole page or its first MetaSize bytes, checksum included. The
// rest of p becomes zero.
func (m *Meta) Encode(p []byte, slot int) { panic("not built yet") }

// DecodeMeta reads the meta of a slot (0 or 1) from p, which holds at least MetaSize bytes. The error is or wraps
// ErrInvalid where there is no magic, ErrVersionMismatch where a sound slot has another version or unknown features, and
// is a *CorruptError where the checksum is wrong or a field is impossible.
func DecodeMeta(p []byte, slot int) (Meta, error) { panic("not built yet") }
