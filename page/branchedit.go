package page

// Sep is a separator to be stored.
type Sep struct {
	Key []byte // the whole separator; of a long one (Len > MaxKey) at least its first StubSize bytes
	Len int    // length of the whole separator
	Ref Ref    // of a long one: the run that holds it
}

func (s *Sep) long(pageSize int) bool { return s.Len > MaxKey(pageSize) }

// sepHeap returns the bytes that a separator of n bytes takes in the heap beside a prefix of pre bytes.
func sepHeap(n int, long bool, pre int) int {
	switch {
	case long:
		return longSepSize
	case n-pre <= 4:
		return 0
	}
	return 2 + n - pre - 4
}

// sepHeap returns the bytes that separator i takes in the heap.
func (b Branch) sepHeap(i int) int {
	return sepHeap(b.SepLen(i), b.IsLong(i), prefixOf(b))
}

func (b Branch) setSlot(i int, head uint32, child ID) {
	at := HeaderSize + childSize*i
	le.PutUint32(b[at:], head)
	le.PutUint32(b[at+4:], uint32(child))
}

func (b Branch) setOff(i, off int) { le.PutUint16(b[b.offAt(i):], uint16(off)) }

// setSep makes the separator described by head and off that of entry i.
func (b Branch) setSep(i int, head uint32, off int) {
	b.setSlot(i, head, b.Child(i))
	b.setOff(i, off)
}

// grow takes n bytes of the gap for the heap and returns their offset.
func (b Branch) grow(n int) int {
	setHeap(b, heapOf(b)+n)
	return b.heapStart()
}

// put writes what of a separator belongs into the heap, and returns its head and offset. The separator has the
// branch's prefix, and the gap has the room.
func (b Branch) put(s *Sep) (head uint32, off int) {
	pre := prefixOf(b)
	if s.long(len(b)) {
		off = b.grow(longSepSize)
		le.PutUint16(b[off:], longSepMark)
		le.PutUint16(b[off+2:], uint16(s.Len))
		s.Ref.Encode(b[off+4:])
		copy(b[off+4+RefSize:off+longSepSize], s.Key)
		b[offFlags] |= FlagLong
		return headOf(s.Key[pre:]), off
	}
	return b.putSuffix(headOf(s.Key[pre:s.Len]), s.Len-pre, s.Key[min(pre+4, s.Len):s.Len])
}

// putSuffix is put for a suffix of n bytes in two parts: the head and the rest.
func (b Branch) putSuffix(h uint32, n int, rest []byte) (head uint32, off int) {
	if n <= 4 {
		return h, n
	}
	off = b.grow(2 + len(rest))
	le.PutUint16(b[off:], uint16(n))
	copy(b[off+2:], rest)
	return h, off
}

// open makes room for one entry before entry i in the arrays. The gap has the bytes for it.
func (b Branch) open(i int) {
	n := CountOf(b)
	slots, offs, counts := HeaderSize, b.offAt(0), b.countAt(0)
	copy(b[counts+6*i+branchSize:], b[counts+6*i:counts+6*n])
	copy(b[counts+childSize+2:], b[counts:counts+6*i])
	copy(b[offs+2*i+childSize+2:], b[offs+2*i:counts])
	copy(b[offs+childSize:], b[offs:offs+2*i])
	copy(b[slots+childSize*(i+1):], b[slots+childSize*i:offs])
	setCount(b, n+1)
}

// shut takes entry i out of the arrays.
func (b Branch) shut(i int) {
	n := CountOf(b)
	slots, offs, counts := HeaderSize, b.offAt(0), b.countAt(0)
	copy(b[slots+childSize*i:], b[slots+childSize*(i+1):offs])
	copy(b[offs-childSize:], b[offs:offs+2*i])
	copy(b[offs-childSize+2*i:], b[offs+2*(i+1):counts])
	copy(b[counts-childSize-2:], b[counts:counts+6*i])
	copy(b[counts-childSize-2+6*i:], b[counts+6*(i+1):counts+6*n])
	setCount(b, n-1)
}

