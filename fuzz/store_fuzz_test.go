package fuzz

import "testing"

// longScript bounds the ops of one input of FuzzStore.
const longScript = 600

// FuzzStore runs the operations of TestModel as the native fuzzer's bytes choose
// them. The first bytes draw the options and the weights.
func FuzzStore(f *testing.F) {
	for seed := range uint64(8) {
		s := newSeeded(seed)
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(s.intn(256))
		}
		f.Add(b)
	}
	dir := scratch(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		s := &chosen{rest: choices}
		cfg := drawConfig(s)
		g := newGenerator(s, cfg)
		if _, failed := generated(dir, cfg, g, longScript, 0); failed != nil {
			failed.report(t, dir)
		}
	})
}
