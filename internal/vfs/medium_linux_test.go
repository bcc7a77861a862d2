package vfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The file systems that tests run on are local ones or overlay.
func TestMedium(t *testing.T) {
	f := newFile(t)
	m, err := f.Medium()
	noErr(t, "medium", err)
	if m.Network || m.Doubtful && m.Name == "" {
		t.Errorf("medium of a temporary file: %+v", m)
	}
	for magic, m := range media {
		if m.Name == "" || m.Network == m.Doubtful {
			t.Errorf("%x: %+v", magic, m)
		}
	}
	if m := media[unix.NFS_SUPER_MAGIC]; !m.Network {
		t.Errorf("nfs: %+v", m)
	}
	noErr(t, "close", f.Close())
	_, err = f.Medium()
	wantErr(t, "medium of a closed file", err, os.ErrClosed)
}

// Who holds a lock is found by the file, not by its name, and by the byte.
func TestLockHolder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f := create(t, name)
	info, err := f.Stat()
	noErr(t, "stat", err)
	holder := func(off int64, want int) {
		t.Helper()
		if got := LockHolder(info, off); got != want {
			t.Errorf("holder of byte %d is %d; want %d", off, got, want)
		}
	}
	const far = 1<<62 + 1
	holder(far, 0)
	noErr(t, "lock", f.Lock(far, false))
	holder(far, os.Getpid())
	holder(far-1, 0)
	holder(far+1, 0)
	noErr(t, "rename", os.Rename(name, name+"2"))
	holder(far, os.Getpid())
	noErr(t, "unlock", f.Unlock(far))
	holder(far, 0)

	for line, want := range map[string]bool{
		"lock:\t1: OFDLCK  ADVISORY  WRITE -1 00:2f:1523 10 20\n": true,
		"lock:\t1: OFDLCK  ADVISORY  READ -1 00:2f:1523 15 15\n":  true,
		"lock:\t1: OFDLCK  ADVISORY  READ -1 00:2f:1523 0 EOF\n":  true,
		"lock:\t1: OFDLCK  ADVISORY  READ -1 00:2f:1523 16 20\n":  false,
		"lock:\t1: OFDLCK  ADVISORY  READ -1 00:2f:1523 1 14\n":   false,
		"lock:\t1: POSIX  ADVISORY  WRITE 7 00:2f:1523 10 20\n":   false,
		"lock:\t1: OFDLCK  ADVISORY  WRITE -1 00:2f:1523 x 20\n":  false,
		"lock:\t1: OFDLCK  ADVISORY  WRITE -1 00:2f:1523 10 y\n":  false,
		"flags:\t0100002\n": false,
	} {
		if locksByte(line, 15) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
}
