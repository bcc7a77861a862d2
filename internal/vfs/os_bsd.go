//go:build darwin || freebsd || netbsd || dragonfly

package vfs

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LockPerByte tells that locks on different bytes of a file are independent.
// Here they are one lock, that of the whole file, because locks on bytes would
// belong to the process and vanish when it closes any descriptor of the file.
const LockPerByte = false

const mapFlags = 0

// lockTable keeps what is held of the one lock of the whole file: the bytes
// share it, in the strongest kind that one of them needs.
type lockTable struct {
	mu   sync.Mutex
	held map[int64]bool // by offset: exclusive
	have int            // kind held in the kernel: 0, LOCK_SH or LOCK_EX
}

func (t *lockTable) lock(fd int, off int64, exclusive bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, had := t.held[off]
	if t.held == nil {
		t.held = make(map[int64]bool)
	}
	t.held[off] = exclusive
	err := t.apply(fd)
	if err != nil {
		delete(t.held, off)
		if had {
			t.held[off] = old
		}
	}
	return err
}

func (t *lockTable) unlock(fd int, off int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, off)
	return t.apply(fd)
}

// apply makes the kernel's lock what the table asks for. A change of kind may
// lose the lock on the way; then it is taken again as it was, which fails only
// if another file was faster.
func (t *lockTable) apply(fd int) error {
	want := 0
	for _, exclusive := range t.held {
		if exclusive {
			want = unix.LOCK_EX
		} else if want == 0 {
			want = unix.LOCK_SH
		}
	}
	if want == t.have {
		return nil
	}
	if want == 0 {
		t.have = 0
		return unix.Flock(fd, unix.LOCK_UN)
	}
	err := unix.Flock(fd, want|unix.LOCK_NB)
	if err == nil {
		t.have = want
		return nil
	}
	if t.have != 0 {
		if again := unix.Flock(fd, t.have|unix.LOCK_NB); again != nil {
			t.have = 0
			clear(t.held)
		}
	}
	if err == unix.EWOULDBLOCK {
		return ErrLocked
	}
	return err
}

// Allocate writes zeros: these systems reserve space in too many different ways.
func (f *osFile) Allocate(off, n int64) error { return writeZeros(f, off+n) }

// Sync goes through os.File, which knows that darwin needs F_FULLFSYNC.
func (f *osFile) Sync() error { return spaceError(f.f.Sync()) }

func (f *osFile) DropCache(int64) error { return nil }

func (f *osFile) WriteV(bufs [][]byte, off int64) error { return writeEach(f, bufs, off) }

func extendInPlace(unsafe.Pointer, uintptr, uintptr) bool { return false }

func populate([]byte) error { return nil }

func resident([]byte) bool { return false }
