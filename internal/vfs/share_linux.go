package vfs

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sharedMemory is a writable MAP_SHARED mapping.
type sharedMemory struct {
	base unsafe.Pointer
	n    int
}

func (f *osFile) Share(length int64) (Shared, error) {
	if length == 0 {
		return nil, nil
	}
	var base unsafe.Pointer
	err := f.call("mmap", func(fd int) (err error) {
		base, err = unix.MmapPtr(fd, 0, nil, uintptr(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return err
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, pathError("share", f.Name(), errors.ErrUnsupported) // such as FUSE with direct I/O
	}
	if err != nil {
		return nil, err
	}
	return &sharedMemory{base, int(length)}, nil
}

func (f *osFile) LockedByOthers(off int64) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: off, Len: 1}
	err := f.call("lock", func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) })
	return l.Type != unix.F_UNLCK, err
}

func (m *sharedMemory) Bytes() []byte { return unsafe.Slice((*byte)(m.base), m.n) }

func (m *sharedMemory) Close() error {
	return pathError("munmap", "shared memory", unix.MunmapPtr(m.base, uintptr(m.n)))
}
