package folio

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// untilAsleep commits until the writer knows that all processes that are attached sleep.
func untilAsleep(t *testing.T, w *DB) {
	t.Helper()
	for i := 0; w.table.Attached(); i++ {
		if i == 10000 {
			t.Fatal("nobody sleeps")
		}
		time.Sleep(time.Millisecond)
		mustPut(t, w, "until asleep", fmt.Sprint(i))
	}
}

// Processes that were attached, and read nothing, cost each durable put of the writer a quarter of its time: it published
// every commit for them. Now they say so when they have not read for a while, and the writer goes on as if they were not
// there. The next one who reads is shown all the same what was acknowledged before, and what he pins is kept.
func TestSleep(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "0")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	for i := range 5 {
		has(t, r, "k", fmt.Sprint(i))
		untilAsleep(t, w)
		v := fmt.Sprint(i + 1)
		mustPut(t, w, "k", v)
		if s := w.Stats(); s.Processes != 1 {
			t.Errorf("%d processes, one sleeps", s.Processes)
		}
		has(t, r, "k", v)
		tx, err := r.Begin(false)
		must(t, err)
		if !w.table.Attached() {
			t.Error("the writer does not know of a process that reads")
		}
		for k := range 100 { // what it reads is not reused
			mustPut(t, w, "k", fmt.Sprint(i+1))
			mustPut(t, w, fmt.Sprint(k), fmt.Sprint(i))
		}
		must(t, w.Checkpoint())
		if got := string(tx.Root().Get([]byte("k"))); got != v {
			t.Errorf("the snapshot has %q", got)
		}
		must(t, errors.Join(tx.Check(), tx.Rollback()))
	}
	must(t, errors.Join(r.Check(), w.Check()))
}

// What a process that sleeps has not been shown it finds in the log when the writer dies; and the next writer's commits it sees
// as any.
func TestSleepOverDeaths(t *testing.T) {
	w := mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "first")
	r := openAgain(t, path, Options{ReadOnly: true})
	has(t, r, "k", "first")
	for i := range 6 {
		untilAsleep(t, w)
		v := fmt.Sprint("last words ", i)
		mustPut(t, w, "k", v)
		if s := w.Stats(); s.PublishedTx == s.LastTx {
			t.Errorf("round %d: published for a process that sleeps", i)
		}
		if i%2 == 0 {
			killed(t, w)
			has(t, r, "k", v)
			w = openAgain(t, path, Options{})
		} else { // it sleeps over two writers
			killed(t, w)
			w = openAgain(t, path, Options{})
			v = fmt.Sprint("next ", i)
			mustPut(t, w, "k", v)
			has(t, r, "k", v)
		}
		for k := range 200 {
			mustPut(t, w, fmt.Sprint(k), v)
		}
		has(t, r, "199", v)
		must(t, r.Check())
	}
	must(t, errors.Join(w.Check(), w.Close(), r.Close()))
	Reopens(t, path)
	if _, err := os.Stat(lockName(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock file: %v", err)
	}
}

// Who removes the lock file by hand while it is used parts those who come later from those who are there. The locks of the data
// file keep them from harm: a reader is told to wait, and no writer comes beside readers that it does not know.
func TestLockFileRemoved(t *testing.T) {
	w := mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "v")
	r := openAgain(t, path, Options{ReadOnly: true})
	has(t, r, "k", "v")
	must(t, os.Remove(lockName(path)))
	var locked *LockedError
	if _, err := tryAgain(path, Options{ReadOnly: true, LockTimeout: 20 * time.Millisecond}); !errors.As(err, &locked) {
		t.Errorf("a reader with another table than the writer: %v", err)
	}
	mustPut(t, w, "k", "w")
	has(t, r, "k", "w")
	killed(t, w)
	if _, err := tryAgain(path, Options{LockTimeout: 20 * time.Millisecond}); !errors.As(err, &locked) || !locked.Reader {
		t.Errorf("a writer with another table than a reader: %v", err)
	}
	has(t, r, "k", "w")
	must(t, r.Close())
	w = openAgain(t, path, Options{})
	has(t, w, "k", "w")
	must(t, w.Close())
	Reopens(t, path)
}
