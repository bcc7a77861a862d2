package vfs

import "golang.org/x/sys/unix"

func renameNew(oldname, newname string) error {
	return retry(func() error { return unix.RenamexNp(oldname, newname, unix.RENAME_EXCL) })
}
