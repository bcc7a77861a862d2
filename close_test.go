package folio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// Close accepted transactions for as long as it made the file shorter, which was seconds in a large store, though its documentation
// says that they are refused as soon as it has been called.
func TestCloseRefusesWhileItShrinks(t *testing.T) {
	db, path := holed(t)
	before, err := os.Stat(path)
	must(t, err)
	moved := 0
	var wg sync.WaitGroup
	results := make(chan error, 100)
	db.opts.moving = func(TxID) { // Close is at it
		if moved++; moved > 1 {
			return
		}
		for _, begin := range []func() error{
			func() error { return db.Update(func(*Tx) error { return nil }) },
			func() error { return db.Batch(func(*Tx) error { return nil }) },
			func() error { return db.View(func(*Tx) error { return nil }) },
			func() error { return db.Backup(path + ".copy") },
			func() error { return db.Compact(path + ".copy") },
			func() error { _, err := db.Begin(true); return err },
		} {
			wg.Add(1)
			go func() { defer wg.Done(); results <- begin() }()
		}
	}
	within(t, "Close", func() { must(t, db.Close()) })
	within(t, "a transaction", wg.Wait)
	close(results)
	for err := range results {
		if !errors.Is(err, ErrDatabaseNotOpen) {
			t.Errorf("begun while Close moves pages: %v", err)
		}
	}
	after, err := os.Stat(path)
	must(t, err)
	if moved == 0 || after.Size() > before.Size()/2 {
		t.Errorf("pages were moved %d times; %d bytes, were %d", moved, after.Size(), before.Size())
	}
}

// Who waits for the writer lock when Close is called is refused when his turn comes; the transaction that has it is committed.
func TestCloseRefusesWhoWaits(t *testing.T) {
	db, path := holed(t)
	tx, err := db.Begin(true)
	must(t, err)
	results := make(chan error)
	for range 4 {
		go func() { results <- db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("late"), nil) }) }()
	}
	time.Sleep(20 * time.Millisecond) // they wait, most likely
	closed := make(chan struct{})
	go func() { defer close(closed); must(t, db.Close()) }()
	for !db.closing.Load() {
		time.Sleep(time.Millisecond)
	}
	must(t, tx.Root().Put([]byte("begun"), nil))
	must(t, tx.Commit())
	for range 4 {
		if err := <-results; !errors.Is(err, ErrDatabaseNotOpen) {
			t.Errorf("waited for the writer lock: %v", err)
		}
	}
	waitFor(t, "Close", closed)
	db = mustOpenAt(t, path, nil)
	must(t, db.View(func(tx *Tx) error {
		if tx.Root().Get([]byte("begun")) == nil || tx.Root().Get([]byte("late")) != nil {
			t.Error("not what was committed")
		}
		return nil
	}))
}

// A read transaction that was open when Close was called kept the pages from moving, and was waited for only afterwards: the file stayed
// as long as it was.
func TestCloseShrinksBehindReaders(t *testing.T) {
	db, path := holed(t)
	must(t, db.Checkpoint())
	at := func(i int) []byte { return fmt.Appendf(nil, "c%08d", i) }
	for i := 0; i < 20000; i += 1000 {
		must(t, db.Update(func(tx *Tx) error {
			for j := range 1000 {
				if err := tx.Root().Put(at(i+j), make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(t, db.Checkpoint())
	before, err := os.Stat(path)
	must(t, err)
	tx, err := db.Begin(false)
	must(t, err)
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange(at(0), at(19000))
		return err
	}))
	time.AfterFunc(100*time.Millisecond, func() { tx.Rollback() })
	within(t, "Close", func() { must(t, db.Close()) })
	after, err := os.Stat(path)
	must(t, err)
	if after.Size() > before.Size()/2 {
		t.Errorf("%d bytes, were %d", after.Size(), before.Size())
	}
}

// A second Close returned while the first one was still at work, and Open behind it was told that the store is open.
func TestCloseTwiceThenOpen(t *testing.T) {
	fs := newHookFS()
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpenAt(t, path, &Options{fs: fs})
	mustPut(t, db, "k", "v")
	at := make(chan struct{})
	var once sync.Once
	hook := hookFunc(func(vfs.Kind, vfs.File, int64, []byte) error {
		once.Do(func() {
			close(at)
			time.Sleep(50 * time.Millisecond)
		})
		return nil
	})
	fs.before.Store(&hook)
	first := make(chan error, 1)
	go func() { first <- db.Close() }()
	waitFor(t, "the first Close", at)
	must(t, db.Close())
	again, err := Open(path, nil)
	must(t, err)
	must(t, again.Close())
	must(t, <-first)
	must(t, db.Close())
}

// The second of two Closes waits for a transaction too, if that ends before long.
func TestCloseTwiceBesideReader(t *testing.T) {
	db, path := holed(t)
	tx, err := db.Begin(false)
	must(t, err)
	first := make(chan error, 1)
	go func() { first <- db.Close() }()
	for !db.closing.Load() {
		time.Sleep(time.Millisecond)
	}
	time.AfterFunc(50*time.Millisecond, func() { tx.Rollback() })
	must(t, db.Close())
	again, err := Open(path, nil)
	must(t, err)
	must(t, again.Close())
	must(t, <-first)
}

// A second Close must not wait for ever for the first when that waits for what the second one is called from.
func TestCloseTwiceFromWithin(t *testing.T) {
	for what, call := range map[string]func(db *DB, closing func()){
		"View":   func(db *DB, closing func()) { db.View(func(*Tx) error { closing(); return nil }) },
		"Update": func(db *DB, closing func()) { db.Update(func(*Tx) error { closing(); return nil }) },
		"a deferred transaction": func(db *DB, closing func()) {
			db.Update(func(tx *Tx) error { err := tx.Root().Put([]byte("k"), nil); closing(); return err })
		},
		"OnCommit": func(db *DB, closing func()) { db.Update(func(tx *Tx) error { tx.OnCommit(closing); return nil }) },
		"OnOldReader": func(db *DB, closing func()) {
			tx, err := db.Begin(false)
			if err != nil {
				panic(err)
			}
			db.opts.OldReaderAge, db.opts.OnOldReader = 1, func(Reader) { tx.Rollback(); closing() }
			time.Sleep(time.Millisecond)
			if err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), nil) }); err != nil {
				panic(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			db := mustOpen(t, nil)
			mustPut(t, db, "k", "v")
			mustPut(t, db, "k", "w")
			first := make(chan struct{})
			done := make(chan struct{})
			go call(db, func() {
				defer close(done)
				go func() { defer close(first); db.Close() }()
				for !db.closing.Load() {
					time.Sleep(time.Millisecond)
				}
				db.Close()
			})
			waitFor(t, "the second Close", done)
			waitFor(t, "the first Close", first)
		})
	}
}
