package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A workload is one measurement. It runs in a process of its own, on the store that the one before it left.
type workload struct {
	name, title string
	run         func(*bench) error
	fresh       bool // begins with an empty store
	relaxed     bool // commits need not be durable
	load        bool // many records at once into an empty store
	reads       bool // reads only
	opens       bool // about opening: not warmed up first, as all others are that do not begin with an empty store
	value       int  // bytes in a value; 0: as the flag says
	sized       bool // the files are measured afterwards, while the store is open and when it is closed
}

// workloads are run in this order: reads first, on a store as it was loaded, then writes, and the sizes of values last.
var workloads = []*workload{
	{name: "load", title: "load, random order, in large transactions", run: load(true), fresh: true, load: true, sized: true},
	{name: "get", title: "get, one transaction", run: gets(1, true, present), reads: true},
	{name: "get-tx", title: "get, a transaction each", run: gets(1, false, present), reads: true},
	{name: "get-2", title: "get, 2 goroutines", run: gets(2, true, present), reads: true},
	{name: "get-8", title: "get, 8 goroutines", run: gets(8, true, present), reads: true},
	{name: "get-absent", title: "get of absent keys", run: gets(1, true, absent), reads: true},
	{name: "seek", title: "seek and 10 records", run: seeks, reads: true},
	{name: "scan", title: "full scan", run: scan(false, false), reads: true},
	{name: "scan-back", title: "full scan backward", run: scan(true, false), reads: true},
	{name: "scan-bytes", title: "full scan, every byte read", run: scan(false, true), reads: true},
	{name: "put-durable-1", title: "durable put, 1 goroutine", run: puts(1)},
	{name: "put-durable-16", title: "durable put, 16 goroutines", run: puts(16)},
	{name: "put-durable-128", title: "durable put, 128 goroutines", run: puts(128)},
	{name: "put-relaxed", title: "relaxed put, one a transaction", run: puts(1), relaxed: true},
	{name: "batch", title: "durable puts, 1000 a transaction", run: batches, sized: true},
	{name: "latency", title: "time of a durable put", run: latency},
	{name: "mixed", title: "gets beside a durable writer", run: mixed},
	{name: "ycsb-a", title: "YCSB A: half reads, half updates", run: ycsb(mix5{read: 50, update: 50})},
	{name: "ycsb-b", title: "YCSB B: 95 % reads, 5 % updates", run: ycsb(mix5{read: 95, update: 5})},
	{name: "ycsb-c", title: "YCSB C: reads", run: ycsb(mix5{read: 100})},
	{name: "ycsb-d", title: "YCSB D: 95 % reads of the latest, 5 % inserts", run: ycsb(mix5{read: 95, insert: 5})},
	{name: "ycsb-e", title: "YCSB E: 95 % short scans, 5 % inserts", run: ycsb(mix5{scan: 95, insert: 5})},
	{name: "ycsb-f", title: "YCSB F: half reads, half read-modify-write", run: ycsb(mix5{read: 50, modify: 50})},
	{name: "overwrite", title: "overwrite of all records, 1000 a transaction", run: overwrite, sized: true},
	{name: "reopen", title: "open after a clean close", run: reopen, opens: true},
	{name: "reopen-kill", title: "open after kill -9 with a full log", run: reopenKilled, opens: true},
	{name: "remove", title: "removal of half, 1000 a transaction", run: remove, sized: true},
	{name: "load-one", title: "load, random order, in one transaction", run: load(false), fresh: true, load: true, sized: true},
	{name: "load-ascending", title: "load, ascending", run: loadAscending, fresh: true, load: true, sized: true},
	{name: "put-4k", title: "durable put of 4 KiB", run: bigPuts, fresh: true, value: 4 << 10, sized: true},
	{name: "get-4k", value: 4 << 10, title: "get of 4 KiB, every byte read", run: bigGets, reads: true},
	{name: "put-64k", title: "durable put of 64 KiB", run: bigPuts, fresh: true, value: 64 << 10, sized: true},
	{name: "get-64k", value: 64 << 10, title: "get of 64 KiB, every byte read", run: bigGets, reads: true},
	{name: "put-1m", title: "durable put of 1 MiB", run: bigPuts, fresh: true, value: 1 << 20, sized: true},
	{name: "get-1m", value: 1 << 20, title: "get of 1 MiB, every byte read", run: bigGets, reads: true},
	{name: "free-pages", title: "time of a durable put of a page", run: freePages, fresh: true, value: 4000},
	{name: "cold", title: "cold get, 16 goroutines", run: cold, fresh: true, value: 1000},
}

// load puts all records into an empty store. It is durable when the last Update has returned.
func load(inParts bool) func(*bench) error {
	return func(b *bench) error {
		part := uint64(b.cfg.N)
		if inParts {
			part = uint64(min(b.cfg.N, b.cfg.LoadTx))
		}
		b.begin()
		for b.s.End < uint64(b.cfg.N) {
			if err := b.putNext(min(part, uint64(b.cfg.N)-b.s.End)); err != nil {
				return err
			}
		}
		b.rate("", b.s.count())
		return nil
	}
}

