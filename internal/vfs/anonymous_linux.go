package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Anonymous returns an empty file that no name leads to and that is gone when it is closed: in memory on
// linux, elsewhere a temporary file whose name is removed.
func Anonymous() (File, error) {
	fd, err := unix.MemfdCreate("folio", unix.MFD_CLOEXEC)
	if err != nil {
		return temporary() // a kernel or a sandbox without the call
	}
	return &osFile{f: os.NewFile(uintptr(fd), "memory"), fd: fd, writable: true, tells: true}, nil
}
