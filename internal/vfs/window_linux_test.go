package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// What is written to a window is what everybody reads, beside writes by descriptor and after the window is gone; and what cannot be written is
// an error, not the end of the process.
func TestWindow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := OS.Open(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	const size = 64 << 10
	must(t, f.Allocate(0, size))
	want := make([]byte, size)
	w, err := f.Window(5000, 20000)
	must(t, err)
	write := func(at, n int, window bool) {
		b := bytes.Repeat([]byte{byte(at%250 + 1)}, n)
		copy(want[at:], b)
		if window {
			must(t, w.Write(b, int64(at)))
			return
		}
		_, err := f.WriteAt(b, int64(at))
		must(t, err)
	}
	for at := 5000; at < 24000; at += 700 {
		write(at, 600, at%1400 != 0)
		write(at+300, 100, at%1400 == 0)
	}
	must(t, f.Sync())
	same := func() {
		t.Helper()
		got, err := os.ReadFile(name)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatal("the file is not what was written")
		}
	}
	same()
	for _, c := range []struct{ at, n int }{{0, 10}, {4000, 200}, {5000, size}, {size, 1}} {
		if err := w.Write(make([]byte, c.n), int64(c.at)); err == nil {
			t.Errorf("%d bytes at %d went into a window of [5000, 25000)", c.n, c.at)
		}
	}
	same()
	must(t, f.Truncate(8192))
	if err := w.Write([]byte("x"), 20000); !errors.Is(err, ErrFault) {
		t.Errorf("behind the end of the file: %v", err)
	}
	must(t, w.Write([]byte("x"), 5000))
	must(t, w.Close())
	if err := w.Write([]byte("x"), 5000); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := w.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	r, err := OS.Open(name, os.O_RDONLY, 0)
	must(t, err)
	defer r.Close()
	if _, err := r.Window(0, 100); err == nil {
		t.Error("a file opened for reading has a window to write")
	}
}
