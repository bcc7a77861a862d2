package folio

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// Profiles of transactions.

// crashSmall makes a few changes to a few dozen keys.
func crashSmall(g *crashGen, k uint64) {
	for range 1 + g.IntN(4) {
		key := fmt.Sprintf("key%02d", g.IntN(40))
		switch n := g.IntN(10); {
		case n < 2:
			g.do(crashOp{kind: "del", key: key})
		case n == 2:
			g.put(nil, key, 2000+g.IntN(4000))
		default:
			g.put(nil, key, g.IntN(300))
		}
	}
}

// crashSlim makes transactions that are small enough to be tails in a small log, and fill it.
func crashSlim(g *crashGen, k uint64) {
	for range 1 + g.IntN(3) {
		g.put(nil, fmt.Sprintf("slim%02d", g.IntN(40)), 100+g.IntN(1500))
	}
}

// crashWide fills the log: values of some KiB.
func crashWide(g *crashGen, k uint64) {
	for range 4 {
		g.put(nil, fmt.Sprintf("wide%02d", g.IntN(30)), 1000+g.IntN(7000))
	}
}

// crashLarge has values that go to the data file at once, as runs.
func crashLarge(g *crashGen, k uint64) {
	switch {
	case k%4 == 3:
		g.do(crashOp{kind: "del", key: fmt.Sprintf("large%d", g.IntN(4))})
	case k%2 == 0:
		g.put(nil, fmt.Sprintf("large%d", g.IntN(4)), directRun+g.IntN(20000))
	default:
		crashSmall(g, k)
	}
}

// crashStash makes every second transaction one in bulk that puts by what it collects.
func crashStash(g *crashGen, k uint64) {
	crashSmall(g, k)
	if k%2 == 1 {
		for i := range 1500 {
			g.put(nil, fmt.Sprintf("stash%04d", (i*1009+int(k)*7)%1700), 120+g.IntN(100))
		}
	}
}

// crashBulk makes every third transaction too large for the log.
func crashBulk(g *crashGen, k uint64) { crashLarger(g, k, 36) } // 99 KB of them, and a third of the log is 85

// crashLarger makes every third transaction one of n puts.
func crashLarger(g *crashGen, k uint64, n int) {
	if k%3 != 2 {
		crashSmall(g, k)
		return
	}
	for i := range n {
		g.put(nil, fmt.Sprintf("bulk%02d", (i*7+int(k))%40), 2500+g.IntN(500))
	}
}

// crashBrim makes transactions of up to a third of what a log of the smallest size holds, so that now and then one would just fit behind the end, were it not that the
// log has come round to where it is still needed.
func crashBrim(g *crashGen, k uint64) {
	for i := range 1 + g.IntN(22) {
		g.put(nil, fmt.Sprintf("brim%02d", (i*7+int(k))%40), 2500+g.IntN(900))
	}
}

// crashAscend makes every third transaction one that appends, behind what the timeline puts last into each: see append.go. Now and then the older items go, and their pages come again.
func crashAscend(g *crashGen, k uint64) {
	switch {
	case k%3 == 2:
		for i := range 60 {
			g.put(nil, fmt.Sprintf("~%06d", k*100+uint64(i)), 2000+g.IntN(1000))
		}
	case k%9 == 0:
		g.do(crashOp{kind: "range", key: "~", to: fmt.Sprintf("~%06d", (k-3)*100)})
	default:
		crashSmall(g, k)
	}
}

// crashSpill makes some transactions larger than the heap may be.
func crashSpill(g *crashGen, k uint64) {
	if k%3 != 0 {
		crashSmall(g, k)
		return
	}
	if k%2 == 0 {
		g.do(crashOp{kind: "sequence", n: g.Uint64()}) // so it is in the tree from the start; of the others the log has the operations
	}
	for i := range 200 {
		g.put(nil, fmt.Sprintf("spill%03d", (i*37+int(k))%300), 1200+g.IntN(800))
	}
}

