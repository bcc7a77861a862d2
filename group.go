package folio

import (
	"runtime"
	"slices"
	"sync"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// group is the transactions that share one record of the log, and one sync. It is named
// by the TxID of its last transaction.
//
//	open      transactions add to it
//	sealed    its record has been or is being appended; further ones go to the next
//	durable   its record has been synced
//
// A relaxed commit seals the open group too, and readers are shown it at once. Then the group is
// forgotten, unless somebody in it waits for the sync.
type group struct {
	end state // of its last transaction, or of the last one that was applied with it; until that is done, with its number alone
	log *wal.Group

	// Guarded by groups.mu.
	applied bool      // the tree has it, and end is whole; of the open group: as far as it goes
	late    [][]byte  // operations that the tree does not have; not changed once the group is sealed
	first   [1][]byte // room for late
	lateOps int
	taken   bool     // it is being applied, or was tried to be
	united  bool     // late has been given to the group before
	leaves  int      // that late touches, at most
	kept    [][]byte // operations of others that the record needs until it has been appended

	// Guarded by groups.mu.
	syncs    int // transactions that wait, or are going to, for the sync
	appended bool
	durable  bool
	err      error         // the group was lost: what its committers are told
	done     chan struct{} // made by the first who waits; closed once durable or lost
	waiters  int
}

// groups is the way of commits from the writer to the data file. mu is the group lock:
// held for a commit's merge and for bookkeeping, never across a call on a file. Memory may be mapped and unmapped with it.
type groups struct {
	mu sync.Mutex

	open   *group
	sealed []*group // not yet durable, in order
	late   backlog

	treeHeld bool          // somebody has the tree lock
	treeFree chan struct{} // closed when that ends, or the backlog gets shorter; nil: nobody waits

	// Relaxed groups that were appended and forgotten, and how many of them a sync has covered.
	relaxed, relaxedSynced uint64

	// Frames that the data file does not have, with some that it has or that were
	// dropped in between: see tidy. pendingBytes and pendingFrames count the former.
	pending       []*frame
	pendingBytes  int64
	pendingFrames int

	unappended int64 // bytes of log in the open group, and in sealed ones not yet appended

	leading bool          // somebody leads: writes and syncs the log
	baton   chan struct{} // hands the lead to one who waits; capacity 1

	churn uint64 // pages that have died, or were given back by who had taken them, since shrink looked at the file last

	acked state // newest state that the next reader is to be shown

	publishing    bool
	publishPin    page.TxID
	checkpointing bool
	checkpointPin page.TxID

	old     []*snapshot // published once, perhaps still read
	written []*frame    // in the data file now; the next writer takes them off the heap
	pins    []page.TxID // scratch
	spare   []*wal.Group

	spareGroups []*group // empty, and known to nobody
}

// hold adds the frames of a commit to those that the data file lacks. mu is held.
func (g *groups) hold(frames []*frame) {
	for _, f := range frames {
		if f.buf != nil {
			g.pending = append(g.pending, f)
			g.pendingBytes += int64(len(f.buf))
			g.pendingFrames++
		}
	}
	if len(g.pending) > 2*g.pendingFrames+256 {
		g.tidy()
	}
}

// release notes that the data file has the frame, or that nobody needs it. mu is held.
func (g *groups) release(f *frame) {
	g.pendingBytes -= int64(len(f.buf))
	g.pendingFrames--
}

// tidy takes out of pending what has been written or dropped. mu is held.
func (g *groups) tidy() {
	g.pending = slices.DeleteFunc(g.pending, func(f *frame) bool { return f.written || f.buf == nil })
}

// newGroup returns an empty group with a log buffer that has been used before.
func (g *groups) newGroup() *group {
	var n *group
	if k := len(g.spareGroups); k > 0 {
		n, g.spareGroups = g.spareGroups[k-1], g.spareGroups[:k-1]
	} else {
		n = new(group)
	}
	if k := len(g.spare); k > 0 {
		n.log, g.spare = g.spare[k-1], g.spare[:k-1]
	} else {
		n.log = new(wal.Group)
	}
	return n
}

// flush seals the open group and appends it to the log. It returns nil when there was none.
// Groups are appended in the order in which they were sealed, because the
// append lock is held for both.
func (db *DB) flush() (*group, error) {
	db.append.Lock()
	defer db.append.Unlock()
	return db.flushLocked(nil)
}

// flushLocked is flush for one who holds the append lock. sealed is called under the group
// lock at the moment of sealing, when every transaction so far is in a sealed group.
func (db *DB) flushLocked(sealed func()) (*group, error) {
	g := &db.groups
	g.mu.Lock()
	if err := db.poisoned(); err != nil {
		g.mu.Unlock()
		return nil, err
	}
	n := g.open
	if n != nil {
		g.open = nil
		n.log.Unawaited = n.syncs == 0
		g.sealed = append(g.sealed, n)
	}
	if sealed != nil {
		sealed()
	}
	g.mu.Unlock()
	if n == nil {
		return nil, nil
	}

	size := n.log.Size()
	pos, err := db.log.Append(n.log)
	if err != nil {
		return n, db.poison(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	db.stats.groups.Add(1)
	n.end.pos = pos
	if db.head.tx == n.end.tx {
		db.head.pos = pos
	}
	n.appended = true
	g.unappended -= size
	n.log.Reset()
	g.spare = append(g.spare, n.log)
	n.log = nil
	for _, ops := range n.kept {
		g.late.memory.free(ops)
	}
	n.kept = nil
	if n.applied {
		for _, ops := range n.late {
			g.late.memory.free(ops)
		}
		n.late = nil
	}
	return n, nil
}

// lead makes everything that has been committed durable: it appends the open group, syncs
// the log once, and wakes all whom that covers. The caller has the lead.
func (db *DB) lead() {
	g := &db.groups
	defer db.handOver()
	db.gatherCrowd()
	if _, err := db.flush(); err != nil {
		return
	}
	g.mu.Lock()
	// The list itself may lose groups during the sync: see forget.
	covered := db.covered[:0]
	for _, n := range g.sealed {
		if !n.appended {
			break
		}
		covered = append(covered, n)
	}
	db.covered = covered
	relaxed := g.relaxed
	idle := len(covered) == 0 && relaxed == g.relaxedSynced
	early := db.readersAbout()
	g.mu.Unlock()
	if idle {
		return
	}
	if err := db.syncLog(early); err != nil {
		db.poison(err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if db.poisoned() != nil {
		return
	}
	g.relaxedSynced = relaxed
	db.crowd = 0
	for _, n := range covered {
		db.crowd += n.syncs
		db.acknowledge(n)
	}
	early = db.readersAbout()
	if early || db.shows() {
		g.mu.Unlock()
		if early {
			db.publishEarly()
		}
		if db.shows() {
			db.show()
		}
		g.mu.Lock()
		if db.poisoned() != nil { // meanwhile; all of them have been told
			return
		}
	}
	db.known.Store(db.acked.Load())
	for _, n := range covered {
		n.durable = true
		n.wake()
	}
	clear(covered)
	g.sealed = slices.DeleteFunc(g.sealed, func(n *group) bool { return n.durable })
}

// readersAbout reports whether what has just become durable should be published before anybody is told of it, since readers come and go and it is little: they
// read on what was shown before meanwhile. Once somebody has been told they would have to wait. Where other processes read it is published in any case: see show.
// groups.mu is held.
func (db *DB) readersAbout() bool {
	g := &db.groups
	if g.late.leaves > earlyLeaves || g.late.bytes > earlyBytes || g.pendingFrames > earlyFrames {
		return false
	}
	return db.published.Load().read.Load() || db.shows() && db.table.Attached()
}

// publishEarly publishes before anybody is told. An error is the next reader's, who tries again.
func (db *DB) publishEarly() { _ = db.publish() }

// What is published before it is acknowledged, at most: with more the next sync would have to wait.
const (
	earlyLeaves = 8
	earlyBytes  = 64 << 10
	earlyFrames = 64
)

// gatherCrowd lets others who are about to commit join the open group, if the last sync has served several: a sync costs as much
// as many commits do. It does not wait for anybody, but gives its turn to those who are ready to run, as long as the group grows by that. The caller
// has the lead.
func (db *DB) gatherCrowd() {
	if db.crowd < 2 {
		return
	}
	g := &db.groups
	size := 0
	for range maxTurns {
		g.mu.Lock()
		n := 0
		if g.open != nil {
			n = g.open.syncs
		}
		g.mu.Unlock()
		if n == size {
			return
		}
		size = n
		runtime.Gosched()
	}
}

// maxTurns bounds how often a leader lets others go first.
const maxTurns = 16

// acknowledge makes the end of the group what the next reader is shown, who has to apply it first if the tree does not have it.
// groups.mu is held.
func (db *DB) acknowledge(n *group) {
	if n.end.tx <= page.TxID(db.acked.Load()) {
		return
	}
	db.acked.Store(uint64(n.end.tx))
	if n.applied {
		db.groups.acked = n.end
	} else {
		db.groups.unite(n, db.unitLimit())
	}
}

// acknowledgeHead is acknowledge for a state that does not come by a group. groups.mu is held.
func (db *DB) acknowledgeHead() {
	if db.head.tx > page.TxID(db.acked.Load()) {
		db.groups.acked = db.head
		db.acked.Store(uint64(db.head.tx))
		db.known.Store(uint64(db.head.tx))
	}
}

// wake releases those who wait for the group. groups.mu is held.
func (n *group) wake() {
	if n.done != nil {
		close(n.done)
	}
}

// handOver ends a lead. If anyone waits for a group that is not yet durable, one of them
// gets the lead; also when the leader panics.
func (db *DB) handOver() {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting := 0
	for _, n := range g.sealed {
		waiting += n.waiters
	}
	if g.open != nil {
		waiting += g.open.waiters
	}
	if waiting > 0 && db.poisoned() == nil {
		g.baton <- struct{}{} // has room: only a leader puts one in
		return
	}
	g.leading = false
}

// await returns when the group is durable or lost. Who finds nobody leading leads: with one
// goroutine, the caller itself, without a switch.
func (db *DB) await(n *group) error {
	g := &db.groups
	for {
		g.mu.Lock()
		if n.durable || n.err != nil {
			g.mu.Unlock()
			return n.err
		}
		if !g.leading {
			g.leading = true
			g.mu.Unlock()
			db.lead()
			continue
		}
		if n.done == nil {
			n.done = make(chan struct{})
		}
		n.waiters++
		g.mu.Unlock()
		select {
		case <-n.done:
		case <-g.baton:
			g.mu.Lock()
			n.waiters--
			g.mu.Unlock()
			db.lead()
		}
	}
}

// settle waits until everything committed so far is durable.
func (db *DB) settle() error {
	if _, err := db.flush(); err != nil {
		return err
	}
	g := &db.groups
	g.mu.Lock()
	if err := db.poisoned(); err != nil {
		g.mu.Unlock()
		return err
	}
	if len(g.sealed) == 0 && g.relaxed == g.relaxedSynced {
		g.mu.Unlock()
		return nil
	}
	// A group of nothing, behind all others. Waiting for the last one that is there would not do: it may be
	// forgotten meanwhile, and those that have been forgotten may be younger.
	n := &group{end: state{tx: page.TxID(db.acked.Load())}, appended: true, syncs: 1}
	g.sealed = append(g.sealed, n)
	g.mu.Unlock()
	return db.await(n)
}

// poison makes the handle refuse writes after err, a failed sync or log write, and tells
// those who wait. What a failed sync left in memory or on the disk nobody
// knows, so nothing is tried again. It returns the error for the caller.
func (db *DB) poison(err error) error {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := db.poisoned(); p != nil {
		return p
	}
	p := &poisonError{cause: err}
	db.poisonedBy.Store(p)
	lost := g.sealed
	if g.open != nil {
		lost = append(lost[:len(lost):len(lost)], g.open)
	}
	for _, n := range lost {
		n.err = p
		n.wake()
	}
	return p
}

// poisoned returns the error that writes get, or nil.
func (db *DB) poisoned() error {
	if p := db.poisonedBy.Load(); p != nil {
		return p
	}
	return nil
}
