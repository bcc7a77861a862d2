package folio

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// crashHunt opens states of one log, and of the logs of what followed.
type crashHunt struct {
	t        *testing.T
	w        *crashWork
	replay   string // flags that build the log again
	opts     Options
	dir      string
	dirs     int
	mem      *memFS
	states   int // opened
	inside   int // of these, within a recovery that was cut short
	shown    int // until this moment nothing has been shown: recovery
	calls    int // of those that a workload makes which could fail,
	failures int // so many did, each in a run of its own
	fault    int // the sync of recovery that fails in restart; 0: none
	syncs    int // how many the last recovery had
	checked  map[uint64]crashSeen
	rng      *rand.Rand
	from     int // moments up to this one are not looked at
	failed   bool
	both     bool   // oneSlot looks at either slot of each state
	seed     uint64 // of the run
	room     []byte // for what a file holds
	lacks    string // what the run should have done and has not
}

// crashSeen is what is known of a state that was judged.
type crashSeen struct {
	k      uint64 // the transaction that it holds
	copies uint   // a bit for each copy that is there
}

func newCrashHunt(t *testing.T, w *crashWork, replay string) *crashHunt {
	h := &crashHunt{t: t, w: w, replay: replay, opts: w.opts, dir: crashDir(t), mem: newMemFS(32 << 20),
		seed: *crashSeed, checked: map[uint64]crashSeen{}, rng: rand.New(rand.NewPCG(*crashSeed, 99))}
	h.opts.reservation, h.opts.alone = w.reservation(), !w.threads
	return h
}

// crashPromise is what a state must keep: the number of the transaction that is found lies between
// lo and hi, and the content is the timeline's.
type crashPromise struct {
	lo, hi uint64
	line   *crashLine
	copies []copyPromise
}

// copyPromise is a copy of the store that a workload made beside it: where there is a file of this name it must be the whole
// of transaction k, and there must be one once the copy was acknowledged.
type copyPromise struct {
	k     uint64
	acked bool
}

func copyName(i int) string { return fmt.Sprintf("copy%d.db", i) }

// promised reads the promise of a power cut at a moment off the marks before it.
func promised(h *vfs.History, at int, line *crashLine) crashPromise {
	p := crashPromise{line: line}
	for _, kind := range []string{"ack", "observed"} {
		n, _ := h.Mark(at, kind)
		p.lo = max(p.lo, n)
	}
	n, _ := h.Mark(at, "begin")
	p.hi = max(p.lo, n)
	for i := 0; ; i++ {
		k, ok := h.Mark(at, fmt.Sprintf("copying%d", i))
		if !ok {
			return p
		}
		_, acked := h.Mark(at, fmt.Sprintf("copied%d", i))
		p.copies = append(p.copies, copyPromise{k, acked})
	}
}

// fresh returns the name of a store in a directory of its own, not yet made.
func (c *crashHunt) fresh() string {
	c.dirs++
	return filepath.Join(c.dir, fmt.Sprint(c.dirs), "app.db")
}

