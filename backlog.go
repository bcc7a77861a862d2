package folio

import (
	"bytes"
	"errors"
	"runtime/debug"
	"slices"

	"github.com/foliodb/folio/page"
)

// A transaction that only puts and deletes plain items, and reads nothing, need not touch the tree: its operations are
// checked against the published snapshot, logged, and kept. That is a deferred transaction. What is kept is the backlog: operations
// of groups that the tree does not have yet, although the log may. They are applied together, sorted by key, when somebody
// looks (a reader, a transaction that reads, a checkpoint), or when there are many. So a leaf to which many commits belong is
// copied, hashed and written once for all of them, its neighbours get neighbouring pages, and the descents
// to them find the branches in the processor's cache. ARCHITECTURE.md has what that gained.
//
// The order of lives in the tree is that of units: what is applied together is one transaction to the pages and to the
// free list, under the number of its last one. No snapshot between can be asked for any more:
//
//   - a unit that a reader or a checkpoint applies ends with the newest acknowledged group, which is what the
//     next reader is shown;
//   - a transaction that goes over to the tree applies first what is acknowledged, then each further group by itself, because
//     each of these can be acknowledged, and asked for, on its own;
//   - a leader who is about to sync the log applies first what is acknowledged, then the groups that the sync covers, which are
//     acknowledged together: see prepublish.
//
// Within a group all deferred transactions come before all others: who finds the open group to have one that
// the tree has goes over to the tree too. So the tree never stands in the middle of a group that is sealed.

// backlog is what the tree does not have yet. Guarded by groups.mu.
type backlog struct {
	groups        []*group // in order; the last may be open
	leaves        int      // how many they touch at most, as each transaction saw it
	coveredLeaves int      // for how many, and for how many bytes, the file has room
	coveredBytes  int64
	rounds        int   // how often that has been taken back to what there is
	bytes         int64 // of operations
	memory        arena
}

// deferring reports whether a write transaction may begin without the tree: there is a log, and the published snapshot has the
// buckets that there are. The writer lock is held.
func (db *DB) deferring() bool {
	return !db.volatile && !db.recovering && !db.pager.private && !db.share.aside.Load() && db.bucketsKnown()
}

// bucketsKnown reports whether no bucket has been made, deleted or moved since the published snapshot. The writer lock is held.
func (db *DB) bucketsKnown() bool { return db.restructured <= db.published.Load().tx }

// deferTx begins a transaction that has the published snapshot to check its operations against.
func (tx *Tx) deferTx() {
	db := tx.db
	tx.deferred = true
	tx.rising, tx.highest = true, db.highest[:0]
	tx.snapshot, tx.shard = db.hold()
	tx.root.tree.Init(tx.snapshot.root, nil, &tx.snapshot.view, nil)
	tx.root.sequence = tx.snapshot.root.Sequence
}

// leaveSnapshot ends the look at the snapshot.
func (tx *Tx) leaveSnapshot() {
	tx.deferred = false
	tx.db.unpin(tx.shard)
	tx.shard = nil
}

// postpone takes a put or a deletion without touching the tree. It reports false where that cannot be: then the
// transaction is in the tree, which has all of its operations so far, or failed.
func (b *Bucket) postpone(key, value []byte, put bool) (done bool, err error) {
	tx := b.tx
	if !tx.deferred {
		if put && tx.bulk && !tx.behind() {
			if above, err := b.appends(key); above || err != nil {
				return false, err
			}
		}
		if !tx.collects() {
			return false, nil
		}
	} else if put && tx.rising {
		if done, err := b.startAppending(key); done || err != nil {
			return false, err
		}
	}
	size := len(key) + len(value)
	if page.FormOf(tx.db.pageSize, len(key), len(value)) != page.Inline || tx.deferred && (!tx.logs() || int64(len(tx.ops)+size+opCost*tx.postponed) > tx.db.bulkLimit()) {
		return false, tx.enterTree()
	}
	// The descent finds what the tree would complain of: a damaged page, which must not come to light when the commit has
	// been acknowledged, and a bucket of that name.
	leaf, sure, err := b.tree.Plain(key)
	if err != nil {
		return false, tx.doom(err)
	}
	long := false
	if !sure || !put && !tx.behind() {
		var bucket, found bool
		if bucket, found, long, err = b.tree.Probe(key); err != nil {
			return false, tx.doom(err)
		}
		if found && bucket {
			return false, ErrIncompatibleValue
		}
		if !found && !put && !long && !tx.behind() && (!tx.deferred || tx.snapshot.tx == tx.db.last) {
			return true, nil // the snapshot is the newest commit, so the key is nowhere
		}
	}
	if !long {
		if long, err = b.amongLong(); err != nil {
			return false, tx.doom(err)
		}
	}
	if long { // a run beside the key's place may be damaged
		return false, tx.enterTree()
	}
	if leaf != tx.leaf || leaf == 0 {
		tx.leaf = leaf
		tx.leaves++
	}
	if !tx.deferred && tx.postponed == 0 {
		tx.caught, tx.selected = len(tx.ops), nil
	}
	tx.makeRoom(size)
	if tx.rising {
		tx.rising = put && (tx.selected == b || tx.postponed == 0) && bytes.Compare(tx.highest, key) < 0
		tx.highest = append(tx.highest[:0], key...)
	}
	b.log()
	if put {
		tx.ops.Put(key, value)
		tx.stats.Puts++
	} else {
		tx.ops.Delete(key)
		tx.stats.Deletes++
	}
	tx.postponed++
	if !tx.deferred {
		return true, tx.collected()
	}
	if int64(len(tx.ops)) > tx.db.bulkLimit() { // the names on the way to the bucket are logged too
		return true, tx.enterTree()
	}
	return true, nil
}

