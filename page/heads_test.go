package page

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

func TestCountBelow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 1500 {
		if n > 300 && n%37 != 0 {
			continue
		}
		heads := make([]uint32, n)
		limit := []uint32{1 << 31, 100, 3}[n%3] // few values: many equal ones
		for i := range heads {
			heads[i] = r.Uint32N(limit) * 2
		}
		if n > 3 {
			heads[0], heads[1] = 0, 1<<32-1
		}
		slices.Sort(heads)
		var dense, wide []byte
		for _, h := range heads {
			dense = le.AppendUint32(dense, h)
			wide = le.AppendUint32(le.AppendUint32(wide, h), r.Uint32())
		}
		keys := []uint32{0, 1, 1<<32 - 1, 1<<32 - 2, limit}
		for range 40 {
			keys = append(keys, r.Uint32N(limit)*2, r.Uint32N(limit)*2+1)
		}
		for _, key := range keys {
			want := sort.Search(n, func(i int) bool { return heads[i] >= key })
			if got := countBelow(dense, key); got != want {
				t.Fatalf("%d of %d heads below %08x, want %d", got, n, key, want)
			}
			if got := countBelowWide(wide, key); got != want {
				t.Fatalf("wide: %d of %d heads below %08x, want %d", got, n, key, want)
			}
		}
	}
}

func TestHeadOrder(t *testing.T) {
	c := newSeeded(t, 20000)
	for c.more() {
		a, b := chooseKey(c, 4096), chooseKey(c, 4096)
		if x, y := headOf(a), headOf(b); x != y && (x < y) != (bytes.Compare(a, b) < 0) {
			t.Fatalf("heads of %q and %q are %08x and %08x", a, b, x, y)
		}
		n := CommonLen(a, b)
		if !bytes.Equal(a[:n], b[:n]) || n < len(a) && n < len(b) && a[n] == b[n] {
			t.Fatalf("%q and %q have %d bytes in common", a, b, n)
		}
		if bytes.Compare(a, b) < 0 {
			s := Shortest(a, b)
			if !bytes.HasPrefix(b, s) || bytes.Compare(a, s) >= 0 || bytes.Compare(a, s[:len(s)-1]) < 0 {
				t.Fatalf("%q is not the shortest separator of %q and %q", s, a, b)
			}
		}
	}
}

// The other ways to count, against which countBelow was chosen.

func countLinear(h []byte, key uint32) int {
	n := 0
	for len(h) >= 16 {
		n += less(le.Uint32(h), key) + less(le.Uint32(h[4:]), key) + less(le.Uint32(h[8:]), key) + less(le.Uint32(h[12:]), key)
		h = h[16:]
	}
	for len(h) >= 4 {
		n += less(le.Uint32(h), key)
		h = h[4:]
	}
	return n
}

func countBinary(h []byte, key uint32) int {
	base, n := 0, len(h)/4
	for n > 1 {
		half := n >> 1
		base += half & -less(le.Uint32(h[4*(base+half-1):]), key)
		n -= half
	}
	if n == 1 {
		base += less(le.Uint32(h[4*base:]), key)
	}
	return base
}

func countHybrid(h []byte, key uint32) int {
	base, n := 0, len(h)/4
	for n > 16 {
		half := n >> 1
		base += half & -less(le.Uint32(h[4*(base+half-1):]), key)
		n -= half
	}
	return base + countLinear(h[4*base:4*(base+n)], key)
}

func BenchmarkCount(b *testing.B) {
	ways := []struct {
		name  string
		count func(h []byte, key uint32) int
	}{{"eighths", countBelow}, {"linear", countLinear}, {"binary", countBinary}, {"hybrid", countHybrid}}
	for _, n := range []int{10, 20, 40, 150, 250, 1000} {
		r := rand.New(rand.NewPCG(1, 2))
		var pages [64][]byte
		for i := range pages {
			heads := make([]uint32, n)
			for j := range heads {
				heads[j] = r.Uint32()
			}
			slices.Sort(heads)
			pages[i], _ = binary.Append(nil, le, heads)
		}
		keys := make([]uint32, 1<<15)
		for i := range keys {
			keys[i] = r.Uint32()
		}
		for _, w := range ways {
			b.Run(fmt.Sprintf("%s/%d", w.name, n), func(b *testing.B) {
				s := 0
				for i := 0; b.Loop(); i++ {
					s = w.count(pages[(i+s>>20)%len(pages)], keys[(7*i+s>>20)%len(keys)])
				}
				benchSink += s
			})
		}
	}
}
