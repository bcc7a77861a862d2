package btree

import (
	"bytes"
	"math"

	"github.com/foliodb/folio/page"
)

// Cursor moves through a tree in key order. Its place is a key, not a position: after any change of the tree Next gives
// the smallest key above the place, and Prev the largest below, whether or not the place's own item is still there.
//
// A cursor that was never placed gives nothing, and one that has come to an end stays on the last item it gave. Every
// method returns a nil key where there is no item. Keys and values are valid and unchanged until the transaction ends.
//
// After an error Next and Prev return that error until First, Last or Seek places the cursor anew.
type Cursor struct {
	t    *Tree
	leaf page.Leaf // where the place is, as long as gen is the tree's; nil: known by its key only
	key  []byte    // the place; nil: nowhere
	i    int       // the place in leaf
	n    int       // entries of leaf if all of them are plain (neither run nor bucket), else 0
	gen  uint64
	err  error
	path [page.MaxLevel]frame // the branches above leaf, each at its level

	reading *readahead // nil: the leaves are in memory
	turns   uint32     // from leaf to leaf
	unknown int        // leaves on the way that this process did not know, as long as it does not read ahead
}

// frame is a branch above the cursor's leaf.
type frame struct {
	id page.ID
	i  int32 // the child that was taken
}

// Init readies c for a tree, placed nowhere.
func (c *Cursor) Init(t *Tree) { *c = Cursor{t: t, gen: t.gen} }

// Key returns the key of the place; nil: the cursor was not placed.
func (c *Cursor) Key() []byte { return c.key }

// Next goes to the smallest key above the place.
func (c *Cursor) Next() (key, value []byte, bucket bool, err error) {
	if i := c.i + 1; i < c.n && c.gen == c.t.gen {
		key, value, _, _ = c.leaf.Item(i)
		c.i, c.key = i, key
		return key, value, false, nil
	}
	return c.move(+1)
}

// Prev goes to the largest key below the place.
func (c *Cursor) Prev() (key, value []byte, bucket bool, err error) {
	if i := c.i - 1; i >= 0 && c.n > 0 && c.gen == c.t.gen {
		key, value, _, _ = c.leaf.Item(i)
		c.i, c.key = i, key
		return key, value, false, nil
	}
	return c.move(-1)
}

// Step is Next where that needs no other page than the cursor's leaf; elsewhere it returns a nil key and does nothing.
// It spares View and Update, which guard all that is done in them, the way through all that a move may need.
func (c *Cursor) Step() (key, value []byte) {
	if i := c.i + 1; i < c.n && c.gen == c.t.gen {
		key, value, _, _ = c.leaf.Item(i)
		c.i, c.key = i, key
	}
	return key, value
}

// StepBack is Prev as Step is Next.
func (c *Cursor) StepBack() (key, value []byte) {
	if i := c.i - 1; i >= 0 && c.n > 0 && c.gen == c.t.gen {
		key, value, _, _ = c.leaf.Item(i)
		c.i, c.key = i, key
	}
	return key, value
}

// First goes to the smallest key. In an empty tree the cursor is then placed nowhere.
func (c *Cursor) First() (key, value []byte, bucket bool, err error) { return c.outermost(+1) }

// Last goes to the largest key. In an empty tree the cursor is then placed nowhere.
func (c *Cursor) Last() (key, value []byte, bucket bool, err error) { return c.outermost(-1) }

// Seek goes to the smallest key that is not below key. If there is none, it returns a nil key, and the place is key: Prev
// gives the last item then.
func (c *Cursor) Seek(key []byte) (k, value []byte, bucket bool, err error) {
	c.err, c.reading, c.unknown = nil, nil, 0
	i, _, err := c.descend(key)
	if err != nil {
		return c.fail(err)
	}
	ok, err := c.reach(i)
	if err != nil {
		return c.fail(err)
	}
	if !ok {
		c.placeAt(append(make([]byte, 0, max(len(key), 1)), key...))
		return nil, nil, false, nil
	}
	k, value, bucket, err = c.take()
	if err == nil && bytes.Compare(k, key) < 0 {
		err = c.disorder()
	}
	if err != nil {
		return c.fail(err)
	}
	return k, value, bucket, nil
}

