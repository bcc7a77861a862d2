package folio

import (
	"runtime/debug"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
)

// Who applies sorted operations to a store of which this process has read little, behind an unclean stop above all, spends a quarter of his time
// on the first touch of leaves: a system call and a checksum each, and a read where the system does not have them either. A scout goes the same
// way through the published snapshot at the same time. It only looks, so it is soon ahead. It changes nothing but
// the marks that every reader sets, and what it finds wrong, a fault in the mapping too, it leaves to who comes after it.
type scout struct {
	db         *DB
	s          *sorter // its order is complete, and does not change while the scout is out
	snapshot   *snapshot
	shard      *pinShard // the scout reads like any transaction
	view       page.View
	tree       btree.Tree
	quit, done chan struct{}
}

// scoutFrom is how many operations are worth a goroutine.
const scoutFrom = 4096

// send sends out a scout, if it is worth it. The function that is returned calls it back.
func (s *sorter) send(db *DB) (recall func()) {
	if len(s.changes) < scoutFrom || db.opts.alone || db.pager.private {
		return func() {}
	}
	w := newScout(db, s)
	go w.run()
	return func() {
		close(w.quit)
		<-w.done
	}
}

// newScout is a scout that has pinned its snapshot; run lets go of it.
func newScout(db *DB, s *sorter) *scout {
	w := &scout{db: db, s: s, quit: make(chan struct{}), done: make(chan struct{})}
	w.snapshot, w.shard = db.hold()
	w.view = w.snapshot.view
	return w
}

func (w *scout) run() {
	var err error // nobody's: see scout
	defer close(w.done)
	defer w.db.unpin(w.shard)
	tx := &Tx{db: w.db, snapshot: w.snapshot} // for faults in the mapping
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	if !w.worthIt() {
		return
	}
	last := page.ID(0)
	for i := range w.s.changes {
		c := &w.s.changes[i]
		if i == 0 || c.bucket != w.s.changes[i-1].bucket {
			if w.enter(c.bucket) != nil {
				return
			}
		}
		leaf, err := w.look(c)
		if err != nil {
			return
		}
		if leaf == last {
			continue
		}
		last = leaf
		if leaf != 0 && !w.view.Known(leaf) {
			if _, err := w.view.Page(leaf); err != nil {
				return
			}
		}
		select {
		case <-w.quit:
			return
		default:
		}
	}
}

// worthIt asks of a few leaves whether this process knows them.
func (w *scout) worthIt() bool {
	const samples = 16
	unknown := 0
	for i := range samples {
		c := &w.s.changes[i*(len(w.s.changes)/samples)]
		if w.enter(c.bucket) != nil {
			return false
		}
		leaf, err := w.look(c)
		if err != nil {
			return false
		}
		if leaf != 0 && !w.view.Known(leaf) {
			unknown++
		}
	}
	return unknown > samples/4
}

// look returns the leaf that an operation is about, 0 where the branches say that it has nothing of it, or there is none.
func (w *scout) look(c *change) (page.ID, error) {
	leaf, _, err := w.tree.Plain(w.s.op(c).Key)
	return leaf, err
}

// enter goes to a bucket of the snapshot. One that is not there yet is empty.
func (w *scout) enter(bucket uint32) error {
	w.tree.Init(w.snapshot.root, nil, &w.view, nil)
	for name := range w.s.paths[bucket].All() {
		value, is, found, err := w.tree.Peek(name)
		if err != nil {
			return err
		}
		if !found || !is {
			w.tree.Init(page.BucketHeader{}, nil, &w.view, nil)
			return nil
		}
		h, image := page.DecodeBucket(value)
		w.tree.Init(h, image, &w.view, nil)
	}
	return nil
}
