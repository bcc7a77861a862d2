package folio

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// commit ends the write transaction and makes it durable, or as durable as it asked for. The
// cases:
//
//   - nothing was changed: nothing is written, no TxID is used;
//   - the log record is small: reserve, merge into the open group, release the writer lock,
//     wait for the group (see groups);
//   - the log record would be large: commitBulk, by checkpoint;
//   - anything fails before the merge: the transaction never was.
//
// The writer lock is released on every path. A fault of the mapping becomes the error.
func (tx *Tx) commit() (err error) {
	db := tx.db
	defer db.leave()
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	size := len(tx.ops)
	n, err := tx.merge()
	if err != nil {
		return err
	}
	if n == nil { // nothing to do, or done already
		if tx.changed {
			db.afterCommit(tx.unknowing && !tx.restructures, size)
		}
		return nil
	}
	if tx.durability == Relaxed {
		err = db.relax()
	} else {
		err = db.await(n)
	}
	if err != nil {
		return err
	}
	db.afterCommit(tx.unknowing && !tx.restructures, size)
	return nil
}

// merge makes the transaction part of the open group and releases the writer lock. Nil
// without an error: there is nothing to wait for.
func (tx *Tx) merge() (n *group, err error) {
	db := tx.db
	merged := false
	defer func() {
		if !merged {
			tx.leave()
		}
		tx.end()
		db.writer.Unlock()
	}()
	if tx.failed != nil {
		return nil, fmt.Errorf("folio: transaction cannot be committed after a failed operation: %w", tx.failed)
	}
	if tx.deferred && tx.changed {
		n, err := tx.mergeDeferred()
		if n != nil || err != nil {
			merged = n != nil
			return n, err
		}
	}
	if !tx.deferred {
		if err := tx.catchUp(); err != nil {
			return nil, err
		}
		if err := db.pager.endFlights(); err != nil {
			return nil, outer(err)
		}
		if err := tx.root.flush(true); err != nil {
			return nil, outer(err)
		}
		if err := db.pager.err; err != nil {
			return nil, outer(db.named(err))
		}
	}
	if !tx.changed {
		return nil, nil
	}
	if err := db.poisoned(); err != nil {
		return nil, err
	}
	if db.volatile {
		merged = true
		if err := tx.joinMemory(); err != nil {
			return nil, db.poison(err)
		}
		return nil, nil
	}
	if err := db.requireLog(); err != nil {
		return nil, err
	}
	if tx.bulk {
		merged, err = tx.commitBulk()
		return nil, err
	}
	if err := db.reserve(wal.TxSize(len(tx.ops))); err != nil {
		return nil, err
	}
	n, err = tx.join()
	merged = n != nil
	if merged && err != nil {
		return nil, db.poison(err)
	}
	return n, err
}

// mergeDeferred is merge for a deferred transaction. Neither a group nor an error: it has gone over to the tree.
func (tx *Tx) mergeDeferred() (*group, error) {
	db := tx.db
	if err := db.poisoned(); err != nil {
		return nil, err
	}
	if err := db.requireLog(); err != nil {
		return nil, err
	}
	if err := db.boundBacklog(len(tx.ops)); err != nil {
		return nil, outer(err)
	}
	if err := db.reserve(wal.TxSize(len(tx.ops))); err != nil {
		return nil, err
	}
	n, err := tx.joinDeferred()
	if n != nil || err != nil {
		return n, err
	}
	return nil, tx.enterTree()
}

// reserve makes sure that the log has room for n bytes more than what is on its way to
// it. At the log's limit, or where the disk has no room for a longer one, it checkpoints, holding the writer lock alone: then the log begins anew where it is.
func (db *DB) reserve(n int64) error {
	for tries := 0; ; tries++ {
		db.groups.mu.Lock()
		need := db.groups.unappended + n
		db.groups.mu.Unlock()
		if need > db.opts.mostGroup && need > n { // the open group would be larger than a record may be; nobody joins it meanwhile
			if _, err := db.flush(); err != nil {
				return outer(err)
			}
			need = n
		}
		err := db.log.Reserve(need)
		if err == nil {
			return nil
		}
		if db.log.Err() != nil { // a sync failed: nothing more can be logged
			return db.poison(err)
		}
		limit := errors.Is(err, wal.ErrFull)
		if tries == 2 || !limit && !(isFull(err) && db.log.Live() > 0) {
			return outer(err)
		}
		checkpoint := db.checkpointSome
		if tries > 0 { // the rest is still too much
			checkpoint = db.checkpointAll
		}
		switch full := checkpoint(); {
		case full == nil:
		case limit || db.poisoned() != nil:
			return full
		default: // the disk is full for the checkpoint too
			return outer(err)
		}
	}
}

