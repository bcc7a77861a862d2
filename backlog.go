package folio

import (
	"bytes"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/foliodb/folio/freelist"
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
//     each of these can be acknowledged, and asked for, on its own.
//
// Within a group all deferred transactions come before all others: who finds the open group to have one that
// the tree has goes over to the tree too. So the tree never stands in the middle of a group that is sealed.

// backlog is what the tree does not have yet. Guarded by groups.mu.
type backlog struct {
	groups []*group // in order; the last may be open
	ops    int
	bytes  int64 // of operations
	spare  [][]byte
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
	for {
		tx.snapshot = db.published.Load()
		tx.shard = tx.snapshot.shard()
		tx.shard.n.Add(1)
		if db.published.Load() == tx.snapshot {
			break
		}
		tx.shard.n.Add(-1)
	}
	tx.view = tx.snapshot.view
	tx.root.tree.Init(tx.snapshot.root, nil, &tx.view, nil)
	tx.root.sequence = tx.snapshot.root.Sequence
}

// leaveSnapshot ends the look at the snapshot.
func (tx *Tx) leaveSnapshot() {
	tx.deferred = false
	tx.db.unpin(tx.shard)
	tx.shard = nil
}

// deferLimit is the number of bytes of operations from which a transaction goes over to the tree.
const deferLimit = 1 << 20

// postpone takes a put (value not nil) or a deletion without touching the tree. It reports false where that cannot be: then
// the transaction has gone over to the tree, or failed.
func (b *Bucket) postpone(key, value []byte, put bool) (done bool, err error) {
	tx := b.tx
	if !tx.deferred {
		return false, nil
	}
	if page.FormOf(tx.db.pageSize, len(key), len(value)) != page.Inline || !tx.logs() ||
		int64(len(tx.ops)+len(key)+len(value)) > min(deferLimit, tx.db.bulkLimit()/2) {
		return false, tx.enterTree()
	}
	// The descent finds what the tree would complain of: a damaged page, which must not come to light when the commit has
	// been acknowledged, and a bucket of that name.
	bucket, found, long, err := b.tree.Probe(key)
	if err == nil && !long {
		long, err = b.amongLong()
	}
	if err != nil {
		return false, tx.doom(err)
	}
	if found && bucket {
		return false, ErrIncompatibleValue
	}
	if long { // a run beside the key's place may be damaged
		return false, tx.enterTree()
	}
	if !found && !put && tx.deferredOps == 0 && tx.snapshot.tx == tx.db.last {
		return true, nil // the snapshot is the newest commit, so the key is nowhere
	}
	b.log()
	if put {
		tx.ops.Put(key, value)
		tx.stats.Puts++
	} else {
		tx.ops.Delete(key)
		tx.stats.Deletes++
	}
	tx.deferredOps++
	if int64(len(tx.ops)) > tx.db.bulkLimit() { // the names on the way to the bucket are logged too
		err = tx.enterTree()
		if err == nil {
			tx.logged()
		}
	}
	return true, err
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
	if tx.writing == nil || !tx.deferred {
		return nil
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := tx.takeTree(); err != nil {
		return tx.doom(err)
	}
	tx.leaveSnapshot()
	if err := tx.repeat(); err != nil {
		return tx.doom(err)
	}
	return nil
}

// takeTree begins a transaction's work in the tree.
func (tx *Tx) takeTree() error {
	db := tx.db
	if err := db.boundSpace(); err != nil {
		return err
	}
	db.lockTree(nil)
	if err := db.applyAll(); err != nil {
		db.unlockTree()
		return err
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
	tx.root.tree.Init(db.head.root, nil, nil, &db.pager)
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
	if len(tx.ops) == 0 {
		return nil
	}
	var s sorter
	if err := s.add(tx.ops); err != nil {
		return err
	}
	return s.apply(tx)
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
		c.tree.Init(h, image, nil, &b.tx.db.pager)
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
	if err := db.promise(tx.deferredOps, len(tx.ops)); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, freelist.ErrFull) {
			return nil, nil // it may need less
		}
		return nil, outer(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() {
		if !joined {
			g.late.add(-tx.deferredOps, -len(tx.ops))
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
	n.lateOps += tx.deferredOps
	n.late = g.late.keep(n.late, tx)
	db.last = tx.id
	db.stats.commits.Add(1)
	return n, nil
}

// promise sees to it that the data file has room for the pages that applying the backlog, with some operations more, will take:
// an acknowledged commit must not meet a full disk. Random keys come to u leaves in u(1-exp(-n/u)) cases of n;
// a quarter more is for splits and branches. Where leaves are full to the brim it may be too little: then the file has to grow when the
// backlog is applied, and if it cannot, readers get the error until there is space. Nothing is lost by that.
//
// What is asked for counts as part of the backlog, from before room is made for it: who applies the backlog
// meanwhile leaves that much of the promise. It is taken back on an error.
func (db *DB) promise(ops, size int) error {
	g := &db.groups
	g.mu.Lock()
	g.late.add(ops, size)
	need := db.promised()
	g.mu.Unlock()
	err := db.free.Promise(need, db.mostPages())
	if err != nil {
		g.mu.Lock()
		g.late.add(-ops, -size)
		g.mu.Unlock()
	}
	return err
}

// mostPages is how long MaxSize lets the file become. A promise counts it by itself: growFile does not while the backlog is applied, and
// cannot tell for whom the file grows.
func (db *DB) mostPages() page.ID {
	if limit := db.opts.MaxSize; limit > 0 {
		return page.ID(min(limit/int64(db.pageSize), math.MaxUint32))
	}
	return math.MaxUint32
}

// promised returns how many pages applying the backlog may take. groups.mu is held.
func (db *DB) promised() uint64 {
	l := &db.groups.late
	if l.ops == 0 {
		return 0
	}
	used := max(float64(db.free.Alive()), 1)
	touched := used * (1 - math.Exp(-float64(l.ops)/used))
	return uint64(1.25*touched) + uint64(2*l.bytes/int64(db.pageSize)) + 8
}

func (l *backlog) add(ops, bytes int) {
	l.ops += ops
	l.bytes += int64(bytes)
}

// backlogLimit is the number of bytes of operations that may be put off. The heap holds them once more while they are sorted.
func (db *DB) backlogLimit() int64 { return db.opts.MemoryLimit }

// boundBacklog waits until the backlog has become shorter when it has reached its limit. The writer lock is held.
func (db *DB) boundBacklog() error {
	g := &db.groups
	g.mu.Lock()
	full := g.late.bytes > db.backlogLimit()
	g.mu.Unlock()
	if !full {
		return nil
	}
	if err := db.settle(); err != nil {
		return err
	}
	return db.drain()
}

// drain applies and publishes what is acknowledged, as fast as the disk takes it.
func (db *DB) drain() error {
	if err := db.boundSpace(); err != nil {
		return err
	}
	return db.publish()
}

// applyAcknowledged brings the tree up to the newest acknowledged commit. It waits for who is at it.
func (db *DB) applyAcknowledged() error {
	g := &db.groups
	if !db.lockTree(func() bool { return g.acked.tx >= page.TxID(db.acked.Load()) }) {
		return nil
	}
	defer db.unlockTree()
	if db.released {
		return ErrDatabaseNotOpen // as in publish: Close has not seen this reader
	}
	return db.applyUnit(db.due())
}

// due returns the groups of the backlog that are acknowledged.
func (db *DB) due() []*group {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	acked := page.TxID(db.acked.Load())
	n := 0
	for n < len(g.late.groups) && g.late.groups[n].end.tx <= acked {
		n++
	}
	return slices.Clone(g.late.groups[:n])
}

// applyAll applies the whole backlog. The writer lock is held, so that it does not get longer, and the tree lock.
func (db *DB) applyAll() error {
	if err := db.applyUnit(db.due()); err != nil {
		return err
	}
	g := &db.groups
	g.mu.Lock()
	rest := slices.Clone(g.late.groups)
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
	tx.root.tx, tx.root.nesting = tx, &nesting{}
	done := false
	defer func() {
		if !done {
			db.pager.rollback()
		}
	}()
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	db.applying.Store(true)
	defer db.applying.Store(false)
	tx.beginTree()
	db.pager.most /= 4 // what has been written out is not touched again: the keys ascend
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
	last.end = db.head
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

// applied takes groups out of the backlog. mu is held.
func (g *groups) applied(due []*group) {
	for _, n := range due {
		n.applied = true
		g.late.add(-n.lateOps, 0)
		for _, ops := range n.late {
			g.late.add(0, -len(ops))
			g.late.reuse(ops)
		}
		n.late = nil
	}
	k := copy(g.late.groups, g.late.groups[len(due):])
	clear(g.late.groups[k:])
	g.late.groups = g.late.groups[:k]
}

// Buffers of operations: small transactions share one, large ones leave theirs to the backlog, so that it is not copied.
const (
	sharedOps = 64 << 10
	spareOps  = 32 // how many are kept to be used again
)

// keep adds a transaction's operations to those of its group.
func (l *backlog) keep(late [][]byte, tx *Tx) [][]byte {
	ops := []byte(tx.ops)
	if len(ops) >= sharedOps/2 {
		tx.ops = l.buffer()
		return append(late, ops)
	}
	k := len(late) - 1
	switch {
	case k < 0: // most groups of relaxed commits have one
		return append(late, bytes.Clone(ops))
	case cap(late[k])-len(late[k]) < len(ops):
		return append(late, append(l.buffer(), ops...))
	}
	late[k] = append(late[k], ops...)
	return late
}

// buffer returns an empty buffer to be shared.
func (l *backlog) buffer() []byte {
	if k := len(l.spare) - 1; k >= 0 {
		b := l.spare[k]
		l.spare = l.spare[:k]
		return b
	}
	return make([]byte, 0, sharedOps)
}

func (l *backlog) reuse(b []byte) {
	if len(l.spare) < spareOps && cap(b) >= sharedOps && cap(b) <= deferLimit {
		l.spare = append(l.spare, b[:0])
	}
}
