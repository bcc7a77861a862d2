package wal

import "math"

const (
	// block is the unit of places: records start on multiples of it. Disks are
	// assumed to leave other blocks alone when one is written.
	block = 512

	// tailUnit is what the places of tails are multiples of: see tail.
	tailUnit = 8

	// recordsAt is where the first record of a new log lies. The header is
	// alone in the first 4096 bytes, so that no append touches its sector on disks
	// with large ones.
	recordsAt = 4096

	// maxLSN bounds what is believed from a file, so that sums do not overflow.
	maxLSN = LSN(math.MaxInt64 / 2)
)

// An LSN is a place in the log as a whole: the number of bytes logged before
// it since the store was made, with the gaps between them, so that LSNs and offsets grow alike.
type LSN uint64

// A Position says which record may come next: where it lies, and what it must
// carry. A checkpoint stores one.
type Position struct {
	LSN    LSN
	Offset int64  // in the file, a multiple of 8; a tail may lie there, and a record of another kind at the next multiple of 512
	Epoch  uint64 // of the next record
	Chain  uint64 // checksum of the record before it; of the file's header when there is none
}

// after returns the position behind record h, which lies at p.
func (p Position) after(h *head) Position {
	return Position{LSN: p.LSN + LSN(h.size()), Offset: p.Offset + h.size(), Epoch: p.Epoch, Chain: h.sum}
}

// behind returns the position behind tail t, which lies at p.
func (p Position) behind(t *tail) Position {
	return Position{LSN: p.LSN + LSN(t.size()), Offset: p.Offset + t.size(), Epoch: p.Epoch, Chain: t.sum}
}

// aligned returns where the next record lies if it is no tail: at the beginning of a block.
func (p Position) aligned() Position {
	gap := padded(p.Offset) - p.Offset
	p.LSN, p.Offset = p.LSN+LSN(gap), p.Offset+gap
	return p
}

// padded rounds n up to whole blocks, floored down.
func padded(n int64) int64  { return (n + block - 1) &^ (block - 1) }
func floored(n int64) int64 { return n &^ (block - 1) }

// paddedTail rounds n up to where a tail may lie.
func paddedTail(n int64) int64 { return (n + tailUnit - 1) &^ (tailUnit - 1) }
