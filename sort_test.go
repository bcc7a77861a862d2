package folio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foliodb/folio/wal"
)

// sortKeys are the sorts of keys that sorting may find easy or hard.
var sortKeys = []struct {
	name string
	key  func(r *rand.Rand, i int) []byte
}{
	{"random", func(r *rand.Rand, i int) []byte {
		var b [24]byte
		for j := 0; j < len(b); j += 8 {
			binary.BigEndian.PutUint64(b[j:], r.Uint64())
		}
		return b[:]
	}},
	{"prefixed", func(r *rand.Rand, i int) []byte { return fmt.Appendf(nil, "customer/%012d", r.Uint32()) }},
	{"ascending", func(r *rand.Rand, i int) []byte { return fmt.Appendf(nil, "%012d", i) }},
	{"few", func(r *rand.Rand, i int) []byte { return fmt.Appendf(nil, "counter of %d", r.IntN(10)) }},
	{"long alike", func(r *rand.Rand, i int) []byte { return fmt.Appendf(nil, "%0900d", r.IntN(1000)) }},
	{"zeros", func(r *rand.Rand, i int) []byte { return make([]byte, 1+r.IntN(40)) }},
	{"zeros and ones", func(r *rand.Rand, i int) []byte {
		b := make([]byte, 1+r.IntN(12))
		for j := range b {
			b[j] = byte(r.IntN(8) / 7)
		}
		return b
	}},
	{"outliers", func(r *rand.Rand, i int) []byte { // each eight bytes part a few from all others
		b := make([]byte, 900)
		b[i%100*8] = 1
		return b[:min(900, i%100*8+8+i%7)]
	}},
	{"short", func(r *rand.Rand, i int) []byte { return []byte{byte(r.Uint32())} }},
}

// unsorted is a sorter with n operations, in several parts and buckets.
func unsorted(key func(*rand.Rand, int) []byte, r *rand.Rand, n, parts, buckets int) (*sorter, error) {
	s := &sorter{}
	for p := range parts {
		var ops wal.Ops
		at := -1
		for i := range n / parts {
			if to := r.IntN(buckets); to != at {
				at = to
				ops.Bucket([][]byte{fmt.Append(nil, at)})
			}
			ops.Put(key(r, p*(n/parts)+i), make([]byte, r.IntN(20)))
		}
		if err := s.add(ops); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// The order is the one that comparing each two gives.
func TestSort(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, k := range sortKeys {
		for _, n := range []int{0, 1, 2, smallPile, smallPile + 1, 300, 5000} {
			for _, buckets := range []int{1, 3} {
				s, err := unsorted(k.key, r, n, 1+r.IntN(3), buckets)
				must(t, err)
				want := slices.Clone(s.changes)
				slices.SortFunc(want, s.compare)
				s.sort()
				for i := range want {
					w, g := want[i], s.changes[i]
					if w.bucket != g.bucket || w.part != g.part || w.at != g.at {
						t.Fatalf("%s, %d operations in %d buckets, seed %d: place %d has %v, want %v", k.name, n, buckets, seed, i, g, w)
					}
					if i == 0 {
						continue
					}
					a, b := &s.changes[i-1], &s.changes[i]
					key := s.op(a).Key
					if same := a.bucket == b.bucket && bytes.Equal(key, s.op(b).Key); same != s.isLater(a, b, key) {
						t.Fatalf("%s, seed %d: place %d: on the same item: %v", k.name, seed, i, same)
					}
				}
			}
		}
	}
}

func BenchmarkSort(b *testing.B) {
	for _, k := range sortKeys[:5] {
		s, err := unsorted(k.key, rand.New(rand.NewPCG(1, 1)), 100_000, 1, 1)
		if err != nil {
			b.Fatal(err)
		}
		fresh := slices.Clone(s.changes)
		for name, sort := range map[string]func(){
			"compared": func() { slices.SortFunc(s.changes, s.compare) },
			"dealt":    s.sort,
		} {
			b.Run(k.name+"/"+name, func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					copy(s.changes, fresh)
					b.StartTimer()
					sort()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(fresh)), "ns/change")
			})
		}
	}
}
