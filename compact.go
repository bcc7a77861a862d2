package folio

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Compact writes the newest state to a new store at path, beside readers and writers: every bucket anew and in order, so
// that its pages are full and nothing is free. Sequences are kept. The copy is a
// store with an id of its own, complete and durable when Compact returns. A file that is there, or the log of one (path with -wal), is fs.ErrExist.
func (db *DB) Compact(path string) error {
	return db.View(func(tx *Tx) error { return tx.compact(path) })
}

func (tx *Tx) compact(path string) (err error) {
	db := tx.db
	if err := db.isNew("compact", path); err != nil {
		return err
	}
	if err := tx.audit(nil); err != nil {
		return err // a copy would look sound; and buckets may go round in a circle
	}
	tmp, suffix := temporary(path)
	defer func() { err = outer(told(err, suffix)) }()
	o := Options{PageSize: db.pageSize, FileMode: db.opts.FileMode, MemoryLimit: db.opts.MemoryLimit, AllowNetwork: db.opts.AllowNetwork, fs: db.opts.fs}
	finished := false
	defer func() {
		if !finished { // a fault of the source passes through as a panic
			err = errors.Join(err, removeStore(db, tmp))
		}
	}()
	if err := tx.compactInto(tmp, &o); err != nil {
		return err
	}
	finished = true
	if err := db.opts.fs.Link(tmp, path); err != nil {
		return errors.Join(outer(about(path, err)), removeStore(db, tmp))
	}
	if err := db.opts.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return outer(err)
	}
	return outer(db.opts.fs.SyncDir(filepath.Dir(path)))
}

// compactInto copies all buckets to a new store at path.
func (tx *Tx) compactInto(path string, o *Options) (err error) {
	dst, err := Open(path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	return dst.Update(func(to *Tx) error {
		to.bulk = true // written once, whatever its size
		return copyBucket(&to.root, &tx.root)
	})
}

// removeStore removes what is left of a store that could not be finished.
func removeStore(db *DB, path string) error {
	var errs []error
	for _, name := range []string{path, logName(path)} {
		if err := db.opts.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, outer(err))
		}
	}
	return errors.Join(errs...)
}

// copyBucket copies all of a bucket, nested buckets included, in order.
func copyBucket(dst, src *Bucket) error {
	if n := src.Sequence(); n > 0 {
		if err := dst.SetSequence(n); err != nil {
			return err
		}
	}
	for k, v := range src.All() {
		if v != nil {
			if err := dst.Put(k, v); err != nil {
				return err
			}
			continue
		}
		b, err := dst.CreateBucket(k)
		if err != nil {
			return err
		}
		if err := copyBucket(b, src.Bucket(k)); err != nil {
			return err
		}
		if err := dst.shut(b); err != nil {
			return err
		}
	}
	return src.tx.Err()
}
