package folio

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Several goroutines write, each a bucket of its own, of which every commit sets all keys to one value; others read, one checkpoints, and
// from time to time the files are copied as the death of the process would leave them. Nobody ever sees half of a commit, or less than what had been
// acknowledged before. Transactions are small and large, deferred and in the tree, relaxed and not. With the race detector it has found that a
// large transaction was written to the log from a buffer that the next one used already.
func TestWritersReadersAndCrashes(t *testing.T) {
	for round, o := range []*Options{
		{MemoryLimit: minLimit, LogLimit: minLimit, Durability: Relaxed},
		{MemoryLimit: 1 << 20, LogLimit: 1 << 20},
		{Durability: Relaxed},
		{},
	} {
		db := mustOpen(t, o)
		const writers, keys = 4, 60
		must(t, db.Update(func(tx *Tx) error {
			for w := range writers {
				if _, err := tx.CreateBucket(fmt.Append(nil, "w", w)); err != nil {
					return err
				}
			}
			return nil
		}))
		var acked [writers]atomic.Int64
		var stop atomic.Bool
		var all sync.WaitGroup
		verify := func(db *DB, atLeast func(w int) int64) error {
			var want [writers]int64
			for w := range writers {
				want[w] = atLeast(w)
			}
			return db.View(func(tx *Tx) error {
				for w := range writers {
					b := tx.Bucket(fmt.Append(nil, "w", w))
					first := b.Get([]byte("k000"))
					if first == nil {
						if want[w] > 0 {
							return fmt.Errorf("writer %d has nothing", w)
						}
						continue
					}
					var n int64
					fmt.Sscanf(string(first[:12]), "%d", &n)
					if n < want[w] {
						return fmt.Errorf("writer %d: %d, acknowledged %d", w, n, want[w])
					}
					for k := range keys {
						v := b.Get(fmt.Appendf(nil, "k%03d", k))
						if v == nil || string(v[:12]) != string(first[:12]) {
							return fmt.Errorf("writer %d key %d: %.12q, want %.12q", w, k, v, first)
						}
					}
				}
				return nil
			})
		}
		for w := range writers {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), uint64(round)))
				for n := int64(1); !stop.Load(); n++ {
					size := rng.IntN(60)
					extra := 0
					if round >= 2 && rng.IntN(5) == 0 {
						extra = 500 + rng.IntN(1500) // of a thousand bytes
					} else if round < 2 && rng.IntN(8) == 0 {
						extra = 100 + rng.IntN(400)
					}
					back := rng.IntN(10) == 0
					err := db.Update(func(tx *Tx) error {
						if rng.IntN(3) == 0 {
							tx.SetDurability(Durability(1 + rng.IntN(2)))
						}
						b := tx.Bucket(fmt.Append(nil, "w", w))
						if rng.IntN(6) == 0 {
							b.Get([]byte("k000"))
						}
						for k := range keys {
							if err := b.Put(fmt.Appendf(nil, "k%03d", k), append(fmt.Appendf(nil, "%012d", n), make([]byte, size)...)); err != nil {
								return err
							}
							if rng.IntN(500) == 0 {
								b.Len()
							}
						}
						for range extra {
							if err := b.Put(fmt.Appendf(nil, "x%05d", rng.IntN(3000)), make([]byte, 1000)); err != nil {
								return err
							}
						}
						if back {
							return errTakenBack
						}
						return nil
					})
					if back && errors.Is(err, errTakenBack) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					acked[w].Store(n)
				}
			})
		}
		for range 2 {
			all.Go(func() {
				for !stop.Load() {
					if err := verify(db, func(w int) int64 { return acked[w].Load() }); err != nil {
						t.Error(err)
						stop.Store(true)
					}
					time.Sleep(time.Millisecond * time.Duration(rand.IntN(30)))
				}
			})
		}
		all.Go(func() {
			for !stop.Load() {
				time.Sleep(50 * time.Millisecond)
				if err := db.Checkpoint(); err != nil {
					t.Error(err)
				}
			}
		})
		for range 3 {
			time.Sleep(400 * time.Millisecond)
			var was [writers]int64
			for w := range writers {
				was[w] = acked[w].Load()
			}
			// A crash is one moment and a copy takes time. Of what is written meanwhile it may have the later part without the
			// earlier one, which nobody can tell from a damaged log: once a slow machine made this test fail.
			db.checkpointing.Lock()
			db.append.Lock()
			path := crashCopy(t, db.Path())
			db.append.Unlock()
			db.checkpointing.Unlock()
			c, err := Open(path, o)
			if err != nil {
				t.Error(err)
				break
			}
			if err := errors.Join(verify(c, func(w int) int64 { return was[w] }), c.Check(), c.Close()); err != nil {
				t.Error(err)
			}
		}
		stop.Store(true)
		all.Wait()
		must(t, verify(db, func(w int) int64 { return acked[w].Load() }))
		must(t, errors.Join(db.Check(), db.Close()))
	}
}
