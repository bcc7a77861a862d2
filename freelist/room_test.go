package freelist

import (
	"errors"
	"testing"

	"github.com/foliodb/folio/page"
)

// What is promised can be allocated without growing the file, is not cut off, and is given up by a failed call.
func TestPromise(t *testing.T) {
	l := New(10, 4096)
	var grown []page.ID
	var fail error
	l.Grow = func(end page.ID) (page.ID, error) {
		grown = append(grown, end)
		return end, fail
	}
	if err := l.Promise(5, 18); err != nil || len(grown) != 1 || grown[0] != 15 {
		t.Fatalf("grown to %v: %v", grown, err)
	}
	if err := l.Promise(3, 18); err != nil || len(grown) != 1 {
		t.Fatalf("a smaller promise: grown to %v: %v", grown, err)
	}
	fail = errors.New("full")
	if err := l.Promise(8, 18); err != fail || l.promised != 3 {
		t.Fatalf("a promise that cannot be kept: %v, %d are promised", err, l.promised)
	}
	if err := l.Promise(9, 18); err != ErrFull || l.promised != 3 || len(grown) != 2 {
		t.Fatalf("a promise beyond the limit: %v, %d are promised, grown to %v", err, l.promised, grown)
	}
	for range 5 {
		if _, ok := l.Alloc(1); ok {
			t.Fatal("a free page where all are beyond the end")
		}
		if _, err := l.Extend(1); err != nil {
			t.Fatal(err)
		}
	}
	if len(grown) != 2 {
		t.Errorf("grown to %v", grown)
	}
	l.Rollback() // pages 10 to 14 are free
	for promise, want := range map[uint64]page.ID{0: 11, 2: 13, 5: 15, 9: 15} {
		l := New(15, 4096)
		l.Grow = func(end page.ID) (page.ID, error) { return end, nil }
		l.free.add(10, 5) // the free set takes one of them
		l.runs.markRange(10, 5)
		s, err := l.Snapshot(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		l.promised = promise
		if err := l.Ensure(s); err != nil {
			t.Fatal(err)
		}
		end := page.ID(15)
		if _, err := l.Cut(s, func(to page.ID) error { end = to; return nil }); err != nil {
			t.Fatal(err)
		}
		if end != want {
			t.Errorf("with %d pages promised the file is cut to %d, want %d", promise, end, want)
		}
		l.Redeem(1)
		if l.promised > 1 {
			t.Errorf("%d are promised after Redeem", l.promised)
		}
	}
}
