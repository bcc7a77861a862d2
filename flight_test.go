package folio

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// sortedTx begins a transaction that sends its pages off.
func sortedTx(t *testing.T, db *DB) (tx *Tx, put func(i, size int)) {
	t.Helper()
	tx, err := db.beginWrite()
	must(t, err)
	if tx.deferred {
		must(t, tx.enterTree())
	}
	db.pager.sorted = true
	t.Cleanup(func() { db.pager.sorted = false })
	return tx, func(i, size int) {
		t.Helper()
		must(t, db.pager.relieve())
		_, err := tx.root.tree.Put(fmt.Appendf(nil, "%06d", i), make([]byte, size), false)
		must(t, err)
		tx.root.dirty, tx.changed = true, true
	}
}

// stopFlight has the next flight wait in its first write.
func stopFlight(db *DB, fsys *hookFS, put func(i, size int)) (release chan struct{}) {
	reached, release := stopDataWrite(fsys, vfs.KindWrite)
	for i := 100; len(db.pager.flight.frames) == 0; i++ {
		put(i, 100)
	}
	<-reached
	return release
}

// A page that is touched while it is being written moves, as one that has been written does: the write would have half of the change. Its buffer may
// not be used again before the write has ended, though the transaction has no use for it.
func TestTouchInFlight(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
	tx, put := sortedTx(t, db)
	p := &db.pager
	release := stopFlight(db, fsys, put)
	first := p.flight.frames[0]
	was := slices.Clone(first.buf[8:])
	if own := p.Own(first.id); own != nil {
		t.Error("a page in flight is given out to be changed")
	}
	if _, _, err := p.Renew(first.id); err == nil {
		t.Error("a page in flight is given a fresh buffer")
	}
	p.sorted = false // no further flight, which would wait for this one
	put(100, 90)
	if !first.left || db.frames.get(first.id) == first {
		t.Fatal("the page was not moved")
	}
	for i := range 40 { // buffers are taken, and page numbers
		put(500+i, 3000)
	}
	if !slices.Equal(first.buf[8:], was) {
		t.Error("the page is changed while it is written")
	}
	if slices.ContainsFunc(p.own, func(f *frame) bool { return f != first && f.id == first.id }) { // and it is not free: a checkpoint might cut it off
		t.Error("the page's number is used again while the page is written")
	}
	close(release)
	must(t, p.land())
	if first.buf != nil || slices.Contains(p.own, first) {
		t.Error("the page is kept")
	}
	_, err := tx.root.tree.Delete([]byte("000101"), false)
	must(t, err)
	must(t, tx.Commit())
	must(t, db.Check()) // the page's number is not lost either
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n < 40 || len(tx.Root().Get([]byte("000100"))) != 90 || tx.Root().Get([]byte("000101")) != nil {
			t.Errorf("%d items", n)
		}
		return nil
	}))
}

// The error of a flight is that of an operation behind it, or of the last one. Nothing is lost: the backlog is applied again.
func TestFlightFails(t *testing.T) {
	told := 0
	for nth := 1; ; nth++ {
		fsys := newHookFS()
		db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
		key := fillTree(t, db, 1000)
		must(t, db.Checkpoint())
		for i := range 100 {
			must(t, db.Update(func(tx *Tx) error {
				tx.SetDurability(Relaxed)
				return tx.Root().Put(key(10*i), make([]byte, 101))
			}))
		}
		var writes atomic.Int64
		hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
			if kind == vfs.KindWrite && !isLog(f) && writes.Add(1) == int64(nth) {
				return errInjected
			}
			return nil
		})
		fsys.before.Store(&hook)
		err := db.View(func(tx *Tx) error { return nil })
		if err == nil && writes.Load() < int64(nth) {
			break // all writes have failed once
		}
		if told++; !errors.Is(err, errInjected) {
			t.Errorf("write %d of %d fails: %v", nth, writes.Load(), err)
		}
		must(t, db.View(func(tx *Tx) error {
			for i := range 100 {
				if n := len(tx.Root().Get(key(10 * i))); n != 101 {
					return fmt.Errorf("item %d has %d bytes", i, n)
				}
			}
			return nil
		}))
		must(t, db.Check())
		must(t, db.Close())
	}
	if told < 3 {
		t.Errorf("%d writes failed", told)
	}
}

