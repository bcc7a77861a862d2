package vfs

import (
	"bytes"
	"io/fs"
	"os"
	"testing"
)

func mapped(t *testing.T, f File, length int64) Mapping {
	t.Helper()
	m, err := f.Map(length)
	noErr(t, "map", err)
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMapShowsWrites(t *testing.T) {
	f := newFile(t)
	want := pattern(3*PageSize, 1)
	_, err := f.WriteAt(want, 0)
	noErr(t, "write", err)
	m := mapped(t, f, int64(len(want)))
	if !bytes.Equal(m.Bytes(), want) {
		t.Fatal("mapping differs from the file")
	}
	_, err = f.WriteAt([]byte("new"), int64(PageSize))
	noErr(t, "write", err)
	if string(m.Bytes()[PageSize:PageSize+3]) != "new" {
		t.Error("a write does not show in the mapping")
	}
	noErr(t, "msync", m.Sync(0, int64(len(want))))
	noErr(t, "msync of a part", m.Sync(int64(PageSize)+100, 5))
	noErr(t, "msync of nothing", m.Sync(100, 0))
	noErr(t, "populate", m.Populate(10, int64(PageSize)))
	m.WillNeed(0, int64(PageSize))
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(3*PageSize + 1)}, {1 << 62, 1 << 62}} {
		if m.Sync(r[0], r[1]) == nil || m.Populate(r[0], r[1]) == nil {
			t.Errorf("range %v: no error", r)
		}
		m.WillNeed(r[0], r[1])
	}
}

func TestMapOutlivesDescriptor(t *testing.T) {
	f := newFile(t)
	_, err := f.WriteAt([]byte("still here"), 0)
	noErr(t, "write", err)
	m := mapped(t, f, 10)
	noErr(t, "close", f.Close())
	if string(m.Bytes()[:10]) != "still here" {
		t.Error("mapping changed when the file was closed")
	}
	noErr(t, "unmap", m.Close())
	wantErr(t, "unmap again", m.Close(), fs.ErrClosed)
	wantErr(t, "populate after unmap", m.Populate(0, 1), fs.ErrClosed)
	wantErr(t, "msync after unmap", m.Sync(0, 1), fs.ErrClosed)
	if m.Extend(1 << 20) {
		t.Error("extended after unmap")
	}
}

// The kernel answers success to such an msync, and writes nothing.
func TestMapOfReadOnlyFileRefusesSync(t *testing.T) {
	f := newFile(t)
	_, err := f.WriteAt([]byte("x"), 0)
	noErr(t, "write", err)
	r, err := OS.Open(f.Name(), os.O_RDONLY, 0)
	noErr(t, "open", err)
	defer r.Close()
	m := mapped(t, r, 1)
	wantErr(t, "msync", m.Sync(0, 1), ErrReadOnlyMapping)
	noErr(t, "populate", m.Populate(0, 1))
	if m.Bytes()[0] != 'x' {
		t.Error("mapping differs from the file")
	}
}

func TestMapOfImpossibleLength(t *testing.T) {
	f := newFile(t)
	for _, n := range []int64{0, -1, 1<<63 - 1, 1 << 62} {
		if m, err := f.Map(n); err == nil {
			t.Errorf("mapped %d bytes", n)
			m.Close()
		}
	}
}

func TestMapPastTheEnd(t *testing.T) {
	if !CanReserve {
		t.Skip("mappings end with the file here")
	}
	f := newFile(t)
	_, err := f.WriteAt([]byte("begin"), 0)
	noErr(t, "write", err)
	m := mapped(t, f, 1<<24)
	if len(m.Bytes()) != 1<<24 {
		t.Fatalf("mapping of %d bytes", len(m.Bytes()))
	}
	noErr(t, "allocate", f.Allocate(0, 1<<20))
	_, err = f.WriteAt([]byte("grown"), 1<<20-5)
	noErr(t, "write", err)
	if string(m.Bytes()[1<<20-5:1<<20]) != "grown" {
		t.Error("growth does not show in a mapping made before")
	}
	noErr(t, "truncate", f.Truncate(int64(PageSize)))
	noErr(t, "write", f.WriteV([][]byte{[]byte("again"), []byte("!")}, 1<<20))
	if string(m.Bytes()[1<<20:1<<20+6]) != "again!" {
		t.Error("growth after a cut does not show")
	}
	if string(m.Bytes()[:5]) != "begin" {
		t.Error("beginning changed")
	}
}

func TestExtend(t *testing.T) {
	f := newFile(t)
	noErr(t, "allocate", f.Allocate(0, 1<<20))
	m := mapped(t, f, 1<<20)
	first := m.Bytes()
	if !m.Extend(1<<20) || !m.Extend(1) {
		t.Error("extending to what it has failed")
	}
	if !CanReserve || !m.Extend(1<<21) {
		if len(m.Bytes()) != len(first) {
			t.Error("failed extension changed the length")
		}
		t.Skip("not extended in place, as may be")
	}
	if len(m.Bytes()) != 1<<21 || &m.Bytes()[0] != &first[0] {
		t.Errorf("extended to %d bytes, moved: %v", len(m.Bytes()), &m.Bytes()[0] != &first[0])
	}
	noErr(t, "allocate", f.Allocate(1<<20, 1<<20))
	_, err := f.WriteAt([]byte("new"), 1<<21-3)
	noErr(t, "write", err)
	if string(m.Bytes()[1<<21-3:]) != "new" {
		t.Error("extension does not show the file")
	}
	noErr(t, "populate", m.Populate(1<<20, 1<<20))
	noErr(t, "msync", m.Sync(1<<20, 1<<20))
}

// A mapping in the way makes extending in place impossible, and must survive the attempt.
func TestExtendBlocked(t *testing.T) {
	f := newFile(t)
	_, err := f.WriteAt([]byte("x"), 0)
	noErr(t, "write", err)
	m := mapped(t, f, int64(PageSize))
	if m.Extend(1 << 62) {
		t.Error("extended beyond the address space")
	}
	if m.Bytes()[0] != 'x' || len(m.Bytes()) != PageSize {
		t.Error("failed extension changed the mapping")
	}
}
