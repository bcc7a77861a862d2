package btree

import (
	"bytes"

	"github.com/foliodb/folio/page"
)

// side tells which end of the keys a loader works at.
type side int

const (
	front  side = -1
	middle side = 0
	end    side = 1
)

// loadTrend is the number of inserts in a row at one end of a leaf from which a load in key order is assumed.
const loadTrend = 3

// loading tells whether an entry that is to go before i, and does not fit, belongs to a load in key order. Its leaf is
// full then and stays as it is: splitting it in the middle would leave every leaf half empty for good.
func (t *Tree) loading(pa *path, i int) side {
	p := pa[0].p
	switch trend := page.Trend(p); {
	case i == page.CountOf(p) && (trend >= loadTrend || t.outermost(pa, end)):
		return end
	case i == 0 && (trend <= -loadTrend || t.outermost(pa, front)):
		return front
	}
	return middle
}

// outermost reports whether the path leads to the last or to the first leaf of the tree.
func (t *Tree) outermost(pa *path, s side) bool {
	for level := 1; level <= int(t.level); level++ {
		at, last := pa[level].i, page.CountOf(pa[level].p)-1
		if s == end && at != last || s == front && at != 0 {
			return false
		}
	}
	return true
}

// makeRoom puts e before entry i of a leaf in whose gap it does not fit: by compaction if garbage is all that stands in the
// way, else by moving entries to a sibling that has room, else by splitting.
func (t *Tree) makeRoom(pa *path, i int, e page.Entry, s side) error {
	l := page.Leaf(pa[0].p)
	ps := len(l)
	if l.Live()+page.EntrySize(ps, e.KeyLen, e.ValLen) <= page.Capacity(ps) {
		if err := t.compact(&pa[0]); err != nil {
			return err
		}
		return must(page.Leaf(pa[0].p).Insert(i, e), pa[0].id)
	}
	if s == middle && t.level > 0 {
		if t.last != nil && len(t.last.ahead) > 0 && pa == &t.last.pa {
			if done, err := t.spread(e); done || err != nil {
				return err
			}
		}
		done, err := t.evenOut(pa, i, e)
		if done || err != nil {
			return err
		}
	}
	return t.splitLeaf(pa, i, e, s)
}

// must turns a refusal of what was computed to fit into an error. Only a page whose numbers lie can lead there.
func must(ok bool, id page.ID) error {
	if !ok {
		return corrupt(id, -1, 3, "entries take more room than the page says")
	}
	return nil
}

// compact frees an own leaf from its garbage.
func (t *Tree) compact(s *step) error {
	old, fresh, err := t.w.Renew(s.id)
	if err != nil {
		return err
	}
	page.Leaf(old).CompactInto(fresh)
	s.p = fresh
	return nil
}

// sequence is the entries of a leaf with a further one before entry i, numbered together from 0 on.
type sequence struct {
	l page.Leaf
	i int
	e page.Entry
}

func (q *sequence) count() int { return q.l.Count() + 1 }

// at returns the number in the leaf of entry k, which is not the further one.
func (q *sequence) at(k int) int {
	if k > q.i {
		k--
	}
	return k
}

// size returns the bytes that entry k takes.
func (q *sequence) size(k int) int {
	if k == q.i {
		return page.EntrySize(len(q.l), q.e.KeyLen, q.e.ValLen)
	}
	k = q.at(k)
	return q.l.SizeOf(k, k+1)
}

// copy puts copies of the entries from from up to to into dst, before its entry at.
func (q *sequence) copy(dst page.Leaf, at, from, to int) error {
	ok := true
	if from < q.i {
		m := min(to, q.i)
		ok = q.l.CopyRange(dst, at, from, m)
		at += m - from
	}
	if from <= q.i && q.i < to {
		ok = ok && dst.Insert(at, q.e)
		at++
	}
	if to > q.i+1 {
		ok = ok && q.l.CopyRange(dst, at, max(from, q.i+1)-1, to-1)
	}
	return must(ok, page.IDOf(dst))
}

// sequenceKey returns the whole key of entry k.
func (t *Tree) sequenceKey(q *sequence, k int) ([]byte, error) {
	if k == q.i {
		return q.e.Key, nil
	}
	return t.key(q.l, q.at(k))
}

// known returns of the key of entry k what is at hand, and whether that is all.
func (q *sequence) known(k int) (key []byte, whole bool) {
	if k == q.i {
		return q.e.Key, true
	}
	k = q.at(k)
	return q.l.Key(k), q.l.Form(k) != page.LongKey
}

// between returns the keys of entries k-1 and k, or as much of long ones as tells them apart. Runs are read only where the stubs do not:
// they may be damaged, and a change beside them must not fail for that.
func (t *Tree) between(q *sequence, k int) (left, right []byte, err error) {
	left, wholeLeft := q.known(k - 1)
	right, wholeRight := q.known(k)
	n := min(len(left), len(right))
	if !bytes.Equal(left[:n], right[:n]) || n == len(left) && n < len(right) && wholeLeft || wholeLeft && wholeRight {
		return left, right, nil
	}
	if left, err = t.sequenceKey(q, k-1); err == nil {
		right, err = t.sequenceKey(q, k)
	}
	return left, right, err
}

