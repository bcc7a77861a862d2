package freelist

import (
	"math/bits"

	"github.com/foliodb/folio/page"
)

// runs is a segment tree over the chunks of a set: it finds the leftmost run of n members
// in O(log n). Changes only mark their chunk; it is summarised again when somebody
// searches, so that freeing a thousand scattered pages costs a thousand bits, and the next
// search one summary for each chunk among them.
type runs struct {
	set *bitmap

	// nodes is the tree: node i has the children 2i and 2i+1, leaf leaves+c stands
	// for chunk c. leaves is a power of two.
	nodes  []summary
	leaves uint32

	dirty   []uint32 // chunks whose leaf is out of date
	isDirty []bool   // by chunk
}

// summary describes the runs of a range of pages.
type summary struct {
	prefix  page.ID // pages of the run that begins with the range
	suffix  page.ID // pages of the run that ends with it
	longest page.ID
}

// join describes a range whose halves, of span pages each, a and b describe.
func join(a, b summary, span page.ID) summary {
	s := summary{a.prefix, b.suffix, max(a.longest, b.longest, a.suffix+b.prefix)}
	if a.prefix == span {
		s.prefix += b.prefix
	}
	if b.suffix == span {
		s.suffix += a.suffix
	}
	return s
}

// summarize describes a chunk; nil is one without members.
func summarize(c *chunk) summary {
	if c == nil || c.n == 0 {
		return summary{}
	}
	if c.n == chunkPages {
		return summary{chunkPages, chunkPages, chunkPages}
	}
	prefix, longest, run := -1, 0, 0 // run ends right before the word
	for _, x := range c.words {
		if x == ^uint64(0) {
			run += 64
			continue
		}
		low := bits.TrailingZeros64(^x)
		if prefix < 0 {
			prefix = run + low
		}
		longest = max(longest, run+low)
		for longest < 63 && findInWord(x, uint(longest)+1) < 64 {
			longest++
		}
		run = bits.LeadingZeros64(^x)
	}
	return summary{page.ID(prefix), page.ID(run), page.ID(max(longest, run))}
}

// mark notes that members of chunk ci have changed.
func (r *runs) mark(ci uint32) {
	if uint64(ci) >= uint64(len(r.isDirty)) {
		r.grow(ci)
	}
	if !r.isDirty[ci] {
		r.isDirty[ci] = true
		r.dirty = append(r.dirty, ci)
	}
}

// markRange notes that members among the n pages from id on have changed.
func (r *runs) markRange(id, n page.ID) {
	for ci, last := uint32(id>>chunkShift), uint32((id+n-1)>>chunkShift); ci <= last; ci++ {
		r.mark(ci)
	}
}

// grow makes room for chunk ci. Doubling moves every leaf, so all are joined anew.
func (r *runs) grow(ci uint32) {
	leaves := max(1, r.leaves)
	for leaves <= ci {
		leaves *= 2
	}
	nodes := make([]summary, 2*leaves)
	copy(nodes[leaves:], r.nodes[r.leaves:])
	r.nodes, r.leaves = nodes, leaves
	for i, span := leaves/2, page.ID(chunkPages); i > 0; i, span = i/2, span*2 {
		for k := i; k < 2*i; k++ {
			nodes[k] = join(nodes[2*k], nodes[2*k+1], span)
		}
	}
	r.isDirty = append(r.isDirty, make([]bool, int(leaves)-len(r.isDirty))...)
}

// flush brings the tree up to date.
func (r *runs) flush() {
	for _, ci := range r.dirty {
		r.isDirty[ci] = false
		i := r.leaves + ci
		s := summarize(r.set.chunk(ci))
		for span := page.ID(chunkPages); r.nodes[i] != s; span *= 2 {
			r.nodes[i] = s
			if i == 1 {
				break
			}
			i /= 2
			s = join(r.nodes[2*i], r.nodes[2*i+1], span)
		}
	}
	r.dirty = r.dirty[:0]
}

// longest returns the length of the longest run.
func (r *runs) longest() page.ID {
	r.flush()
	if r.leaves == 0 {
		return 0
	}
	return r.nodes[1].longest
}

// find returns the beginning of the leftmost run of at least n pages.
func (r *runs) find(n page.ID) (page.ID, bool) {
	if r.longest() < n {
		return 0, false
	}
	i, first, span := uint32(1), uint32(0), r.leaves // node i stands for span chunks from first on
	for i < r.leaves {
		span /= 2
		left, right := r.nodes[2*i], r.nodes[2*i+1]
		switch {
		case left.longest >= n:
			i = 2 * i
		case left.suffix+right.prefix >= n:
			return page.ID(first+span)<<chunkShift - left.suffix, true
		default:
			i, first = 2*i+1, first+span
		}
	}
	at, _ := r.set.chunk(first).find(0, uint(n))
	return page.ID(first)<<chunkShift + page.ID(at), true
}
