package btree

import (
	"bytes"
	"math"

	"github.com/foliodb/folio/page"
)

// OnBucket is told of a nested bucket that goes with what is cut off: its name and its entry's value, both valid during
// the call. It must not change the tree.
type OnBucket func(name, value []byte) error

// DeleteRange takes out all items from key from up to, but not including, key to, and returns their number; nil is no
// bound. Subtrees that lie in the range are cut off whole: their branches are read, their leaves only if a run or a
// bucket is below.
func (t *Tree) DeleteRange(from, to []byte, bucket OnBucket) (n uint64, err error) {
	if n, err = t.Count(from, to); n == 0 || err != nil {
		return 0, err
	}
	if from == nil && to == nil {
		return n, t.Drop(bucket)
	}
	if t.root == 0 {
		if err := t.materialise(); err != nil {
			return 0, err
		}
	}
	t.gen++
	id, p, err := t.touch(t.root, int(t.level))
	if err != nil {
		return 0, err
	}
	t.root = id
	c := cutter{t: t, bucket: bucket}
	if err := c.cut(p, int(t.level), from, to, bounds{}); err != nil {
		return 0, err
	}
	if n > t.items {
		return 0, corrupt(t.root, -1, 3, "range of %d items in a tree of %d", n, t.items)
	}
	t.items -= n
	if err := t.lower(); err != nil {
		return n, err
	}
	return n, t.tidy(from, to)
}

// Drop frees everything that the tree occupies, and leaves it empty.
func (t *Tree) Drop(bucket OnBucket) error {
	t.gen++
	if t.root != 0 {
		c := cutter{t: t, bucket: bucket}
		if err := c.free(t.root, int(t.level), true, math.MaxUint64, bounds{}); err != nil {
			return err
		}
	}
	t.root, t.level, t.items, t.image = 0, 0, 0, nil
	return nil
}

// tidy joins what a cut has left small along its two edges.
func (t *Tree) tidy(from, to []byte) error {
	for _, key := range [2][]byte{from, to} {
		if key == nil {
			continue
		}
		if t.root == 0 {
			return nil
		}
		var pa path
		if _, _, err := t.find(&pa, key); err != nil {
			return err
		}
		level := 0
		for level < int(t.level) && !small(pa[level].p, level) {
			level++
		}
		if level == int(t.level) {
			continue
		}
		if err := t.own(&pa); err != nil {
			return err
		}
		if err := t.shrink(&pa, true); err != nil {
			return err
		}
	}
	return nil
}

// bounds are the keys between which a page's keys lie: at or above lo, below hi. nil is no bound. They keep a
// page of a damaged file from being freed once for every parent that names it: two children's bounds are disjoint.
type bounds struct{ lo, hi []byte }

// cutter takes subtrees off a tree.
type cutter struct {
	t      *Tree
	bucket OnBucket
}

// span is how a range lies over the children of a branch: those from lo up to hi go whole; left and right, if not negative,
// are children at its edges that may lose some of their keys. They may be the same one.
type span struct{ lo, hi, left, right int }

// span finds out how the keys from from up to to lie over the children of b.
func (c *cutter) span(b page.Branch, from, to []byte) (span, error) {
	s := span{0, b.Count(), -1, -1}
	if from != nil {
		i, whole, err := c.edge(b, from)
		if err != nil {
			return s, err
		}
		if s.lo = i; !whole {
			s.left, s.lo = i, i+1
		}
	}
	if to != nil {
		i, whole, err := c.edge(b, to)
		if err != nil {
			return s, err
		}
		if s.hi = i; !whole {
			s.right = i
		}
	}
	if s.lo > s.hi+1 || s.lo > s.hi && s.left != s.right {
		return s, corrupt(page.IDOf(b), -1, 3, "separators do not ascend")
	}
	return s, nil
}

// edge returns the child in which key belongs, and whether the child's keys begin with it.
func (c *cutter) edge(b page.Branch, key []byte) (i int, whole bool, err error) {
	i, err = c.t.searchBranch(b, key)
	if i == 0 || err != nil {
		return i, false, err
	}
	var buf sepBuffer
	sep, err := c.t.separator(b, i, buf[:0])
	return i, bytes.Equal(sep, key), err
}

// cut takes the keys from from up to to out of an own page. The page may be left empty.
func (c *cutter) cut(p []byte, level int, from, to []byte, in bounds) error {
	if level == 0 {
		return c.cutLeaf(p, from, to)
	}
	b := page.Branch(p)
	s, err := c.span(b, from, to)
	if err != nil {
		return err
	}
	for i := s.lo; i < s.hi; i++ {
		sub, err := c.between(b, i, in)
		if err != nil {
			return err
		}
		if err := c.free(b.Child(i), level-1, b.Refs(i), page.BornOf(b), sub); err != nil {
			return err
		}
	}
	lo, hi := s.lo, s.hi
	if s.right >= 0 {
		empty, err := c.cutChild(b, s.right, level-1, from, to, in)
		if err != nil {
			return err
		}
		if empty {
			lo, hi = min(lo, s.right), s.right+1
		}
	}
	if s.left >= 0 && s.left != s.right {
		empty, err := c.cutChild(b, s.left, level-1, from, to, in)
		if err != nil {
			return err
		}
		if empty {
			lo = s.left
		}
	}
	if lo < hi {
		return c.remove(b, lo, hi)
	}
	return nil
}

