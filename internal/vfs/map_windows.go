package vfs

import (
	"io/fs"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapping is a view of the file as long as it was when it was mapped.
type mapping struct {
	base     unsafe.Pointer
	length   int
	closed   atomic.Bool
	writable bool // the handle was opened for writing
}

func (f *osFile) Map(length int64) (Mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	length = min(length, info.Size)
	if length <= 0 || int64(int(length)) != length {
		return nil, pathError("mmap", f.Name(), windows.ERROR_NOT_ENOUGH_MEMORY)
	}
	var m *mapping
	err = f.call("mmap", func() (err error) {
		m, err = newMapping(f.handle, int(length), f.writable)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// newMapping makes a view; it keeps the section alive, so that the section's own
// handle can be closed at once.
func newMapping(file windows.Handle, length int, writable bool) (*mapping, error) {
	section, err := windows.CreateFileMapping(file, nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(section)
	addr, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ, 0, 0, uintptr(length))
	if err != nil {
		return nil, err
	}
	// The address is the system's, not an object of Go's.
	base := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	return &mapping{base: base, length: length, writable: writable}, nil
}

func (m *mapping) Bytes() []byte { return unsafe.Slice((*byte)(m.base), m.length) }

// Extend cannot be had: a view has a fixed length.
func (m *mapping) Extend(length int64) bool { return length <= int64(m.length) }

// Sync has nothing to do: the bytes were written through the handle, whose
// FlushFileBuffers (File.Sync) writes them to the disk; a view that is never
// written to has no dirty pages of its own.
func (m *mapping) Sync(off, n int64) error {
	if !m.writable {
		return ErrReadOnlyMapping
	}
	return m.check("msync", off, n)
}

// Populate only checks the range; there is no call that loads it and reports
// a failing device.
func (m *mapping) Populate(off, n int64) error { return m.check("populate", off, n) }

func (m *mapping) check(op string, off, n int64) error {
	if m.closed.Load() {
		return pathError(op, "mapping", fs.ErrClosed)
	}
	if off < 0 || n < 0 || off > int64(m.length) || n > int64(m.length)-off {
		return pathError(op, "mapping", windows.ERROR_INVALID_PARAMETER)
	}
	return nil
}

// Resident says nothing: asking which pages of a view are in memory asks for those of this process.
func (m *mapping) Resident(off, n int64) bool { return false }

func (m *mapping) WillNeed(int64, int64) {}

func (m *mapping) Close() error {
	if m.closed.Swap(true) {
		return pathError("munmap", "mapping", fs.ErrClosed)
	}
	return pathError("munmap", "mapping", windows.UnmapViewOfFile(uintptr(m.base)))
}