// outermost goes to the first or the last item.
func (c *Cursor) outermost(dir int) (key, value []byte, bucket bool, err error) {
	c.err, c.reading, c.unknown = nil, nil, 0
	c.placeAt(nil)
	t := c.t
	if t.root == 0 {
		if t.image == nil {
			return nil, nil, false, nil
		}
		c.enter(t.image)
	} else {
		p, err := t.load(t.root, int(t.level), math.MaxUint64)
		if err != nil {
			return c.fail(err)
		}
		if err := c.down(p, t.root, int(t.level), dir); err != nil {
			return c.fail(err)
		}
	}
	n := c.leaf.Count()
	if n == 0 {
		id := page.IDOf(c.leaf)
		c.placeAt(nil)
		if t.level > 0 {
			return c.fail(emptyLeaf(id))
		}
		return nil, nil, false, nil
	}
	if c.i = 0; dir < 0 {
		c.i = n - 1
	}
	if key, value, bucket, err = c.take(); err != nil {
		return c.fail(err)
	}
	return key, value, bucket, nil
}

// move is Next and Prev where the next item is not simply the leaf's next.
func (c *Cursor) move(dir int) (key, value []byte, bucket bool, err error) {
	if c.err != nil || c.key == nil {
		return nil, nil, false, c.err
	}
	was, from, at := c.key, c.leaf, c.i
	known := c.leaf != nil && c.gen == c.t.gen
	i := c.i + dir
	if !known {
		j, found, err := c.descend(was)
		if err != nil {
			return c.fail(err)
		}
		if i = j; dir < 0 {
			i--
		} else if found {
			i++
		}
	}
	ok, err := c.reach(i)
	if err != nil {
		return c.fail(err)
	}
	if !ok {
		if !known {
			c.placeAt(was)
		}
		return nil, nil, false, nil
	}
	key, value, bucket, err = c.take()
	if err == nil && !(known && c.leads(from, at, dir)) && bytes.Compare(key, was)*dir <= 0 {
		err = c.disorder()
	}
	if err != nil {
		return c.fail(err)
	}
	return key, value, bucket, nil
}

// leads reports whether the beginning of its key alone tells that the cursor's item lies in direction dir of item i of leaf l.
func (c *Cursor) leads(l page.Leaf, i, dir int) bool {
	t := c.t
	if t.w != nil || t.root == 0 {
		return false
	}
	a, n := t.v.Lead(l, i)
	b, m := t.v.Lead(c.leaf, c.i)
	rest := 64 - 8*min(n, m) // with no bytes both are zero
	a, b = a>>rest, b>>rest
	return dir > 0 && a < b || dir < 0 && a > b
}

// reach makes i, which may lie one before or behind the leaf's entries, the cursor's position, in the neighbouring leaf
// if need be. It reports false, the position unchanged, if the tree ends there.
func (c *Cursor) reach(i int) (bool, error) {
	if c.leaf == nil {
		return false, nil
	}
	if i >= 0 && i < c.leaf.Count() {
		c.i = i
		return true, nil
	}
	dir := +1
	if i < 0 {
		dir = -1
	}
	ok, err := c.turn(dir)
	if !ok || err != nil {
		return false, err
	}
	if c.i = 0; dir < 0 {
		c.i = c.leaf.Count() - 1
	}
	return true, nil
}

// take returns the item at the cursor's position, and makes its key the place.
func (c *Cursor) take() (key, value []byte, bucket bool, err error) {
	key, value, bucket, err = c.t.item(c.leaf, c.i, true)
	c.key = key
	return key, value, bucket, err
}

// fewItems is how close to its leaf's end a cursor is placed for the next leaf to be asked for at once.
const fewItems = 16

