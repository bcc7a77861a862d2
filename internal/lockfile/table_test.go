package lockfile

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

var data = vfs.Info{Dev: 7, Ino: 11}

func lockName(t *testing.T) string {
	if _, err := vfs.OS.Open(os.DevNull, os.O_RDONLY, 0); runtime.GOOS != "linux" {
		t.Skip("memory cannot be shared here", err)
	}
	return filepath.Join(t.TempDir(), "app.db-lock")
}

// attachSoon attaches, and waits for others who make or remove the file.
func attachSoon(name string, patience time.Duration) (*Table, error) {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		tab, err := Attach(vfs.OS, name, 0o600, data, nil)
		if !errors.Is(err, vfs.ErrLocked) || time.Now().After(end) {
			return tab, err
		}
	}
}

func mustAttach(t *testing.T, name string) *Table {
	t.Helper()
	tab, err := attachSoon(name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// The first to attach makes the table, the last one to leave removes it, and what a dead process left is made anew.
// Case D10 of RELIABILITY.md.
func TestLife(t *testing.T) {
	name := lockName(t)
	a := mustAttach(t, name)
	b := mustAttach(t, name)
	if !a.Fresh || b.Fresh {
		t.Errorf("fresh: %v, %v", a.Fresh, b.Fresh)
	}
	a.Publish(Snapshot{Tx: 5, End: 9})
	if s, ok := b.Snapshot(b.Published()); !ok || s.Tx != 5 || s.End != 9 {
		t.Errorf("published: %+v, %v", s, ok)
	}
	must(t, a.Close())
	if !exists(name) {
		t.Error("removed while a process is attached")
	}
	must(t, b.Close())
	if exists(name) {
		t.Error("not removed by the last process")
	}
	a = mustAttach(t, name)
	a.Publish(Snapshot{Tx: 5})
	must(t, a.Kill())
	if a = mustAttach(t, name); !a.Fresh || a.Published() != 0 {
		t.Errorf("left by a dead process: fresh %v, published %d", a.Fresh, a.Published())
	}
	must(t, a.Close())
}

// Whatever lies in the file: with nobody attached it is made anew; with somebody it is refused unless it is right.
// Case D10 of RELIABILITY.md.
func TestForeign(t *testing.T) {
	name := lockName(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{0, 1, 100, 4096, Size - 1, Size, Size + 5000} {
		junk := make([]byte, size)
		for i := range junk {
			junk[i] = byte(r.Uint32())
		}
		must(t, os.WriteFile(name, junk, 0o600))
		tab := mustAttach(t, name)
		if !tab.Fresh || tab.Published() != 0 || tab.Acked() != 0 || tab.Attached() || tab.high() != 0 {
			t.Errorf("%d bytes of junk: %v %v %v", size, tab.Fresh, tab.Published(), tab.Attached())
		}
		if info, _ := os.Stat(name); info.Size() != Size {
			t.Errorf("%d bytes of junk: %d bytes afterwards", size, info.Size())
		}
		for _, off := range []int{offMagic, offLayout, offDev, offIno, offSum} {
			was := tab.w.at(off).Load()
			tab.w.at(off).Store(was + 1)
			if _, err := Attach(vfs.OS, name, 0o600, data, nil); !errors.Is(err, ErrInUse) {
				t.Errorf("header changed at %d: %v", off, err)
			}
			tab.w.at(off).Store(was)
		}
		if _, err := Attach(vfs.OS, name, 0o600, vfs.Info{Dev: 7, Ino: 12}, nil); !errors.Is(err, ErrInUse) {
			t.Errorf("table of another file: %v", err)
		}
		must(t, tab.Close())
	}
	tab := mustAttach(t, name)
	must(t, os.Truncate(name, 4096))
	if _, err := Attach(vfs.OS, name, 0o600, data, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("cut while in use: %v", err)
	}
	must(t, tab.Kill())
}

// A word whose cell has been filled again, or was torn, names nothing.
// Case D4 of RELIABILITY.md.
func TestCells(t *testing.T) {
	name := lockName(t)
	w, r := mustAttach(t, name), mustAttach(t, name)
	if _, ok := r.Snapshot(r.Published()); ok {
		t.Error("snapshot of an empty table")
	}
	var seen []Word
	for tx := range uint64(10) {
		s := Snapshot{Tx: tx, Root: [3]uint64{tx + 1, tx + 2, tx + 3}, End: tx + 4}
		w.Publish(s)
		word := r.Published()
		if got, ok := r.Snapshot(word); (tx > 0 || word != 0) && (!ok || got != s) {
			t.Errorf("%d: %+v, %v", tx, got, ok)
		}
		seen = append(seen, word)
	}
	for i, word := range seen[:6] {
		if s, ok := r.Snapshot(word); ok {
			t.Errorf("word %d, whose cell was filled again, names %+v", i, s)
		}
	}
	off := offCells + r.Published().cell()*cellSize
	for i := range cellWords {
		was := w.w.at(off + 8*i).Load()
		w.w.at(off + 8*i).Store(was ^ 1<<17)
		if s, ok := r.Snapshot(r.Published()); ok {
			t.Errorf("torn at word %d: %+v", i, s)
		}
		w.w.at(off + 8*i).Store(was)
	}
	must(t, errors.Join(r.Close(), w.Close()))
}

// Pins show while they stand; those of dead processes until their slots are reaped; the mark goes with the last slot.
// Case D3 of RELIABILITY.md.
func TestPins(t *testing.T) {
	name := lockName(t)
	w, a, b := mustAttach(t, name), mustAttach(t, name), mustAttach(t, name)
	if w.Attached() {
		t.Error("attached before anybody has a slot")
	}
	must(t, errors.Join(a.Join(), b.Join()))
	if !w.Attached() {
		t.Error("not attached")
	}
	var pins []Pin
	for tx := range uint64(20) { // more than one slot has
		p, err := a.Pin(100 + tx)
		must(t, err)
		pins = append(pins, p)
	}
	_, err := b.Pin(0)
	must(t, err)
	want := []uint64{0}
	for tx := range uint64(20) {
		want = append(want, 100+tx)
	}
	check := func(want ...uint64) {
		t.Helper()
		got := w.Pins(nil)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("pins %d, want %d", got, want)
		}
	}
	check(want...)
	if f := w.Floor(); f != 119 {
		t.Errorf("floor %d", f)
	}
	n, err := w.Reap()
	if n != 0 || err != nil {
		t.Errorf("reaped %d of the living, %v", n, err)
	}
	for _, p := range pins[:18] {
		a.Unpin(p)
	}
	check(0, 118, 119)
	if l := w.Readers(); len(l) != 4 || l[0].PID != os.Getpid() || time.Since(l[0].Since) > time.Hour {
		t.Errorf("readers: %+v", l)
	}
	must(t, a.Kill())
	check(0, 118, 119)
	n, err = w.Reap()
	if n != 3 || err != nil {
		t.Errorf("reaped %d, %v", n, err)
	}
	check(0)
	must(t, b.Close())
	check()
	if w.Attached() {
		t.Error("still attached")
	}
	must(t, w.Close())
}

// When all slots are taken, who comes next is told.
func TestFull(t *testing.T) {
	name := lockName(t)
	a := mustAttach(t, name)
	for range slots {
		must(t, a.Join())
	}
	b := mustAttach(t, name)
	if err := b.Join(); !errors.Is(err, ErrFull) {
		t.Errorf("a slot more than there are: %v", err)
	}
	must(t, errors.Join(a.Close(), b.Close()))
}

// Processes that come and go at the same moment agree on one table: whoever writes to it is read by all who are attached.
// Case D6 of RELIABILITY.md.
func TestComingAndGoing(t *testing.T) {
	name := lockName(t)
	var inside sync.Map
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for k := range 300 {
				tab, err := attachSoon(name, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				must(t, tab.Join())
				info, err := tab.file.Stat()
				must(t, err)
				named, err := os.Stat(name)
				if err != nil {
					t.Errorf("the name is gone under an attached process: %v", err)
				} else if f, err := vfs.OS.Stat(name); err == nil && f.Ino != info.Ino {
					t.Errorf("the name leads elsewhere: %v", named)
				}
				inside.Store(g, k)
				if (g+k)%3 == 0 {
					err = tab.Kill()
				} else {
					err = tab.Close()
				}
				must(t, err)
			}
		})
	}
	wait.Wait()
	tab := mustAttach(t, name)
	if !tab.Fresh {
		t.Error("somebody is attached still")
	}
	must(t, tab.Close())
}
