package folio

import (
	"fmt"
	"testing"

	"github.com/foliodb/folio/page"
)

// Room for the free set is reserved before it is encoded. Where the set turned out to take a page less than that, the slot's length told of fewer
// pages than were taken, and for the next process the last one was neither free nor anything else, for ever.
func TestFreeSetTakesLessThanReserved(t *testing.T) {
	less := 0
	for n := 4060; n < 4130; n += 10 {
		db := mustOpen(t, nil)
		must(t, db.Update(func(tx *Tx) error {
			for i := range n {
				if err := tx.Root().Put(fmt.Appendf(nil, "%06d", i), make([]byte, 4096)); err != nil { // a page each
					return err
				}
			}
			return nil
		}))
		must(t, db.Update(func(tx *Tx) error {
			for i := 0; i < n; i += 2 {
				if err := tx.Root().Delete(fmt.Appendf(nil, "%06d", i)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, db.checkpointAll())
		m := db.newest()
		if own := db.newestSlot().own; page.ID((m.FreeLen+4095)/4096) != own.N {
			t.Fatalf("%d: the length is %d, and %d pages were reserved", n, m.FreeLen, own.N)
		} else if m.FreeLen%4096 == 0 {
			less++
		}
		path := crashCopy(t, db.Path())
		must(t, db.Close())
		db = mustOpenAt(t, path, nil)
		must(t, db.Check())
		must(t, db.Close())
	}
	if less == 0 {
		t.Error("no set took less than was reserved")
	}
}