// descend goes to the leaf in which key belongs, and returns where in it.
func (c *Cursor) descend(key []byte) (i int, found bool, err error) {
	t := c.t
	if t.root == 0 {
		c.enter(t.image)
		if t.image == nil {
			return 0, false, nil
		}
		return t.searchLeaf(t.image, key)
	}
	id, born := t.root, page.TxID(math.MaxUint64)
	var next page.ID // the leaf behind
	for level := int(t.level); ; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return 0, false, err
		}
		if level == 0 {
			if page.CountOf(p) == 0 && t.level > 0 {
				return 0, false, emptyLeaf(id)
			}
			c.enter(p)
			i, found, err = t.searchLeaf(c.leaf, key)
			if next != 0 && page.CountOf(p)-i < fewItems {
				t.v.Ahead(next)
			}
			return i, found, err
		}
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return 0, false, err
		}
		c.path[level] = frame{id, int32(i)}
		id, born = b.Child(i), page.BornOf(p)
		if level == 1 && t.w == nil {
			t.v.Ahead(id)
			if i+1 < b.Count() {
				next = b.Child(i + 1)
			}
		}
	}
}

// turn goes to the next leaf or to the one before, and reports false if there is none.
func (c *Cursor) turn(dir int) (bool, error) {
	t := c.t
	if t.root == 0 {
		return false, nil
	}
	for level := 1; level <= int(t.level); level++ {
		f := &c.path[level]
		p, err := t.load(f.id, level, math.MaxUint64)
		if err != nil {
			return false, err
		}
		b := page.Branch(p)
		i := int(f.i) + dir
		if i < 0 || i >= b.Count() {
			continue
		}
		f.i = int32(i)
		id := b.Child(i)
		// Two leaves ahead: one is looked through in about the time that the memory takes.
		if j := i + 2*dir; level == 1 && t.w == nil && j >= 0 && j < b.Count() {
			t.v.Ahead(b.Child(j))
		}
		if level == 1 && t.v != nil {
			if c.turns++; c.reading != nil || c.turns%sampleKnown == 0 || !t.v.Known(id) {
				c.ahead(id, dir)
			}
		}
		if p, err = t.load(id, level-1, page.BornOf(p)); err != nil {
			return false, err
		}
		if err := c.down(p, id, level-1, dir); err != nil {
			return false, err
		}
		if c.leaf.Count() == 0 {
			return false, emptyLeaf(page.IDOf(c.leaf))
		}
		return true, nil
	}
	return false, nil
}

// down goes from page p to the outermost leaf below it, on the side from which dir leads away.
func (c *Cursor) down(p []byte, id page.ID, level, dir int) error {
	for ; level > 0; level-- {
		b := page.Branch(p)
		i := 0
		if dir < 0 {
			i = b.Count() - 1
		}
		c.path[level] = frame{id, int32(i)}
		id = b.Child(i)
		if level == 1 && c.t.w == nil {
			c.t.v.Ahead(id)
			if j := i + dir; j >= 0 && j < b.Count() {
				c.t.v.Ahead(b.Child(j))
			}
		}
		if level == 1 && c.reading != nil {
			c.ahead(id, dir)
		}
		var err error
		if p, err = c.t.load(id, level-1, page.BornOf(p)); err != nil {
			return err
		}
	}
	c.enter(p)
	return nil
}

// enter makes l the cursor's leaf. Its bytes are exposed by the first take that follows.
func (c *Cursor) enter(l page.Leaf) {
	c.leaf, c.gen, c.n = l, c.t.gen, 0
	if l == nil {
		return
	}
	if page.FlagsOf(l)&(page.FlagRefs|page.FlagLong) == 0 {
		c.n = l.Count()
	}
}

// placeAt makes key the place, without a position in a leaf.
func (c *Cursor) placeAt(key []byte) { c.leaf, c.n, c.key = nil, 0, key }

// fail makes err what Next and Prev return from now on.
func (c *Cursor) fail(err error) ([]byte, []byte, bool, error) {
	c.err = err
	c.leaf, c.n = nil, 0
	return nil, nil, false, err
}

// disorder is the error for a leaf whose keys are not where the cursor's way leads. Without it, a file in which a
// leaf comes up again and again would keep a cursor moving for ever.
func (c *Cursor) disorder() error {
	return corrupt(page.IDOf(c.leaf), -1, 3, "keys are not in order from leaf to leaf")
}
