package wal

import (
	"math/rand/v2"
	"testing"
)

// TestSpace drives space at random beside a map of every block, and verifies that
// what it offers is free, keeps its reserve, and that the anchor stays.
func TestSpace(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := space{segs: []segment{{off: recordsAt, end: recordsAt}}}
		s.grow(recordsAt + block*int64(4+rng.IntN(40)))
		owner := map[int64]LSN{} // block: LSN behind the last live byte there
		type mark struct {
			p      Position
			anchor interval
		}
		marks := []mark{{Position{Offset: recordsAt}, interval{}}}
		released := mark{}
		run := int64(0) // where the run began that tails may follow
		live := func(off int64) bool {
			_, live := owner[off]
			return live || off >= s.anchor.from && off < s.anchor.to
		}
		note := func(at, n int64, anchor interval) {
			for off := floored(at); off < at+n; off += block {
				owner[off] = s.end() - LSN(max(s.last().end-off-block, 0))
			}
			marks = append(marks, mark{Position{LSN: s.end(), Offset: s.last().end}, anchor})
		}
		write := func(n int64, tails bool) {
			at := padded(s.last().end)
			for off := at; off < at+n; off += block {
				if live(off) || off+block > s.size {
					t.Fatalf("seed %d: wrote over offset %d", seed, off)
				}
			}
			s.wrote(n, tails)
			run = 0
			anchor := interval{at, at + block}
			if tails {
				run, anchor.to = at, padded(at+n)
			}
			note(at, n, anchor)
		}
		for range 400 {
			n := block * int64(1+rng.IntN(6))
			tails := rng.IntN(2) == 0
			if tails {
				n -= tailUnit * rng.Int64N(64)
			}
			switch {
			case rng.IntN(4) == 0:
				k := rng.IntN(len(marks))
				m := marks[k]
				if p := m.p; k > 0 && p.Offset%block != 0 {
					if p.Offset += 4; s.release(p) {
						t.Fatalf("seed %d: %+v released, where nothing can lie", seed, p)
					}
				}
				if !s.release(m.p) {
					t.Fatalf("seed %d: %+v not released", seed, m.p)
				}
				if m.p != released.p && s.anchor != m.anchor {
					t.Fatalf("seed %d: anchor %v, want %v", seed, s.anchor, m.anchor)
				}
				for off, lsn := range owner {
					if lsn <= m.p.LSN {
						delete(owner, off)
					}
				}
				released, marks = m, marks[k:]
			case run > 0 && rng.IntN(3) > 0:
				if n = tailUnit * (3 + rng.Int64N(100)); !s.fitsTail(n) {
					continue
				}
				at := s.last().end
				for off := padded(at); off < at+n; off += block {
					if live(off) || off+block > s.size {
						t.Fatalf("seed %d: a tail over offset %d", seed, off)
					}
				}
				s.wroteTail(n)
				note(at, n, interval{run, padded(at + n)})
			case s.fits(n):
				write(n, tails)
			case !s.room(n):
				if s.size > 64<<10 {
					continue
				}
				n = padded(n)
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
				link := padded(s.last().end)
				write(block, false)
				s.jump(off)
				s.relimit()
				marks[len(marks)-1] = mark{Position{LSN: s.end(), Offset: off}, interval{link, link + block}}
				write(n, tails)
			}
			if padded(s.last().end)+block > s.limit {
				t.Fatalf("seed %d: end %d, limit %d", seed, s.last().end, s.limit)
			}
			if n := s.live() - int64(len(owner))*block; n >= block || n < -2*block*int64(len(s.segs)) {
				t.Fatalf("seed %d: live %d of %d", seed, s.live(), len(owner)*block)
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
