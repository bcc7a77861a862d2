package folio

import (
	"fmt"
	"testing"
	"time"
)

// A file of which much has become free gets shorter a second after the last commit, unasked, and its holes are filled from
// its end. A store that is being written is left alone.
func TestRest(t *testing.T) {
	db := mustOpen(t, nil)
	fill := func(step int, del bool) {
		must(t, db.Update(func(tx *Tx) error {
			for i := 0; i < 40000; i += step {
				key := fmt.Appendf(nil, "%08d", i*7919%40000)
				if !del {
					if err := tx.Root().Put(key, make([]byte, 1000)); err != nil {
						return err
					}
				} else if err := tx.Root().Delete(key); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	fill(1, false)
	full := db.Stats().FileSize
	for i := range 10 {
		must(t, db.Update(func(tx *Tx) error {
			from := fmt.Appendf(nil, "%08d", i*4000)
			to := fmt.Appendf(nil, "%08d", i*4000+3600)
			_, err := tx.Root().DeleteRange(from, to)
			return err
		}))
	}
	want := full / 4
	for begun := time.Now(); db.Stats().FileSize > want; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("the file still has %d bytes, of %d", db.Stats().FileSize, full)
		}
	}
	must(t, db.Check())
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n != 4000 {
			t.Errorf("%d items", n)
		}
		return nil
	}))
}
