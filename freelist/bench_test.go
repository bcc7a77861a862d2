package freelist

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/foliodb/folio/page"
)

const benchPages = 1 << 20 // 4 GiB of 4 KiB pages

// withFree returns a list of benchPages pages in which every stride-th run of n pages
// is free.
func withFree(n, stride page.ID) *List {
	l := New(benchPages, 4096)
	for id := page.FirstID; id+n <= benchPages; id += stride {
		l.release(id, n)
	}
	l.runs.flush()
	return l
}

func BenchmarkAlloc(b *testing.B) {
	for _, shape := range []struct {
		name      string
		n, stride page.ID
	}{
		{"run of 1000000", benchPages - 2, benchPages},
		{"runs of 100", 100, 200},
		{"runs of 3", 3, 10},
		{"runs of 1", 1, 2},
	} {
		b.Run(shape.name, func(b *testing.B) {
			l := withFree(shape.n, shape.stride)
			for b.Loop() {
				if _, ok := l.Alloc(1); !ok {
					l.Rollback()
				}
			}
		})
	}
}

func BenchmarkAllocRun(b *testing.B) {
	for _, n := range []int{2, 16} {
		b.Run(fmt.Sprintf("%d pages", n), func(b *testing.B) {
			l := withFree(100, 200)
			for b.Loop() {
				if _, ok := l.Alloc(n); !ok {
					l.Rollback()
				}
			}
		})
	}
}

func BenchmarkFreeOwn(b *testing.B) {
	l := withFree(benchPages-2, benchPages)
	var ids []page.ID
	for b.Loop() {
		if len(ids) == 0 {
			b.StopTimer()
			for len(ids) < 100000 {
				id, _ := l.Alloc(1)
				ids = append(ids, id)
			}
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			b.StartTimer()
		}
		l.FreeOwn(ids[len(ids)-1], 1)
		ids = ids[:len(ids)-1]
	}
}

func BenchmarkExtend(b *testing.B) {
	l := New(2, 4096)
	for b.Loop() {
		if _, ok := l.Alloc(1); ok {
			b.Fatal("free page in a full file")
		}
		l.Extend(1, math.MaxUint32)
	}
}

// BenchmarkCommit has transactions that supersede 1000 scattered pages, with a checkpoint's
// pin, an old reader's, and two that follow the commits.
func BenchmarkCommit(b *testing.B) {
	const txs, first = 200, 1000
	r := rand.New(rand.NewPCG(1, 1))
	ids := r.Perm(benchPages - 2)
	var died []Dead
	for i := range txs * 1000 {
		died = append(died, Dead{page.ID(2 + ids[i]), 1, page.TxID(r.Uint64N(first))})
	}
	l, tx := New(benchPages, 4096), page.TxID(first)
	pins := make([]page.TxID, 4)
	for b.Loop() {
		i := tx - first
		if i == txs {
			b.StopTimer()
			l, tx, i = New(benchPages, 4096), first, 0
			b.StartTimer()
		}
		tx++
		copy(pins, []page.TxID{100, 900, tx - 2, tx - 1})
		l.Reclaim(pins)
		if err := l.Commit(tx, died[i*1000:][:1000], pins); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReclaim(b *testing.B) {
	pins := []page.TxID{100, 900, 1998, 1999}
	fill := func() *List {
		l := New(benchPages, 4096)
		r := rand.New(rand.NewPCG(1, 1))
		var died []Dead
		for id := page.FirstID; id < 200000; id += 2 {
			died = append(died, Dead{id, 1, page.TxID(r.Uint64N(2000))})
		}
		l.Commit(2000, died, pins)
		return l
	}
	b.Run("nothing gone", func(b *testing.B) {
		l := fill()
		for b.Loop() {
			l.Reclaim(pins)
		}
	})
	b.Run("100000 pages", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			l := fill()
			b.StartTimer()
			l.Reclaim(nil)
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	for _, stride := range []page.ID{2, 64, 4096} {
		l := withFree(1, stride)
		b.Run(fmt.Sprintf("take/%d extents", l.free.starts()), func(b *testing.B) {
			for b.Loop() {
				s, err := l.Snapshot(0, 0)
				if err != nil {
					b.Fatal(err)
				}
				l.Abandon(s)
			}
		})
		b.Run(fmt.Sprintf("encode/%d extents", l.free.starts()), func(b *testing.B) {
			s, err := l.Snapshot(0, 0)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.SetBytes(int64(len(s.Encode())))
			}
			l.Abandon(s)
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	l := withFree(1, 2)
	s, err := l.Snapshot(0, 0)
	if err != nil {
		b.Fatal(err)
	}
	set := s.Encode()
	for b.Loop() {
		if err := New(s.End, 4096).Load(set, s.Own); err != nil {
			b.Fatal(err)
		}
	}
}
