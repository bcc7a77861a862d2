package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// mix5 is a workload of YCSB: how many of a hundred operations are of each kind. Each is a transaction, durable if it
// writes; a read-modify-write is a read, and then a write.
type mix5 struct{ read, update, insert, scan, modify int }

const ycsbGoroutines = 8

// ycsb runs a mix. Records are chosen by a zipfian distribution, the popular ones spread over all; where there are
// inserts and reads (D), the newest are the popular ones.
func ycsb(m mix5) func(*bench) error {
	return func(b *bench) error {
		loaded := b.s
		zipf := newZipfian(loaded.count())
		var total, next atomic.Uint64
		next.Store(loaded.End)
		b.begin()
		err := parallel(ycsbGoroutines, func(g int) error {
			c := &client{b: b, s: loaded, v: newValues(loaded.Size), random: rand.New(rand.NewPCG(5, uint64(g)))}
			n := uint64(0)
			defer func() { total.Add(n) }()
			for ; n == 0 || !b.over(); n++ {
				i := loaded.First + mix(zipf.next(c.random))%loaded.count()
				if m.insert > 0 && m.read > 0 {
					i = loaded.End - 1 - zipf.next(c.random)
				}
				if err := c.do(m, i, &next); err != nil {
					return err
				}
			}
			return nil
		})
		b.s.End = next.Load()
		b.rate("", total.Load())
		return err
	}
}

// client is what one goroutine needs.
type client struct {
	b      *bench
	s      state // when the workload began
	v      *values
	random *rand.Rand
	key    [keySize]byte
}

// do runs one operation on record i, or inserts the next record.
func (c *client) do(m mix5, i uint64, next *atomic.Uint64) error {
	switch p := c.random.IntN(100); {
	case p < m.read:
		return c.read(i)
	case p < m.read+m.update:
		return c.write(i)
	case p < m.read+m.update+m.insert:
		return c.write(next.Add(1) - 1)
	case p < m.read+m.update+m.insert+m.scan:
		left := 1 + c.random.IntN(100)
		return c.b.st.View(func(r reader) error {
			return r.Scan(c.s.putKey(&c.key, i), func(_, _ []byte) bool {
				left--
				return left > 0
			})
		})
	}
	if err := c.read(i); err != nil {
		return err
	}
	return c.write(i)
}

func (c *client) read(i uint64) error {
	return c.b.st.View(func(r reader) error {
		value, err := r.Get(c.s.putKey(&c.key, i))
		if err == nil && len(value) != c.s.Size {
			err = fmt.Errorf("get of record %d gives %d bytes", i, len(value))
		}
		return err
	})
}

// write gives record i a value that differs from the one before, which some engines would otherwise leave in place.
func (c *client) write(i uint64) error {
	stamp := c.s.Round<<32 | uint64(c.random.Uint32())
	return c.b.st.Update(func(w writer) error { return w.Put(c.s.putKey(&c.key, i), c.v.of(i, stamp)) })
}

// zipfian gives numbers below n, the smaller the more often, with YCSB's exponent of 0.99. The method is that of Gray et
// al., "Quickly generating billion-record synthetic databases", which YCSB uses too: math/rand's needs more than 1.
type zipfian struct{ n, zeta, alpha, eta, second float64 }

const theta = 0.99

func newZipfian(n uint64) *zipfian {
	z := &zipfian{n: float64(n), alpha: 1 / (1 - theta), second: 1 + math.Pow(0.5, theta)}
	for i := uint64(1); i <= n; i++ {
		z.zeta += math.Pow(float64(i), -theta)
	}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - z.second/z.zeta)
	return z
}

func (z *zipfian) next(random *rand.Rand) uint64 {
	u := random.Float64()
	switch uz := u * z.zeta; {
	case uz < 1:
		return 0
	case uz < z.second:
		return min(1, uint64(z.n)-1)
	}
	return min(uint64(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)), uint64(z.n)-1)
}
