package folio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/foliodb/folio/page"
)

// TestPageChangedWhileOpen: on a 32-bit system TestCut of fuzz/ saw the process die of an index out of range. Another process had
// cut the data file, a writer had made it longer again, and so a page that had been validated held something else when it
// was searched. Here another descriptor writes over the pages that are in use.
func TestPageChangedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpenAt(t, path, nil)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 1000 {
			if err := tx.Root().Put(fmt.Appendf(nil, "key%06d", i), bytes.Repeat([]byte{byte(i)}, 50)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Checkpoint())
	must(t, db.Check())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	for id := page.FirstID; int64(id) < int64(db.Stats().Pages); id++ {
		// The header stays, so that the page still looks like the one that was validated.
		_, err := f.WriteAt(bytes.Repeat([]byte{0xff}, db.pageSize-page.HeaderSize), int64(id)*int64(db.pageSize)+page.HeaderSize)
		must(t, err)
	}
	failed := 0
	for i := range 1000 {
		key := fmt.Appendf(nil, "key%06d", i)
		get := func(tx *Tx) error { tx.Root().Get(key); return nil }
		seek := func(tx *Tx) error { tx.Root().Cursor().Seek(key); return nil }
		put := func(tx *Tx) error { return tx.Root().Put(key, key) }
		for _, err := range []error{db.View(get), db.View(seek), db.Update(put)} {
			if err != nil {
				failed++
			}
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("key %d: %v", i, err)
			}
		}
		tx, err := db.Begin(false)
		must(t, err)
		tx.Root().Get(key)
		if err := tx.Err(); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("key %d: %v", i, err)
		}
		must(t, tx.Rollback())
	}
	if failed == 0 {
		t.Error("nothing was noticed")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of the user's is swallowed")
			}
		}()
		db.View(func(tx *Tx) error { var s []int; _ = s[len(key0(tx))]; return nil })
	}()
}

func key0(*Tx) string { return "0" }
