package folio

import (
	"fmt"
	"sync"
	"testing"
)

// A leader publishes before anybody is told of its commits. Stats told of them already, and a reader that began then was shown an older state.
func TestStatsTellOfWhatIsShown(t *testing.T) {
	db := mustOpen(t, nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					mustPut(t, db, fmt.Sprint(w), fmt.Sprint(i))
				}
			}
		})
	}
	for range 50000 {
		last := db.Stats().LastTx
		tx, err := db.Begin(false)
		must(t, err)
		id := tx.ID()
		must(t, tx.Rollback())
		if id < last {
			t.Errorf("shown transaction %d, and Stats told of %d", id, last)
			break
		}
	}
	close(stop)
	wg.Wait()
}
