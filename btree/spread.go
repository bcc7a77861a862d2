package btree

import (
	"bytes"

	"github.com/foliodb/folio/page"
)

// Change is a put or a deletion of an item.
type Change struct {
	Key, Value []byte
	Delete     bool
}

// PutAhead is Put for one who knows what comes next: ahead, in ascending order of keys, all above this one. It may do some of that too, and returns
// how much it has done. ErrKind is only that of the first key.
//
// A leaf that overflows while others beside it are about to change as well is not evened out with a sibling, and not split, but spread: its
// entries and the changes are merged into new leaves, and what is left over for the last of them goes on
// into the next leaf's, as in the merge of two sorted files. So each entry is moved once, leaves become nearly full, and only
// the last two are evened out.
func (t *Tree) PutAhead(key, value []byte, ahead []Change) (done int, err error) {
	if t.last == nil {
		t.last = new(trail)
	}
	t.last.ahead, t.last.taken = ahead, 0
	_, err = t.Put(key, value, false)
	t.last.ahead = nil
	return t.last.taken, err
}

// spreadPages bounds how many leaves one operation makes, since their buffers stay on the heap until it ends.
const spreadPages = 32

// spreadFill is how full leaves become, in hundredths: the next few entries should not split them at once. Where entries are so large that this would leave
// a leaf less than three quarters full, it is filled.
const spreadFill = 92

// spreader makes leaves in the place of children of the path's lowest branch.
type spreader struct {
	t            *Tree
	pa           *path
	full, target int       // bytes of entries
	out          page.Leaf // is being filled; nil: none is
	prev         page.Leaf // the one before it, child at-1
	at           int       // the child that out will be
	rest         int       // the first child that is not used up; those from at to here are gone
	made         int
}

// spread puts e, and what it likes of t.last.ahead, into the leaf at the end of t.last and the ones behind it, if it pays. It reports whether it did.
func (t *Tree) spread(e page.Entry) (bool, error) {
	pa := &t.last.pa // not the caller's, which need not live on the heap then
	l, id := page.Leaf(pa[0].p), pa[0].id
	size := page.EntrySize(len(l), e.KeyLen, e.ValLen)
	if e.Bucket || page.FormOf(len(l), e.KeyLen, e.ValLen) != page.Inline || !simple(l) {
		return false, nil
	}
	for level := 1; level <= int(t.level); level++ {
		if page.FlagsOf(pa[level].p)&page.FlagLong != 0 {
			return false, nil
		}
	}
	s := &spreader{t: t, pa: pa, full: page.Capacity(len(l)), at: pa[1].i, rest: pa[1].i + 1}
	s.target = s.full * spreadFill / 100
	var buf sepBuffer
	upper := s.upper(s.at, buf[:0])
	n, more := s.belonging(t.last.ahead, upper)
	if !s.within(l, s.at, upper) {
		return false, nil // damage, which is told to who reads it
	}
	if l.Live()+size+more < 2*s.target && (n == len(t.last.ahead) || !s.next(n)) {
		return false, nil
	}
	first := [1]Change{{Key: e.Key, Value: e.Value}}
	if err := s.merge(l, first[:], t.last.ahead[:n]); err != nil {
		return false, err
	}
	t.w.Free(id, page.BornOf(l))
	t.last.taken = n
	for s.made < spreadPages {
		done, err := s.step()
		if err != nil {
			return false, err
		}
		if !done {
			break
		}
	}
	return true, s.close()
}

// simple reports whether a leaf has neither buckets nor runs.
func simple(l page.Leaf) bool { return page.FlagsOf(l)&(page.FlagLong|page.FlagRefs) == 0 }

func (s *spreader) parent() page.Branch { return page.Branch(s.pa[1].p) }

// upper returns what is above all keys below child i of the branch, appended to buf; nil: nothing is. In a damaged tree an
// upper branch may say less than the lowest.
func (s *spreader) upper(i int, buf []byte) (least []byte) {
	for level := 1; level <= int(s.t.level); level++ {
		b := page.Branch(s.pa[level].p)
		if level > 1 {
			i = s.pa[level].i
		}
		if i+1 >= b.Count() {
			continue
		}
		if least == nil {
			least = b.Separator(i+1, buf)
			continue
		}
		var other sepBuffer
		if k := b.Separator(i+1, other[:0]); bytes.Compare(k, least) < 0 {
			least = append(buf[:0], k...)
		}
	}
	return least
}

