package main

import (
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt: FreelistType is a map, which its docs call almost always faster, and the one that etcd chooses. The freelist
// stays synced, as it is by default, because otherwise opening reads the whole file. Concurrent durable puts go through
// Update and not through Batch, which may run a function twice, and waits 10 ms for company. InitialMmapSize is large, as
// its docs advise where readers stay: otherwise a writer that makes the file grow waits for them.
func init() { register(&engine{name: "bbolt", open: openBbolt, keeps: true}) }

type bboltStore struct{ db *bbolt.DB }

func openBbolt(dir string, how setting) (store, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bbolt.db"), 0o600, &bbolt.Options{
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: 64 << 30,
		NoSync:          how.relaxed,
	})
	if err != nil {
		return nil, err
	}
	isNew := false
	err = db.View(func(tx *bbolt.Tx) error {
		isNew = tx.Bucket(bucketName) == nil
		return nil
	})
	if err == nil && isNew {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket(bucketName)
			return err
		})
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &bboltStore{db}, nil
}

func (s *bboltStore) Close() error { return s.db.Close() }

func (s *bboltStore) View(fn func(reader) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return fn(bboltBucket{tx.Bucket(bucketName)}) })
}

func (s *bboltStore) Update(fn func(writer) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return fn(bboltBucket{tx.Bucket(bucketName)}) })
}

type bboltBucket struct{ b *bbolt.Bucket }

func (b bboltBucket) Get(key []byte) ([]byte, error) { return b.b.Get(key), nil }
func (b bboltBucket) Delete(key []byte) error        { return b.b.Delete(key) }

// Put copies the value: bbolt reads it again at the commit, and the caller has used its buffer for others by then.
func (b bboltBucket) Put(key, value []byte) error {
	return b.b.Put(key, append(make([]byte, 0, len(value)), value...))
}

func (b bboltBucket) Scan(from []byte, fn func(key, value []byte) bool) error {
	c := b.b.Cursor()
	for k, v := c.Seek(from); k != nil && fn(k, v); {
		k, v = c.Next()
	}
	return nil
}

func (b bboltBucket) ScanBack(fn func(key, value []byte) bool) error {
	c := b.b.Cursor()
	for k, v := c.Last(); k != nil && fn(k, v); {
		k, v = c.Prev()
	}
	return nil
}
