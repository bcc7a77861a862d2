package btree

import (
	"bytes"
	"fmt"

	"github.com/foliodb/folio/page"
)

// step is one page on the way from the root to a leaf.
type step struct {
	id page.ID
	i  int // the child that was taken; in the leaf not used
	p  []byte
}

// path holds the steps of one way down, each at its level: the leaf's is path[0].
type path [page.MaxLevel]step

// maxItems is the largest number of items that a branch can note for a child.
const maxItems = 1<<47 - 1

// Put stores value under key, in place of what was there, and reports whether the key is new. bucket tells that value is a
// bucket's; an entry of the other kind under key is ErrKind. Both slices are copied.
func (t *Tree) Put(key, value []byte, bucket bool) (added bool, err error) {
	if len(key) == 0 || len(key) > page.MaxKeyLen || len(value) > page.MaxValueLen {
		panic(fmt.Sprintf("btree: key of %d bytes, value of %d", len(key), len(value)))
	}
	if t.root == 0 {
		if err := t.materialise(); err != nil {
			return false, err
		}
	}
	t.gen++ // touching changes page numbers, which cursors keep
	var pa path
	if err := t.descend(&pa, key); err != nil {
		return false, err
	}
	l := page.Leaf(pa[0].p)
	i, found, err := t.searchLeaf(l, key)
	if err != nil {
		return false, err
	}
	if found && l.IsBucket(i) != bucket {
		return false, ErrKind
	}
	e, refs, err := t.entry(len(l), key, value, bucket)
	if err != nil {
		return false, err
	}
	if refs {
		t.noteRefs(&pa)
	}
	if found {
		return false, t.replace(&pa, i, e)
	}
	t.count(&pa, 1)
	return true, t.insert(&pa, i, e)
}

// descend goes down to the leaf in which key belongs, and makes every page on the way the transaction's own.
func (t *Tree) descend(pa *path, key []byte) error {
	level := int(t.level)
	id, p, err := t.touch(t.root, level)
	if err != nil {
		return err
	}
	t.root = id
	for {
		pa[level] = step{id: id, p: p}
		if level == 0 {
			return nil
		}
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return err
		}
		pa[level].i = i
		level--
		if id, p, err = t.touchChild(b, i, level); err != nil {
			return err
		}
	}
}

// touch makes page id, which is to have the given level, the transaction's own.
func (t *Tree) touch(id page.ID, level int) (page.ID, []byte, error) {
	own, p, err := t.w.Touch(id)
	if err != nil {
		return 0, nil, err
	}
	if page.LevelOf(p) != level {
		return 0, nil, corrupt(id, 13, 2, "level %d where level %d belongs", page.LevelOf(p), level)
	}
	return own, p, nil
}

// touchChild makes child i of b, an own branch, the transaction's own too.
func (t *Tree) touchChild(b page.Branch, i, level int) (page.ID, []byte, error) {
	was := b.Child(i)
	id, p, err := t.touch(was, level)
	if err == nil && id != was {
		b.SetChild(i, id)
	}
	return id, p, err
}

// entry makes the entry for an item, its run written if it needs one, and reports whether it is one that FlagRefs
// speaks of.
func (t *Tree) entry(pageSize int, key, value []byte, bucket bool) (e page.Entry, refs bool, err error) {
	e = page.Entry{Key: key, KeyLen: len(key), Value: value, ValLen: len(value), Bucket: bucket}
	switch page.FormOf(pageSize, len(key), len(value)) {
	case page.RunValue:
		e.Ref, err = t.w.PutRun(value)
	case page.LongKey:
		// A copy, so that the keys of callers need not live on the heap for the sake of long ones.
		e.Ref, err = t.w.PutRun(bytes.Clone(key), value)
	default:
		return e, bucket, nil
	}
	return e, true, err
}

// noteRefs sets the refs bits on the way up to the root.
func (t *Tree) noteRefs(pa *path) {
	for level := 1; level <= int(t.level); level++ {
		s := &pa[level]
		if b := page.Branch(s.p); !b.Refs(s.i) {
			b.SetRefs(s.i, true)
		}
	}
}

// count adds n to the number of items below every page on the way.
func (t *Tree) count(pa *path, n uint64) {
	t.items += n
	for level := 1; level <= int(t.level); level++ {
		s := &pa[level]
		b := page.Branch(s.p)
		b.SetItems(s.i, min(b.Items(s.i)+n, maxItems))
	}
}

// replace makes e the entry i, which has the same key.
func (t *Tree) replace(pa *path, i int, e page.Entry) error {
	l := page.Leaf(pa[0].p)
	var old page.Ref
	n, err := runLen(l, i)
	if err != nil {
		return err
	}
	if n > 0 {
		old = l.Ref(i)
	}
	if !l.Replace(i, e) {
		l.Remove(i)
		if err := t.makeRoom(pa, i, e, middle); err != nil {
			return err
		}
	}
	if n > 0 {
		t.w.FreeRun(old, n)
	}
	return nil
}

// insert puts e before entry i of the leaf at the path's end.
func (t *Tree) insert(pa *path, i int, e page.Entry) error {
	if page.Leaf(pa[0].p).Insert(i, e) {
		return nil
	}
	return t.makeRoom(pa, i, e, t.loading(pa, i))
}