// crashNest works on buckets in buckets.
func crashNest(g *crashGen, k uint64) {
	for range 1 + g.IntN(3) {
		var path []string
		b := g.now
		for g.IntN(3) > 0 {
			name := b.choose(g.Rand, true)
			if name == "" {
				break
			}
			path, b = append(path[:len(path):len(path)], name), b.items[name].bucket
		}
		n, name, there := g.IntN(14), fmt.Sprintf("b%d", g.IntN(4)), b.choose(g.Rand, true)
		if k := len(path) - 1; n >= 4 && n <= 6 && there == "" && k >= 0 {
			there, path = path[k], path[:k]
			b = g.now.walk(path)
		}
		switch {
		case n < 3 && b.items[name].bucket == nil && len(path) < 3:
			g.do(crashOp{kind: "create", path: path, key: name})
		case n == 3 && there != "":
			g.do(crashOp{kind: "drop", path: path, key: there})
		case n >= 4 && n <= 6 && there != "":
			to := b.choose(g.Rand, true)
			if to != there && b.items[to].bucket.items[there].bucket == nil {
				g.do(crashOp{kind: "move", path: path, key: there, dst: append(path[:len(path):len(path)], to)})
			} else if len(path) > 0 && g.now.items[there].bucket == nil {
				g.do(crashOp{kind: "move", path: path, key: there})
			}
		case n == 7:
			g.do(crashOp{kind: "sequence", path: path, n: g.Uint64()})
		case n == 8:
			for i := range 30 { // out of its parent's page
				g.put(path, fmt.Sprintf("many%02d", i), 50+g.IntN(100))
			}
		case n == 9:
			g.do(crashOp{kind: "range", path: path, key: "k1", to: "many20"})
		default:
			g.put(path, fmt.Sprintf("k%d", g.IntN(20)), g.IntN(200))
		}
	}
}

// crashRange fills and empties ranges, so that the file's end becomes free.
func crashRange(g *crashGen, k uint64) {
	switch {
	case k%5 == 0:
		from := g.IntN(200)
		g.do(crashOp{kind: "range", key: fmt.Sprintf("r%03d", from), to: fmt.Sprintf("r%03d", from+100+g.IntN(200))})
	default:
		for range 30 {
			g.put(nil, fmt.Sprintf("r%03d", g.IntN(300)), 2000+g.IntN(3000))
		}
	}
}

// crashMegabyte makes transactions of a megabyte and more, deferred ones and such as are in the tree and collect.
func crashMegabyte(g *crashGen, k uint64) {
	switch k % 4 {
	case 1:
		for i := range 620 {
			g.put(nil, fmt.Sprintf("m%04d", (i*37+int(k))%700), 1700+g.IntN(300))
		}
	case 3:
		g.do(crashOp{kind: "sequence", n: g.Uint64()})
		for i := range 700 {
			g.put(nil, fmt.Sprintf("m%04d", (i*41+int(k))%750), g.IntN(200))
		}
		for range 50 {
			g.do(crashOp{kind: "del", key: fmt.Sprintf("m%04d", g.IntN(750))})
		}
	default:
		crashSmall(g, k)
	}
}

// crashWork is a workload.
type crashWork struct {
	name    string
	profile crashProfile
	opts    Options
	weak    bool
	sound   bool       // without calls that fail
	shared  bool       // other processes have a part in the store
	threads bool       // several goroutines: another run may have another log
	slow    []string   // syncs of files with these extensions take as long as some commits do
	least   crashDeeds // what a run has to do
	run     func(r *crashRun)
}

