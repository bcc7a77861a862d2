package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/foliodb/folio"
)

// What dead processes had pinned is free soon, although nobody comes who could take their slots over; what the living have
// pinned is kept, and they can read it.
func TestDeadReaders(t *testing.T) {
	path := filepath.Join(scratch(t), "app.db")
	db, err := folio.Open(path, &folio.Options{PageSize: 4096, LogLimit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const items = 2000
	rewrite := func(n int) {
		err := db.Update(func(tx *folio.Tx) error {
			b, err := tx.CreateBucketIfNotExists(figureBucket)
			for i := uint64(0); i < items && err == nil; i++ {
				err = b.Put(figureKey(i), bytes.Repeat([]byte{byte(n)}, 500))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rewrite(0)
	helpers := startHelpers(t, 8)
	for i, h := range helpers {
		rewrite(i) // each holds a state of its own
		h.ask("attach " + path)
		h.ask("hold")
	}
	if got := len(db.Readers()); got != len(helpers) {
		t.Errorf("%d readers, %d hold a state: %v", got, len(helpers), db.Readers())
	}
	for i := range 10 {
		rewrite(i)
	}
	held := db.Stats().RetainedPages
	for _, h := range helpers[1:] {
		if err := h.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = h.cmd.Wait()
	}
	one := uint64(items * 500 / 4096) // at least, of a state
	for i := 0; ; i++ {
		rewrite(i)
		if s := db.Stats(); s.RetainedPages < held-4*one && s.Processes == 1 {
			break
		}
		if i == 500 {
			t.Fatalf("%d pages retained, %d before processes died; %d processes", db.Stats().RetainedPages, held, db.Stats().Processes)
		}
		time.Sleep(5 * time.Millisecond)
	}
	size := db.Stats().FileSize
	for i := range 200 {
		rewrite(i)
	}
	if s := db.Stats(); s.FileSize > size+size/2 {
		t.Errorf("the file grew from %d to %d bytes: what dead processes had pinned is not used again", size, s.FileSize)
	}
	var n, sum int
	helpers[0].ask("reread", &n, &sum)
	if n != items || sum != 0 {
		t.Errorf("the one that lives reads %d items, sum %d, of the first state", n, sum)
	}
	helpers[0].ask("release")
	helpers[0].ask("close")
	if err := errors.Join(db.Check(), db.Checkpoint()); err != nil {
		t.Error(err)
	}
	if list := db.Readers(); len(list) > 0 {
		t.Error(fmt.Sprint("readers are left: ", list))
	}
}