// Pages that a flight could not write are still there.
func TestFailedFlightKeepsPages(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
	tx, put := sortedTx(t, db)
	p := &db.pager
	failDataWrites(fsys)
	for i := 100; len(p.flight.frames) == 0; i++ {
		put(i, 100)
	}
	sent := slices.Clone(p.flight.frames)
	if err := p.land(); !errors.Is(err, errInjected) {
		t.Errorf("a flight fails: %v", err)
	}
	for _, f := range sent {
		if !f.left && (f.buf == nil || db.frames.get(f.id) != f || !slices.Contains(p.own, f)) {
			t.Fatalf("page %d is lost", f.id)
		}
	}
	fsys.before.Store(nil)
	must(t, tx.Rollback())
	must(t, db.Check())
}

// While the backlog is applied, of what the transaction makes no more is on the heap than two flights and the branches, and what has landed
// is known to be sound.
func TestFlightsBoundTheHeap(t *testing.T) {
	db := mustOpen(t, &Options{MemoryLimit: 4 << 20})
	tx, put := sortedTx(t, db)
	most := int64(0)
	for i := range 40_000 {
		put(i, 200)
		most = max(most, db.pager.heap)
	}
	branches := int64(0)
	for _, f := range db.pager.own {
		if f.buf != nil && !f.run && page.LevelOf(f.buf) > 0 {
			branches += int64(len(f.buf))
		}
	}
	must(t, db.pager.land())
	if limit := 2*db.pager.most/4 + branches + 1<<20; most > limit {
		t.Errorf("%d bytes on the heap, want %d at most", most, limit)
	}
	must(t, tx.Rollback())
	must(t, db.Check())
}

// Where a flight was of one page, it took the leaf that was being filled away from each operation: a thousand puts in a row wrote 16 to 64 MB.
func TestFlightsLeaveTheLeafAlone(t *testing.T) {
	for _, c := range []struct {
		page  int
		limit int64
	}{{4 << 10, 256 << 10}, {16 << 10, 256 << 10}, {32 << 10, 512 << 10}, {64 << 10, 256 << 10}, {64 << 10, 1 << 20}} {
		fsys := newHookFS()
		db := mustOpen(t, &Options{fs: fsys, PageSize: c.page, MemoryLimit: c.limit})
		key := fillTree(t, db, 3000)
		must(t, db.Checkpoint())
		var calls atomic.Int64
		hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
			if kind == vfs.KindWrite && !isLog(f) {
				calls.Add(1)
			}
			return nil
		})
		fsys.before.Store(&hook)
		must(t, db.Update(func(tx *Tx) error {
			tx.SetDurability(Relaxed)
			for i := range 1000 {
				if err := tx.Root().Put(key(900+i), make([]byte, 101)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, db.View(func(tx *Tx) error { return nil }))
		fsys.before.Store(nil)
		if n := calls.Load(); n == 0 || n > 60 {
			t.Errorf("pages of %d bytes, limit %d: %d writes for what is 32 pages of 4 KiB", c.page, c.limit, n)
		}
		must(t, db.Check())
	}
}

// A bulk commit syncs the data file when its last flight has landed, and not before.
func TestBulkWaitsForItsFlight(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
	tx, put := sortedTx(t, db)
	tx.bulk = true
	release := stopFlight(db, fsys, put)
	var landed, early atomic.Bool
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if (kind == vfs.KindMsync || kind == vfs.KindSync) && !isLog(f) && !landed.Load() {
			early.Store(true)
		}
		return nil
	})
	fsys.before.Store(&hook)
	done := make(chan error)
	go func() { done <- tx.Commit() }()
	time.Sleep(20 * time.Millisecond) // in which it would
	landed.Store(true)
	close(release)
	must(t, <-done)
	if early.Load() {
		t.Error("the data file was synced while a page was on its way to it")
	}
	must(t, db.Check())
}

