package wal

import (
	"math/rand/v2"
	"testing"
)

// TestSpace drives space at random beside a map of every block, and verifies that
// what it offers is free, keeps its reserve, and that the anchor stays.
func TestSpace(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := space{segs: []segment{{off: recordsAt, end: recordsAt}}}
		s.grow(recordsAt + block*int64(4+rng.IntN(40)))
		owner := map[int64]LSN{} // block: LSN of the live byte there
		type mark struct {
			p      Position
			anchor int64
		}
		marks := []mark{{Position{Offset: recordsAt}, 0}}
		released := mark{}
		write := func(n int64) {
			at := s.last().end
			for off := at; off < at+n; off += block {
				if old, live := owner[off]; live || off == s.anchor && s.anchor != 0 || off+block > s.size {
					t.Fatalf("seed %d: wrote over offset %d, lsn %d", seed, off, old)
				}
				owner[off] = s.end() + LSN(off-at)
			}
			s.wrote(n)
			marks = append(marks, mark{Position{LSN: s.end(), Offset: s.last().end}, at})
		}
		for range 300 {
			n := block * int64(1+rng.IntN(6))
			switch {
			case rng.IntN(4) == 0:
				k := rng.IntN(len(marks))
				m := marks[k]
				if !s.release(m.p) {
					t.Fatalf("seed %d: %+v not released", seed, m.p)
				}
				if m.p != released.p && s.anchor != m.anchor {
					t.Fatalf("seed %d: anchor %d, want %d", seed, s.anchor, m.anchor)
				}
				for off, lsn := range owner {
					if lsn < m.p.LSN {
						delete(owner, off)
					}
				}
				released, marks = m, marks[k:]
			case s.fits(n):
				write(n)
			case !s.room(n):
				if s.size > 64<<10 {
					continue
				}
				need := s.need(n)
				if s.grow(need - block); s.room(n) {
					t.Fatalf("seed %d: need %d for %d, fits in less", seed, need, n)
				}
				if s.grow(need); !s.room(n) {
					t.Fatalf("seed %d: need %d for %d does not do", seed, need, n)
				}
			default:
				off, ok := s.place(n)
				if !ok {
					t.Fatal("room, but no place")
				}
				link := s.last().end
				write(block)
				s.jump(off)
				s.relimit()
				marks[len(marks)-1] = mark{Position{LSN: s.end(), Offset: off}, link}
				write(n)
			}
			if s.last().end+block > s.limit || s.live() != int64(len(owner))*block {
				t.Fatalf("seed %d: end %d, limit %d, live %d of %d", seed, s.last().end, s.limit, s.live(), len(owner)*block)
			}
		}
	}
}

// TestBlocks compares the bit set with a map.
func TestBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	const n = 300
	b, want := newBlocks(n*block), [n]bool{}
	for range 20000 {
		from, to := int64(rng.IntN(n)), int64(rng.IntN(n))
		if from > to {
			from, to = to, from
		}
		switch rng.IntN(6) {
		case 0:
			b.add(from * block)
			want[from] = true
		case 1:
			b.removeRange(from*block, (to-from)*block)
			clear(want[from:to])
		case 2:
			if to-from > 5 {
				continue
			}
			fresh := true
			for i := from; i < to; i++ {
				fresh = fresh && !want[i]
				want[i] = true
			}
			if b.addRange(from*block, (to-from)*block) != fresh {
				t.Fatal("fresh is wrong")
			}
		default:
			last := int64(-1)
			for i := to - 1; i >= from && last < 0; i-- {
				if want[i] {
					last = i * block
				}
			}
			if got := b.last(from*block, to*block); got != last {
				t.Fatalf("last of [%d, %d): %d, want %d", from, to, got/block, last/block)
			}
		}
	}
	if b = b.grown(10 * n * block); b.has((10*n - 1) * block) {
		t.Error("grown set has more members")
	}
}
