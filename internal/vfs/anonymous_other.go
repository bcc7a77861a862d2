//go:build !linux

package vfs

// Anonymous returns an empty file that no name leads to and that is gone when it is closed: in memory on
// linux, elsewhere a temporary file whose name is removed.
func Anonymous() (File, error) { return temporary() }
