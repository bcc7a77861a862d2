package folio

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// askedFS notes what the mappings of its files are asked to read ahead.
type askedFS struct {
	vfs.FS
	absent bool // nothing passes for being in memory
	mu     sync.Mutex
	ends   []int64
	groups int // how often more than a page was waited for
}

type askedFile struct {
	vfs.File
	fs *askedFS
}

type askedMapping struct {
	vfs.Mapping
	fs *askedFS
}

func (s *askedFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := s.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &askedFile{f, s}, nil
}

func (f *askedFile) Map(length int64) (vfs.Mapping, error) {
	m, err := f.File.Map(length)
	if err != nil {
		return nil, err
	}
	return &askedMapping{m, f.fs}, nil
}

func (m *askedMapping) WillNeed(off, n int64) {
	m.fs.mu.Lock()
	m.fs.ends = append(m.fs.ends, off, off+n)
	m.fs.mu.Unlock()
	m.Mapping.WillNeed(off, n)
}

func (m *askedMapping) Resident(off, n int64) bool {
	return !m.fs.absent && m.Mapping.Resident(off, n)
}

func (m *askedMapping) Populate(off, n int64) error {
	m.fs.mu.Lock()
	if n > 4096 {
		m.fs.groups++
	}
	m.fs.mu.Unlock()
	return m.Mapping.Populate(off, n)
}

// Scans in a write transaction that has come to the tree read ahead, in all ways in which a bucket's tree comes there.
func TestWritersReadAhead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.db")
	fill := func(b *Bucket) (err error) {
		for i := 0; err == nil && i < 20_000; i++ {
			err = b.Put(benchKey(uint64(i)), benchValue)
		}
		return err
	}
	db, err := Open(name, nil)
	must(t, err)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		must(t, err)
		must(t, fill(b))
		return fill(tx.Root())
	}))
	must(t, db.Close())
	for how, bucket := range map[string]func(tx *Tx) *Bucket{
		"the root": func(tx *Tx) *Bucket {
			must(t, tx.Root().Put([]byte("x"), nil))
			return tx.Root()
		},
		"a bucket opened before": func(tx *Tx) *Bucket {
			b := tx.Bucket([]byte("b"))
			must(t, b.Put([]byte("x"), nil))
			return b
		},
		"a bucket opened afterwards": func(tx *Tx) *Bucket {
			_, err := tx.CreateBucket([]byte("other"))
			must(t, err)
			return tx.Bucket([]byte("b"))
		},
	} {
		fsys := &askedFS{FS: vfs.OS, absent: true}
		db, err := Open(name, &Options{fs: fsys})
		must(t, err)
		tx, err := db.Begin(true)
		must(t, err)
		b := bucket(tx)
		fsys.groups = 0
		n := 0
		for range b.All() {
			n++
		}
		if !tx.holdsTree || n < 20_000 {
			t.Fatalf("%s: %d items, the transaction holds the tree %v", how, n, tx.holdsTree)
		}
		if fsys.groups < 10 { // of some fifty
			t.Errorf("%s: %d groups of pages were read ahead", how, fsys.groups)
		}
		must(t, tx.Rollback())
		must(t, db.Close())
	}
}

// Copies read ahead. Where memory is short, what the audit has read is gone when a copy comes to it, and waited for again.
func TestCopiesReadAhead(t *testing.T) {
	dir := t.TempDir()
	fsys := &askedFS{FS: vfs.OS}
	db, err := Open(filepath.Join(dir, "app.db"), &Options{fs: fsys})
	must(t, err)
	defer db.Close()
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; err == nil && i < 60_000; i++ {
			err = b.Put(benchKey(uint64(i)), benchValue)
		}
		return err
	}))
	must(t, db.Checkpoint())
	for name, fn := range map[string]func(tx *Tx) error{
		"CopyFile": func(tx *Tx) error { return tx.CopyFile(filepath.Join(dir, "copy.db"), 0) },
		"WriteTo":  func(tx *Tx) error { _, err := tx.WriteTo(io.Discard); return err },
	} {
		must(t, db.View(fn)) // so that nothing is read for the first time
		fsys.ends = nil
		var end int64
		must(t, db.View(func(tx *Tx) error {
			end = int64(tx.snapshot.view.Count()) * int64(db.pageSize)
			return fn(tx)
		}))
		to := 2 * int64(db.pageSize)
		for i := 0; i < len(fsys.ends); i += 2 {
			if from := fsys.ends[i]; from > to+64<<10 { // what is free between two pages need not be asked for
				t.Errorf("%s asks for nothing between %d and %d", name, to, from)
			}
			to = max(to, fsys.ends[i+1])
		}
		if to < end/2 || len(fsys.ends)/2 > int(end>>16)+16 {
			t.Errorf("%s of %d bytes asked for %d pieces up to %d", name, end, len(fsys.ends)/2, to)
		}
	}
}
