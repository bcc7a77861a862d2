package folio

import (
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
