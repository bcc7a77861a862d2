package folio

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// create makes a new store at path: built whole under a temporary name, synced, and linked
// into place, so that a file with our name is always complete. fs.ErrExist: somebody else was faster.
func (db *DB) create(path string) error {
	if err := db.opts.checkMaxSize(db.opts.PageSize); err != nil {
		return err
	}
	return place(db.opts.fs, path, db.opts.FileMode, func(f vfs.File) error {
		if err := db.checkMedium(f); err != nil {
			return err
		}
		return db.format(f)
	})
}

// place builds a file under a temporary name and gives it its own once it is complete and
// durable. It never replaces a file: fs.ErrExist. Until the name is durable too the file is locked, so
// that nobody relies on it; if that fails the name is taken back.
func place(fsys vfs.FS, path string, mode os.FileMode, build func(vfs.File) error) (err error) {
	tmp, suffix := temporary(path)
	defer func() { err = told(err, suffix) }()
	f, err := fsys.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	named, err := link(fsys, f, tmp, path, build)
	if rerr := fsys.Remove(tmp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	if !named {
		return err
	}
	if serr := fsys.SyncDir(filepath.Dir(path)); serr != nil {
		return errors.Join(err, serr, fsys.Remove(path))
	}
	return err
}

// link builds the file and gives it its name, and reports whether it has it.
func link(fsys vfs.FS, f vfs.File, tmp, path string, build func(vfs.File) error) (bool, error) {
	for _, b := range []int64{lockWriter, lockReaders} {
		if err := f.Lock(b, true); err != nil {
			return false, err
		}
	}
	if err := build(f); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	err := about(path, fsys.Link(tmp, path))
	return err == nil, err
}

// temporary returns the name of a file that is to become path, and what it ends in.
func temporary(path string) (tmp, suffix string) {
	suffix = ".new-" + hex.EncodeToString(randomBytes(6))
	return path + suffix, suffix
}

// told takes the end of a temporary file's name out of an error's text: what the user has named is the path without it, and the file is
// gone when he reads that.
func told(err error, suffix string) error {
	if err == nil || !strings.Contains(err.Error(), suffix) {
		return err
	}
	return &toldError{err, strings.ReplaceAll(err.Error(), suffix, "")}
}

type toldError struct {
	err  error
	text string
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

// about has the error of giving a file its name speak of that name alone.
func about(path string, err error) error {
	var l *os.LinkError
	if errors.As(err, &l) {
		return &fs.PathError{Op: l.Op, Path: path, Err: l.Err}
	}
	return err
}

// format writes the two meta slots of an empty store.
func (db *DB) format(f vfs.File) error {
	m := page.Meta{PageSize: db.opts.PageSize, Checkpoint: 1, Clean: true, Pages: 2}
	copy(m.StoreID[:], randomBytes(len(m.StoreID)))
	setLogPosition(&m, wal.Position{LSN: 0})
	buf := make([]byte, 2*m.PageSize)
	for slot := range 2 {
		m.Encode(buf[slot*m.PageSize:][:m.PageSize], slot)
	}
	if err := f.Allocate(0, int64(len(buf))); err != nil {
		return err
	}
	_, err := f.WriteAt(buf, 0)
	return err
}

// initialise makes a store of an existing empty file, or of one that a crash in
// here left: two pages of zeros at most. The lock is held.
func (db *DB) initialise(path string) error {
	if db.opts.reads() {
		return nil
	}
	if blank, err := isBlank(db.file); err != nil || !blank {
		return err
	}
	if err := db.opts.checkMaxSize(db.opts.PageSize); err != nil {
		return err
	}
	if there, err := exists(db.opts.fs, logName(path)); err != nil {
		return err
	} else if there {
		return &logError{fmt.Errorf("%s is there, but its data file %s is empty: put the data file back, or move the log away",
			logName(path), filepath.Base(path))}
	}
	if err := db.format(db.file); err != nil {
		return err
	}
	if err := db.file.Sync(); err != nil {
		return err
	}
	return db.opts.fs.SyncDir(filepath.Dir(path))
}

// exists reports whether there is a file of this name. Who cannot tell must not take it for missing.
func exists(fsys vfs.FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// isBlank reports whether a file is empty, or as short as a new store and all zeros.
func isBlank(f vfs.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size > 2*65536 {
		return false, err
	}
	// A store is told by its first bytes; only what a crash left is read to its end.
	buf := make([]byte, 512)
	for off := int64(0); off < info.Size; off += int64(len(buf)) {
		p := buf[:min(info.Size-off, int64(len(buf)))]
		if n, err := f.ReadAt(p, off); n < len(p) {
			return false, err
		}
		for _, b := range p {
			if b != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails, says its documentation
	return b
}