// suits reports whether a separator has the branch's prefix, so that it can be added to what is there.
func (b Branch) suits(s *Sep) bool {
	pre := prefixOf(b)
	if s.long(len(b)) && pre > longPrefix || len(s.Key) < pre {
		return false
	}
	return string(s.Key[:pre]) == string(b.prefix())
}

// Insert puts a child before entry i, with the separator at its left. The first child of an empty branch goes to 0 and
// its separator is ignored; after that i > 0. A branch hands out no bytes, so garbage is collected in place when the
// gap is too small. It returns false, and changes nothing, if the entry does not fit even then.
func (b Branch) Insert(i int, sep Sep, child ID, items uint64, refs bool) bool {
	n := CountOf(b)
	packed := packItems(items, refs)
	fast := n > 1 && b.suits(&sep) && branchSize+sepHeap(sep.Len, sep.long(len(b)), prefixOf(b)) <= b.Free()
	if fast {
		head, off := b.put(&sep)
		b.open(i)
		b.setSlot(i, head, child)
		b.setOff(i, off)
		b.setPacked(i, packed)
		if refs {
			b[offFlags] |= FlagRefs
		}
	} else {
		p := plan{{src: b, to: i}, {one: true, sep: &sep, child: child, packed: packed}, {src: b, from: i, to: n}}
		if !p.rebuild(b) {
			return false
		}
	}
	noteInsert(b, i-1, n-1) // entry 0 stays where it is: the front is behind it
	return true
}

// ReplaceSep makes sep the separator i. i > 0. It returns false, and changes nothing, if it does not fit.
func (b Branch) ReplaceSep(i int, sep Sep) bool {
	n := CountOf(b)
	if !b.suits(&sep) || sepHeap(sep.Len, sep.long(len(b)), prefixOf(b)) > b.Free() {
		p := plan{{src: b, to: i}, {src: b, from: i, to: n, sep: &sep}}
		return p.rebuild(b)
	}
	setGarbage(b, garbageOf(b)+b.sepHeap(i))
	wasLong := b.IsLong(i)
	head, off := b.put(&sep)
	b.setSep(i, head, off)
	if wasLong {
		b.renewFlags()
	}
	return true
}

// Remove takes child i out, with the separator at its left; of entry 0 with the one at its right.
func (b Branch) Remove(i int) {
	n := CountOf(b)
	stale := b.Refs(i)
	if sep := max(i, 1); sep < n {
		stale = stale || b.IsLong(sep)
		setGarbage(b, garbageOf(b)+b.sepHeap(sep))
	}
	b.shut(i)
	if i == 0 && n > 1 {
		b.setSep(0, 0, 0)
	}
	if n <= 2 {
		setGarbage(b, garbageOf(b)+prefixOf(b))
		setPrefix(b, 0)
	}
	if stale {
		b.renewFlags()
	}
	b[offTrend] = 0
}

// RemoveRange takes the children from from up to to out; from 0, separator to goes too.
func (b Branch) RemoveRange(from, to int) {
	if from == to {
		return
	}
	p := plan{{src: b, to: from}, {src: b, from: to, to: CountOf(b)}}
	if !p.rebuild(b) {
		panic("page: branch does not fit a page of its size")
	}
	b[offTrend] = 0
}

// SizeOf returns the bytes, slots included, that the children from from up to to would take in a page of their own, where
// the first has no separator and the prefix is as long as can be.
func (b Branch) SizeOf(from, to int) int {
	p := plan{{src: b, from: from, to: to}}
	_, size := p.measure(len(b))
	return size
}

// MergeSize returns the bytes that the children of left and right take in one page, with sep between them.
func MergeSize(left, right Branch, sep Sep) int {
	p := plan{{src: left, to: CountOf(left)}, {src: right, to: CountOf(right), sep: &sep}}
	_, size := p.measure(len(left))
	return size
}

