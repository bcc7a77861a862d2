package vfs

import (
	"io/fs"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mappedWindow stores to a shared mapping. Linux keeps it coherent with reads and writes by descriptor, and Sync of the file takes what was
// stored along: the first store to a clean page is a fault in which the kernel notes that the page is dirty. POSIX promises neither, so
// other systems write.
type mappedWindow struct {
	name     string         // of the file
	base     unsafe.Pointer // nil once closed
	off, len int64
}

func (f *osFile) Window(off, n int64) (Window, error) {
	from := off &^ int64(PageSize-1)
	length, ok := roundUp(off - from + n)
	if !ok || !f.writable {
		return nil, pathError("mmap", f.f.Name(), unix.EINVAL)
	}
	w := &mappedWindow{name: f.f.Name(), off: from, len: length}
	err := f.call("mmap", func(fd int) error {
		base, err := unix.MmapPtr(fd, from, nil, uintptr(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		w.base = base
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (w *mappedWindow) Write(p []byte, off int64) (err error) {
	if w.base == nil {
		return pathError("write", w.name, fs.ErrClosed)
	}
	if off < w.off || off-w.off > w.len-int64(len(p)) {
		return pathError("write", w.name, unix.EINVAL)
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r)
			}
			err = pathError("write", w.name, ErrFault) // no space, a failed device, or somebody cut the file
		}
	}()
	copy(unsafe.Slice((*byte)(unsafe.Add(w.base, off-w.off)), len(p)), p)
	return nil
}

func (w *mappedWindow) Close() error {
	if w.base == nil {
		return pathError("munmap", w.name, fs.ErrClosed)
	}
	base := w.base
	w.base = nil
	return pathError("munmap", w.name, unix.MunmapPtr(base, uintptr(w.len)))
}
