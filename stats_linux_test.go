package folio

import (
	"errors"
	"fmt"
	"testing"
)

// statsOf opens a store and tells what it says of itself at once.
func statsOf(t *testing.T, path string, o *Options) Stats {
	t.Helper()
	db := mustOpenAt(t, path, o)
	s := db.Stats()
	must(t, db.Close())
	return s
}

// Stats told that nothing was free: in a process that only reads always, and in one that writes until its first write.
func TestStatsOfFreePages(t *testing.T) {
	db, path := holed(t)
	must(t, db.checkpointAll())
	must(t, db.checkpointAll())
	want := db.Stats()
	if want.FreePages < 1000 {
		t.Fatalf("%d pages are free", want.FreePages)
	}
	beside := Stats{}
	if sharing, err := db.canShare(); err == nil && sharing {
		r := openAgain(t, path, Options{ReadOnly: true})
		beside = r.Stats()
		must(t, r.Close())
		// Free sets, and what is kept for readers, the two may count differently.
		if low, high := want.FreePages-10, want.FreePages+want.RetainedPages+10; beside.FreePages < low || beside.FreePages > high || beside.LargestFree < 1000 {
			t.Errorf("beside the writer %d pages are free, the longest run has %d; the writer says %d to %d, and %d",
				beside.FreePages, beside.LargestFree, low, high, want.LargestFree)
		}
		if beside.CheckpointTx != want.CheckpointTx || beside.Pages != want.Pages {
			t.Errorf("checkpoint of %d with %d pages, want %d with %d", beside.CheckpointTx, beside.Pages, want.CheckpointTx, want.Pages)
		}
	}
	db.background.Wait()
	db.opts.minCut = 1 << 40 // Close leaves the file as it is
	must(t, db.Close())
	for _, o := range []Options{{ReadOnly: true}, {Private: true}, {}} {
		s := statsOf(t, path, &o)
		db := mustOpenAt(t, path, &Options{Private: true})
		mustPut(t, db, "k", "v")
		loaded := db.Stats()
		must(t, db.Close())
		// The put has taken a few.
		if s.FreePages+10 < loaded.FreePages || s.FreePages > loaded.FreePages+10 || s.LargestFree < 1000 || s.BackgroundFail != nil {
			t.Errorf("%+v: %d pages are free, the longest run has %d; %d after a write (%v)", o, s.FreePages, s.LargestFree, loaded.FreePages, s.BackgroundFail)
		}
	}
}

// Of a private store that had taken back all it had written Stats left out what was free in memory.
func TestStatsOfPrivateRollback(t *testing.T) {
	db, path := holed(t)
	db.background.Wait()
	must(t, db.Close())
	p := mustOpenAt(t, path, &Options{Private: true})
	before := p.Stats()
	if err := p.Update(func(tx *Tx) error {
		for i := range 200 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%d", i), make([]byte, 3000)))
		}
		return errInjected
	}); err != errInjected {
		t.Fatal(err)
	}
	after := p.Stats()
	if grown := after.Pages - before.Pages; grown == 0 || after.FreePages < before.FreePages+grown/2 || after.LargestFree < grown/2 {
		t.Errorf("%d pages more, of which %d are free, the longest run has %d", grown, after.FreePages, after.LargestFree)
	}
}

// What a writer changes between two looks of a process that reads, Stats tells there too.
func TestStatsOfFreePagesBesideWriter(t *testing.T) {
	w := mustOpen(t, nil)
	if sharing, err := w.canShare(); err != nil || !sharing {
		t.Skip("needs memory that processes share")
	}
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	for i := range 20 {
		must(t, w.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "%d", i), make([]byte, 100000)) }))
		must(t, w.Update(func(tx *Tx) error { return tx.Root().Delete(fmt.Appendf(nil, "%d", i)) }))
		must(t, w.Checkpoint())
		s, want := r.Stats(), w.Stats()
		if s.CheckpointTx != want.CheckpointTx || s.FreePages < 20 || s.BackgroundFail != nil {
			t.Fatalf("checkpoint of %d, want %d, with %d pages free: %v", s.CheckpointTx, want.CheckpointTx, s.FreePages, s.BackgroundFail)
		}
	}
}

// A damaged free set neither ends the process nor passes for one in which nothing is free.
func TestStatsOfDamagedSet(t *testing.T) {
	db, path := holed(t)
	db.background.Wait()
	db.opts.minCut = 1 << 40 // Close leaves the file as it is
	must(t, db.checkpointAll())
	must(t, db.Close())
	ro := mustOpenAt(t, path, &Options{ReadOnly: true})
	m := ro.newest()
	must(t, ro.Close())
	if m.FreeLen == 0 {
		t.Fatal("there is no free set")
	}
	spoilByte(t, path, int(m.Free.ID)*m.PageSize+1)
	for _, o := range []Options{{ReadOnly: true}, {Private: true}, {}} {
		db := mustOpenAt(t, path, &o)
		if s := db.Stats(); s.FreePages != 0 || !errors.Is(s.BackgroundFail, ErrCorrupt) {
			t.Errorf("%+v: %d pages are free: %v", o, s.FreePages, s.BackgroundFail)
		}
		must(t, db.Close())
	}
}

// Of the log a process that only reads told nothing, though it had just replayed megabytes of it.
func TestStatsOfLog(t *testing.T) {
	db := mustOpen(t, nil)
	for i := range 500 {
		mustPut(t, db, fmt.Sprint(i), string(make([]byte, 100)))
	}
	want := db.Stats()
	if want.LogSize == 0 || want.LogLive < 50000 {
		t.Fatalf("log of %d bytes, %d of them live", want.LogSize, want.LogLive)
	}
	killed := crashCopy(t, db.Path())
	if s := statsOf(t, killed, &Options{ReadOnly: true}); s.LogSize != want.LogSize || s.LogLive != want.LogLive {
		t.Errorf("killed: log of %d bytes, want %d; %d live, want %d", s.LogSize, want.LogSize, s.LogLive, want.LogLive)
	}
	if sharing, err := db.canShare(); err == nil && sharing {
		r := openAgain(t, db.Path(), Options{ReadOnly: true})
		if s := r.Stats(); s.LogSize != want.LogSize || s.LogLive != 0 {
			t.Errorf("beside the writer: log of %d bytes, want %d; %d live, which is not known", s.LogSize, want.LogSize, s.LogLive)
		}
		must(t, r.Close())
	}
	must(t, db.Close())
	if s := statsOf(t, db.Path(), &Options{ReadOnly: true}); s.LogSize != 0 || s.LogLive != 0 {
		t.Errorf("closed: log of %d bytes, %d live", s.LogSize, s.LogLive)
	}
}
