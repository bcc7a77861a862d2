package folio

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Writable and Tx of the nil that a lookup returns, and a nil function of OnCommit, were bare nil dereferences, the last one after the commit, in code
// that has nothing to do with it.
func TestNilIsNamed(t *testing.T) {
	db := mustOpen(t, nil)
	for want, call := range map[string]func(tx *Tx){
		"folio: Writable on a nil bucket":   func(tx *Tx) { tx.Bucket([]byte("none")).Writable() },
		"folio: Tx on a nil bucket":         func(tx *Tx) { tx.Bucket([]byte("none")).Tx() },
		"folio: OnCommit of a nil function": func(tx *Tx) { tx.OnCommit(nil) },
	} {
		tx, err := db.Begin(true)
		must(t, err)
		if err := withoutPanic(func() error { call(tx); return nil }); err == nil || err.Error() != "panic: "+want {
			t.Errorf("%v, want a panic: %s", err, want)
		}
		must(t, tx.Rollback())
	}
}

// A write into a slice of the mapping is a mistake of the program, and was told as damage: the device had failed, or another process
// had cut the file. What nobody can tell from these is named beside them.
func TestWriteIntoSlice(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	must(t, db.Checkpoint())
	err := db.View(func(tx *Tx) error {
		tx.Root().Get([]byte("k"))[0] = 1
		return nil
	})
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "a slice of the store was written to") {
		t.Errorf("a write into the mapping: %v", err)
	}
	has(t, db, "k", "v")
}

// Range looked at the slice of its upper bound with each item, and so a loop that used that slice again ended somewhere else.
func TestRangeKeepsItsEnd(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 10 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%d", i), nil))
		}
		for _, long := range []int{0, 100} { // more than what is copied without an allocation
			end := append([]byte("5"), make([]byte, long)...)
			var got []string
			for k := range tx.Root().Range([]byte("3"), end) {
				got = append(got, string(k))
				copy(end, "9")
			}
			want := []string{"3", "4"}
			if long > 0 {
				want = append(want, "5")
			}
			if !slices.Equal(got, want) {
				t.Errorf("from 3 to 5 and %d zeros: %q", long, got)
			}
		}
		for range tx.Root().Range(nil, []byte{}) {
			t.Error("an item below the empty key")
		}
		return nil
	}))
	must(t, db.View(func(tx *Tx) error {
		b, end := tx.Root(), []byte("5")
		if n := testing.AllocsPerRun(100, func() {
			for range b.Range(nil, end) {
			}
		}); n > 2 {
			t.Errorf("%g allocations", n)
		}
		return nil
	}))
}

// The documentation says where a cursor stands when it has found nothing; bbolt's stands there too.
func TestCursorThatFoundNothing(t *testing.T) {
	db := mustOpen(t, nil)
	for _, k := range []string{"a", "b", "c"} {
		mustPut(t, db, k, k)
	}
	must(t, db.Update(func(tx *Tx) error {
		c := tx.Cursor()
		at := func(what, want string, k []byte) {
			t.Helper()
			if string(k) != want {
				t.Errorf("%s: %q, want %q", what, k, want)
			}
		}
		k, _ := c.Seek([]byte("d"))
		at("seek behind all", "", k)
		must(t, c.Delete())
		k, _ = c.Prev()
		at("prev then", "c", k)
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
		}
		k, _ = c.Prev()
		at("prev behind a loop", "b", k)
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
		}
		must(t, c.Delete())
		k, _ = c.Last()
		at("last, when that was deleted behind a loop", "b", k)
		return nil
	}))
}

// The end of what Prefix gives was told from the prefix as it was when Prefix was called, and the beginning as it was when the iteration
// began: with a buffer that is used again there was nothing in between, or too much.
func TestPrefixInABufferUsedAgain(t *testing.T) {
	db := mustOpen(t, nil)
	for _, k := range []string{"a1", "m1", "z1"} {
		mustPut(t, db, k, "")
	}
	must(t, db.View(func(tx *Tx) error {
		buf := []byte("a")
		for _, now := range []string{"z", "m", "a"} {
			it := tx.Root().Prefix(buf)
			buf[0] = now[0]
			var got []string
			for k := range it {
				got = append(got, string(k))
				buf[0] = '~' // what it has begun with is a copy
			}
			if len(got) != 1 || got[0] != now+"1" {
				t.Errorf("prefix %s: %q", now, got)
			}
		}
		return nil
	}))
}

// A closed store that was read-only said that it is read-only, and a transaction that only reads had a bucket moved onto itself refused for that.
func TestWhichErrorComesFirst(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	path := db.Path()
	must(t, db.View(func(tx *Tx) error {
		if err := tx.Root().MoveBucket([]byte("none"), tx.Root()); !errors.Is(err, ErrTxNotWritable) {
			t.Errorf("move in a transaction that reads: %v", err)
		}
		return nil
	}))
	must(t, db.Close())
	db = mustOpenAt(t, path, &Options{ReadOnly: true})
	must(t, db.Close())
	nothing := func(*Tx) error { return nil }
	_, err := db.Begin(true)
	for what, err := range map[string]error{"Begin": err, "Update": db.Update(nothing), "Batch": db.Batch(nothing)} {
		if !errors.Is(err, ErrDatabaseNotOpen) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