// cutChild is cut for child i of b. It reports whether the child is empty; then it has been freed, and is to be removed.
func (c *cutter) cutChild(b page.Branch, i, level int, from, to []byte, in bounds) (empty bool, err error) {
	sub, err := c.between(b, i, in)
	if err != nil {
		return false, err
	}
	id, p, err := c.t.touchChild(b, i, level)
	if err != nil {
		return false, err
	}
	if err := c.cut(p, level, from, to, sub); err != nil {
		return false, err
	}
	switch {
	case page.CountOf(p) == 0:
		c.t.w.Free(id, page.BornOf(p))
		return true, nil
	case level == 0:
		describe(b, i, leafHalf(p))
	default:
		describe(b, i, branchHalf(p))
	}
	return false, nil
}

// cutLeaf takes the keys from from up to to out of an own leaf.
func (c *cutter) cutLeaf(l page.Leaf, from, to []byte) error {
	lo, hi := 0, l.Count()
	var err error
	if from != nil {
		if lo, _, err = c.t.searchLeaf(l, from); err != nil {
			return err
		}
	}
	if to != nil {
		if hi, _, err = c.t.searchLeaf(l, to); err != nil {
			return err
		}
	}
	if lo >= hi {
		return nil
	}
	if err := c.t.closes(l, lo, hi); err != nil {
		return err
	}
	if err := c.release(l, lo, hi); err != nil {
		return err
	}
	l.RemoveRange(lo, hi)
	return nil
}

// release frees what entries from from up to to of a leaf refer to.
func (c *cutter) release(l page.Leaf, from, to int) error {
	for i := from; i < to; i++ {
		if c.bucket != nil && l.IsBucket(i) {
			name, value, _, err := c.t.item(l, i, false)
			if err != nil {
				return err
			}
			if err := c.bucket(name, value); err != nil {
				return err
			}
		}
		if err := c.t.freeRun(l, i); err != nil {
			return err
		}
	}
	return nil
}

// remove takes the children from from up to to out of b, with the separators that go with them.
func (c *cutter) remove(b page.Branch, from, to int) error {
	last := to - 1
	if from == 0 {
		last = to
	}
	if err := c.t.closesBranch(b, max(from, 1), last+1); err != nil {
		return err
	}
	for i := max(from, 1); i <= last; i++ {
		c.t.freeSeparator(b, i)
	}
	b.RemoveRange(from, to)
	return nil
}

// between returns the bounds of child i of b, whose own are in.
func (c *cutter) between(b page.Branch, i int, in bounds) (sub bounds, err error) {
	sub = in
	if i > 0 {
		if sub.lo, err = c.t.separator(b, i, nil); err != nil {
			return sub, err
		}
	}
	if i+1 < b.Count() {
		sub.hi, err = c.t.separator(b, i+1, nil)
	}
	return sub, err
}

// free frees a page and all below it. refs tells whether there is something in its leaves to be freed.
func (c *cutter) free(id page.ID, level int, refs bool, born page.TxID, in bounds) error {
	t := c.t
	if level == 0 && !refs {
		if id < page.FirstID {
			return corrupt(id, -1, 2, "not a page of a tree")
		}
		t.w.Free(id, 0)
		return nil
	}
	p, err := t.load(id, level, born)
	if err != nil {
		return err
	}
	if err := c.within(p, level, in); err != nil {
		return err
	}
	if level == 0 {
		err = c.release(p, 0, page.CountOf(p))
	} else {
		err = c.freeBelow(p, level, in)
	}
	t.w.Free(id, page.BornOf(p))
	return err
}

// freeBelow frees the children and separators of b.
func (c *cutter) freeBelow(b page.Branch, level int, in bounds) error {
	for i := range b.Count() {
		var sub bounds
		if level > 1 || b.Refs(i) {
			var err error
			if sub, err = c.between(b, i, in); err != nil {
				return err
			}
		}
		if err := c.free(b.Child(i), level-1, b.Refs(i), page.BornOf(b), sub); err != nil {
			return err
		}
	}
	for i := range b.Count() {
		c.t.freeSeparator(b, i)
	}
	return nil
}

// within checks that the keys of a page, or its separators, lie in its bounds.
func (c *cutter) within(p []byte, level int, in bounds) error {
	first, last := 0, page.CountOf(p)-1
	get := func(i int) ([]byte, error) { return c.t.key(page.Leaf(p), i) }
	if level > 0 {
		first = 1
		get = func(i int) ([]byte, error) { return c.t.separator(page.Branch(p), i, nil) }
	}
	if first > last {
		return nil
	}
	k, err := get(first)
	if err != nil {
		return err
	}
	if low := bytes.Compare(k, in.lo); in.lo != nil && (low < 0 || low == 0 && level > 0) {
		return corrupt(page.IDOf(p), -1, 3, "keys below the parent's separator")
	}
	if k, err = get(last); err != nil {
		return err
	}
	if in.hi != nil && bytes.Compare(k, in.hi) >= 0 {
		return corrupt(page.IDOf(p), -1, 3, "keys not below the parent's next separator")
	}
	return nil
}
