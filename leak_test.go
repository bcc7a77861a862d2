package folio

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// leakFS counts what is open: files, mappings, windows, shared memory. A mapping that nobody lets go of keeps the address space, and
// the open file with its locks.
type leakFS struct {
	vfs.FS
	files, maps, windows, shared atomic.Int64
}

// left says what is still open; "": nothing.
func (l *leakFS) left() string {
	if f, m, w, s := l.files.Load(), l.maps.Load(), l.windows.Load(), l.shared.Load(); f != 0 || m != 0 || w != 0 || s != 0 {
		return fmt.Sprintf("%d files, %d mappings, %d windows and %d tables are left open", f, m, w, s)
	}
	return ""
}

func (l *leakFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := l.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	l.files.Add(1)
	return &leakFile{File: f, l: l}, nil
}

type leakFile struct {
	vfs.File
	l    *leakFS
	once sync.Once
}

func (f *leakFile) Close() error {
	f.once.Do(func() { f.l.files.Add(-1) })
	return f.File.Close()
}

// Private gives a file in the place of this one, which closes it.
func (f *leakFile) Private(align int64) (vfs.File, int64, error) {
	p, base, err := f.File.Private(align)
	if err != nil {
		return nil, 0, err
	}
	return &leakPrivate{p, f}, base, nil
}

type leakPrivate struct {
	vfs.File
	of *leakFile
}

func (p *leakPrivate) Close() error {
	p.of.once.Do(func() { p.of.l.files.Add(-1) })
	return p.File.Close()
}

func (f *leakFile) Map(length int64) (vfs.Mapping, error) {
	m, err := f.File.Map(length)
	if err != nil {
		return nil, err
	}
	f.l.maps.Add(1)
	return &leakMapping{Mapping: m, l: f.l}, nil
}

func (f *leakFile) Window(off, n int64) (vfs.Window, error) {
	w, err := f.File.Window(off, n)
	if err != nil {
		return nil, err
	}
	f.l.windows.Add(1)
	return &leakWindow{Window: w, l: f.l}, nil
}

func (f *leakFile) Share(length int64) (vfs.Shared, error) {
	s, err := f.File.Share(length)
	if err != nil || s == nil {
		return nil, err
	}
	f.l.shared.Add(1)
	return &leakShared{Shared: s, l: f.l}, nil
}

type leakMapping struct {
	vfs.Mapping
	l *leakFS
}

func (m *leakMapping) Close() error {
	m.l.maps.Add(-1)
	return m.Mapping.Close()
}

type leakWindow struct {
	vfs.Window
	l *leakFS
}

func (w *leakWindow) Close() error {
	w.l.windows.Add(-1)
	return w.Window.Close()
}

type leakShared struct {
	vfs.Shared
	l *leakFS
}

func (s *leakShared) Close() error {
	s.l.shared.Add(-1)
	return s.Shared.Close()
}

// Recovery, or a process that only reads, fails late. Once the transaction of the replay was left open then, or the
// snapshot that had been made: with it a mapping, and, had the lock not been released by name, the lock.
func TestFailedOpenLeavesNothing(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		db := mustOpen(t, nil)
		mustPut(t, db, "a", "1")
		must(t, db.Checkpoint())
		mustPut(t, db, "a", "2") // whose replay reads a page of the file
		killed := crashCopy(t, db.Path())
		has(t, db, "a", "2") // or it takes memory when it comes to that
		failed := 0
		for nth := 1; nth <= 200; nth++ {
			leak, memories := &leakFS{FS: vfs.OS}, vfs.Memories()
			failer := vfs.NewFailer(leak, vfs.Rule{Nth: nth, Err: syscall.EIO})
			db, err := Open(crashCopy(t, killed), &Options{fs: failer, ReadOnly: readOnly})
			if err == nil {
				crashKill(db)
				if failer.Failed() == 0 {
					break
				}
				continue
			}
			failed++
			if what := leak.left(); what != "" {
				t.Errorf("read only %v, call %d fails: %s", readOnly, nth, what)
			}
			if n := vfs.Memories() - memories; n > 0 {
				t.Errorf("read only %v, call %d fails: %d pieces of memory are left", readOnly, nth, n)
			}
		}
		if failed < 20 {
			t.Errorf("read only %v: only %d calls made Open fail", readOnly, failed)
		}
	}
}
