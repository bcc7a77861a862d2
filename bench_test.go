package folio

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// benchKey is key i of a table in random order: 24 bytes.
func benchKey(i uint64) []byte {
	k := make([]byte, 24)
	x := i * 0x9E3779B97F4A7C15
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 32
	binary.BigEndian.PutUint64(k, x)
	binary.BigEndian.PutUint64(k[8:], x*31)
	binary.BigEndian.PutUint64(k[16:], i)
	return k
}

var benchValue = make([]byte, 150)

// benchStore returns a store of n items in bucket "b".
func benchStore(b *testing.B, n int) *DB {
	b.Helper()
	db, err := Open(filepath.Join(b.TempDir(), "bench.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	err = db.Update(func(tx *Tx) error {
		c, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < n && err == nil; i++ {
			err = c.Put(benchKey(uint64(i)), benchValue)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

const benchItems = 200_000

func BenchmarkGet(b *testing.B) {
	db := benchStore(b, benchItems)
	keys := benchKeys(1 << 16)
	b.ReportAllocs()
	b.ResetTimer()
	err := db.View(func(tx *Tx) error {
		c := tx.Bucket([]byte("b"))
		for i := 0; b.Loop(); i++ {
			if c.Get(keys[i&(1<<16-1)]) == nil {
				return fmt.Errorf("key %d is missing", i)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func benchKeys(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = benchKey(rng.Uint64N(benchItems))
	}
	return keys
}

func BenchmarkView(b *testing.B) {
	db := benchStore(b, benchItems)
	keys := benchKeys(1 << 16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		err := db.View(func(tx *Tx) error {
			if tx.Bucket([]byte("b")).Get(keys[i&(1<<16-1)]) == nil {
				return fmt.Errorf("key %d is missing", i)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	db := benchStore(b, benchItems)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		_ = db.View(func(tx *Tx) error {
			for range tx.Bucket([]byte("b")).All() {
				n++
			}
			return nil
		})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/item")
}

func benchUpdates(b *testing.B, batch int, d Durability) {
	db := benchStore(b, benchItems)
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		err := db.Update(func(tx *Tx) error {
			tx.SetDurability(d)
			c := tx.Bucket([]byte("b"))
			for range batch {
				if err := c.Put(benchKey(rng.Uint64()), benchValue); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "puts/s")
}

func BenchmarkPutSync(b *testing.B)    { benchUpdates(b, 1, Sync) }
func BenchmarkPutRelaxed(b *testing.B) { benchUpdates(b, 1, Relaxed) }
func BenchmarkBatch1000(b *testing.B)  { benchUpdates(b, 1000, Sync) }

func BenchmarkPutParallel(b *testing.B) {
	db := benchStore(b, benchItems)
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			err := db.Update(func(tx *Tx) error {
				return tx.Bucket([]byte("b")).Put(benchKey(rand.Uint64()), benchValue)
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}

func benchLoad(b *testing.B, key func(i uint64) []byte) {
	for b.Loop() {
		db, err := Open(filepath.Join(b.TempDir(), "load.db"), nil)
		if err != nil {
			b.Fatal(err)
		}
		for from := 0; from < benchItems; from += 100_000 {
			err := db.Update(func(tx *Tx) error {
				c, err := tx.CreateBucketIfNotExists([]byte("b"))
				for i := from; i < from+100_000 && err == nil; i++ {
					err = c.Put(key(uint64(i)), benchValue)
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*benchItems)/b.Elapsed().Seconds(), "puts/s")
}

func BenchmarkLoadRandom(b *testing.B) { benchLoad(b, benchKey) }

func BenchmarkLoadAscending(b *testing.B) {
	benchLoad(b, func(i uint64) []byte {
		k := make([]byte, 24)
		binary.BigEndian.PutUint64(k[16:], i)
		return k
	})
}