// divide returns the shortest separator between entries k-1 and k, its bytes appended to buf. A long one has its run.
func (t *Tree) divide(q *sequence, k int, buf []byte) (page.Sep, error) {
	left, right, err := t.between(q, k)
	if err != nil {
		return page.Sep{}, err
	}
	if err := ascend(page.IDOf(q.l), left, right); err != nil {
		return page.Sep{}, err
	}
	short := page.Shortest(left, right)
	if len(short) <= page.MaxKey(len(q.l)) {
		return page.Sep{Key: append(buf, short...), Len: len(short)}, nil
	}
	ref, err := t.w.PutRun(bytes.Clone(short))
	return page.Sep{Key: append(buf, short[:page.StubSize]...), Len: len(short), Ref: ref}, err
}

// sepBuffer is room on the stack for a separator of common length.
type sepBuffer [128]byte

// half is a page as its parent describes it.
type half struct {
	id    page.ID
	items uint64
	refs  bool
}

func leafHalf(l page.Leaf) half {
	return half{page.IDOf(l), uint64(l.Count()), page.FlagsOf(l)&page.FlagRefs != 0}
}

func branchHalf(b page.Branch) half {
	return half{page.IDOf(b), min(b.Total(), maxItems), page.FlagsOf(b)&page.FlagRefs != 0}
}

// describe makes child i of b the page h.
func describe(b page.Branch, i int, h half) {
	b.SetChild(i, h.id)
	b.SetItems(i, min(h.items, maxItems))
	b.SetRefs(i, h.refs)
}

// splitLeaf divides the path's leaf, and e before its entry i, between two leaves. In a load in key order e goes
// alone to the new one.
func (t *Tree) splitLeaf(pa *path, i int, e page.Entry, s side) error {
	q := sequence{page.Leaf(pa[0].p), i, e}
	cut := 1
	switch s {
	case end:
		cut = q.count() - 1
	case middle:
		cut = q.l.SplitPoint(i, e)
	}
	var buf sepBuffer
	sep, err := t.divide(&q, cut, buf[:0])
	if err != nil {
		return err
	}
	id, p, err := t.w.Alloc()
	if err != nil {
		return err
	}
	fresh := page.InitLeaf(p, id, t.w.TxID())
	if s != middle {
		if err := must(fresh.Insert(0, e), id); err != nil {
			return err
		}
		if s == front {
			return t.addChild(pa, leafHalf(fresh), leafHalf(q.l), sep)
		}
		return t.addChild(pa, leafHalf(q.l), leafHalf(fresh), sep)
	}
	left, err := t.keep(&pa[0], &q, 0, cut, fresh, 0, cut, q.count())
	if err != nil {
		return err
	}
	return t.addChild(pa, leafHalf(left), leafHalf(fresh), sep)
}

// keep leaves the entries of q from from up to to in its leaf, which is s, and copies those from restFrom up to restTo into
// other, before its entry at.
func (t *Tree) keep(s *step, q *sequence, from, to int, other page.Leaf, at, restFrom, restTo int) (page.Leaf, error) {
	old, fresh, err := t.w.Renew(s.id)
	if err != nil {
		return nil, err
	}
	q.l = old
	s.p = fresh
	l := page.InitLeaf(fresh, s.id, page.BornOf(old))
	if err := q.copy(l, 0, from, to); err != nil {
		return nil, err
	}
	return l, q.copy(other, at, restFrom, restTo)
}

// addChild puts left and right in the place of the leaf at the path's end, with sep between them. Branches that
// become too full are split in turn, up to a new root.
func (t *Tree) addChild(pa *path, left, right half, sep page.Sep) error {
	var bufs [2]sepBuffer
	level := 1
	for ; level <= int(t.level); level++ {
		s := &pa[level]
		b := page.Branch(s.p)
		if err := t.suits(b, s.i, s.i+1, sep); err != nil {
			return err
		}
		describe(b, s.i, left)
		if b.Insert(s.i+1, sep, right.id, right.items, right.refs) {
			break
		}
		id, p, err := t.w.Alloc()
		if err != nil {
			return err
		}
		fresh := page.InitBranch(p, id, t.w.TxID(), level)
		sep = b.Split(fresh, s.i+1, sep, right.id, right.items, right.refs, bufs[level&1][:0])
		left, right = branchHalf(b), branchHalf(fresh)
	}
	if level > int(t.level) {
		return t.newRoot(left, right, sep)
	}
	return nil
}

