package page

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var seedFlag = flag.Uint64("page.seed", 0, "seed of the property tests; 0: a new one each time")

// chooser makes a test's decisions, from a seed or from a fuzzer's bytes.
type chooser interface {
	n(limit int) int // 0 <= result < limit
	more() bool      // whether to go on
}

type seeded struct {
	r    *rand.Rand
	left int
}

func (s *seeded) n(limit int) int { return s.r.IntN(limit) }
func (s *seeded) more() bool      { s.left--; return s.left >= 0 }

// newSeeded returns a chooser for a number of steps. When the test fails, it says how to repeat it.
func newSeeded(t *testing.T, steps int) *seeded {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with: go test ./page -run '^%s$' -page.seed=%d", t.Name(), seed)
		}
	})
	return &seeded{rand.New(rand.NewPCG(seed, 1)), steps}
}

type bytesChooser struct{ b []byte }

func (c *bytesChooser) more() bool { return len(c.b) > 0 }

func (c *bytesChooser) n(limit int) int {
	v := 0
	for m := limit - 1; m > 0 && len(c.b) > 0; m >>= 8 {
		v = v<<8 | int(c.b[0])
		c.b = c.b[1:]
	}
	return v % limit
}

// chooseKey returns keys that like to share beginnings, to be beginnings of each other, to hold zeros, and to be long.
func chooseKey(c chooser, pageSize int) []byte {
	starts := []string{"", "k", "\xff\xff\xff\xff", "user/", "user/0000", "0123456789abcdef0123456789abcdef0123456789abcdef"}
	key := []byte(starts[c.n(len(starts))])
	for n := c.n(7); n > 0; n-- {
		key = append(key, "\x00ab\xff"[c.n(4)])
	}
	switch c.n(16) {
	case 0:
		key = append(key, bytes.Repeat([]byte("x"), c.n(MaxKey(pageSize)))...)
	case 1:
		key = append(key, bytes.Repeat([]byte("x"), MaxKey(pageSize)-2+c.n(4))...)
	case 2, 3, 4, 5, 6, 7:
		key = fmt.Appendf(key, "%05d", c.n(10000))
	}
	if len(key) == 0 {
		key = []byte{0}
	}
	return key[:min(len(key), MaxKeyLen)]
}

// probes returns keys at, just below and just above key.
func probes(key []byte) [][]byte {
	up := append(bytes.Clone(key), 0)
	changed := bytes.Clone(key)
	changed[len(changed)/2]++
	shorter := key[:len(key)-1]
	lower := bytes.Clone(key)
	lower[len(lower)-1]--
	all := [][]byte{key, up, changed, lower, append(lower, 0xff)}
	if len(shorter) > 0 {
		all = append(all, shorter)
	}
	return all
}
