package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
)

// view opens the store for reading and calls fn with the bucket at the path.
func (a *app) view(store, bucket string, fn func(*folio.Bucket) error) error {
	path, err := parseBucketPath(bucket)
	if err != nil {
		return err
	}
	db, err := a.openReadOnly(store)
	if err != nil {
		return err
	}
	err = db.View(func(tx *folio.Tx) error {
		b, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		return fn(b)
	})
	return errors.Join(err, db.Close())
}

func (a *app) openReadOnly(store string) (*folio.DB, error) {
	if err := mustExist(store); err != nil {
		return nil, err
	}
	return folio.Open(store, &folio.Options{ReadOnly: true, LockTimeout: a.wait})
}

// update opens the store, which must be there, and calls fn with the bucket at the
// path.
func (a *app) update(store, bucket string, fn func(*folio.Bucket) error) error {
	path, err := parseBucketPath(bucket)
	if err != nil {
		return err
	}
	db, err := a.openExisting(store)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *folio.Tx) error {
		b, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		return fn(b)
	})
	return errors.Join(err, db.Close())
}

// openExisting opens a store for writing, and never makes one.
func (a *app) openExisting(store string) (*folio.DB, error) {
	if err := mustExist(store); err != nil {
		return nil, err
	}
	if info, err := os.Stat(store); err == nil && info.Mode().IsRegular() && info.Size() == 0 { // Open would make a store of it
		return nil, fmt.Errorf(`%s: an empty file, not a store; "folio load" and "folio put" make a new one there`, store)
	}
	return folio.Open(store, &folio.Options{LockTimeout: a.wait})
}

// mustExist says what makes a store where there is none.
func mustExist(store string) error {
	_, err := os.Stat(store)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf(`%s: no such file; "folio load" and "folio put" make a new store`, store)
	}
	return err
}

// findBucket follows a path from the root.
func findBucket(tx *folio.Tx, path [][]byte) (*folio.Bucket, error) {
	b := tx.Root()
	for i, name := range path {
		next := b.Bucket(name)
		if next == nil {
			return nil, missingf(`no bucket "%s"%s`, formatBucketPath(path[:i+1]), aKeyInstead(b, name))
		}
		b = next
	}
	return b, nil
}

// aKeyInstead is the end of an error text for a bucket that is a key.
func aKeyInstead(b *folio.Bucket, name []byte) string {
	if b.Get(name) != nil {
		return ": it is a key with a value"
	}
	return ""
}

// makeBucket follows a path from the root, and makes the buckets that are not there.
func makeBucket(tx *folio.Tx, path [][]byte) (*folio.Bucket, error) {
	b := tx.Root()
	for i, name := range path {
		next, err := b.CreateBucketIfNotExists(name)
		switch {
		case errors.Is(err, folio.ErrIncompatibleValue):
			return nil, usagef(`"%s" is a key with a value; "folio del" removes it`, formatBucketPath(path[:i+1]))
		case err != nil:
			return nil, err
		}
		b = next
	}
	return b, nil
}

// bucketFlag adds the flag that names a bucket.
func bucketFlag(cmd *cobra.Command, bucket *string) {
	cmd.Flags().StringVarP(bucket, "bucket", "b", "", "path of the bucket, a/b/c (default: the root)")
}
