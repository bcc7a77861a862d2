package folio

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// An Open whose sync of the log failed after the replay forgot the transaction of the replay, and left the file mapped.
func TestFailedOpenUnmaps(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	path := crashCopy(t, db.Path())
	for nth := 1; ; nth++ {
		fsys, n := newHookFS(), 0
		hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
			if kind == vfs.KindSync {
				if n++; n == nth {
					return errInjected
				}
			}
			return nil
		})
		fsys.before.Store(&hook)
		db, err := Open(path, &Options{fs: fsys})
		if err == nil {
			db.Close() // the failing sync is one of its own
			return
		}
		mapped, err := os.ReadFile("/proc/self/maps")
		must(t, err)
		if strings.Contains(string(mapped), path) {
			t.Errorf("still mapped when sync %d of Open has failed", nth)
		}
	}
}

// readFailFile fails reads.
type readFailFile struct{ vfs.File }

func (readFailFile) ReadAt([]byte, int64) (int, error) { return 0, errInjected }

// On a file system whose mappings are in doubt, a mapping that turned out not to be what the file holds, or could not be looked at,
// was left to whoever asked for it: who replays the log aside forgot it.
func TestDoubtedMappingGoes(t *testing.T) {
	db := mustOpen(t, nil)
	path := db.Path()
	must(t, db.Close())
	f, err := vfs.OS.Open(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	aside := newDB(path, db.opts)
	aside.file, aside.doubtful = readFailFile{f}, true
	if err := aside.prepare(db.newest()); !errors.Is(err, errInjected) {
		t.Errorf("the mapping cannot be looked at: %v", err)
	}
	if mapped, err := os.ReadFile("/proc/self/maps"); err != nil || strings.Contains(string(mapped), path) {
		t.Errorf("still mapped: %v", err)
	}
}
