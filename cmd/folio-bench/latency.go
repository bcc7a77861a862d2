package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// A checkpointer is a store that can be told to checkpoint. Where checkpoints are no notion of the store, there is none
// to be slowed down by.
type checkpointer interface{ Checkpoint() error }

// latency times single durable puts: alone, while a reader holds an old state of which much has been overwritten since,
// and beside checkpoints.
func latency(b *bench) error {
	clock := func() bool { return b.over() }
	b.begin()
	alone, err := b.timePuts(clock)
	if err != nil {
		return err
	}
	b.percentiles("", alone)
	if err := b.beside(func() error {
		b.begin()
		held, err := b.timePuts(clock)
		b.percentiles(", an old reader held", held)
		return err
	}); err != nil {
		return err
	}
	c, ok := b.st.(checkpointer)
	if !ok {
		return nil
	}
	var beside []time.Duration
	for range 5 {
		if err := b.rewrite(); err != nil { // so that there is something to write
			return err
		}
		done := make(chan error, 1)
		go func() { done <- c.Checkpoint() }()
		times, err := b.timePuts(func() bool { return len(done) > 0 })
		if err != nil {
			return err
		}
		if err := <-done; err != nil {
			return err
		}
		beside = append(beside, times...)
	}
	b.percentiles(", beside a checkpoint", beside)
	return nil
}

// timePuts puts new records until it is told to stop, ten at least, and returns how long each took.
func (b *bench) timePuts(stop func() bool) (times []time.Duration, err error) {
	v := newValues(b.s.Size)
	for len(times) < 10 || !stop() {
		start := time.Now()
		if err := b.put(v, b.s.End); err != nil {
			return times, err
		}
		times = append(times, time.Since(start))
		b.s.End++
	}
	return times, nil
}

// beside runs fn while a reader holds the state from before a tenth of the records was overwritten.
func (b *bench) beside(fn func() error) error {
	var wg sync.WaitGroup
	begun, end, failed := make(chan bool), make(chan bool), make(chan error, 1)
	wg.Go(func() {
		var key [keySize]byte
		err := b.st.View(func(r reader) error {
			get := func() error {
				value, err := r.Get(b.s.putKey(&key, b.s.First))
				if err == nil && len(value) != b.s.Size {
					err = fmt.Errorf("get gives %d bytes", len(value))
				}
				return err
			}
			if err := get(); err != nil {
				return err
			}
			begun <- true
			<-end
			return get()
		})
		if err != nil {
			failed <- err
			close(failed)
		}
	})
	defer wg.Wait()
	select {
	case err := <-failed:
		return err
	case <-begun:
	}
	defer close(end)
	if err := b.rewrite(); err != nil {
		return err
	}
	return fn()
}

// rewrite puts a tenth of the records again, in batches.
func (b *bench) rewrite() error {
	v := newValues(b.s.Size)
	end := b.s.First + max(b.s.count()/10, 1)
	for from := b.s.First; from < end; from += uint64(b.cfg.Batch) {
		if err := b.putRange(v, from, min(from+uint64(b.cfg.Batch), end)); err != nil {
			return err
		}
	}
	return nil
}

// percentiles reports the median and what one in a hundred exceeds.
func (b *bench) percentiles(name string, times []time.Duration) {
	slices.Sort(times)
	for _, p := range []struct {
		name string
		at   int
	}{{": median", 50}, {": 99th percentile", 99}} {
		at := min(len(times)*p.at/100, len(times)-1)
		b.report(name+p.name, unitTime, times[at].Seconds()*1000)
	}
}

// freePages times durable puts in a store that has no free pages to speak of, and again when it has many. Each record takes
// a page of its own, and the order in which they are stored makes every eighth page that of a record which stays.
func freePages(b *bench) error {
	const parts = 8
	n := uint64(b.cfg.Free)/(parts-1) + 1 // in a part
	v := newValues(b.s.Size)
	var key [keySize]byte
	for at := uint64(0); at < n*parts; {
		err := b.st.Update(func(w writer) error {
			for end := min(at+uint64(b.cfg.Batch), n*parts); at < end; at++ {
				i := at%parts*n + at/parts
				if err := w.Put(b.s.putKey(&key, i), v.of(i, 0)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.s.End = n * parts
	measure := func(name string) error {
		b.begin()
		times, err := b.timePuts(b.over)
		b.percentiles(name, times)
		return err
	}
	if err := measure(", none free"); err != nil {
		return err
	}
	if err := b.removeTo(n * (parts - 1)); err != nil {
		return err
	}
	return measure(", many free")
}
