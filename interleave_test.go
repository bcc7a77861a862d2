package folio

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/internal/weave"
)

// The interleaving tests run a few goroutines on a store one at a time and try the orders in which they may go on: at each
// lock, atomic, channel operation and call on a file. The library is built for that from sources that package weave has
// rewritten, in a test binary of its own, which is this one with other packages. Each schedule's history is checked
// as history_test.go says; then the store is, and, of some schedules, a state that a power cut leaves.
//
// A campaign is, for example,
//
//	go test -run TestInterleavings -timeout 2h -folio.schedules 1000000 -v .
var (
	schedules     = flag.Int("folio.schedules", 2100, "schedules of the interleaving tests, over all scenarios")
	schedulePairs = flag.Bool("folio.pairs", false, "all schedules of small scenarios in which goroutines are interrupted twice at most")
	scheduleOne   = flag.String("folio.schedule", "", "a schedule that an interleaving test printed: only this is run")
)

// woven is what is rewritten. Of a transaction's own atomics, of counters and of marks no schedule depends: a mark says
// only that what lies on a page has been validated.
func woven() *weave.Rewriting {
	return &weave.Rewriting{
		Packages: []string{".", "page", "wal", "freelist"},
		Except:   []string{"stats.go", "tx.go", "page/map.go", "page/marks.go", "page/branchplan.go"},
		Points:   []weave.Points{{File: "page/map.go", Functions: []string{"Retain", "Release", "tryRetain", "measure", "View"}}},
		// Two shards on any machine: schedules are the same everywhere, and fewer.
		Edits: []weave.Edit{{File: "readers.go", Old: "	n := 4\n	for n < 4*runtime.GOMAXPROCS(0) && n < 64 {\n",
			New: "	n := 2\n	for n < 0*runtime.GOMAXPROCS(0) {\n"}},
	}
}

