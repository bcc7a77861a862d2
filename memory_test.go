package folio

import (
	"fmt"
	"testing"
)

func TestMemory(t *testing.T) {
	db, err := OpenMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			for j := range 50 {
				if err := b.Put(fmt.Appendf(nil, "%d/%d", j, i), make([]byte, 500)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
	before := db.Stats().Pages
	if err := db.Update(func(tx *Tx) error { return tx.DeleteBucket([]byte("b")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
	if after := db.Stats().Pages; after > before/4 {
		t.Errorf("%d pages before all was deleted, %d after", before, after)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
