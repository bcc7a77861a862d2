package folio

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// An arena keeps what it was given, whatever is added, made longer, joined and freed meanwhile, and in whatever order.
func TestArena(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var a arena
		fresh := func(n int) []byte { return bytes.Repeat(fmt.Append(nil, rng.Uint64()), n/16+1)[:n] }
		if seed%2 == 1 {
			for range 2 { // the second time it is there already
				if a.prepare(5 * arenaChunk); len(a.chunks) != 1 || len(a.chunks[0].buf) != 5*arenaChunk {
					t.Fatalf("seed %d: %d chunks", seed, len(a.chunks))
				}
				a.free(a.add(fresh(4 * arenaChunk)))
			}
		}
		type part struct{ got, want []byte }
		var parts []part
		size := func() int {
			switch rng.IntN(10) {
			case 0:
				return arenaChunk + rng.IntN(arenaChunk)
			case 1:
				return arenaChunk/4 + rng.IntN(arenaChunk/2)
			}
			return 1 + rng.IntN(2000)
		}
		for step := range 240 {
			switch k := len(parts) - 1; rng.IntN(6) {
			case 0, 1:
				b := fresh(size())
				parts = append(parts, part{a.add(b), b})
			case 2:
				if k >= 0 {
					more := fresh(1 + rng.IntN(3000))
					if b, ok := a.extend(parts[k].got, more); ok {
						parts[k] = part{b, append(parts[k].want, more...)}
					}
				}
			case 3:
				if k >= 1 {
					if b, ok := a.join(parts[k-1].got, parts[k].got); ok {
						parts[k-1] = part{b, append(parts[k-1].want, parts[k].want...)}
						parts = parts[:k]
					}
				}
			case 4:
				if k >= 0 {
					i := min(rng.IntN(k+1), rng.IntN(k+1)) // the older the sooner
					a.free(parts[i].got)
					parts = slices.Delete(parts, i, i+1)
				}
			case 5:
				if rng.IntN(20) == 0 {
					a.trim()
				}
				if rng.IntN(4) == 0 {
					n := (1 + rng.IntN(3)) * arenaChunk
					b := a.takeLarge(n)
					if len(b) < n {
						t.Fatalf("seed %d: %d bytes instead of %d", seed, len(b), n)
					}
					clear(b) // nobody else's
					a.giveLarge(b)
				}
				if rng.IntN(4) == 0 {
					b := vfs.Memory(3 * arenaChunk)
					want := fresh(2 * arenaChunk)
					got := b[:copy(b, want)]
					a.adopt(b)
					parts = append(parts, part{got, want})
				}
			}
			for i, p := range parts {
				if step%40 == 39 && !bytes.Equal(p.got, p.want) {
					t.Fatalf("seed %d: part %d of %d has changed", seed, i, len(parts))
				}
			}
		}
		for _, p := range parts {
			a.free(p.got)
		}
		if n := len(a.chunks); n > 1 || n == 1 && (a.chunks[0].parts != 0 || a.chunks[0].used != 0) {
			t.Errorf("seed %d: %d chunks are left", seed, n)
		}
		if len(a.spare) > arenaSpare {
			t.Errorf("seed %d: %d chunks are kept", seed, len(a.spare))
		}
		a.close()
	}
}

// Small parts share chunks. The first, which is all that most need, is a small one on the heap, and is used again until it is outgrown; from then on
// there are none like it.
func TestArenaShares(t *testing.T) {
	var a arena
	defer a.close()
	before := vfs.Memories()
	for range 3 {
		part := a.add(make([]byte, arenaFirst/2))
		if len(a.chunks) != 1 || len(a.chunks[0].buf) != arenaFirst || vfs.Memories() != before {
			t.Fatalf("%d chunks, the first of %d bytes", len(a.chunks), len(a.chunks[0].buf))
		}
		a.free(part)
	}
	var parts [][]byte
	for i := range 5000 {
		parts = append(parts, a.add(fmt.Append(nil, "operation ", i)))
	}
	if n := len(a.chunks); n != 2 || len(a.chunks[1].buf) != arenaChunk {
		t.Errorf("%d chunks for 80 KB", n)
	}
	for i, p := range parts {
		if string(p) != fmt.Sprint("operation ", i) {
			t.Fatalf("%d: %q", i, p)
		}
	}
	for _, p := range parts {
		a.free(p)
	}
	if part := a.add([]byte("more")); len(a.chunks) != 1 || len(a.chunks[0].buf) != arenaChunk {
		t.Errorf("%d chunks, the first of %d bytes, for %q", len(a.chunks), len(a.chunks[0].buf), part)
	}
}