// hunt opens up to budget states of a log, at moments in random order, until something is found: some states of each
// moment first, then more of each.
func (c *crashHunt) hunt(log []vfs.Op, budget int, promise func(h *vfs.History, at int) crashPromise) error {
	h := vfs.NewHistory(log)
	points := slices.DeleteFunc(h.Points(), func(at int) bool { return at <= c.from })
	end := c.states + budget
	per := max(budget/max(len(points), 1), 10)
	for round := uint64(0); round < 8; round, per = round+1, 2*per {
		for _, i := range c.rng.Perm(len(points)) {
			plan := vfs.Plan{Budget: min(per, end-c.states), Seed: *crashSeed + round<<32, Torture: true}
			if plan.Budget <= 0 {
				return nil
			}
			if err := c.huntAt(h, points[i], plan, promise(h, points[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole opens, at every moment of a log, every state of every family that vfs.History.Enumerate knows, but for those drawn
// at random. It prints how many cases each family has, at how many moments, and how many of them were tried, and fails if these are not all. A case
// whose content was there before is not opened again: it holds the same transaction, and that one is compared with the bounds of this moment.
func (c *crashHunt) whole(log []vfs.Op, promise func(h *vfs.History, at int) crashPromise) error {
	h := vfs.NewHistory(log)
	points := h.Points()
	type count struct{ cases, tried, moments int }
	families, names := map[string]*count{}, []string(nil)
	plan := vfs.Plan{Whole: true, Count: func(family string, cases, tried int) {
		n := families[family]
		if n == nil {
			n = new(count)
			families[family] = n
			names = append(names, family)
		}
		n.cases += cases
		n.tried += tried
		if cases > 0 {
			n.moments++
		}
	}}
	start, before, visited := time.Now(), c.states, 0
	var err error
	for _, at := range points {
		if err = c.huntAt(h, at, plan, promise(h, at)); err != nil {
			break
		}
		visited++
	}
	text, missing := "", visited < len(points)
	for _, name := range names {
		if n := families[name]; n.cases > 0 {
			text += fmt.Sprintf(", %s %d of %d at %d", name, n.tried, n.cases, n.moments)
			missing = missing || n.tried < n.cases
		}
	}
	fmt.Printf("%s: whole: moments %d of %d%s; %d distinct states in %.0f s\n",
		c.t.Name(), visited, len(points), text, c.states-before, time.Since(start).Seconds())
	if err == nil && missing {
		err = errors.New("not every case was tried")
	}
	return err
}

// huntAt opens states of one moment.
func (c *crashHunt) huntAt(h *vfs.History, at int, plan vfs.Plan, p crashPromise) (found error) {
	// Of a state that was seen before it is known which transaction it holds, and that all is well with it; only the
	// bounds may be others.
	plan.Seen = func(sum uint64) bool {
		seen, ok := c.checked[sum]
		if ok && (seen.k < p.lo || seen.k > p.hi) && found == nil {
			found = fmt.Errorf("at=%d: a state seen before holds transaction %d, must be %d to %d", at, seen.k, p.lo, p.hi)
		}
		for i, cp := range p.copies {
			if ok && cp.acked && seen.copies>>i&1 == 0 && found == nil {
				found = fmt.Errorf("at=%d: a state seen before has no %s", at, copyName(i))
			}
		}
		return ok
	}
	h.Enumerate(at, plan, func(s *vfs.State) bool {
		if found == nil {
			found = c.judge(s, p)
		}
		return found == nil
	})
	return found
}

// judge opens the store in a state. It must open; hold a transaction within the bounds, whole, read in any way; pass Check;
// and go on: a second life commits other transactions under the same numbers, and the next open must find
// these and nothing of the timeline that was lost.
//
// A state in which both meta slots are sound is opened with one of them damaged as well, now and then: either has to do. A panic
// is a finding like any other.
func (c *crashHunt) judge(s *vfs.State, p crashPromise) (err error) {
	c.states++
	if s.At() <= c.shown {
		c.inside++
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("state %s: panic: %v\n%s", s, r, debug.Stack())
		}
	}()
	salt := crashHash(s)
	fsys, path, err := c.place(s, salt)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if fsys == c.mem {
			c.mem.clear()
		} else {
			os.RemoveAll(filepath.Dir(path))
		}
	}()
	copies, err := c.copies(fsys, filepath.Dir(path), p)
	if err == nil {
		var k uint64
		if k, err = c.lives(fsys, path, p, salt); err == nil {
			err = c.oneSlot(s, p, salt)
		}
		if err == nil {
			c.checked[s.Hash()] = crashSeen{k, copies}
			return nil
		}
	}
	return fmt.Errorf("state %s: %w\n%s\nin doubt:\n%s", s, err, c.keep(s, p), indent(s.Describe()))
}

// place makes the files of a state: real ones of one in 32, and of those in which a file has two names; of the others,
// files in memory, which is three times as fast and more.
func (c *crashHunt) place(s *vfs.State, salt uint64) (fsys vfs.FS, path string, err error) {
	names := s.Names()
	if salt>>20%32 == 0 || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, ".new-") }) {
		path = c.fresh()
		return vfs.OS, path, errors.Join(s.Materialise(filepath.Dir(path)), leaveTable(path, salt))
	}
	c.dirs++
	dir := fmt.Sprintf("/memory/%d", c.dirs)
	for _, name := range names {
		c.mem.fill(filepath.Join(dir, name), func(room []byte) []byte {
			data, _ := s.ReadFile(name, room)
			return data
		})
	}
	return c.mem, filepath.Join(dir, "app.db"), nil
}

// oneSlot damages one of two sound meta slots of a state, and opens the store: one state in eight for each slot, and of a state that
// a flag asks for, or that was kept, both. Which ones depends on the content, for at moments at which nothing is in doubt the state's name is all
// the same in every run.
func (c *crashHunt) oneSlot(s *vfs.State, p crashPromise, salt uint64) error {
	slot, both := int(s.Hash()>>20%8), c.both || *crashState != ""
	if slot > 1 && !both {
		return nil
	}
	file, _ := s.ReadFile("app.db", c.room[:0])
	c.room = file
	if len(file) < page.MetaSize {
		return nil
	}
	first, err := page.DecodeMeta(file, 0)
	if err != nil || len(file) < first.PageSize+page.MetaSize {
		return nil
	}
	if _, err := page.DecodeMeta(file[first.PageSize:], 1); err != nil {
		return nil
	}
	for i := range 2 {
		if i != slot && !both {
			continue
		}
		at := i*first.PageSize + 100
		if err := c.changed(s, p, salt, int64(at), file[at]^1); err != nil {
			return fmt.Errorf("with slot %d damaged: %w", i, err)
		}
	}
	return nil
}

// changed opens the store in a state of which one byte is another one.
func (c *crashHunt) changed(s *vfs.State, p crashPromise, salt uint64, at int64, b byte) error {
	fsys, path, err := c.place(s, salt)
	if err != nil {
		c.t.Fatal(err)
	}
	if fsys != c.mem {
		defer os.RemoveAll(filepath.Dir(path))
	}
	f, err := fsys.Open(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{b}, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	o := c.opts
	o.fs = fsys
	db, err := Open(path, &o)
	if err == nil {
		defer func() { crashKill(db) }()
		if _, err = crashVerify(db, p.line, p.lo, p.hi); err == nil {
			err = db.Check()
		}
	}
	return err
}

// copies looks at the copies of the store, and tells which are there.
func (c *crashHunt) copies(fsys vfs.FS, dir string, p crashPromise) (there uint, err error) {
	for i, cp := range p.copies {
		name := copyName(i)
		db, err := Open(filepath.Join(dir, name), &Options{ReadOnly: true, reservation: c.opts.reservation, fs: fsys})
		if errors.Is(err, fs.ErrNotExist) && !cp.acked {
			continue
		}
		if err != nil {
			return there, fmt.Errorf("%s: %w", name, err)
		}
		there |= 1 << i
		err = db.View(func(tx *Tx) error { return p.line.at(cp.k).compare(tx.Root(), "/") })
		if err = errors.Join(err, db.Check(), db.Close()); err != nil {
			return there, fmt.Errorf("%s of transaction %d: %w", name, cp.k, err)
		}
	}
	return there, nil
}

// crashHash is a number that depends on the state and is the same in every run.
func crashHash(s *vfs.State) uint64 {
	f := fnv.New64a()
	f.Write([]byte(s.String()))
	return f.Sum64()
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
}

// lives is judge behind the materialising.
func (c *crashHunt) lives(fsys vfs.FS, path string, p crashPromise, salt uint64) (k uint64, err error) {
	o := c.opts
	o.fs = fsys
	seen, err := crashLook(path, o, p, salt, &c.room)
	if err != nil {
		return 0, err
	}
	db, err := Open(path, &o)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer func() { crashKill(db) }()
	if k, err = crashVerify(db, p.line, p.lo, p.hi); err != nil {
		return k, err
	}
	if seen != nil && (k < *seen || k > p.line.newest(*seen)) { // who only reads leaves out no numbers
		return k, fmt.Errorf("holds transaction %d, and %d when it was opened for reading", k, *seen)
	}
	if err := db.Check(); err != nil {
		return k, fmt.Errorf("check: %w", err)
	}
	line := p.line.fork(k, salt|1)
	db.opts.moving = func(k TxID) { line.hold(uint64(k), true) }
	last := k
	for i := range 1 + salt>>8%3 {
		if last, err = line.commit(db, Sync, func(uint64) {}); err != nil {
			return k, fmt.Errorf("second life: %w", err)
		}
		if i == 0 && salt>>12%3 == 0 {
			if err := db.Checkpoint(); err != nil {
				return k, fmt.Errorf("second life: checkpoint: %w", err)
			}
		}
	}
	if salt>>16%2 == 0 {
		crashKill(db)
	} else if err := db.Close(); err != nil {
		return k, fmt.Errorf("second life: close: %w", err)
	}
	if db, err = Open(path, &o); err != nil {
		return k, fmt.Errorf("third life: open: %w", err)
	}
	if _, err := crashVerify(db, line, last, line.newest(last)); err != nil {
		return k, fmt.Errorf("third life: %w", err)
	}
	if err := db.Check(); err != nil {
		return k, fmt.Errorf("third life: check: %w", err)
	}
	if err := db.Close(); err != nil {
		return k, fmt.Errorf("third life: close: %w", err)
	}
	return k, nil
}

// restart opens the store in a state on a recorder, as the next process does, shows it, commits another timeline's
// transactions, and hunts through the log of that: crashes within recovery and after it. A state that was cut
// has nothing in doubt; one that was killed has. With inside above 0 it opens so many states of every moment of
// recovery, and hunts behind it then. A sync of recovery that fails is told; then the process behind that one recovers.
func (c *crashHunt) restart(s *vfs.State, p crashPromise, inside, budget int) error {
	path := c.fresh()
	defer os.RemoveAll(filepath.Dir(path))
	failer := vfs.NewFailer(vfs.OS)
	if c.fault > 0 {
		failer.Set(vfs.Rule{Kinds: syncKinds, Nth: c.fault})
	}
	rec, err := vfs.NewRecorderFrom(failer, s, filepath.Dir(path))
	if err != nil {
		c.t.Fatal(err)
	}
	rec.LostAtDrop = crashLost(crashHash(s) + *crashSeed)
	if _, err := c.copies(vfs.OS, filepath.Dir(path), p); err != nil {
		return fmt.Errorf("restart in state %s: %w\n%s\nin doubt:\n%s", s, err, c.keep(s, p), indent(s.Describe()))
	}
	o := c.opts
	o.fs = rec
	db, err := Open(path, &o)
	c.syncs = failer.Calls(syncKinds...)
	failer.Set()
	if failer.Failed() > 0 {
		c.failures++
		if err == nil {
			// In a store with goroutines the sync may have been one of the checkpoint behind the recovery, of which who asks next is told.
			if err = db.Close(); err == nil {
				return fmt.Errorf("restart in state %s: sync %d of recovery fails: nobody was told", s, c.fault)
			}
		}
		if h := vfs.NewHistory(rec.Log()); h.State(h.Events(), vfs.KeepAll).LostName("app.db") {
			return nil // see restartBehind
		}
		if errors.Is(err, syscall.EIO) {
			db, err = Open(path, &o) // the next process
		}
	}
	if err != nil {
		return fmt.Errorf("restart in state %s: open: %w\n%s\nin doubt:\n%s", s, err, c.keep(s, p), indent(s.Describe()))
	}
	k, err := crashVerify(db, p.line, p.lo, p.hi)
	if err != nil {
		crashKill(db)
		return fmt.Errorf("restart in state %s: %w\n%s\nin doubt:\n%s", s, err, c.keep(s, p), indent(s.Describe()))
	}
	rec.Mark("observed", k)
	line := p.line.fork(k, crashHash(s)|1)
	db.opts.moving = func(k TxID) {
		line.hold(uint64(k), true)
		rec.Mark("begin", uint64(k))
	}
	for i := range 3 {
		n, err := line.commit(db, Sync, func(n uint64) { rec.Mark("begin", n) })
		if err == nil {
			rec.Mark("ack", n)
			if i == 1 {
				err = db.Checkpoint()
			}
		}
		if err != nil {
			crashKill(db)
			return fmt.Errorf("restart in state %s: %w", s, err)
		}
	}
	crashKill(db)
	if err := rec.Verify(); err != nil {
		c.t.Fatal(err)
	}
	// What the last process left in doubt may go or stay until this one has shown something.
	from, shown := c.from, c.shown
	defer func() { c.from, c.shown = from, shown }()
	c.from = 0
	promise := func(h *vfs.History, at int) crashPromise {
		q := promised(h, at, line)
		if q.lo == 0 && q.hi == 0 {
			return p
		}
		q.lo, q.hi, q.copies = max(q.lo, k), max(q.hi, k), p.copies
		return q
	}
	log := rec.Log()
	c.shown = log[slices.IndexFunc(log, func(op vfs.Op) bool { return op.Kind == vfs.KindMark && op.Note == "observed" })].Begin
	if inside > 0 {
		h := vfs.NewHistory(log)
		for _, at := range h.Points() {
			if at <= c.shown && err == nil {
				plan := vfs.Plan{Budget: inside, Seed: *crashSeed + crashHash(s), Torture: true}
				err = c.huntAt(h, at, plan, promise(h, at))
			}
		}
		c.from = c.shown
	}
	if err == nil {
		err = c.hunt(log, budget, promise)
	}
	if err != nil {
		return fmt.Errorf("after a restart in state %s: %w", s, err)
	}
	return nil
}

// report fails the test with how to see the failure again.
func (c *crashHunt) report(err error) {
	if err != nil {
		c.failed = true
		c.t.Errorf("%v\nagain: go test -run '^%s$' -folio.crashstates %d -folio.seed %d %s. (add -folio.crashstate 'at=...' for that state alone)",
			err, strings.ReplaceAll(c.t.Name(), " ", "_"), *crashStates, c.seed, c.replay)
	}
}

// only judges the state that the flag asks for, and restarts in it.
func (c *crashHunt) only(r *crashRun) {
	h := vfs.NewHistory(r.rec.Log())
	s, err := h.Parse(*crashState)
	if err != nil {
		c.t.Fatalf("%v (logs of several goroutines are not the same in every run)", err)
	}
	p := promised(h, s.At(), r.line)
	c.t.Logf("transactions %d to %d\n%s\n%s", p.lo, p.hi, r.rec.Text(0), s.Describe())
	c.report(c.judge(s, p))
	if !c.failed {
		c.report(c.restart(s.Cut(), p, 10, *crashStates))
	}
	if !c.failed {
		c.report(c.restart(s, p, 10, *crashStates))
	}
}

func (c *crashHunt) log() {
	name, _, _ := strings.Cut(c.t.Name(), "/")
	crashTotals.add(name, c)
	what := ""
	if c.calls > 0 {
		what = fmt.Sprintf(", %d of %d calls failed once", c.failures, c.calls)
	}
	c.t.Logf("%s: %d distinct states opened, %d of them within recovery%s, seed %d", c.t.Name(), c.states, c.inside, what, c.seed)
	if c.lacks != "" && !c.failed {
		c.t.Errorf("the workload %q %s, with %d seeds from %d on: %s", c.w.name, crashIdle, recordings, *crashSeed, c.lacks)
	}
}
