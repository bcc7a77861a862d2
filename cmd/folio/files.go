package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// rawFiles are a store's files below the library: opened for reading, without a lock,
// damaged or not. What is shown of them is the data file as its last checkpoint left
// it; while another process writes, it may be mixed from two.
type rawFiles struct {
	path string
	data vfs.File
	size int64
	meta page.Meta // of the slot that counts
	bad  error     // why neither slot can be used; nil: one can
}

// openFiles opens the data file and reads its meta slots. It fails only if the file
// cannot be read.
func openFiles(path string) (*rawFiles, error) {
	if err := mustExist(path); err != nil {
		return nil, err
	}
	f, err := vfs.OS.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &rawFiles{path: path, data: f, size: info.Size}
	r.readMetas()
	return r, nil
}

func (r *rawFiles) close() { r.data.Close() }

// readMetas reads both slots. The second one lies a page behind the first, whose size
// is not known if that is damaged: then each place is tried.
func (r *rawFiles) readMetas() {
	first, err := r.readMeta(0, 0)
	if r.bad = err; err == nil {
		r.meta = first
	}
	for size := page.MinPageSize; size <= page.MaxPageSize; size *= 2 {
		m, err := r.readMeta(1, int64(size))
		if err != nil || m.PageSize != size {
			continue
		}
		if r.bad != nil || m.PageSize == r.meta.PageSize && m.Checkpoint > r.meta.Checkpoint {
			r.meta, r.bad = m, nil
		}
	}
}

func (r *rawFiles) readMeta(slot int, off int64) (page.Meta, error) {
	p := make([]byte, page.MetaSize)
	if _, err := r.data.ReadAt(p, off); errors.Is(err, io.EOF) {
		return page.Meta{}, fmt.Errorf("%w: %s", folio.ErrInvalid, r.path)
	} else if err != nil {
		return page.Meta{}, err
	}
	m, err := page.DecodeMeta(p, slot)
	switch {
	case errors.Is(err, page.ErrInvalid):
		err = fmt.Errorf("%w: %s", folio.ErrInvalid, r.path)
	case errors.Is(err, page.ErrVersionMismatch):
		err = fmt.Errorf("%w: %s: %w", folio.ErrVersionMismatch, r.path, err)
	case err != nil:
		err = fmt.Errorf("%s: %w", r.path, err)
	}
	return m, err
}

// damagedSlots says what is wrong with the meta slots of a store that could be opened.
func damagedSlots(path string) ([]error, error) {
	r, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var found []error
	for slot := range 2 {
		p := make([]byte, page.MetaSize)
		if _, err := r.data.ReadAt(p, int64(slot)*int64(r.meta.PageSize)); err != nil {
			return nil, err
		}
		_, err := page.DecodeMeta(p, slot)
		if errors.Is(err, page.ErrInvalid) {
			err = &page.CorruptError{Page: page.ID(slot), Offset: 0, Invariant: 5, Reason: "is no meta slot"}
		}
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", filepath.Base(path), err))
		}
	}
	return found, nil
}

// openSound is openFiles for what cannot be shown without a meta slot.
func openSound(path string) (*rawFiles, error) {
	r, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	if r.bad != nil {
		r.close()
		return nil, r.bad
	}
	return r, nil
}

// pages maps the file and calls fn with a view of the pages of the last checkpoint.
func (r *rawFiles) pages(fn func(v *page.View) error) error {
	f, err := page.NewFile(r.data, r.meta.PageSize)
	if err != nil {
		return err
	}
	m := f.Map()
	v := m.View(r.meta.Pages)
	err = fn(&v)
	m.Release()
	return errors.Join(err, f.Close())
}

// logStart is the position in the log at which the last checkpoint ends.
func (r *rawFiles) logStart() wal.Position {
	m := &r.meta
	return wal.Position{LSN: wal.LSN(m.LogLSN), Offset: m.LogOffset, Epoch: m.LogEpoch, Chain: m.LogChain}
}

// note writes a line above a dump.
func note(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
}
