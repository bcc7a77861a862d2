package btree

import (
	"bytes"
	"errors"
	"math"

	"github.com/foliodb/folio/page"
)

// ErrNoRoom is what a Writer's methods return while pages are being moved and no place for another is left. The tree is
// whole then, and what has been moved stays moved.
var ErrNoRoom = errors.New("btree: no room to move a page to")

// Relocation moves the pages of trees that are numbered Limit or above, by making them the transaction's own: the
// Writer sees to it that these get lower numbers. It serves several trees, one after the other or one
// within the other, and ends with ErrNoRoom when the Writer says so, Moves is used up, or Visits.
//
// Runs that hold long separators of branches stay where they are.
type Relocation struct {
	Limit  page.ID
	Moves  int // pages that may still be moved, counted with the branches that have to move with them
	Visits int // pages that may still be looked at; a damaged file can lead in circles

	// Bucket is told of each nested bucket with pages of its own: its name and its entry's value, both valid
	// during the call. It must not change the tree that it is called from.
	Bucket OnBucket

	refused uint64 // pages of the shortest run for which there was no room; none so long is read again
}

// Relocate moves pages of the tree. Its items do not change. Leaves that stay are read only if runs or buckets are below.
func (t *Tree) Relocate(r *Relocation) error {
	if t.root == 0 {
		return nil
	}
	t.gen++ // cursors keep page numbers
	p, err := t.load(t.root, int(t.level), math.MaxUint64)
	if err != nil {
		return err
	}
	m := mover{t: t, r: r}
	m.pa[t.level] = step{id: t.root, p: p}
	return m.visit(int(t.level))
}

// mover is on its way through one tree.
type mover struct {
	t  *Tree
	r  *Relocation
	pa path
}

// visit moves what is at the path's step at a level, and below it.
func (m *mover) visit(level int) error {
	if m.r.Visits--; m.r.Visits < 0 {
		return ErrNoRoom
	}
	if m.pa[level].id >= m.r.Limit {
		if err := m.own(level); err != nil {
			return err
		}
	}
	if level == 0 {
		return m.leaf()
	}
	s := &m.pa[level]
	for s.i = 0; s.i < page.CountOf(s.p); s.i++ {
		b := page.Branch(s.p)
		child := b.Child(s.i)
		if level == 1 && child < m.r.Limit && !b.Refs(s.i) {
			continue
		}
		p, err := m.t.load(child, level-1, page.BornOf(b))
		if err != nil {
			return err
		}
		m.pa[level-1] = step{id: child, p: p}
		if err := m.visit(level - 1); err != nil {
			return err
		}
	}
	return nil
}

// own makes the page at a level the transaction's own, with the branches above it.
func (m *mover) own(level int) error {
	if m.r.Moves <= 0 {
		return ErrNoRoom
	}
	for at := int(m.t.level); at >= level; at-- {
		if err := m.touch(at); err != nil {
			return err
		}
	}
	return nil
}

// touch makes the page at a level the transaction's own; the one above it is.
func (m *mover) touch(at int) error {
	s := &m.pa[at]
	was := s.id
	var id page.ID
	var p []byte
	var err error
	if at == int(m.t.level) {
		id, p, err = m.t.touch(was, at)
	} else {
		above := &m.pa[at+1]
		id, p, err = m.t.touchChild(page.Branch(above.p), above.i, at)
	}
	if err != nil {
		return err
	}
	if at == int(m.t.level) {
		m.t.root = id
	}
	s.id, s.p = id, p
	if id != was {
		m.r.Moves--
	}
	return nil
}

// leaf moves the runs of the leaf that the path ends at, and tells of the buckets in it.
func (m *mover) leaf() error {
	for i := range page.CountOf(m.pa[0].p) {
		l := page.Leaf(m.pa[0].p)
		if l.Form(i) != page.Inline {
			if err := m.run(l, i); err != nil {
				return err
			}
			l = page.Leaf(m.pa[0].p)
		}
		if !l.IsBucket(i) {
			continue
		}
		name, value, _, err := m.t.item(l, i, false)
		if err != nil {
			return err
		}
		if h, _ := page.DecodeBucket(value); h.Root == 0 {
			continue
		}
		if err := m.r.Bucket(bytes.Clone(name), value); err != nil {
			return err
		}
	}
	return nil
}

// run moves the run of entry i. One for which there is no room stays, and costs nothing: were it counted, whoever goes on until
// fewer than Moves are used up would never end.
func (m *mover) run(l page.Leaf, i int) error {
	old := l.Ref(i)
	n, err := runLen(l, i)
	if err != nil {
		return err
	}
	pages := page.RunPages(uint64(n), len(l))
	if uint64(old.ID)+pages <= uint64(m.r.Limit) || m.r.refused > 0 && pages >= m.r.refused {
		return nil
	}
	if m.r.Moves <= 0 {
		return ErrNoRoom
	}
	content, err := m.t.readRun(page.IDOf(l), old, uint64(n))
	if err != nil {
		return err
	}
	ref, err := m.t.w.PutRun(content)
	if errors.Is(err, ErrNoRoom) {
		m.r.refused = pages
		return nil // there may be room for shorter ones
	}
	if err != nil {
		return err
	}
	if err := m.own(0); err != nil {
		m.t.w.FreeRun(ref, n)
		return err
	}
	m.r.Moves -= int(min(pages, math.MaxInt32))
	page.Leaf(m.pa[0].p).SetRef(i, ref)
	m.t.w.FreeRun(old, n)
	return nil
}
