package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Pebble's defaults are for tests; its docs send the reader to the settings of its own benchmark and of CockroachDB.
// Here are those that concern a store of this kind: memtables of 64 MiB, bloom filters of 10 bits on all levels but the
// last, up to 3 compactions at a time, the newest format. The block cache has 256 MiB, so that it can hold what the
// mapped stores have in the page cache. Puts are committed by Sync or, relaxed, NoSync batches.
func init() { register(&engine{name: "pebble", open: openPebble, keeps: true}) }

type pebbleStore struct {
	db    *pebble.DB
	write *pebble.WriteOptions
}

func openPebble(dir string, how setting) (store, error) {
	opts := &pebble.Options{
		CacheSize:                   256 << 20,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                16384,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 3 },
		Logger:                      silence{},
	}
	for i := range opts.Levels[:6] {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opts.Levels[6].FilterPolicy = pebble.NoFilterPolicy
	db, err := pebble.Open(filepath.Join(dir, "pebble"), opts)
	if err != nil {
		return nil, err
	}
	s := &pebbleStore{db, pebble.Sync}
	if how.relaxed {
		s.write = pebble.NoSync
	}
	return s, nil
}

func (s *pebbleStore) Close() error { return s.db.Close() }

// View reads a snapshot: that is what Pebble has for a read transaction.
func (s *pebbleStore) View(fn func(reader) error) error {
	snapshot := s.db.NewSnapshot()
	defer snapshot.Close()
	return fn(pebbleReader{snapshot})
}

func (s *pebbleStore) Update(fn func(writer) error) error {
	b := s.db.NewBatch()
	defer b.Close()
	if err := fn(pebbleWriter{b}); err != nil {
		return err
	}
	return b.Commit(s.write)
}

type pebbleReader struct{ s *pebble.Snapshot }

func (r pebbleReader) Get(key []byte) ([]byte, error) {
	value, closer, err := r.s.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The value may be used until the next call, longer than Pebble allows after Close: an engine that recycles the
	// memory has to be copied from. Its users do the same.
	value = append([]byte(nil), value...)
	return value, closer.Close()
}

func (r pebbleReader) Scan(from []byte, fn func(key, value []byte) bool) error {
	it, err := r.s.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && fn(it.Key(), it.Value()); {
		ok = it.Next()
	}
	return it.Close()
}

func (r pebbleReader) ScanBack(fn func(key, value []byte) bool) error {
	it, err := r.s.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.Last(); ok && fn(it.Key(), it.Value()); {
		ok = it.Prev()
	}
	return it.Close()
}

type pebbleWriter struct{ b *pebble.Batch }

func (w pebbleWriter) Put(key, value []byte) error { return w.b.Set(key, value, nil) }
func (w pebbleWriter) Delete(key []byte) error     { return w.b.Delete(key, nil) }

// silence is a logger that drops what would stand between the lines of the table.
type silence struct{}

func (silence) Infof(string, ...any)  {}
func (silence) Errorf(string, ...any) {}
func (silence) Fatalf(format string, args ...any) {
	complain(format, args...)
	os.Exit(1)
}
