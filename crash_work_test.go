package folio

import (
	"fmt"
	"io/fs"
	"path/filepath"
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

// crashBulk makes every third transaction too large for the log.
func crashBulk(g *crashGen, k uint64) {
	if k%3 != 2 {
		crashSmall(g, k)
		return
	}
	for i := range 36 { // 99 KB of them, and a third of the log is 85
		g.put(nil, fmt.Sprintf("bulk%02d", (i*7+int(k))%40), 2500+g.IntN(500))
	}
}

// crashSpill makes some transactions larger than the heap may be.
func crashSpill(g *crashGen, k uint64) {
	if k%3 != 0 {
		crashSmall(g, k)
		return
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
		name := fmt.Sprintf("b%d", g.IntN(4))
		_, there := b.items[name]
		switch n := g.IntN(12); {
		case n < 3 && !there && len(path) < 3:
			g.do(crashOp{kind: "create", path: path, key: name})
		case n == 3 && there:
			g.do(crashOp{kind: "drop", path: path, key: name})
		case n == 4 && there && len(path) > 0 && g.now.items[name].bucket == nil:
			g.do(crashOp{kind: "move", path: path, key: name})
		case n == 5:
			g.do(crashOp{kind: "sequence", path: path, n: g.Uint64()})
		case n == 6:
			for i := range 30 { // out of its parent's page
				g.put(path, fmt.Sprintf("many%02d", i), 50+g.IntN(100))
			}
		case n == 7:
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
	threads bool   // several goroutines: another run may have another log
	slow    string // a sync of the file of which the name ends so takes as long as some commits do
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
	}},
	{name: "wrap", profile: crashWide, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		for range 7 { // the log goes round its file three times
			r.commit(6)
			r.view()
			r.checkpoint()
		}
		r.commit(3)
	}},
	{name: "full", profile: crashWide, opts: Options{LogLimit: minLimit}, threads: true, run: func(r *crashRun) {
		r.commit(40) // checkpoints come by themselves
		r.close()
	}},
	{name: "storm", profile: crashWide, opts: Options{LogLimit: minLimit}, threads: true, slow: ".db", run: func(r *crashRun) {
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
	}},
	{name: "goroutines", profile: crashSmall, threads: true, run: func(r *crashRun) {
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
			r.checkpoint()
			r.checkpoint()
		})
		wg.Wait()
		r.view()
		r.close()
	}},
	{name: "followers", profile: crashSmall, threads: true, slow: ".db-wal", run: func(r *crashRun) {
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
	}},
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
	}},
	{name: "mixed", profile: crashSmall, weak: true, threads: true, opts: Options{SyncInterval: 1}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		wg.Go(func() { r.commit(8) })
		wg.Go(func() { r.relax(12) })
		wg.Go(func() {
			for range 3 {
				r.sync()
				r.view()
			}
			r.checkpoint()
		})
		wg.Wait()
		r.relax(2)
		r.close()
	}},
	{name: "buckets", profile: crashNest, run: func(r *crashRun) {
		r.commit(12)
		r.view()
		r.commit(6)
		r.checkpoint()
		r.commit(10)
		r.view()
		r.close()
	}},
	{name: "large", profile: crashLarge, opts: Options{LogLimit: 2 << 20}, run: func(r *crashRun) {
		r.commit(6)
		r.checkpoint()
		r.view()
		r.commit(5)
		r.checkpoint()
		r.commit(3)
	}},
	{name: "bulk", profile: crashBulk, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		r.commit(6)
		r.view()
		r.commit(4)
		r.checkpoint()
		r.commit(3)
		r.close()
	}},
	{name: "bulk goroutines", profile: crashBulk, weak: true, threads: true, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { r.commit(6) })
		}
		wg.Go(func() { r.relax(6) })
		wg.Wait()
	}},
	{name: "bulk relaxed", profile: crashBulk, weak: true, opts: Options{LogLimit: minLimit}, run: func(r *crashRun) {
		r.relax(6)
		r.sync()
		r.relax(4)
		r.view()
		r.relax(3)
		r.close()
	}},
	{name: "megabytes", profile: crashMegabyte, threads: true, run: func(r *crashRun) {
		r.commit(2)
		r.view()
		r.commit(3)
		r.checkpoint()
		r.commit(3)
		r.view()
		r.commit(1)
	}},
	{name: "spill", profile: crashSpill, opts: Options{MemoryLimit: minLimit, LogLimit: 4 << 20}, threads: true, run: func(r *crashRun) {
		r.commit(6)
		r.view()
		r.commit(1)
		r.checkpoint()
		r.commit(5)
	}},
	{name: "ranges", profile: crashRange, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		for range 4 {
			r.commit(5)
			r.checkpoint()
			r.view()
			r.checkpoint()
		}
		r.close()
	}},
	{name: "shrink", profile: crashRange, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		// A shrinking file beside commits, with few of them for each checkpoint.
		for range 3 {
			r.commit(11)
			r.checkpoint()
			r.view()
		}
		r.commit(4)
		r.close()
	}},
	{name: "shrink goroutines", profile: crashRange, threads: true, opts: Options{LogLimit: 4 << 20}, run: func(r *crashRun) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { r.commit(12) })
		}
		wg.Go(func() {
			for range 6 {
				r.checkpoint()
				r.view()
			}
		})
		wg.Wait()
		r.close()
	}},
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
	}},
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
	}},
	{name: "pages of 16 KiB", profile: crashNest, opts: Options{PageSize: 16 << 10}, run: func(r *crashRun) {
		r.commit(8)
		r.view()
		r.checkpoint()
		r.commit(6)
		r.view()
		r.commit(2)
		r.close()
	}},
	{name: "pages of 64 KiB", profile: crashWide, opts: Options{PageSize: 64 << 10, LogLimit: minLimit}, run: func(r *crashRun) {
		for range 3 {
			r.commit(4)
			r.view()
			r.checkpoint()
		}
		r.commit(3)
	}},
	{name: "copies", profile: crashNest, run: func(r *crashRun) {
		r.commit(6)
		r.backup(0)
		r.commit(3)
		r.compact(1)
		r.checkpoint()
		r.commit(2)
		r.backup(2)
		r.close()
	}},
	{name: "copies goroutines", profile: crashSmall, threads: true, run: func(r *crashRun) {
		r.commit(3)
		var wg sync.WaitGroup
		wg.Go(func() { r.commit(8) })
		wg.Go(func() {
			r.backup(0)
			r.compact(1)
		})
		wg.Go(func() { r.checkpoint() })
		wg.Wait()
	}},
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
	}},
	{name: "killed", profile: crashWide, run: func(r *crashRun) {
		// Recovery is part of the log: its calls fail, and are cut short, as any others. The first one finds a log from the
		// slots on, the second one a log that goes on behind a recovery, the third one that nothing was committed.
		r.commit(3)
		r.checkpoint()
		for _, n := range []int{3, 2, 0} {
			r.commit(n)
			r.kill()
			if r.recover(); !r.failing && !r.ok() {
				return
			}
			r.view()
		}
		r.commit(2)
	}},
}