// amongLong reports whether the bucket's entry, or that of one it lies in, is in a page with long keys: it will be changed too.
func (b *Bucket) amongLong() (long bool, err error) {
	if b.dirty {
		return false, nil // it has been asked for
	}
	for ; b.parent != nil && !long && err == nil; b = b.parent {
		_, _, long, err = b.parent.tree.Probe(b.name)
	}
	return long, err
}

// enterTree takes a deferred transaction over to the tree, where everything else happens: the backlog is applied, and then what the
// transaction has done so far. On an error the transaction is doomed. What it reads through stays its own until its end, be it the
// snapshot or the tree.
func (tx *Tx) enterTree() error {
	if tx.writing == nil {
		return nil
	}
	if !tx.deferred {
		return tx.catchUp()
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := tx.takeTree(); err != nil {
		return tx.doom(err)
	}
	tx.leaveSnapshot()
	if db := tx.db; db.opts.MaxSize > 0 || db.full.Load() {
		db.reclaimLocked() // what only that snapshot retained may be all that there is
	}
	tx.lost = true
	if err := tx.repeat(); err != nil {
		return tx.doom(err)
	}
	if tx.postponed >= collectFrom {
		tx.streak = collectFrom
	}
	tx.postponed = 0
	tx.logged()
	return nil
}

// takeTree begins a transaction's work in the tree.
func (tx *Tx) takeTree() error {
	db := tx.db
	for again := false; ; again = true {
		if err := db.boundSpace(tx.puts); err != nil {
			return err
		}
		db.lockTree(nil)
		if err := db.applyAll(); err != nil {
			db.unlockTree()
			return err
		}
		if again || !db.cramped(tx.puts) {
			break
		}
		db.unlockTree() // what was just applied has taken the last pages, and retains others
	}
	tx.holdsTree = true
	tx.beginTree()
	return nil
}

// beginTree readies the tree for a transaction. The tree lock is held.
func (tx *Tx) beginTree() {
	db := tx.db
	db.bringBack()
	db.sweep()
	db.reclaimLocked()
	db.pager.begin(tx.id)
	db.pager.putting = tx.puts
	tx.root.tree.Init(db.head.root, nil, &db.pager.view, &db.pager)
	tx.root.sequence = db.head.root.Sequence
}

// leave undoes what a write transaction that does not commit has done to the tree. Its end lets go of the tree.
func (tx *Tx) leave() {
	if tx.deferred {
		tx.leaveSnapshot()
	}
	if tx.holdsTree {
		tx.db.pager.rollback()
	}
}

// repeat does in the tree what the transaction has logged so far. Handles of buckets that the user has stay what they are.
func (tx *Tx) repeat() error {
	if err := tx.root.reopen(); err != nil {
		return err
	}
	return tx.doSorted(tx.ops)
}

// reopen looks up again, in the tree, the nested buckets of which there are handles. No bucket has been made, deleted or moved
// since they were looked up in the snapshot: see deferring.
func (b *Bucket) reopen() error {
	for _, c := range b.order {
		value, bucket, found, err := b.tree.Get(c.name)
		if err != nil {
			return err
		}
		if !found || !bucket {
			return errors.New("folio: a bucket is gone that no transaction has deleted")
		}
		h, image := page.DecodeBucket(value)
		c.sequence = h.Sequence
		c.tree.Init(h, image, &b.tx.db.pager.view, &b.tx.db.pager)
		if err := c.reopen(); err != nil {
			return err
		}
	}
	return nil
}

// joinDeferred makes a deferred transaction part of the open group, without the tree. It returns none if it cannot: the group
// has transactions that the tree has, or there may not be room in the data file for what is put off.
func (tx *Tx) joinDeferred() (*group, error) {
	db := tx.db
	g := &db.groups
	joined := false
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := db.promise(tx.leaves, len(tx.ops)); err != nil {
		if isFull(err) {
			return nil, nil // it may need less
		}
		return nil, outer(err)
	}
	defer func() {
		if !joined {
			g.late.add(-tx.leaves, -len(tx.ops))
		}
	}()
	if err := db.poisoned(); err != nil {
		return nil, err
	}
	if g.open != nil && g.open.applied {
		return nil, nil
	}
	tx.leaveSnapshot()
	n := g.join(tx)
	n.end = state{tx: tx.id}
	if n.late == nil {
		g.late.groups = append(g.late.groups, n)
	}
	joined = true
	n.lateOps += tx.postponed
	n.leaves += tx.leaves
	if tx.giveOps() {
		n.late = append(n.late, tx.ops)
	} else {
		if n.late == nil {
			n.late = n.first[:0]
		}
		n.late = g.late.keep(n.late, tx.ops)
	}
	db.last = tx.id
	db.stats.commits.Add(1)
	return n, nil
}

func (l *backlog) add(leaves, bytes int) {
	l.leaves += leaves
	l.bytes += int64(bytes)
}

// backlogLimit is the number of bytes of operations that may be put off. They are not on the heap.
func (db *DB) backlogLimit() int64 { return db.opts.MemoryLimit / 2 * 5 }

// drainLimit is the number of bytes from which the backlog is applied without anybody looking, and unitLimit is how many bytes are
// applied at once then. The larger a unit, the more of its operations share a leaf; but while it is applied, it counts, and what is
// left up to the limit is what committers can go on with meanwhile. Applying from a fifth of the limit on, so that the first units were small, cost
// a fifth of the rate of durable puts from 128 goroutines, and a tenth of that of loads.
func (db *DB) drainLimit() int64 { return db.backlogLimit() / 2 }
func (db *DB) unitLimit() int64  { return db.backlogLimit() / 2 }

// opCost is what an operation takes besides its own bytes while it is sorted, roughly, in bytes: it counts where there are many small ones.
const opCost = 16

// lateBytes returns the size of the backlog.
func (db *DB) lateBytes() int64 {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.late.bytes
}

// boundBacklog waits until n bytes more of operations do not make the backlog longer than its limit, or it is empty. The writer lock is held.
func (db *DB) boundBacklog(n int) error {
	g := &db.groups
	limit := max(db.backlogLimit()-int64(n), 0)
	room := func() bool { return g.late.bytes <= limit } // groups.mu is held
	for db.lateBytes() > limit {
		if len(db.due(0)) == 0 {
			if err := db.settle(); err != nil {
				return err
			}
		}
		if _, err := db.drainOnce(room); err != nil {
			return err
		}
	}
	return nil
}

// drain applies and publishes what is acknowledged, as fast as the disk takes it.
func (db *DB) drain() error {
	for {
		more, err := db.drainOnce(nil)
		if err != nil {
			return err
		}
		if err := db.publishApplied(); err != nil {
			return err
		}
		if !more || db.lateBytes() <= db.drainLimit() {
			db.lookAround()
			return nil
		}
	}
}

// drainOnce applies one unit, unless done comes true while it waits for the tree. It reports whether there was one.
func (db *DB) drainOnce(done func() bool) (more bool, err error) {
	if err := db.boundSpace(false); err != nil {
		return false, err
	}
	return db.drainUnit(done)
}

// drainUnit is drainOnce for who has the checkpoint lock, or must not wait for it.
func (db *DB) drainUnit(done func() bool) (more bool, err error) {
	if !db.lockTree(done) {
		return false, nil
	}
	defer db.unlockTree()
	due := db.due(db.unitLimit())
	return len(due) > 0, db.applyUnit(due)
}

// applyAcknowledged brings the tree up to what is the newest acknowledged commit by now. It waits for who is at it.
func (db *DB) applyAcknowledged() error {
	g := &db.groups
	target := page.TxID(db.acked.Load())
	for {
		if !db.lockTree(func() bool { return g.acked.tx >= target }) {
			return nil
		}
		err := error(ErrDatabaseNotOpen) // as in publish: Close has not seen this reader
		if !db.released {
			err = db.applyUnit(db.due(db.unitLimit()))
		}
		db.unlockTree()
		if err != nil {
			return err
		}
	}
}

// due returns the groups of the backlog that are acknowledged; with a limit, the oldest, until they have more bytes than that.
func (db *DB) due(limit int64) []*group {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	acked := page.TxID(db.acked.Load())
	n, size := 0, int64(0)
	for n < len(g.late.groups) && g.late.groups[n].end.tx <= acked {
		size += g.late.groups[n].size()
		g.late.groups[n].taken = true
		n++
		if limit > 0 && size > limit {
			break
		}
	}
	return slices.Clone(g.late.groups[:n])
}

// size returns how much of a unit the group's part of the backlog takes.
func (n *group) size() int64 {
	size := int64(opCost * n.lateOps)
	for _, ops := range n.late {
		size += int64(len(ops))
	}
	return size
}

// applyAll applies the whole backlog. The writer lock is held, so that it does not get longer, and the tree lock.
func (db *DB) applyAll() error {
	if err := db.applyUnit(db.due(0)); err != nil {
		return err
	}
	g := &db.groups
	g.mu.Lock()
	rest := slices.Clone(g.late.groups)
	for _, n := range rest {
		n.taken = true
	}
	g.mu.Unlock()
	for i := range rest {
		if err := db.applyUnit(rest[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// applyUnit applies groups, the oldest of the backlog, as one transaction. If it fails, nothing has changed. The tree lock is held.
func (db *DB) applyUnit(due []*group) (err error) {
	if len(due) == 0 {
		return nil
	}
	last := due[len(due)-1]
	tx := &Tx{db: db, id: last.end.tx, writing: &writing{replaying: true, holdsTree: true}}
	tx.root.tx, tx.root.nesting = tx, &tx.rootNesting
	tx.root.tree = &tx.rootNesting.own
	done := false
	defer func() {
		if !done {
			db.pager.rollback()
		}
	}()
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	db.groups.mu.Lock()
	db.applying.Store(true)
	db.groups.late.uncover()
	db.groups.mu.Unlock()
	defer db.applying.Store(false)
	tx.beginTree()
	// What has been written out is not touched again, since the keys ascend: but for the way to the leaf that is being filled.
	db.pager.most = max(db.pager.most/4, min(db.pager.most, flightPages*int64(db.pageSize)))
	if err := db.sorter.addGroups(due); err != nil {
		return err
	}
	if err := db.sorter.apply(tx); err != nil {
		return err
	}
	if err := tx.root.flush(true); err != nil {
		return err
	}
	if err := db.pager.err; err != nil {
		return db.named(err)
	}
	g := &db.groups
	g.mu.Lock()
	done = true
	err = db.adopt(tx)
	db.head.pos = last.end.pos
	for _, n := range due {
		n.end = db.head
	}
	g.applied(due)
	db.free.Redeem(db.promised())
	if last.end.tx <= page.TxID(db.acked.Load()) {
		g.acked = last.end
	}
	g.wakeTree()
	g.mu.Unlock()
	if err != nil {
		return db.poison(err)
	}
	return nil
}

// unite makes a group of the backlog that has been acknowledged part of the one before it: no state between the two can be asked for any
// more, and relaxed commits come by the hundred thousand. But what is applied at once stays bounded: see due. mu is held.
func (g *groups) unite(n *group, limit int64) {
	l := &g.late
	i := len(l.groups) - 1
	for i >= 0 && l.groups[i] != n {
		i--
	}
	if i < 1 || n.taken || l.groups[i-1].taken || l.groups[i-1].size()+n.size() > limit {
		return
	}
	p := l.groups[i-1] // acknowledged before n
	p.end = n.end
	p.lateOps += n.lateOps
	p.leaves += n.leaves
	for _, ops := range n.late {
		k := len(p.late) - 1
		if k >= 0 {
			if b, ok := l.memory.join(p.late[k], ops); ok {
				p.late[k] = b
				continue
			}
		}
		p.late = append(p.late, ops)
	}
	n.late, n.lateOps, n.leaves, n.united = nil, 0, 0, true
	l.groups = slices.Delete(l.groups, i, i+1)
}

// applied takes groups out of the backlog. mu is held.
func (g *groups) applied(due []*group) {
	for _, n := range due {
		n.applied = true
		g.late.add(-n.leaves, 0)
		for _, ops := range n.late {
			g.late.add(0, -len(ops))
			if n.log == nil {
				g.late.memory.free(ops)
			}
		}
		if n.log == nil { // else the record is not in the log yet, and may need them
			n.late = nil
		}
	}
	k := copy(g.late.groups, g.late.groups[len(due):])
	clear(g.late.groups[k:])
	g.late.groups = g.late.groups[:k]
}

// keep adds a transaction's operations to those of its group.
func (l *backlog) keep(late [][]byte, ops []byte) [][]byte {
	if k := len(late) - 1; k >= 0 {
		if b, ok := l.memory.extend(late[k], ops); ok {
			late[k] = b
			return late
		}
	}
	return append(late, l.memory.add(ops))
}
