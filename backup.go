package folio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// image is a data file made of one state: its pages where they are, zeros where it has none, the
// free set behind the last, and metas of a store of its own. The new store id keeps a log
// that lies beside a copy from being taken for the copy's.
type image struct {
	tx    *Tx
	audit *audit
	end   page.ID // pages of the state
	meta  page.Meta
	set   []byte // padded to whole pages

	next page.ID // where to read on: see page
}

// newImage audits the state, since damage must not be copied as if it were sound, and lays out the copy.
func (tx *Tx) newImage() (*image, error) {
	im := &image{tx: tx}
	if err := tx.audit(func(a *audit) { im.audit = a }); err != nil {
		return nil, err
	}
	for im.end = im.audit.end; im.end > page.FirstID && !im.audit.used.has(im.end-1); im.end-- {
	}
	db := tx.db
	im.meta = page.Meta{PageSize: db.pageSize, Checkpoint: 1, Tx: tx.id, Clean: true, Pages: im.end, Root: tx.root.header()}
	copy(im.meta.StoreID[:], randomBytes(len(im.meta.StoreID)))
	set := freelist.EncodeSet(im.end, func(id page.ID) bool { return !im.audit.used.has(id) })
	if len(set) == 0 {
		return im, nil
	}
	pages := page.RunPages(uint64(len(set)), db.pageSize)
	im.set = make([]byte, int(pages)*db.pageSize)
	copy(im.set, set)
	im.meta.Free = page.Ref{ID: im.end, Born: tx.id, Sum: page.Sum(set)}
	im.meta.FreeLen = uint64(len(set))
	im.meta.Pages += page.ID(pages)
	return im, nil
}

// size of the copy in bytes.
func (im *image) size() int64 { return int64(im.meta.Pages) * int64(im.tx.db.pageSize) }

// slot encodes a meta slot's page.
func (im *image) slot(i int) []byte {
	p := make([]byte, im.tx.db.pageSize)
	im.meta.Encode(p, i)
	return p
}

// page returns page id of the copy; nil: it is not reached. Ids ascend: what comes is read ahead, for where memory is short it is gone since the audit.
func (im *image) page(id page.ID) []byte {
	if !im.audit.used.has(id) {
		return nil
	}
	if id >= im.next {
		const ahead = 2 << 20 // bytes
		n := page.ID(ahead / im.tx.db.pageSize)
		im.audit.view.Prefetch([]page.ID{id}, n)
		im.next = id + n/2
	}
	return im.audit.raw(id)
}

// raw returns a page's bytes, of a node or of a part of a run, which the audit has verified.
func (a *audit) raw(id page.ID) []byte {
	if o, ok := a.w.(*overlay); ok {
		if p := o.parts[id]; p != nil {
			return p
		}
	}
	return a.view.Raw(id)
}

// WriteTo writes a copy of the store as the transaction sees it to w, beside readers and writers: a complete data
// file, of a store with an id of its own. Pages that the state does not reach are written as zeros. It returns
// the number of bytes written. Damage in the state is an error before anything is written.
func (tx *Tx) WriteTo(w io.Writer) (n int64, err error) {
	if tx.done.Load() {
		return 0, ErrTxClosed
	}
	if tx.writing != nil {
		return 0, ErrTxWritable
	}
	im, err := tx.newImage()
	if err != nil {
		return 0, err
	}
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	count := &countingWriter{w: w}
	b := bufio.NewWriterSize(count, 1<<20)
	put := func(p []byte) bool {
		_, err = b.Write(p)
		return err == nil
	}
	zeros := make([]byte, tx.db.pageSize)
	ok := put(im.slot(0)) && put(im.slot(1))
	for id := page.FirstID; ok && id < im.end; id++ {
		p := im.page(id)
		if p == nil {
			p = zeros
		}
		ok = put(p)
	}
	if ok && put(im.set) {
		err = b.Flush()
	}
	return count.n, outer(err)
}

// countingWriter counts what has reached w.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// CopyFile writes a copy of the store as the transaction sees it to a file, as WriteTo does, and makes it durable.
// A file that is there is replaced once the copy is complete, unless it is one of the store's own. A log of that name, path with -wal, is fs.ErrExist: it has
// the last commits of a store that was not closed, and the copy could not be opened beside it. mode 0 is 0600.
func (tx *Tx) CopyFile(path string, mode os.FileMode) error {
	if tx.done.Load() {
		return ErrTxClosed
	}
	fsys := tx.db.opts.fs
	if err := tx.db.notOwn("copy", path); err != nil {
		return err
	}
	if err := noLog(fsys, "copy", path); err != nil {
		return outer(err)
	}
	tmp, suffix := temporary(path)
	if err := place(fsys, tmp, fileMode(mode), tx.writeFile); err != nil {
		return outer(told(err, suffix))
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return outer(told(errors.Join(about(path, err), fsys.Remove(tmp)), suffix))
	}
	return outer(fsys.SyncDir(filepath.Dir(path)))
}

