package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
