package folio

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// readersAboutIn makes the store one where readers come and go: "k" is "1", it has been read, and the next reader would not have to publish.
func readersAboutIn(t *testing.T, db *DB) {
	t.Helper()
	for _, v := range []string{"0", "1"} {
		mustPut(t, db, "k", v)
		has(t, db, "k", v)
	}
}

// mergePut is the first half of a commit: it is part of the open group, and nobody waits for that yet.
func mergePut(t *testing.T, db *DB, key, value string) *group {
	t.Helper()
	tx, err := db.Begin(true)
	must(t, err)
	must(t, tx.Root().Put([]byte(key), []byte(value)))
	n, err := tx.merge()
	if err != nil || n == nil {
		t.Fatal(n, err)
	}
	return n
}

// While the log is synced the commit is in the tree and in the data file, and shown to nobody.
func TestPrepublish(t *testing.T) {
	for _, fail := range []error{nil, errInjected} {
		fsys := newHookFS()
		db := mustOpen(t, &Options{fs: fsys})
		readersAboutIn(t, db)
		var pages atomic.Int64
		hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
			if kind == vfs.KindWrite && !isLog(f) {
				pages.Add(1)
			}
			return nil
		})
		fsys.after.Store(&hook)
		reached, release := stopLogSync(fsys, fail)
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), []byte("2")) }) })
		<-reached
		if late(db) != 0 || pages.Load() == 0 {
			t.Errorf("%d operations are not in the tree, %d writes to the data file", late(db), pages.Load())
		}
		has(t, db, "k", "1")
		close(release)
		wg.Wait()
		if !errors.Is(err, fail) {
			t.Errorf("put: %v, want %v", err, fail)
		}
		want := "2"
		if fail != nil {
			want = "1"
		}
		has(t, db, "k", want)
		must(t, db.Check())
	}
}

// A relaxed commit acknowledges a group in which somebody waits for the sync, and that the tree does not have. The sync covers it, with another one. Applied
// as one unit with that, its state would be nowhere if the sync failed, and readers would look for it for ever.
func TestCoveredIsNoUnitWithWhatIsAcknowledged(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	readersAboutIn(t, db)
	first := mergePut(t, db, "k", "2")
	must(t, putRelaxed(db, "relaxed"))
	second := mergePut(t, db, "k", "3")
	reached, release := stopLogSync(fsys, errInjected)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, n := range []*group{second, first} {
			if err := db.await(n); !errors.Is(err, ErrPoisoned) {
				t.Errorf("await: %v", err)
			}
			db.leave()
		}
	})
	<-reached
	if n := late(db); n != 0 {
		t.Errorf("%d operations are not in the tree", n)
	}
	close(release)
	wg.Wait()
	has(t, db, "k", "2")
	has(t, db, "relaxed", "v")
}

// The log cannot be written out: the sync behind it would not tell of that.
func TestFailedWriteOut(t *testing.T) {
	failer := vfs.NewFailer(vfs.OS)
	db := mustOpen(t, &Options{fs: failer})
	readersAboutIn(t, db)
	failer.Set(vfs.Rule{Kinds: []vfs.Kind{vfs.KindMsync}, Name: "-wal", Nth: 1, Err: errInjected})
	err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), []byte("2")) })
	if !errors.Is(err, errInjected) || !errors.Is(err, ErrPoisoned) {
		t.Errorf("put: %v", err)
	}
	has(t, db, "k", "1")
}
