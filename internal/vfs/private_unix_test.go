//go:build linux || darwin || freebsd || netbsd || dragonfly

package vfs

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Below base nothing can be changed, not even in this process.
func TestPrivateRefuses(t *testing.T) {
	f := newFile(t)
	noErr(t, "truncate", f.Truncate(128<<10))
	p, base, err := f.Private(64 << 10)
	noErr(t, "private", err)
	_, err = p.WriteAt([]byte("x"), base-1)
	wantErr(t, "write", err, unix.EROFS)
	wantErr(t, "writev", p.WriteV([][]byte{{1}}, 0), unix.EROFS)
	wantErr(t, "truncate", p.Truncate(base-1), unix.EROFS)
	_, _, err = p.Private(64 << 10)
	wantErr(t, "private of private", err, unix.EROFS)
	noErr(t, "close", p.Close())
}