// TestInterleavings explores all scenarios.
func TestInterleavings(t *testing.T) {
	if !weave.Woven {
		bin := buildWoven(t, woven())
		if err := runWoven(t, bin, os.Stdout); err != nil {
			t.Error(err)
		}
		return
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	if *scheduleOne != "" {
		replaySchedule(t, *scheduleOne)
		return
	}
	for i := range scenarios {
		sc := &scenarios[i]
		t.Run(sc.name, func(t *testing.T) {
			if *schedulePairs && !sc.small {
				t.Skip("too many")
			}
			exploreScenario(t, sc, max(*schedules/len(scenarios), 1))
		})
	}
}

// buildWoven builds this package's test binary from rewritten sources.
func buildWoven(t *testing.T, r *weave.Rewriting) string {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	if r.Root, err = os.Getwd(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, err := r.Overlay(dir)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "woven.test")
	if out, err := exec.Command(tool, "test", "-c", "-overlay", overlay, "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// runWoven runs such a binary with the flags of this one.
func runWoven(t *testing.T, bin string, out io.Writer, more ...string) error {
	args := []string{"-test.timeout=0", "-test.run=^TestInterleavings$"}
	if _, sub, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok { // no other test can run there
		args[1] += "/" + sub
	}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	for _, name := range []string{"folio.seed", "folio.schedules", "folio.pairs", "folio.schedule"} {
		args = append(args, "-"+name+"="+flag.Lookup(name).Value.String())
	}
	cmd := exec.CommandContext(t.Context(), bin, append(args, more...)...)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1") // a tenth of the time
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// loom is one schedule of a scenario under way.
type loom struct {
	sc     *scenario
	path   string
	db     *DB
	h      *history
	record bool
	failer *vfs.Failer
	held   *reading // by before
	closed bool
	copies int
}

// bear ends the session if err is none that the scenario may meet.
func (l *loom) bear(err error) {
	if err == nil {
		return
	}
	for _, e := range l.sc.bears {
		if errors.Is(err, e) {
			return
		}
	}
	weave.Fail(err)
}

// looms runs the schedules of a scenario.
type looms struct {
	t      *testing.T
	sc     *scenario
	dir    string
	runs   int
	base   map[string][]byte // files that each schedule begins with, by the end of the name
	from   uint64            // their newest transaction
	line   *crashLine        // theirs
	after  *crashLine        // of all schedules, behind it
	hunt   *crashHunt
	reads  int64
	writes int64
}

func newLooms(t *testing.T, sc *scenario) *looms {
	ls := &looms{t: t, sc: sc, dir: crashDir(t), base: map[string][]byte{}}
	ls.hunt = newCrashHunt(t, &crashWork{name: sc.name, profile: sc.profile, opts: sc.opts}, "")
	ls.line = &crashLine{seed: *crashSeed, profile: sc.profile}
	l := ls.next(false, ls.line)
	r := weave.Run(weave.Config{}, func() {
		l.open()
		w := l.witness()
		sc.base(w)
		w.view(1)
		ls.from = w.eye.seen
		l.bear(l.db.Close())
	})
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	ls.from = l.h.begun.Load() // Close may move pages
	for _, end := range []string{"", "-wal"} {
		b, err := os.ReadFile(l.path + end)
		if err == nil {
			ls.base[end] = b
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	os.RemoveAll(filepath.Dir(l.path))
	ls.after = ls.fork()
	return ls
}

// fork returns the timeline that goes on behind the base.
func (ls *looms) fork() *crashLine {
	return &crashLine{base: ls.line, from: ls.from, seed: ls.line.seed, profile: ls.line.profile}
}

// next makes the place of a schedule.
func (ls *looms) next(record bool, line *crashLine) *loom {
	ls.runs++
	dir := filepath.Join(ls.dir, strconv.Itoa(ls.runs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		ls.t.Fatal(err)
	}
	l := &loom{sc: ls.sc, path: filepath.Join(dir, "app.db"), record: record}
	l.h = &history{line: line, weak: ls.sc.weak, yield: weave.Yield}
	l.h.begun.Store(ls.from)
	l.h.acked.Store(ls.from)
	for end, b := range ls.base {
		if err := os.WriteFile(l.path+end, b, 0o600); err != nil {
			ls.t.Fatal(err)
		}
	}
	return l
}

// open opens the store.
func (l *loom) open() {
	var under vfs.FS = vfs.OS
	if l.sc.fault != nil {
		l.failer = vfs.NewFailer(under)
		under = l.failer
	}
	fsys := vfs.FS(&loomFS{under, l.record, l.sc.remap})
	if l.record {
		l.h.rec = vfs.NewRecorder(fsys)
		fsys = l.h.rec
	}
	o := l.sc.opts
	o.fs = fsys
	if o.reservation == 0 {
		o.reservation = 1 << 20
	}
	o.minCut = 16 << 10
	o.moving = l.h.moving
	if !l.sc.moves {
		o.moving = func(TxID) { weave.Fail(errors.New("pages are moved: the scenario has to say so")) }
	}
	var random uint64
	o.random = func() uint64 { random++; return *crashSeed*0x9e3779b97f4a7c15 + random }
	db, err := Open(l.path, &o)
	if err != nil {
		weave.Fail(err)
	}
	l.db = db
}

func (l *loom) witness() *weft { return &weft{loom: l, eye: witness{h: l.h}} }

// run runs one schedule, and then looks at the store.
func (ls *looms) run(c weave.Config, record bool) weave.Result {
	line := ls.after
	if ls.sc.moves {
		line = ls.fork()
	}
	l := ls.next(record, line)
	defer os.RemoveAll(filepath.Dir(l.path))
	r := weave.Run(c, func() {
		l.open()
		if ls.sc.before != nil {
			ls.sc.before(l.witness())
		}
		if l.failer != nil {
			l.failer.Set(*ls.sc.fault)
		}
		for _, th := range ls.sc.threads {
			w := l.witness()
			w.loom = l
			weave.Start(th.name, func() { th.do(w) })
		}
		weave.Join()
		weave.Forget()
		l.end(c.Seed)
	})
	ls.reads += l.h.reads.Load()
	ls.writes += l.h.commits.Load()
	if r.Err == nil && record {
		r.Err = ls.crash(l, c.Seed)
	}
	return r
}

// end looks at the store when all threads have ended, and lets go of it.
func (l *loom) end(seed uint64) {
	w := l.witness()
	if !l.closed {
		if err := w.eye.view(l.db); err != nil {
			weave.Fail(fmt.Errorf("in the end: %w", err))
		}
		if err := l.db.Check(); err != nil {
			weave.Fail(fmt.Errorf("in the end: %w", err))
		}
	}
	poisoned := l.db.poisoned() != nil
	if seed%4 == 0 && !poisoned {
		w.close()
	} else {
		crashKill(l.db)
		if seed%4 > 1 && !poisoned && !l.record {
			return
		}
	}
	o := l.sc.opts
	o.reservation = 1 << 20
	db, err := Open(l.path, &o)
	if err != nil {
		weave.Fail(fmt.Errorf("open again: %w", err))
	}
	if _, err := crashVerify(db, l.h.line, l.h.acked.Load(), l.h.begun.Load()); err != nil {
		weave.Fail(fmt.Errorf("open again: %w", err))
	}
	if err := db.Check(); err != nil {
		weave.Fail(fmt.Errorf("open again: %w", err))
	}
	crashKill(db)
}

// crash judges states that a power cut may have left: two just after something was promised, with as little on the disk as
// there may be, and one of any moment.
func (ls *looms) crash(l *loom, seed uint64) (err error) {
	log := l.h.rec.Log()
	h := vfs.NewHistory(log)
	points := h.Points()
	var marks []int
	for i := range log {
		if log[i].Kind == vfs.KindMark && (log[i].Note == "ack" || log[i].Note == "observed") {
			marks = append(marks, log[i].Begin+1)
		}
	}
	c := ls.hunt
	c.rng = rand.New(rand.NewPCG(seed, 8))
	clear(c.checked)
	r := weave.Run(weave.Config{}, func() {
		defer weave.Forget()
		for i := range 3 {
			at := points[c.rng.IntN(len(points))]
			s := c.sample(h, at)
			if i < 2 && len(marks) > 0 {
				at = marks[c.rng.IntN(len(marks))]
				s = h.State(at, vfs.DropAll)
			}
			p := promised(h, at, l.h.line)
			p.lo, p.hi = max(p.lo, ls.from), max(p.hi, ls.from)
			if err = c.judge(s, p); err != nil {
				return
			}
		}
	})
	return errors.Join(err, r.Err)
}

// exploreScenario runs schedules of one scenario until one fails.
func exploreScenario(t *testing.T, sc *scenario, budget int) {
	ls := newLooms(t, sc)
	e := weave.NewExplorer(*crashSeed, len(sc.threads), 4*budget)
	if *schedulePairs {
		e, budget = weave.NewExplorer(*crashSeed, len(sc.threads), 1<<26), math.MaxInt
		e.PairsOnly = true
	}
	distinct := map[uint64]struct{}{}
	points, n := 0, 0
	start := time.Now()
	for ; n < budget; n++ {
		if left, _ := e.Left(); *schedulePairs && n > 0 && left == 0 {
			break
		}
		c, record := e.Next(), n%8 == 5
		r := ls.run(c, record)
		if r.Err != nil {
			ls.report(c, record, r, n+1)
			return
		}
		e.Learn(&r)
		distinct[r.Sum] = struct{}{}
		points += r.Points
		if n%97 == 50 {
			if again := ls.run(weave.Config{Plan: weave.Follow(r.Turns), Order: c.Order, Seed: c.Seed}, record); again.Sum != r.Sum {
				t.Fatalf("schedule %s is not the same again: %v", scheduleName(sc, c, record, r.Turns), again.Err)
			}
		}
	}
	seconds := time.Since(start).Seconds()
	left, all := e.Left()
	t.Logf("%d schedules, %d distinct, %.0f a second, %d choices each; %d with one interruption, %d with two (%d left, all: %t); "+
		"%d reads, %d commits, %d crash states; seed %d", n, len(distinct), float64(n)/seconds, points/n, e.Stats.Once, e.Stats.Twice,
		left, all, ls.reads, ls.writes, ls.hunt.states, *crashSeed)
}

// scheduleName is a schedule as the flag takes it: scenario, seed, whether it is recorded, the order of the threads, and who
// goes on when, where that is not as it would be.
func scheduleName(sc *scenario, c weave.Config, record bool, turns []weave.Turn) string {
	var list []string
	for _, t := range turns {
		list = append(list, fmt.Sprintf("%d>%d", t.N, t.To))
	}
	return fmt.Sprintf("%s#%x#%t#%s#%s", sc.name, c.Seed, record, strings.Trim(fmt.Sprint(c.Order), "[]"), strings.Join(list, ","))
}

// parseSchedule reads it.
func parseSchedule(s string) (sc *scenario, c weave.Config, record bool, err error) {
	part := strings.Split(s, "#")
	if len(part) != 5 || scenarioNamed(part[0]) == nil {
		return nil, c, false, fmt.Errorf("%q is no schedule", s)
	}
	if c.Seed, err = strconv.ParseUint(part[1], 16, 64); err != nil {
		return nil, c, false, err
	}
	for _, f := range strings.Fields(part[3]) {
		rank, err := strconv.Atoi(f)
		if err != nil {
			return nil, c, false, err
		}
		c.Order = append(c.Order, rank)
	}
	var turns []weave.Turn
	for f := range strings.FieldsFuncSeq(part[4], func(r rune) bool { return r == ',' }) {
		var t weave.Turn
		if _, err := fmt.Sscanf(f, "%d>%d", &t.N, &t.To); err != nil {
			return nil, c, false, err
		}
		turns = append(turns, t)
	}
	c.Plan = weave.Follow(turns)
	return scenarioNamed(part[0]), c, part[2] == "true", nil
}

// report makes a failing schedule as short as it gets, and tells what happened in it.
func (ls *looms) report(c weave.Config, record bool, r weave.Result, after int) {
	run := func(turns []weave.Turn, trace bool) weave.Result {
		return ls.run(weave.Config{Plan: weave.Follow(turns), Order: c.Order, Seed: c.Seed, Trace: trace}, record)
	}
	turns := weave.Shorten(r.Turns, func(turns []weave.Turn) bool { return run(turns, false).Err != nil })
	short := run(turns, true)
	if short.Err == nil { // something in it is not the same in every run
		short, turns = r, r.Turns
	}
	ls.t.Errorf("schedule %d: %v\nagain: go test -run '^TestInterleavings$' -folio.seed %d -folio.schedule '%s' .\n%s",
		after, short.Err, *crashSeed, scheduleName(ls.sc, c, record, turns), traced(short.Trace))
}

// replaySchedule runs the schedule that the flag asks for.
func replaySchedule(t *testing.T, name string) {
	sc, c, record, err := parseSchedule(name)
	if err != nil {
		t.Fatal(err)
	}
	c.Trace = true
	r := newLooms(t, sc).run(c, record)
	t.Log("\n" + traced(r.Trace))
	if r.Err != nil {
		t.Error(r.Err)
	}
}

// traced tells where tasks were when others went on.
func traced(steps []weave.Step) string {
	var b strings.Builder
	for _, s := range steps {
		if s.From != s.To {
			fmt.Fprintf(&b, "%6d  %-16s %-24s then %s\n", s.N, s.From, weave.Where(s.Site), s.To)
		}
	}
	return b.String()
}
