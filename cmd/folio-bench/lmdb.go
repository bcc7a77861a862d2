//go:build cgo

package main

import (
	"errors"
	"sync"

	"github.com/PowerDNS/lmdb-go/lmdb"
)

// LMDB: the map has 64 GiB, as its docs want it larger than the store will ever be; that is address space, not disk.
// NoTLS and transactions that are reset, kept and renewed are what they advise for programs with many threads and short
// reads, NoReadahead is what they advise for random reads, and RawRead saves the copy of each value. Relaxed is NoSync.
func init() { register(&engine{name: "lmdb", open: openLMDB, keeps: true}) }

type lmdbStore struct {
	env  *lmdb.Env
	dbi  lmdb.DBI
	idle sync.Pool // of *lmdb.Txn that were reset
}

func openLMDB(dir string, how setting) (store, error) {
	env, err := lmdb.NewEnv()
	if err != nil {
		return nil, err
	}
	flags := uint(lmdb.NoTLS | lmdb.NoReadahead)
	if how.relaxed {
		flags |= lmdb.NoSync
	}
	s := &lmdbStore{env: env}
	err = errors.Join(env.SetMapSize(64<<30), env.SetMaxReaders(1024))
	if err == nil {
		err = env.Open(dir, flags, 0o600)
	}
	if err == nil {
		err = env.View(func(txn *lmdb.Txn) error {
			s.dbi, err = txn.OpenRoot(0)
			return err
		})
	}
	if err != nil {
		_ = env.Close()
		return nil, err
	}
	return s, nil
}

func (s *lmdbStore) Close() error {
	for txn, _ := s.idle.Get().(*lmdb.Txn); txn != nil; txn, _ = s.idle.Get().(*lmdb.Txn) {
		txn.Abort()
	}
	return s.env.Close()
}

func (s *lmdbStore) View(fn func(reader) error) error {
	txn, _ := s.idle.Get().(*lmdb.Txn)
	var err error
	if txn != nil {
		txn.Pooled = false
		err = txn.Renew()
	} else {
		txn, err = s.env.BeginTxn(nil, lmdb.Readonly)
	}
	if err != nil {
		return err
	}
	txn.RawRead = true
	err = fn(lmdbTxn{txn, s.dbi})
	txn.Reset()
	txn.Pooled = true
	s.idle.Put(txn)
	return err
}

func (s *lmdbStore) Update(fn func(writer) error) error {
	return s.env.Update(func(txn *lmdb.Txn) error { return fn(lmdbTxn{txn, s.dbi}) })
}

type lmdbTxn struct {
	txn *lmdb.Txn
	dbi lmdb.DBI
}

func (t lmdbTxn) Put(key, value []byte) error { return t.txn.Put(t.dbi, key, value, 0) }
func (t lmdbTxn) Delete(key []byte) error     { return t.txn.Del(t.dbi, key, nil) }

func (t lmdbTxn) Get(key []byte) ([]byte, error) {
	value, err := t.txn.Get(t.dbi, key)
	if lmdb.IsNotFound(err) {
		return nil, nil
	}
	return value, err
}

func (t lmdbTxn) Scan(from []byte, fn func(key, value []byte) bool) error {
	if from == nil {
		return t.iterate(nil, lmdb.First, lmdb.Next, fn)
	}
	return t.iterate(from, lmdb.SetRange, lmdb.Next, fn)
}

func (t lmdbTxn) ScanBack(fn func(key, value []byte) bool) error {
	return t.iterate(nil, lmdb.Last, lmdb.Prev, fn)
}

func (t lmdbTxn) iterate(from []byte, first, next uint, fn func(key, value []byte) bool) error {
	c, err := t.txn.OpenCursor(t.dbi)
	if err != nil {
		return err
	}
	defer c.Close()
	key, value, err := c.Get(from, nil, first)
	for err == nil && fn(key, value) {
		key, value, err = c.Get(nil, nil, next)
	}
	if lmdb.IsNotFound(err) {
		return nil
	}
	return err
}
