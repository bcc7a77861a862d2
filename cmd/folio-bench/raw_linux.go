package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The raw loop is no store, but what a durable put from one goroutine costs at least: one pwrite of 4 KiB and one
// fdatasync, in a file whose space has been written before, so that no sync has to carry its size or its extents.
func init() {
	register(&engine{name: "raw", open: openRaw, only: []string{"put-durable-1"}})
	register(&engine{name: "static+raw", open: openStaticRaw, loads: true, only: []string{"mixed"}})
}

const (
	rawWrite = 4096
	rawFile  = 64 << 20 // the size of Folio's log
)

type rawStore struct {
	f   *os.File
	at  int64
	buf [rawWrite]byte
}

func openRaw(dir string, _ setting) (store, error) {
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 64<<10) // larger writes make a slower file: see writePiece in internal/vfs
	for at := int64(0); at < rawFile && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, at)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &rawStore{f: f}, nil
}

func (s *rawStore) Close() error { return s.f.Close() }

// View is there because a store has it: there is nothing to read.
func (s *rawStore) View(func(reader) error) error { return nil }

func (s *rawStore) Update(fn func(writer) error) error {
	if err := fn(s); err != nil {
		return err
	}
	if _, err := s.f.WriteAt(s.buf[:], s.at); err != nil {
		return err
	}
	s.at = (s.at + rawWrite) % rawFile
	return unix.Fdatasync(int(s.f.Fd()))
}

func (s *rawStore) Put(key, value []byte) error {
	copy(s.buf[copy(s.buf[:], key):], value)
	return nil
}

func (s *rawStore) Delete([]byte) error { return nil }

// staticRaw is what gets beside a durable writer cost at least: the gets of static beside the writes of raw, which know nothing of each other. Nobody
// ever gets what was put.
type staticRaw struct{ static, raw store }

func openStaticRaw(dir string, how setting) (store, error) {
	static, err := openStatic(dir, how)
	if err != nil || how.load {
		return static, err
	}
	raw, err := openRaw(dir, how)
	if err != nil {
		return nil, errors.Join(err, static.Close())
	}
	return &staticRaw{static, raw}, nil
}

func (s *staticRaw) View(fn func(reader) error) error   { return s.static.View(fn) }
func (s *staticRaw) Update(fn func(writer) error) error { return s.raw.Update(fn) }
func (s *staticRaw) Close() error                       { return errors.Join(s.static.Close(), s.raw.Close()) }
