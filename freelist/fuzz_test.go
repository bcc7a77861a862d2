package freelist

import (
	"bytes"
	"errors"
	"testing"

	"github.com/foliodb/folio/page"
)

// FuzzOps lives as TestModel does, by choices that the fuzzer makes.
func FuzzOps(f *testing.F) {
	f.Add([]byte("an old reader keeps only what it can reach"))
	f.Add(bytes.Repeat([]byte{2, 0, 6, 9, 9, 7, 15, 3}, 20))
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 1000 {
			return
		}
		if err := newMachine(choices).run(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzLoad gives any bytes as a stored set. They are refused with a typed error, and nothing has
// changed then; or they are the one encoding of what was loaded, with zeros behind it or not, and the list works.
func FuzzLoad(f *testing.F) {
	for _, set := range [][]byte{
		nil,
		{0, 0},
		{2, 4, 3, 2, 0, 0},
		{1, 1, 0x80, 0, 0},
		{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0},
		{3, 3, 10, 0, 0, 0, 0x80, 0x40, 0},
	} {
		f.Add(set, uint32(10000), uint32(4), uint32(1))
	}
	f.Fuzz(func(t *testing.T, set []byte, end, start, n uint32) {
		end = max(end%(1<<18), 2) // larger sets only cost time
		l := New(page.ID(end), 64)
		err := l.Load(set, Extent{page.ID(start), page.ID(n)})
		if err != nil {
			var damage *page.CorruptError
			if !errors.As(err, &damage) || damage.Invariant != 1 {
				t.Fatalf("not a typed error: %v", err)
			}
			if l.free.n+l.held.n+l.aside.n > 0 || len(l.fixed) > 0 {
				t.Fatalf("changed by a set that was refused: %v", err)
			}
			return
		}
		if got := encode(&l.free); !bytes.HasPrefix(set, got) || len(bytes.Trim(set[len(got):], "\x00")) > 0 {
			t.Fatalf("loaded %x, encoded again %x", set, got)
		}
		if id, ok := l.Alloc(1); ok != (l.Stats().Free+l.Stats().Own > 0) || ok && (id < 2 || uint32(id) >= end) {
			t.Fatalf("alloc: %d, %v", id, ok)
		}
		l.Rollback()
		l.Release(Extent{page.ID(start), page.ID(n)})
		s, err := l.Snapshot(0, 1)
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			return
		}
		var pages uint64
		for e, err := range Extents(s.Encode(), s.End) {
			if err != nil {
				t.Fatal(err)
			}
			pages += uint64(e.N)
		}
		if pages != s.Pages() {
			t.Fatalf("%d pages encoded, %d in the set", pages, s.Pages())
		}
		l.Abandon(s)
	})
}
