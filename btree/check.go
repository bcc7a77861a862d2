package btree

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/foliodb/folio/page"
)

// Checker is told what Check meets. Found must be set; the rest may be nil.
type Checker struct {
	// Found is told of everything that is wrong. Check goes on behind it.
	Found func(*page.CorruptError)

	// Root is where the bucket header of the tree lies.
	Root Place

	// Page is told of every page, before it is read, of the level it should have, and of where it is named. It returns false
	// for one that is not to be looked at, because it was met before or cannot exist. Without it a page that is named over
	// and over is read over and over.
	Page func(id page.ID, level int, at Place) bool

	// Run is told of every run, its length in bytes, and where it is named, before it is read; false: it is not to be read.
	Run func(r page.Ref, n int, at Place) bool

	// Bucket is told of every nested bucket: its name, its entry's value, and where the value lies. The slices are those
	// of the page.
	Bucket func(name, value []byte, at Place)
}

// A Place is a byte of the file: where something is named that a finding is about. The zero Place is none.
type Place struct {
	Page   page.ID
	Offset int
}

// field is a place in a bucket header that lies there; of one that is not known, the root page as a whole.
func (p Place) field(root page.ID, off int) Place {
	if p == (Place{}) {
		return Place{root, -1}
	}
	return Place{p.Page, p.Offset + off}
}

// Check verifies everything that one tree can show of invariants 2 and 3: that every page can be read and is where its
// level, its birth and its keys belong, that the numbers of items add up, that the refs bits promise no leaf to be free of
// runs that is not, that every run has its checksum. Nested buckets are named, not entered.
func (t *Tree) Check(c Checker) {
	ch := &check{t: t, Checker: c}
	if ch.Page == nil {
		ch.Page = func(page.ID, int, Place) bool { return true }
	}
	if ch.Run == nil {
		ch.Run = func(page.Ref, int, Place) bool { return true }
	}
	if ch.Bucket == nil {
		ch.Bucket = func(name, value []byte, at Place) {}
	}
	if t.root == 0 {
		if t.image != nil {
			ch.leaf(t.image, bounds{})
		}
		return
	}
	if int(t.level) >= page.MaxLevel {
		at := c.Root.field(t.root, page.BucketLevel)
		ch.found(at.Page, at.Offset, 2, "tree of %d levels", int(t.level)+1)
		return
	}
	n, _, ok := ch.visit(t.root, int(t.level), math.MaxUint64, bounds{}, c.Root.field(t.root, page.BucketRoot), true)
	if ok && n != t.items {
		at := c.Root.field(t.root, page.BucketItems)
		ch.found(at.Page, at.Offset, 3, "%d items in the tree, its bucket says %d", n, t.items)
	}
}

// check is one run of Check.
type check struct {
	Checker
	t *Tree
}

func (c *check) found(id page.ID, offset, invariant int, format string, args ...any) {
	c.Found(&page.CorruptError{Page: id, Offset: offset, Invariant: invariant, Reason: fmt.Sprintf(format, args...)})
}

// failed reports an error met on page id.
func (c *check) failed(id page.ID, err error) {
	var ce *page.CorruptError
	if !errors.As(err, &ce) {
		ce = &page.CorruptError{Page: id, Offset: -1, Invariant: 2, Reason: "cannot be read", Err: err}
	}
	c.Found(ce)
}

// visit checks a page and all below it. It returns the number of items and whether there are refs; ok is false if that is
// not known.
func (c *check) visit(id page.ID, level int, born page.TxID, in bounds, at Place, root bool) (items uint64, refs, ok bool) {
	if !c.Page(id, level, at) {
		return 0, false, false
	}
	p, err := c.t.page(id)
	if err != nil {
		c.failed(id, err)
		return 0, false, false
	}
	if page.BornOf(p) > born {
		c.failed(id, misplaced(p, id, page.LevelOf(p), born))
	}
	if page.LevelOf(p) != level {
		c.failed(id, misplaced(p, id, level, born))
		return 0, false, false
	}
	refs = page.FlagsOf(p)&page.FlagRefs != 0
	if level > 0 {
		items, ok = c.children(p, level, c.separators(p, in))
		return items, refs, ok
	}
	l := page.Leaf(p)
	if l.Count() == 0 && !root {
		c.found(id, 24, 2, "empty leaf below a branch")
	}
	c.leaf(l, in)
	return uint64(l.Count()), refs, true
}

// leaf checks keys, runs and buckets of a leaf.
func (c *check) leaf(l page.Leaf, in bounds) {
	id := page.IDOf(l)
	var last []byte
	for i := range l.Count() {
		claimed, whole := c.run(l, i)
		if !claimed && l.Form(i) == page.LongKey {
			continue
		}
		key, err := c.t.key(l, i)
		if err != nil {
			if whole { // else it was reported
				c.failedRun(Place{id, l.RefAt(i)}, err)
			}
			continue
		}
		if last != nil && bytes.Compare(last, key) >= 0 {
			c.found(id, l.KeyAt(i), 3, "key %d is not above the one before", i)
		}
		last = key
		in = c.inside(id, l.KeyAt(i), key, i, in, false)
		if whole && l.IsBucket(i) {
			_, value, _, err := c.t.item(l, i, false)
			if err != nil {
				c.failed(id, err)
				continue
			}
			c.Bucket(key, value, c.valueAt(l, i))
		}
	}
}

