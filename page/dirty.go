package page

import (
	"iter"
	"math/bits"
	"sync"
)

// Syncing costs a flush of the disk's cache for each slice, whether there was something to write or not, so only what
// was written to is synced: a bit for each segment of the file says so.
const (
	segmentBits  = 22 // 4 MiB
	syncSegments = 4  // segments synced at a time, at most
)

// dirty is the set of segments written to since the last sync.
type dirty struct {
	mu   sync.Mutex
	bits []uint64
}

// add notes, before they are written, that n bytes from off on will be.
func (d *dirty) add(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := off >> segmentBits; i <= (off+n-1)>>segmentBits; i++ {
		for int(i/64) >= len(d.bits) {
			d.bits = append(d.bits, 0)
		}
		d.bits[i/64] |= 1 << (i % 64)
	}
}

// take empties the set and yields what was in it, as offset and length in bytes, ascending.
func (d *dirty) take() iter.Seq2[int64, int64] {
	d.mu.Lock()
	words := d.bits
	d.bits = nil
	d.mu.Unlock()
	return func(yield func(off, n int64) bool) {
		var from, n int64 // segments not yet yielded
		for i, w := range words {
			for ; w != 0; w &= w - 1 {
				at := int64(i)*64 + int64(bits.TrailingZeros64(w))
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
		}
		if n > 0 {
			yield(from<<segmentBits, n<<segmentBits)
		}
	}
}
