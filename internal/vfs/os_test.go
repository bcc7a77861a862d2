package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func create(t *testing.T, name string) File {
	t.Helper()
	f, err := OS.Open(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func newFile(t *testing.T) File { return create(t, filepath.Join(t.TempDir(), "a.db")) }

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

func noErr(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func contentOf(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	noErr(t, "read", err)
	return b
}

func pattern(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestOpenFlags(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.db")
	_, err := OS.Open(name, os.O_RDWR, 0)
	wantErr(t, "missing", err, fs.ErrNotExist)
	f, err := OS.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	noErr(t, "create", err)
	defer f.Close()
	if f.Name() != name {
		t.Errorf("name %q; want %q", f.Name(), name)
	}
	_, err = OS.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	wantErr(t, "exclusive create of a file that is there", err, fs.ErrExist)

	r, err := OS.Open(name, os.O_RDONLY, 0)
	noErr(t, "open for reading", err)
	defer r.Close()
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("write to a file opened for reading: no error")
	}
}

func TestOpenRefusesWhatIsNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.db")
	create(t, name)
	_, err := OS.Open(dir, os.O_RDWR, 0)
	wantErr(t, "directory", err, ErrNotRegular)
	_, err = OS.Open(dir, os.O_RDONLY, 0)
	wantErr(t, "directory for reading", err, ErrNotRegular)

	link := filepath.Join(dir, "link")
	if err := os.Symlink(name, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	_, err = OS.Open(link, os.O_RDWR, 0)
	wantErr(t, "symbolic link", err, ErrNotRegular)
	// Of a link to a file "not a regular file" alone is not what the user sees.
	if !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("symbolic link: the error does not say so: %v", err)
	}
	_, err = OS.Open(link, os.O_RDWR|os.O_CREATE, 0)
	wantErr(t, "symbolic link, to create", err, ErrNotRegular)
	dangling := filepath.Join(dir, "dangling")
	noErr(t, "symlink", os.Symlink(filepath.Join(dir, "none"), dangling))
	_, err = OS.Open(dangling, os.O_RDWR|os.O_CREATE, 0o600)
	wantErr(t, "dangling link, to create", err, ErrNotRegular)
	if _, err := os.Lstat(filepath.Join(dir, "none")); err == nil {
		t.Error("creating through a dangling link made its target")
	}
	info, err := OS.Stat(link)
	noErr(t, "stat of a link", err)
	if info.Mode&fs.ModeSymlink == 0 {
		t.Errorf("stat followed a link: mode %v", info.Mode)
	}
	// A link on the way is nobody's business but the user's.
	noErr(t, "link to directory", os.Symlink(dir, filepath.Join(dir, "d")))
	f, err := OS.Open(filepath.Join(dir, "d", "a.db"), os.O_RDWR, 0)
	noErr(t, "open below a linked directory", err)
	f.Close()
}

func TestReadWrite(t *testing.T) {
	f := newFile(t)
	n, err := f.WriteAt([]byte("hello"), 3)
	if n != 5 || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	p := make([]byte, 10)
	n, err = f.ReadAt(p, 0)
	if n != 8 || err != io.EOF || string(p[:8]) != "\x00\x00\x00hello" {
		t.Errorf("read: %d, %v, %q", n, err, p[:n])
	}
	noErr(t, "truncate", f.Truncate(4))
	info, err := f.Stat()
	if err != nil || info.Size != 4 {
		t.Errorf("stat after truncate: %+v, %v", info, err)
	}
	noErr(t, "sync", f.Sync())
	noErr(t, "drop cache", f.DropCache(0))
	n, err = f.ReadAt(p[:4], 0)
	if n != 4 || string(p[:4]) != "\x00\x00\x00h" {
		t.Errorf("read after dropping the cache: %d, %v, %q", n, err, p[:n])
	}
}

// TestLargeWrite: a write that takes several calls arrives whole.
func TestLargeWrite(t *testing.T) {
	f := newFile(t)
	want := make([]byte, 200_005)
	for i := range want {
		want[i] = byte(i * 7 / 5)
	}
	if n, err := f.WriteAt(want, 123); n != len(want) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	got := make([]byte, len(want)+1)
	if n, err := f.ReadAt(got, 123); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Fatalf("read: %d, %v", n, err)
	}
	if n, err := f.WriteAt(nil, 5); n != 0 || err != nil {
		t.Fatalf("write of nothing: %d, %v", n, err)
	}
}

// Offsets past 4 GiB must survive the way into the system in two halves.
func TestFarOffsets(t *testing.T) {
	f := newFile(t)
	const far = 5<<30 + 4096
	noErr(t, "writev", f.WriteV([][]byte{[]byte("ab"), []byte("cd")}, far))
	_, err := f.WriteAt([]byte("ef"), far+4)
	noErr(t, "write", err)
	p := make([]byte, 6)
	_, err = f.ReadAt(p, far)
	if err != nil || string(p) != "abcdef" {
		t.Errorf("read: %v, %q", err, p)
	}
	if info, _ := f.Stat(); info.Size != far+6 {
		t.Errorf("size %d; want %d", info.Size, int64(far+6))
	}
	noErr(t, "lock", f.Lock(far, true))
	g, err := OS.Open(f.Name(), os.O_RDWR, 0)
	noErr(t, "open", err)
	defer g.Close()
	wantErr(t, "second lock", g.Lock(far, true), ErrLocked)
	if LockPerByte {
		noErr(t, "lock of the byte 4 GiB before", g.Lock(far-4<<30, true))
	}
}

func TestWriteV(t *testing.T) {
	for _, count := range []int{0, 1, 2, 7, 1023, 1024, 1025, 3000} {
		f := newFile(t)
		var bufs [][]byte
		var want []byte
		for i := range count {
			b := pattern((i*37)%300, uint64(i)) // some are empty
			bufs = append(bufs, b)
			want = append(want, b...)
		}
		kept := append([][]byte(nil), bufs...)
		noErr(t, "writev", f.WriteV(bufs, 5))
		got := contentOf(t, f.Name())
		if len(want) > 0 {
			got = got[5:]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d buffers: file differs", count)
		}
		for i := range kept {
			if len(kept[i]) != len(bufs[i]) {
				t.Errorf("%d buffers: buffer %d was changed", count, i)
			}
		}
	}
}

func TestWriteVDoesNotAllocate(t *testing.T) {
	if testing.CoverMode() != "" || raceEnabled {
		t.Skip("instrumented")
	}
	f := newFile(t)
	bufs := [][]byte{make([]byte, 4096), make([]byte, 4096), make([]byte, 8192)}
	noErr(t, "writev", f.WriteV(bufs, 0))
	n := testing.AllocsPerRun(200, func() {
		if err := f.WriteV(bufs, 0); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 && writesVectors {
		t.Errorf("%v allocations a call", n)
	}
}

func TestAllocate(t *testing.T) {
	f := newFile(t)
	_, err := f.WriteAt([]byte("old"), 0)
	noErr(t, "write", err)
	noErr(t, "allocate", f.Allocate(3, 1<<20))
	b := contentOf(t, f.Name())
	if len(b) != 1<<20+3 || string(b[:3]) != "old" || len(bytes.Trim(b[3:], "\x00")) != 0 {
		t.Errorf("allocated file: %d bytes, begins %q", len(b), b[:3])
	}
	noErr(t, "allocate what is there", f.Allocate(0, 100))
	if info, _ := f.Stat(); info.Size != 1<<20+3 {
		t.Errorf("size %d after allocating inside", info.Size)
	}
}

// What stands in for a missing fallocate.
func TestWriteZeros(t *testing.T) {
	f := newFile(t)
	_, err := f.WriteAt([]byte("old"), 0)
	noErr(t, "write", err)
	const end = 5<<19 + 17
	noErr(t, "zeros", writeZeros(f, end))
	b := contentOf(t, f.Name())
	if len(b) != end || string(b[:3]) != "old" || len(bytes.Trim(b[3:], "\x00")) != 0 {
		t.Errorf("file: %d bytes, begins %q", len(b), b[:3])
	}
	noErr(t, "zeros before the end", writeZeros(f, 10))
	if info, _ := f.Stat(); info.Size != end {
		t.Errorf("size %d; want %d", info.Size, end)
	}
	var each bytes.Buffer
	noErr(t, "write each", writeEach(f, [][]byte{[]byte("ab"), nil, []byte("cd")}, 1))
	each.Write(contentOf(t, f.Name())[:5])
	if each.String() != "oabcd" {
		t.Errorf("writeEach: %q", each.String())
	}
}

func TestSpaceErrors(t *testing.T) {
	for _, full := range append(spaceErrnos, syscall.ENOSPC) {
		err := pathError("write", "a.db", full)
		wantErr(t, "full", err, syscall.ENOSPC)
		wantErr(t, "full", err, full)
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != "a.db" {
			t.Errorf("%v is no PathError", err)
		}
	}
	if errors.Is(pathError("write", "a.db", syscall.EIO), syscall.ENOSPC) {
		t.Error("EIO is ENOSPC")
	}
}

func TestStatAndIdentity(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f := create(t, a)
	create(t, b)
	byFile, err := f.Stat()
	noErr(t, "stat", err)
	byName, err := OS.Stat(a)
	noErr(t, "stat by name", err)
	if byFile != byName || byFile.Links != 1 || !byFile.Mode.IsRegular() {
		t.Errorf("by file %+v, by name %+v", byFile, byName)
	}
	other, err := OS.Stat(b)
	noErr(t, "stat", err)
	if other.Dev == byFile.Dev && other.Ino == byFile.Ino {
		t.Error("two files have one identity")
	}
	noErr(t, "link", OS.Link(a, filepath.Join(dir, "c")))
	if info, _ := f.Stat(); info.Links != 2 {
		t.Errorf("%d links; want 2", info.Links)
	}
	_, err = OS.Stat(filepath.Join(dir, "none"))
	wantErr(t, "stat of nothing", err, fs.ErrNotExist)
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	write := func(name, s string) {
		f := create(t, name)
		_, err := f.WriteAt([]byte(s), 0)
		noErr(t, "write", err)
		noErr(t, "close", f.Close())
	}
	write(a, "a")
	write(b, "b")
	wantErr(t, "link over a file", OS.Link(a, b), fs.ErrExist)
	wantErr(t, "link of nothing", OS.Link(c, filepath.Join(dir, "d")), fs.ErrNotExist)
	noErr(t, "link", OS.Link(a, c))
	noErr(t, "remove", OS.Remove(a))
	if s := contentOf(t, c); string(s) != "a" {
		t.Errorf("linked file holds %q", s)
	}
	noErr(t, "rename over a file", OS.Rename(c, b))
	if s := contentOf(t, b); string(s) != "a" {
		t.Errorf("renamed file holds %q", s)
	}
	wantErr(t, "remove of nothing", OS.Remove(a), fs.ErrNotExist)
	sub := filepath.Join(dir, "sub")
	noErr(t, "mkdir", os.Mkdir(sub, 0o700))
	if err := OS.Remove(sub); err == nil {
		t.Error("remove took a directory")
	}
	noErr(t, "sync of a directory", OS.SyncDir(dir))
	if CanReserve { // on windows there is nothing to sync
		wantErr(t, "sync of no directory", OS.SyncDir(filepath.Join(dir, "none")), fs.ErrNotExist)
	}
}

func TestLocks(t *testing.T) {
	f := newFile(t)
	g, err := OS.Open(f.Name(), os.O_RDWR, 0)
	noErr(t, "open", err)
	defer g.Close()

	noErr(t, "exclusive", f.Lock(7, true))
	wantErr(t, "exclusive beside exclusive", g.Lock(7, true), ErrLocked)
	wantErr(t, "shared beside exclusive", g.Lock(7, false), ErrLocked)
	if LockPerByte {
		noErr(t, "another byte", g.Lock(8, true))
		noErr(t, "unlock", g.Unlock(8))
	}
	noErr(t, "again", f.Lock(7, true))
	noErr(t, "to shared", f.Lock(7, false))
	noErr(t, "shared beside shared", g.Lock(7, false))
	wantErr(t, "to exclusive beside shared", f.Lock(7, true), ErrLocked)
	wantErr(t, "which is still shared", g.Lock(7, true), ErrLocked)
	noErr(t, "unlock", g.Unlock(7))
	noErr(t, "unlock of what is not held", g.Unlock(7))
	noErr(t, "to exclusive", f.Lock(7, true))
	wantErr(t, "exclusive again", g.Lock(7, false), ErrLocked)

	// Closing another descriptor of the file must not lose the lock, as it does with POSIX locks.
	h, err := OS.Open(f.Name(), os.O_RDONLY, 0)
	noErr(t, "open", err)
	noErr(t, "close", h.Close())
	wantErr(t, "after a third was closed", g.Lock(7, true), ErrLocked)

	noErr(t, "close", f.Close())
	noErr(t, "after close", g.Lock(7, true))
}

// A reader without permission to write takes part by a shared lock.
func TestLockOfReadOnlyFile(t *testing.T) {
	f := newFile(t)
	r, err := OS.Open(f.Name(), os.O_RDONLY, 0)
	noErr(t, "open", err)
	defer r.Close()
	noErr(t, "shared", r.Lock(3, false))
	wantErr(t, "exclusive beside it", f.Lock(3, true), ErrLocked)
	noErr(t, "unlock", r.Unlock(3))
	noErr(t, "exclusive", f.Lock(3, true))
	wantErr(t, "shared beside it", r.Lock(3, false), ErrLocked)
}

func TestClosed(t *testing.T) {
	f := newFile(t)
	noErr(t, "close", f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	wantErr(t, "read", err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	wantErr(t, "write", err, fs.ErrClosed)
	_, err = f.Stat()
	wantErr(t, "stat", err, fs.ErrClosed)
	_, err = f.Map(1)
	wantErr(t, "map", err, fs.ErrClosed)
	wantErr(t, "writev", f.WriteV([][]byte{{1}, {2}}, 0), fs.ErrClosed)
	wantErr(t, "sync", f.Sync(), fs.ErrClosed)
	wantErr(t, "lock", f.Lock(0, true), fs.ErrClosed)
	wantErr(t, "allocate", f.Allocate(0, 10), fs.ErrClosed)
	wantErr(t, "truncate", f.Truncate(0), fs.ErrClosed)
	wantErr(t, "close", f.Close(), fs.ErrClosed)
}

// Writers of different ranges of one file do not disturb one another, nor does Close them.
func TestConcurrentUse(t *testing.T) {
	f := newFile(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			b := [][]byte{bytes.Repeat([]byte{byte(i)}, 1000), bytes.Repeat([]byte{byte(i)}, 24)}
			for j := range 50 {
				if err := f.WriteV(b, int64(j*8+i)*1024); err != nil {
					t.Error(err)
				}
				if err := f.Sync(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := contentOf(t, f.Name())
	for at, c := range got {
		if c != byte(at/1024%8) {
			t.Fatalf("byte %d is %d", at, c)
		}
	}
	for range 4 {
		wg.Go(func() {
			for {
				if err := f.WriteV([][]byte{{1}, {2}}, 0); err != nil {
					wantErr(t, "writev beside close", err, fs.ErrClosed)
					return
				}
			}
		})
	}
	noErr(t, "close", f.Close())
	wg.Wait()
}
