package folio

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// CopyFile onto the store's own log was done: the copy took its place, and all that had been acknowledged since the last checkpoint was
// gone with it. So it was with the lock file, and a Backup to the name of a log that is not there yet was in the way of
// the first commit. The data file alone had been thought of.
func TestCopyOntoOwnFiles(t *testing.T) {
	db := mustOpen(t, nil)
	path := db.Path()
	copyFile := func(to string) error {
		return db.View(func(tx *Tx) error { return tx.CopyFile(to, 0) })
	}
	linked := filepath.Join(t.TempDir(), "folder")
	if err := os.Symlink(filepath.Dir(path), linked); err != nil {
		t.Skip(err)
	}
	names := []string{path, logName(path), lockName(path)}
	for _, name := range names {
		names = append(names, filepath.Join(linked, filepath.Base(name)), filepath.Dir(name)+"/./"+filepath.Base(name))
	}
	refused := func() {
		t.Helper()
		for _, name := range names {
			for what, copy := range map[string]func(string) error{"copy": copyFile, "backup": db.Backup, "compact": db.Compact} {
				if err := copy(name); err == nil || errors.Is(err, fs.ErrExist) == strings.Contains(err.Error(), "is the store") {
					t.Errorf("%s to %s: %v", what, name, err)
				}
			}
		}
	}
	refused()
	mustPut(t, db, "a", "1")
	refused()
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.Link(logName(path), other))
	if err := copyFile(other); err == nil || !strings.Contains(err.Error(), "is the store's log") {
		t.Errorf("copy to another name of the log: %v", err)
	}
	again := mustOpenAt(t, crashCopy(t, path), nil)
	has(t, again, "a", "1")
	// A name of that kind in another folder is anybody's.
	must(t, copyFile(filepath.Join(t.TempDir(), filepath.Base(logName(path)))))
}

// Backup copied the whole store before it found that its target is there.
func TestBackupLooksFirst(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "a", "1")
	there := filepath.Join(t.TempDir(), "there")
	must(t, os.WriteFile(there, nil, 0o600))
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if strings.Contains(f.Name(), ".new-") {
			t.Errorf("%v of %s", kind, f.Name())
		}
		return nil
	})
	fsys.before.Store(&hook)
	for what, copy := range map[string]func(string) error{"backup": db.Backup, "compact": db.Compact} {
		if err := copy(there); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	fsys.before.Store(nil)
}

// "link there.new-549ee9c0e177 there: file exists" tells of a file that the user has not heard of, and that is gone; Compact's errors had
// two such ends in a name. What a user has named is what errors speak of.
func TestErrorsNameThePathGiven(t *testing.T) {
	race := &raceFS{FS: vfs.OS, before: func() {}}
	db := mustOpen(t, &Options{fs: race})
	mustPut(t, db, "a", "1")
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "there"), filepath.Join(dir, "missing", "a.db")
	copyFile := func(to string) error {
		return db.View(func(tx *Tx) error { return tx.CopyFile(to, 0) })
	}
	open := func(path string) error {
		db, err := Open(path, nil)
		if err == nil {
			err = db.Close()
		}
		return err
	}
	salvage := func(to string) error {
		_, err := Salvage(crashCopy(t, db.Path()), to, nil)
		return err
	}
	for what, to := range map[string]func(string) error{
		"open": open, "backup": db.Backup, "compact": db.Compact, "copy": copyFile, "salvage": salvage,
	} {
		err := to(missing)
		if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), ".new-") || strings.Count(err.Error(), missing) != 1 {
			t.Errorf("%s in a folder that is not there: %v", what, err)
		}
	}
	if err := copyFile(dir); err == nil || strings.Contains(err.Error(), ".new-") || strings.Count(err.Error(), dir) != 1 {
		t.Errorf("copy over a folder: %v", err)
	}
	// Somebody makes the target meanwhile.
	race.once = sync.Once{}
	race.before = func() { must(t, os.WriteFile(there, nil, 0o600)) }
	err := db.Backup(there)
	if want := fmt.Sprintf("folio: link %s: file exists", there); !errors.Is(err, fs.ErrExist) || err.Error() != want {
		t.Errorf("backup: %v, want %s", err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A copy was made, and said to be complete, at a name whose log was there: of a store that had been killed and whose data file was moved away. Nobody could open the
// copy; and CopyFile took the data file's place, whose last commits that log had.
func TestCopyBesideAnothersLog(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	copyFile := func(to string) error {
		return db.View(func(tx *Tx) error { return tx.CopyFile(to, 0) })
	}
	other := mustOpen(t, nil)
	mustPut(t, other, "b", "2")
	for what, copy := range map[string]func(string) error{"copy": copyFile, "backup": db.Backup, "compact": db.Compact} {
		killed := crashCopy(t, other.Path())
		for range 2 {
			if err := copy(killed); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s beside a log: %v", what, err)
			}
			if what != "copy" {
				os.Rename(killed, killed+".away") // now only the log is there
			}
		}
		if what != "copy" {
			must(t, os.Rename(killed+".away", killed))
		}
		has(t, mustOpenAt(t, killed, nil), "b", "2")
		if err := copy(""); !errors.Is(err, errEmptyPath) {
			t.Errorf("%s to no path: %v", what, err)
		}
	}
	for _, paths := range [][2]string{{"", "x"}, {db.Path(), ""}} {
		if _, err := Salvage(paths[0], paths[1], nil); !errors.Is(err, errEmptyPath) {
			t.Errorf("salvage %q to %q: %v", paths[0], paths[1], err)
		}
	}
}

// A store by the name of another one's log was taken for a log that nobody had finished, and removed without a word; Salvage made such a one.
func TestStoreByTheNameOfALog(t *testing.T) {
	db := mustOpen(t, nil)
	path := db.Path()
	mustPut(t, db, "a", "1")
	must(t, db.Close())
	for _, name := range []string{logName(path), lockName(path)} {
		if _, err := Salvage(path, name, nil); err == nil || errors.Is(err, fs.ErrExist) {
			t.Errorf("salvaged to %s: %v", name, err)
		}
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	precious := mustOpenAt(t, logName(path), nil)
	mustPut(t, precious, "b", "2")
	must(t, precious.Close())
	image := readFile(t, logName(path))
	must(t, os.Remove(logName(path)))
	told := func(err error, name, what string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "is a data file, and lies where the store's "+what) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("beside a store by the name of the %s: %v", what, err)
		}
		b := readFile(t, name)
		copy(b[:4096], image) // a damaged slot is what it was
		if !bytes.Equal(b, image) {
			t.Errorf("the store by the name of the %s has changed", what)
		}
	}
	for _, damaged := range []bool{false, true} { // the first slot: the other one is enough
		for name, what := range map[string]string{logName(path): "log", lockName(path): "lock file"} {
			b := bytes.Clone(image)
			if damaged {
				clear(b[:4096])
			}
			must(t, os.WriteFile(name, b, 0o600))
			for _, o := range []*Options{nil, {ReadOnly: true}, {Private: true}} {
				_, err := Open(path, o)
				told(err, name, what)
			}
			must(t, os.Remove(name))
		}
		// One that comes later has the log's name when the first commit makes that.
		db := mustOpenAt(t, path, nil)
		must(t, os.WriteFile(logName(path), image, 0o600))
		told(db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), []byte("2")) }), logName(path), "log")
		must(t, os.Remove(logName(path)))
		must(t, db.Close())
	}
	has(t, mustOpenAt(t, path, nil), "a", "1")
}

