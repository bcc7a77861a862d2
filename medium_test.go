package folio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// mediumFS is the real file system under another name, on which a mapping may show what an older file held.
type mediumFS struct {
	vfs.FS
	medium vfs.Medium
	err    error  // of asking for the medium
	stale  string // the file that mappings show; empty: the right one
}

func (m *mediumFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := m.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &mediumFile{f, m}, nil
}

type mediumFile struct {
	vfs.File
	m *mediumFS
}

func (f *mediumFile) Medium() (vfs.Medium, error) { return f.m.medium, f.m.err }

func (f *mediumFile) Map(length int64) (vfs.Mapping, error) {
	if f.m.stale == "" {
		return f.File.Map(length)
	}
	other, err := vfs.OS.Open(f.m.stale, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	return other.Map(length)
}

// A store is neither made nor opened on a network file system, and what is refused leaves nothing behind. With
// AllowNetwork it is a store as any.
func TestNetworkFileSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	nfs := &mediumFS{FS: vfs.OS, medium: vfs.Medium{Name: "nfs", Network: true}}
	refused := func(o Options) {
		t.Helper()
		o.fs = nfs
		db, err := Open(path, &o)
		if err == nil {
			db.Close()
		}
		if !errors.Is(err, ErrFileSystem) || !strings.Contains(err.Error(), "nfs") || !strings.Contains(err.Error(), "AllowNetwork") {
			t.Errorf("Open: %v", err)
		}
	}
	refused(Options{})
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) > 0 {
		t.Errorf("files left: %v %v", files, err)
	}
	db := mustOpenAt(t, path, &Options{fs: nfs, AllowNetwork: true})
	mustPut(t, db, "a", "b")
	must(t, db.Compact(filepath.Join(t.TempDir(), "compact.db"))) // which refused once what Backup did
	must(t, db.Close())
	refused(Options{})
	refused(Options{ReadOnly: true})
	Reopens(t, path)

	nfs.err = errInjected
	if _, err := Open(path, &Options{fs: nfs, AllowNetwork: true}); !errors.Is(err, errInjected) {
		t.Errorf("Open whose question for the medium fails: %v", err)
	}
}

// Overlay and FUSE are used where the mapping shows what the file holds, and refused where it does not: at once if that
// can be seen, else before the first commit is acknowledged.
func TestDoubtfulFileSystem(t *testing.T) {
	for _, medium := range []vfs.Medium{{Name: "overlay", Doubtful: true}, {Name: "nfs", Network: true}} {
		fsys := &mediumFS{FS: vfs.OS, medium: medium}
		o := Options{fs: fsys, AllowNetwork: true}
		path := filepath.Join(t.TempDir(), "a.db")
		db := mustOpenAt(t, path, &o)
		for i := range 10 {
			mustPut(t, db, fmt.Sprint(i), "x")
			must(t, db.Checkpoint())
		}
		must(t, db.Close())

		// Mappings that show an older file, as overlay's do.
		old := filepath.Join(t.TempDir(), "old.db")
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(old, b, 0o600))
		db = mustOpenAt(t, path, &o)
		mustPut(t, db, "later", "x")
		must(t, db.Close())
		fsys.stale = old
		for _, readOnly := range []bool{false, true} {
			o.ReadOnly = readOnly
			if _, err := Open(path, &o); !errors.Is(err, ErrFileSystem) {
				t.Errorf("%s: Open with a mapping that shows an older file: %v", medium.Name, err)
			}
		}
		o.ReadOnly = false

		// Nothing is to be seen when the store is opened, but the mapping does not follow.
		b, err = os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(old, b, 0o600))
		db, err = Open(path, &o)
		must(t, err)
		err = db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), nil) })
		if !errors.Is(err, ErrFileSystem) || !errors.Is(err, ErrPoisoned) {
			t.Errorf("%s: Update with a mapping that does not follow: %v", medium.Name, err)
		}
		if err := db.Close(); !errors.Is(err, ErrPoisoned) {
			t.Errorf("Close: %v", err)
		}
		fsys.stale = ""
		Reopens(t, path)
	}
}

// Since a recovery checkpoints no more, nothing wrote slots before its state was shown, with which the mapping could have been compared: on a file
// system where a mapping does not follow, leaves of old were shown, and in the end made durable in place of what had been acknowledged.
func TestDoubtfulRecovery(t *testing.T) {
	for _, size := range []int{10, 1000} { // the larger one spills, and reads that again
		fsys := &mediumFS{FS: vfs.OS, medium: vfs.Medium{Name: "fuse", Doubtful: true}}
		o := Options{fs: fsys, MemoryLimit: minLimit, alone: true}
		db := mustOpen(t, &o)
		put := func(round int) {
			must(t, db.Update(func(tx *Tx) error {
				for i := range size {
					if err := tx.Root().Put(fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "%300d", round)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		for round := range 5 {
			put(round)
			must(t, db.Checkpoint())
		}
		for round := range 3 {
			put(5 + round)
		}
		path, old := crashCopy(t, db.Path()), crashCopy(t, db.Path())
		must(t, db.Close())
		fsys.stale = old
		if _, err := Open(path, &o); !errors.Is(err, ErrFileSystem) {
			t.Errorf("%d keys: Open: %v", size, err)
		}
		fsys.stale = ""
		db = mustOpenAt(t, path, &o)
		must(t, db.View(func(tx *Tx) error {
			for i := range size {
				if v := tx.Root().Get(fmt.Appendf(nil, "%04d", i)); string(v) != fmt.Sprintf("%300d", 7) {
					t.Errorf("%d keys: %d is %s", size, i, v)
				}
			}
			return nil
		}))
		must(t, db.Check())
	}
}
