package folio

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
)

// A transaction that had passed the look at whether the store is being closed, and was held up, looked at the table when Close had
// unmapped it.
func TestBeginBesideClose(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	has(t, r, "k", "v")
	must(t, r.Close())
	if _, _, err := r.pinShared(); !errors.Is(err, ErrDatabaseNotOpen) { // what is left of Begin
		t.Error(err)
	}
}

// insteadFS does something before the first look at who has the name of a data file.
type insteadFS struct {
	vfs.FS
	once *sync.Once
	do   func()
}

func (f insteadFS) Stat(name string) (vfs.Info, error) {
	if filepath.Ext(name) == ".db" {
		f.once.Do(f.do)
	}
	return f.FS.Stat(name)
}

// The file was replaced while Open was at it, so Open left its table and went to the other file's. It took itself for
// detached from then on: the first commit that was new to it gave ErrDatabaseNotOpen.
func TestReplacedWhileAttaching(t *testing.T) {
	w, other := mustOpen(t, nil), mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "old")
	mustPut(t, other, "k", "new")
	must(t, errors.Join(w.Close(), other.Close()))
	replace := func() { must(t, os.Rename(other.Path(), path)) }
	r := openAgain(t, path, Options{ReadOnly: true, fs: insteadFS{vfs.OS, new(sync.Once), replace}})
	has(t, r, "k", "new")
	w = openAgain(t, path, Options{})
	mustPut(t, w, "k", "newer")
	has(t, r, "k", "newer")
}

// unmapFS counts the tables that are unmapped more often than mapped.
type unmapFS struct {
	vfs.FS
	twice *int
}

func (u unmapFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := u.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unmapFile{f, u.twice}, nil
}

type unmapFile struct {
	vfs.File
	twice *int
}

func (f unmapFile) Share(n int64) (vfs.Shared, error) {
	m, err := f.File.Share(n)
	if err != nil || m == nil {
		return m, err
	}
	return &unmapShared{m, f.twice, false}, nil
}

type unmapShared struct {
	vfs.Shared
	twice  *int
	closed bool
}

func (m *unmapShared) Close() error {
	if m.closed {
		*m.twice++
		return nil
	}
	m.closed = true
	return m.Shared.Close()
}

// A process that found no slot in the table left it twice, and unmapped what may have been somebody else's memory by then.
func TestNoSlot(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	r.share.mu.Lock() // beside its timers
	for {
		if _, err := r.table.Pin(1); err != nil {
			break
		}
	}
	r.share.mu.Unlock()
	twice := 0
	if _, err := tryAgain(w.Path(), Options{ReadOnly: true, fs: unmapFS{vfs.OS, &twice}}); !errors.Is(err, lockfile.ErrFull) {
		t.Errorf("Open without a slot: %v", err)
	}
	if twice > 0 {
		t.Error("the table was unmapped twice")
	}
}

// A relaxed commit found out that the log cannot be written, and told all who waited, while a leader showed to other processes what
// it had synced. The leader told them again: it closed a channel that was closed.
func TestPoisonedWhileShowing(t *testing.T) {
	fsys := newHookFS()
	w := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	has(t, r, "k", "v")
	reached, release := stopLogSync(fsys, nil)
	var commits sync.WaitGroup
	put := func(key string) {
		commits.Go(func() {
			if err := w.Update(func(tx *Tx) error { return tx.Root().Put([]byte(key), nil) }); err != nil && !errors.Is(err, ErrPoisoned) {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	put("a")
	<-reached
	put("b") // shares a group with the next one: the one leads, and the other waits
	put("c")
	for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) {
		w.groups.mu.Lock()
		if w.groups.open != nil {
			waiting = w.groups.open.waiters
		}
		w.groups.mu.Unlock()
	}
	var once sync.Once
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		w.groups.mu.Lock()
		second := w.groups.acked.tx >= 4
		w.groups.mu.Unlock()
		switch {
		case kind != vfs.KindWrite:
		case !second && !isLog(f):
			return syscall.ENOSPC // ahead of the sync; behind it nothing would be left to write
		case !second:
		case isLog(f):
			return errInjected
		default: // published, to be shown
			once.Do(func() {
				if err := putRelaxed(w, "d"); !errors.Is(err, ErrPoisoned) {
					t.Errorf("the log cannot be written: %v", err)
				}
			})
		}
		return nil
	})
	fsys.before.Store(&hook)
	close(release)
	commits.Wait()
}

// stuck opens a store to read that cannot have the newest commit: its writer could not publish it.
func stuck(t *testing.T, timeout time.Duration) *DB {
	t.Helper()
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true, LockTimeout: timeout})
	has(t, r, "k", "v")
	w.table.Acknowledge(w.acked.Load() + 1)
	return r
}

