package btree

import (
	"errors"
	"math"

	"github.com/foliodb/folio/page"
)

// small reports whether a page is to be joined with a sibling: it is less than a third full, or a branch with a single child.
func small(p []byte, level int) bool {
	if level == 0 {
		return 3*page.Leaf(p).Live() < page.Capacity(len(p))
	}
	return page.CountOf(p) < 2 || 3*page.Branch(p).Live() < page.Capacity(len(p))
}

// joined is how many bytes two pages may take together to be joined: a tenth is left free, so that the next few
// inserts do not split the page again.
func joined(p []byte) int { return page.Capacity(len(p)) / 10 * 9 }

// shrink joins what has become small on a path of own pages, from the leaf up. It stops at the first page that can stay
// as it is, unless all are to be looked at.
func (t *Tree) shrink(pa *path, all bool) error {
	for level := 0; level < int(t.level); level++ {
		changed, err := t.join(pa, level)
		if err != nil {
			return err
		}
		if !changed && !all {
			break
		}
	}
	return t.lower()
}

// lower drops root branches with one child, and a root with nothing in it.
func (t *Tree) lower() error {
	for t.root != 0 {
		p, err := t.load(t.root, int(t.level), math.MaxUint64)
		if err != nil {
			return unlessDamage(err)
		}
		n := page.CountOf(p)
		if n > 1 || n == 1 && t.level == 0 {
			return nil
		}
		was := t.root
		if n == 0 {
			t.root, t.level, t.items = 0, 0, 0
		} else {
			t.root = page.Branch(p).Child(0)
			t.level--
		}
		t.w.Free(was, page.BornOf(p))
	}
	return nil
}

// join makes the page of the given level on the path part of a sibling if it is small, and takes it out if it is empty. It
// reports whether the parent has lost a child.
func (t *Tree) join(pa *path, level int) (bool, error) {
	s, up := &pa[level], &pa[level+1]
	parent := page.Branch(up.p)
	if page.CountOf(s.p) == 0 {
		i := max(up.i, 1)
		if err := t.closesBranch(parent, i, i+1); err != nil {
			return false, err
		}
		t.freeSeparator(parent, i)
		parent.Remove(up.i)
		t.w.Free(s.id, page.BornOf(s.p))
		return true, nil
	}
	if !small(s.p, level) {
		return false, nil
	}
	// The right sibling first: what stays is this page then, which is touched already.
	for _, left := range [2]int{up.i, up.i - 1} {
		if left < 0 || left+1 >= parent.Count() {
			continue
		}
		var done bool
		var err error
		if level == 0 {
			done, err = t.joinLeaves(parent, left)
		} else {
			done, err = t.joinBranches(parent, left, level)
		}
		if done || err != nil {
			return done, err
		}
	}
	if level > 0 && page.CountOf(s.p) == 1 {
		return false, t.borrow(parent, up.i, level)
	}
	return false, nil
}

// A damaged page beside the path is left alone: the change is none of its business, and may have been acknowledged long
// since. Whoever reads the page is told.

func isDamage(err error) bool {
	var c *page.CorruptError
	return errors.As(err, &c)
}

func unlessDamage(err error) error {
	if isDamage(err) {
		return nil
	}
	return err
}

// joinLeaves moves the entries of child left+1 of an own branch to child left, if one page can hold them.
func (t *Tree) joinLeaves(parent page.Branch, left int) (bool, error) {
	born := page.BornOf(parent)
	l, err := t.loadLeaf(parent.Child(left), born)
	if err != nil {
		return false, unlessDamage(err)
	}
	r, err := t.loadLeaf(parent.Child(left+1), born)
	if err != nil {
		return false, unlessDamage(err)
	}
	if l.Live()+r.Live() > joined(r) {
		return false, nil
	}
	if err := t.leavesAscend(l, r); err != nil {
		return false, unlessDamage(err)
	}
	if err := t.closesBranch(parent, left+1, left+2); err != nil {
		return false, unlessDamage(err)
	}
	s := step{}
	if s.id, s.p, err = t.touchChild(parent, left, 0); err != nil {
		return false, err
	}
	if page.Leaf(s.p).Free() < r.Live() {
		if err := t.compact(&s); err != nil {
			return false, err
		}
	}
	l = page.Leaf(s.p)
	if err := must(r.CopyRange(l, l.Count(), 0, r.Count()), s.id); err != nil {
		return false, err
	}
	t.freeSeparator(parent, left+1)
	t.drop(parent, left, leafHalf(l), page.BornOf(r))
	return true, nil
}

