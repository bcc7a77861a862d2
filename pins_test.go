package folio

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// stopDataWrite has the next write of pages to the data file, or the next call of another kind, wait. It returns
// when it is reached, and what lets it go on.
func stopDataWrite(fsys *hookFS, kind vfs.Kind) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	var once atomic.Bool // not a sync.Once, which would stop the others too
	hook := hookFunc(func(k vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if k == kind && !isLog(f) && once.CompareAndSwap(false, true) {
			close(reached)
			<-release
		}
		return nil
	})
	fsys.before.Store(&hook)
	return reached, release
}

// pinValue is what every key has in a round.
func pinValue(round int) string { return fmt.Sprintf("%0300d", round) }

// pinRound writes all keys in one transaction: nearly every page is superseded. It goes over to the tree, so that this is so at once.
func pinRound(db *DB, round int) error {
	return db.Update(func(tx *Tx) error {
		tx.Root().Len()
		for i := range 20 {
			if err := tx.Root().Put(fmt.Appendf(nil, "key%02d", i), []byte(pinValue(round))); err != nil {
				return err
			}
		}
		return nil
	})
}

// pinSame looks that a transaction sees one round whole.
func pinSame(t *testing.T, tx *Tx, round int) {
	t.Helper()
	n := 0
	for k, v := range tx.Root().All() {
		if string(v) != pinValue(round) {
			t.Fatalf("transaction %d: %q is not of round %d", tx.ID(), k, round)
		}
		n++
	}
	if err := tx.Err(); err != nil || n != 20 {
		t.Fatalf("transaction %d: %d keys, %v", tx.ID(), n, err)
	}
}

// While a reader writes out the frames of a state, commits supersede its pages. The state is neither published nor the newest
// that is acknowledged then; only its own pin keeps its page numbers from going to the next transaction.
// Case A1 of RELIABILITY.md.
func TestPublishedStateIsPinned(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	must(t, pinRound(db, 1))
	must(t, db.Checkpoint())
	must(t, pinRound(db, 2))
	reached, release := stopDataWrite(fsys, vfs.KindWrite)
	published := make(chan struct{})
	go func() {
		defer close(published)
		if err := db.publish(); err != nil {
			t.Error(err)
		}
	}()
	<-reached
	target := db.groups.publishPin
	for round := 3; round < 6; round++ {
		must(t, pinRound(db, round))
		db.groups.mu.Lock()
		if pins := db.pinsLocked(); !slices.Contains(pins, target) {
			t.Errorf("pinned are %d: not %d, which is being published", pins, target)
		}
		db.groups.mu.Unlock()
	}
	close(release)
	waitFor(t, "publish", published)
	snapshot := db.published.Load()
	if snapshot.tx != target {
		t.Fatalf("published is %d, not %d", snapshot.tx, target)
	}
	tx := &Tx{db: db, id: snapshot.tx, snapshot: snapshot}
	tx.readRoot()
	pinSame(t, tx, 2)
	must(t, db.View(func(tx *Tx) error { pinSame(t, tx, 5); return nil }))
	must(t, db.Check())
}

// The same for a state that a checkpoint is writing, while others are published.
func TestCheckpointedStateIsPinned(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	must(t, pinRound(db, 1))
	must(t, db.Checkpoint())
	must(t, pinRound(db, 2))
	reached, release := stopDataWrite(fsys, vfs.KindSync)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := db.Checkpoint(); err != nil {
			t.Error(err)
		}
	}()
	<-reached // its pages are written, and no slot names them yet
	for round := 3; round < 9; round++ {
		must(t, pinRound(db, round))
		must(t, db.View(func(tx *Tx) error { pinSame(t, tx, round); return nil }))
		db.groups.mu.Lock()
		if pins := db.pinsLocked(); !slices.Contains(pins, db.groups.checkpointPin) {
			t.Errorf("pinned are %d: not %d, which a checkpoint is writing", pins, db.groups.checkpointPin)
		}
		db.groups.mu.Unlock()
	}
	close(release)
	waitFor(t, "the checkpoint", done)
	path := crashCopy(t, db.Path())
	again := mustOpenAt(t, path, nil)
	must(t, again.View(func(tx *Tx) error { pinSame(t, tx, 8); return nil }))
	must(t, again.Check())
	must(t, db.Check())
}

// A reader that finds its state published already is not among those whom a publisher counts: the state is neither the newest
// that is acknowledged, after the next commit, nor one of those that were published once.
func TestReaderOfPublishedStateIsPinned(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, pinRound(db, 1))
	must(t, db.View(func(*Tx) error { return nil })) // has the next commit publish itself
	must(t, pinRound(db, 2))
	tx, err := db.Begin(false)
	must(t, err)
	defer tx.Rollback()
	for round := 3; round < 7; round++ {
		db.published.Load().read.Store(false) // the commit does not publish itself, as none does with more changes than these
		must(t, pinRound(db, round))
	}
	if id := db.published.Load().tx; id != tx.ID() {
		t.Errorf("published is %d, and should be %d still", id, tx.ID())
	}
	pinSame(t, tx, 2)
	must(t, db.View(func(tx *Tx) error { pinSame(t, tx, 6); return nil }))
	pinSame(t, tx, 2)
}

// A commit that nobody has looked at yet is the newest that is acknowledged, while the one behind it is being synced and
// supersedes its pages. Who begins to read then is shown it.
// Case A8 of RELIABILITY.md.
func TestNewestAcknowledgedIsPinned(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	must(t, pinRound(db, 1))
	must(t, pinRound(db, 2))
	reached, release := stopLogSync(fsys, nil)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		if err := pinRound(db, 3); err != nil {
			t.Error(err)
		}
	}()
	<-reached
	db.groups.mu.Lock()
	if pins := db.pinsLocked(); !slices.Contains(pins, db.groups.acked.tx) {
		t.Errorf("pinned are %d: not %d, the newest that is acknowledged", pins, db.groups.acked.tx)
	}
	db.groups.mu.Unlock()
	must(t, db.View(func(tx *Tx) error { pinSame(t, tx, 2); return nil }))
	close(release)
	waitFor(t, "the commit", committed)
	must(t, db.View(func(tx *Tx) error { pinSame(t, tx, 3); return nil }))
}
