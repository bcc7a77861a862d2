package btree

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the model test, 0: a new one each time")
	traceFlag = flag.Bool("trace", false, "print the operations of the model test")
	steps     = flag.Int("steps", 1500, "operations for each seed of the model test")
	rounds    = flag.Int("rounds", 12, "seeds that the model test runs through")
)

// TestModel runs random operations against a tree and a model, in pages of several sizes, with keys of several kinds.
// Case F1 of RELIABILITY.md.
func TestModel(t *testing.T) {
	seed := *seedFlag
	n := *rounds
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		n = 1
	}
	if testing.Short() {
		n = max(n/8, 1)
	}
	for i := range n {
		s := seed + uint64(i)
		t.Run("", func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("replay: go test ./btree -run TestModel -seed=%d -steps=%d", s, *steps)
				}
			})
			w := newWorld(t, &seeded{rand.New(rand.NewPCG(s, 0)), *steps})
			if *traceFlag {
				w.tracer()
			}
			w.run()
		})
	}
}

// FuzzTree runs the operations that the input's bytes stand for against a tree and a model.
func FuzzTree(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		newWorld(t, &input{b}).run()
	})
}
