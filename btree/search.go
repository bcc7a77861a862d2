package btree

import (
	"bytes"
	"errors"
	"math"

	"github.com/foliodb/folio/page"
)

// searchLeaf returns the index of the first entry that is not below key, and whether it is key's.
func (t *Tree) searchLeaf(l page.Leaf, key []byte) (i int, found bool, err error) {
	if page.FlagsOf(l)&page.FlagLong == 0 {
		i, found = l.Search(key)
		return i, found, nil
	}
	return t.searchLongLeaf(l, key)
}

// searchLongLeaf is searchLeaf for a leaf with long keys. The stub decides where it can, the run where it cannot.
func (t *Tree) searchLongLeaf(l page.Leaf, key []byte) (int, bool, error) {
	return l.SearchLong(key, func(i int) (int, error) {
		whole, err := t.longKey(l, i)
		return bytes.Compare(whole, key), err
	})
}

// searchBranch returns the index of the child in which key belongs.
func (t *Tree) searchBranch(b page.Branch, key []byte) (int, error) {
	if page.FlagsOf(b)&page.FlagLong == 0 {
		return b.Search(key), nil
	}
	return t.searchLongBranch(b, key)
}

func (t *Tree) searchLongBranch(b page.Branch, key []byte) (int, error) {
	return b.SearchLong(key, func(i int) (int, error) {
		whole, err := t.longSeparator(b, i)
		return bytes.Compare(whole, key), err
	})
}

// key returns the whole key of entry i.
func (t *Tree) key(l page.Leaf, i int) ([]byte, error) {
	if l.Form(i) == page.LongKey {
		return t.longKey(l, i)
	}
	return l.Key(i), nil
}

// longKey reads the key of entry i, a long one, from its run.
func (t *Tree) longKey(l page.Leaf, i int) ([]byte, error) {
	run, err := t.readRun(page.IDOf(l), l.Ref(i), l.RunLen(i))
	if err != nil {
		return nil, err
	}
	n := l.KeyLen(i)
	if !bytes.HasPrefix(run, l.Key(i)) {
		return nil, corrupt(l.Ref(i).ID, 0, 3, "run does not begin as its key in page %d does", page.IDOf(l))
	}
	return run[:n:n], nil
}

// run returns the value of entry i, which is not Inline.
func (t *Tree) run(l page.Leaf, i int) ([]byte, error) {
	run, err := t.readRun(page.IDOf(l), l.Ref(i), l.RunLen(i))
	if err != nil || l.Form(i) == page.RunValue {
		return run, err
	}
	n := l.KeyLen(i)
	value := run[n:]
	if l.IsBucket(i) {
		err = bucketIn(l.Ref(i).ID, n, len(l), page.ValidateBucket(value, len(l)))
	}
	return value, err
}

// bucketIn says of an error of page.ValidateBucket where the bucket lies: n bytes into the run at page id.
func bucketIn(id page.ID, n, pageSize int, err error) error {
	var c *page.CorruptError
	if errors.As(err, &c) {
		at := n + max(c.Offset, 0)
		c.Page, c.Offset = id+page.ID(at/pageSize), at%pageSize
	}
	return err
}

// separator returns the whole separator i, which is appended to buf if it is not a long one.
func (t *Tree) separator(b page.Branch, i int, buf []byte) ([]byte, error) {
	if b.IsLong(i) {
		return t.longSeparator(b, i)
	}
	return b.Separator(i, buf), nil
}

// longSeparator reads separator i, a long one, from its run.
func (t *Tree) longSeparator(b page.Branch, i int) ([]byte, error) {
	ref := b.SepRef(i)
	run, err := t.readRun(page.IDOf(b), ref, uint64(b.SepLen(i)))
	if err != nil {
		return nil, err
	}
	var stub [page.StubSize]byte
	if !bytes.HasPrefix(run, b.Separator(i, stub[:0])) {
		return nil, corrupt(ref.ID, 0, 3, "run does not begin as its separator in page %d does", page.IDOf(b))
	}
	return run, nil
}