// newRoot puts a branch above what was the root and has been split.
func (t *Tree) newRoot(left, right half, sep page.Sep) error {
	level := int(t.level) + 1
	if level >= page.MaxLevel {
		return corrupt(t.root, 13, 2, "tree of %d levels", level)
	}
	id, p, err := t.w.Alloc()
	if err != nil {
		return err
	}
	b := page.InitBranch(p, id, t.w.TxID(), level)
	ok := b.Insert(0, page.Sep{}, left.id, left.items, left.refs) && b.Insert(1, sep, right.id, right.items, right.refs)
	t.root, t.level = id, uint8(level)
	return must(ok, id)
}

// evenOut moves entries of a full leaf to the emptier of its siblings, if one is less than three quarters full, and puts e
// before its entry i. It reports whether it did. Leaves of random loads take 1.4 times their payload so,
// against 1.6 with plain splits.
func (t *Tree) evenOut(pa *path, i int, e page.Entry) (bool, error) {
	parent, at := page.Branch(pa[1].p), pa[1].i
	full := page.Capacity(len(parent))
	sibling, live, other := -1, full*3/4, page.Leaf(nil)
	for k := max(at-1, 0); k <= at+1 && k < parent.Count(); k++ {
		if k == at {
			continue
		}
		l, err := t.loadLeaf(parent.Child(k), page.BornOf(parent))
		if isDamage(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		if n := l.Live(); n < live {
			sibling, live, other = k, n, l
		}
	}
	if sibling < 0 {
		return false, nil
	}
	q := sequence{page.Leaf(pa[0].p), i, e}
	cut := q.balance(live, full, sibling < at)
	if cut <= 0 || cut >= q.count() {
		return false, nil
	}
	if err := t.beside(&q, other, sibling < at); err != nil {
		return false, unlessDamage(err) // before anything has changed
	}
	ok, err := t.moveSeparator(parent, max(at, sibling), &q, cut)
	if !ok || err != nil {
		return false, err
	}
	return true, t.shift(pa, &q, cut, sibling)
}

// balance returns where to cut q so that its part left of the cut (or right of it) together with a sibling of other live bytes
// takes as much as the rest. 0: it cannot be done.
func (q *sequence) balance(other, full int, left bool) int {
	n := q.count()
	rest := q.l.Live() + q.size(q.i)
	k := 0
	for ; k < n; k++ {
		m := n - 1 - k
		if left {
			m = k
		}
		size := q.size(m)
		if other+size > full || rest <= full && other+size > rest-size {
			break
		}
		other, rest = other+size, rest-size
	}
	if rest > full {
		return 0
	}
	if !left {
		k = n - k
	}
	return k
}

// moveSeparator puts in the place of separator i of an own branch the one between entries cut-1 and cut of q. It reports
// false, with nothing changed, if the branch has no room for it.
func (t *Tree) moveSeparator(b page.Branch, i int, q *sequence, cut int) (bool, error) {
	var buf sepBuffer
	sep, err := t.divide(q, cut, buf[:0])
	if err != nil {
		return false, err
	}
	if err := t.suits(b, i-1, i+1, sep); err != nil {
		return false, err
	}
	long, old, n := b.IsLong(i), page.Ref{}, b.SepLen(i)
	if long {
		old = b.SepRef(i)
	}
	if !b.ReplaceSep(i, sep) {
		if sep.Len > page.MaxKey(len(b)) {
			t.w.FreeRun(sep.Ref, sep.Len)
		}
		return false, nil
	}
	if long {
		t.w.FreeRun(old, n)
	}
	return true, nil
}

// shift moves the entries of q on the sibling's side of cut to that sibling. The separator has been moved.
func (t *Tree) shift(pa *path, q *sequence, cut, sibling int) error {
	parent, at, n := page.Branch(pa[1].p), pa[1].i, q.count()
	id, p, err := t.touchChild(parent, sibling, 0)
	if err != nil {
		return err
	}
	other := step{id: id, p: p}
	moveFrom, moveTo, keepFrom, keepTo, place := 0, cut, cut, n, page.CountOf(p)
	if sibling > at {
		moveFrom, moveTo, keepFrom, keepTo, place = cut, n, 0, cut, 0
	}
	need := 0
	for k := moveFrom; k < moveTo; k++ {
		need += q.size(k)
	}
	if page.Leaf(p).Free() < need {
		if err := t.compact(&other); err != nil {
			return err
		}
	}
	l, err := t.keep(&pa[0], q, keepFrom, keepTo, page.Leaf(other.p), place, moveFrom, moveTo)
	if err != nil {
		return err
	}
	describe(parent, at, leafHalf(l))
	describe(parent, sibling, leafHalf(page.Leaf(other.p)))
	return nil
}

// beside checks that the keys of q are above those of its left sibling, or below those of its right one.
func (t *Tree) beside(q *sequence, sibling page.Leaf, left bool) error {
	end, near := 0, sibling.Count()-1
	if !left {
		end, near = q.count()-1, 0
	}
	mine, err := t.sequenceKey(q, end)
	if err != nil {
		return err
	}
	other, err := t.key(sibling, near)
	if err != nil {
		return err
	}
	if left {
		return ascend(page.IDOf(sibling), other, mine)
	}
	return ascend(page.IDOf(sibling), mine, other)
}
