package page

import "bytes"

// Branch is a page of child pages and the separators between them: all keys in child i are at or above separator i and
// below separator i+1. Entry 0 has no separator (head 0, offset 0).
//
//	32  slots[count]   8 bytes each:
//	        0 u32 head of the separator (see heads.go)
//	        4 u32 page number of the child
//	    u16 offs[count]     where the separator's suffix is, see below
//	    u48 counts[count]   bits 0 to 46: items below the child; bit 47: the child has FlagRefs
//	    gap
//	    heap                to the page's end, filled downwards
//
// The heap's last bytes are the prefix that all separators have in common; the suffix is what follows it. An offset of
// 0 to 4 is not one, but the suffix's length: it lies wholly in the head. Any other is the place of
//
//	0 u16 length of the suffix, 5 or more
//	2     the suffix from its fifth byte on
//
// or, of a long separator (longer than MaxKey), which lies in a run, of
//
//	 0 u16 0xffff
//	 2 u16 length of the whole separator
//	 4     Ref of the run
//	24     the first StubSize bytes of the whole separator
//
// For example, the separators "kb" and "kcdefg" between the children 4, 5 and 6 in a page of 4096 bytes:
//
//	  32  00 00 00 00 04 00 00 00  00 00 00 62 05 00 00 00  66 65 64 63 06 00 00 00
//	  56  00 00  01 00  fc 0f            none; the suffix b; the suffix at 4092
//	  62  09 00 00 00 00 00 ...          9 items under the first child
//	4092  05 00  67                      cdefg has 5 bytes, the last is g
//	4095  6b                             the prefix k
type Branch []byte

const (
	childSize  = 8                 // of head and child
	branchSize = childSize + 2 + 6 // of all that an entry has in the arrays

	longSepMark = 0xffff
	longSepSize = 4 + RefSize + StubSize

	refsBit  = 1 << 47
	maxItems = refsBit - 1
)

// InitBranch makes p an empty branch. Only the header is written.
func InitBranch(p []byte, id ID, born TxID, level int) Branch {
	initNode(p, id, born, KindBranch, level)
	return Branch(p)
}

func (b Branch) offAt(i int) int      { return HeaderSize + childSize*CountOf(b) + 2*i }
func (b Branch) countAt(i int) int    { return HeaderSize + (childSize+2)*CountOf(b) + 6*i }
func (b Branch) off(i int) int        { return int(le.Uint16(b[b.offAt(i):])) }
func (b Branch) head(i int) uint32    { return le.Uint32(b[HeaderSize+childSize*i:]) }
func (b Branch) heapStart() int       { return len(b) - heapOf(b) }
func (b Branch) prefix() []byte       { return b[len(b)-prefixOf(b):] }
func (b Branch) hasFlag(f uint8) bool { return b[offFlags]&f != 0 }
func (b Branch) packed(i int) uint64  { return le.Uint64(b[b.countAt(i)-2:]) >> 16 }
func packItems(n uint64, refs bool) uint64 {
	if refs {
		return n | refsBit
	}
	return n
}

// SeparatorAt, CountAt, ChildAt and SepRefAt return where in the page the offset of separator i, the count of items below
// child i, its page number, and the reference of separator i, a long one, lie, for reports of damage.
func (b Branch) SeparatorAt(i int) int { return b.offAt(i) }

// ChildAt: see SeparatorAt.
func (b Branch) ChildAt(i int) int { return HeaderSize + childSize*i + 4 }

// SepRefAt: see SeparatorAt.
func (b Branch) SepRefAt(i int) int { return b.off(i) + 4 }

// CountAt: see SeparatorAt.
func (b Branch) CountAt(i int) int { return b.countAt(i) }

// Count returns the number of children.
func (b Branch) Count() int { return CountOf(b) }

// Child returns the page number of child i.
func (b Branch) Child(i int) ID { return ID(le.Uint32(b[b.ChildAt(i):])) }

