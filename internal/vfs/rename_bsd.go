//go:build freebsd || netbsd || dragonfly

package vfs

import "golang.org/x/sys/unix"

// renameNew cannot be had: these systems rename only with replacing.
func renameNew(string, string) error { return unix.EOPNOTSUPP }
