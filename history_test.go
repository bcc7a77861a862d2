package folio

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// A history is what goroutines did to a store and were shown of it, checked as it comes to be. One writer at a time and
// transactions that are numbered make that cheap: what a reader is shown must be the content of one commit, whole; of one
// between the last that was acknowledged before the reader began and the last that had begun before it ended; and
// nobody is shown less than he has been shown, or been told of, before.
type history struct {
	line         *crashLine
	acked, begun atomic.Uint64
	rec          *vfs.Recorder // nil: nothing is recorded
	weak         bool          // relaxed commits are made
	yield        func()        // called between steps
	reads        atomic.Int64
	commits      atomic.Int64
}

func (h *history) mark(kind string, k uint64) {
	if h.rec != nil {
		h.rec.Mark(kind, k)
	}
}

func raise(a *atomic.Uint64, k uint64) {
	for {
		old := a.Load()
		if old >= k || a.CompareAndSwap(old, k) {
			return
		}
	}
}

// begin notes that transaction k is about to commit.
func (h *history) begin(k uint64) {
	raise(&h.begun, k)
	h.mark("begin", k)
}

// moving is begin for the store's own transactions.
func (h *history) moving(k TxID) {
	h.line.hold(uint64(k), true)
	h.begin(uint64(k))
}

// witness is one goroutine of a history.
type witness struct {
	h    *history
	seen uint64
}

// commit makes the next transaction.
func (w *witness) commit(db *DB, d Durability) error {
	k, err := w.h.line.commit(db, d, w.h.begin)
	if err != nil {
		return err
	}
	w.acknowledged(k, d)
	return nil
}

// acknowledged notes that transaction k is done.
func (w *witness) acknowledged(k uint64, d Durability) {
	w.h.commits.Add(1)
	raise(&w.h.acked, k)
	w.seen = max(w.seen, k)
	if d == Relaxed {
		w.h.mark("relaxed", k)
	} else {
		w.h.mark("ack", k)
	}
}

// view begins a read transaction, looks and ends it.
func (w *witness) view(db *DB) error {
	r, err := w.read(db)
	if err != nil {
		return err
	}
	w.h.yield()
	return r.end()
}

// reading is a read transaction under way, with slices of it.
type reading struct {
	w            *witness
	tx           *Tx
	keys, values [][]byte
	whole        []byte // what they hold
}

func (w *witness) read(db *DB) (*reading, error) {
	lo := w.h.acked.Load()
	tx, err := db.Begin(false)
	if err != nil {
		return nil, err
	}
	r := &reading{w: w, tx: tx}
	k := uint64(tx.ID())
	kind := "observed"
	if w.h.weak {
		kind = "relaxed"
	}
	w.h.mark(kind, k)
	switch {
	case k < lo:
		return nil, fmt.Errorf("shown transaction %d, but %d had been acknowledged before", k, lo)
	case k < w.seen:
		return nil, fmt.Errorf("shown transaction %d after %d", k, w.seen)
	}
	w.seen = k
	w.h.yield()
	if err := r.look(); err != nil {
		return nil, err
	}
	c := tx.Root().Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r.keys, r.values = append(r.keys, k), append(r.values, v)
	}
	r.whole = r.bytes()
	return r, nil
}

func (r *reading) bytes() []byte {
	return append(bytes.Join(r.keys, nil), bytes.Join(r.values, nil)...)
}

// look compares what the transaction sees with the model.
func (r *reading) look() error {
	if err := crashCompare(r.tx, r.w.h.line); err != nil {
		return err
	}
	return r.tx.Err()
}

// end looks again, at slices too, and ends the transaction.
func (r *reading) end() error {
	if !bytes.Equal(r.bytes(), r.whole) {
		return fmt.Errorf("slices of transaction %d have changed", r.tx.ID())
	}
	if err := r.look(); err != nil {
		return err
	}
	if k, hi := uint64(r.tx.ID()), r.w.h.begun.Load(); k > hi {
		return fmt.Errorf("shown transaction %d, but none after %d had begun", k, hi)
	}
	r.w.h.reads.Add(1)
	r.keys, r.values = nil, nil
	return r.tx.Rollback()
}

var historyOps = flag.Int("folio.historyops", 1500, "operations of each kind of history in TestHistories")

// historyRound is how many of them a store lives through, since the model keeps every commit.
const historyRound = 5000

// TestHistories checks histories of goroutines at full speed. A campaign is, for example,
//
//	go test -run TestHistories -timeout 1h -folio.historyops 1000000 -v .
func TestHistories(t *testing.T) {
	for _, c := range []struct {
		name    string
		profile crashProfile
		opts    Options
		weak    bool
	}{
		{name: "small", profile: crashSmall},
		{name: "wrap", profile: crashWide, opts: Options{LogLimit: minLimit}},
		{name: "memory", profile: crashWide, opts: Options{MemoryLimit: minLimit}},
		{name: "bulk", profile: crashBulk, opts: Options{LogLimit: minLimit}},
		{name: "relaxed", profile: crashSmall, opts: Options{SyncInterval: time.Millisecond}, weak: true},
		{name: "shrink", profile: crashRange, opts: Options{LogLimit: 4 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			var reads, commits int64
			for round := uint64(0); reads+commits < int64(*historyOps); round++ {
				h := &history{line: &crashLine{seed: *crashSeed + round<<32, profile: c.profile}, weak: c.weak, yield: func() {}}
				o := c.opts
				o.reservation, o.minCut, o.moving = 1<<20, 16<<10, h.moving
				dir := crashDir(t)
				db, err := Open(filepath.Join(dir, "a.db"), &o)
				must(t, err)
				if err := runHistory(h, db, min(int64(*historyOps)-reads-commits, historyRound)); err != nil {
					t.Fatalf("round %d: %v\nagain, with luck: go test -run '^%s$' -folio.seed %d -folio.historyops %d .",
						round, err, t.Name(), *crashSeed, *historyOps)
				}
				must(t, db.Check())
				must(t, db.Close())
				must(t, os.RemoveAll(dir))
				reads, commits = reads+h.reads.Load(), commits+h.commits.Load()
			}
			t.Logf("%d reads and %d commits in %.1f s, seed %d", reads, commits, time.Since(start).Seconds(), *crashSeed)
		})
	}
}

// runHistory lets four goroutines read, one of them slowly, four commit, and one checkpoint, until they have done so
// many operations.
func runHistory(h *history, db *DB, ops int64) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	spawn := func(step func(w *witness) error) {
		wg.Go(func() {
			w := &witness{h: h}
			for failed.Load() == nil && h.reads.Load()+h.commits.Load() < ops {
				if err := step(w); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for i := range 4 {
		n := i
		spawn(func(w *witness) error {
			n++
			switch {
			case h.weak && n%3 > 0:
				return w.commit(db, Relaxed)
			case h.weak && n%9 == 0:
				return errors.Join(w.commit(db, Sync), db.Sync())
			}
			return w.commit(db, Sync)
		})
	}
	for range 3 {
		spawn(func(w *witness) error { return w.view(db) })
	}
	spawn(func(w *witness) error {
		r, err := w.read(db)
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		return r.end()
	})
	spawn(func(*witness) error {
		time.Sleep(2 * time.Millisecond)
		return db.Checkpoint()
	})
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
