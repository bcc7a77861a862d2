package page

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// MetaSize is the number of bytes at the beginning of a meta slot's page that hold the slot.
const MetaSize = 512

// FormatVersion is the version of the file format that this package reads and writes.
const FormatVersion = 2

// Meta is the content of a meta slot: the state of the store at a checkpoint. Pages 0 and 1 are the two slots.
//
//	  0     magic "FOLIO\0\x1a\n": a text editor stops at it, a transfer as text breaks it
//	  8 u32 version
//	 12 u32 page size
//	 16 u32 features    none exist: 0
//	 20 u32 slot        0 or 1
//	 24     store id, 16 bytes
//	 40 u64 checkpoint
//	 48 u64 transaction
//	 56 u32 flags       bit 0: clean
//	 60 u32 page count
//	 64     bucket header of the root, 24 bytes
//	 88     Ref of the free set, 20 bytes
//	108 u64 length of the free set
//	116 u64 log: LSN
//	124 u64 log: offset
//	132 u64 log: epoch
//	140 u64 log: checksum that the next record continues
//	148     zeros
//	504 u64 checksum    xxhash64 of the bytes before it
//	512     zeros to the page's end
//
// Every version of the format will keep the magic, the version and the checksum where they are, so that a file of
// another version can be told from a damaged one.
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

// Fields of a meta slot, as offsets, for those who say what is wrong with one.
const (
	MetaPageSize   = metaPageSize
	MetaStoreID    = metaStoreID
	MetaCheckpoint = metaCheckpoint
	MetaPages      = metaPages
	MetaRoot       = metaRoot // a bucket header
	MetaFree       = metaFree // the reference to the free set
)

const (
	magic = "FOLIO\x00\x1a\n"

	metaVersion    = 8
	metaPageSize   = 12
	metaFeatures   = 16
	metaSlot       = 20
	metaStoreID    = 24
	metaCheckpoint = 40
	metaTx         = 48
	metaFlags      = 56
	metaPages      = 60
	metaRoot       = 64
	metaFree       = 88
	metaFreeLen    = 108
	metaLSN        = 116
	metaOffset     = 124
	metaEpoch      = 132
	metaChain      = 140
	metaEnd        = 148
	metaChecksum   = 504

	metaClean = 1

	// maxNumber bounds the numbers that go up by and by, far above what a store can reach, so that they can be counted on.
	maxNumber = 1<<62 - 1
)

// Encode writes the meta for the slot (0 or 1) to p, a whole page or its first MetaSize bytes, checksum included. The
// rest of p becomes zero.
func (m *Meta) Encode(p []byte, slot int) {
	clear(p)
	copy(p, magic)
	le.PutUint32(p[metaVersion:], FormatVersion)
	le.PutUint32(p[metaPageSize:], uint32(m.PageSize))
	le.PutUint32(p[metaSlot:], uint32(slot))
	copy(p[metaStoreID:], m.StoreID[:])
	le.PutUint64(p[metaCheckpoint:], m.Checkpoint)
	le.PutUint64(p[metaTx:], uint64(m.Tx))
	if m.Clean {
		le.PutUint32(p[metaFlags:], metaClean)
	}
	le.PutUint32(p[metaPages:], uint32(m.Pages))
	m.Root.Encode(p[metaRoot:])
	m.Free.Encode(p[metaFree:])
	le.PutUint64(p[metaFreeLen:], m.FreeLen)
	le.PutUint64(p[metaLSN:], m.LogLSN)
	le.PutUint64(p[metaOffset:], uint64(m.LogOffset))
	le.PutUint64(p[metaEpoch:], m.LogEpoch)
	le.PutUint64(p[metaChain:], m.LogChain)
	le.PutUint64(p[metaChecksum:], xxhash.Sum64(p[:metaChecksum]))
}

// IsMeta reports whether p begins as a meta slot does.
func IsMeta(p []byte) bool { return len(p) >= len(magic) && string(p[:len(magic)]) == magic }

