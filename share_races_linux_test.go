package folio

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
)

// A transaction that had passed the look at whether the store is being closed, and was held up, looked at the table when Close had
// unmapped it.
func TestBeginBesideClose(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	has(t, r, "k", "v")
	must(t, r.Close())
	if _, _, err := r.pinShared(); !errors.Is(err, ErrDatabaseNotOpen) { // what is left of Begin
		t.Error(err)
	}
}

// insteadFS does something before the first look at who has the name of a data file.
type insteadFS struct {
	vfs.FS
	once *sync.Once
	do   func()
}

func (f insteadFS) Stat(name string) (vfs.Info, error) {
	if filepath.Ext(name) == ".db" {
		f.once.Do(f.do)
	}
	return f.FS.Stat(name)
}

// The file was replaced while Open was at it, so Open left its table and went to the other file's. It took itself for
// detached from then on: the first commit that was new to it gave ErrDatabaseNotOpen.
func TestReplacedWhileAttaching(t *testing.T) {
	w, other := mustOpen(t, nil), mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "old")
	mustPut(t, other, "k", "new")
	must(t, errors.Join(w.Close(), other.Close()))
	replace := func() { must(t, os.Rename(other.Path(), path)) }
	r := openAgain(t, path, Options{ReadOnly: true, fs: insteadFS{vfs.OS, new(sync.Once), replace}})
	has(t, r, "k", "new")
	w = openAgain(t, path, Options{})
	mustPut(t, w, "k", "newer")
	has(t, r, "k", "newer")
}

// unmapFS counts the tables that are unmapped more often than mapped.
type unmapFS struct {
	vfs.FS
	twice *int
}

func (u unmapFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := u.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unmapFile{f, u.twice}, nil
}

type unmapFile struct {
	vfs.File
	twice *int
}

func (f unmapFile) Share(n int64) (vfs.Shared, error) {
	m, err := f.File.Share(n)
	if err != nil || m == nil {
		return m, err
	}
	return &unmapShared{m, f.twice, false}, nil
}

type unmapShared struct {
	vfs.Shared
	twice  *int
	closed bool
}

func (m *unmapShared) Close() error {
	if m.closed {
		*m.twice++
		return nil
	}
	m.closed = true
	return m.Shared.Close()
}

// A process that found no slot in the table left it twice, and unmapped what may have been somebody else's memory by then.
func TestNoSlot(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	for {
		if _, err := r.table.Pin(1); err != nil {
			break
		}
	}
	twice := 0
	if _, err := tryAgain(w.Path(), Options{ReadOnly: true, fs: unmapFS{vfs.OS, &twice}}); !errors.Is(err, lockfile.ErrFull) {
		t.Errorf("Open without a slot: %v", err)
	}
	if twice > 0 {
		t.Error("the table was unmapped twice")
	}
}
