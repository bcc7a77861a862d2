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
	if db.applyCovered() == nil {
		_ = db.writeCovered()
	}
}

// applyCovered applies what is acknowledged, and then the groups that the sync covers, as one unit: they are going to be acknowledged together, or by
// a relaxed commit, with all that are sealed, so no state between them can be asked for. None of them may be in a unit with
// what is acknowledged already, since that can.
//
// Each is done once, and only what is little. Relaxed commits go on meanwhile, and may come faster than the tree takes them: a leader who went after them would
// keep all who wait for the sync waiting, for seconds.
func (db *DB) applyCovered() error {
	if !db.tryLockTree() {
		return nil
	}
	defer db.unlockTree()
	g := &db.groups
	g.mu.Lock()
	little := db.readersAbout()
	g.mu.Unlock()
	if !little {
		return nil
	}
	if err := db.applyUnit(db.due(earlyBytes)); err != nil {
		return err
	}
	return db.applyUnit(db.coveredUnit())
}

// coveredUnit returns the groups of the backlog that the sync covers, if they are all that comes next. The tree lock is held.
func (db *DB) coveredUnit() []*group {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	late := g.late.groups
	if len(late) == 0 || late[0].end.tx <= page.TxID(db.acked.Load()) {
		return nil // a relaxed commit has been acknowledged meanwhile
	}
	n := 0
	for n < len(late) && slices.Contains(db.covered, late[n]) {
		late[n].taken = true
		n++
	}
	return slices.Clone(late[:n])
}

// writeCovered writes the newest state that the tree has of those that the sync covers. One that has been acknowledged meanwhile
// need not be the newest of these any more: publishEarly writes that.
func (db *DB) writeCovered() error {
	if !db.publishing.TryLock() {
		return nil
	}
	defer db.publishing.Unlock()
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range slices.Backward(db.covered) {
		if n.applied && n.end.tx > g.acked.tx {
			return db.writeState(n.end.tx)
		}
	}
	return nil
}
