package page

import "encoding/binary"

// A head is the big-endian number that the four key bytes behind a page's prefix make, filled up with zeros. Heads order
// as the keys do, except that equal heads say nothing; so a search counts heads first and looks at keys only among
// equal ones.
//
// How to count was measured (ns a search, random keys over 64 pages, each search waiting for the one before; AMD EPYC of
// 2022, Go 1.26):
//
//	heads                                  10    20    40   150   250   1000
//	binary, branching                      22    26    33    41    46     60
//	binary, branch-free                    22    29    35    47    51     71
//	binary, branch-free, unsafe            20    23    27    39    43     60
//	binary to 16, then linear              13    15    21    36    42     55
//	linear, branch-free, 4 at a time        9    16    27    90   113    428
//	every 8th, then 8, branch-free         11    12    14    20    29     73
//
// and in a branch, where heads lie eight bytes apart, with pages from the first cache, the second, and from beyond it:
//
//	heads                                        150             250
//	binary, branch-free                    43   60  253    49   73  112
//	binary to 8, then linear               35   50  234    45   61  117
//	every 8th, then 8, branch-free         21   26   52    34   45   72
//
// The last one is used: its loads do not wait for each other, and the compiler drops every bounds check in its loops,
// so that unsafe code would gain nothing. Beyond 256 heads (pages of 16 KiB and more) halving comes first; whether it
// comes at 128, 192 or 256 made no difference.

// headOf returns the head of a key whose bytes behind the prefix are k.
func headOf(k []byte) uint32 {
	if len(k) >= 4 {
		return binary.BigEndian.Uint32(k)
	}
	var h uint32
	for i, c := range k {
		h |= uint32(c) << (24 - 8*uint(i))
	}
	return h
}

// less is 1 where a < b, otherwise 0, without a branch.
func less(a, b uint32) int { return int((uint64(a) - uint64(b)) >> 63) }

// countBelow returns how many of the ascending heads in h, four bytes each, are below key.
func countBelow(h []byte, key uint32) int {
	skipped := 0
	for len(h) > 4*256 {
		half := len(h) / 8 * 4
		step := half & -less(le.Uint32(h[half-4:]), key)
		h = h[step : step+len(h)-half]
		skipped += step
	}
	n, every := 0, h
	for len(every) >= 128 {
		n += less(le.Uint32(every[28:]), key) + less(le.Uint32(every[60:]), key) +
			less(le.Uint32(every[92:]), key) + less(le.Uint32(every[124:]), key)
		every = every[128:]
	}
	for len(every) >= 32 {
		n += less(le.Uint32(every[28:]), key)
		every = every[32:]
	}
	h = h[32*n:]
	n = 8*n + skipped/4
	if len(h) >= 32 { // the eighth is known not to be below
		return n + less(le.Uint32(h), key) + less(le.Uint32(h[4:]), key) + less(le.Uint32(h[8:]), key) +
			less(le.Uint32(h[12:]), key) + less(le.Uint32(h[16:]), key) + less(le.Uint32(h[20:]), key) +
			less(le.Uint32(h[24:]), key)
	}
	for len(h) >= 4 {
		n += less(le.Uint32(h), key)
		h = h[4:]
	}
	return n
}

// countBelowWide is countBelow for heads that lie eight bytes apart, as in the slots of a branch.
func countBelowWide(h []byte, key uint32) int {
	skipped := 0
	for len(h) > 8*256 {
		half := len(h) / 16 * 8
		step := half & -less(le.Uint32(h[half-8:]), key)
		h = h[step : step+len(h)-half]
		skipped += step
	}
	n, every := 0, h
	for len(every) >= 256 {
		n += less(le.Uint32(every[56:]), key) + less(le.Uint32(every[120:]), key) +
			less(le.Uint32(every[184:]), key) + less(le.Uint32(every[248:]), key)
		every = every[256:]
	}
	for len(every) >= 64 {
		n += less(le.Uint32(every[56:]), key)
		every = every[64:]
	}
	h = h[64*n:]
	n = 8*n + skipped/8
	if len(h) >= 64 { // the eighth is known not to be below
		return n + less(le.Uint32(h), key) + less(le.Uint32(h[8:]), key) + less(le.Uint32(h[16:]), key) +
			less(le.Uint32(h[24:]), key) + less(le.Uint32(h[32:]), key) + less(le.Uint32(h[40:]), key) +
			less(le.Uint32(h[48:]), key)
	}
	for len(h) >= 8 {
		n += less(le.Uint32(h), key)
		h = h[8:]
	}
	return n
}

// CommonLen returns how many bytes a and b begin with in common.
func CommonLen(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if le.Uint64(a[i:]) != le.Uint64(b[i:]) {
			break
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// Shortest returns the shortest prefix of right that is above left. left is below right; the result shares right's bytes.
func Shortest(left, right []byte) []byte {
	return right[:CommonLen(left, right)+1]
}
