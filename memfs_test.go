package folio

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/foliodb/folio/internal/vfs"
)

// memFS is a file system in memory, for tests that open a store a million times: on a real one most of the time goes
// into cutting files. Files have one folder, and a fixed room each. It differs from a real one in that a
// byte of a mapping behind the end of the file is zero and no fault, that locks lock nothing, and that a file which was
// removed must not be used any more.
type memFS struct {
	mu    sync.Mutex
	room  int // bytes that a file can have
	dev   uint64
	files map[string]*memFile
	inode uint64
	spare []*memFile // removed ones, whose memory is used again
}

var memDevices atomic.Uint64

func newMemFS(room int) *memFS {
	return &memFS{room: room, dev: ^memDevices.Add(1), files: map[string]*memFile{}}
}

// clear removes all files.
func (m *memFS) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[*memFile]bool{}
	for _, f := range m.files {
		if !seen[f] {
			m.spare = append(m.spare, f)
		}
		seen[f] = true
	}
	clear(m.files)
}

type memFile struct {
	fs   *memFS
	name string
	ino  uint64
	data []byte // with room for all that it can have; zeros behind its length
}

// put makes or overwrites a file.
func (m *memFS) put(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.make(name)
	f.resize(len(content))
	copy(f.data, content)
}

// fill makes a file of what fn appends to its room.
func (m *memFS) fill(name string, fn func(room []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.make(name)
	f.data = fn(f.data)
}

func (m *memFS) make(name string) *memFile {
	if f := m.files[name]; f != nil {
		return f
	}
	m.inode++
	f := &memFile{fs: m, name: name, ino: m.inode}
	if n := len(m.spare); n > 0 {
		f.data, m.spare = m.spare[n-1].data, m.spare[:n-1]
		f.resize(0)
	} else {
		f.data = make([]byte, 0, m.room)
	}
	m.files[name] = f
	return f
}

func (f *memFile) resize(n int) {
	old := len(f.data)
	f.data = f.data[:n]
	if n < old {
		clear(f.data[n:old])
	}
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (m *memFS) Open(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	switch {
	case f == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case f != nil && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	}
	f = m.make(name)
	if flag&os.O_TRUNC != 0 {
		f.resize(0)
	}
	return f, nil
}

func (m *memFS) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[to] != nil {
		return pathError("link", to, fs.ErrExist)
	}
	m.files[to] = m.files[from]
	return nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	delete(m.files, name)
	for _, other := range m.files {
		if other == f {
			return nil
		}
	}
	m.spare = append(m.spare, f)
	return nil
}

func (m *memFS) SyncDir(string) error { return nil }

func (m *memFS) Stat(name string) (vfs.Info, error) {
	m.mu.Lock()
	f := m.files[name]
	m.mu.Unlock()
	if f == nil {
		return vfs.Info{}, pathError("stat", name, fs.ErrNotExist)
	}
	return f.Stat()
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.Allocate(off, int64(len(p))); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return copy(f.data[off:], p), nil
}

func (f *memFile) WriteV(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (f *memFile) Window(int64, int64) (vfs.Window, error) { return vfs.PlainWindow(f), nil }

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if size > int64(f.fs.room) {
		return pathError("truncate", f.name, syscall.ENOSPC)
	}
	f.resize(int(size))
	return nil
}

func (f *memFile) Allocate(off, n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case off+n > int64(f.fs.room):
		return pathError("allocate", f.name, syscall.ENOSPC)
	case off+n > int64(len(f.data)):
		f.resize(int(off + n))
	}
	return nil
}

func (f *memFile) Sync() error { return nil }

func (f *memFile) Stat() (vfs.Info, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return vfs.Info{Size: int64(len(f.data)), Dev: f.fs.dev, Ino: f.ino, Links: 1, Mode: 0o600}, nil
}

// Private is not needed of files in memory.
func (f *memFile) Private(int64) (vfs.File, int64, error) { return nil, 0, errors.ErrUnsupported }

// Share is not needed either: a store in memory has one process.
func (f *memFile) Share(int64) (vfs.Shared, error) { return nil, errors.ErrUnsupported }

// Medium is memory of this process.
func (f *memFile) Medium() (vfs.Medium, error) { return vfs.Medium{}, nil }

func (f *memFile) DropCache(int64) error              { return nil }
func (f *memFile) WriteOut(int64, int64, bool) error  { return nil }
func (f *memFile) Lock(int64, bool) error             { return nil }
func (f *memFile) Unlock(int64) error                 { return nil }
func (f *memFile) LockedByOthers(int64) (bool, error) { return false, errors.ErrUnsupported }
func (f *memFile) Close() error                       { return nil }
func (f *memFile) Map(length int64) (vfs.Mapping, error) {
	if length > int64(f.fs.room) {
		return nil, pathError("map", filepath.Base(f.name), syscall.ENOMEM)
	}
	return &memMapping{f: f, n: int(length)}, nil
}

type memMapping struct {
	f *memFile
	n int
}

func (m *memMapping) Bytes() []byte              { return m.f.data[:m.n:m.n] }
func (m *memMapping) Extend(length int64) bool   { return length <= int64(m.n) }
func (m *memMapping) Sync(off, n int64) error    { return nil }
func (m *memMapping) WillNeed(off, n int64)      {}
func (m *memMapping) Resident(off, n int64) bool { return false }
func (m *memMapping) Close() error               { return nil }
func (m *memMapping) Populate(off, n int64) error {
	if info, _ := m.f.Stat(); off+n > (info.Size+sweepPage-1)/sweepPage*sweepPage {
		return vfs.ErrFault
	}
	return nil
}
