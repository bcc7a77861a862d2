package folio

import (
	"github.com/foliodb/folio/page"
)

// frame is a page, or a run of pages, on the heap: one that a transaction made and
// that has not been written to the data file, or has and is kept to be copied again.
//
// A frame is made by the running write transaction, which alone changes its bytes.
// After the commit nobody does, but for the checksum (bytes 0 to 7), which whoever
// writes the frame out fills in; so everybody else leaves these eight bytes alone.
type frame struct {
	id   page.ID
	run  bool // content of a run: no header
	born page.TxID
	buf  []byte // nil once dropped

	// exposed: slices of buf were handed to the user in the running transaction.
	// Guarded by the writer lock.
	exposed bool

	// See flight. Guarded by the writer lock.
	flying bool // it is being written out
	left   bool // and the transaction has no use for it any more

	// Guarded by groups.mu from the commit on.
	died    page.TxID // 0: alive
	written bool      // the data file has it
}

// visible reports whether the snapshot reaches the frame. groups.mu is held.
func (f *frame) visible(snapshot page.TxID) bool {
	return f.born <= snapshot && (f.died == 0 || f.died > snapshot)
}

// frameTable finds frames by page id. It belongs to whoever holds the writer lock, so
// that a lookup costs no lock: the publisher does not take out what it has written,
// the next writer does. Open addressing with linear probing; built-in maps cost three times as
// much here, and a put does four lookups.
type frameTable struct {
	slots []*frame // length a power of two
	n     int
	bytes int64 // in all buffers
}

func (t *frameTable) home(id page.ID) int {
	return int((uint32(id)*0x9E3779B1)>>7) & (len(t.slots) - 1)
}

// get returns the frame of the page, or of the run that begins at it; nil: none.
func (t *frameTable) get(id page.ID) *frame {
	if t.n == 0 {
		return nil
	}
	for i := t.home(id); ; i = (i + 1) & (len(t.slots) - 1) {
		f := t.slots[i]
		if f == nil || f.id == id {
			return f
		}
	}
}

// put adds a frame whose id is not in the table.
func (t *frameTable) put(f *frame) {
	if 2*t.n >= len(t.slots) {
		t.grow()
	}
	t.place(f)
	t.n++
	t.bytes += int64(len(f.buf))
}

func (t *frameTable) place(f *frame) {
	i := t.home(f.id)
	for t.slots[i] != nil {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = f
}

func (t *frameTable) grow() {
	old := t.slots
	t.slots = make([]*frame, max(64, 2*len(old)))
	for _, f := range old {
		if f != nil {
			t.place(f)
		}
	}
}

// remove takes the frame of the page out and returns it; nil: it was not there.
func (t *frameTable) remove(id page.ID) *frame {
	if t.n == 0 {
		return nil
	}
	mask := len(t.slots) - 1
	i := t.home(id)
	for t.slots[i] == nil || t.slots[i].id != id {
		if t.slots[i] == nil {
			return nil
		}
		i = (i + 1) & mask
	}
	f := t.slots[i]
	t.n--
	t.bytes -= int64(len(f.buf))
	// Close the gap: move up whatever probes past it (Knuth 6.4, algorithm R).
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		if (j-t.home(t.slots[j].id))&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = nil
	return f
}

// bufferPool keeps page buffers for reuse: a fresh 4 KiB buffer costs 1.5 us with its
// share of collection, a recycled one nothing. Guarded by the writer lock.
type bufferPool struct {
	size int // of each, bytes
	max  int // how many are kept
	free [][]byte
}

// get returns a buffer with any content.
func (p *bufferPool) get() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, p.size)
}

// put takes a buffer that nobody refers to any more; those of other sizes (of runs) go
// to the collector.
func (p *bufferPool) put(b []byte) {
	if len(b) == p.size && len(p.free) < p.max {
		p.free = append(p.free, b)
	}
}