// drop takes child left+1 out of the parent and out of the tree, since child left has become both.
func (t *Tree) drop(parent page.Branch, left int, h half, born page.TxID) {
	gone := parent.Child(left + 1)
	parent.Remove(left + 1)
	describe(parent, left, h)
	t.w.Free(gone, born)
}

// joinBranches is joinLeaves for branches. The separator between them comes down into the page that stays, a long one
// with its run.
func (t *Tree) joinBranches(parent page.Branch, left, level int) (bool, error) {
	var buf sepBuffer
	sep := parent.Sep(left+1, buf[:0])
	born := page.BornOf(parent)
	lp, err := t.load(parent.Child(left), level, born)
	if err != nil {
		return false, unlessDamage(err)
	}
	rp, err := t.load(parent.Child(left+1), level, born)
	if err != nil {
		return false, unlessDamage(err)
	}
	if page.MergeSize(lp, rp, sep) > joined(lp) {
		return false, nil
	}
	if err := t.suits(lp, page.CountOf(lp)-1, math.MaxInt, sep); err != nil {
		return false, unlessDamage(err)
	}
	if err := t.suits(rp, 0, 1, sep); err != nil {
		return false, unlessDamage(err)
	}
	if err := t.closesBranch(parent, left+1, left+2); err != nil {
		return false, unlessDamage(err)
	}
	// Both are touched, because Move takes the entries out of the page that they come from.
	if _, lp, err = t.touchChild(parent, left, level); err != nil {
		return false, err
	}
	if _, rp, err = t.touchChild(parent, left+1, level); err != nil {
		return false, err
	}
	l, r := page.Branch(lp), page.Branch(rp)
	if err := must(r.Move(l, 0, r.Count(), sep), page.IDOf(l)); err != nil {
		return false, err
	}
	t.drop(parent, left, branchHalf(l), page.BornOf(r))
	return true, nil
}

// borrow gives child i of an own branch, a branch with a single child, more of them from a sibling.
func (t *Tree) borrow(parent page.Branch, i, level int) error {
	from, at := i+1, i+1 // the sibling, and the separator between the two
	if from >= parent.Count() {
		from, at = i-1, i
	}
	if from < 0 {
		return nil // no sibling: the parent is as lonely, and next
	}
	_, p, err := t.touchChild(parent, i, level)
	if err != nil {
		return err
	}
	_, sp, err := t.touchChild(parent, from, level)
	if err != nil {
		return err
	}
	b, other := page.Branch(p), page.Branch(sp)
	// Half of them may not fit where the prefix gets shorter. One always does.
	for _, n := range [2]int{other.Count() / 2, 1} {
		if other.Count()-n < 2 {
			continue
		}
		ok, err := t.lend(parent, other, b, at, n, from > i)
		if err != nil {
			return err
		}
		if ok {
			describe(parent, i, branchHalf(b))
			describe(parent, from, branchHalf(other))
			return nil
		}
	}
	return nil
}

// lend moves n children of from, its first ones or its last, to the branch to beside it. Separator at of the parent
// comes down between them and the one that now divides the two goes up. It reports false, with nothing changed, if that
// does not fit.
func (t *Tree) lend(parent, from, to page.Branch, at, n int, first bool) (bool, error) {
	var down, up sepBuffer
	old := parent.Sep(at, down[:0])
	k := n
	if !first {
		k = from.Count() - n
	}
	fresh := from.Sep(k, up[:0])
	if err := t.suits(parent, at-1, at+1, fresh); err != nil {
		return false, unlessDamage(err)
	}
	lo, hi := 0, 1 // where the other separators of from are, seen from old
	if !first {
		lo, hi = from.Count()-1, math.MaxInt
	}
	if err := t.suits(from, lo, hi, old); err != nil {
		return false, unlessDamage(err)
	}
	if !parent.ReplaceSep(at, fresh) {
		return false, nil
	}
	if first && from.Move(to, 0, k, old) || !first && from.MoveFront(to, k, from.Count(), old) {
		return true, nil
	}
	return false, must(parent.ReplaceSep(at, old), page.IDOf(parent))
}
