package vfs

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LockPerByte tells that locks on different bytes of a file are independent.
const LockPerByte = true

// mapFlags: a reservation is address space and must not count against the
// limit on memory.
const mapFlags = unix.MAP_NORESERVE

// lockTable is empty: open-file-description locks live in the kernel, belong
// to the descriptor, and are unknown to the old ones of POSIX.
type lockTable struct{}

func (*lockTable) lock(fd int, off int64, exclusive bool) error {
	kind := int16(unix.F_RDLCK)
	if exclusive {
		kind = unix.F_WRLCK
	}
	err := setLock(fd, off, kind)
	if err == unix.EAGAIN || err == unix.EACCES {
		return ErrLocked
	}
	return err
}

func (*lockTable) unlock(fd int, off int64) error { return setLock(fd, off, unix.F_UNLCK) }

func setLock(fd int, off int64, kind int16) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: off, Len: 1})
}

// fallocate is replaced in tests.
var fallocate = unix.Fallocate

// Allocate calls fallocate itself: the C library's posix_fallocate would make up
// for a file system without it by touching each block, beside our own writes.
func (f *osFile) Allocate(off, n int64) error {
	unsupported := false
	err := f.call("fallocate", func(fd int) error {
		err := fallocate(fd, 0, off, n)
		unsupported = err == unix.EOPNOTSUPP || err == unix.ENOSYS
		return err
	})
	if unsupported {
		return writeZeros(f, off+n)
	}
	return err
}

func (f *osFile) Sync() error { return f.call("fdatasync", unix.Fdatasync) }

func (f *osFile) DropCache(n int64) error {
	return f.call("fadvise", func(fd int) error { return unix.Fadvise(fd, 0, n, unix.FADV_DONTNEED) })
}

// maxIov is the kernel's UIO_MAXIOV.
const maxIov = 1024

type iovecs [maxIov]unix.Iovec

var iovecPool = sync.Pool{New: func() any { return new(iovecs) }}

func (f *osFile) WriteV(bufs [][]byte, off int64) error {
	v := iovecPool.Get().(*iovecs)
	defer iovecPool.Put(v)
	for skip := 0; ; {
		bufs, skip = dropWritten(bufs, skip)
		if len(bufs) == 0 {
			return nil
		}
		n, err := f.pwritev(v, bufs, skip, off)
		if err != nil {
			return err
		}
		skip += n
		off += int64(n)
	}
}

// dropWritten drops the first n bytes of bufs as whole buffers, and returns
// what is left of n for the first buffer that stays.
func dropWritten(bufs [][]byte, n int) ([][]byte, int) {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	return bufs, n
}

// pwritev writes as much of bufs, without its first skip bytes, as one call
// takes. The vector points into bufs only as long as the call lasts.
func (f *osFile) pwritev(v *iovecs, bufs [][]byte, skip int, off int64) (written int, err error) {
	used := 0
	for _, b := range bufs {
		b, skip = b[skip:], 0
		if len(b) == 0 {
			continue
		}
		v[used].Base = &b[0]
		v[used].SetLen(len(b))
		if used++; used == maxIov {
			break
		}
	}
	err = f.call("pwritev", func(fd int) error {
		// The offset goes as two longs; shifting in two steps keeps the
		// second one zero where a long holds all of it.
		const longBits = 8 * unsafe.Sizeof(uintptr(0))
		lo, hi := uintptr(off), uintptr(uint64(off)>>(longBits-1)>>1)
		n, _, errno := unix.Syscall6(unix.SYS_PWRITEV, uintptr(fd), uintptr(unsafe.Pointer(v)), uintptr(used), lo, hi, 0)
		if errno != 0 {
			return errno
		}
		if written = int(n); written == 0 {
			return io.ErrShortWrite
		}
		return nil
	})
	clear(v[:used])
	runtime.KeepAlive(bufs)
	return written, err
}

// extendInPlace grows a mapping without moving it.
func extendInPlace(base unsafe.Pointer, old, length uintptr) bool {
	_, err := unix.MremapPtr(base, old, nil, length, 0)
	return err == nil
}

// noPopulate remembers that the kernel is older than 5.14.
var noPopulate atomic.Bool

func populate(b []byte) error {
	if noPopulate.Load() {
		return nil
	}
	for {
		switch err := unix.Madvise(b, unix.MADV_POPULATE_READ); err {
		case nil:
			return nil
		case unix.EINTR, unix.EAGAIN:
		case unix.EINVAL:
			noPopulate.Store(true) // the range is aligned, so it is the advice that is unknown
			return nil
		case unix.EFAULT, unix.ENOMEM, unix.EIO, unix.EHWPOISON:
			return ErrFault
		default:
			return pathError("populate", "mapping", err)
		}
	}
}

// resident asks mincore, of 256 pages at a time: each is a byte on the stack.
func resident(b []byte) bool {
	const most = 256
	var there [most]byte
	for len(b) > 0 {
		part := b[:min(len(b), most*PageSize)]
		b = b[len(part):]
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), uintptr(unsafe.Pointer(&there[0])))
		if errno != 0 {
			return false
		}
		for _, t := range there[:(len(part)+PageSize-1)/PageSize] {
			if t&1 == 0 {
				return false
			}
		}
	}
	return true
}

func renameNew(oldname, newname string) error {
	return retry(func() error {
		return unix.Renameat2(unix.AT_FDCWD, oldname, unix.AT_FDCWD, newname, unix.RENAME_NOREPLACE)
	})
}
