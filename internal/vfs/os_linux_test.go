package vfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const writesVectors = true

func TestOpenRefusesPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	noErr(t, "mkfifo", unix.Mkfifo(name, 0o600))
	_, err := OS.Open(name, os.O_RDONLY, 0) // would wait for a writer
	wantErr(t, "pipe", err, ErrNotRegular)
	_, err = OS.Open(name, os.O_RDWR, 0)
	wantErr(t, "pipe", err, ErrNotRegular)
	_, err = OS.Open("/dev/null", os.O_RDWR, 0)
	wantErr(t, "device", err, ErrNotRegular)
}

func TestOpenMode(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	f := newFile(t)
	if info, _ := f.Stat(); info.Mode.Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode)
	}
	fl, err := unix.FcntlInt(uintptr(f.(*osFile).fd), unix.F_GETFD, 0)
	if err != nil || fl&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor is inherited by children: %d, %v", fl, err)
	}
	fl, err = unix.FcntlInt(uintptr(f.(*osFile).fd), unix.F_GETFL, 0)
	if err != nil || fl&unix.O_NONBLOCK != 0 {
		t.Errorf("descriptor does not block: %d, %v", fl, err)
	}
}

// A tmpfs refuses at once what is larger than itself; an ext4 would fill up first.
func TestAllocateFullDisk(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Blocks == 0 {
		t.Skip("no tmpfs of limited size at /dev/shm")
	}
	dir, err := os.MkdirTemp("/dev/shm", "vfs")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	f := create(t, filepath.Join(dir, "a"))
	_, err = f.WriteAt([]byte("x"), 0)
	noErr(t, "write", err)
	wantErr(t, "allocate", f.Allocate(0, int64(st.Blocks)*int64(st.Bsize)+1<<30), syscall.ENOSPC)
	if info, _ := f.Stat(); info.Size != 1 {
		t.Errorf("size %d after a failed allocation", info.Size)
	}
}

// Allocated space has blocks, on a file system without fallocate too.
func TestAllocateReserves(t *testing.T) {
	defer func(old func(int, uint32, int64, int64) error) { fallocate = old }(fallocate)
	for _, err := range []error{nil, unix.EOPNOTSUPP, unix.ENOSYS} {
		if err != nil {
			fallocate = func(int, uint32, int64, int64) error { return err }
		}
		f := newFile(t)
		noErr(t, "allocate", f.Allocate(0, 1<<20))
		var st unix.Stat_t
		noErr(t, "stat", unix.Stat(f.Name(), &st))
		if st.Size != 1<<20 || st.Blocks*512 < 1<<20 {
			t.Errorf("fallocate says %v: %d bytes, of which %d have blocks", err, st.Size, st.Blocks*512)
		}
	}
	fallocate = func(int, uint32, int64, int64) error { return unix.EIO }
	wantErr(t, "failing fallocate", newFile(t).Allocate(0, 1<<20), unix.EIO)
}

// A private mapping would look the same, but syncing it would write nothing.
func TestMapIsShared(t *testing.T) {
	f := newFile(t)
	mapped(t, f, 1<<20)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, f.Name()) {
			if !strings.Contains(line, "r--s") {
				t.Errorf("mapped as %s", line)
			}
			return
		}
	}
	t.Error("no mapping of the file")
}

// Populate answers with an error where touching would be a fault; and a touch is a fault that Go can recover.
func TestPopulatePastTheEnd(t *testing.T) {
	f := newFile(t)
	noErr(t, "allocate", f.Allocate(0, int64(2*PageSize)))
	m := mapped(t, f, int64(8*PageSize))
	noErr(t, "populate", m.Populate(0, int64(2*PageSize)))
	err := m.Populate(int64(2*PageSize), 1)
	if noPopulate.Load() {
		t.Skip("kernel has no MADV_POPULATE_READ")
	}
	wantErr(t, "populate past the end", err, ErrFault)
	wantErr(t, "populate across the end", m.Populate(0, int64(3*PageSize)), ErrFault)

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		var fault interface{ Addr() uintptr }
		if err, ok := recover().(error); !ok || !errors.As(err, &fault) {
			t.Error("no fault past the end")
		}
	}()
	sink = m.Bytes()[2*PageSize]
}

var sink byte

