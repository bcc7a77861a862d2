package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// Schedules that a naive reading of the design gets wrong, as far as no other test is about them.

// An operation fails for want of space when it has changed half a tree. The caller ignores that and commits: were it to
// succeed, the log would have other operations than the pages show, and a replay would make another store.
// Case B8 of RELIABILITY.md.
func TestFailedOperationDoomsItsTransaction(t *testing.T) {
	failer := vfs.NewFailer(vfs.OS)
	db := mustOpen(t, &Options{fs: failer})
	mustPut(t, db, "a", "0")
	tx, err := db.Begin(true)
	must(t, err)
	must(t, tx.Root().Put([]byte("a"), []byte("1")))
	failer.Set(vfs.Rule{Kinds: []vfs.Kind{vfs.KindAllocate}, Name: ".db", Err: syscall.ENOSPC, Forever: true})
	if err := tx.Root().Put([]byte("b"), make([]byte, 4<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("put on a full disk: %v", err)
	}
	failer.Set()
	if err := tx.Commit(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("commit behind an operation that failed: %v", err)
	}
	// An error of use changes nothing, and dooms nothing.
	must(t, db.Update(func(tx *Tx) error {
		if err := tx.Root().Put(nil, nil); !errors.Is(err, ErrKeyRequired) {
			t.Errorf("put without a key: %v", err)
		}
		return tx.Root().Put([]byte("c"), []byte("2"))
	}))
	for what, path := range map[string]string{"store": db.Path(), "replayed": crashCopy(t, db.Path())} {
		if what == "store" {
			has(t, db, "a", "0")
			continue
		}
		again := mustOpenAt(t, path, nil)
		has(t, again, "a", "0")
		has(t, again, "c", "2")
		must(t, again.Check())
	}
	must(t, db.Check())
}

// raceFS has something happen just before a new store is given its name.
type raceFS struct {
	vfs.FS
	once   sync.Once
	before func()
}

func (r *raceFS) Link(from, to string) error {
	r.once.Do(r.before)
	return r.FS.Link(from, to)
}

// Two processes find no file, and both make a store. The second must not put its own over the one that the first has
// made meanwhile, and acknowledged a commit in.
// Case C7 of RELIABILITY.md.
func TestCreationRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	race := &raceFS{FS: vfs.OS, before: func() {
		first := mustOpenAt(t, path, nil)
		mustPut(t, first, "first", "1")
		crashKill(first)
	}}
	db := mustOpenAt(t, path, &Options{fs: race})
	has(t, db, "first", "1")
	mustPut(t, db, "second", "2")
	must(t, db.Close())
	names, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(names) != 1 {
		t.Errorf("files: %v", names)
	}
}

// A copy that had its store's id would take the store's log for its own, were it put in the place of the store; and replay
// on pages that are not the log's.
// Case C8 of RELIABILITY.md.
func TestCopiesAreStoresOfTheirOwn(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	dir := filepath.Dir(db.Path())
	ids := map[[16]byte]string{idOf(t, db.Path()): "store"}
	for what, make := range map[string]func(path string) error{
		"backup":  db.Backup,
		"compact": db.Compact,
		"copy": func(path string) error {
			return db.View(func(tx *Tx) error { return tx.CopyFile(path, 0) })
		},
		"write": func(path string) error {
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			err = db.View(func(tx *Tx) error { _, err := tx.WriteTo(f); return err })
			return errors.Join(err, f.Close())
		},
		"salvage": func(path string) error {
			_, err := Salvage(crashCopy(t, db.Path()), path, nil)
			return err
		},
	} {
		path := filepath.Join(dir, what+".db")
		must(t, make(path))
		id := idOf(t, path)
		if same, ok := ids[id]; ok {
			t.Errorf("%s has the id of %s", what, same)
		}
		ids[id] = what
		log, err := os.ReadFile(logName(db.Path()))
		must(t, err)
		must(t, os.WriteFile(logName(path), log, 0o600))
		if _, err := Open(path, nil); !errors.Is(err, ErrLogCorrupt) {
			t.Errorf("%s beside the store's log: %v, want ErrLogCorrupt", what, err)
		}
		must(t, os.Remove(logName(path)))
		own := mustOpenAt(t, path, nil)
		has(t, own, "a", "1")
		must(t, own.Close())
	}
}

// idOf reads the id of a store.
func idOf(t *testing.T, path string) [16]byte {
	t.Helper()
	m, err := page.DecodeMeta(readFile(t, path), 0)
	must(t, err)
	return m.StoreID
}

// OnCommit's functions run without a lock: they may use the store in any way.
// Case F7 of RELIABILITY.md.
func TestOnCommitHoldsNoLock(t *testing.T) {
	db := mustOpen(t, nil)
	for _, d := range []Durability{Sync, Relaxed} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ran := false
			if err := db.Update(func(tx *Tx) error {
				tx.SetDurability(d)
				tx.OnCommit(func() {
					ran = true
					mustPut(t, db, "in", "side")
					has(t, db, "in", "side")
					if err := errors.Join(db.Checkpoint(), db.Sync(), db.Check()); err != nil {
						t.Error(err)
					}
				})
				return tx.Root().Put([]byte("a"), []byte("b"))
			}); err != nil || !ran {
				t.Errorf("%v: %v, ran %v", d, err, ran)
			}
		}()
		waitFor(t, "a commit's function", done)
	}
}

