package folio

import (
	"errors"
	"sync"
	"time"
)

// Batch calls fn in a write transaction that it may share with other concurrent Batch calls; fn may
// be called several times, and must not mind. It is here for code written for bbolt,
// where it is the only way to share a sync: Update shares syncs already, at less cost and
// without calling fn twice.
func (db *DB) Batch(fn func(*Tx) error) error {
	c := &call{fn: fn, done: make(chan error, 1)}
	db.batch.add(c)
	err := <-c.done
	if errors.Is(err, errSolo) {
		return db.Update(fn)
	}
	return err
}

// Limits of a batch: it runs when it has so many calls, or the first one has waited so long.
const (
	maxBatchSize  = 1000
	maxBatchDelay = 2 * time.Millisecond
)

// errSolo tells a call of Batch to run fn in a transaction of its own.
var errSolo = errors.New("folio: call failed within a batch")

type call struct {
	fn   func(*Tx) error
	done chan error
}

// batcher collects the calls of the next batch.
type batcher struct {
	db    *DB
	mu    sync.Mutex
	calls []*call
	timer *time.Timer
}

func (b *batcher) add(c *call) {
	b.mu.Lock()
	b.calls = append(b.calls, c)
	full := len(b.calls) >= maxBatchSize
	if len(b.calls) == 1 {
		b.timer = time.AfterFunc(maxBatchDelay, b.run)
	}
	b.mu.Unlock()
	if full {
		go b.run() // not here: a call of somebody else's may end the goroutine
	}
}

// take returns the calls collected so far.
func (b *batcher) take() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	if b.timer != nil {
		b.timer.Stop()
	}
	return calls
}

// run runs the calls collected so far in one transaction. One that fails or panics is taken out, to run alone in
// its own goroutine, where its error and its panic belong; the rest start again.
func (b *batcher) run() {
	var waiting []*call
	answer := errSolo
	defer func() {
		for _, c := range waiting { // a call, or what it gave to OnCommit, ended the goroutine
			c.done <- answer
		}
	}()
	for calls := b.take(); len(calls) > 0; {
		failed := -1
		waiting = calls
		err := b.db.Update(func(tx *Tx) error {
			tx.OnCommit(func() { answer = nil })
			for i, c := range calls {
				failed = i
				if err := c.protected(tx); err != nil {
					return err
				}
			}
			failed = -1
			return nil
		})
		if failed < 0 {
			waiting = nil
			for _, c := range calls {
				c.done <- err
			}
			return
		}
		calls[failed].done <- errSolo
		calls[failed] = calls[len(calls)-1]
		calls = calls[:len(calls)-1]
	}
}

// protected calls fn; a panic becomes an error.
func (c *call) protected(tx *Tx) (err error) {
	returned := false
	defer func() {
		if !returned {
			recover()
			err = errSolo
		}
	}()
	err = c.fn(tx)
	returned = true
	return err
}
