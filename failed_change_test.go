package folio

import (
	"errors"
	"fmt"
	"testing"
)

// A put that found no space had been counted in the branches above its leaf, and the leaf did not have it: who looked how far he had come, in the same
// transaction, was told that a sound store is damaged, or did not find what he had put. Each way of reading tells of the failure now, and of nothing else.
func TestNothingIsReadBehindAFailedChange(t *testing.T) {
	db := mustOpen(t, &Options{MaxSize: 40 * 4096})
	first := []byte("00000000")
	reads := map[string]func(b *Bucket, c *Cursor) bool{ // whether something was found
		"Get":   func(b *Bucket, _ *Cursor) bool { return b.Get(first) != nil },
		"Len":   func(b *Bucket, _ *Cursor) bool { return b.Len() > 0 },
		"At":    func(b *Bucket, _ *Cursor) bool { k, _ := b.At(0); return k != nil },
		"Rank":  func(b *Bucket, _ *Cursor) bool { return b.Rank([]byte("9")) > 0 },
		"Count": func(b *Bucket, _ *Cursor) bool { return b.Count(nil, nil) > 0 },
		"Stats": func(b *Bucket, _ *Cursor) bool { return b.Stats().KeyN > 0 },
		"First": func(b *Bucket, _ *Cursor) bool { k, _ := b.Cursor().First(); return k != nil },
		"Last":  func(b *Bucket, _ *Cursor) bool { k, _ := b.Cursor().Last(); return k != nil },
		"Next":  func(_ *Bucket, c *Cursor) bool { k, _ := c.Next(); return k != nil },
		"Prev":  func(_ *Bucket, c *Cursor) bool { k, _ := c.Prev(); return k != nil },
		"All": func(b *Bucket, _ *Cursor) bool {
			n := 0
			for range b.All() {
				n++
			}
			return n > 0
		},
		"Backward": func(b *Bucket, _ *Cursor) bool {
			n := 0
			for range b.Backward() {
				n++
			}
			return n > 0
		},
	}
	must(t, db.Update(func(tx *Tx) error { // behind a cursor in another bucket nothing has changed
		b, err := tx.CreateBucket([]byte("~"))
		for i := 0; err == nil && i < 30; i++ {
			err = b.Put([]byte{byte(i)}, nil)
		}
		return err
	}))
	failed := 0
	fill := func(tx *Tx, size int) (*Cursor, error) {
		b := tx.Root()
		c := tx.Bucket([]byte("~")).Cursor()
		c.Seek([]byte{5})
		for i := 0; ; i++ {
			if err := b.Put(fmt.Appendf(nil, "%08d", i*7919%100003), make([]byte, size+i%50*3)); err != nil {
				return c, err
			}
			b.Len() // has each put done at once
		}
	}
	for size := 10; size < 400; size += 60 {
		for what, read := range reads {
			err := db.Update(func(tx *Tx) error {
				c, err := fill(tx, size)
				if read(tx.Root(), c) {
					t.Errorf("%s finds something, behind %v", what, err)
				}
				return errors.New("not told")
			})
			if !errors.Is(err, ErrMaxSizeReached) || errors.Is(err, ErrCorrupt) {
				t.Errorf("Update with %s: %v", what, err)
			}
			tx, err := db.Begin(true)
			must(t, err)
			c, err := fill(tx, size)
			if !errors.Is(err, ErrMaxSizeReached) {
				t.Fatal(err)
			}
			if read(tx.Root(), c) {
				t.Errorf("%s finds something in a transaction of Begin", what)
			}
			if err := tx.Err(); !errors.Is(err, ErrMaxSizeReached) || errors.Is(err, ErrCorrupt) {
				t.Errorf("Err behind %s: %v", what, err)
			}
			must(t, tx.Rollback())
			failed++
		}
	}
	must(t, db.Check())
	if n := db.Stats().Rollbacks; failed == 0 || n < uint64(failed) {
		t.Errorf("%d transactions, %d rolled back", failed, n)
	}
}