// Small buckets had a page each until the copy was committed, which put them into their parents' leaves: these lay behind, and all those pages in front of them were
// free. What a transaction had taken itself and given back did not count for what makes a file worth being made shorter, so it stayed so: a store of 100,000 small
// buckets had a copy twenty times as large.
func TestCopiesOfManyBuckets(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	const buckets = 3000
	must(t, db.Update(func(tx *Tx) error {
		for i := range buckets {
			b, err := tx.Root().CreateBucket(fmt.Appendf(nil, "b%05d", i))
			if err != nil {
				return err
			}
			if i%100 == 0 { // which is not kept in its parent
				must(t, b.SetSequence(uint64(i)))
				if b, err = b.CreateBucket([]byte("inner")); err != nil {
					return err
				}
			}
			if err := b.Put([]byte("k"), fmt.Appendf(nil, "v%d", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Checkpoint())
	dir := t.TempDir()
	compact, salvaged, backup := filepath.Join(dir, "compact"), filepath.Join(dir, "salvaged"), filepath.Join(dir, "backup")
	var reached atomic.Int64
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, _ []byte) error {
		if kind == vfs.KindWrite && !isLog(f) {
			for at := reached.Load(); off > at && !reached.CompareAndSwap(at, off); at = reached.Load() {
			}
		}
		return nil
	})
	fsys.before.Store(&hook)
	must(t, db.Compact(compact))
	fsys.before.Store(nil)
	if n := reached.Load(); n == 0 || n > 600<<10 {
		t.Errorf("while it was made the compact copy had %d bytes", n)
	}
	must(t, db.Backup(backup))
	if _, err := Salvage(backup, salvaged, nil); err != nil {
		t.Fatal(err)
	}
	must(t, db.Close())
	// An item of such a bucket takes about 60 bytes.
	for path, most := range map[string]int64{db.Path(): 2 << 20, compact: 600 << 10, salvaged: 2 << 20} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Size() > most {
			t.Errorf("%s: %d bytes", filepath.Base(path), info.Size())
		}
		db := mustOpenAt(t, path, nil)
		must(t, db.View(func(tx *Tx) error {
			for i := range buckets {
				b := tx.Bucket(fmt.Appendf(nil, "b%05d", i))
				if i%100 == 0 { // which is not kept in its parent
					if n := b.Sequence(); n != uint64(i) {
						t.Errorf("%s: sequence %d of bucket %d", filepath.Base(path), n, i)
					}
					b = b.Bucket([]byte("inner"))
				}
				if v := b.Get([]byte("k")); string(v) != fmt.Sprintf("v%d", i) {
					t.Errorf("%s: %q in bucket %d", filepath.Base(path), v, i)
				}
			}
			return nil
		}))
		must(t, db.Check())
		must(t, db.Close())
	}
}