// reservation is how much of the data file a first mapping can show.
func (w *crashWork) reservation() int64 { return max(w.opts.reservation, 256<<10) }

// start runs the workload in a new directory on a recorder over fsys. It returns the run with its log complete
// and nothing held. fault is the number of the call that fsys makes fail, 0 when none is to fail.
func (w *crashWork) start(t testing.TB, fsys vfs.FS, seed uint64, fault int) *crashRun {
	if w.slow != "" {
		fsys = crashSlowFS{fsys, w.slow}
	}
	r := &crashRun{
		rec: vfs.NewRecorder(fsys), opts: w.opts, weak: w.weak, failing: fault > 0,
		path: filepath.Join(crashDir(t), "app.db"),
		line: &crashLine{seed: seed, profile: w.profile},
	}
	r.rec.LostAtDrop = crashLost(seed + uint64(fault))
	random := atomic.Uint64{}
	r.opts.random = func() uint64 { return seed*0x9e3779b97f4a7c15 + random.Add(1) }
	r.opts.reservation = w.reservation()
	r.opts.minCut = 16 << 10
	r.fs = r.rec
	if r.open(); r.db != nil {
		w.run(r)
	}
	crashKill(r.db)
	if err := r.rec.Verify(); err != nil {
		t.Error(err)
	}
	return r
}

// crashSlowFS is a file system on which a sync of one kind of file takes time, so that commits go on meanwhile.
type crashSlowFS struct {
	vfs.FS
	ext string
}

func (s crashSlowFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := s.FS.Open(name, flag, perm)
	if err != nil || filepath.Ext(name) != s.ext {
		return f, err
	}
	return crashSlowFile{f}, nil
}

type crashSlowFile struct{ vfs.File }

func (f crashSlowFile) Sync() error {
	time.Sleep(time.Millisecond)
	return f.File.Sync()
}
