package wal

import "math/bits"

// blocks is a set of blocks of the file, one bit for each: 16 KiB for a log of
// 64 MiB. Offsets are in bytes and multiples of a block.
type blocks []uint64

// newBlocks returns an empty set for a file of size bytes.
func newBlocks(size int64) blocks {
	return make(blocks, (size/block+63)/64)
}

// grown returns the set with room for a file of size bytes.
func (b blocks) grown(size int64) blocks {
	if more := newBlocks(size); len(more) > len(b) {
		copy(more, b)
		return more
	}
	return b
}

func (b blocks) has(off int64) bool {
	i := off / block
	return b[i/64]>>(i%64)&1 != 0
}

func (b blocks) add(off int64) {
	i := off / block
	b[i/64] |= 1 << (i % 64)
}

// addRange adds the blocks of [off, off+n) and reports whether none of them was in
// the set before.
func (b blocks) addRange(off, n int64) (fresh bool) {
	fresh = true
	for ; n > 0; off, n = off+block, n-block {
		fresh = fresh && !b.has(off)
		b.add(off)
	}
	return fresh
}

// removeRange removes the blocks of [off, off+n).
func (b blocks) removeRange(off, n int64) {
	for ; n > 0; off, n = off+block, n-block {
		i := off / block
		b[i/64] &^= 1 << (i % 64)
	}
}

// last returns the highest member of [from, to), or -1.
func (b blocks) last(from, to int64) int64 {
	lo, i := from/block, to/block-1
	for i >= lo {
		word := b[i/64] << (63 - i%64)
		if word == 0 {
			i = i/64*64 - 1
			continue
		}
		if i -= int64(bits.LeadingZeros64(word)); i >= lo {
			return i * block
		}
		break
	}
	return -1
}
