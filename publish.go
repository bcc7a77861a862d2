package folio

import (
	"github.com/foliodb/folio/page"
)

// publish writes the frames of the newest acknowledged state to the data file and shows that state to
// readers. It is called by a reader that finds a commit unpublished, by the leader while
// readers come and go, and when frames take too much memory. What is published never goes back.
//
// When a write fails nothing is lost: the frames stay, the log is not cut behind them, and the next call
// tries again.
func (db *DB) publish() error {
	if err := db.applyAcknowledged(); err != nil {
		return outer(err)
	}
	if err := db.publishApplied(); err != nil {
		return err
	}
	if db.churned.Load() { // perhaps nobody commits any more
		db.restLater()
	}
	return nil
}

// publishApplied is publish for what the tree has.
func (db *DB) publishApplied() error {
	db.publishing.Lock()
	defer db.publishing.Unlock()
	if db.released {
		return ErrDatabaseNotOpen // Close has not seen this reader, who has no pin yet
	}

	g := &db.groups
	g.mu.Lock()
	target := g.acked
	if target.tx <= db.published.Load().tx {
		g.mu.Unlock()
		return nil
	}
	err := db.writeState(target.tx)
	defer g.mu.Unlock()
	if err == nil {
		old := db.published.Load()
		g.old = append(g.old, old)
		db.published.Store(newSnapshot(target, db.data.Map()))
		if db.shows() {
			db.table.Publish(tableSnapshot(target))
		}
	}
	return outer(err)
}

// writeState writes the frames of a state to the data file. It unlocks groups.mu for that, at which the state has a pin, and keeps a pin of it until
// groups.mu is held again: no frame that it reaches is dropped, no id of one given to anybody else. The publish lock is held.
func (db *DB) writeState(tx page.TxID) error {
	g := &db.groups
	g.publishing, g.publishPin = true, tx
	frames := g.gather(tx)
	g.mu.Unlock()
	err := db.writeFrames(frames)
	g.mu.Lock()
	g.publishing = false
	if err == nil {
		g.tidy()
	}
	return err
}

// gather returns the frames that the snapshot reaches and that the data file does not have. mu is held.
func (g *groups) gather(snapshot page.TxID) []*frame {
	var frames []*frame
	for _, f := range g.pending {
		if !f.written && f.buf != nil && f.visible(snapshot) {
			frames = append(frames, f)
		}
	}
	return frames
}

// writeFrames writes frames out and marks them written. Their snapshot is pinned, so nobody drops
// them meanwhile. The publish lock is held: no two write a frame at a time.
func (db *DB) writeFrames(frames []*frame) error {
	if len(frames) == 0 {
		return nil
	}
	out := make([]page.Out, 0, len(frames))
	for _, f := range frames {
		f.seal()
		out = append(out, page.Out{ID: f.id, Buf: f.buf})
	}
	if err := db.data.WriteRuns(out); err != nil {
		return err
	}
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range frames {
		if !f.run {
			db.data.Trust(f.buf)
		}
		f.written = true
		g.release(f)
	}
	g.written = append(g.written, frames...)
	return nil
}

// sweep takes frames that the data file has off the heap, the oldest first, until what is left is a
// quarter of the memory limit: pages near the root are copied again by the next commit,
// and a copy from the heap costs a tenth of one from the mapping. The writer lock is
// held and no transaction runs, so nobody has slices of them.
func (db *DB) sweep() {
	g := &db.groups
	g.mu.Lock()
	db.clean = append(db.clean, g.written...)
	clear(g.written)
	g.written = g.written[:0]
	g.mu.Unlock()

	k := 0
	for ; k < len(db.clean) && db.frames.bytes > db.opts.MemoryLimit/4; k++ {
		f := db.clean[k]
		if f.buf == nil || db.frames.get(f.id) != f {
			continue
		}
		db.frames.remove(f.id)
		if !f.run {
			db.buffers.put(f.buf)
		}
		f.buf = nil
	}
	if k > 0 {
		n := copy(db.clean, db.clean[k:])
		clear(db.clean[n:])
		db.clean = db.clean[:n]
	}
}
