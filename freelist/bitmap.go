package freelist

import (
	"math/bits"

	"github.com/foliodb/folio/page"
)

// A chunk is the unit in which sets are stored and indexed: small enough that one
// can be summarised in a fraction of a microsecond, large enough that the index over all
// of them is a twentieth of the set.
const (
	chunkShift = 12
	chunkPages = 1 << chunkShift
	chunkWords = chunkPages / 64
)

type chunk struct {
	words [chunkWords]uint64
	n     int // bits set
}

// find returns the first of the leftmost n set bits in a row that lie in the chunk, none
// before from.
func (c *chunk) find(from, n uint) (uint, bool) {
	run := uint(0) // set bits in a row that end before word w
	for w := from / 64; w < chunkWords; w++ {
		x := c.words[w]
		if w == from/64 {
			x &= ^uint64(0) << (from % 64)
		}
		if x == 0 {
			run = 0
			continue
		}
		low := uint(bits.TrailingZeros64(^x))
		if run+low >= n {
			return w*64 - run, true
		}
		if low == 64 {
			run += 64
			continue
		}
		if n < 64 {
			if i := findInWord(x, n); i < 64 {
				return w*64 + i, true
			}
		}
		run = uint(bits.LeadingZeros64(^x))
	}
	return 0, false
}

// findInWord returns the first of the lowest n (at most 63) set bits in a row, or 64. It
// narrows every run from the top by n-1 bits, in steps that double.
func findInWord(x uint64, n uint) uint {
	left := n - 1
	for step := uint(1); left > 0; step *= 2 {
		step = min(step, left)
		x &= x >> step
		if x == 0 {
			return 64
		}
		left -= step
	}
	return uint(bits.TrailingZeros64(x))
}

// runAt returns how many bits in a row are set from i on, within the chunk.
func (c *chunk) runAt(i uint) uint {
	x := c.words[i/64] >> (i % 64)
	n := uint(bits.TrailingZeros64(^x))
	if n < 64-i%64 {
		return n
	}
	n = 64 - i%64
	for w := i/64 + 1; w < chunkWords; w++ {
		t := uint(bits.TrailingZeros64(^c.words[w]))
		n += t
		if t < 64 {
			break
		}
	}
	return n
}

// pool keeps chunks with no bit set for reuse: sets fill and empty all the time.
type pool struct{ chunks []*chunk }

func (p *pool) get() *chunk {
	if n := len(p.chunks); n > 0 {
		c := p.chunks[n-1]
		p.chunks = p.chunks[:n-1]
		return c
	}
	return new(chunk)
}

func (p *pool) put(c *chunk) { p.chunks = append(p.chunks, c) }

// bitmap is a set of pages. Regions without a member cost a nil pointer a chunk.
type bitmap struct {
	pool   *pool
	chunks []*chunk
	n      uint64 // members

	// sticky keeps chunks that became empty until reset, and notes which ones
	// there are in used, so that reset costs what was used.
	sticky bool
	used   []uint32
}

// chunk returns the chunk at index ci, or nil if it has no member.
func (b *bitmap) chunk(ci uint32) *chunk {
	if uint64(ci) >= uint64(len(b.chunks)) {
		return nil
	}
	return b.chunks[ci]
}

// need returns the chunk at index ci, which it makes if there is none.
func (b *bitmap) need(ci uint32) *chunk {
	for uint64(ci) >= uint64(len(b.chunks)) {
		b.chunks = append(b.chunks, nil)
	}
	c := b.chunks[ci]
	if c == nil {
		c = b.pool.get()
		b.chunks[ci] = c
		if b.sticky {
			b.used = append(b.used, ci)
		}
	}
	return c
}

// part is what one word has of the pages from id on: k bits, those of mask.
func part(id, n page.ID) (ci uint32, w uint, mask uint64, k page.ID) {
	bit := id % 64
	k = min(n, 64-bit)
	return uint32(id >> chunkShift), uint(id / 64 % chunkWords), ^uint64(0) >> (64 - k) << bit, k
}

// has reports whether id is a member.
func (b *bitmap) has(id page.ID) bool {
	c := b.chunk(uint32(id >> chunkShift))
	return c != nil && c.words[id/64%chunkWords]&(1<<(id%64)) != 0
}

