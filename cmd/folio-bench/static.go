//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
	"golang.org/x/sys/unix"
)

// The static bound is no store, but what Folio's gets can be at best: the file that Folio wrote is mapped as it lies, and
// searched by the barest loop. No check of any page, no guard against faults; and of a transaction only what no store can do without whose
// writers have to know what is read: a count that goes up and down again, in a cache line that nobody else wants.
func init() {
	register(&engine{name: "static", open: openStatic, keeps: true, only: []string{
		"get", "get-tx", "get-2", "get-8", "get-absent",
	}})
}

type staticStore struct {
	dir  string
	data []byte  // nil: Update was called, and folio has the file
	size int     // of a page
	root page.ID // of the bucket

	readers atomic.Int64
}

func openStatic(dir string, _ setting) (store, error) {
	s := &staticStore{dir: dir}
	if _, err := os.Stat(filepath.Join(dir, "folio.db")); err == nil {
		return s, s.load()
	}
	return s, nil
}

// load maps the file and finds the root of the bucket.
func (s *staticStore) load() error {
	f, err := os.Open(filepath.Join(s.dir, "folio.db"))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if s.data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	meta, err := page.DecodeMeta(s.data[:page.MetaSize], 0)
	if err != nil {
		return err
	}
	s.size, s.root = meta.PageSize, meta.Root.Root
	bucket, _ := page.DecodeBucket(s.find(bucketName))
	if s.root = bucket.Root; s.root == 0 {
		return errors.New("the bucket is so small that it has no page of its own")
	}
	return nil
}

func (s *staticStore) unload() error {
	if s.data == nil {
		return nil
	}
	data := s.data
	s.data = nil
	return unix.Munmap(data)
}

func (s *staticStore) Close() error { return s.unload() }

// Update lets Folio write, whose Close leaves everything in the file.
func (s *staticStore) Update(fn func(writer) error) error {
	if err := s.unload(); err != nil {
		return err
	}
	db, err := openFolio(s.dir, setting{load: true})
	if err != nil {
		return err
	}
	if err := db.Update(fn); err != nil {
		_ = db.Close()
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return s.load()
}

func (s *staticStore) View(fn func(reader) error) error {
	s.readers.Add(1)
	err := fn(s)
	s.readers.Add(-1)
	return err
}

func (s *staticStore) page(id page.ID) []byte {
	at := int(id) * s.size
	return s.data[at : at+s.size]
}

// find returns the value of a key in the tree.
func (s *staticStore) find(key []byte) []byte {
	p := s.page(s.root)
	for page.LevelOf(p) > 0 {
		b, level := page.Branch(p), page.LevelOf(p)
		p = s.page(b.Child(b.Search(key)))
		if level == 1 {
			page.Fetch(p)
		}
	}
	l := page.Leaf(p)
	i := l.Find(key)
	if i < 0 {
		return nil
	}
	return l.Value(i)
}

func (s *staticStore) Get(key []byte) ([]byte, error) { return s.find(key), nil }

// Scan and ScanBack are for tests and for warming up: they read through Folio.
func (s *staticStore) Scan(from []byte, fn func(key, value []byte) bool) error {
	return s.withFolio(func(r reader) error { return r.Scan(from, fn) })
}

func (s *staticStore) ScanBack(fn func(key, value []byte) bool) error {
	return s.withFolio(func(r reader) error { return r.ScanBack(fn) })
}

func (s *staticStore) withFolio(fn func(reader) error) error {
	db, err := folio.Open(filepath.Join(s.dir, "folio.db"), &folio.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return (&folioStore{db}).View(fn)
}
