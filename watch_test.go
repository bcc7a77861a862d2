package folio

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// readAndForget leaves a transaction that nobody can end.
//
//go:noinline
func readAndForget(t *testing.T, db *DB) {
	tx, err := db.Begin(false)
	must(t, err)
	tx.Root().Get([]byte("k"))
}

// Readers tells what is read, the oldest state first, and what that keeps; OnOldReader tells once of each that is old.
func TestReaders(t *testing.T) {
	var mu sync.Mutex
	var old []Reader
	db := mustOpen(t, &Options{OldReaderAge: time.Millisecond, OnOldReader: func(r Reader) {
		mu.Lock()
		defer mu.Unlock()
		old = append(old, r)
	}})
	mustPut(t, db, "k", "v")
	if r := db.Readers(); len(r) != 0 {
		t.Errorf("nobody reads: %v", r)
	}
	first, err := db.Begin(false)
	must(t, err)
	again, err := db.Begin(false)
	must(t, err)
	for range 50 {
		mustPut(t, db, "k", "w")
		must(t, db.View(func(*Tx) error { return nil })) // publishes
	}
	second, err := db.Begin(false)
	must(t, err)
	mustPut(t, db, "k", "x")
	r := db.Readers()
	if len(r) != 2 || r[0].Tx != first.ID() || r[0].Count != 2 || r[1].Tx != second.ID() || r[1].Count != 1 ||
		r[0].PID != os.Getpid() || r[0].Retained == 0 || r[0].Opened != "" || r[0].Leaked {
		t.Errorf("readers: %v", r)
	}
	for i := 0; ; i++ { // a commit is what makes the store look
		mustPut(t, db, "k", "y")
		mu.Lock()
		n := len(old)
		mu.Unlock()
		if n >= 2 {
			break
		}
		if i == 20000 {
			t.Fatalf("told of %d old readers", n)
		}
		time.Sleep(time.Millisecond)
	}
	must(t, first.Rollback())
	must(t, again.Rollback())
	must(t, second.Rollback())
	if r := db.Readers(); len(r) != 0 {
		t.Errorf("all have ended: %v", r)
	}
	must(t, db.Close())
	if len(old) != 2 {
		t.Errorf("told of %v", old)
	}
}

// With TraceReaders each transaction is told by the place where it began, and one that was forgotten is found.
func TestTraceReaders(t *testing.T) {
	leaks := make(chan Reader, 1)
	db := mustOpen(t, &Options{TraceReaders: true, OnOldReader: func(r Reader) { leaks <- r }})
	mustPut(t, db, "k", "v")
	must(t, db.View(func(tx *Tx) error {
		r := db.Readers()
		if len(r) != 1 || r[0].Tx != tx.ID() || !strings.HasPrefix(r[0].Opened, "github.com/foliodb/folio.TestTraceReaders (watch_test.go:") {
			t.Errorf("readers: %v", r)
		}
		return nil
	}))
	if r := db.Readers(); len(r) != 0 {
		t.Errorf("the view has ended: %v", r)
	}
	readAndForget(t, db)
	deadline := time.After(time.Minute)
	for leaked := false; !leaked; {
		runtime.GC()
		select {
		case r := <-leaks:
			if !r.Leaked || !strings.Contains(r.String(), "readAndForget") {
				t.Errorf("leaked: %v", r)
			}
			leaked = true
		case <-deadline:
			t.Fatal("the leak was not found")
		case <-time.After(time.Millisecond):
		}
	}
	if r := db.Readers(); len(r) != 1 || !r[0].Leaked {
		t.Errorf("readers: %v", r)
	}
	// Close would wait for the leaked transaction for ever: end it by its pin.
	s := db.published.Load()
	for i := range s.pins {
		s.pins[i].n.Store(0)
	}
}

// OnOldReader was told of leaks by the goroutine that runs all cleanups of the process, none of which came to run while it took its time.
func TestLeaksHoldUpNoCleanup(t *testing.T) {
	told, goOn := make(chan Reader), make(chan struct{})
	defer close(goOn)
	db := mustOpen(t, &Options{TraceReaders: true, OnOldReader: func(r Reader) { told <- r; <-goOn }})
	mustPut(t, db, "k", "v")
	deadline := time.After(time.Minute)
	for n := range 2 {
		readAndForget(t, db)
		for found := false; !found; {
			runtime.GC()
			select {
			case <-told:
				found = true
			case <-deadline:
				t.Fatalf("%d of 2 leaks were told of", n)
			case <-time.After(time.Millisecond):
			}
		}
	}
	s := db.published.Load() // see TestTraceReaders
	for i := range s.pins {
		s.pins[i].n.Store(0)
	}
}

// Close held the lock of the handle while it waited for the goroutine that looks at readers, which takes that lock: a Close right
// behind a commit hung. What OnOldReader calls took it too.
func TestCloseBesideWatch(t *testing.T) {
	for range 100 {
		db, err := OpenMemory(&Options{OnOldReader: func(Reader) {}})
		must(t, err)
		mustPut(t, db, "k", "v")
		closed := make(chan struct{})
		go func() { defer close(closed); db.Close() }()
		waitFor(t, "Close", closed)
	}
}

func TestCloseBesideOnOldReader(t *testing.T) {
	var db *DB
	called, goOn := make(chan struct{}), make(chan struct{})
	o := &Options{OldReaderAge: 1, OnOldReader: func(Reader) {
		close(called)
		<-goOn
		db.Stats()
		db.Readers()
		if err := db.Update(func(*Tx) error { return nil }); err != ErrDatabaseNotOpen {
			t.Errorf("Update while Close waits: %v", err)
		}
		if err := db.Checkpoint(); err != nil {
			t.Error(err)
		}
	}}
	db = mustOpen(t, o)
	tx, err := db.Begin(false)
	must(t, err)
	mustPut(t, db, "k", "v")
	waitFor(t, "OnOldReader", called)
	must(t, tx.Rollback())
	closed := make(chan struct{})
	go func() { defer close(closed); must(t, db.Close()) }()
	for !db.closing.Load() {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // Close has no more to wait for than OnOldReader
	close(goOn)
	waitFor(t, "Close", closed)
}

// Of each old reader that OnOldReader was told of a note was kept until the store was closed.
func TestToldReadersAreForgotten(t *testing.T) {
	told := 0
	db := mustOpen(t, &Options{OldReaderAge: 1, OnOldReader: func(Reader) { told++ }})
	db.watching.Store(true)        // nobody else looks
	defer db.watching.Store(false) // Close waits for who does
	for i := range 20 {
		mustPut(t, db, "k", "v")
		tx, err := db.Begin(false)
		must(t, err)
		time.Sleep(time.Microsecond)
		for range 3 {
			db.watchNow()
		}
		if told != i+1 || len(db.told) != 1 {
			t.Errorf("told %d times of %d readers, %d are noted", told, i+1, len(db.told))
		}
		must(t, tx.Rollback())
	}
	db.watchNow()
	if n := len(db.told); n > 0 {
		t.Errorf("%d readers are noted, all are gone", n)
	}
}