// any reports whether one of the n pages from id on is a member.
func (b *bitmap) any(id, n page.ID) bool {
	if n == 1 {
		return b.has(id)
	}
	for n > 0 {
		ci, w, mask, k := part(id, n)
		if c := b.chunk(ci); c != nil && c.words[w]&mask != 0 {
			return true
		}
		id, n = id+k, n-k
	}
	return false
}

// all reports whether each of the n pages from id on is a member.
func (b *bitmap) all(id, n page.ID) bool {
	if n == 1 {
		return b.has(id)
	}
	for n > 0 {
		ci, w, mask, k := part(id, n)
		if c := b.chunk(ci); c == nil || c.words[w]&mask != mask {
			return false
		}
		id, n = id+k, n-k
	}
	return true
}

// add makes the n pages from id on members; none is one yet.
func (b *bitmap) add(id, n page.ID) {
	b.n += uint64(n)
	for n > 0 {
		ci, w, mask, k := part(id, n)
		c := b.need(ci)
		c.words[w] |= mask
		c.n += int(k)
		id, n = id+k, n-k
	}
}

// remove takes the n pages from id on out; each is a member.
func (b *bitmap) remove(id, n page.ID) {
	b.n -= uint64(n)
	for n > 0 {
		ci, w, mask, k := part(id, n)
		c := b.chunks[ci]
		c.words[w] &^= mask
		c.n -= int(k)
		if c.n == 0 && !b.sticky {
			b.drop(ci)
		}
		id, n = id+k, n-k
	}
}

// drop gives an empty chunk back.
func (b *bitmap) drop(ci uint32) {
	b.pool.put(b.chunks[ci])
	b.chunks[ci] = nil
}

// merge makes the members of c, a chunk of another set at index ci, members of b; none
// is one yet.
func (b *bitmap) merge(ci uint32, c *chunk) {
	if c.n == 0 {
		return
	}
	d := b.need(ci)
	for w, x := range c.words {
		d.words[w] |= x
	}
	d.n += c.n
	b.n += uint64(c.n)
}

// reset empties a sticky set.
func (b *bitmap) reset() {
	for _, ci := range b.used {
		c := b.chunks[ci]
		if c.n > 0 {
			*c = chunk{}
		}
		b.drop(ci)
	}
	b.used = b.used[:0]
	b.n = 0
}

// next returns the first run of members at or after from; n is 0 if there is none.
func (b *bitmap) next(from page.ID) (id, n page.ID) {
	ci, i := uint32(from>>chunkShift), uint(from%chunkPages)
	for ; uint64(ci) < uint64(len(b.chunks)); ci, i = ci+1, 0 {
		c := b.chunks[ci]
		if c == nil {
			continue
		}
		at, ok := c.find(i, 1)
		if !ok {
			continue
		}
		run := c.runAt(at)
		id, n = page.ID(ci)<<chunkShift+page.ID(at), page.ID(run)
		for end := at + run; end == chunkPages; end = run {
			ci++
			if c = b.chunk(ci); c == nil {
				break
			}
			run = c.runAt(0)
			n += page.ID(run)
		}
		return id, n
	}
	return 0, 0
}

// tail returns how many pages in a row are members right before end.
func (b *bitmap) tail(end page.ID) page.ID {
	n := page.ID(0)
	for n < end {
		last := end - n - 1
		c := b.chunk(uint32(last >> chunkShift))
		if c == nil {
			break
		}
		bit := last % 64
		t := page.ID(bits.LeadingZeros64(^(c.words[last/64%chunkWords] << (63 - bit))))
		n += t
		if t <= bit {
			break
		}
	}
	return n
}

// starts returns the number of runs of members.
func (b *bitmap) starts() uint64 {
	n, carry := 0, uint64(0) // carry: the page before this word is a member
	for _, c := range b.chunks {
		if c == nil {
			carry = 0
			continue
		}
		for _, x := range c.words {
			n += bits.OnesCount64(x &^ (x<<1 | carry))
			carry = x >> 63
		}
	}
	return uint64(n)
}
