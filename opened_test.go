package folio

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// Trees of top-level buckets that were opened in a state of the store are kept, and used by the transactions behind. They must be those of the bucket and
// of the state, among more buckets than there are places, and after each kind of change.
func TestOpenedBuckets(t *testing.T) {
	db := mustOpen(t, nil)
	var names []string // most share one of the places
	for i := range 12 {
		names = append(names, fmt.Sprintf("bucket %02d", i))
	}
	want := map[string]string{}
	look := func(when string) {
		t.Helper()
		for round := range 4 {
			must(t, db.View(func(tx *Tx) error {
				for _, name := range append(names, "") {
					for range 2 { // the second one is not the transaction's first
						b := tx.Bucket([]byte(name))
						if v, is := want[name]; (b != nil) != is {
							t.Errorf("%s, round %d: bucket %q is there: %t", when, round, name, b != nil)
						} else if is && (string(b.Get([]byte("key"))) != v || b.Sequence() != uint64(len(v)) || b.Tx() != tx) {
							t.Errorf("%s, round %d: bucket %q has %q, sequence %d, want %q", when, round, name, b.Get([]byte("key")), b.Sequence(), v)
						}
					}
				}
				return nil
			}))
		}
	}
	change := func(when string, fn func(tx *Tx) error) {
		t.Helper()
		must(t, db.View(func(old *Tx) error {
			before := old.Bucket([]byte(names[0])) // of the state before, which has to stay
			value := ""
			if before != nil {
				value = string(before.Get([]byte("key")))
			}
			must(t, db.Update(fn))
			look(when)
			if before != nil && string(before.Get([]byte("key"))) != value {
				t.Errorf("%s: the state before has changed", when)
			}
			return nil
		}))
	}
	set := func(tx *Tx, name, value string) error {
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		must(t, err)
		want[name] = value
		must(t, b.SetSequence(uint64(len(value))))
		return b.Put([]byte("key"), []byte(value))
	}
	look("empty store")
	change("made", func(tx *Tx) error {
		for i, name := range names[:10] {
			must(t, set(tx, name, fmt.Sprint("value ", 1<<i)))
		}
		return nil
	})
	change("changed", func(tx *Tx) error { return set(tx, names[0], "another") })
	change("with pages of its own", func(tx *Tx) error {
		b := tx.Bucket([]byte(names[0]))
		for i := range 500 {
			must(t, b.Put(fmt.Appendf(nil, "%04d", i), make([]byte, 100)))
		}
		return nil
	})
	change("deleted", func(tx *Tx) error {
		delete(want, names[0])
		return tx.DeleteBucket([]byte(names[0]))
	})
	change("made again", func(tx *Tx) error { return set(tx, names[0], "yet another") })
	change("moved", func(tx *Tx) error {
		delete(want, names[1])
		parent := tx.Bucket([]byte(names[2]))
		return tx.MoveBucket([]byte(names[1]), nil, parent)
	})
}

// A tree without a page of its own lies in its parent's leaf, and what is kept of it would be shown for good when somebody else has written over that
// leaf, for nobody looks at the leaf's header again: a key was not found then, and no error told why.
func TestOpenedImageIsLookedAt(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("a"))
		must(t, err)
		return b.Put([]byte("key"), []byte("value"))
	}))
	must(t, db.Checkpoint())
	get := func() (value string, err error) {
		err = db.View(func(tx *Tx) error {
			value = string(tx.Bucket([]byte("a")).Get([]byte("key")))
			return nil
		})
		return value, err
	}
	for range 3 {
		if v, err := get(); v != "value" || err != nil {
			t.Fatalf("%q, %v", v, err)
		}
	}
	f, err := os.OpenFile(db.Path(), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, db.pageSize), int64(db.published.Load().root.Root)*int64(db.pageSize))
	must(t, err)
	must(t, f.Close())
	if v, err := get(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%q, %v", v, err)
	}
}

// What a transaction takes from its snapshot costs no allocation, and a nested bucket one.
func TestOpenedAllocations(t *testing.T) {
	db := mustOpen(t, nil)
	names := [][]byte{[]byte("a"), []byte("e"), []byte("i")} // which have the same place
	must(t, db.Update(func(tx *Tx) error {
		for _, name := range names {
			b, err := tx.CreateBucket(name)
			must(t, err)
			in, err := b.CreateBucket([]byte("in"))
			must(t, err)
			for i := range 200 {
				must(t, b.Put(fmt.Appendf(nil, "%04d", i), make([]byte, 100)))
				must(t, in.Put(fmt.Appendf(nil, "%04d", i), make([]byte, 100)))
			}
		}
		return nil
	}))
	key := []byte("0007")
	for _, name := range append(names, names...) {
		if n := testing.AllocsPerRun(10, func() {
			must(t, db.View(func(tx *Tx) error {
				if tx.Bucket(name).Get(key) == nil {
					t.Error("not found")
				}
				return nil
			}))
		}); n > 1 { // the transaction
			t.Errorf("bucket %s: %v allocations", name, n)
		}
	}
	for what, allows := range map[string]struct {
		most float64
		fn   func(tx *Tx)
	}{
		"by the root":    {1, func(tx *Tx) { tx.Root().Bucket(names[0]).Get(key) }},
		"nested":         {2, func(tx *Tx) { tx.Bucket(names[0]).Bucket([]byte("in")).Get(key) }},
		"two at a time":  {2, func(tx *Tx) { tx.Bucket(names[0]).Get(key); tx.Bucket(names[1]).Get(key) }},
		"a walk":         {1, func(tx *Tx) { tx.Bucket(names[0]).Range(key, nil)(func(_, _ []byte) bool { return false }) }},
		"a walk back":    {1, func(tx *Tx) { tx.Bucket(names[0]).Backward()(func(_, _ []byte) bool { return true }) }},
		"a cursor of it": {2, func(tx *Tx) { tx.Bucket(names[0]).Cursor().Seek(key) }},
	} {
		if n := testing.AllocsPerRun(10, func() {
			must(t, db.View(func(tx *Tx) error { allows.fn(tx); return nil }))
		}); n > allows.most {
			t.Errorf("%s: %v allocations, at most %v are allowed", what, n, allows.most)
		}
	}
}