// join merges the transaction into the open group, under the group lock.
func (tx *Tx) join() (*group, error) {
	db := tx.db
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := db.poisoned(); err != nil {
		return nil, err
	}
	n := g.join(tx)
	if tx.giveOps() {
		n.kept = append(n.kept, tx.ops)
	}
	err := db.adopt(tx)
	n.end, n.applied = db.head, true
	return n, err
}

// join adds the transaction's record to the open group's. mu is held.
func (g *groups) join(tx *Tx) *group {
	n := g.open
	if n == nil {
		n = g.newGroup()
		g.open = n
	}
	before := n.log.Size()
	if tx.durability != Relaxed {
		n.syncs++
	}
	n.log.Add(uint64(tx.id), tx.ops)
	g.unappended += n.log.Size() - before
	return n
}

// adopt makes the running transaction's state the head: its frames are held until the data
// file has them, what it superseded dies. groups.mu and the writer lock are held.
//
// The error is of a page that is superseded twice, which shows a damaged file. It comes too late
// to undo anything, so the caller poisons: the page is not reused, and
// no checkpoint claims that all is well.
func (db *DB) adopt(tx *Tx) error {
	p := &db.pager
	for _, f := range p.dead {
		f.died = p.tx
	}
	db.groups.hold(p.own)
	for _, d := range p.died {
		db.groups.churn += uint64(d.N)
	}
	// One that leaves less than shrink would care for is followed by others, which use its holes: counted too, removals were a tenth slower.
	if p.given > uint64(db.free.End())/shrinkPart {
		db.groups.churn += p.given
	}
	pins := db.pinsLocked()
	err := db.free.Commit(p.tx, p.died, pins)
	db.free.Reclaim(pins)
	db.head = state{tx: tx.id, root: tx.root.header(), end: db.free.End()}
	if tx.id > db.last {
		db.last = tx.id
		db.stats.commits.Add(1)
	}
	if tx.restructures {
		db.restructured = tx.id
	}
	p.reset()
	db.churned.Store(true)
	return db.named(err)
}

// dropped is told by the free list that pages are free: if the heap has frames of them, these are not
// needed any more, written or not. groups.mu and the writer lock are held.
func (db *DB) dropped(id page.ID, n int) bool {
	if db.frames.n == 0 {
		return true
	}
	for ; n > 0; id, n = id+1, n-1 {
		f := db.frames.remove(id)
		if f == nil {
			continue
		}
		if !f.written {
			db.groups.release(f)
		}
		if !f.run {
			db.buffers.put(f.buf)
		}
		f.buf = nil
	}
	return true
}

// relax acknowledges everything committed so far once the log has it, unsynced, and sees to it
// that a sync follows.
func (db *DB) relax() error {
	db.append.Lock()
	_, err := db.flushLocked(nil)
	if err == nil {
		g := &db.groups
		g.mu.Lock()
		// Groups are appended in order and the append lock is held: all sealed ones are in the log. The last one need
		// not be the newest, since settle puts stand-ins between them.
		for _, n := range g.sealed {
			db.acknowledge(n)
		}
		db.known.Store(db.acked.Load())
		g.forget()
		g.mu.Unlock()
	}
	db.append.Unlock()
	if err != nil {
		return err
	}
	db.show()
	if db.timerSet.CompareAndSwap(false, true) {
		time.AfterFunc(db.opts.SyncInterval, func() {
			db.timerSet.Store(false)
			if db.enter() == nil {
				db.settle() // a failure poisons: the next write reports it
				db.leave()
			}
		})
	}
	return nil
}

// forget takes the groups that are in the log and in which nobody waits for the sync out of the list, but
// remembers that there is something to sync: relaxed commits come by the hundred thousand.
// mu is held.
func (g *groups) forget() {
	g.sealed = slices.DeleteFunc(g.sealed, func(n *group) bool {
		if !n.appended || n.syncs > 0 {
			return false
		}
		g.relaxed++
		if n.united && !g.leading { // else a leader may have it among those that its sync covers
			*n = group{}
			g.spareGroups = append(g.spareGroups, n)
		}
		return true
	})
}