// readRun reads a run that page id refers to.
func (t *Tree) readRun(id page.ID, r page.Ref, n uint64) ([]byte, error) {
	if n > math.MaxInt {
		return nil, tooLarge(id, n)
	}
	if t.w != nil {
		return t.w.Run(r, int(n))
	}
	return t.v.Run(r, int(n))
}

// runLen returns the length in bytes of the run of entry i, 0 if it has none.
func runLen(l page.Leaf, i int) (int, error) {
	n := l.RunLen(i)
	if n > math.MaxInt {
		return 0, tooLarge(page.IDOf(l), n)
	}
	return int(n), nil
}

func tooLarge(id page.ID, n uint64) error {
	return corrupt(id, -1, 2, "run of %d bytes is too large for this machine", n)
}

// freeRun frees the run of entry i, if it has one.
func (t *Tree) freeRun(l page.Leaf, i int) error {
	n, err := runLen(l, i)
	if n > 0 {
		t.w.FreeRun(l.Ref(i), n)
	}
	return err
}

// freeSeparator frees the run of separator i, if there is such a separator and it has one.
func (t *Tree) freeSeparator(b page.Branch, i int) {
	if i > 0 && i < b.Count() && b.IsLong(i) {
		t.w.FreeRun(b.SepRef(i), b.SepLen(i))
	}
}

// ascend checks that two keys which are to stand side by side in page id are in order. Between pages of a damaged file
// they may not be; moving entries must not make a page of that which is damaged in itself.
func ascend(id page.ID, left, right []byte) error {
	if bytes.Compare(left, right) >= 0 {
		return corrupt(id, -1, 3, "keys do not ascend from one page to the next")
	}
	return nil
}

// closes checks that what becomes neighbours is in order when entries from from up to to of a leaf go. Only long keys can have
// hidden that it is not: they were compared as far as their stubs go when the page was validated.
func (t *Tree) closes(l page.Leaf, from, to int) error {
	if page.FlagsOf(l)&page.FlagLong == 0 || from == 0 || to == l.Count() {
		return nil
	}
	left, err := t.key(l, from-1)
	if err != nil {
		return err
	}
	right, err := t.key(l, to)
	if err != nil {
		return err
	}
	return ascendIn(page.IDOf(l), left, right)
}

// ascendIn is ascend within a page.
func ascendIn(id page.ID, left, right []byte) error {
	if bytes.Compare(left, right) >= 0 {
		return corrupt(id, -1, 3, "keys do not ascend")
	}
	return nil
}

// closesBranch is closes for separators.
func (t *Tree) closesBranch(b page.Branch, from, to int) error {
	if page.FlagsOf(b)&page.FlagLong == 0 || from <= 1 || to >= b.Count() {
		return nil
	}
	left, err := t.separator(b, from-1, nil)
	if err != nil {
		return err
	}
	right, err := t.separator(b, to, nil)
	if err != nil {
		return err
	}
	return ascendIn(page.IDOf(b), left, right)
}

// suits checks that sep is in order between separators lo and hi of b, as far as there are such.
func (t *Tree) suits(b page.Branch, lo, hi int, sep page.Sep) error {
	key := sep.Key
	if sep.Len > page.MaxKey(len(b)) {
		var err error
		if key, err = t.readRun(page.IDOf(b), sep.Ref, uint64(sep.Len)); err != nil {
			return err
		}
	}
	var buf sepBuffer
	if lo > 0 {
		left, err := t.separator(b, lo, buf[:0])
		if err == nil {
			err = ascend(page.IDOf(b), left, key)
		}
		if err != nil {
			return err
		}
	}
	if hi < b.Count() {
		right, err := t.separator(b, hi, buf[:0])
		if err == nil {
			err = ascend(page.IDOf(b), key, right)
		}
		return err
	}
	return nil
}

// leavesAscend checks that the keys of one leaf are below those of the next.
func (t *Tree) leavesAscend(left, right page.Leaf) error {
	last, err := t.key(left, left.Count()-1)
	if err != nil {
		return err
	}
	first, err := t.key(right, 0)
	if err != nil {
		return err
	}
	return ascend(page.IDOf(right), last, first)
}
