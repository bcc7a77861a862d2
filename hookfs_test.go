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

// hookFS is the real file system with a hook before and after each write, sync and change of size, so that a test
// can stop a goroutine at a certain call, fail it, or do something else meanwhile.
type hookFS struct {
	vfs.FS
	before, after atomic.Pointer[hookFunc]
}

// hookFunc is told the kind, the base name, the offset and, of a plain write, the bytes. What it
// returns is the call's error.
type hookFunc func(kind vfs.Kind, f vfs.File, off int64, p []byte) error

func newHookFS() *hookFS { return &hookFS{FS: vfs.OS} }

func (a *hookFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := a.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &hookFile{f, a}, nil
}

type hookFile struct {
	vfs.File
	a *hookFS
}

func (f *hookFile) around(kind vfs.Kind, off int64, p []byte, call func() error) error {
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

func (f *hookFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.around(vfs.KindWrite, off, p, func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *hookFile) WriteV(bufs [][]byte, off int64) error {
	return f.around(vfs.KindWrite, off, nil, func() error { return f.File.WriteV(bufs, off) })
}

func (f *hookFile) Window(int64, int64) (vfs.Window, error) { return vfs.PlainWindow(f), nil }

func (f *hookFile) Sync() error { return f.around(vfs.KindSync, 0, nil, f.File.Sync) }

func (f *hookFile) Truncate(n int64) error {
	return f.around(vfs.KindTruncate, n, nil, func() error { return f.File.Truncate(n) })
}

func (f *hookFile) Allocate(off, n int64) error {
	return f.around(vfs.KindAllocate, off, nil, func() error { return f.File.Allocate(off, n) })
}

func (f *hookFile) WriteOut(off, n int64, wait bool) error {
	return f.around(vfs.KindMsync, off, nil, func() error { return f.File.WriteOut(off, n, wait) })
}

func (f *hookFile) DropCache(n int64) error {
	return f.around(vfs.KindDrop, n, nil, func() error { return f.File.DropCache(n) })
}

func isLog(f vfs.File) bool { return filepath.Ext(f.Name()) == ".db-wal" }

var errInjected error = syscall.EIO

// mustOpen opens a store in a fresh directory.
func mustOpen(t *testing.T, o *Options) *DB {
	t.Helper()
	return mustOpenAt(t, filepath.Join(t.TempDir(), "a.db"), o)
}

func mustOpenAt(t *testing.T, path string, o *Options) *DB {
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustPut(t *testing.T, db *DB, key, value string) {
	t.Helper()
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte(key), []byte(value)) }))
}

// crashCopy copies the files as they are, as another process finds them after a kill.
func crashCopy(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "a.db")
	for _, ext := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + ext)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		must(t, os.WriteFile(to+ext, b, 0o600))
	}
	return to
}

// waitFor fails the test when what it waits for hangs.
func waitFor(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// spoilByte changes a byte of a file.
func spoilByte(t *testing.T, path string, at int) {
	b, err := os.ReadFile(path)
	must(t, err)
	b[at] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
}

func readFile(t *testing.T, name string) []byte {
	b, err := os.ReadFile(name)
	must(t, err)
	return b
}

func get(t *testing.T, db *DB, key string) string {
	t.Helper()
	var v string
	if err := db.View(func(tx *Tx) error { v = string(tx.Root().Get([]byte(key))); return nil }); err != nil {
		t.Fatal(err)
	}
	return v
}

func has(t *testing.T, db *DB, key, want string) {
	t.Helper()
	if got := get(t, db, key); got != want {
		t.Errorf("%s: %q, want %q", key, got, want)
	}
}
