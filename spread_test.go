package folio

import (
	"bytes"
	"fmt"
	"testing"
)

// A transaction that deletes nearly all keys of some leaves, and puts others behind them, lost keys that were acknowledged, or left a store that could not be
// opened: see TestSpreadSweeps of package btree.
func TestSpreadSeparators(t *testing.T) {
	for _, stem := range []string{"b", "bbbbbbbbbbbbbbbb"} {
		db := mustOpen(t, nil)
		value, name := make([]byte, 300), []byte("b")
		must(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucket(name)
			for i := 0; i < 60 && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "aaaaaaaa%04d", i*10), value)
			}
			return err
		}))
		must(t, db.View(func(*Tx) error { return nil }))
		must(t, db.Update(func(tx *Tx) error {
			b := tx.Bucket(name)
			if err := b.Put([]byte("aaaaaaaa02405"), bytes.Repeat([]byte{2}, 600)); err != nil {
				return err
			}
			for i := 25; i < 60; i++ {
				if err := b.Delete(fmt.Appendf(nil, "aaaaaaaa%04d", i*10)); err != nil {
					return err
				}
			}
			for i := range 60 {
				if err := b.Put(fmt.Appendf(nil, "%s%04d", stem, i), value); err != nil {
					return err
				}
			}
			return nil
		}))
		look := func() {
			must(t, db.View(func(tx *Tx) error {
				for i := range 60 {
					if tx.Bucket(name).Get(fmt.Appendf(nil, "%s%04d", stem, i)) == nil {
						t.Errorf("%s%04d is lost", stem, i)
					}
				}
				return nil
			}))
			must(t, db.Check())
		}
		look()
		must(t, db.Close())
		db = mustOpenAt(t, db.Path(), nil)
		look()
	}
}
