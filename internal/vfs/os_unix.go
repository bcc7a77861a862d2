//go:build linux || darwin || freebsd || netbsd || dragonfly

package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanReserve tells that a mapping may reach past the end of the file, and
// shows there what the file gains later.
const CanReserve = true

// spaceErrnos are the errors beside ENOSPC that mean it.
var spaceErrnos = []error{syscall.EDQUOT}

// osFile is an open file. Calls that os.File knows go through it; the others
// use the descriptor, under mu so that Close cannot hand its number to another file meanwhile.
type osFile struct {
	f        *os.File
	fd       int
	writable bool
	tells    bool // the kernel tells this process which pages of the file are in memory

	mu     sync.RWMutex
	closed bool // guarded by mu

	locks lockTable
}

func (osFS) Open(name string, flag int, perm fs.FileMode) (File, error) {
	// Without O_NONBLOCK opening a pipe would wait for its other end.
	flags := flag | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := openRetry(name, flags, uint32(perm.Perm()))
	if err != nil {
		return nil, openError(name, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotRegular
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, pathError("open", name, err)
	}
	writable := flag&os.O_RDWR != 0
	return &osFile{f: os.NewFile(uintptr(fd), name), fd: fd, writable: writable, tells: writable || int(st.Uid) == os.Geteuid()}, nil
}

func openRetry(name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Open(name, flags, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (osFS) Link(oldname, newname string) error {
	err := os.Link(oldname, newname)
	if err == nil || !noHardLinks(err) {
		return spaceError(err)
	}
	if err := renameNew(oldname, newname); err != nil {
		return spaceError(&os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err})
	}
	return nil
}

// noHardLinks tells that a failed link may be for want of hard links.
func noHardLinks(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOSYS, unix.EMLINK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (osFS) Rename(oldname, newname string) error {
	return spaceError(os.Rename(oldname, newname))
}

func (osFS) Remove(name string) error {
	return pathError("remove", name, retry(func() error { return unix.Unlink(name) }))
}

func (osFS) SyncDir(dir string) error {
	d, err := os.OpenFile(filepath.Clean(dir), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // a file system that has nothing to sync for a directory
	}
	return spaceError(err)
}

func (osFS) Stat(name string) (Info, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

func infoOf(fi fs.FileInfo) Info {
	st := fi.Sys().(*syscall.Stat_t)
	return Info{
		Size:  fi.Size(),
		Dev:   uint64(st.Dev), // signed on some systems
		Ino:   uint64(st.Ino),
		Links: uint64(st.Nlink),
		Mode:  fi.Mode(),
	}
}

func (f *osFile) Name() string { return f.f.Name() }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// writePiece is how many bytes one call writes. A write of a megabyte has ext4 keep that part of the file in pieces of memory as large, and walk through
// all 256 blocks of one, several times, whenever a later commit writes one of them and syncs: in a log that was filled with zeros so, durable puts took 131 us,
// by pieces of 64 KiB 108, of 16 KiB 108, and of 4 KiB 113 (medians of 3 to 6, on Linux 6.18). WriteV is as it was: no difference was measured.
const writePiece = 64 << 10

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	for {
		m, err := f.f.WriteAt(p[n:min(n+writePiece, len(p))], off+int64(n))
		if n += m; err != nil || n == len(p) {
			return n, spaceError(err)
		}
	}
}

func (f *osFile) Truncate(size int64) error { return spaceError(f.f.Truncate(size)) }

func (f *osFile) Stat() (Info, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

func (f *osFile) Lock(off int64, exclusive bool) error {
	return f.call("lock", func(fd int) error { return f.locks.lock(fd, off, exclusive) })
}

func (f *osFile) Unlock(off int64) error {
	return f.call("unlock", func(fd int) error { return f.locks.unlock(fd, off) })
}

func (f *osFile) Map(length int64) (Mapping, error) {
	var m *mapping
	err := f.call("mmap", func(fd int) (err error) {
		m, err = newMapping(fd, length, f.writable)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.file, m.tells = f, f.tells
	return m, nil
}

func (f *osFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.f.Close()
}

// call runs fn on the descriptor, again when a signal interrupted it, and
// names the file in its error.
func (f *osFile) call(op string, fn func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return pathError(op, f.Name(), fs.ErrClosed)
	}
	return pathError(op, f.Name(), retry(func() error { return fn(f.fd) }))
}

// retry calls fn until no signal interrupts it.
func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