var crashWorks = []crashWork{
	{name: "plain", profile: crashSmall, run: func(r *crashRun) {
		r.commit(8)
		r.view()
		r.commit(4)
		r.checkpoint()
		r.commit(3)
		r.view()
		r.commit(3)
		r.checkpoint()
		r.commit(2)
		r.close()
	}, least: crashDeeds{deedCheckpoints: 3, deedDeferred: 5}},
	{name: "wrap", profile: crashWide, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		for range 7 { // the log goes round its file three times
			r.commit(6)
			r.view()
			r.checkpoint()
		}
		r.commit(3)
	}, least: crashDeeds{deedWraps: 3, deedCheckpoints: 7}},
	{name: "brim", profile: crashBrim, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		r.commit(50) // checkpoints come by themselves, or because the log is full
		r.view()
		r.commit(3)
		r.close() // a checkpoint that fails beside the last commits is told to nobody else
	}, least: crashDeeds{deedWraps: 3, deedCheckpoints: 3}},
	{name: "full", profile: crashWide, opts: Options{LogLimit: minLimit}, threads: true, slow: []string{".db"}, run: func(r *crashRun) {
		r.commit(40) // checkpoints come by themselves
		r.close()
	}, least: crashDeeds{deedWraps: 3, deedCheckpoints: 3, deedBoth: 1, deedBeside: 1}},
	{name: "storm", profile: crashWide, opts: Options{LogLimit: minLimit}, threads: true, slow: []string{".db"}, run: func(r *crashRun) {
		// Commits go on, and round the log, while checkpoints are made.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.commit(12) })
		}
		wg.Go(func() {
			for range 8 {
				r.checkpoint()
			}
		})
		wg.Wait()
		r.view() // also after a checkpoint that has poisoned
	}, least: crashDeeds{deedWraps: 3, deedCheckpoints: 3, deedBoth: 1, deedBeside: 1}},
	{name: "goroutines", profile: crashSmall, threads: true, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.commit(8) })
		}
		wg.Go(func() {
			for range 6 {
				r.view()
			}
		})
		wg.Go(func() {
			for range 2 {
				r.commit(1) // before the first one there would be nothing to write
				r.checkpoint()
			}
		})
		wg.Wait()
		r.view()
		r.close()
	}, least: crashDeeds{deedOverlaps: 5, deedBoth: 1, deedShared: 3, deedCheckpoints: 2, deedBeside: 1}},
	{name: "followers", profile: crashSmall, threads: true, slow: []string{".db-wal"}, run: func(r *crashRun) {
		// While the leader syncs, others wait for their groups, and readers for what they may be shown.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.commit(4) })
		}
		wg.Go(func() {
			for range 6 {
				r.view()
			}
		})
		wg.Wait()
	}, least: crashDeeds{deedShared: 3}},
	{name: "relaxed", profile: crashSmall, weak: true, run: func(r *crashRun) {
		r.relax(3)
		r.view()
		r.commit(1)
		r.relax(4)
		r.sync()
		r.relax(2)
		r.view()
		r.checkpoint()
		r.relax(3)
		r.commit(2)
		r.relax(2)
		r.close()
	}, least: crashDeeds{deedUnsynced: 8, deedCheckpoints: 2, deedTails: 4}},
	{name: "relaxed wrap", profile: crashSlim, weak: true, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		for range 5 { // checkpoints name places in the midst of runs
			r.relax(14)
			r.view()
			r.checkpoint()
			r.relax(5)
			r.sync()
		}
		r.relax(5)
		r.close()
	}, least: crashDeeds{deedUnsynced: 30, deedCheckpoints: 5, deedTails: 20, deedWraps: 2}},
	{name: "mixed", profile: crashSmall, weak: true, threads: true, opts: Options{SyncInterval: 1}, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { r.commit(5) })
		}
		wg.Go(func() {
			for range 4 {
				r.relax(3)
				r.sync()
			}
		})
		wg.Go(func() {
			r.commit(1)
			r.view()
			r.checkpoint()
			r.view()
		})
		wg.Wait()
		r.relax(2)
		r.close()
	}, least: crashDeeds{deedOverlaps: 3, deedShared: 1, deedUnsynced: 4, deedCheckpoints: 2, deedTails: 1}},
	{name: "ahead", profile: crashSmall, weak: true, run: func(r *crashRun) {
		// Readers come between commits: each is applied and written out before the sync that makes it durable.
		for range 3 {
			for range 3 {
				r.commit(1)
				r.view()
			}
			r.commit(2)
			r.relax(2)
			r.commit(1)
			r.view()
			r.checkpoint()
			r.view()
		}
		r.commit(1)
	}, least: crashDeeds{deedAhead: 8, deedUnsynced: 6, deedCheckpoints: 3}},
	{name: "ahead goroutines", profile: crashSmall, weak: true, threads: true, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 6 {
					r.commit(1)
					r.view()
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				r.relax(1)
				r.view()
			}
		})
		wg.Go(func() {
			r.commit(1)
			r.checkpoint()
			r.view()
		})
		wg.Wait()
		r.commit(1)
		r.view()
		r.close()
	}, least: crashDeeds{deedAhead: 3, deedUnsynced: 3, deedCheckpoints: 1}},
	{name: "buckets", profile: crashNest, run: func(r *crashRun) {
		r.commit(12)
		r.view()
		r.commit(6)
		r.checkpoint()
		r.commit(10)
		r.view()
		r.close()
	}, least: crashDeeds{deedOf("create"): 3, deedOf("drop"): 1, deedOf("move"): 1, deedOf("sequence"): 1, deedOf("range"): 1}},
	{name: "large", profile: crashLarge, opts: Options{LogLimit: 2 << 20}, run: func(r *crashRun) {
		r.commit(6)
		r.checkpoint()
		r.view()
		r.commit(5)
		r.checkpoint()
		r.commit(3)
	}, least: crashDeeds{deedDirect: 4, deedCheckpoints: 2}},
	{name: "bulk", profile: crashBulk, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		r.commit(6)
		r.view()
		r.commit(4)
		r.checkpoint()
		r.commit(3)
		r.close()
	}, least: crashDeeds{deedBulk: 3, deedDeferred: 3, deedCheckpoints: 5}},
	{name: "stash", profile: crashStash, opts: Options{LogLimit: minLimit, MemoryLimit: minLimit, stashes: 450}, run: func(r *crashRun) {
		r.commit(3)
		r.view()
		r.commit(2)
		r.checkpoint()
		r.commit(1)
		r.close()
	}, least: crashDeeds{deedBulk: 2, deedStashes: 2, deedCheckpoints: 3}},
	{name: "ascending", profile: crashAscend, opts: Options{LogLimit: minLimit, MemoryLimit: minLimit}, run: func(r *crashRun) {
		r.commit(6)
		r.view()
		r.commit(4)
		r.checkpoint()
		r.commit(5)
		r.close()
	}, least: crashDeeds{deedBulk: 4, deedDeferred: 5, deedCheckpoints: 5, deedAppends: 4}},
	{name: "ascending goroutines", profile: crashAscend, weak: true, threads: true, opts: Options{LogLimit: minLimit, MemoryLimit: minLimit}, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { r.commit(6) })
		}
		wg.Go(func() { r.relax(4) })
		wg.Go(func() {
			for range 2 {
				r.commit(1)
				r.checkpoint()
				r.view()
			}
		})
		wg.Wait()
	}, least: crashDeeds{deedBulk: 3, deedAppends: 3}},
	{name: "bulk goroutines", profile: crashBulk, weak: true, threads: true, opts: Options{LogLimit: minLimit}, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.commit(5) })
		}
		wg.Go(func() { r.relax(6) })
		wg.Go(func() {
			for range 3 { // a bulk commit lets nobody write; beside a checkpoint the small ones do
				r.commit(1)
				r.checkpoint()
				r.view()
			}
		})
		wg.Wait()
	}, least: crashDeeds{deedBulk: 4, deedOverlaps: 1, deedShared: 1, deedUnsynced: 1}},
	{name: "bulk relaxed", profile: crashBulk, weak: true, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		r.relax(6)
		r.sync()
		r.relax(4)
		r.view()
		r.relax(3)
		r.close()
	}, least: crashDeeds{deedBulk: 3, deedUnsynced: 5}},
	{name: "megabytes", profile: crashMegabyte, threads: true, run: func(r *crashRun) {
		r.commit(2)
		r.view()
		r.commit(3)
		r.checkpoint()
		r.commit(3)
		r.view()
		r.commit(1)
	}, least: crashDeeds{deedMegabyte: 3, deedDeferred: 2, deedCollects: 1, deedCheckpoints: 1}},
	{name: "spill", profile: crashSpill, opts: Options{MemoryLimit: minLimit, LogLimit: 4 << 20}, threads: true, run: func(r *crashRun) {
		r.commit(6)
		r.view()
		r.commit(1)
		r.checkpoint()
		r.commit(5)
	}, least: crashDeeds{deedSpills: 2, deedDeferred: 3}},
	{name: "ranges", profile: crashRange, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		for range 4 {
			r.commit(5)
			r.checkpoint()
			r.view()
			r.checkpoint()
		}
		r.close()
	}, least: crashDeeds{deedOf("range"): 2, deedCuts: 2, deedMoves: 1}},
	{name: "shrink", profile: crashRange, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		// A shrinking file beside commits, with few of them for each checkpoint.
		for range 3 {
			r.commit(11)
			r.checkpoint()
			r.view()
		}
		r.commit(4)
		r.close()
	}, least: crashDeeds{deedCuts: 2, deedMoves: 2}},
	{name: "shrink goroutines", profile: crashRange, threads: true, opts: Options{LogLimit: 4 << 20}, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 12 {
					r.commit(1)
					r.view() // which has the backlog applied: behind one the file is not cut
				}
			})
		}
		wg.Go(func() {
			for range 6 {
				r.commit(1)
				r.checkpoint()
				r.view()
			}
		})
		wg.Wait()
		r.close()
	}, least: crashDeeds{deedCuts: 1, deedMoves: 1, deedOverlaps: 5, deedShared: 1, deedBeside: 1}},
	{name: "reader", profile: crashSmall, run: func(r *crashRun) {
		r.commit(4)
		tx := r.begin()
		if tx == nil {
			return
		}
		defer tx.Rollback()
		for range 3 {
			r.commit(4)
			r.view()
			r.checkpoint()
			r.compare(tx)
		}
	}, least: crashDeeds{deedKept: 1, deedCheckpoints: 3}},
	{name: "growth", profile: crashRange, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		// The file outgrows a mapping several times, while a reader holds the first one.
		r.commit(1)
		tx := r.begin()
		if tx == nil {
			return
		}
		defer tx.Rollback()
		for range 3 {
			r.commit(4)
			r.view()
			r.compare(tx)
		}
		r.checkpoint()
		r.compare(tx)
	}, least: crashDeeds{deedMaps: 3, deedKept: 20}},
	{name: "pages of 16 KiB", profile: crashNest, opts: Options{PageSize: 16 << 10}, run: func(r *crashRun) {
		r.commit(8)
		r.view()
		r.checkpoint()
		r.commit(6)
		r.view()
		r.commit(2)
		r.close()
	}, least: crashDeeds{deedPageSize: 16 << 10, deedOf("create"): 2, deedCheckpoints: 2}},
	{name: "pages of 64 KiB", profile: crashWide, opts: Options{PageSize: 64 << 10, LogLimit: minLimit}, run: func(r *crashRun) {
		for range 3 {
			r.commit(4)
			r.view()
			r.checkpoint()
		}
		r.commit(3)
	}, least: crashDeeds{deedPageSize: 64 << 10, deedWraps: 1, deedCheckpoints: 3}},
	{name: "copies", profile: crashNest, run: func(r *crashRun) {
		r.commit(6)
		r.backup(0)
		r.commit(3)
		r.compact(1)
		r.checkpoint()
		r.commit(2)
		r.backup(2)
		r.close()
	}, least: crashDeeds{deedCopies: 3, deedOf("create"): 1}},
	{name: "copies goroutines", profile: crashSmall, threads: true, slow: []string{".db", ".db-wal"}, run: func(r *crashRun) {
		r.commit(3)
		var wg sync.WaitGroup
		wg.Go(func() { r.commit(8) })
		wg.Go(func() {
			r.backup(0)
			r.compact(1)
		})
		wg.Go(func() { r.checkpoint() })
		wg.Wait()
	}, least: crashDeeds{deedCopies: 2, deedCopying: 2, deedOverlaps: 10, deedBeside: 1, deedCheckpoints: 1}},
	{name: "again", profile: crashSmall, run: func(r *crashRun) {
		for range 3 {
			r.commit(3)
			r.close()
			if r.open(); !r.ok() {
				return
			}
			r.view()
		}
		r.commit(1)
		r.close()
	}, least: crashDeeds{deedOpens: 4, deedCheckpoints: 4}},
	{name: "killed", profile: crashWide, run: func(r *crashRun) {
		// Recovery is part of the log: its calls fail, and are cut short, as any others. The first one finds a log from the
		// slots on, the second one that nothing was committed behind a recovery, the third one a log that goes on behind two, and the last
		// one nothing behind a checkpoint of what was recovered.
		r.commit(3)
		r.checkpoint()
		for i, n := range []int{3, 0, 2, 0} {
			r.commit(n)
			r.kill()
			if r.recover(); !r.failing && !r.ok() {
				return
			}
			r.view()
			if i == 2 {
				r.checkpoint()
			}
		}
		r.commit(2)
	}, least: crashDeeds{deedOpens: 5, deedCheckpoints: 2}},
}

