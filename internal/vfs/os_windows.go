package vfs

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// CanReserve tells that a mapping may reach past the end of the file. Here it
// ends with the file, and the file must be mapped anew after it grew.
const CanReserve = false

// LockPerByte tells that locks on different bytes of a file are independent.
const LockPerByte = true

// lockBase moves the lock bytes far past the end of any file, because a locked
// byte cannot be read through another handle.
const lockBase = 1 << 62

var spaceErrnos = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}

// osFile is an open file. Calls that os.File knows go through it; the others
// use the handle, under mu so that Close cannot hand its number to another file meanwhile.
type osFile struct {
	f        *os.File
	handle   windows.Handle
	writable bool

	mu     sync.RWMutex
	closed bool // guarded by mu

	lockMu sync.Mutex
	locks  map[int64]bool // held bytes: exclusive; guarded by lockMu
}

func (osFS) Open(name string, flag int, perm fs.FileMode) (File, error) {
	// FILE_FLAG_OPEN_REPARSE_POINT opens a symbolic link itself.
	h, err := createFile(name, flag, windows.FILE_FLAG_OPEN_REPARSE_POINT)
	if err != nil {
		return nil, openError(name, err)
	}
	again, err := checkRegular(h)
	if again {
		windows.CloseHandle(h)
		if h, err = createFile(name, flag&^(os.O_CREATE|os.O_EXCL), 0); err != nil {
			return nil, openError(name, err)
		}
	}
	if err != nil {
		windows.CloseHandle(h)
		return nil, pathError("open", name, err)
	}
	f := &osFile{f: os.NewFile(uintptr(h), name), handle: h, writable: flag&os.O_RDWR != 0, locks: map[int64]bool{}}
	if flag&os.O_TRUNC != 0 {
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// createFile opens without keeping others from reading, writing, renaming or
// removing the file.
func createFile(name string, flag int, attrs uint32) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	access := uint32(windows.GENERIC_READ)
	if flag&os.O_RDWR != 0 {
		access |= windows.GENERIC_WRITE
	}
	mode := uint32(windows.OPEN_EXISTING)
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		mode = windows.CREATE_NEW
	case flag&os.O_CREATE != 0:
		mode = windows.OPEN_ALWAYS
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	return windows.CreateFile(p, access, share, nil, mode, windows.FILE_ATTRIBUTE_NORMAL|attrs, 0)
}

// checkRegular refuses links and devices. A reparse point that is no link
// (a compressed or remote file) has to be opened again, through it.
func checkRegular(h windows.Handle) (again bool, err error) {
	if t, err := windows.GetFileType(h); err != nil || t != windows.FILE_TYPE_DISK {
		return false, errors.Join(ErrNotRegular, err)
	}
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return false, err
	}
	if info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0 {
		return false, ErrNotRegular
	}
	if info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT == 0 {
		return false, nil
	}
	var tag struct{ attrs, tag uint32 }
	err = windows.GetFileInformationByHandleEx(h, windows.FileAttributeTagInfo, (*byte)(unsafe.Pointer(&tag)), uint32(unsafe.Sizeof(tag)))
	if err != nil {
		return false, err
	}
	if tag.tag == windows.IO_REPARSE_TAG_SYMLINK {
		return false, errSymlink
	}
	const nameSurrogate = 1 << 29 // the bit of a tag that says: stands for another name
	if tag.tag&nameSurrogate != 0 {
		return false, ErrNotRegular
	}
	return true, nil
}

func (osFS) Link(oldname, newname string) error {
	err := os.Link(oldname, newname)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from, err := windows.UTF16PtrFromString(oldname)
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(newname)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return spaceError(&os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err})
	}
	return nil
}

func (osFS) Rename(oldname, newname string) error {
	return spaceError(os.Rename(oldname, newname))
}

func (osFS) Remove(name string) error {
	p, err := windows.UTF16PtrFromString(name)
	if err == nil {
		err = windows.DeleteFile(p)
	}
	return pathError("remove", name, err)
}

// SyncDir does nothing: a directory cannot be synced, and entries are in the
// journal of the file system.
func (osFS) SyncDir(string) error { return nil }

func (osFS) Stat(name string) (Info, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	const attrs = windows.FILE_FLAG_OPEN_REPARSE_POINT | windows.FILE_FLAG_BACKUP_SEMANTICS
	h, err := windows.CreateFile(p, 0, share, nil, windows.OPEN_EXISTING, attrs, 0)
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	defer windows.CloseHandle(h)
	return infoOf(name, h, fi.Mode())
}

func infoOf(name string, h windows.Handle, mode fs.FileMode) (Info, error) {
	var d windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &d); err != nil {
		return Info{}, pathError("stat", name, err)
	}
	return Info{
		Size:  int64(d.FileSizeHigh)<<32 | int64(d.FileSizeLow),
		Dev:   uint64(d.VolumeSerialNumber),
		Ino:   uint64(d.FileIndexHigh)<<32 | uint64(d.FileIndexLow),
		Links: uint64(d.NumberOfLinks),
		Mode:  mode,
	}, nil
}

func (f *osFile) Name() string { return f.f.Name() }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, spaceError(err)
}

func (f *osFile) WriteV(bufs [][]byte, off int64) error { return writeEach(f, bufs, off) }

// Truncate fails while the part to be cut is mapped.
func (f *osFile) Truncate(size int64) error { return spaceError(f.f.Truncate(size)) }

func (f *osFile) Allocate(off, n int64) error { return writeZeros(f, off+n) }

func (f *osFile) Sync() error { return spaceError(f.f.Sync()) }

func (f *osFile) DropCache(int64) error { return nil }

func (f *osFile) WriteOut(int64, int64, bool) error { return nil }

func (f *osFile) Stat() (info Info, err error) {
	fi, err := f.f.Stat()
	if err != nil {
		return Info{}, err
	}
	err = f.call("stat", func() error {
		info, err = infoOf(f.Name(), f.handle, fi.Mode())
		return err
	})
	return info, err
}

// Lock changes the kind of a lock by giving it up first, since a handle's own
// lock would exclude it; the old one is taken back when that fails.
func (f *osFile) Lock(off int64, exclusive bool) error {
	return f.call("lock", func() error {
		f.lockMu.Lock()
		defer f.lockMu.Unlock()
		old, had := f.locks[off]
		if had && old == exclusive {
			return nil
		}
		if had {
			if err := f.unlockByte(off); err != nil {
				return err
			}
		}
		err := f.lockByte(off, exclusive)
		if err != nil && had {
			err = errors.Join(err, f.lockByte(off, old))
		}
		return err
	})
}

func (f *osFile) Unlock(off int64) error {
	return f.call("unlock", func() error {
		f.lockMu.Lock()
		defer f.lockMu.Unlock()
		if _, had := f.locks[off]; !had {
			return nil
		}
		return f.unlockByte(off)
	})
}

func (f *osFile) lockByte(off int64, exclusive bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(f.handle, flags, 0, 1, 0, lockAt(off))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	if err == nil {
		f.locks[off] = exclusive
	}
	return err
}

func (f *osFile) unlockByte(off int64) error {
	delete(f.locks, off)
	return windows.UnlockFileEx(f.handle, 0, 1, 0, lockAt(off))
}

func lockAt(off int64) *windows.Overlapped {
	at := uint64(off) + lockBase
	return &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
}

func (f *osFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.f.Close()
}

// call runs fn while the handle cannot be closed and names the file in its error.
func (f *osFile) call(op string, fn func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return pathError(op, f.Name(), fs.ErrClosed)
	}
	return pathError(op, f.Name(), fn())
}
