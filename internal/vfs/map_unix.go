//go:build linux || darwin || freebsd || netbsd || dragonfly

package vfs

import (
	"errors"
	"io/fs"
	"math"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a MAP_SHARED reservation. The base never moves; the length grows
// by Extend, and is atomic because pages are populated meanwhile.
type mapping struct {
	base     unsafe.Pointer
	file     *osFile      // what Sync writes back first; nil: of a private file
	length   atomic.Int64 // bytes; 0 once closed
	writable bool         // the descriptor was opened for writing
	tells    bool         // see Resident
	fixed    int64        // bytes at the beginning that are another mapping: see privateFile
}

func newMapping(fd int, length int64, writable bool) (*mapping, error) {
	length, ok := roundUp(length)
	if !ok {
		return nil, unix.ENOMEM
	}
	base, err := unix.MmapPtr(fd, 0, nil, uintptr(length), unix.PROT_READ, unix.MAP_SHARED|mapFlags)
	if err != nil {
		return nil, err
	}
	m := &mapping{base: base, writable: writable}
	m.length.Store(length)
	return m, nil
}

// roundUp rounds a length up to whole OS pages; false when it does not fit
// the address space.
func roundUp(length int64) (int64, bool) {
	mask := int64(PageSize - 1)
	if length <= 0 || length > math.MaxInt-mask {
		return 0, false
	}
	return (length + mask) &^ mask, true
}

func (m *mapping) Bytes() []byte {
	return unsafe.Slice((*byte)(m.base), m.length.Load())
}

func (m *mapping) Extend(length int64) bool {
	length, ok := roundUp(length)
	old := m.length.Load()
	if !ok || old == 0 {
		return false
	}
	if length <= old {
		return true
	}
	if old <= m.fixed && m.fixed > 0 || !extendInPlace(unsafe.Add(m.base, m.fixed), uintptr(old-m.fixed), uintptr(length-m.fixed)) {
		return false
	}
	m.length.Store(length)
	return true
}

// pages returns the OS pages that hold [off, off+n).
func (m *mapping) pages(off, n int64) ([]byte, error) {
	length := m.length.Load()
	if off < 0 || n < 0 || off > length || n > length-off {
		if length == 0 {
			return nil, fs.ErrClosed
		}
		return nil, unix.EINVAL
	}
	from := off &^ int64(PageSize-1)
	return unsafe.Slice((*byte)(unsafe.Add(m.base, from)), off+n-from), nil
}

func (m *mapping) Sync(off, n int64) error {
	if !m.writable {
		return ErrReadOnlyMapping
	}
	b, err := m.pages(off, n)
	if err != nil || len(b) == 0 {
		return pathError("msync", "mapping", err)
	}
	// Neither error may be left out: the kernel tells of a page that was not written once, to whoever asks first.
	if m.file != nil && m.file.canWriteBack() {
		err = m.file.writeBack(off, n)
	}
	return errors.Join(err, pathError("msync", "mapping", retry(func() error { return unix.Msync(b, unix.MS_SYNC) })))
}

func (m *mapping) Populate(off, n int64) error {
	b, err := m.pages(off, n)
	if err != nil {
		return pathError("populate", "mapping", err)
	}
	if len(b) == 0 {
		return nil
	}
	return populate(b)
}

func (m *mapping) Resident(off, n int64) bool {
	if !m.tells { // the kernel would say of everything that it is there
		return false
	}
	b, err := m.pages(off, n)
	return err == nil && len(b) > 0 && resident(b)
}

func (m *mapping) WillNeed(off, n int64) {
	if b, err := m.pages(off, n); err == nil && len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_WILLNEED) // advice; nothing depends on it
	}
}

func (m *mapping) Close() error {
	length := m.length.Swap(0)
	if length == 0 {
		return pathError("munmap", "mapping", fs.ErrClosed)
	}
	return pathError("munmap", "mapping", unix.MunmapPtr(m.base, uintptr(length)))
}
