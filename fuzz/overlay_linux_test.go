package fuzz

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/foliodb/folio"
)

// On overlay a file is copied to the upper layer when it is first opened for writing, and mappings that were made before go on
// showing the lower one. So a process that read a store, and was shown a commit of a writer that came later, read pages of the
// lower file under the numbers of the upper one's: old bytes, with sound checksums. It must be told.
func TestOverlay(t *testing.T) {
	if !withMounts(t, true) {
		return
	}
	dir := t.TempDir()
	mountTmpfs(t, dir, "64m", false)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	lower, upper, work, merged := filepath.Join(dir, "lower"), filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "merged")
	for _, d := range []string{lower, upper, work, merged} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	db, err := folio.Open(filepath.Join(lower, "app.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(db *folio.DB, n uint64) {
		if err := db.Update(func(tx *folio.Tx) error { return tx.Root().Put(numberKey, le.AppendUint64(nil, n)) }); err != nil {
			t.Fatal(err)
		}
	}
	put(db, 1)
	for range 100 { // so that there are free pages to write to
		put(db, 1)
		if err := db.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	defer func() { _ = syscall.Unmount(merged, syscall.MNT_DETACH) }()
	path := filepath.Join(merged, "app.db")
	told := false
	h := startHelper(t)
	h.ask("attach " + path)
	var got uint64
	if h.ask("see", &got); got != 1 {
		t.Errorf("of the lower file %d is seen", got)
	}
	if db, err = folio.Open(path, nil); err != nil {
		t.Fatal(err)
	}
	for n := uint64(2); n < 20; n++ {
		put(db, n)
		var refused bool
		if h.ask("try", &got, &refused); refused {
			told = true
			break
		}
		if got != n {
			t.Fatalf("commit %d: %d is seen", n, got)
		}
	}
	if !told {
		t.Log("mappings follow here")
	}
	late := startHelper(t) // maps the upper file
	late.ask("attach " + path)
	if late.ask("see", &got); got < 2 {
		t.Errorf("of the upper file %d is seen", got)
	}
	late.ask("close")
	if err := errors.Join(db.Check(), db.Close()); err != nil {
		t.Error(err)
	}
}
