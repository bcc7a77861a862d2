package freelist

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/foliodb/folio/page"
)

// naive is a set of pages kept as one bool each.
type naive []bool

// run returns how many members follow from id on.
func (s naive) run(id int) int {
	n := 0
	for id+n < len(s) && s[id+n] {
		n++
	}
	return n
}

// find returns the leftmost run of n members that begins at or after from, and ends before end.
func (s naive) find(from, end, n int) (int, bool) {
	for id := from; id+n <= end; id++ {
		if s[:end].run(id) >= n {
			return id, true
		}
	}
	return 0, false
}

// TestSetsAgainstNaive changes a set at random, in single pages and in long runs across chunks,
// and asks it and its index everything.
func TestSetsAgainstNaive(t *testing.T) {
	const size = 7*chunkPages + 100
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := bitmap{pool: new(pool), sticky: seed%2 == 1}
		index := runs{set: &b}
		want := make(naive, size)
		longest := 1 << r.IntN(16)
		for step := range 300 {
			id := r.IntN(size)
			n := 1 + r.IntN(min(longest, size-id))
			for n > 1 && want.run(id) != 0 && want.run(id) < n || n > 1 && want[id:].clash(n) {
				n = (n + 1) / 2
			}
			if want[id] {
				b.remove(page.ID(id), page.ID(n))
			} else {
				b.add(page.ID(id), page.ID(n))
			}
			was := want[id]
			for i := range n {
				want[id+i] = !was
			}
			index.markRange(page.ID(id), page.ID(n))
			if step%10 == 0 {
				compareSet(t, r, &b, &index, want)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}
}

// clash reports whether the first n are not all alike.
func (s naive) clash(n int) bool {
	for _, x := range s[:n] {
		if x != s[0] {
			return true
		}
	}
	return false
}

func compareSet(t *testing.T, r *rand.Rand, b *bitmap, index *runs, want naive) {
	members, starts, longest := 0, 0, 0
	for id, x := range want {
		if b.has(page.ID(id)) != x {
			t.Errorf("page %d: member %v", id, !x)
		}
		if x {
			members++
			if id == 0 || !want[id-1] {
				starts++
				longest = max(longest, want.run(id))
			}
		}
	}
	if b.n != uint64(members) || b.starts() != uint64(starts) || index.longest() != page.ID(longest) {
		t.Errorf("%d members in %d runs, longest %d; want %d, %d, %d", b.n, b.starts(), index.longest(), members, starts, longest)
	}
	at := 0
	for id, n := b.next(0); n > 0; id, n = b.next(id + n) {
		next, _ := want.find(at, len(want), 1)
		if int(id) != next || int(n) != want.run(next) {
			t.Errorf("run of %d at %d; want %d at %d", n, id, want.run(next), next)
			return
		}
		at = next + int(n)
	}
	if next, ok := want.find(at, len(want), 1); ok {
		t.Errorf("run at %d is missing", next)
	}
	for range 10 {
		end := 1 + r.IntN(len(want))
		tail := 0
		for tail < end && want[end-1-tail] {
			tail++
		}
		if got := b.tail(page.ID(end)); int(got) != tail {
			t.Errorf("tail before %d is %d; want %d", end, got, tail)
		}
		n := 1 + r.IntN(1+r.IntN(1+longest)+1)
		id, ok := index.find(page.ID(n))
		if w, wok := want.find(0, len(want), n); ok != wok || ok && int(id) != w {
			t.Errorf("leftmost %d at %d, %v; want %d, %v", n, id, ok, w, wok)
		}
		compareChunk(t, r, b, want, n)
	}
}

// compareChunk looks for n members in a chunk.
func compareChunk(t *testing.T, r *rand.Rand, b *bitmap, want naive, n int) {
	c := b.chunk(1)
	if c == nil {
		return
	}
	part := want[chunkPages : 2*chunkPages]
	from := r.IntN(chunkPages)
	at, ok := c.find(uint(from), uint(n))
	if w, wok := part.find(from, chunkPages, n); ok != wok || ok && int(at) != w {
		t.Errorf("leftmost %d from %d in the chunk at %d, %v; want %d, %v", n, from, at, ok, w, wok)
	}
	if got := c.runAt(uint(from)); int(got) != part.run(from) {
		t.Errorf("run at %d in the chunk: %d; want %d", from, got, part.run(from))
	}
}

func TestSetReset(t *testing.T) {
	b := bitmap{pool: new(pool), sticky: true}
	for range 3 {
		b.add(10, 5)
		b.add(chunkPages*2-1, 2)
		b.remove(10, 5)
		b.reset()
		if b.n != 0 || b.any(0, 3*chunkPages) || len(b.used) != 0 {
			t.Fatalf("after reset: %d members: %v", b.n, &b)
		}
	}
	if n := len(b.pool.chunks); n != 3 {
		t.Errorf("%d chunks in the pool; want the 3 that were used", n)
	}
	for _, c := range b.pool.chunks {
		if *c != (chunk{}) {
			t.Error("chunk in the pool has members")
		}
	}
}

// TestHugeIDs makes sure that nothing overflows where page numbers end.
func TestHugeIDs(t *testing.T) {
	const last = 1<<32 - 1
	b := bitmap{pool: new(pool)}
	index := runs{set: &b}
	b.add(last-5, 5)
	index.markRange(last-5, 5)
	if id, ok := index.find(5); !ok || id != last-5 {
		t.Errorf("found %d, %v", id, ok)
	}
	if n := b.tail(last); n != 5 {
		t.Errorf("tail of %d", n)
	}
	if id, n := b.next(7); id != last-5 || n != 5 {
		t.Errorf("next is %d pages at %d", n, id)
	}
	l := New(last-3, 4096)
	if id, err := l.Extend(3, math.MaxUint32); err != nil || id != last-3 {
		t.Errorf("extend: %d, %v", id, err)
	}
	if _, err := l.Extend(1, math.MaxUint32); err != ErrFull {
		t.Errorf("extend past the last number: %v", err)
	}
	if err := l.FreeOwn(last-2, 1<<31-1); err == nil {
		t.Error("pages past the end were given back")
	}
}
