package folio

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Two goroutines that ended one read transaction at the same time could both count it off: Close did not wait for another one then,
// and the pages of what that read could be used again.
func TestTwoRollbacks(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	for range 2000 {
		tx, err := db.Begin(false)
		must(t, err)
		var wait sync.WaitGroup
		var ended, closed atomic.Int32
		begin := make(chan struct{})
		for range 3 {
			wait.Go(func() {
				<-begin
				switch err := tx.Rollback(); {
				case err == nil:
					ended.Add(1)
				case errors.Is(err, ErrTxClosed):
					closed.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(begin)
		wait.Wait()
		if ended.Load() != 1 || closed.Load() != 2 || db.readers() != 0 {
			t.Fatalf("ended %d times, refused %d times; %d readers are left", ended.Load(), closed.Load(), db.readers())
		}
	}
}
