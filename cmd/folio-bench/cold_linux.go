package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dropCache writes back the files of a folder and drops them from the page cache.
func dropCache(dir string) error {
	return eachFile(dir, func(f *os.File) error {
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}