// reaches reports whether key is not below any of the separators at the left of child i.
func (s *spreader) reaches(key []byte, i int) bool {
	for level := 1; level <= int(s.t.level); level++ {
		b := page.Branch(s.pa[level].p)
		if level > 1 {
			i = s.pa[level].i
		}
		var buf sepBuffer
		if i > 0 && bytes.Compare(key, b.Separator(i, buf[:0])) < 0 {
			return false
		}
	}
	return true
}

// within reports whether the keys of l, child i, lie where they should.
func (s *spreader) within(l page.Leaf, i int, upper []byte) bool {
	return s.reaches(l.Key(0), i) && (upper == nil || bytes.Compare(l.Key(l.Count()-1), upper) < 0)
}

// belonging returns how many of the changes are about keys below upper, and can be made to a simple leaf, and the bytes of their entries. It
// ends where these are as much as one operation should make: what is left of them then is for the next one.
func (s *spreader) belonging(ahead []Change, upper []byte) (n, size int) {
	pageSize := len(s.parent())
	for n < len(ahead) && size < spreadPages*s.target {
		c := &ahead[n]
		if upper != nil && bytes.Compare(c.Key, upper) >= 0 {
			break
		}
		if !c.Delete {
			if page.FormOf(pageSize, len(c.Key), len(c.Value)) != page.Inline {
				break
			}
			size += page.EntrySize(pageSize, len(c.Key), len(c.Value))
		}
		n++
	}
	return n, size
}

// next reports whether the change behind the first n of those ahead belongs in the child that is not used up yet.
func (s *spreader) next(n int) bool {
	if s.rest >= s.parent().Count() || s.parent().Refs(s.rest) {
		return false
	}
	var buf sepBuffer
	upper := s.upper(s.rest, buf[:0])
	m, _ := s.belonging(s.t.last.ahead[n:min(n+1, len(s.t.last.ahead))], upper)
	return m == 1 && s.reaches(s.t.last.ahead[n].Key, s.rest)
}

// step goes on with the next child, if changes ahead belong there and it pays.
func (s *spreader) step() (done bool, err error) {
	t, parent, c := s.t, s.parent(), s.rest
	if c >= parent.Count() || t.last.taken == len(t.last.ahead) || parent.Refs(c) {
		return false, nil
	}
	var buf sepBuffer
	upper := s.upper(c, buf[:0])
	n, more := s.belonging(t.last.ahead[t.last.taken:], upper)
	if n == 0 || !s.reaches(t.last.ahead[t.last.taken].Key, c) {
		return false, nil
	}
	id := parent.Child(c)
	l, err := t.loadLeaf(id, page.BornOf(parent))
	switch {
	case isDamage(err):
		return false, nil // whoever goes there is told
	case err != nil:
		return false, err
	case !simple(l), !s.within(l, c, upper):
		return false, nil
	case l.Live()+more <= s.full && (s.out == nil || 2*s.out.Live() >= s.full):
		return false, nil // it has room, and nothing is left over that needs any
	}
	s.rest++
	if err := s.merge(l, nil, t.last.ahead[t.last.taken:t.last.taken+n]); err != nil {
		return false, err
	}
	t.w.Free(id, page.BornOf(l))
	t.last.taken += n
	return true, nil
}

// merge puts out the entries of l with the changes made, first's before those of then.
func (s *spreader) merge(l page.Leaf, first, then []Change) error {
	done := 0
	for _, changes := range [2][]Change{first, then} {
		for i := range changes {
			c := &changes[i]
			at, found := l.Search(c.Key)
			if err := must(at >= done, page.IDOf(l)); err != nil {
				return err
			}
			if err := s.copy(l, done, at); err != nil {
				return err
			}
			done = at
			if found {
				done++
			}
			if c.Delete {
				continue
			}
			if err := s.put(page.Entry{Key: c.Key, KeyLen: len(c.Key), Value: c.Value, ValLen: len(c.Value)}); err != nil {
				return err
			}
		}
	}
	return s.copy(l, done, l.Count())
}

// copy puts out the entries of l from from up to to.
func (s *spreader) copy(l page.Leaf, from, to int) error {
	for from < to {
		k, size := from, 0
		for ; k < to; k++ {
			n := l.SizeOf(k, k+1)
			if !s.fits(size+n) && (k > from || s.out != nil) {
				break
			}
			size += n
		}
		if k == from {
			if err := s.link(); err != nil {
				return err
			}
			continue
		}
		if err := s.open(); err != nil {
			return err
		}
		if err := must(l.CopyRange(s.out, s.out.Count(), from, k), page.IDOf(l)); err != nil {
			return err
		}
		from = k
	}
	return nil
}

