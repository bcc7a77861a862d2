package page

// setSlot and setHead write entry i of a leaf whose count is already right.
func (l Leaf) setSlot(i int, s slot) {
	at := l.slotAt(i)
	le.PutUint32(l[at:], uint32(s))
	le.PutUint16(l[at+4:], uint16(s>>32))
}

func (l Leaf) setHead(i int, h uint32) { le.PutUint32(l[HeaderSize+4*i:], h) }

// open makes room for k entries before entry i in the arrays. The gap has the bytes for it.
func (l Leaf) open(i, k int) {
	n := CountOf(l)
	heads, slots := HeaderSize, HeaderSize+4*n
	copy(l[slots+slotSize*i+leafSize*k:], l[slots+slotSize*i:slots+slotSize*n])
	copy(l[slots+4*k:], l[slots:slots+slotSize*i])
	copy(l[heads+4*(i+k):], l[heads+4*i:slots])
	setCount(l, n+k)
}

// shut takes the entries from i up to i+k out of the arrays.
func (l Leaf) shut(i, k int) {
	n := CountOf(l)
	heads, slots := HeaderSize, HeaderSize+4*n
	copy(l[heads+4*i:], l[heads+4*(i+k):slots])
	copy(l[slots-4*k:], l[slots:slots+slotSize*i])
	copy(l[slots-4*k+slotSize*i:], l[slots+slotSize*(i+k):slots+slotSize*n])
	setCount(l, n-k)
}

// shorten makes the prefix pre bytes long if it is longer.
func (l Leaf) shorten(pre int) {
	if pre < prefixOf(l) {
		l.setPrefix(pre)
	}
}

// setPrefix makes the prefix pre bytes long, which all keys have in common, and brings the heads in line.
func (l Leaf) setPrefix(pre int) {
	setPrefix(l, pre)
	for i, n := 0, CountOf(l); i < n; i++ {
		l.setHead(i, headOf(l.Key(i)[pre:]))
	}
}

// bestPrefix returns the length of the prefix that the entries from from up to to have in common. Keys ascend, so what
// the first and the last have in common all have.
func (l Leaf) bestPrefix(from, to int) int {
	pre := CommonLen(l.Key(from), l.Key(to-1))
	if l.hasFlag(FlagLong) {
		pre = min(pre, longPrefix)
	}
	return pre
}

// flagsFor returns the flags that the entries from from up to to ask for.
func (l Leaf) flagsFor(from, to int) uint8 {
	var flags uint8
	if !l.hasFlag(FlagRefs) {
		return 0
	}
	for i := from; i < to; i++ {
		flags |= l.slot(i).flags(l)
	}
	return flags
}

func (s slot) flags(l Leaf) uint8 { return entryFlags(s.form(l), s.bucket()) }

func entryFlags(f Form, bucket bool) uint8 {
	switch {
	case f == LongKey:
		return FlagLong | FlagRefs
	case f == RunValue || bucket:
		return FlagRefs
	}
	return 0
}

// Insert puts e before entry i. It writes only to the gap and to the arrays, never to bytes that Key or Value have
// handed out. It returns false, and changes nothing, if the gap is too small.
func (l Leaf) Insert(i int, e Entry) bool {
	n := CountOf(l)
	form := FormOf(len(l), e.KeyLen, e.ValLen)
	if leafSize+heapSize(form, e.KeyLen, e.ValLen) > l.Free() {
		return false
	}
	if form == LongKey {
		e.Key = e.Key[:StubSize]
	}
	switch {
	case n == 0:
		setPrefix(l, len(e.Key))
	case i == 0 || i == n: // anywhere else the neighbours vouch for the prefix
		l.shorten(CommonLen(l.Key(0)[:prefixOf(l)], e.Key))
	}
	if form == LongKey {
		l.shorten(longPrefix)
	}
	off := l.put(form, &e)
	l[offFlags] |= entryFlags(form, e.Bucket)
	l.open(i, 1)
	l.setHead(i, headOf(e.Key[prefixOf(l):]))
	l.setSlot(i, makeSlot(off, form, &e))
	noteInsert(l, i, n)
	return true
}

// put writes an entry, its key cut to the stub if it is long, to the heap and returns its offset.
func (l Leaf) put(form Form, e *Entry) int {
	size := heapSize(form, e.KeyLen, e.ValLen)
	off := l.heapStart() - size
	at := off + copy(l[off:], e.Key)
	if form == Inline {
		copy(l[at:], e.Value)
	} else {
		e.Ref.Encode(l[at:])
		le.PutUint32(l[at+RefSize:], uint32(e.ValLen))
	}
	setHeap(l, heapOf(l)+size)
	return off
}

// Replace makes e the entry i; the key is the same. It needs room in the gap for all of e but the slot, and returns
// false, having changed nothing, if there is none. The old bytes stay as they are, as garbage.
func (l Leaf) Replace(i int, e Entry) bool {
	form := FormOf(len(l), e.KeyLen, e.ValLen)
	if heapSize(form, e.KeyLen, e.ValLen) > l.Free() {
		return false
	}
	if form == LongKey {
		e.Key = e.Key[:StubSize]
	}
	old := l.slot(i)
	oldFlags := old.flags(l)
	setGarbage(l, garbageOf(l)+old.heapSize(l))
	off := l.put(form, &e)
	l.setSlot(i, makeSlot(off, form, &e))
	if flags := entryFlags(form, e.Bucket); oldFlags&^flags != 0 {
		l[offFlags] = l.flagsFor(0, CountOf(l))
	} else {
		l[offFlags] |= flags
	}
	return true
}

