package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// A log on a real file takes records of all kinds in any order: awaited and not, small, and so large that they are not copied. Whoever reads the
// file finds all of them, while the log grows and wraps, and after it was opened again in the middle.
func TestRecordsOfAllKinds(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 9))
		name := filepath.Join(t.TempDir(), "app.db-wal")
		l, err := Create(vfs.OS, name, 0o600, testID, 1, 0, Options{Initial: 64 << 10, Limit: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		from := l.End()
		var want []Ops // since from
		tx := uint64(1)
		first := tx
		for range 150 {
			var g Group
			for range 1 + rng.IntN(3) {
				n := rng.IntN(3000)
				if rng.IntN(20) == 0 {
					n = LargeOps + rng.IntN(LargeOps/4)
				}
				ops := put(fmt.Sprint("key", tx), bytes.Repeat([]byte{byte(tx)}, n))
				g.Add(tx, ops)
				want = append(want, ops)
				tx++
			}
			g.Unawaited = rng.IntN(3) > 0
			if err := l.Reserve(g.Size()); errors.Is(err, ErrFull) {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				from, first = l.End(), tx-uint64(g.Len())
				want = want[len(want)-g.Len():]
				l.Release(from)
				if err := l.Reserve(g.Size()); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			must(t)(l.Append(&g))
			if rng.IntN(25) == 0 {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(30) == 0 { // the process dies
				res := sameRecords(t, name, from, first, want)
				l.Close()
				f, err := vfs.OS.Open(name, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if l, err = Open(f, testID, res, 0, Options{Limit: 8 << 20}); err != nil {
					t.Fatal(err)
				}
			}
		}
		sameRecords(t, name, from, first, want)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Records that nobody awaits go through a mapping, and what became of them when it failed was never tried: the file system that makes
// calls fail had windows that write like any file. A window that cannot be opened must do no harm; one that cannot be stored to ends
// the log as a failed write does, for whoever appended and all after him; and the next one who reads the file finds all that came before, and
// nothing of the record, of which any part may have been stored.
func TestFailingWindow(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system has no windows")
	}
	var (
		broken = errors.New("broken")
		maps   = []vfs.Kind{vfs.KindMap}
		closes = []vfs.Kind{vfs.KindClose}
		writes = []vfs.Kind{vfs.KindWrite}
	)
	for _, c := range []struct {
		name string
		rule vfs.Rule
		fail uint64 // the record that is lost; 0: none
	}{
		{"never opened", vfs.Rule{Kinds: maps, Forever: true}, 0},
		{"not opened again", vfs.Rule{Kinds: maps, Nth: 2}, 0},
		{"not closed", vfs.Rule{Kinds: closes}, 0},
		{"first store", vfs.Rule{Kinds: writes}, 1},
		{"a later store", vfs.Rule{Kinds: writes, Nth: 30}, 30},
		{"a part of the head", vfs.Rule{Kinds: writes, Nth: 30, Short: 20}, 30},
		{"a part of the operations", vfs.Rule{Kinds: writes, Nth: 30, Short: 5000}, 30},
		{"a store that was whole", vfs.Rule{Kinds: writes, Nth: 30, Late: true}, 31},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "app.db-wal")
			failer := vfs.NewFailer(vfs.OS)
			l, err := Create(failer, name, 0o600, testID, 1, 0, Options{Initial: 2 * windowSize, Limit: 8 * windowSize})
			if err != nil {
				t.Fatal(err)
			}
			from := l.End()
			c.rule.Err = broken
			failer.Set(c.rule)
			var want []Ops
			var failed error
			for tx := uint64(1); tx <= 200 && failed == nil; tx++ { // more than one window
				ops := put(fmt.Sprint("key", tx), bytes.Repeat([]byte{byte(tx)}, 30000))
				var g Group
				g.Add(tx, ops)
				g.Unawaited = true
				_, failed = l.Append(&g)
				if failed == nil || c.rule.Late {
					want = append(want, ops)
				}
			}
			if failer.Failed() == 0 {
				t.Error("nothing failed")
			}
			switch {
			case c.fail == 0:
				if err := errors.Join(failed, l.Sync()); err != nil {
					t.Error(err)
				}
				if n := failer.Calls(vfs.KindMap); c.name == "never opened" && n != 1 {
					t.Errorf("%d windows were asked for", n)
				}
			case !errors.Is(failed, vfs.ErrFault) || !errors.Is(failed, broken):
				t.Errorf("the committer is told %v", failed)
			default:
				var g Group
				g.Add(1000, put("key", []byte("value")))
				_, after := l.Append(&g)
				for _, err := range []error{after, l.Err(), l.Sync(), l.Reserve(1)} {
					if !errors.Is(err, broken) {
						t.Errorf("the log goes on: %v", err)
					}
				}
				if len(want) != int(c.fail)-1 {
					t.Errorf("%d records before the one that failed", len(want))
				}
			}
			failer.Set()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			sameRecords(t, name, from, 1, want)
		})
	}
}

// Another process cuts the log, or the device has lost the space behind it: a store through the mapping is a memory fault, with the file's
// name in what is told, and not the end of the process.
func TestFaultInWindow(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system has no windows")
	}
	name := filepath.Join(t.TempDir(), "app.db-wal")
	l, err := Create(vfs.OS, name, 0o600, testID, 1, 0, Options{Initial: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from := l.End()
	var want []Ops
	record := func() error {
		ops := put(fmt.Sprint("key", len(want)), bytes.Repeat([]byte{7}, 30000))
		var g Group
		g.Add(uint64(len(want)+1), ops)
		g.Unawaited = true
		_, err := l.Append(&g)
		if err == nil {
			want = append(want, ops)
		}
		return err
	}
	if err := errors.Join(record(), record()); err != nil {
		t.Fatal(err)
	}
	const memoryPage = 64 << 10 // at most
	if err := os.Truncate(name, l.End().Offset&^(memoryPage-1)+memoryPage); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil && len(want) < 20; {
		err = record()
	}
	if !errors.Is(err, vfs.ErrFault) || !strings.Contains(err.Error(), filepath.Base(name)) {
		t.Fatalf("%d records, %v", len(want), err)
	}
	if again := l.Sync(); !errors.Is(again, vfs.ErrFault) {
		t.Errorf("the log goes on: %v", again)
	}
	// What was stored of the last record, and in which order, is the processor's business: its head may be there. With the space
	// back it is a record that is not whole; without, a file that was cut.
	if err := os.Truncate(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, name, from, 1, want)
}

// sameRecords reads the log by another descriptor and compares.
func sameRecords(t *testing.T, name string, from Position, first uint64, want []Ops) *Result {
	t.Helper()
	f, err := vfs.OS.Open(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	res, err := Recover(f, testID, from, func(r Record) error {
		for tx, ops := range r.All() {
			if n >= len(want) || tx != first+uint64(n) || !bytes.Equal(ops, want[n]) {
				return fmt.Errorf("transaction %d is not the one that was appended", tx)
			}
			n++
		}
		return nil
	})
	if err != nil || n != len(want) {
		t.Fatalf("%d transactions of %d, %v", n, len(want), err)
	}
	return &res
}

// A group that is used again holds nothing of the operations that were lent to it, and its size counts them.
func TestLentOperations(t *testing.T) {
	var g Group
	large := make(Ops, LargeOps+5)
	g.Add(1, make(Ops, 100))
	before := g.Size()
	g.Add(2, large)
	if n := g.Size() - before; n < int64(len(large))-2*block || n > int64(len(large))+2*block {
		t.Errorf("%d bytes more by %d of operations", n, len(large))
	}
	if parts, h := g.seal(kindGroup); len(parts) != 3 || &parts[1][0] != &large[0] || h.size() != g.Size() {
		t.Errorf("%d parts, %d bytes", len(parts), h.size())
	}
	g.Reset()
	if g.Size() != 0 || g.lent != 0 || len(g.refs) != 0 || cap(g.refs) > 0 && g.refs[:1][0].ops != nil || cap(g.parts) > 0 && g.parts[:3][1] != nil {
		t.Error("something is left")
	}
}
