package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/foliodb/folio/internal/vfs"
)

// readAhead is how much of the file a window reads at once.
const readAhead = 256 << 10

// A window reads a file through one buffer. The buffer grows to the largest piece asked
// for, which callers bound by the file's size.
type window struct {
	file vfs.File
	size int64
	buf  []byte
	at   int64 // offset of buf
}

// bytes returns [off, off+n), which must lie inside size; valid until the next
// call.
func (w *window) bytes(off, n int64) ([]byte, error) {
	if off < w.at || off+n > w.at+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, err
		}
	}
	return w.buf[off-w.at:][:n], nil
}

func (w *window) fill(off, n int64) error {
	want := min(max(n, readAhead), w.size-off)
	if int64(cap(w.buf)) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], off
	m, err := w.file.ReadAt(w.buf, off)
	if int64(m) == want {
		return nil
	}
	w.buf = w.buf[:0]
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("wal: read %s at offset %d: %w", base(w.file), off, err)
}