func view(db *DB) error { return db.View(func(*Tx) error { return nil }) }

// Close waited as long as transactions do that wait for another process: for ever, if they do.
func TestCloseBesideWaitForWriter(t *testing.T) {
	r := stuck(t, -1)
	began := make(chan error, 1)
	go func() { began <- view(r) }()
	for r.share.mu.TryLock() {
		r.share.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	closed := make(chan struct{})
	go func() { defer close(closed); r.Close() }()
	waitFor(t, "Close", closed)
	if err := <-began; !errors.Is(err, ErrDatabaseNotOpen) {
		t.Error(err)
	}
}

// Transactions that wait for another process waited one after the other, the last one as long as all together.
func TestWaitsForWriterDoNotAddUp(t *testing.T) {
	const timeout, n = 100 * time.Millisecond, 50
	r := stuck(t, timeout)
	start := time.Now()
	var views sync.WaitGroup
	for range n {
		views.Go(func() {
			if err := view(r); !errors.Is(err, ErrTimeout) {
				t.Error(err)
			}
		})
	}
	views.Wait()
	if d := time.Since(start); d > n/2*timeout {
		t.Errorf("%d transactions waited %v", n, d)
	}
}

// onWayFS does something when a process is about to open the table's file.
type onWayFS struct {
	vfs.FS
	once *sync.Once
	do   func()
}

func (f onWayFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if filepath.Ext(name) == ".db-lock" {
		f.once.Do(f.do)
	}
	return f.FS.Open(name, flag, perm)
}

// A writer that met a process on its way to the table took it for one that had come by another name of the file, and did not wait
// for LockTimeout.
func TestWriterMeetsReaderOnItsWay(t *testing.T) {
	w := mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "v")
	must(t, w.Close())
	opened := make(chan struct{})
	var err error
	meet := func() {
		go func() {
			defer close(opened)
			w, err = tryAgain(path, Options{LockTimeout: 5 * time.Second})
		}()
		select {
		case <-opened:
		case <-time.After(50 * time.Millisecond): // the writer waits for this process
		}
	}
	r := mustOpenAt(t, path, &Options{ReadOnly: true, fs: onWayFS{vfs.OS, new(sync.Once), meet}})
	waitFor(t, "the writer", opened)
	must(t, err)
	mustPut(t, w, "k", "w")
	has(t, r, "k", "w")
	must(t, w.Close())
}

// A process that reads by another name of the file was noticed by a writer only where nobody had attached by the writer's name.
// Beside such a one the writer wrote over what the other read.
// Case D6 of RELIABILITY.md.
func TestReadersByTwoNames(t *testing.T) {
	w := mustOpen(t, nil)
	path, other := w.Path(), filepath.Join(t.TempDir(), "other.db")
	mustPut(t, w, "k", "v")
	must(t, w.Close())
	must(t, os.Link(path, other))
	short := Options{LockTimeout: time.Millisecond}
	first := openAgain(t, other, Options{ReadOnly: true})
	for _, o := range []Options{{ReadOnly: true, LockTimeout: 1}, {Private: true, LockTimeout: 1}} {
		second := openAgain(t, path, o)
		has(t, first, "k", "v")
		has(t, second, "k", "v")
		for _, name := range []string{path, other} {
			if _, err := tryAgain(name, short); !errors.Is(err, ErrTimeout) {
				t.Errorf("writer beside readers by two names: %v", err)
			}
		}
		must(t, second.Close())
	}
	must(t, first.Close())
	w = openAgain(t, path, short)
	// Beside a writer nobody gets in by another name, as long as it lives.
	if _, err := tryAgain(other, Options{ReadOnly: true, LockTimeout: time.Millisecond}); !errors.Is(err, ErrTimeout) {
		t.Errorf("reader by another name than the writer's: %v", err)
	}
	second := openAgain(t, path, Options{ReadOnly: true})
	must(t, w.Close())
	first = openAgain(t, other, Options{ReadOnly: true, LockTimeout: 1})
	has(t, first, "k", "v")
	has(t, second, "k", "v")
}
