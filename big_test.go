package folio

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests in this file show what the README says of large stores. They need gigabytes of disk and
// minutes of time, so they run only when asked: go test -run TestBig -folio.big -v -timeout 1h .
var big = flag.Bool("folio.big", false, "run the tests of large stores")

func needBig(t *testing.T) string {
	t.Helper()
	if !*big {
		t.Skip("large: run with -folio.big")
	}
	return filepath.Join(t.TempDir(), "big.db")
}

// resident returns the process's resident memory that is not shared with files, and all of it, in bytes.
func resident(t *testing.T) (anonymous, all int64) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	field := func(name string) int64 {
		var kb int64
		_, rest, _ := strings.Cut(string(status), name+":")
		fmt.Sscan(rest, &kb)
		return kb << 10
	}
	return field("RssAnon"), field("VmRSS")
}

// heapPeak samples the Go heap in use until stop is called, which returns the largest sample.
func heapPeak() (stop func() uint64) {
	var peak atomic.Uint64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(done)
		wg.Wait()
		return peak.Load()
	}
}

func fill(t *testing.T, db *DB, from, to, batch int, key func(uint64) []byte, value []byte) {
	t.Helper()
	for ; from < to; from += batch {
		err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := from; i < min(from+batch, to) && err == nil; i++ {
				err = b.Put(key(uint64(i)), value)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func ascendingKey(i uint64) []byte {
	k := make([]byte, 24)
	binary.BigEndian.PutUint64(k[16:], i)
	return k
}

// TestBigOpen opens a store of 4 GiB: the call takes less than a millisecond's work whatever the size, and touches
// next to nothing.
func TestBigOpen(t *testing.T) {
	path := needBig(t)
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("v"), 4000)
	fill(t, db, 0, 1_050_000, 20_000, ascendingKey, value)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	runtime.GC()
	anonymous, all := resident(t)
	var times []time.Duration
	for range 5 {
		start := time.Now()
		db, err := Open(path, nil)
		times = append(times, time.Since(start))
		if err != nil {
			t.Fatal(err)
		}
		a, r := resident(t)
		t.Logf("open of %d MiB: %v; resident +%d KiB, of it not of files +%d KiB", info.Size()>>20, times[len(times)-1], (r-all)>>10, (a-anonymous)>>10)
		if r-all > 10<<20 {
			t.Errorf("open made %d bytes resident", r-all)
		}
		if err := db.View(func(tx *Tx) error {
			if tx.Bucket([]byte("b")).Get(ascendingKey(777_777)) == nil {
				return fmt.Errorf("key is missing")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBigGrowthUnderView holds a View while the store grows by 1 GiB, and reads its snapshot to the end.
func TestBigGrowthUnderView(t *testing.T) {
	path := needBig(t)
	db, err := Open(path, &Options{reservation: 64 << 20}) // so that the mapping is replaced, several times
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill(t, db, 0, 100_000, 100_000, benchKey, benchValue)
	tx, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	value := bytes.Repeat([]byte("w"), 4000)
	for i := 0; i < 270_000; i += 1000 {
		start := time.Now()
		fill(t, db, i, i+1000, 1000, benchKey, value)
		if err := db.View(func(tx *Tx) error { tx.Bucket([]byte("b")).Get(benchKey(1)); return nil }); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
	}
	n := 0
	for _, v := range tx.Bucket([]byte("b")).All() {
		if !bytes.Equal(v, benchValue) {
			t.Fatal("the snapshot has changed")
		}
		n++
	}
	if n != 100_000 || tx.Err() != nil {
		t.Fatalf("%d items in the snapshot, %v", n, tx.Err())
	}
	info, _ := os.Stat(path)
	t.Logf("file grew to %d MiB; slowest batch of 1000 with a View %v", info.Size()>>20, slowest)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
}

// TestBigTransaction puts 10 million items in one transaction, in random order.
func TestBigTransaction(t *testing.T) {
	path := needBig(t)
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	runtime.GC()
	stop := heapPeak()
	start := time.Now()
	fill(t, db, 0, 10_000_000, 10_000_000, benchKey, benchValue)
	took := time.Since(start)
	peak := stop()
	info, _ := os.Stat(path)
	t.Logf("10 M puts in one transaction: %v, %.0f k/s, heap at most %d MiB, file %d MiB", took, 1e4/took.Seconds(), peak>>20, info.Size()>>20)
	if peak > 256<<20 {
		t.Errorf("heap of %d bytes", peak)
	}
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
}

// TestBigFileSize loads, overwrites and deletes a million items and looks at the file.
func TestBigFileSize(t *testing.T) {
	path := needBig(t)
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const n = 1_000_000
	payload := float64(n * 174)
	size := func(what string) float64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		r := float64(info.Size()) / payload
		t.Logf("%s: %d MiB, %.2f times the payload", what, info.Size()>>20, r)
		return r
	}
	fill(t, db, 0, n, 1000, benchKey, benchValue)
	size("after load in random order, 1000 a transaction")
	fill(t, db, 0, n, 1000, func(i uint64) []byte { return benchKey((i * 7919) % n) }, benchValue)
	if r := size("after overwriting each once"); r > 2 {
		t.Errorf("file is %.2f times the payload", r)
	}
	for from := 0; from < n; from += 1000 {
		err := db.Update(func(tx *Tx) error {
			b := tx.Bucket([]byte("b"))
			for i := from; i < from+1000; i++ {
				if k := uint64(i*7919) % n; k%10 != 0 {
					if err := b.Delete(benchKey(k)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	size("after deleting nine tenths")
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if r := size("after a checkpoint"); r > 1 {
		t.Errorf("file is %.2f times the old payload", r)
	}
	if tail := db.free.Tail(); int(tail) >= db.cutThreshold() {
		t.Errorf("%d free pages at the end", tail)
	}
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
}

// TestAllocations holds the promise that Get and Next do not allocate, and a View with a Get allocates at most twice.
func TestAllocations(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "a.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill(t, db, 0, 5000, 5000, benchKey, benchValue)
	key := benchKey(77)
	view := func(tx *Tx) error {
		if tx.Bucket([]byte("b")).Get(key) == nil {
			return fmt.Errorf("key is missing")
		}
		return nil
	}
	if n := testing.AllocsPerRun(200, func() { _ = db.View(view) }); n > 2 {
		t.Errorf("a View with a Get allocates %v times", n)
	}
	_ = db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		if n := testing.AllocsPerRun(200, func() { b.Get(key) }); n > 0 {
			t.Errorf("Get allocates %v times", n)
		}
		c := b.Cursor()
		c.First()
		if n := testing.AllocsPerRun(4000, func() { c.Next() }); n > 0 {
			t.Errorf("Next allocates %v times", n)
		}
		if n := testing.AllocsPerRun(4000, func() { c.Prev() }); n > 0 {
			t.Errorf("Prev allocates %v times", n)
		}
		return nil
	})
}
