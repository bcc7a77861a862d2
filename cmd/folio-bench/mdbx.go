//go:build cgo

package main

import (
	"errors"

	"github.com/erigontech/mdbx-go/mdbx"
)

// libmdbx: the geometry allows 64 GiB and grows in steps of 16 MiB; pages have 4 KiB, as those of the others. Readers
// are reset, kept and renewed, as its docs advise, and so may wander between threads. LifoReclaim and NoReadahead are
// what Erigon, its largest user in Go, sets. Relaxed is SafeNoSync, which like the others' keeps the store sound.
func init() { register(&engine{name: "mdbx", open: openMDBX, keeps: true}) }

type mdbxStore struct {
	env  *mdbx.Env
	dbi  mdbx.DBI
	idle chan *mdbx.Txn // that were reset; no sync.Pool, since one that it dropped would keep its slot for ever
}

func openMDBX(dir string, how setting) (store, error) {
	env, err := mdbx.NewEnv(mdbx.Label("bench"))
	if err != nil {
		return nil, err
	}
	flags := uint(mdbx.NoStickyThreads | mdbx.NoReadahead | mdbx.LifoReclaim | mdbx.Durable)
	if how.relaxed {
		flags |= mdbx.SafeNoSync
	}
	s := &mdbxStore{env: env, idle: make(chan *mdbx.Txn, 256)}
	err = errors.Join(
		env.SetGeometry(-1, -1, 64<<30, 16<<20, -1, 4096),
		env.SetOption(mdbx.OptMaxReaders, 1024),
	)
	if err == nil {
		err = env.Open(dir, flags, 0o600)
	}
	if err == nil {
		err = env.View(func(txn *mdbx.Txn) error {
			s.dbi, err = txn.OpenRoot(0)
			return err
		})
	}
	if err != nil {
		env.Close()
		return nil, err
	}
	return s, nil
}

func (s *mdbxStore) Close() error {
	close(s.idle)
	for txn := range s.idle {
		txn.Abort()
	}
	s.env.Close()
	return nil
}

func (s *mdbxStore) View(fn func(reader) error) error {
	var txn *mdbx.Txn
	var err error
	select {
	case txn = <-s.idle:
		err = txn.Renew()
	default:
		txn, err = s.env.BeginTxn(nil, mdbx.Readonly)
	}
	if err != nil {
		return err
	}
	err = fn(mdbxTxn{txn, s.dbi})
	txn.Reset()
	select {
	case s.idle <- txn:
	default:
		txn.Abort()
	}
	return err
}

func (s *mdbxStore) Update(fn func(writer) error) error {
	return s.env.Update(func(txn *mdbx.Txn) error { return fn(mdbxTxn{txn, s.dbi}) })
}

type mdbxTxn struct {
	txn *mdbx.Txn
	dbi mdbx.DBI
}

func (t mdbxTxn) Put(key, value []byte) error { return t.txn.Put(t.dbi, key, value, 0) }
func (t mdbxTxn) Delete(key []byte) error     { return t.txn.Del(t.dbi, key, nil) }

func (t mdbxTxn) Get(key []byte) ([]byte, error) {
	value, err := t.txn.Get(t.dbi, key)
	if mdbx.IsNotFound(err) {
		return nil, nil
	}
	return value, err
}

func (t mdbxTxn) Scan(from []byte, fn func(key, value []byte) bool) error {
	if from == nil {
		return t.iterate(nil, mdbx.First, mdbx.Next, fn)
	}
	return t.iterate(from, mdbx.SetRange, mdbx.Next, fn)
}

func (t mdbxTxn) ScanBack(fn func(key, value []byte) bool) error {
	return t.iterate(nil, mdbx.Last, mdbx.Prev, fn)
}

func (t mdbxTxn) iterate(from []byte, first, next uint, fn func(key, value []byte) bool) error {
	c, err := t.txn.OpenCursor(t.dbi)
	if err != nil {
		return err
	}
	defer c.Close()
	key, value, err := c.Get(from, nil, first)
	for err == nil && fn(key, value) {
		key, value, err = c.Get(nil, nil, next)
	}
	if mdbx.IsNotFound(err) {
		return nil
	}
	return err
}
