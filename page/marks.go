package page

import (
	"sync"
	"sync/atomic"
)

// A mark says that a page has been validated by this process, or written by it. It is made of the born TxID of what
// was found there, so that another page under the same id is looked at anew; nobody has to take marks back when ids
// are used again.
//
// Marks of nodes are odd and those of runs are even: whatever a run holds, its mark never makes a node of it.
// Zero is no mark.
//
// The upper half of a leaf's mark is how its first key begins: see View.Lead.

// nodeMark is the lower half of the mark of node page p: the low 31 bits of its born TxID, and a one.
func nodeMark(p []byte) uint32 { return le.Uint32(p[offBorn:])<<1 | 1 }

// markOf is the mark of node page p, which is sound. It may have been written over since it was found to be so, by who should not: then the mark is of no use,
// and no harm.
func markOf(p []byte) uint64 {
	mark := uint64(nodeMark(p))
	if KindOf(p) != KindLeaf || CountOf(p) == 0 || HeaderSize+leafSize*CountOf(p) > len(p) {
		return mark
	}
	l := Leaf(p)
	s := l.slot(0)
	from, n := s.off(), s.keyIn(l)
	if from > len(l) || n > len(l)-from {
		return mark
	}
	return mark | uint64(headOf(l[from:from+n]))<<32
}

// runMark is the mark, at its first page, of a run of n bytes. It takes in the checksum, because a run says nothing
// about itself: it is the reference that was found to be right.
func runMark(r Ref, n int) uint32 {
	h := (uint64(r.Born) ^ r.Sum ^ uint64(n)<<32) * 0x9e3779b97f4a7c15
	return max(uint32(h>>33)<<1, 2)
}

// chunkBits: marks are kept in chunks of a little over 16 KiB, made when the first of them is set. At 4 KiB a page one covers 8 MiB
// of the file, so that opening costs little for a large file, and for a small one too: with eight times as large ones 7 % of the time of
// crash tests, which open small stores, went into clearing marks that nobody would set.
const chunkBits = 11

type markChunk struct {
	marks [1 << chunkBits]atomic.Uint64
	warm  [1 << chunkBits / GroupPages / 32]atomic.Uint32 // a bit for each GroupPages pages: see View.warm
	asked [1 << chunkBits / GroupPages / 32]atomic.Uint32 // the same: see View.startAround
}

// GroupPages is how many pages are a group: they are asked about, and asked for, at once. Linux maps as many at a fault if they are there: 64 KiB, at 4 KiB a page.
const GroupPages = 16

// noMarks stands in a directory for chunks not made yet, so that looking up a mark needs no case for them. It is
// never written to.
var noMarks markChunk

// markDir finds the chunk of a page. Directories are replaced by longer ones when the file grows; views keep theirs.
type markDir []atomic.Pointer[markChunk]

// marks are those of one file, shared by all its mappings.
type marks struct {
	mu  sync.Mutex // held to make a chunk or a directory
	dir atomic.Pointer[markDir]
}

// reserve returns a directory for at least so many pages.
func (k *marks) reserve(pages ID) markDir {
	k.mu.Lock()
	defer k.mu.Unlock()
	var old markDir
	if d := k.dir.Load(); d != nil {
		old = *d
	}
	n := int((uint64(pages) + 1<<chunkBits - 1) >> chunkBits)
	if n <= len(old) {
		return old
	}
	dir := make(markDir, n)
	for i := range dir {
		if i < len(old) {
			dir[i].Store(old[i].Load())
		} else {
			dir[i].Store(&noMarks)
		}
	}
	k.dir.Store(&dir)
	return dir
}

// chunk returns the chunk of a page, which it makes if need be; nil if no directory reaches so far.
func (k *marks) chunk(id ID) *markChunk {
	i := int(id >> chunkBits)
	if d := *k.dir.Load(); i < len(d) {
		if c := d[i].Load(); c != &noMarks {
			return c
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	d := *k.dir.Load()
	if i >= len(d) {
		return nil
	}
	c := d[i].Load()
	if c == &noMarks {
		c = new(markChunk)
		d[i].Store(c)
	}
	return c
}

// set marks a page.
func (k *marks) set(id ID, mark uint64) {
	if c := k.chunk(id); c != nil {
		c.marks[id%(1<<chunkBits)].Store(mark)
	}
}

// clear takes back the marks of n pages from id on.
func (k *marks) clear(id ID, n int) {
	d := *k.dir.Load()
	for end := uint64(id) + uint64(n); uint64(id) < end; id++ {
		i := int(id >> chunkBits)
		if i >= len(d) {
			return
		}
		if c := d[i].Load(); c != &noMarks {
			c.marks[id%(1<<chunkBits)].Store(0)
		}
	}
}