// SetChild changes the page number of child i.
func (b Branch) SetChild(i int, id ID) { le.PutUint32(b[HeaderSize+childSize*i+4:], uint32(id)) }

// Items returns the number of items below child i.
func (b Branch) Items(i int) uint64 { return b.packed(i) & maxItems }

// SetItems changes the number of items below child i, which is under 1<<47.
func (b Branch) SetItems(i int, n uint64) { b.setPacked(i, b.packed(i)&refsBit|n) }

// Refs reports whether child i has FlagRefs.
func (b Branch) Refs(i int) bool { return b.packed(i)&refsBit != 0 }

// SetRefs notes whether child i has FlagRefs, and keeps the branch's own flag right.
func (b Branch) SetRefs(i int, refs bool) {
	if b.Refs(i) == refs {
		return
	}
	b.setPacked(i, packItems(b.Items(i), refs))
	if refs {
		b[offFlags] |= FlagRefs
	} else {
		b.renewFlags()
	}
}

func (b Branch) setPacked(i int, v uint64) {
	at := b.countAt(i)
	le.PutUint32(b[at:], uint32(v))
	le.PutUint16(b[at+4:], uint16(v>>32))
}

// renewFlags works out the flags anew, after something that asked for one of them has gone.
func (b Branch) renewFlags() {
	var flags uint8
	for i, n := 0, CountOf(b); i < n; i++ {
		if b.Refs(i) {
			flags |= FlagRefs
		}
		if b.IsLong(i) {
			flags |= FlagLong
		}
	}
	b[offFlags] = flags
}

// Total returns the number of items below the branch.
func (b Branch) Total() uint64 { return b.ItemsBefore(CountOf(b)) }

// ItemsBefore returns the number of items below the children before i.
func (b Branch) ItemsBefore(i int) uint64 {
	at := b.countAt(0) - 2
	var n uint64
	for counts := b[at : at+6*i+2]; len(counts) >= 8; counts = counts[6:] {
		n += le.Uint64(counts) >> 16 & maxItems
	}
	return n
}

// Locate returns the child under which item n of the branch lies, and its number there. n is below Total; from there
// on the last child is given.
func (b Branch) Locate(n uint64) (i int, rest uint64) {
	for last := CountOf(b) - 1; i < last; i++ {
		items := b.Items(i)
		if n < items {
			break
		}
		n -= items
	}
	return i, n
}

// Search returns the index of the child in which key belongs. For pages without FlagLong.
func (b Branch) Search(key []byte) int {
	n := CountOf(b)
	if n < 2 {
		return 0
	}
	if pre := prefixOf(b); pre > 0 {
		p := b[len(b)-pre:]
		if len(key) < pre || string(key[:pre]) != string(p) {
			if bytes.Compare(key, p) < 0 {
				return 0
			}
			return n - 1
		}
		key = key[pre:]
	}
	h := headOf(key)
	i := countBelowWide(b[HeaderSize+childSize:HeaderSize+childSize*n], h)
	if i+1 == n || b.head(i+1) != h {
		return i
	}
	return b.searchEqual(i, key, h)
}

// searchEqual ends a search: the separators up to i are below the key, whose suffix is key, those behind i begin with
// one or more of the same head h.
func (b Branch) searchEqual(i int, key []byte, h uint32) int {
	last := CountOf(b) - 1
	if h < 1<<32-1 {
		last = countBelowWide(b[HeaderSize+childSize:HeaderSize+childSize*(last+1)], h+1)
	}
	for i < last { // separator i is not above key, or i is 0; separator last+1 is
		m := int(uint(i+last+1) >> 1)
		if b.atMost(m, key) {
			i = m
		} else {
			last = m - 1
		}
	}
	return i
}

