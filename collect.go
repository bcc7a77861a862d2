package folio

import "github.com/foliodb/folio/wal"

// Once it is in the tree, a transaction that goes on with nothing but puts and deletions collects them, and does them when somebody
// looks, when there are many, or at its end, sorted: as the backlog is applied, and for the same reasons.

// collecting reports whether ops holds, at its end, what the tree does not have.
func (tx *Tx) collecting() bool { return !tx.deferred && tx.streak > collectFrom }

// collectFrom is how many puts and deletions a transaction makes in the tree, behind each other, before it collects the next ones. A few
// at a time would only be looked up twice.
const collectFrom = 256

// collects reports whether a put or a deletion is to be collected, and counts it as one that is not if not.
func (tx *Tx) collects() bool {
	if tx.replaying || tx.db.volatile {
		return false
	}
	tx.streak++
	return tx.streak > collectFrom
}

// collected does what has been collected if it is much by now.
func (tx *Tx) collected() error {
	limit := tx.db.bulkLimit()
	full := int64(len(tx.ops)) > limit || int64(len(tx.ops)-tx.caught+opCost*tx.postponed) > limit
	if tx.bulk { // nothing else is put off, and it has a buffer twice as large
		full = int64(len(tx.ops)) > 2*limit || int64(opCost*tx.postponed) > limit/2 || tx.db.opts.stashes > 0 && tx.postponed >= tx.db.opts.stashes
	}
	if full && tx.bulk {
		if done, err := tx.putBy(); err != nil {
			return tx.doom(err)
		} else if done {
			return nil
		}
	}
	if full {
		streak := tx.streak
		err := tx.catchUp()
		tx.streak = streak
		return err
	}
	return nil
}

// catchUp does in the tree what has been collected.
func (tx *Tx) catchUp() error {
	tx.streak = 0
	if !tx.behind() && !tx.lost {
		return nil
	}
	if tx.failed != nil {
		return tx.failed
	}
	if tx.stash != nil {
		if err := tx.unstash(); err != nil {
			return tx.doom(err)
		}
	}
	if err := tx.doSorted(tx.ops[tx.caught:]); err != nil {
		return tx.doom(err)
	}
	tx.postponed = 0
	if tx.bulk {
		tx.putAway()
	}
	tx.logged()
	return nil
}

// goBulk gives up logging.
func (tx *Tx) goBulk() {
	tx.bulk, tx.selected = true, nil
	tx.ops = tx.ops[:0]
	if tx.large {
		tx.large, tx.ops = false, nil
		tx.db.giveLargeOps()
	}
}

// doSorted does operations in the tree. When it fails, the tree has some of them, and the transaction is lost.
func (tx *Tx) doSorted(ops wal.Ops) error {
	tx.lost = true
	s := &tx.db.sorter
	defer s.reset()
	if err := s.add(ops); err != nil {
		return err
	}
	if err := s.apply(tx); err != nil {
		return err
	}
	tx.lost = false
	return nil
}

// makeRoom sees to it that n bytes more of operations do not make a large buffer grow on the heap, where each step leaves the one before to the
// collector: there is a buffer for all that the limits allow, outside of the heap.
func (tx *Tx) makeRoom(n int) {
	db := tx.db
	need := len(tx.ops) + n + 64 + len(tx.ops)/64
	if need <= cap(tx.ops) || need < wal.LargeOps || tx.large {
		return
	}
	size := int(db.bulkLimit()) + 2*wal.LargeOps
	if tx.bulk {
		size *= 2
	}
	if len(db.largeOps) < size {
		db.giveLargeOps()
		db.groups.mu.Lock()
		db.largeOps = db.groups.late.memory.takeLarge(size)
		db.groups.mu.Unlock()
	}
	if need > len(db.largeOps) {
		return
	}
	tx.ops = db.largeOps[:copy(db.largeOps, tx.ops)]
	tx.large = true
}

// giveLargeOps gives back the buffer for large transactions, to be used again or freed. The writer lock is held.
func (db *DB) giveLargeOps() {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late.memory.giveLarge(db.largeOps)
	db.largeOps = nil
}

// giveOps gives the transaction's operations, if they are in the large buffer and too many to be copied, to the arena. groups.mu is held.
func (tx *Tx) giveOps() bool {
	db := tx.db
	if !tx.large || len(tx.ops) < wal.LargeOps || &tx.ops[0] != &db.largeOps[0] {
		return false
	}
	db.groups.late.memory.adopt(db.largeOps)
	db.largeOps = nil
	return true
}