// DecodeMeta reads the meta of a slot (0 or 1) from p, which holds at least MetaSize bytes; more are not looked at. The
// error is or wraps ErrInvalid where there is no magic, ErrVersionMismatch where a sound slot has another version or
// unknown features, and is a *CorruptError where the checksum is wrong or a field is impossible.
func DecodeMeta(p []byte, slot int) (Meta, error) {
	bad := func(off int, reason string, args ...any) (Meta, error) {
		return Meta{}, &CorruptError{Page: ID(slot), Offset: off, Invariant: invariantMeta, Reason: fmt.Sprintf(reason, args...)}
	}
	if !IsMeta(p) {
		return Meta{}, ErrInvalid
	}
	if len(p) < MetaSize {
		return bad(len(p), "meta slot is cut short")
	}
	if le.Uint64(p[metaChecksum:]) != xxhash.Sum64(p[:metaChecksum]) {
		return bad(metaChecksum, "checksum of the meta slot is wrong")
	}
	if v := le.Uint32(p[metaVersion:]); v != FormatVersion {
		return Meta{}, fmt.Errorf("%w: the file has format version %d, this program reads %d", ErrVersionMismatch, v, FormatVersion)
	}
	if f := le.Uint32(p[metaFeatures:]); f != 0 {
		return Meta{}, fmt.Errorf("%w: the file has format version %d with features %#x, this program reads %d with none", ErrVersionMismatch, FormatVersion, f, FormatVersion)
	}
	if s := le.Uint32(p[metaSlot:]); s != uint32(slot) {
		return bad(metaSlot, "slot %d says that it is slot %d", slot, s)
	}
	if f := le.Uint32(p[metaFlags:]); f&^metaClean != 0 {
		return bad(metaFlags, "unknown flags %#x", f)
	}
	for i, c := range p[metaEnd:metaChecksum] {
		if c != 0 {
			return bad(metaEnd+i, "byte that must be zero is %#02x", c)
		}
	}
	m := Meta{
		StoreID:    [16]byte(p[metaStoreID:]),
		Checkpoint: le.Uint64(p[metaCheckpoint:]),
		Tx:         TxID(le.Uint64(p[metaTx:])),
		Clean:      le.Uint32(p[metaFlags:])&metaClean != 0,
		Pages:      ID(le.Uint32(p[metaPages:])),
		Root:       decodeBucketHeader(p[metaRoot:]),
		Free:       DecodeRef(p[metaFree:]),
		FreeLen:    le.Uint64(p[metaFreeLen:]),
		LogLSN:     le.Uint64(p[metaLSN:]),
		LogOffset:  int64(le.Uint64(p[metaOffset:])),
		LogEpoch:   le.Uint64(p[metaEpoch:]),
		LogChain:   le.Uint64(p[metaChain:]),
	}
	if n := le.Uint32(p[metaPageSize:]); n > MaxPageSize || !ValidSize(int(n)) {
		return bad(metaPageSize, "page size %d is none", n)
	} else {
		m.PageSize = int(n)
	}
	if off, reason := impossibleBucket(p[metaRoot:]); reason != "" {
		return bad(metaRoot+off, "%s", reason)
	}
	if err := m.Check(slot); err != nil {
		return Meta{}, err
	}
	return m, nil
}

// Check is a *CorruptError if m cannot be what a slot says. A file may claim to have used up its numbers: then the next
// one must not be written, or nobody could open the file again.
func (m *Meta) Check(slot int) error {
	off, reason := m.impossible()
	if reason == "" {
		return nil
	}
	return &CorruptError{Page: ID(slot), Offset: off, Invariant: invariantMeta, Reason: reason}
}

// impossible returns the offset of the first field that cannot be as it is, and why.
func (m *Meta) impossible() (off int, reason string) {
	switch h := m.Root; {
	case m.Checkpoint > maxNumber:
		return metaCheckpoint, fmt.Sprintf("checkpoint number %d is beyond all", m.Checkpoint)
	case m.Tx > maxNumber:
		return metaTx, fmt.Sprintf("transaction number %d is beyond all", m.Tx)
	case m.LogLSN > maxNumber:
		return metaLSN, fmt.Sprintf("log position %d is beyond all", m.LogLSN)
	case m.Pages < FirstID:
		return metaPages, fmt.Sprintf("page count %d leaves no room for the meta slots", m.Pages)
	case h.Root == 0 && h.Items != 0:
		return metaRoot + 8, fmt.Sprintf("%d items without a root", h.Items)
	case h.Root >= m.Pages:
		return metaRoot + 16, fmt.Sprintf("root page %d is not among %d pages", h.Root, m.Pages)
	case m.FreeLen == 0 && m.Free != Ref{}:
		return metaFree, "free set of no bytes has a run"
	case m.FreeLen != 0 && (m.Free.ID < FirstID || m.Free.ID >= m.Pages || RunPages(m.FreeLen, m.PageSize) > uint64(m.Pages-m.Free.ID)):
		return metaFree, fmt.Sprintf("free set of %d bytes at page %d is not within %d pages", m.FreeLen, m.Free.ID, m.Pages)
	case m.LogOffset < 0 || m.LogOffset%8 != 0:
		return metaOffset, fmt.Sprintf("log offset %d is not on a record boundary", m.LogOffset)
	}
	return 0, ""
}
