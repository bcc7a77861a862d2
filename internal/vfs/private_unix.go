//go:build linux || darwin || freebsd || netbsd || dragonfly

package vfs

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// privateFile is a file whose beginning is another one's, and whose rest is memory of this process. Nothing
// is ever written to the beginning.
type privateFile struct {
	lower *osFile
	upper File  // without a name; its first byte stands at base
	base  int64 // whole OS pages
}

func (f *osFile) Private(align int64) (File, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	upper, err := Anonymous()
	if err != nil {
		return nil, 0, err
	}
	p := &privateFile{lower: f, upper: upper, base: info.Size / align * align}
	if err := copyTail(upper, f, p.base, info.Size); err != nil {
		return nil, 0, errors.Join(err, upper.Close())
	}
	return p, p.base, nil
}

// copyTail copies bytes [from, to) of a file to the beginning of another one.
func copyTail(dst, src File, from, to int64) error {
	if from == to {
		return nil
	}
	p := make([]byte, to-from)
	// Who writes the file may cut it meanwhile: nobody needs what is gone.
	if _, err := src.ReadAt(p, from); err != nil && err != io.EOF {
		return err
	}
	_, err := dst.WriteAt(p, 0)
	return err
}

func (f *privateFile) Name() string { return f.lower.Name() }

func (f *privateFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.base {
		return f.upper.ReadAt(p, off-f.base)
	}
	n, err := f.lower.ReadAt(p[:min(int64(len(p)), f.base-off)], off)
	if err != nil || n == len(p) {
		return n, err
	}
	m, err := f.upper.ReadAt(p[n:], 0)
	return n + m, err
}

// below refuses to change what lies in the file.
func (f *privateFile) below(op string) error { return pathError(op, f.Name(), unix.EROFS) }

func (f *privateFile) WriteAt(p []byte, off int64) (int, error) {
	if off < f.base {
		return 0, f.below("write")
	}
	return f.upper.WriteAt(p, off-f.base)
}

func (f *privateFile) WriteV(bufs [][]byte, off int64) error {
	if off < f.base {
		return f.below("pwritev")
	}
	return f.upper.WriteV(bufs, off-f.base)
}

func (f *privateFile) Window(int64, int64) (Window, error) { return PlainWindow(f), nil }

func (f *privateFile) Truncate(size int64) error {
	if size < f.base {
		return f.below("truncate")
	}
	return f.upper.Truncate(size - f.base)
}

// Allocate only makes the file longer: memory is taken when it is written to, so that room ahead of need costs none.
func (f *privateFile) Allocate(off, n int64) error {
	info, err := f.upper.Stat()
	if err != nil || off+n-f.base <= info.Size {
		return err
	}
	return f.upper.Truncate(off + n - f.base)
}

func (f *privateFile) Sync() error { return nil }

func (f *privateFile) WriteOut(int64, int64, bool) error { return nil }

func (f *privateFile) DropCache(int64) error { return nil }

func (f *privateFile) Medium() (Medium, error) { return f.lower.Medium() }

func (f *privateFile) Stat() (Info, error) {
	info, err := f.lower.Stat()
	if err != nil {
		return Info{}, err
	}
	upper, err := f.upper.Stat()
	info.Size = f.base + upper.Size
	return info, err
}

func (f *privateFile) Lock(off int64, exclusive bool) error { return f.lower.Lock(off, exclusive) }

func (f *privateFile) Unlock(off int64) error { return f.lower.Unlock(off) }

func (f *privateFile) Private(int64) (File, int64, error) { return nil, 0, f.below("private") }

func (f *privateFile) Share(int64) (Shared, error) { return nil, f.below("share") }

func (f *privateFile) LockedByOthers(off int64) (bool, error) { return f.lower.LockedByOthers(off) }

func (f *privateFile) Close() error { return errors.Join(f.upper.Close(), f.lower.Close()) }

// Map maps the beginning privately, so that by no mistake a byte can reach the file, and lays the mapping of the
// memory over the part of it that is past the beginning.
func (f *privateFile) Map(length int64) (Mapping, error) {
	length, ok := roundUp(length)
	if !ok {
		return nil, pathError("mmap", f.Name(), unix.ENOMEM)
	}
	var m *mapping
	err := f.lower.call("mmap", func(fd int) error {
		base, err := unix.MmapPtr(fd, 0, nil, uintptr(length), unix.PROT_READ, unix.MAP_PRIVATE|mapFlags)
		if err != nil {
			return err
		}
		m = &mapping{base: base, fixed: f.base}
		m.length.Store(length)
		return nil
	})
	if err != nil || length <= f.base {
		return m, err
	}
	over := unsafe.Add(m.base, f.base)
	err = f.upper.(*osFile).call("mmap", func(fd int) error {
		_, err := unix.MmapPtr(fd, 0, over, uintptr(length-f.base), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED|mapFlags)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}
