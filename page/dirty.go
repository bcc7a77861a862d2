package page

import (
	"iter"
	"slices"
	"sync"
)

// Syncing costs a flush of the disk's cache for each slice, whether there was something to write or not, so only segments of
// the file that were written to are synced. Of their pieces it is known how much was written.
const (
	pieceBits     = 18 // 256 KiB
	segmentBits   = 22 // 4 MiB
	segmentPieces = 1 << (segmentBits - pieceBits)
	syncSegments  = 4 // segments synced at a time, at most
)

// dirty is what has been written to since the last sync.
type dirty struct {
	mu     sync.Mutex
	pieces written
}

// written is how many bytes were written to each piece of the file, and at most as many as it has.
type written []uint32

// add notes, before they are written, that n bytes from off on will be.
func (d *dirty) add(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for end := off + n; off < end; {
		i := off >> pieceBits
		next := min((i+1)<<pieceBits, end)
		if more := int(i) + 1 - len(d.pieces); more > 0 {
			d.pieces = append(d.pieces, make(written, more)...)
		}
		d.pieces[i] = min(d.pieces[i]+uint32(next-off), 1<<pieceBits)
		off = next
	}
}

// take empties the set and returns what was in it.
func (d *dirty) take() written {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.pieces
	d.pieces = nil
	return taken
}

// slices yields, as offset and length in bytes, ascending, what is to be synced at a time.
func (w written) slices() iter.Seq2[int64, int64] {
	return func(yield func(off, n int64) bool) {
		var from, n int64 // segments not yet yielded
		for at := int64(0); at*segmentPieces < int64(len(w)); at++ {
			if !slices.ContainsFunc(w[at*segmentPieces:min((at+1)*segmentPieces, int64(len(w)))], func(n uint32) bool { return n > 0 }) {
				continue
			}
			if n > 0 && (at != from+n || n == syncSegments) {
				if !yield(from<<segmentBits, n<<segmentBits) {
					return
				}
				n = 0
			}
			if n == 0 {
				from = at
			}
			n++
		}
		if n > 0 {
			yield(from<<segmentBits, n<<segmentBits)
		}
	}
}

// within yields the pieces of [off, off+n) that were written to, by their offset, and how much of each.
func (w written) within(off, n int64) iter.Seq2[int64, int64] {
	return func(yield func(off, written int64) bool) {
		for i := off >> pieceBits; i < int64(len(w)) && i<<pieceBits < off+n; i++ {
			if w[i] > 0 && !yield(i<<pieceBits, int64(w[i])) {
				return
			}
		}
	}
}