// reservation is how much of the data file a first mapping can show.
func (w *crashWork) reservation() int64 { return max(w.opts.reservation, 256<<10) }

// start runs the workload in a new directory on a recorder over fsys. It returns the run with its log complete
// and nothing held. fault is the number of the call that fsys makes fail, 0 when none is to fail.
func (w *crashWork) start(t testing.TB, fsys vfs.FS, seed uint64, fault int) *crashRun {
	maps := &atomic.Int64{}
	part := time.Duration(1)
	if fault > 0 {
		part = 3 // there are many such runs
	}
	fsys = crashSlowFS{fsys, w.slow, part, maps}
	r := &crashRun{
		rec: vfs.NewRecorder(fsys), opts: w.opts, weak: w.weak, failing: fault > 0,
		path: filepath.Join(crashDir(t), "app.db"),
		line: &crashLine{seed: seed, profile: w.profile},
	}
	r.opts.leastSet = crashSet(seed, w.name)
	if w.shared || seed%2 == 0 { // the writer has a table for processes that read, as it has where it can
		r.rec.Ignore = func(name string) bool { return strings.HasSuffix(name, "-lock") }
	}
	r.rec.LostAtDrop = crashLost(seed + uint64(fault))
	random := atomic.Uint64{}
	r.opts.random = func() uint64 { return seed*0x9e3779b97f4a7c15 + random.Add(1) }
	r.opts.reservation = w.reservation()
	r.opts.minCut = 16 << 10
	r.opts.alone = !w.threads || fault > 0
	r.opts.busy = seed%2 == 0
	if seed/2%2 == 1 && w.least[deedMegabyte] == 0 { // so much goes out early, and in flights
		r.opts.MemoryLimit = minLimit
	}
	if seed/4%2 == 1 { // of the data file the cache keeps all that it may
		r.opts.reread = 2 * int64(max(r.opts.PageSize, 4096))
	}
	r.fs = r.rec
	r.line.look = r.countTx
	if r.open(); r.db != nil {
		w.run(r)
	}
	crashKill(r.db)
	if r.db != nil {
		// The log that is made larger behind a commit may fail behind the workload's last call, when nobody is left who could be told: the next call would have been.
		r.note(r.db.poisoned())
	}
	r.countLife(r.db)
	r.count(deedMaps, int(maps.Load()))
	if err := r.rec.Verify(); err != nil {
		t.Error(err)
	}
	return r
}