// put puts out e.
func (s *spreader) put(e page.Entry) error {
	if s.out != nil && !s.fits(page.EntrySize(len(s.out), e.KeyLen, e.ValLen)) {
		if err := s.link(); err != nil {
			return err
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	return must(s.out.Insert(s.out.Count(), e), page.IDOf(s.out))
}

// fits reports whether n bytes of entries more leave the leaf as full as it should become at most.
func (s *spreader) fits(n int) bool {
	had := 0
	if s.out != nil {
		had = s.out.Live()
	}
	return had+n <= s.target || had+n <= s.full && 4*had < 3*s.full
}

// open sees to it that there is a leaf to be filled.
func (s *spreader) open() error {
	if s.out != nil {
		return nil
	}
	id, p, err := s.t.w.Alloc()
	if err == nil {
		s.out = page.InitLeaf(p, id, s.t.w.TxID())
		s.made++
	}
	return err
}

// link makes the leaf that has been filled a child of the branch.
func (s *spreader) link() error {
	s.out.ForgetTrend() // entries came in order, and that says nothing about the next ones
	t, parent, h := s.t, s.parent(), leafHalf(s.out)
	out := s.out
	s.out = nil
	if s.prev == nil { // in the place of the first leaf, behind the same separator
		s.prev = out
		describe(parent, s.at, h)
		s.at++
		return nil
	}
	left, right := s.prev.Key(s.prev.Count()-1), out.Key(0)
	if err := ascend(page.IDOf(out), left, right); err != nil {
		return err
	}
	short := page.Shortest(left, right)
	sep := page.Sep{Key: short, Len: len(short)}
	prev := s.prev
	s.prev = out
	if s.at < s.rest {
		// Of the children that are gone one goes now. The separators of others may be below the new one: the branch would be wrong with both.
		for ; s.rest > s.at+1; s.rest-- {
			parent.Remove(s.at + 1)
		}
		if err := t.suits(parent, s.at-1, s.at+1, sep); err != nil {
			return err
		}
		if parent.ReplaceSep(s.at, sep) {
			describe(parent, s.at, h)
			s.at++
			return nil
		}
		s.tidy()
	}
	if err := t.suits(parent, s.at-1, s.at, sep); err != nil {
		return err
	}
	if parent.Insert(s.at, sep, h.id, h.items, h.refs) {
		s.at++
		s.rest++
		return nil
	}
	s.pa[1].i = s.at - 1
	if err := t.addChild(s.pa, leafHalf(prev), h, sep); err != nil {
		return err
	}
	if err := t.descend(s.pa, out.Key(0)); err != nil {
		return err
	}
	s.at = s.pa[1].i + 1
	s.rest = s.at
	return must(s.pa[0].id == h.id, h.id)
}

// tidy takes children that are gone out of the branch.
func (s *spreader) tidy() {
	for ; s.rest > s.at; s.rest-- {
		s.parent().Remove(s.at)
	}
}

// close links the last leaf, which gets some entries of the one before if it is not half full, and brings the numbers of items up to date.
func (s *spreader) close() error {
	if s.out != nil && s.prev != nil && 2*s.out.Live() < s.full {
		if err := s.level(); err != nil {
			return err
		}
	}
	if s.out != nil {
		if err := s.link(); err != nil {
			return err
		}
	}
	s.tidy()
	t := s.t
	for level := 2; level <= int(t.level); level++ {
		up := &s.pa[level]
		page.Branch(up.p).SetItems(up.i, min(page.Branch(s.pa[level-1].p).Total(), maxItems))
	}
	t.items = page.Branch(s.pa[t.level].p).Total()
	return nil
}

// level makes the last two leaves one, or equally full.
func (s *spreader) level() error {
	prev, out := s.prev, s.out
	if prev.Live()+out.Live() <= s.target {
		if err := must(out.CopyRange(prev, prev.Count(), 0, out.Count()), page.IDOf(prev)); err != nil {
			return err
		}
		s.out = nil
		s.t.w.Free(page.IDOf(out), page.BornOf(out))
	} else {
		k, moved := prev.Count(), 0
		for k > 1 {
			n := prev.SizeOf(k-1, k)
			if out.Live()+moved+n > prev.Live()-moved-n {
				break
			}
			moved += n
			k--
		}
		if err := must(prev.MoveFront(out, k, prev.Count()), page.IDOf(out)); err != nil {
			return err
		}
	}
	describe(s.parent(), s.at-1, leafHalf(prev))
	return nil
}
