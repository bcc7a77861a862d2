package btree

import (
	"math"

	"github.com/foliodb/folio/page"
)

// Delete takes the entry of key out, and reports whether there was one. bucket tells that a bucket is meant, whose
// own pages are the caller's to free; an entry of the other kind is ErrKind. Nothing is touched if there is no entry.
func (t *Tree) Delete(key []byte, bucket bool) (found bool, err error) {
	if t.root == 0 {
		switch _, kind, found, err := t.get(key, false); {
		case !found || err != nil:
			return false, err
		case kind != bucket:
			return false, ErrKind
		}
		if err := t.materialise(); err != nil {
			return false, err
		}
	}
	var pa path
	i, found, err := t.find(&pa, key)
	if !found || err != nil {
		return false, err
	}
	if page.Leaf(pa[0].p).IsBucket(i) != bucket {
		return false, ErrKind
	}
	if err := t.own(&pa); err != nil {
		return false, err
	}
	t.gen++
	l := page.Leaf(pa[0].p)
	// One that is not long cannot have hidden anything; and runs of its neighbours may be damaged, which is none of its business.
	if l.Form(i) == page.LongKey {
		if err := t.closes(l, i, i+1); err != nil {
			return false, err
		}
	}
	if err := t.freeRun(l, i); err != nil {
		return false, err
	}
	l.Remove(i)
	if err := t.discount(&pa); err != nil {
		return false, err
	}
	return true, t.shrink(&pa, false)
}

// find goes down to the place of key without touching anything.
func (t *Tree) find(pa *path, key []byte) (i int, found bool, err error) {
	id, born := t.root, page.TxID(math.MaxUint64)
	for level := int(t.level); ; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return 0, false, err
		}
		pa[level] = step{id: id, p: p}
		if level == 0 {
			return t.searchLeaf(page.Leaf(p), key)
		}
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return 0, false, err
		}
		pa[level].i = i
		id, born = b.Child(i), page.BornOf(p)
	}
}

// own makes every page of a path the transaction's own.
func (t *Tree) own(pa *path) error {
	level := int(t.level)
	s := &pa[level]
	var err error
	if s.id, s.p, err = t.touch(s.id, level); err != nil {
		return err
	}
	t.root = s.id
	for ; level > 0; level-- {
		s, below := &pa[level], &pa[level-1]
		if below.id, below.p, err = t.touchChild(page.Branch(s.p), s.i, level-1); err != nil {
			return err
		}
	}
	return nil
}

// discount takes one item off the number below every page on the way.
func (t *Tree) discount(pa *path) error {
	for level := 1; level <= int(t.level); level++ {
		s := &pa[level]
		b := page.Branch(s.p)
		n := b.Items(s.i)
		if n == 0 {
			return corrupt(s.id, -1, 3, "child %d has items, but is said to have none", s.i)
		}
		b.SetItems(s.i, n-1)
	}
	if t.items == 0 {
		return corrupt(t.root, -1, 3, "tree has items, but is said to have none")
	}
	t.items--
	return nil
}
