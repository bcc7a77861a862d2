package folio

import (
	"time"
	"unsafe"

	"github.com/foliodb/folio/page"
)

// A store that was changed in a hurry is larger than it has to be: see boundSpace. When it has come to rest, the file is brought
// into shape without being asked.

// restAfter is how long a store is without commits before that.
const restAfter = time.Second

// minRest is how many bytes must be free in the file.
const minRest = 16 << 20

// restLater has a timer look whether the store is at rest, if there is something to be done then.
func (db *DB) restLater() {
	if db.volatile || db.resting.Load() || !db.unshapely() && !db.spacious() || !db.resting.CompareAndSwap(false, true) {
		return
	}
	tx := db.newestCommit()
	time.AfterFunc(restAfter, func() { db.rest(tx) })
}

// spacious reports whether more than a little memory lies idle.
func (db *DB) spacious() bool {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.late.memory.spare) > 4 || g.late.memory.large != nil || !g.treeHeld && cap(db.sorter.changes) > restChanges
}

// restChanges is for how many changes a sorter keeps room at rest: what is on the heap.
const restChanges = heapRoom / int(unsafe.Sizeof(change{}))

// trim gives back memory that only many commits need.
func (db *DB) trim() {
	g := &db.groups
	g.mu.Lock()
	g.late.memory.trim()
	g.mu.Unlock()
	if db.tryLockTree() {
		db.sorter.changes = forget(db.sorter.changes, &db.sorter.memory, restChanges)
		db.unlockTree()
	}
}

func (db *DB) newestCommit() page.TxID {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	return db.last
}

// unshapely reports whether a third of the file is free, or kept by the last checkpoint alone.
func (db *DB) unshapely() bool {
	s := db.free.Stats()
	spare := s.Free + s.Retained
	return spare > uint64(s.End)/3 && int64(spare)*int64(db.pageSize) > minRest
}

// rest checkpoints and shrinks a store that has had no commit since the one given.
func (db *DB) rest(since page.TxID) {
	db.resting.Store(false)
	if db.enter() != nil {
		return
	}
	defer db.leave()
	if db.newestCommit() != since {
		db.restLater()
		return
	}
	db.trim()
	if db.poisoned() != nil || !db.unshapely() {
		return
	}
	err := db.checkpointAll()
	if err == nil {
		err = db.shrink(false)
	}
	db.noteBackground(err)
}
