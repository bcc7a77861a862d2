package folio

import (
	"slices"

	"github.com/foliodb/folio/page"
)

// prepublish does the work of publishing what the leader's sync is going to cover, while the disk takes the log: the groups are applied to the
// tree, and the pages of the last one written to the data file. Nobody is shown anything before the sync has returned, and what this writes no meta slot
// and no snapshot reaches, as with pages that a transaction spills. If the sync fails the newest acknowledged state is still there, for it has a pin
// until a later one is acknowledged.
//
// Whatever cannot be had at once is left to publishEarly, and so is what fails here: it tries again. The caller has the lead.
func (db *DB) prepublish() {
	if db.tryLockTree() {
		err := db.applyCovered()
		db.unlockTree()
		if err != nil {
			return
		}
	}
	_ = db.writeCovered()
}

// applyCovered applies what is acknowledged, and then the groups that the sync covers, as one unit: they are going to be acknowledged together, or by
// a relaxed commit, with all that are sealed, so no state between them can be asked for. None of them may be in a unit with
// what is acknowledged already, since that can. The tree lock is held.
func (db *DB) applyCovered() error {
	for {
		if err := db.applyUnit(db.due(db.unitLimit())); err != nil {
			return err
		}
		g := &db.groups
		g.mu.Lock()
		acked := page.TxID(db.acked.Load())
		var unit []*group
		if l := g.late.groups; len(l) > 0 && l[0].end.tx > acked {
			n := 0
			for n < len(l) && slices.Contains(db.covered, l[n]) {
				l[n].taken = true
				n++
			}
			unit = slices.Clone(l[:n])
		}
		more := len(g.late.groups) > 0 && g.late.groups[0].end.tx <= acked // by a relaxed commit, meanwhile
		g.mu.Unlock()
		if !more {
			return db.applyUnit(unit)
		}
	}
}

// writeCovered writes the newest state that the tree has of those that the sync covers.
func (db *DB) writeCovered() error {
	if !db.publishing.TryLock() {
		return nil
	}
	defer db.publishing.Unlock()
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range slices.Backward(db.covered) {
		// Not acknowledged yet, so that it is in the list of the sealed, and has a pin.
		if n.applied && n.end.tx > g.acked.tx {
			return db.writeState(n.end.tx)
		}
	}
	return nil
}