// What flies lies in order in the file, whether keys came in order, which fills leaves backward, or not, and leaves that are touched one by one stay so but for
// what is new in them.
func TestLeavesAreWrittenInOrder(t *testing.T) {
	key := func(i int) []byte { return fmt.Appendf(nil, "%05d", i*7919%100003) }
	for name, at := range map[string]func(i int) []byte{
		"ascending": func(i int) []byte { return fmt.Appendf(nil, "%05d", i) },
		"random":    key,
	} {
		db := mustOpen(t, &Options{MemoryLimit: 1 << 20})
		for n := 0; n < 20000; n += 5000 {
			must(t, db.Update(func(tx *Tx) error {
				for i := n; i < n+5000; i++ {
					if err := tx.Root().Put(at(i), make([]byte, 100)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		must(t, db.Checkpoint())
		if n, of := disorder(t, db); n > of/50 {
			t.Errorf("%s: %d of %d entries lie before the one that they follow", name, n, of)
		}
		for i := range 100 { // each is a leaf's third change since it was in order
			must(t, db.Update(func(tx *Tx) error { return tx.Root().Put(at(10*i), make([]byte, 101)) }))
		}
		must(t, db.Checkpoint())
		if n, of := disorder(t, db); n > of/50 {
			t.Errorf("%s, then touched: %d of %d", name, n, of)
		}
		must(t, db.Close())
	}
}

// disorder returns how many entries of the leaves that the newest commit reaches lie before the one that they follow in the order of keys, and how many there are.
func disorder(t *testing.T, db *DB) (before, all int) {
	t.Helper()
	info, err := db.file.Stat()
	must(t, err)
	must(t, db.View(func(tx *Tx) error {
		for id := page.FirstID; id < page.ID(info.Size)/page.ID(db.pageSize); id++ {
			p, err := tx.snapshot.view.Page(id)
			if err != nil || page.KindOf(p) != page.KindLeaf || !tx.reaches(id, page.Leaf(p)) {
				continue
			}
			l := page.Leaf(p)
			for i := 1; i < l.Count(); i++ {
				if all++; l.KeyAt(i) < l.KeyAt(i-1) {
					before++
				}
			}
		}
		return nil
	}))
	return before, all
}

// reaches reports whether the root bucket has its first key in this leaf.
func (tx *Tx) reaches(id page.ID, l page.Leaf) bool {
	if l.Count() == 0 {
		return false
	}
	leaf, _, err := tx.root.tree.Plain(l.Key(0))
	return err == nil && leaf == id
}

// What a flight takes beside its frames is no more than a flight has, whatever lay on the heap when it set off.
func TestOrderedIsBounded(t *testing.T) {
	const limit = 16 << 20
	db := mustOpen(t, &Options{fs: newHookFS(), MemoryLimit: limit})
	must(t, db.Update(func(tx *Tx) error {
		b := tx.Root()
		for i := range 60000 {
			if i%200 == 0 {
				b.Get([]byte("x")) // so nothing is collected
			}
			if err := b.Put(fmt.Appendf(nil, "%08d", i*7919%60000), make([]byte, 100)); err != nil {
				return err
			}
		}
		for i := range 400 {
			if err := b.Put(fmt.Appendf(nil, "z%08d", i*7919%60000), make([]byte, 100)); err != nil {
				return err
			}
		}
		b.Get([]byte("x"))
		return nil
	}))
	if n := cap(db.pager.flight.ordered); n > 2*flightBytes {
		t.Errorf("a store at rest keeps %d bytes to write leaves from, with a limit of %d", n, limit)
	}
}
