//go:build darwin || freebsd || dragonfly

package vfs

import "golang.org/x/sys/unix"

func (f *osFile) Medium() (Medium, error) {
	var st unix.Statfs_t
	err := f.call("statfs", func(fd int) error { return unix.Fstatfs(fd, &st) })
	if err != nil || uint64(st.Flags)&unix.MNT_LOCAL != 0 {
		return Medium{}, err
	}
	return Medium{Name: unix.ByteSliceToString(st.Fstypename[:]), Network: true}, nil
}
