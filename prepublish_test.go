package folio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
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

// The data file cannot be written ahead of the sync: it is written behind it.
func TestFailedPrepublish(t *testing.T) {
	failer := vfs.NewFailer(vfs.OS)
	db := mustOpen(t, &Options{fs: failer})
	readersAboutIn(t, db)
	failer.Set(vfs.Rule{Kinds: []vfs.Kind{vfs.KindWrite}, Name: ".db", Nth: 1, Err: syscall.ENOSPC})
	mustPut(t, db, "k", "2")
	if failer.Failed() != 1 || db.published.Load().tx != page.TxID(db.acked.Load()) {
		t.Errorf("%d writes have failed, published is %d of %d", failer.Failed(), db.published.Load().tx, db.acked.Load())
	}
	has(t, db, "k", "2")
	must(t, db.Check())
}

// A leader applied what relaxed commits had brought meanwhile, and what they brought while he did: as long as they went on he did not sync, and commits took
// seconds. Found by a reviewer.
func TestPrepublishBesideRelaxedCommits(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour, MemoryLimit: 1 << 20})
	put := func(step int, d Durability) {
		must(t, db.Update(func(tx *Tx) error {
			tx.SetDurability(d)
			for i := 0; i < 20000; i += step {
				if err := tx.Root().Put(fmt.Appendf(nil, "key%08d", i), make([]byte, 50)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	put(1, Sync)
	readersAboutIn(t, db)
	made, inside, synced := 0, false, false
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		ahead := kind == vfs.KindMsync && isLog(f) || kind == vfs.KindWrite && !isLog(f) && db.applying.Load()
		if kind == vfs.KindSync && isLog(f) {
			synced = true
		} else if ahead && !inside && !synced && made < 100 {
			made++
			inside = true
			put(100, Relaxed)
			inside = false
		}
		return nil
	})
	fsys.before.Store(&hook)
	mustPut(t, db, "k", "2")
	if !synced || made == 0 || made > 2 {
		t.Errorf("%d relaxed commits before the sync", made)
	}
	has(t, db, "k", "2")
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