// afterCommit does what should follow a commit, once it has been acknowledged: publishing while
// readers come and go, so that they find nothing to write; and a checkpoint when the log, or
// the space that only the last checkpoint retains, has grown.
//
// show asks for publishing at once: the transaction could not be deferred because the published snapshot does not have the buckets
// that there are, and the next ones should be.
func (db *DB) afterCommit(show bool, size int) {
	g := &db.groups
	g.mu.Lock()
	pending, late := g.pendingBytes, g.late.bytes
	g.mu.Unlock()
	db.watch()
	db.tellLater(tellAfter)
	switch {
	case db.wanted.Load() || show:
		db.wanted.Store(false)
		db.publish() // an error is the next reader's: it tries again
	case pending > db.opts.MemoryLimit/4 || late > db.drainLimit():
		db.inBackground(&db.publisher, func() { db.noteBackground(db.drain()) })
	}
	if db.churned.Load() || db.unlooked.Add(wal.TxSize(size)) >= lookEvery {
		db.lookAround()
	}
}

// lookEvery is how many bytes may be logged without a look at what the log and the file take. Pages die where the
// tree is changed, which most commits do not do.
const lookEvery = 64 << 10

// lookAround starts a checkpoint if there should be one.
func (db *DB) lookAround() {
	db.unlooked.Store(0)
	db.churned.Store(false)
	if db.checkpointDue() {
		db.checkpointLater()
	}
	if db.hasLog.Load() && db.log.Tight() {
		if db.opts.alone {
			db.extendLog()
		} else {
			db.inBackground(&db.extender, db.extendLog)
		}
	}
	db.restLater()
}

// extendLog makes the log larger before a commit has to wait for that. If it cannot be, the commit that needs it finds out.
func (db *DB) extendLog() {
	if db.log.Extend() == nil {
		return
	}
	if err := db.log.Err(); err != nil { // a sync failed
		db.noteBackground(db.poison(err))
	}
}

// checkpointLater has a goroutine checkpoint.
func (db *DB) checkpointLater() {
	db.inBackground(&db.checkpointer, func() {
		err := db.checkpointSome()
		if err == nil {
			err = db.keepsName()
		}
		db.noteBackground(err)
	})
}

// noteBackground keeps the error of work that nobody waits for, for Stats; nil clears it.
func (db *DB) noteBackground(err error) {
	if err == nil {
		db.backgroundError.Store(nil)
		return
	}
	db.backgroundError.Store(&err)
}

// inBackground runs fn in a goroutine of its own unless one of its kind runs already.
// Close waits for it.
func (db *DB) inBackground(running *atomic.Bool, fn func()) {
	if !running.CompareAndSwap(false, true) {
		return
	}
	db.background.Add(1)
	go func() {
		defer db.background.Done()
		defer running.Store(false)
		fn()
	}()
}

// commitBulk commits a transaction that is too large for the log by a checkpoint of its own:
// its pages are written once. Everything before it is made durable first, because its
// checkpoint claims all of it; and it keeps the writer lock until its meta is durable, because a
// record behind it must not reach the log before. It reports whether the
// transaction has taken place, which is so for some errors too.
func (tx *Tx) commitBulk() (merged bool, err error) {
	if err := tx.db.settle(); err != nil {
		return false, err
	}
	tx.db.checkpointing.Lock()
	defer tx.db.checkpointing.Unlock()
	if err := tx.db.poisoned(); err != nil {
		return false, err // by the checkpoint that was under way, which has not given back what it took
	}
	return tx.commitByCheckpoint()
}

// commitByCheckpoint makes the transaction durable in the data file, and then shows it. Everything
// before it is durable, and the checkpoint lock is held.
func (tx *Tx) commitByCheckpoint() (merged bool, err error) {
	db := tx.db
	p := &db.pager
	if err := p.spill(func(*frame) bool { return true }); err != nil {
		return false, outer(err)
	}
	c := &checkpoint{db: db, bulk: true}
	g := &db.groups
	g.mu.Lock()
	c.set, err = db.free.SnapshotBulk(p.tx, p.died, 0)
	g.mu.Unlock()
	if err != nil {
		return false, outer(db.named(err))
	}
	c.state = state{tx: tx.id, root: tx.root.header(), end: c.set.End, pos: db.log.End()}
	if err := c.run(); err != nil {
		// If a meta that names the transaction may be on the disk, the handle is poisoned, and the
		// transaction may be there after reopening.
		c.abandon()
		return false, outer(err)
	}
	g.mu.Lock()
	err = db.adopt(tx)
	db.head.pos = c.state.pos
	db.acknowledgeHead()
	g.mu.Unlock()
	if err != nil {
		return true, db.poison(err)
	}
	err = db.publish()
	db.show()
	return true, outer(err)
}
