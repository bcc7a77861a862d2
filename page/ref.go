package page

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// RefSize is the length of an encoded Ref.
const RefSize = 20

// Ref names a run: contiguous pages without a header that hold one content from the first byte on, the last page
// filled up with zeros. The content's length stands beside the Ref, not in it.
//
//	 0 u32 id    the first page
//	 4 u64 born  the transaction that wrote the run
//	12 u64 sum   xxhash64 of the content
type Ref struct {
	ID   ID
	Born TxID
	Sum  uint64
}

// Encode writes r to the first RefSize bytes of b.
func (r Ref) Encode(b []byte) {
	_ = b[RefSize-1]
	le.PutUint32(b, uint32(r.ID))
	le.PutUint64(b[4:], uint64(r.Born))
	le.PutUint64(b[12:], r.Sum)
}

// DecodeRef reads a Ref from the first RefSize bytes of b. Any bytes decode; what they name is to be checked.
func DecodeRef(b []byte) Ref {
	_ = b[RefSize-1]
	return Ref{ID: ID(le.Uint32(b)), Born: TxID(le.Uint64(b[4:])), Sum: le.Uint64(b[12:])}
}

// String returns, for example, "run 12 (born 3, sum 0123456789abcdef)".
func (r Ref) String() string { return fmt.Sprintf("run %d (born %d, sum %016x)", r.ID, r.Born, r.Sum) }

// RunPages returns the number of pages that a run of n bytes takes.
func RunPages(n uint64, pageSize int) uint64 {
	ps := uint64(pageSize)
	return n/ps + (n%ps+ps-1)/ps
}

// Sum returns the checksum of a run's content, given in parts. It does not allocate.
func Sum(parts ...[]byte) uint64 {
	if len(parts) == 1 {
		return xxhash.Sum64(parts[0])
	}
	var d xxhash.Digest
	d.Reset()
	for _, p := range parts {
		d.Write(p)
	}
	return d.Sum64()
}
