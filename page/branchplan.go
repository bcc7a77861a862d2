package page

import "sync"

// A plan is the content of a branch that is to be written, as pieces of other branches. Everything that is more than
// an entry added to or taken from a branch goes by it: garbage collected, prefix changed, pages divided or joined.
type plan [3]seg

// A seg is a piece of a plan: the entries of src from from up to to, or one new entry.
type seg struct {
	src      Branch
	from, to int
	sep      *Sep // separator of the first entry; nil: src's own

	one    bool // a new entry, with sep
	child  ID
	packed uint64
}

func (g *seg) count() int {
	if g.one {
		return 1
	}
	return g.to - g.from
}

// own reports whether the separator of entry k of the piece is the one that src has.
func (g *seg) own(k int) bool { return k > 0 || g.sep == nil }

// size returns the length of the separator of entry k of the piece, and whether it is a long one.
func (g *seg) size(k, pageSize int) (n int, long bool) {
	if !g.own(k) {
		return g.sep.Len, g.sep.long(pageSize)
	}
	return g.src.SepLen(g.from + k), g.src.IsLong(g.from + k)
}

func (p *plan) count() int { return p[0].count() + p[1].count() + p[2].count() }

// sep returns the separator of entry k, its Key appended to buf; of entry 0 the one that writing the plan drops.
func (p *plan) sep(k int, buf []byte) Sep {
	for i := range p {
		g := &p[i]
		if n := g.count(); k >= n {
			k -= n
			continue
		}
		if g.own(k) {
			return g.src.Sep(g.from+k, buf)
		}
		s := *g.sep
		s.Key = append(buf, s.Key[:min(len(s.Key), s.Len)]...)[len(buf):]
		return s
	}
	panic("page: no such separator")
}

// measure returns the length of the longest prefix that is of use in the planned branch, and the bytes that its entries
// then take. Where they do not fit a page, a shorter prefix is tried: up to four bytes of it can cost more than they save,
// as suffixes of four bytes take no room. So what has been in a page always fits one again.
func (p *plan) measure(pageSize int) (pre, size int) {
	n := p.count()
	if n > 1 {
		sc := borrow(nil)
		pre = CommonLen(p.sep(1, sc.a[:0]).Key, p.sep(n-1, sc.b[:0]).Key)
		sc.giveBack()
	}
	switch long := p.long(pageSize); {
	case long == n-1: // none of them is stripped
		pre = 0
	case long > 0:
		pre = min(pre, longPrefix)
	}
	size = p.size(pageSize, pre)
	for shorter := pre - 1; size > Capacity(pageSize) && shorter >= max(0, pre-4); shorter-- {
		if s := p.size(pageSize, shorter); s <= Capacity(pageSize) {
			return shorter, s
		}
	}
	return pre, size
}

// each calls f with the length of every separator that will be in the branch, and whether it is a long one.
func (p *plan) each(pageSize int, f func(n int, long bool)) {
	first := 1 // of entry 0 there is none
	for i := range p {
		n := p[i].count()
		for k := first; k < n; k++ {
			f(p[i].size(k, pageSize))
		}
		if n > 0 {
			first = 0
		}
	}
}

// long returns how many separators are long ones.
func (p *plan) long(pageSize int) (long int) {
	p.each(pageSize, func(_ int, is bool) {
		if is {
			long++
		}
	})
	return long
}

// size returns the bytes that the entries take beside a prefix of pre bytes.
func (p *plan) size(pageSize, pre int) int {
	total := pre + branchSize*p.count()
	p.each(pageSize, func(n int, long bool) { total += sepHeap(n, long, pre) })
	return total
}

// build writes the plan to b with a prefix of pre bytes. No piece may lie in b. Of b's header the id, born, kind, level
// and trend stay.
func (p *plan) build(b Branch, pre int) {
	n := p.count()
	b[offFlags] = 0
	setCount(b, n)
	setPrefix(b, pre)
	setHeap(b, pre)
	setGarbage(b, 0)
	sc := borrow(nil)
	defer sc.giveBack()
	if n > 1 {
		copy(b[len(b)-pre:], p.sep(1, sc.a[:0]).Key)
	}
	at := 0
	for i := range p {
		g := &p[i]
		for k := 0; k < g.count(); k++ {
			g.write(b, at, k, sc)
			at++
		}
	}
}

// write writes entry k of the piece as entry i of b.
func (g *seg) write(b Branch, i, k int, sc *scratch) {
	child, packed := g.child, g.packed
	if !g.one {
		child, packed = g.src.Child(g.from+k), g.src.packed(g.from+k)
	}
	var head uint32
	var off int
	switch {
	case i == 0:
	case !g.own(k):
		head, off = b.put(g.sep)
	case prefixOf(g.src) == prefixOf(b) && !g.src.IsLong(g.from+k):
		head, off = b.putSuffix(g.src.suffix(g.from + k))
	default:
		s := g.src.Sep(g.from+k, sc.a[:0])
		head, off = b.put(&s)
	}
	b.setSlot(i, head, child)
	b.setOff(i, off)
	b.setPacked(i, packed)
	if packed&refsBit != 0 {
		b[offFlags] |= FlagRefs
	}
}

// suffix returns what separator i, not a long one, has behind the prefix: the head, the length and what is not in the
// head.
func (b Branch) suffix(i int) (head uint32, n int, rest []byte) {
	head, n = b.head(i), b.off(i)
	if off := n; off > 4 {
		n = int(le.Uint16(b[off:]))
		rest = b[off+2 : off+2+n-4]
	}
	return head, n, rest
}

// rebuild writes a plan, in which b itself may occur, to b. It returns false, and changes nothing, if it does not fit.
func (p *plan) rebuild(b Branch) bool {
	pre, size := p.measure(len(b))
	if size > Capacity(len(b)) {
		return false
	}
	sc := borrow(b)
	defer sc.giveBack()
	for i := range p {
		if g := &p[i]; len(g.src) > 0 && &g.src[0] == &b[0] {
			g.src = sc.copy
		}
	}
	p.build(b, pre)
	return true
}

// scratch is memory for rebuilding branches, so that it costs no allocation.
type scratch struct {
	a, b [MaxPageSize / 8]byte // separators: MaxKey of the largest page
	page [MaxPageSize]byte
	copy Branch // of the branch for which it was borrowed, in page
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// borrow returns a scratch with a copy of b, which may be nil.
func borrow(b Branch) *scratch {
	sc := scratches.Get().(*scratch)
	sc.copy = sc.page[:copy(sc.page[:], b)]
	return sc
}

func (sc *scratch) giveBack() { scratches.Put(sc) }