func loadAscending(b *bench) error {
	// The last key stays below the largest number, with room for those that later workloads append.
	b.s.Stride = math.MaxUint64 / 4 / uint64(b.cfg.N)
	return load(true)(b)
}

// chooser gives the number of a record to read.
type chooser func(b *bench, random *rand.Rand) uint64

func present(b *bench, random *rand.Rand) uint64 { return b.s.First + random.Uint64N(b.s.count()) }

// absent gives records that no workload ever stores.
func absent(_ *bench, random *rand.Rand) uint64 { return 1<<62 | random.Uint64N(1<<40) }

// gets reads records from several goroutines, each in one transaction or each get in its own.
func gets(goroutines int, oneTx bool, choose chooser) func(*bench) error {
	return func(b *bench) error {
		want := choose(b, rand.New(rand.NewPCG(1, 1))) < b.s.End
		var total atomic.Uint64
		b.begin()
		err := parallel(goroutines, func(g int) error {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			n := uint64(0)
			var key [keySize]byte
			get := func(r reader) error {
				value, err := r.Get(b.s.putKey(&key, choose(b, random)))
				if err == nil && (len(value) == b.s.Size) != want {
					err = fmt.Errorf("get gives %d bytes; should be there: %t", len(value), want)
				}
				n++
				return err
			}
			defer func() { total.Add(n) }()
			if !oneTx {
				for {
					if err := b.st.View(get); err != nil || n%64 == 0 && b.over() {
						return err
					}
				}
			}
			return b.st.View(func(r reader) error {
				for {
					if err := get(r); err != nil || n%64 == 0 && b.over() {
						return err
					}
				}
			})
		})
		b.rate("", total.Load())
		return err
	}
}

