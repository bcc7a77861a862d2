package folio

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/page"
)

// A bulk commit makes durable what precedes it, and has it in the log, before it takes place (case B1 of RELIABILITY.md): else its meta slots claim a
// place in the log before records of older transactions, which the next open would find behind it.
func TestBulkWaitsForWhatPrecedesIt(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, LogLimit: minLimit})
	mustPut(t, db, "k", "0")
	committed := func() page.TxID {
		db.groups.mu.Lock()
		defer db.groups.mu.Unlock()
		return db.last
	}
	reached, release := stopLogSync(fsys, nil)
	var all sync.WaitGroup
	all.Go(func() { mustPut(t, db, "a", "1") })
	<-reached                                   // its record is in the log, and being synced
	all.Go(func() { mustPut(t, db, "b", "2") }) // its record is not in the log
	for committed() < 3 {
		time.Sleep(time.Millisecond)
	}
	bulk := make(chan error, 1)
	go func() {
		bulk <- db.Update(func(tx *Tx) error {
			for i := range 300 {
				if err := tx.Root().Put(fmt.Appendf(nil, "bulk%04d", i), make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	select {
	case err := <-bulk:
		t.Errorf("the bulk commit did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	all.Wait()
	must(t, <-bulk)
	again := mustOpenAt(t, crashCopy(t, db.Path()), nil)
	has(t, again, "a", "1")
	has(t, again, "b", "2")
	must(t, again.Check())
}

// A value that no record of the log can hold was copied to the heap for one all the same, and then the record was given up.
func TestLargeValueIsNotCopied(t *testing.T) {
	db := mustOpen(t, nil)
	value := make([]byte, 64<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), value) }))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(value)/2) {
		t.Errorf("%d MiB of the heap were taken for a value of %d", n>>20, len(value)>>20)
	}
}