// run checks the run of entry i, if it has one. It returns whether that may be read, and whether it is sound.
func (c *check) run(l page.Leaf, i int) (claimed, whole bool) {
	if l.Form(i) == page.Inline {
		return true, true
	}
	id := page.IDOf(l)
	n, err := runLen(l, i)
	if err == nil {
		if !c.Run(l.Ref(i), n, Place{id, l.RefAt(i)}) {
			return false, false
		}
		_, err = c.t.run(l, i)
	}
	if err != nil {
		c.failedRun(Place{id, l.RefAt(i)}, err)
	}
	if page.FlagsOf(l)&page.FlagRefs == 0 {
		c.found(id, 14, 3, "entry %d has a run, but the page says there is none", i)
	}
	return true, err == nil
}

// failedRun reports an error of a run, and where it is named: its checksum, and the length that goes with it, lie there.
func (c *check) failedRun(at Place, err error) {
	var ce *page.CorruptError
	if errors.As(err, &ce) && ce.Page != at.Page {
		told := *ce
		told.Reason = fmt.Sprintf("%s; page %d refers to it at offset %d", ce.Reason, at.Page, at.Offset)
		err = &told
	}
	c.failed(at.Page, err)
}

// valueAt returns where the value of entry i lies: in the page, or behind a long key in the run.
func (c *check) valueAt(l page.Leaf, i int) Place {
	if l.Form(i) == page.Inline {
		return Place{page.IDOf(l), l.RefAt(i)}
	}
	n := 0
	if l.Form(i) == page.LongKey {
		n = l.KeyLen(i)
	}
	return Place{l.Ref(i).ID + page.ID(n/len(l)), n % len(l)}
}

// inside checks that key i of a page lies in its bounds, and returns those that the next key is to be checked against: one that
// was passed is reported once. A separator at the lower bound itself would leave its child no keys.
func (c *check) inside(id page.ID, offset int, key []byte, i int, in bounds, separator bool) bounds {
	if in.lo != nil {
		if cmp := bytes.Compare(key, in.lo); cmp < 0 || cmp == 0 && separator {
			c.found(id, offset, 3, "key %d is below the parent's separator", i)
		}
	}
	in.lo = nil // keys ascend
	if in.hi != nil && bytes.Compare(key, in.hi) >= 0 {
		c.found(id, offset, 3, "key %d is not below the parent's next separator", i)
		in.hi = nil
	}
	return in
}

// separators checks the separators of a branch, and their runs. It returns those that could be read, the others as nil, between
// the branch's own bounds: child i belongs between i and i+1.
func (c *check) separators(b page.Branch, in bounds) [][]byte {
	id, n := page.IDOf(b), b.Count()
	all := make([][]byte, n+1)
	all[0], all[n] = in.lo, in.hi
	for i := 1; i < n; i++ {
		if b.IsLong(i) && !c.Run(b.SepRef(i), b.SepLen(i), Place{id, b.SepRefAt(i)}) {
			continue
		}
		key, err := c.t.separator(b, i, nil)
		if err != nil {
			c.failedRun(Place{id, b.SepRefAt(i)}, err)
			continue
		}
		all[i] = key
		if i > 1 && all[i-1] != nil && bytes.Compare(all[i-1], key) >= 0 {
			c.found(id, b.SeparatorAt(i), 3, "separator %d is not above the one before", i)
		}
		in = c.inside(id, b.SeparatorAt(i), key, i, in, true)
	}
	return all
}

// ahead has n of the leaves below a branch, from child i on, read while the first of them are checked. See readahead.
func (c *check) ahead(b page.Branch, i, n int) {
	v := c.t.v
	n = min(n, b.Count()-i)
	const samples = 4 // to ask for each takes a third of the time that a check takes where everything is in memory
	here := 0
	for k := range samples {
		if v.Here(b.Child(i+k*n/samples), 1) {
			here++
		}
	}
	if here == samples {
		return
	}
	var missing []page.ID
	for k := range n {
		if id := b.Child(i + k); !v.Here(id, 1) {
			missing = append(missing, id)
		}
	}
	v.Prefetch(missing, 1)
}

// children checks the pages below a branch, and what it says of them.
func (c *check) children(b page.Branch, level int, separators [][]byte) (items uint64, ok bool) {
	id, ok := page.IDOf(b), true
	for i := range b.Count() {
		if level == 1 && c.t.v != nil {
			if n := leavesAhead(c.t.v); i%(n/2) == 0 {
				c.ahead(b, i, n)
			}
		}
		n, refs, known := c.visit(b.Child(i), level-1, page.BornOf(b), bounds{separators[i], separators[i+1]}, Place{id, b.ChildAt(i)}, false)
		if !known {
			ok = false
			continue
		}
		items += n
		if n != b.Items(i) {
			c.found(id, b.CountAt(i), 3, "%d items below child %d, not %d", n, i, b.Items(i))
		}
		if refs && !b.Refs(i) {
			c.found(id, b.CountAt(i), 3, "child %d has refs, but is said to have none", i)
		}
	}
	return items, ok
}
