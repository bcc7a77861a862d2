package vfs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A private file is the file below base and memory behind it: both are read and mapped as one, through mappings
// made before and after, only the latter can be written, and the file never changes.
func TestPrivate(t *testing.T) {
	const align = 64 << 10
	for _, size := range []int{0, 100, align, 2*align + 4096 + 7} {
		name := filepath.Join(t.TempDir(), "a.db")
		want := pattern(size, 1)
		noErr(t, "write", os.WriteFile(name, want, 0o400))
		under, err := OS.Open(name, os.O_RDONLY, 0)
		noErr(t, "open", err)
		f, base, err := under.Private(align)
		noErr(t, "private", err)
		if base != int64(size/align*align) {
			t.Errorf("base %d of a file of %d bytes", base, size)
		}
		content := bytes.Clone(want)
		var maps []Mapping
		look := func() {
			t.Helper()
			info, err := f.Stat()
			noErr(t, "stat", err)
			if info.Size != int64(len(content)) {
				t.Fatalf("%d bytes; want %d", info.Size, len(content))
			}
			got := make([]byte, len(content))
			if n, err := f.ReadAt(got, 0); n < len(got) || !bytes.Equal(got, content) {
				t.Fatalf("read %d of %d bytes: %v", n, len(got), err)
			}
			if len(content) > 0 {
				m, err := f.Map(int64(len(content)))
				noErr(t, "map", err)
				maps = append(maps, m)
			}
			for _, m := range maps {
				n := min(len(m.Bytes()), len(content))
				noErr(t, "populate", m.Populate(0, int64(n)))
				if !bytes.Equal(m.Bytes()[:n], content[:n]) {
					t.Fatal("mapping shows something else")
				}
			}
		}
		look()
		noErr(t, "allocate", f.Allocate(int64(len(content)), 3*align))
		content = append(content, make([]byte, 3*align)...)
		look()
		p := pattern(align, 2)
		copy(content[base+5:], p)
		_, err = f.WriteAt(p, base+5)
		noErr(t, "write", err)
		look()
		if CanReserve && maps[0].Extend(int64(len(content))+align) {
			noErr(t, "grow", f.Allocate(int64(len(content)), align))
			content = append(content, make([]byte, align)...)
		}
		copy(content[base+align:], append(pattern(10, 3), pattern(20, 4)...))
		noErr(t, "writev", f.WriteV([][]byte{pattern(10, 3), pattern(20, 4)}, base+align))
		look()
		for _, m := range maps {
			noErr(t, "unmap", m.Close())
		}
		maps = nil
		noErr(t, "truncate", f.Truncate(base+align))
		content = content[:base+align]
		look()
		for _, m := range maps {
			noErr(t, "unmap", m.Close())
		}
		noErr(t, "sync", f.Sync())
		noErr(t, "close", f.Close())
		if !bytes.Equal(contentOf(t, name), want) {
			t.Error("the file has changed")
		}
	}
}
