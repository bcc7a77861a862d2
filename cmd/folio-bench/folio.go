package main

import (
	"os"
	"path/filepath"

	"github.com/foliodb/folio"
)

// Folio is set up as it comes, but for what its docs say (Options.LogLimit) of loads in large transactions, a log of 128 MiB, and of stores that are written relaxed all the time,
// a log of 256 MiB and a memory limit of 64 MiB: less than what Pebble has here for everything. With FOLIO_BENCH_DEFAULTS in the environment it is as it comes there too. Relaxed commits are its
// own notion of what the others call without sync.
func init() { register(&engine{name: "folio", open: openFolio, keeps: true}) }

var bucketName = []byte("bench")

type folioStore struct{ db *folio.DB }

func openFolio(dir string, how setting) (store, error) {
	opts := &folio.Options{}
	if how.relaxed {
		opts.Durability = folio.Relaxed
	}
	switch {
	case os.Getenv("FOLIO_BENCH_DEFAULTS") != "":
	case how.relaxed:
		opts.LogLimit, opts.MemoryLimit = 256<<20, 64<<20
	case how.load:
		opts.LogLimit = 128 << 20
	}
	db, err := folio.Open(filepath.Join(dir, "folio.db"), opts)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *folio.Tx) error {
		if tx.Bucket(bucketName) == nil {
			return folio.ErrBucketNotFound
		}
		return nil
	})
	if err != nil { // a new store; an old one is not written to, since that would be part of opening it
		err = db.Update(func(tx *folio.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bucketName)
			return err
		})
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &folioStore{db}, nil
}

func (s *folioStore) Close() error { return s.db.Close() }

func (s *folioStore) Checkpoint() error { return s.db.Checkpoint() }

func (s *folioStore) View(fn func(reader) error) error {
	return s.db.View(func(tx *folio.Tx) error { return fn((*folioBucket)(tx.Bucket(bucketName))) })
}

func (s *folioStore) Update(fn func(writer) error) error {
	return s.db.Update(func(tx *folio.Tx) error { return fn((*folioBucket)(tx.Bucket(bucketName))) })
}

type folioBucket folio.Bucket

func (b *folioBucket) Get(key []byte) ([]byte, error) { return (*folio.Bucket)(b).Get(key), nil }
func (b *folioBucket) Put(key, value []byte) error    { return (*folio.Bucket)(b).Put(key, value) }
func (b *folioBucket) Delete(key []byte) error        { return (*folio.Bucket)(b).Delete(key) }

func (b *folioBucket) Scan(from []byte, fn func(key, value []byte) bool) error {
	(*folio.Bucket)(b).Range(from, nil)(fn)
	return nil
}

func (b *folioBucket) ScanBack(fn func(key, value []byte) bool) error {
	(*folio.Bucket)(b).Backward()(fn)
	return nil
}
