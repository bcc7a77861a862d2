package folio

import (
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/wal"
)

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
	switch n := int64(len(tx.ops) - tx.caught + opCost*tx.postponed); {
	case n > tx.db.bulkLimit(), !tx.bulk && int64(len(tx.ops)) > tx.db.bulkLimit():
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
	if tx.postponed == 0 && !tx.lost {
		return nil
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := tx.doSorted(tx.ops[tx.caught:]); err != nil {
		return tx.doom(err)
	}
	tx.postponed = 0
	if tx.bulk {
		tx.ops, tx.selected = tx.ops[:0], nil
	}
	tx.logged()
	return nil
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
	if db.largeOps == nil {
		db.largeOps = vfs.Memory(int(db.bulkLimit()) + 2*wal.LargeOps)
	}
	if need > len(db.largeOps) {
		return
	}
	tx.ops = db.largeOps[:copy(db.largeOps, tx.ops)]
	tx.large = true
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
