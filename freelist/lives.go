package freelist

import (
	"errors"
	"fmt"
	"slices"

	"github.com/foliodb/folio/page"
)

// Dead is a run of pages that a transaction superseded: N pages from ID on, written by
// transaction Born. Born 0 means that it is not known, and counts as before everything.
type Dead struct {
	ID   page.ID
	N    page.ID
	Born page.TxID
}

// Onward marks the last of the pins given to Commit and Reclaim: p|Onward pins snapshot p and
// each later one. It serves where a reader's exact pins are not known, and for a scan of
// pins that are taken while it runs: nothing is freed then that died after p.
const Onward page.TxID = 1 << 63

// hold is what one pin keeps. A life is filed under the smallest pin that needs it: the
// checkpoint's pin stays for long while those above it come and go, and an old
// reader's pages are not charged to a checkpoint that could not free them.
type hold struct {
	pin   page.TxID
	lives pile
}

// keeper returns the smallest pin that a life is visible to.
func keeper(pins []page.TxID, born, died page.TxID) (page.TxID, bool) {
	if born >= died {
		return 0, false
	}
	i := 0
	if len(pins) > 8 {
		i, _ = slices.BinarySearch(pins, born)
	}
	for i < len(pins) && pins[i] < born {
		i++
	}
	if i == len(pins) {
		return 0, false
	}
	if p := pins[i]; p < died {
		return p, true
	}
	last := pins[len(pins)-1]
	return last, last >= Onward && last&^Onward < died
}

// Commit ends the running transaction with the number tx, above that of any before: the
// pages that it has allocated are in use, those in died are dead. pins is everything that is
// pinned now, ascending; see Onward for the last one. A dead page stays while there is a pin p with
// Born <= p < tx. A page of the transaction's own may be among the dead, with Born tx: it is
// free at once.
//
// The error is a *page.CorruptError for a page that dies but is not in use; it stays what it
// is, and everything else is done. Neither slice is kept.
func (l *List) Commit(tx page.TxID, died []Dead, pins []page.TxID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if tx <= l.last || tx >= Onward {
		panic(fmt.Sprintf("freelist: commit of transaction %d after %d", tx, l.last))
	}
	ascending(pins)
	l.last = tx
	var errs []error
	for _, d := range died {
		if err := l.dies(d, tx); err != nil {
			errs = append(errs, err)
			continue
		}
		if d.Born > tx {
			d.Born = 0 // cannot be true; the page keeps its readers
		}
		l.held.add(d.ID, d.N) // if it is own, too, that ends below
		l.settle(life{d.ID, d.N, d.Born, tx}, pins)
	}
	l.own.reset()
	return errors.Join(errs...)
}

// dies returns an error if the pages are not in use, nor the transaction's own.
func (l *List) dies(d Dead, tx page.TxID) error {
	switch {
	case d.N == 0 || !l.inFile(d.ID, d.N):
		return damaged(d.ID, "superseded, but not in the file")
	case l.free.any(d.ID, d.N) || l.aside.any(d.ID, d.N):
		return damaged(d.ID, "superseded, but free already")
	case l.held.any(d.ID, d.N):
		return damaged(d.ID, "superseded, but dead already")
	case l.own.n > 0 && l.own.any(d.ID, d.N) && (d.Born != tx || !l.own.all(d.ID, d.N)):
		return damaged(d.ID, "superseded, but allocated by the same transaction")
	}
	return nil
}

// ascending panics if pins are not in order: pages would be given away under readers.
func ascending(pins []page.TxID) {
	for i := 1; i < len(pins); i++ {
		if pins[i-1] > pins[i] || pins[i-1] >= Onward {
			panic(fmt.Sprintf("freelist: pins out of order: %d", pins))
		}
	}
}

// settle files a held life under the pin that needs it, or frees its pages.
func (l *List) settle(f life, pins []page.TxID) {
	if pin, ok := keeper(pins, f.born, f.died); ok {
		l.hold(pin).lives.push(&l.blocks, f)
		return
	}
	if l.OnFree != nil && !l.OnFree(f.id, int(f.n)) {
		l.busy.push(&l.blocks, f)
		return
	}
	l.held.remove(f.id, f.n)
	l.release(f.id, f.n)
}

// hold returns what the pin keeps, which is nothing at first.
func (l *List) hold(pin page.TxID) *hold {
	i, ok := l.findHold(pin)
	if !ok {
		l.holds = slices.Insert(l.holds, i, hold{pin: pin})
	}
	return &l.holds[i]
}

// findHold returns where the pin's hold is, or would be. There are few.
func (l *List) findHold(pin page.TxID) (int, bool) {
	i := 0
	for i < len(l.holds) && l.holds[i].pin < pin {
		i++
	}
	return i, i < len(l.holds) && l.holds[i].pin == pin
}

// Reclaim frees the dead pages that no pin needs any more; pins is everything that is
// pinned now, as for Commit. Both must see pins that were collected under one and the same lock: a
// Reclaim with pins from before a Commit would give away what that one kept.
// With no pin gone since the last time it costs a look at each pin.
func (l *List) Reclaim(pins []page.TxID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ascending(pins)
	settle := func(f life) { l.settle(f, pins) }
	gone := l.partHolds(pins)
	for i := range gone {
		gone[i].lives.empty(&l.blocks, settle)
	}
	busy := l.busy
	l.busy = pile{}
	busy.empty(&l.blocks, settle)
}

// partHolds takes out the holds whose pin is gone.
func (l *List) partHolds(pins []page.TxID) []hold {
	var gone []hold
	kept, i := 0, 0
	for _, h := range l.holds {
		for i < len(pins) && pins[i] < h.pin {
			i++
		}
		if i == len(pins) || pins[i] != h.pin {
			gone = append(gone, h)
			continue
		}
		l.holds[kept] = h
		kept++
	}
	clear(l.holds[kept:])
	l.holds = l.holds[:kept]
	return gone
}
