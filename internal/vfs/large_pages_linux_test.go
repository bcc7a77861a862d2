package vfs

import (
	"bytes"
	"testing"
	"unsafe"
)

// Case F14 of RELIABILITY.md. Systems have pages of 16 and of 64 KiB too, while pages of a store may have 4: the kernel refuses an
// msync, a madvise or a mapping that does not begin at one of its own pages. Smaller pages than the system's cannot be had
// for a test, larger ones can: what begins at one of them begins at one of the real ones.
func TestLargeSystemPages(t *testing.T) {
	defer func(n int) { PageSize = n }(PageSize)
	const small, count = 4096, 37 // the file ends in the middle of a system's page
	for _, PageSize = range []int{16 << 10, 64 << 10} {
		large := int64(PageSize)
		f := newFile(t)
		want := pattern(count*small, uint64(PageSize))
		_, err := f.WriteAt(want, 0)
		noErr(t, "write", err)
		m := mapped(t, f, small).(*mapping)
		for n := int64(small); n < 8*large; n += 5 * small {
			if m.Extend(n) && int64(len(m.Bytes()))%large != 0 {
				t.Fatalf("mapping of %d bytes", len(m.Bytes()))
			}
		}
		m = mapped(t, f, count*small).(*mapping)
		if n := int64(len(m.Bytes())); n%large != 0 || n < count*small {
			t.Fatalf("mapping of %d bytes", n)
		}
		for off := int64(0); off < count*small; off += small {
			b, err := m.pages(off, small)
			noErr(t, "pages", err)
			from := int64(uintptr(unsafe.Pointer(&b[0])) - uintptr(m.base))
			if from%large != 0 || from > off || from+int64(len(b)) != off+small {
				t.Errorf("page at %d lies in [%d, %d)", off, from, from+int64(len(b)))
			}
			noErr(t, "msync", m.Sync(off, small))
			noErr(t, "populate", m.Populate(off, small))
			m.WillNeed(off, small)

			w, err := f.Window(off, small)
			noErr(t, "window", err)
			if at := w.(*mappedWindow).from; at%large != 0 || at > off {
				t.Errorf("window for %d at %d", off, at)
			}
			noErr(t, "write", w.Write([]byte("new"), off))
			copy(want[off:], "new")
			noErr(t, "close", w.Close())
		}
		if !bytes.Equal(m.Bytes()[:len(want)], want) {
			t.Error("mapping differs from what was written")
		}

		// What is cut off within a system's page is zeros when the file is longer again, in the mapping that there is.
		noErr(t, "cut", f.Truncate(small))
		noErr(t, "allocate", f.Allocate(small, (count-1)*small))
		clear(want[small:])
		if !bytes.Equal(m.Bytes()[:len(want)], want) {
			t.Error("what was cut off is back")
		}

		p, base, err := f.Private(64 << 10)
		noErr(t, "private", err)
		if base%large != 0 || base == 0 {
			t.Errorf("private from %d on", base)
		}
		pm := mapped(t, p, 2*count*small)
		_, err = p.WriteAt([]byte("mine"), base)
		noErr(t, "write", err)
		copy(want[base:], "mine")
		if !bytes.Equal(pm.Bytes()[:len(want)], want) {
			t.Error("private mapping differs from what was written")
		}
	}
}