// SetRef makes r the run of entry i, which is not Inline. Unlike other changes it writes over bytes of the entry, but
// none that are ever handed out. Entries of a leaf that somebody else has written may overlap, so that it may change another one's
// reference or length too: such a leaf is to be copied by CompactInto first.
func (l Leaf) SetRef(i int, r Ref) {
	s := l.slot(i)
	r.Encode(l[s.off()+s.keyIn(l):])
}

// Remove takes entry i out. Its bytes stay as they are, as garbage.
func (l Leaf) Remove(i int) {
	l.take(i, i+1)
	l[offTrend] = 0
}

// ForgetTrend forgets where the last inserts went: see Trend.
func (l Leaf) ForgetTrend() { l[offTrend] = 0 }

// RemoveRange takes the entries from from up to to out. Where that leaves a longer common prefix, it is made use of.
func (l Leaf) RemoveRange(from, to int) {
	if from == to {
		return
	}
	l.take(from, to)
	l[offTrend] = 0
	if n := CountOf(l); n > 0 {
		if pre := l.bestPrefix(0, n); pre > prefixOf(l) {
			l.setPrefix(pre)
		}
	}
}

func (l Leaf) take(from, to int) {
	var flags uint8
	garbage := garbageOf(l)
	for i := from; i < to; i++ {
		s := l.slot(i)
		flags |= s.flags(l)
		garbage += s.heapSize(l)
	}
	l.shut(from, to-from)
	setGarbage(l, garbage)
	if flags != 0 {
		l[offFlags] = l.flagsFor(0, CountOf(l))
	}
	if CountOf(l) == 0 {
		setPrefix(l, 0)
	}
}

// CompactInto makes dst, another buffer of the same size, a leaf of the same entries without garbage. Id, born and
// trend are taken over.
func (l Leaf) CompactInto(dst []byte) {
	d := InitLeaf(dst, IDOf(l), BornOf(l))
	if !l.CopyRange(d, 0, 0, CountOf(l)) {
		panic("page: leaf does not fit a page of its size")
	}
	d[offTrend] = l[offTrend]
}

// Ordered reports whether the entries lie in memory in the order of their keys.
func (l Leaf) Ordered() bool {
	for i := 1; i < CountOf(l); i++ {
		if l.slot(i).off() < l.slot(i-1).off() {
			return false
		}
	}
	return true
}

// CopyRange puts copies of the entries from from up to to into dst, another leaf, before its entry at. It returns false,
// and changes nothing, if the gap of dst is too small. l may be an inline image.
func (l Leaf) CopyRange(dst Leaf, at, from, to int) bool {
	if from == to {
		return true
	}
	size := l.SizeOf(from, to)
	if size > dst.Free() {
		return false
	}
	n, k := CountOf(dst), to-from
	pre := l.bestPrefix(from, to)
	if n > 0 {
		pre = min(prefixOf(dst), CommonLen(dst.Key(0)[:prefixOf(dst)], l.Key(from)[:pre]))
	}
	flags := l.flagsFor(from, to)
	if flags&FlagLong != 0 {
		pre = min(pre, longPrefix)
	}
	if n == 0 {
		setPrefix(dst, pre)
	} else {
		dst.shorten(pre)
	}
	dst[offFlags] |= flags
	dst.open(at, k)
	// Entries go to ascending addresses, which is the order in which a scan wants them.
	off := dst.heapStart() - (size - leafSize*k)
	setHeap(dst, len(dst)-off)
	same := pre == prefixOf(l)
	for i := 0; i < k; i++ {
		s := l.slot(from + i)
		h := l.head(from + i)
		if !same {
			h = headOf(l.Key(from + i)[pre:])
		}
		dst.setHead(at+i, h)
		dst.setSlot(at+i, s&^0xffff|slot(off))
		off += copy(dst[off:], l[s.off():s.off()+s.heapSize(l)])
	}
	return true
}

// Move moves the entries from from up to to behind the last one of dst. It returns false, and changes nothing, if they
// do not fit the gap of dst.
func (l Leaf) Move(dst Leaf, from, to int) bool {
	if !l.CopyRange(dst, CountOf(dst), from, to) {
		return false
	}
	l.RemoveRange(from, to)
	return true
}

// MoveFront moves the entries from from up to to before the first one of dst, otherwise as Move.
func (l Leaf) MoveFront(dst Leaf, from, to int) bool {
	if !l.CopyRange(dst, 0, from, to) {
		return false
	}
	l.RemoveRange(from, to)
	return true
}

// SplitPoint tells where to split a leaf into which e is to be inserted before entry i. The entries, e among them, are
// numbered 0 to Count; those below the result belong left. Both halves fit a page, and have an entry at least. Of the
// points within an eighth of the middle, by bytes, the one with the shortest separator is chosen, of such the nearest.
func (l Leaf) SplitPoint(i int, e Entry) int {
	n := CountOf(l)
	size := EntrySize(len(l), e.KeyLen, e.ValLen)
	key := e.Key[:min(len(e.Key), e.KeyLen)]
	at := func(j int) ([]byte, int) {
		switch {
		case j == i:
			return key, size
		case j > i:
			j--
		}
		return l.Key(j), leafSize + l.slot(j).heapSize(l)
	}
	total := l.Live() + size
	best, bestFar, bestSep := 0, 0, 0
	prev, left := at(0)
	for j := 1; j <= n; j++ {
		next, s := at(j)
		far := max(2*left-total, total-2*left) // twice the way from the middle
		sep := 0                               // any point near the middle beats one that is not, and the nearest of those wins
		if far <= total/4 {
			sep = CommonLen(prev, next) + 1 - MaxKeyLen
		}
		if best == 0 || sep < bestSep || sep == bestSep && far < bestFar {
			best, bestFar, bestSep = j, far, sep
		}
		prev, left = next, left+s
	}
	return best
}