// The goroutine that syncs for others ends in the middle of it. They must not wait for ever: one of them takes over.
// Case F6 of RELIABILITY.md.
func TestLeaderThatEndsHandsOver(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "first", "log")
	var once sync.Once
	reached, release := make(chan struct{}), make(chan struct{})
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindSync && isLog(f) {
			once.Do(func() {
				close(reached)
				<-release
				runtime.Goexit()
			})
		}
		return nil
	})
	fsys.before.Store(&hook)
	go db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("leader"), nil) })
	waitFor(t, "the leader", reached)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Append(nil, i), nil) }); err != nil {
				t.Error(err)
			}
		})
	}
	for db.Stats().Commits < 5 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	waitFor(t, "a follower", done)
	must(t, db.Check())
}

// A panic of the user's own passes through View and Update, a memory fault of his too: only a fault inside the mapping is
// damage. The store goes on.
// Case F15 of RELIABILITY.md.
func TestPanicsOfTheUserPass(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	var null *int
	for what, fn := range map[string]func(tx *Tx) error{
		"panic": func(tx *Tx) error { panic("mine") },
		"fault": func(tx *Tx) error { *null++; return nil },
	} {
		for how, call := range map[string]func(func(*Tx) error) error{"view": db.View, "update": db.Update} {
			func() {
				defer func() {
					if r := recover(); r == nil {
						t.Errorf("%s in %s: recovered by the store", what, how)
					}
				}()
				err := call(func(tx *Tx) error {
					if tx.Writable() {
						must(t, tx.Root().Put([]byte("a"), []byte("2")))
					}
					return fn(tx)
				})
				t.Errorf("%s in %s: %v", what, how, err)
			}()
		}
	}
	has(t, db, "a", "1")
	mustPut(t, db, "a", "3")
	must(t, db.Check())
}

// A log may not be taken for missing by who cannot tell. Once any error of that look counted as "no log": a store was
// made anew beside the log of one whose data file was gone for the moment, and its first commit replaced the log.
func TestLogThatCannotBeLookedFor(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	path := crashCopy(t, db.Path())
	must(t, os.Rename(path, path+".away"))
	failer := vfs.NewFailer(vfs.OS, vfs.Rule{Kinds: []vfs.Kind{vfs.KindStat}, Name: "-wal", Forever: true})
	if _, err := Open(path, &Options{fs: failer}); !errors.Is(err, syscall.EIO) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a store was made: %v", err)
	}
	must(t, os.Rename(path+".away", path))
	again := mustOpenAt(t, path, nil)
	has(t, again, "a", "1")
}

// The header of a log beside a clean store cannot be read. Once that counted as damage, and the log was removed: it may be
// another store's, and hold its commits.
func TestStrayLogThatCannotBeRead(t *testing.T) {
	other := mustOpen(t, nil)
	mustPut(t, other, "a", "1")
	db := mustOpen(t, nil)
	path := db.Path()
	must(t, db.Close())
	log := readFile(t, logName(other.Path()))
	must(t, os.WriteFile(logName(path), log, 0o600))
	failer := vfs.NewFailer(vfs.OS, vfs.Rule{Kinds: []vfs.Kind{vfs.KindRead}, Name: "-wal", Forever: true})
	if _, err := Open(path, &Options{fs: failer}); !errors.Is(err, syscall.EIO) {
		t.Errorf("open: %v", err)
	}
	if got := readFile(t, logName(path)); string(got) != string(log) {
		t.Error("the other store's log is gone")
	}
}

// Copies ask first whether they would write over the store itself, or over a file. Once an error of that question was "no".
func TestCopyToWhatCannotBeLookedAt(t *testing.T) {
	failer := vfs.NewFailer(vfs.OS)
	db := mustOpen(t, &Options{fs: failer})
	mustPut(t, db, "a", "1")
	failer.Set(vfs.Rule{Kinds: []vfs.Kind{vfs.KindStat}, Name: "a.db", Forever: true})
	err := db.View(func(tx *Tx) error { return tx.CopyFile(db.Path(), 0) })
	failer.Set()
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("copy over the store itself: %v", err)
	}
	mustPut(t, db, "a", "2")
	path := db.Path()
	must(t, db.Close())
	has(t, mustOpenAt(t, path, nil), "a", "2")
}

// Both slots are there, and the disk fails. Once that was "not a Folio store", or the damage of the other slot, and what the
// disk had said was lost.
func TestSlotsThatCannotBeRead(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		db := mustOpen(t, nil)
		mustPut(t, db, "a", "1")
		path := db.Path()
		must(t, db.Close())
		if damaged {
			spoilByte(t, path, 100)
		}
		failer := vfs.NewFailer(vfs.OS, vfs.Rule{Kinds: []vfs.Kind{vfs.KindRead}, Name: ".db", Forever: true})
		for _, o := range []Options{{fs: failer}, {fs: failer, ReadOnly: true}} {
			if _, err := Open(path, &o); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrInvalid) {
				t.Errorf("damaged %v, read only %v: %v", damaged, o.ReadOnly, err)
			}
		}
		has(t, mustOpenAt(t, path, nil), "a", "1")
	}
}
