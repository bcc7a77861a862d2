package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// cold reads from a store that is not in memory: values at random from 16 goroutines, while one more computes, and then
// everything in order, next to a plain read of the same files.
func cold(b *bench) error {
	n := uint64(max(b.cfg.Cold/int64(b.s.Size), 100))
	for b.s.End < n {
		if err := b.putNext(min(uint64(b.cfg.LoadTx), n-b.s.End)); err != nil {
			return err
		}
	}
	alone := compute(b.cfg.Time)
	if err := b.reopenCold(); err != nil {
		return err
	}
	beside := make(chan float64, 1)
	b.begin()
	go func() { beside <- compute(b.cfg.Time) }()
	var total atomic.Uint64
	err := parallel(16, func(g int) error {
		random := rand.New(rand.NewPCG(2, uint64(g)))
		var key [keySize]byte
		n := uint64(0)
		defer func() { total.Add(n) }()
		for !b.over() {
			if rate := b.cfg.ColdRate; rate > 0 { // each goroutine has a sixteenth of the places in time, and makes up for those that it missed
				time.Sleep(time.Until(b.start.Add(time.Duration(16*n+uint64(g)) * time.Second / time.Duration(rate))))
			}
			err := b.st.View(func(r reader) error {
				value, err := r.Get(b.s.putKey(&key, present(b, random)))
				if err == nil && len(value) != b.s.Size {
					err = fmt.Errorf("get gives %d bytes", len(value))
				}
				if err == nil && addUp(value) == 0 {
					err = errors.New("a value is all zeros")
				}
				n++
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	b.rate("", total.Load())
	b.report(": a computing goroutine beside", unitShare, 100*<-beside/alone)
	if err != nil {
		return err
	}
	return b.coldScan()
}

// coldScan reads all values in order, and the files.
func (b *bench) coldScan() error {
	if err := b.reopenCold(); err != nil {
		return err
	}
	b.begin()
	n, sum := uint64(0), uint64(0)
	err := b.st.View(func(r reader) error {
		return r.Scan(nil, func(_, value []byte) bool {
			n++
			sum += addUp(value)
			return true
		})
	})
	if err == nil && (n != b.s.count() || sum == 0) {
		err = fmt.Errorf("a cold scan gives %d records", n)
	}
	b.report(": then a full scan, every byte read", unitBytes, float64(b.s.payload())/1e6/time.Since(b.start).Seconds())
	if err != nil {
		return err
	}
	if err := b.closeCold(); err != nil {
		return err
	}
	b.begin()
	bytes, err := readFiles(b.dir)
	b.report(": then a plain read of the files", unitBytes, float64(bytes)/1e6/time.Since(b.start).Seconds())
	return errors.Join(err, b.open())
}

// reopenCold opens the store with none of its files in the page cache.
func (b *bench) reopenCold() error {
	if err := b.closeCold(); err != nil {
		return err
	}
	return b.open()
}

// closeCold leaves none of the files in the page cache. What a process has mapped stays there, so the store must be closed: while it was
// open, a plain read of its files behind a scan came from memory.
func (b *bench) closeCold() error {
	if err := b.close(); err != nil {
		return err
	}
	return dropCache(b.dir)
}

// compute counts steps of a computation, in a second.
func compute(d time.Duration) float64 {
	start, steps, x := time.Now(), 0, uint64(1)
	for time.Since(start) < d {
		for range 1000 {
			x = mix(x)
		}
		steps++
	}
	if x == 0 {
		steps++ // so that the work is not optimised away
	}
	return float64(steps) / time.Since(start).Seconds()
}

// eachFile calls fn for each file of a store.
func eachFile(dir string, fn func(f *os.File) error) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(fn(f), f.Close())
	})
}

// readFiles reads all files from begin to end and returns how many bytes they have.
func readFiles(dir string) (n int64, err error) {
	buf := make([]byte, 1<<20)
	err = eachFile(dir, func(f *os.File) error {
		for {
			k, err := f.Read(buf)
			n += int64(k)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			addUp(buf[:k])
		}
	})
	return n, err
}