// CompactInto makes dst, another buffer of the same size, a branch of the same entries without garbage and with the best
// prefix. Id, born, level and trend are taken over.
func (b Branch) CompactInto(dst []byte) {
	d := InitBranch(dst, IDOf(b), BornOf(b), LevelOf(b))
	p := plan{{src: b, to: CountOf(b)}}
	if !p.rebuild(d) {
		panic("page: branch does not fit a page of its size")
	}
	d[offTrend] = b[offTrend]
}

// Move moves the children from from up to to behind the last one of dst, another branch of the same level. sep is
// the separator between that one and child from: where from > 0 it is the branch's own, and is not looked at; nor is it
// if dst is empty. It returns false, and changes nothing, if they do not fit. The separator that now divides the two
// pages is what separator to of b was (or from, if to is Count): ask for it before.
func (b Branch) Move(dst Branch, from, to int, sep Sep) bool {
	moved := seg{src: b, from: from, to: to}
	if from == 0 {
		moved.sep = &sep
	}
	p := plan{{src: dst, to: CountOf(dst)}, moved}
	if !p.rebuild(dst) {
		return false
	}
	b.RemoveRange(from, to)
	return true
}

// MoveFront moves the children from from up to to before the first one of dst. sep is the separator between the last of
// them and that one. Otherwise as Move.
func (b Branch) MoveFront(dst Branch, from, to int, sep Sep) bool {
	p := plan{{src: b, from: from, to: to}, {src: dst, to: CountOf(dst), sep: &sep}}
	if !p.rebuild(dst) {
		return false
	}
	b.RemoveRange(from, to)
	return true
}

// Split divides the children of b, and a further one that Insert would have put before entry i, between b and right, an
// empty branch of the same level. i > 0, and b has three children at least. Both halves get two or more. It returns
// the separator between them, its Key appended to buf.
//
// The middle by bytes is taken; at the end of a rising load (Trend) right gets as little as can be, at the front of a
// falling one the left.
func (b Branch) Split(right Branch, i int, sep Sep, child ID, items uint64, refs bool, buf []byte) Sep {
	n := CountOf(b)
	one := seg{one: true, sep: &sep, child: child, packed: packItems(items, refs)}
	part := func(from, to int) plan { // of the children as they are numbered with the new one
		p := plan{{src: b, from: min(from, i), to: min(to, i)}, {}, {src: b, from: max(from-1, i), to: max(to-1, i)}}
		if from <= i && i < to {
			p[1] = one
		}
		return p
	}
	fits := func(k int) bool {
		l, r := part(0, k), part(k, n+1)
		_, left := l.measure(len(b))
		_, right := r.measure(len(b))
		return max(left, right) <= Capacity(len(b))
	}
	k := b.splitPoint(i, branchSize+sepHeap(sep.Len, sep.long(len(b)), min(prefixOf(b), sep.Len)))
	if !fits(k) {
		// The new separator has not the prefix, or is a long one, which bounds it: so it makes the separators beside it
		// longer, and no half may have room for it and half of them. At its own place there is, where it goes up
		// or is the only one in its half: some point between is the nearest to the middle.
		bad, good := k, min(max(i, 2), n-1)
		for bad-good > 1 || good-bad > 1 {
			if m := (bad + good) / 2; fits(m) {
				good = m
			} else {
				bad = m
			}
		}
		k = good
	}
	l, r := part(0, k), part(k, n+1)
	up := r.sep(0, buf)
	if !r.rebuild(right) || !l.rebuild(b) {
		panic("page: branch cannot be split")
	}
	b[offTrend] = 0
	return up
}

// splitPoint returns the number of children to stay left, the new one of size bytes at i among them.
func (b Branch) splitPoint(i, size int) int {
	n := CountOf(b)
	switch {
	case i == n && Trend(b) >= loading:
		return n - 1
	case i == 1 && Trend(b) <= -loading:
		return 2
	}
	left, middle := 0, (b.Live()+size)/2
	k := 0
	for ; k < n && left < middle; k++ {
		switch {
		case k == i:
			left += size
		case k > i:
			left += branchSize + b.sepHeap(k-1)
		case k > 0:
			left += branchSize + b.sepHeap(k)
		default:
			left += branchSize
		}
	}
	return min(max(k, 2), n-1)
}
