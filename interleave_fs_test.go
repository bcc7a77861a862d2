package folio

import (
	"errors"
	"io/fs"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/internal/weave"
)

// loomFS lets other tasks go on before and after each call on a file. Under a recorder calls on names are not
// interrupted, since it holds a lock across them.
type loomFS struct {
	vfs.FS
	recorded bool
	remap    bool
}

func (l *loomFS) name() {
	if !l.recorded {
		weave.Yield()
	}
}

func (l *loomFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	l.name()
	f, err := l.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &loomFile{f, l}, nil
}

func (l *loomFS) Link(from, to string) error   { l.name(); return l.FS.Link(from, to) }
func (l *loomFS) Rename(from, to string) error { l.name(); return l.FS.Rename(from, to) }
func (l *loomFS) Remove(name string) error     { l.name(); return l.FS.Remove(name) }
func (l *loomFS) SyncDir(dir string) error     { l.name(); return l.FS.SyncDir(dir) }

type loomFile struct {
	vfs.File
	l *loomFS
}

// Share is not to be had: other processes are not among the tasks.
func (f *loomFile) Share(int64) (vfs.Shared, error) { return nil, errors.ErrUnsupported }

func (f *loomFile) WriteAt(p []byte, off int64) (int, error) {
	weave.Yield()
	n, err := f.File.WriteAt(p, off)
	weave.Yield()
	return n, err
}

func (f *loomFile) WriteV(bufs [][]byte, off int64) error {
	weave.Yield()
	err := f.File.WriteV(bufs, off)
	weave.Yield()
	return err
}

func (f *loomFile) Window(int64, int64) (vfs.Window, error) { return vfs.PlainWindow(f), nil }

func (f *loomFile) Truncate(size int64) error {
	weave.Yield()
	err := f.File.Truncate(size)
	weave.Yield()
	return err
}

func (f *loomFile) Allocate(off, n int64) error {
	weave.Yield()
	err := f.File.Allocate(off, n)
	weave.Yield()
	return err
}

func (f *loomFile) Sync() error {
	weave.Yield()
	err := f.File.Sync()
	weave.Yield()
	return err
}

func (f *loomFile) Map(length int64) (vfs.Mapping, error) {
	weave.Yield()
	m, err := f.File.Map(length)
	if err != nil {
		return nil, err
	}
	weave.Yield()
	return &loomMapping{m, f.l}, nil
}

func (f *loomFile) Close() error {
	weave.Yield()
	return f.File.Close()
}

type loomMapping struct {
	vfs.Mapping
	l *loomFS
}

// Extend may or may not work, as the process's memory lies: that is decided here, so that schedules can be run again.
func (m *loomMapping) Extend(length int64) bool { return !m.l.remap && m.Mapping.Extend(length) }

// Resident would tell how far the system has come with writing and dropping pages, on which no schedule should depend. A third of the pages are never there.
func (m *loomMapping) Resident(off, n int64) bool {
	for ; n > 0; off, n = off+4096, n-4096 {
		if off>>12%3 == 0 {
			return false
		}
	}
	return true
}

func (m *loomMapping) Sync(off, n int64) error {
	weave.Yield()
	err := m.Mapping.Sync(off, n)
	weave.Yield()
	return err
}