// atMost reports whether separator i, whose head is that of key, is not above key. Both are without the prefix.
func (b Branch) atMost(i int, key []byte) bool {
	off := b.off(i)
	if off <= 4 {
		return off <= len(key)
	}
	n := int(le.Uint16(b[off:]))
	return len(key) > 4 && bytes.Compare(b[off+2:off+2+n-4], key[4:]) <= 0
}

// SearchLong is Search for pages with or without FlagLong. Where a stub does not decide, long is asked how the whole
// separator i compares to key (negative: it is below); an error of long ends the search and is returned.
func (b Branch) SearchLong(key []byte, long func(i int) (int, error)) (int, error) {
	if !b.hasFlag(FlagLong) {
		return b.Search(key), nil
	}
	i, last := 0, CountOf(b)-1
	for i < last {
		m := int(uint(i+last+1) >> 1)
		c, known := b.compareSep(m, key)
		if !known {
			var err error
			if c, err = long(m); err != nil {
				return 0, err
			}
		}
		if c <= 0 {
			i = m
		} else {
			last = m - 1
		}
	}
	return i, nil
}

// compareSep compares separator i to key as far as the page can tell.
func (b Branch) compareSep(i int, key []byte) (c int, known bool) {
	if b.IsLong(i) {
		return compareKnown(b.stub(i), true, key)
	}
	pre := b.prefix()
	if len(key) < len(pre) || string(key[:len(pre)]) != string(pre) {
		return bytes.Compare(pre, key), true
	}
	key = key[len(pre):]
	switch h, s := headOf(key), b.head(i); {
	case s < h:
		return -1, true
	case s > h || !b.atMost(i, key):
		return 1, true
	}
	return 0, true // or below, which is the same to a search
}

// IsLong reports whether separator i is a long one.
func (b Branch) IsLong(i int) bool {
	if !b.hasFlag(FlagLong) {
		return false
	}
	off := b.off(i)
	return off > 4 && le.Uint16(b[off:]) == longSepMark
}

// SepLen returns the length of separator i. i > 0.
func (b Branch) SepLen(i int) int {
	off := b.off(i)
	if off <= 4 {
		return prefixOf(b) + off
	}
	if b.IsLong(i) {
		return int(le.Uint16(b[off+2:]))
	}
	return prefixOf(b) + int(le.Uint16(b[off:]))
}

// SepRef returns the run of separator i, a long one.
func (b Branch) SepRef(i int) Ref { return DecodeRef(b[b.off(i)+4:]) }

// stub returns the first bytes of separator i, a long one.
func (b Branch) stub(i int) []byte {
	at := b.off(i) + 4 + RefSize
	return b[at : at+StubSize]
}

// Separator appends separator i to buf, of a long one its first StubSize bytes, and returns the result. i > 0.
func (b Branch) Separator(i int, buf []byte) []byte {
	if b.IsLong(i) {
		return append(buf, b.stub(i)...)
	}
	buf = append(buf, b.prefix()...)
	h, off := b.head(i), b.off(i)
	head := [4]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
	if off <= 4 {
		return append(buf, head[:off]...)
	}
	n := int(le.Uint16(b[off:]))
	buf = append(buf, head[:]...)
	return append(buf, b[off+2:off+2+n-4]...)
}

// Sep returns separator i as Insert takes it. Its Key is appended to buf and does not share the page's bytes. i > 0.
func (b Branch) Sep(i int, buf []byte) Sep {
	s := Sep{Key: b.Separator(i, buf)[len(buf):], Len: b.SepLen(i)}
	if b.IsLong(i) {
		s.Ref = b.SepRef(i)
	}
	return s
}

// Live returns the bytes that the entries take as they are stored, the prefix included, garbage and header excluded.
func (b Branch) Live() int { return branchSize*CountOf(b) + heapOf(b) - garbageOf(b) }

// Free returns the bytes of the gap between the arrays and the heap.
func (b Branch) Free() int { return b.heapStart() - HeaderSize - branchSize*CountOf(b) }