func seeks(b *bench) error {
	random := rand.New(rand.NewPCG(1, 2))
	var key [keySize]byte
	n := uint64(0)
	b.begin()
	err := b.st.View(func(r reader) error {
		for ; n%64 != 0 || n == 0 || !b.over(); n++ {
			left := 11
			err := r.Scan(b.s.putKey(&key, present(b, random)), func(_, value []byte) bool {
				left--
				return left > 0 && len(value) == b.s.Size
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	b.rate("", n)
	return err
}

// scan reads all records, three times over at least. Where no byte is to be read it still takes the slices.
func scan(back, readBytes bool) func(*bench) error {
	return func(b *bench) error {
		n, size, sum := uint64(0), 0, uint64(0)
		look := func(key, value []byte) bool {
			n++
			size += len(key) + len(value)
			if readBytes {
				sum += addUp(key) + addUp(value)
			}
			return true
		}
		rounds := uint64(0)
		b.begin()
		for ; rounds < 3 || !b.over(); rounds++ {
			err := b.st.View(func(r reader) error {
				if back {
					return r.ScanBack(look)
				}
				return r.Scan(nil, look)
			})
			if err != nil {
				return err
			}
		}
		b.rate("", n)
		runtime.KeepAlive(sum)
		if n != rounds*b.s.count() || int64(size) != int64(rounds)*b.s.payload() {
			return fmt.Errorf("scans gave %d records and %d bytes in %d rounds", n, size, rounds)
		}
		return nil
	}
}

// puts stores new records, each in a durable transaction, until the time is over or the store has grown by a fifth.
func puts(goroutines int) func(*bench) error {
	return func(b *bench) error {
		first := b.s.End
		last := first + max(uint64(b.cfg.N)/5, 1)
		var next atomic.Uint64
		next.Store(first)
		b.begin()
		err := parallel(goroutines, func(int) error {
			v := newValues(b.s.Size)
			for {
				i := next.Add(1) - 1
				if i >= last {
					return nil
				}
				if err := b.put(v, i); err != nil || b.over() {
					return err
				}
			}
		})
		b.s.End = min(next.Load(), last)
		b.rate("", b.s.End-first)
		return err
	}
}

func batches(b *bench) error {
	first, size := b.s.End, uint64(b.cfg.Batch)
	b.begin()
	for b.s.End == first || b.s.End < first+uint64(b.cfg.N)/5 && !b.over() {
		if err := b.putNext(size); err != nil {
			return err
		}
	}
	b.rate("", b.s.End-first)
	return nil
}

// mixed gets from one goroutine, a transaction each, while another puts new records, each durable.
func mixed(b *bench) error {
	first := b.s.End
	random := rand.New(rand.NewPCG(1, 3))
	v := newValues(b.s.Size)
	var key [keySize]byte
	get := func(r reader) error {
		value, err := r.Get(b.s.putKey(&key, present(b, random)))
		if err == nil && len(value) != b.s.Size {
			err = fmt.Errorf("get gives %d bytes", len(value))
		}
		return err
	}
	works := []func(n uint64) error{
		func(uint64) error { return b.st.View(get) },
		func(n uint64) error { return b.put(v, first+n) },
	}
	done := make([]uint64, len(works))
	b.begin()
	err := parallel(len(works), func(g int) error {
		for n := uint64(0); ; {
			if err := works[g](n); err != nil {
				return err
			}
			if n++; b.over() {
				done[g] = n
				return nil
			}
		}
	})
	b.rate("", done[0])
	b.rate(": the writer", done[1])
	if b.e.keeps {
		b.s.End += done[1]
	}
	return err
}

// overwrite gives each record a new value, in an order that is random to the store.
func overwrite(b *bench) error {
	b.s.Round++
	v := newValues(b.s.Size)
	b.begin()
	for from := b.s.First; from < b.s.End; from += uint64(b.cfg.Batch) {
		to := min(from+uint64(b.cfg.Batch), b.s.End)
		if err := b.putRange(v, from, to); err != nil {
			return err
		}
	}
	b.rate("", b.s.count())
	return nil
}

func remove(b *bench) error {
	before := b.s.count()
	b.begin()
	if err := b.removeTo(b.s.First + before/2); err != nil {
		return err
	}
	b.rate("", before-b.s.count())
	return nil
}

// removeTo removes the records below a number, in batches.
func (b *bench) removeTo(end uint64) error {
	var key [keySize]byte
	for b.s.First < end {
		to := min(b.s.First+uint64(b.cfg.Batch), end)
		err := b.st.Update(func(w writer) error {
			for i := b.s.First; i < to; i++ {
				if err := w.Delete(b.s.putKey(&key, i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.s.First = to
	}
	return nil
}

// reopen opens the store a few times, each time until it has answered a first get.
func reopen(b *bench) error {
	for range 5 {
		if err := b.close(); err != nil {
			return err
		}
		if err := b.openTimed(); err != nil {
			return err
		}
	}
	b.durations("")
	return nil
}

// reopenKilled lets another process fill the log by durable batches and kill itself, and opens what that leaves. Then
// all the records must be there.
func reopenKilled(b *bench) error {
	if err := b.close(); err != nil {
		return err
	}
	if err := b.runCrash(); err != nil {
		return err
	}
	if err := b.openTimed(); err != nil {
		return err
	}
	b.durations("")
	return b.s.verify(b.st)
}

// fill is the part of the process that is killed: batches that take up about 45 MB at the default sizes, which does not
// quite make Folio begin a checkpoint.
func fill(b *bench) error {
	for end := b.s.End + uint64(b.cfg.N)/4; b.s.End < end; {
		if err := b.putNext(uint64(b.cfg.Batch)); err != nil {
			return err
		}
	}
	return nil
}

// bigPuts puts large values, a durable transaction each, until the time is over or there are so many bytes of them. The gets behind
// it read what there is.
func bigPuts(b *bench) error {
	const least = 2 // whatever the clock says, for the gets
	n := uint64(max(b.cfg.Bytes/int64(b.s.Size), least))
	v := newValues(b.s.Size)
	b.begin()
	for ; b.s.End < n && (b.s.End < least || !b.over()); b.s.End++ {
		if err := b.put(v, b.s.End); err != nil {
			return err
		}
	}
	b.throughput(b.s.count())
	return nil
}

func bigGets(b *bench) error {
	random := rand.New(rand.NewPCG(1, 4))
	var key [keySize]byte
	n, sum := uint64(0), uint64(0)
	b.begin()
	err := b.st.View(func(r reader) error {
		for ; n == 0 || !b.over(); n++ {
			value, err := r.Get(b.s.putKey(&key, present(b, random)))
			if err != nil {
				return err
			}
			if len(value) != b.s.Size {
				return fmt.Errorf("get gives %d bytes", len(value))
			}
			sum += addUp(value)
		}
		return nil
	})
	b.throughput(n)
	runtime.KeepAlive(sum)
	return err
}

// addUp reads every byte, eight at a time as far as that goes.
func addUp(p []byte) uint64 {
	sum := uint64(0)
	for len(p) >= 8 {
		sum += le.Uint64(p)
		p = p[8:]
	}
	return sum + uint64(bytes.Count(p, []byte{1}))
}

// parallel runs fn in several goroutines and returns the first error.
func parallel(goroutines int, fn func(g int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			if err := fn(g); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// put stores one new record in a transaction of its own.
func (b *bench) put(v *values, i uint64) error {
	var key [keySize]byte
	return b.st.Update(func(w writer) error { return w.Put(b.s.putKey(&key, i), v.of(i, b.s.Round<<32)) })
}

// putNext appends n records in one transaction.
func (b *bench) putNext(n uint64) error {
	if b.v == nil {
		b.v = newValues(b.s.Size)
	}
	if err := b.putRange(b.v, b.s.End, b.s.End+n); err != nil {
		return err
	}
	b.s.End += n
	return nil
}

func (b *bench) putRange(v *values, from, to uint64) error {
	var key [keySize]byte
	return b.st.Update(func(w writer) error {
		for i := from; i < to; i++ {
			if err := w.Put(b.s.putKey(&key, i), v.of(i, b.s.Round<<32)); err != nil {
				return err
			}
		}
		return nil
	})
}

// over tells whether the time of a workload that is bounded by time is over.
func (b *bench) over() bool { return time.Since(b.start) >= b.cfg.Time }
