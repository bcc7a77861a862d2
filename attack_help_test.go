package folio

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// attackFS is the real file system with a hook before and after each write and sync, so that a test
// can stop a goroutine at a certain call, fail it, or do something else meanwhile.
type attackFS struct {
	vfs.FS
	before, after atomic.Pointer[attackHook]
}

// attackHook is told the kind, the base name, the offset and, of a plain write, the bytes. What it
// returns is the call's error.
type attackHook func(kind vfs.Kind, f vfs.File, off int64, p []byte) error

func newAttackFS() *attackFS { return &attackFS{FS: vfs.OS} }

func (a *attackFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := a.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &attackFile{f, a}, nil
}

type attackFile struct {
	vfs.File
	a *attackFS
}

func (f *attackFile) around(kind vfs.Kind, off int64, p []byte, call func() error) error {
	if h := f.a.before.Load(); h != nil {
		if err := (*h)(kind, f.File, off, p); err != nil {
			return err
		}
	}
	err := call()
	if h := f.a.after.Load(); h != nil && err == nil {
		err = (*h)(kind, f.File, off, p)
	}
	return err
}

func (f *attackFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.around(vfs.KindWrite, off, p, func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *attackFile) WriteV(bufs [][]byte, off int64) error {
	return f.around(vfs.KindWrite, off, nil, func() error { return f.File.WriteV(bufs, off) })
}

func (f *attackFile) Sync() error { return f.around(vfs.KindSync, 0, nil, f.File.Sync) }

func (f *attackFile) Truncate(n int64) error {
	return f.around(vfs.KindTruncate, n, nil, func() error { return f.File.Truncate(n) })
}

func isLog(f vfs.File) bool { return filepath.Ext(f.Name()) == ".db-wal" }

var errAttack error = syscall.EIO

// attackOpen opens a store in a fresh directory.
func attackOpen(t *testing.T, o *Options) *DB {
	t.Helper()
	return attackOpenAt(t, filepath.Join(t.TempDir(), "a.db"), o)
}

func attackOpenAt(t *testing.T, path string, o *Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // else it may hang
			db.Close()
		}
	})
	return db
}

func attackMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func attackPut(t *testing.T, db *DB, key, value string) {
	t.Helper()
	attackMust(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte(key), []byte(value)) }))
}

// attackCrash copies the files as they are, as another process finds them after a kill.
func attackCrash(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "a.db")
	for _, ext := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + ext)
		if os.IsNotExist(err) {
			continue
		}
		attackMust(t, err)
		attackMust(t, os.WriteFile(to+ext, b, 0o600))
	}
	return to
}

// attackWait fails the test when what it waits for hangs.
func attackWait(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}
