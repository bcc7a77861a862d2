package folio

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// Cases that take a second process.

// Case B5 of RELIABILITY.md, its fourth part. The end of the file is about to be cut off when a private store is opened, or has
// been open. A cut takes what a private mapping has copied of the pages behind it, and what is there when the file grows again is
// zeros. So none is made while a private store is attached, however late it came.
func TestNoCutBesidePrivate(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			fsys := newHookFS()
			w := mustOpen(t, &Options{fs: fsys, minCut: 1})
			mustPut(t, w, "k", "theirs")
			large := bytes.Repeat([]byte{'l'}, 4<<20)
			must(t, w.Update(func(tx *Tx) error { return tx.Root().Put([]byte("large"), large) }))
			must(t, w.Checkpoint())
			size := w.Stats().FileSize
			must(t, w.Update(func(tx *Tx) error { return tx.Root().Delete([]byte("large")) }))
			must(t, w.Checkpoint()) // lets go of the pages, and cuts nothing yet
			if got := w.Stats().FileSize; got != size {
				t.Fatalf("cut from %d to %d bytes at once", size, got)
			}

			var p *DB
			attach := func() {
				p = openAgain(t, w.Path(), Options{Private: true})
				mustPut(t, p, "k", "ours")
				must(t, p.Update(func(tx *Tx) error { return tx.Root().Put([]byte("mine"), large) }))
			}
			if !late {
				attach()
			}
			var cuts int
			hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
				switch {
				case isLog(f):
				case kind == vfs.KindTruncate:
					cuts++
				case kind == vfs.KindSync && p == nil && w.free.Stats().Aside > 0: // it is taken from who allocates, to be cut
					attach()
				}
				return nil
			})
			fsys.before.Store(&hook)
			for range 3 {
				must(t, w.Checkpoint())
			}
			if p == nil {
				t.Fatal("no checkpoint was going to cut")
			}
			if got := w.Stats().FileSize; got != size || cuts > 0 {
				t.Errorf("cut %d times, from %d to %d bytes", cuts, size, got)
			}
			must(t, w.Update(func(tx *Tx) error { return tx.Root().Put([]byte("large"), make([]byte, 4<<20)) }))
			must(t, w.Checkpoint())
			has(t, p, "k", "ours")
			has(t, p, "mine", string(large))
			has(t, w, "k", "theirs")
			must(t, errors.Join(p.Check(), p.Close()))

			must(t, w.Update(func(tx *Tx) error { return tx.Root().Delete([]byte("large")) }))
			for range 3 {
				must(t, w.Checkpoint())
			}
			if got := w.Stats().FileSize; got >= size/2 || cuts == 0 {
				t.Errorf("still %d bytes of %d when the private store is closed", got, size)
			}
			must(t, w.Check())
		})
	}
}

// Case D3 of RELIABILITY.md. A transaction of a process that reads has stored a pin, and has not looked yet whether what it
// pins is still shown. A second one finds the pin and would join it; the first one finds that it came too late, and takes the
// pin away. The second one would read pages that nothing keeps: a pin is joined only after it was confirmed.
func TestJoinOfUnconfirmedPin(t *testing.T) {
	w := mustOpen(t, nil)
	must(t, pinRound(w, 1))
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	must(t, r.View(func(tx *Tx) error { pinSame(t, tx, 1); return nil }))
	s := r.published.Load()
	for s.share.pinned.Load() { // until it has been let go of, since nobody reads
		time.Sleep(time.Millisecond)
	}

	// The first transaction, step by step.
	r.share.mu.Lock()
	if r.share.asleep {
		r.share.asleep = false
		r.table.Wake()
	}
	r.share.renewals++
	pin, err := r.table.Pin(uint64(s.tx))
	must(t, err)
	var second *Tx
	began := make(chan struct{})
	go func() {
		defer close(began)
		var err error
		if second, err = r.Begin(false); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-began:
		r.share.mu.Unlock()
		second.Rollback()
		t.Fatalf("a second transaction has joined a pin of %d that is not confirmed", s.tx)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, pinRound(w, 2))
	if r.table.Published() == s.share.word {
		t.Fatal("the commit is not shown")
	}
	r.table.Unpin(pin)
	r.share.mu.Unlock()

	waitFor(t, "the second transaction", began)
	for round := 3; round < 8; round++ {
		must(t, errors.Join(pinRound(w, round), w.Checkpoint()))
	}
	defer second.Rollback()
	pinSame(t, second, 2)
	must(t, second.Check())
	must(t, w.Check())
}