// notOwn is an error if path leads to a file of the store itself, by whatever name, or is where its log or its lock file will be: a copy
// in the place of the log would be the end of what was acknowledged.
func (db *DB) notOwn(op, path string) error {
	if db.memory {
		return nil
	}
	fsys := db.opts.fs
	info, err := fsys.Stat(path)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return outer(err) // it could be one of them
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return outer(err)
	}
	for _, own := range []struct{ name, what string }{
		{db.abs, "the store itself"},
		{logName(db.abs), "the store's log"},
		{lockName(db.abs), "the store's lock file"},
	} {
		same, err := sameName(fsys, abs, own.name)
		if err == nil && there && !same {
			same, err = db.isFile(info, own.name)
		}
		if err != nil {
			return outer(err)
		}
		if same {
			return fmt.Errorf("folio: %s %s: is %s", op, path, own.what)
		}
	}
	return nil
}

// isFile reports whether a file is the one of the given name, which need not be there; or the data file, wherever that is by now.
func (db *DB) isFile(info vfs.Info, name string) (bool, error) {
	key := fileKey{info.Dev, info.Ino}
	if key == db.key {
		return name == db.abs, nil
	}
	own, err := db.opts.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && key == fileKey{own.Dev, own.Ino}, err
}

// sameName reports whether two absolute paths are one name in one folder, if they come to the folder by different ways too.
func sameName(fsys vfs.FS, a, b string) (bool, error) {
	if a == b || filepath.Base(a) != filepath.Base(b) {
		return a == b, nil
	}
	var keys [2]fileKey
	for i, path := range []string{a, b} {
		info, err := fsys.Stat(filepath.Dir(path) + string(filepath.Separator) + ".") // with the dot a link is followed
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return false, err
		}
		keys[i] = fileKey{info.Dev, info.Ino}
	}
	return keys[0] == keys[1], nil
}

// isNew is fs.ErrExist if there is a file at path, and another error if a file of the store has its place there. It is asked before the
// work is done; a file that comes meanwhile is not replaced either.
func (db *DB) isNew(op, path string) error {
	there, err := exists(db.opts.fs, path)
	if err == nil && there {
		err = &fs.PathError{Op: "folio: " + op, Path: path, Err: fs.ErrExist}
	}
	if err == nil {
		err = db.notOwn(op, path)
	}
	if err == nil {
		err = noLog(db.opts.fs, op, path)
	}
	return outer(err)
}

// noLog is fs.ErrExist if there is a log where a store at path would have its own: the store could not be opened. An empty path is an error too.
func noLog(fsys vfs.FS, op, path string) error {
	if path == "" {
		return errEmptyPath
	}
	there, err := exists(fsys, logName(path))
	if err == nil && there {
		err = &fs.PathError{Op: "folio: " + op, Path: logName(path), Err: fs.ErrExist}
	}
	return err
}

func fileMode(m os.FileMode) os.FileMode {
	if m == 0 {
		return 0o600
	}
	return m
}

// Backup writes a copy of the newest state to a new file at path, beside readers and writers, and makes it durable.
// It copies page by page: fast, and as large as the store's last page in use; Compact makes the
// smallest copy. A file that is there, or the log of one (path with -wal), is fs.ErrExist.
func (db *DB) Backup(path string) error {
	return db.View(func(tx *Tx) error {
		if err := db.isNew("backup", path); err != nil {
			return err
		}
		return outer(place(db.opts.fs, path, db.opts.FileMode, tx.writeFile))
	})
}

// writeFile writes the copy to a new file.
func (tx *Tx) writeFile(f vfs.File) error {
	if tx.writing != nil {
		return ErrTxWritable
	}
	im, err := tx.newImage()
	if err != nil {
		return err
	}
	size := int64(tx.db.pageSize)
	if err := f.Allocate(0, im.size()); err != nil {
		return err
	}
	var run [][]byte // contiguous pages, up to 1 MiB
	start := page.FirstID
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		err := f.WriteV(run, int64(start)*size)
		run = run[:0]
		return err
	}
	for id := page.FirstID; id < im.end; id++ {
		p := im.page(id)
		if p == nil || len(run) >= 256 {
			if err := flush(); err != nil {
				return err
			}
		}
		if p == nil {
			continue
		}
		if len(run) == 0 {
			start = id
		}
		run = append(run, p)
	}
	if err := flush(); err != nil {
		return err
	}
	if len(im.set) > 0 {
		if _, err := f.WriteAt(im.set, int64(im.end)*size); err != nil {
			return err
		}
	}
	return f.WriteV([][]byte{im.slot(0), im.slot(1)}, 0)
}
