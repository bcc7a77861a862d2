package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	if parts, n, _ := g.seal(); len(parts) != 3 || &parts[1][0] != &large[0] || n != g.Size() {
		t.Errorf("%d parts, %d bytes", len(parts), n)
	}
	g.Reset()
	if g.Size() != 0 || g.lent != 0 || len(g.refs) != 0 || cap(g.refs) > 0 && g.refs[:1][0].ops != nil || cap(g.parts) > 0 && g.parts[:3][1] != nil {
		t.Error("something is left")
	}
}