// A partial write goes on where it stopped. The kernel makes one when the size limit of files is reached within the
// vector, and refuses the rest.
func TestWriteVPartial(t *testing.T) {
	bufs := [][]byte{make([]byte, 10), make([]byte, 20), {}, make([]byte, 5)}
	for _, c := range []struct{ n, bufs, rest int }{{0, 4, 0}, {9, 4, 9}, {10, 3, 0}, {29, 3, 19}, {30, 1, 0}, {34, 1, 4}, {35, 0, 0}} {
		left, rest := dropWritten(bufs, c.n)
		if len(left) != c.bufs || rest != c.rest {
			t.Errorf("after %d bytes: %d buffers left, %d bytes of the first written; want %d, %d", c.n, len(left), rest, c.bufs, c.rest)
		}
	}

	g := newFile(t)
	n, err := g.(*osFile).pwritev(new(iovecs), [][]byte{[]byte("abc"), nil, []byte("def")}, 2, 0)
	if got := contentOf(t, g.Name()); n != 4 || err != nil || string(got) != "cdef" {
		t.Errorf("going on after 2 bytes: %d, %v, %q", n, err, got)
	}

	// In a child the limit would be harmless; here it is lifted again at once.
	var old unix.Rlimit
	noErr(t, "getrlimit", unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	f := newFile(t)
	limit := old
	limit.Cur = 1000
	noErr(t, "setrlimit", unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	err = f.WriteV([][]byte{pattern(600, 1), pattern(600, 2)}, 0)
	noErr(t, "setrlimit", unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	wantErr(t, "writev over the limit", err, syscall.EFBIG)
	want := append(pattern(600, 1), pattern(600, 2)[:400]...)
	if got := contentOf(t, f.Name()); string(got) != string(want) {
		t.Errorf("file has %d bytes after a partial write; want the first 1000", len(got))
	}
}

// Where a file system has no hard links, a rename that does not replace takes their place.
func TestRenameNew(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	create(t, a)
	create(t, b)
	wantErr(t, "rename over a file", renameNew(a, b), os.ErrExist)
	noErr(t, "rename", renameNew(a, filepath.Join(dir, "c")))
	if _, err := os.Lstat(a); err == nil {
		t.Error("old name is still there")
	}
	if !noHardLinks(&os.LinkError{Err: unix.EPERM}) || noHardLinks(&os.LinkError{Err: unix.EEXIST}) {
		t.Error("noHardLinks")
	}
}

// A file that is only open for reading can have no exclusive lock, but be asked whether one could be had.
func TestLockedByOthers(t *testing.T) {
	f := newFile(t)
	r, err := OS.Open(f.Name(), os.O_RDONLY, 0)
	noErr(t, "open", err)
	defer r.Close()
	const at = 1 << 62
	ask := func(what string, want bool) {
		t.Helper()
		got, err := r.LockedByOthers(at)
		noErr(t, "ask", err)
		if got != want {
			t.Errorf("%s: locked by others: %v", what, got)
		}
	}
	ask("no lock", false)
	noErr(t, "lock", r.Lock(at, false))
	ask("a lock of its own", false)
	noErr(t, "lock", f.Lock(at, false))
	ask("a shared lock of another", true)
	noErr(t, "lock", errors.Join(f.Unlock(at), f.Lock(at+1, true)))
	ask("a lock of another byte", false)
	noErr(t, "lock", errors.Join(r.Unlock(at), f.Lock(at, true)))
	ask("an exclusive lock of another", true)
}

// What the page cache has is in memory; a part of the file that nobody has read is not, nor what lies past its end, or in a mapping of who may only read.
func TestResident(t *testing.T) {
	f := newFile(t)
	const pages = 600 // more than are asked about at once
	_, err := f.WriteAt(make([]byte, pages*PageSize), 0)
	noErr(t, "write", err)
	noErr(t, "allocate", f.Allocate(int64(pages*PageSize), int64(PageSize)))
	m := mapped(t, f, int64((pages+2)*PageSize))
	for _, c := range []struct {
		name string
		from int
		n    int
		want bool
	}{
		{"what was written", 0, pages, true},
		{"its last page", pages - 1, 1, true},
		{"with what was not", 0, pages + 1, false},
		{"what was not", pages, 1, false},
		{"past the end", pages + 1, 1, false},
		{"nothing", 0, 0, false},
		{"past the mapping", pages + 1, 2, false},
	} {
		if have := m.Resident(int64(c.from*PageSize), int64(c.n*PageSize)); have != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
	r, err := OS.Open(f.Name(), os.O_RDONLY, 0)
	noErr(t, "open", err)
	defer r.Close()
	if !mapped(t, r, int64(PageSize)).Resident(0, int64(PageSize)) {
		t.Error("not said to the owner, who only reads")
	}
	r.(*osFile).tells = false // as that of another user's file
	if mapped(t, r, int64(PageSize)).Resident(0, int64(PageSize)) {
		t.Error("said to who may only read, and is not told")
	}
}
