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
	mu   sync.Mutex
	ends []int64
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