// crashSlowFS is a file system on which a sync of some files takes time, so that commits go on meanwhile. It counts how often
// a data file is mapped.
type crashSlowFS struct {
	vfs.FS
	slow []string      // extensions
	part time.Duration // one in so many of the time
	maps *atomic.Int64
}

func (s crashSlowFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := s.FS.Open(name, flag, perm)
	ext := filepath.Ext(name)
	if strings.HasPrefix(filepath.Base(name), "copy") { // while it is made its name is another one
		ext = ".db"
	}
	if err != nil || ext != ".db" && ext != ".db-wal" {
		return f, err
	}
	var sync time.Duration
	if slices.Contains(s.slow, ext) {
		sync = crashSlowSyncs[ext] / s.part
	}
	return crashSlowFile{f, sync, s.maps}, nil
}

// crashSlowSyncs is how long a slow sync takes, by extension: a transaction of some KiB takes a millisecond where others use the machine,
// too.
var crashSlowSyncs = map[string]time.Duration{".db": 3 * time.Millisecond, ".db-wal": time.Millisecond}

type crashSlowFile struct {
	vfs.File
	sync time.Duration // that a sync takes
	maps *atomic.Int64
}

func (f crashSlowFile) Sync() error {
	time.Sleep(f.sync)
	return f.File.Sync()
}

func (f crashSlowFile) Map(length int64) (vfs.Mapping, error) {
	m, err := f.File.Map(length)
	if err == nil && filepath.Base(f.Name()) == "app.db" {
		f.maps.Add(1)
	}
	return m, err
}
