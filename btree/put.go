package btree

import (
	"bytes"
	"fmt"
	"math"

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
	var first path
	pa := &first
	i, found, there := t.rejoin(key)
	t.gen++ // touching changes page numbers, which cursors keep
	if t.last != nil {
		pa = &t.last.pa
	} else if t.gen > 1 {
		t.last = new(trail)
		pa = &t.last.pa
	}
	if !there {
		if err := t.descend(pa, key); err != nil {
			return false, err
		}
		if i, found, err = t.searchLeaf(page.Leaf(pa[0].p), key); err != nil {
			return false, err
		}
	}
	return t.putAt(pa, i, found, key, value, bucket)
}

// Append is Put of a key above all others, as long as the one before was one too. It reports whether it has put it; otherwise nothing has changed.
func (t *Tree) Append(key, value []byte) (done bool, err error) {
	l := t.lastLeaf()
	if l == nil {
		return false, nil
	}
	// Not Search: where all come behind the last one there is nothing to look for.
	n := l.Count()
	if n == 0 || bytes.Compare(l.Key(n-1), key) >= 0 || !t.ownWay(true) {
		return false, nil
	}
	t.gen++
	_, err = t.putAt(&t.last.pa, n, false, key, value, false)
	return err == nil, err
}

// putAt is Put for who has gone down to the leaf, and found the key, or the place for it, at entry i.
func (t *Tree) putAt(pa *path, i int, found bool, key, value []byte, bucket bool) (added bool, err error) {
	l := page.Leaf(pa[0].p)
	if found && l.IsBucket(i) != bucket {
		return false, ErrKind
	}
	e, refs, err := t.entry(len(l), key, value, bucket)
	if err != nil {
		return false, err
	}
	if refs {
		t.noteRefs(pa)
	}
	var kept bool
	if found {
		kept, err = t.replace(pa, i, e)
	} else {
		t.count(pa, 1)
		kept, err = t.insert(pa, i, e)
	}
	if kept && t.last != nil {
		t.last.gen = t.gen
	}
	return !found, err
}

// trail is the way that the last Put went down, for the next one: keys that come in order often belong in the same leaf.
type trail struct {
	gen uint64 // of the tree when the way was right: 0, never
	pa  path

	ahead []Change // of PutAhead
	taken int      // how many of these have been done
}

// rejoin reports whether key belongs in the leaf that the last Put has changed, and where. Nothing has changed the tree since, and
// every page on the way is still the transaction's own and on the heap. Between two entries of the leaf there is room for no other
// leaf, nor behind the last one of all.
func (t *Tree) rejoin(key []byte) (i int, found, ok bool) {
	l := t.lastLeaf()
	if l == nil {
		return 0, false, false
	}
	i, found = l.Search(key)
	if !found && i == 0 || !t.ownWay(!found && i == l.Count()) {
		return 0, false, false
	}
	return i, found, true
}

// lastLeaf returns the leaf that the last Put has changed; nil: the tree has changed since, or the leaf is not the transaction's own any more, or has long keys.
func (t *Tree) lastLeaf() page.Leaf {
	if t.last == nil || t.last.gen != t.gen {
		return nil
	}
	s := &t.last.pa[0]
	if s.p = t.w.Own(s.id); s.p == nil || page.FlagsOf(s.p)&page.FlagLong != 0 {
		return nil
	}
	return page.Leaf(s.p)
}

// ownWay reports whether all branches on the way of the last Put are the transaction's own still, and, if it has to be, whether that is the way to the last leaf.
func (t *Tree) ownWay(rightmost bool) bool {
	for level := 1; level <= int(t.level); level++ {
		s := &t.last.pa[level]
		if s.p = t.w.Own(s.id); s.p == nil || rightmost && s.i != page.CountOf(s.p)-1 {
			return false
		}
	}
	return true
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

// Above reports whether key is above all keys of the tree.
func (t *Tree) Above(key []byte) (bool, error) {
	if t.root == 0 {
		return t.image == nil || t.image.Count() == 0, nil
	}
	id, born := t.root, page.TxID(math.MaxUint64)
	for level := int(t.level); ; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return false, err
		}
		n := page.CountOf(p)
		if n == 0 {
			return true, nil // a root, or damage that a Put will find
		}
		if level == 0 {
			last, err := t.key(page.Leaf(p), n-1)
			return err == nil && bytes.Compare(last, key) < 0, err
		}
		id, born = page.Branch(p).Child(n-1), page.BornOf(p)
	}
}

// replace makes e the entry i, which has the same key. It reports whether the path is as it was.
func (t *Tree) replace(pa *path, i int, e page.Entry) (kept bool, err error) {
	l := page.Leaf(pa[0].p)
	var old page.Ref
	n, err := runLen(l, i)
	if err != nil {
		return false, err
	}
	if n > 0 {
		old = l.Ref(i)
	}
	kept = l.Replace(i, e)
	if !kept {
		l.Remove(i)
		if err := t.makeRoom(pa, i, e, middle); err != nil {
			return false, err
		}
	}
	if n > 0 {
		t.w.FreeRun(old, n)
	}
	return kept, nil
}

// insert puts e before entry i of the leaf at the path's end. It reports whether the path is as it was.
func (t *Tree) insert(pa *path, i int, e page.Entry) (kept bool, err error) {
	if page.Leaf(pa[0].p).Insert(i, e) {
		return true, nil
	}
	return false, t.makeRoom(pa, i, e, t.loading(pa, i))
}
