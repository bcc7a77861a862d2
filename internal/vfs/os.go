package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// PageSize is the size of the system's memory pages in bytes: mappings are made
// of these, whatever the size of a store's pages.
var PageSize = os.Getpagesize()

// osFS is the real file system; its methods are in the file of each system.
type osFS struct{}

// zeros is what writeZeros writes, a piece at a time.
var zeros [1 << 20]byte

// writeZeros stands in for reserving space: it writes zeros from the file's
// end up to end. Setting the size instead would leave a hole, whose blocks
// are only looked for when it is too late to give up cleanly.
func writeZeros(f File, end int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for off := info.Size; off < end; {
		n := min(end-off, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// writeEach is WriteV where there is no gathering write at an offset.
func writeEach(f File, bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// errSymlink is ErrNotRegular for what leads to a regular file, as far as the user can see.
var errSymlink = fmt.Errorf("%w, but a symbolic link", ErrNotRegular)

// openError makes the error of a failed open. Systems have many ways to say
// that a name leads to something else than a file, so it looks for itself.
func openError(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		fi, statErr := os.Lstat(name)
		switch {
		case statErr != nil || fi.Mode().IsRegular():
		case fi.Mode()&fs.ModeSymlink != 0:
			err = errSymlink
		default:
			err = ErrNotRegular
		}
	}
	return pathError("open", name, err)
}

// pathError names the call and the file in err; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return spaceError(&fs.PathError{Op: op, Path: name, Err: err})
}

// noSpaceError is one of the other ways to say that there is no space.
type noSpaceError struct{ error }

func (e noSpaceError) Is(target error) bool { return target == syscall.ENOSPC }
func (e noSpaceError) Unwrap() error        { return e.error }

// spaceError makes errors.Is(err, syscall.ENOSPC) hold for every error that
// says that device, quota or disk are full.
func spaceError(err error) error {
	for _, full := range spaceErrnos {
		if errors.Is(err, full) {
			return noSpaceError{err}
		}
	}
	return err
}
