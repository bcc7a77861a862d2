package main

import (
	"errors"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// Badger: SyncWrites makes a commit durable, as its docs say; without it a commit is in a mapped file, which is enough
// when a process dies. The other settings are the defaults, which its docs recommend to begin with; among them is a
// block cache of 256 MiB. Metrics are off, since nobody reads them.
func init() { register(&engine{name: "badger", open: openBadger, keeps: true}) }

type badgerStore struct{ db *badger.DB }

func openBadger(dir string, how setting) (store, error) {
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(dir, "badger")).
		WithSyncWrites(!how.relaxed).
		WithMetricsEnabled(false).
		WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return &badgerStore{db}, nil
}

func (s *badgerStore) Close() error { return s.db.Close() }

func (s *badgerStore) View(fn func(reader) error) error {
	return s.db.View(func(tx *badger.Txn) error { return fn(badgerReader{tx}) })
}

// Update commits in parts what is too large for a transaction of Badger's: about a tenth of a memtable. So its loads are
// many transactions where those of the others are one.
func (s *badgerStore) Update(fn func(writer) error) error {
	w := &badgerWriter{db: s.db, tx: s.db.NewTransaction(true)}
	defer func() { w.tx.Discard() }()
	if err := fn(w); err != nil {
		return err
	}
	return w.tx.Commit()
}

type badgerReader struct{ tx *badger.Txn }

func (r badgerReader) Get(key []byte) ([]byte, error) {
	item, err := r.tx.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

func (r badgerReader) Scan(from []byte, fn func(key, value []byte) bool) error {
	return r.iterate(badger.DefaultIteratorOptions, from, fn)
}

func (r badgerReader) ScanBack(fn func(key, value []byte) bool) error {
	opts := badger.DefaultIteratorOptions
	opts.Reverse = true
	return r.iterate(opts, nil, fn)
}

func (r badgerReader) iterate(opts badger.IteratorOptions, from []byte, fn func(key, value []byte) bool) error {
	it := r.tx.NewIterator(opts)
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		more := false
		item := it.Item()
		err := item.Value(func(value []byte) error {
			more = fn(item.Key(), value)
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

type badgerWriter struct {
	db *badger.DB
	tx *badger.Txn
}

// Put copies key and value, which Badger keeps until the commit.
func (w *badgerWriter) Put(key, value []byte) error {
	both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	key, value = both[:len(key):len(key)], both[len(key):]
	return w.retry(func() error { return w.tx.Set(key, value) })
}

func (w *badgerWriter) Delete(key []byte) error {
	key = append([]byte(nil), key...)
	return w.retry(func() error { return w.tx.Delete(key) })
}

// retry commits and begins again when the transaction is full.
func (w *badgerWriter) retry(op func() error) error {
	err := op()
	if !errors.Is(err, badger.ErrTxnTooBig) {
		return err
	}
	if err := w.tx.Commit(); err != nil {
		return err
	}
	w.tx = w.db.NewTransaction(true)
	return op()
}
