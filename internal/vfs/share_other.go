//go:build !linux

package vfs

import "errors"

// Share is for systems whose locks belong to the open file and tell bytes apart.
func (f *osFile) Share(int64) (Shared, error) {
	return nil, pathError("share", f.Name(), errors.ErrUnsupported)
}

// LockedByOthers goes with Share.
func (f *osFile) LockedByOthers(int64) (bool, error) {
	return false, pathError("lock", f.Name(), errors.ErrUnsupported)
}
