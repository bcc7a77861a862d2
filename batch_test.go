package folio

import (
	"errors"
	"runtime"
	"testing"
)

// What a call of a batch gave to OnCommit ended the goroutine, as t.FailNow does; the calls of the batch, committed already, were
// told to run again, and did all they do twice.
func TestBatchEndedAfterCommit(t *testing.T) {
	db := mustOpen(t, nil)
	calls := 0
	must(t, db.Batch(func(tx *Tx) error {
		calls++
		if calls == 1 {
			tx.OnCommit(runtime.Goexit)
		}
		_, err := tx.Root().NextSequence()
		return err
	}))
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Sequence(); calls != 1 || n != 1 {
			t.Errorf("called %d times, committed %d times", calls, n)
		}
		return nil
	}))
}

// Who made a batch full ran it, and ended with the call of somebody else that ended its goroutine.
func TestBatchEndedByAnother(t *testing.T) {
	db := mustOpen(t, nil)
	other := &call{fn: func(*Tx) error { runtime.Goexit(); return nil }, done: make(chan error, 1)}
	for range maxBatchSize - 1 {
		db.batch.calls = append(db.batch.calls, &call{fn: func(*Tx) error { return nil }, done: make(chan error, 1)})
	}
	db.batch.calls[0] = other
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		must(t, db.Batch(func(tx *Tx) error { return tx.Root().Put([]byte("k"), nil) }))
		returned = true
	}()
	waitFor(t, "Batch", done)
	if !returned {
		t.Error("Batch did not return")
	}
	if err := <-other.done; !errors.Is(err, errSolo) {
		t.Errorf("the call that ended the goroutine: %v", err)
	}
}
