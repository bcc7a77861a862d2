package folio

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// The matrix of failing calls: each call that a workload makes on files fails in turn, in each way that there is. It must be
// told to the call of the store that it concerns; the store must go on, or refuse writes and say why; and what was
// acknowledged must be there afterwards, and pass Check. Which errors need not be told, and why, is a list (failing_silent_test.go).
// Every line of the library that calls the file system must have failed (failing_sites_test.go). All of it:
//
//	go test -run TestFailingCalls -folio.failcalls -timeout 1h -v .
var (
	failAll  = flag.Bool("folio.failcalls", false, "make every call of every workload fail in every way, not a sample")
	failOnly = flag.String("folio.failcall", "", "a run that the matrix of failing calls printed: only this is made")
)

// failError is what a call fails with. Each run has one of its own, so that it is known again wherever it turns up.
type failError struct{ errno syscall.Errno }

func (e *failError) Error() string { return "injected " + e.errno.Error() }
func (e *failError) Unwrap() error { return e.errno }

// failWay is how calls fail.
type failWay struct {
	name  string
	rule  vfs.Rule
	errno syscall.Errno
}

var (
	failSpace   = []vfs.Kind{vfs.KindAllocate, vfs.KindWrite, vfs.KindCreate, vfs.KindLink}
	failChanges = []vfs.Kind{vfs.KindAllocate, vfs.KindWrite, vfs.KindCreate, vfs.KindLink, vfs.KindRename, vfs.KindRemove,
		vfs.KindTruncate, vfs.KindSync, vfs.KindMsync, vfs.KindSyncDir}
	failWrites = []vfs.Kind{vfs.KindWrite}
)

var failWays = []failWay{
	{"EIO", vfs.Rule{}, syscall.EIO},
	{"EIO-forever", vfs.Rule{Forever: true}, syscall.EIO},
	{"ENOSPC", vfs.Rule{}, syscall.ENOSPC},
	{"ENOSPC-forever", vfs.Rule{Forever: true}, syscall.ENOSPC},
	{"full-disk", vfs.Rule{Kinds: failSpace, Forever: true}, syscall.ENOSPC},                    // all else works
	{"full-disk-short", vfs.Rule{Kinds: failWrites, Forever: true, Short: 700}, syscall.ENOSPC}, // and takes a part
	{"short", vfs.Rule{Kinds: failWrites, Short: 700}, syscall.EIO},
	{"sync", vfs.Rule{Kinds: syncKinds, Forever: true}, syscall.EIO},          // once is EIO
	{"read-only", vfs.Rule{Kinds: failChanges, Forever: true}, syscall.EROFS}, // as file systems become after an error
	{"late", vfs.Rule{Kinds: failChanges, Late: true}, syscall.EIO},           // what was asked for has been done
}

// failStrike is a call that failed.
type failStrike struct {
	site  vfs.Site
	stack []string // functions, innermost first
	step  *failStep
	life  int // which opening of the store it was in
	told  bool
}

func (s *failStrike) String() string {
	return fmt.Sprintf("%s at %s:%d in %s", s.site.Kind, s.site.File, s.site.Line, strings.Join(s.stack, " < "))
}

// within reports whether a function is on the stack, or one that is written in it.
func (s *failStrike) within(fn string) bool {
	return slices.ContainsFunc(s.stack, func(f string) bool { return f == fn || strings.HasPrefix(f, fn+".func") })
}

// failStep is a call of the store that is under way.
type failStep struct {
	what    string
	strikes []*failStrike
}

// failRun is a workload's run in which calls fail.
type failRun struct {
	*crashRun
	w      *failWork
	failer *vfs.Failer
	leak   *leakFS
	bad    *failError // what calls fail with; nil: none does
	others []*DB      // stores that were opened beside, whose files do not fail
	opened time.Time  // when the run began

	mu      sync.Mutex
	lo, hi  uint64 // transactions that must be there, that may be
	steps   map[string]*failStep
	strikes []*failStrike
	life    int // how often the store was opened
	wrong   []string
}

// problem notes what is wrong. mu is held.
func (f *failRun) problem(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// marks keeps account of what was promised.
func (f *failRun) marks(kind string, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch kind {
	case "begin":
		f.hi = max(f.hi, n)
	case "undone": // its error was none of those after which a transaction may be there all the same
		if !f.w.threads && f.hi == n {
			f.hi = n - 1
		}
	case "ack", "observed", "relaxed":
		f.lo = max(f.lo, n)
		f.hi = max(f.hi, n)
	}
}

// watch makes a call of the store, and looks whether it tells what failed in it, and of nothing else.
func (f *failRun) watch(what string, call func() error) error {
	s, g := &failStep{what: what}, goroutine()
	f.mu.Lock()
	f.steps[g] = s
	if what == "open" {
		f.life++
	}
	f.mu.Unlock()
	err := call()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.steps, g)
	told := f.bad != nil && errors.Is(err, f.bad)
	if told || f.noted() {
		for _, strike := range f.strikes {
			strike.told = strike.told || strike.step == s || strike.step == nil
		}
	}
	switch {
	case f.bad != nil && f.bad.errno == syscall.EROFS && errors.Is(err, ErrTimeout): // a reader without a table, beside a writer
	case err == nil || slices.ContainsFunc(f.w.expected, func(e error) bool { return errors.Is(err, e) }):
	case !told:
		f.problem("%s gives another error: %v", what, err)
	case len(s.strikes) == 0 && what != "read" && !errors.Is(err, ErrPoisoned) && !f.w.threads: // a transaction keeps its error
		f.problem("%s is told of what was none of its calls: %v", what, err)
	}
	return err
}

// noted reports whether the store says that work failed for which nobody waits.
func (f *failRun) noted() bool {
	if f.bad == nil || f.w.threads || f.db == nil {
		return false
	}
	p := f.db.backgroundError.Load()
	return p != nil && errors.Is(*p, f.bad)
}

// struck is told of each call.
func (f *failRun) struck(site vfs.Site, failed bool) {
	failSites.add(site, failed)
	if !failed {
		return
	}
	s := &failStrike{site: site, stack: failStack()}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.life = f.life
	if s.step = f.steps[goroutine()]; s.step != nil {
		s.step.strikes = append(s.step.strikes, s)
	}
	f.strikes = append(f.strikes, s)
}

// failStack returns the library's functions that are being executed, without the file system's.
func failStack() (names []string) {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		frame, more := frames.Next()
		name, ok := strings.CutPrefix(frame.Function, "github.com/foliodb/folio")
		if ok && !strings.HasSuffix(frame.File, "_test.go") && !strings.HasPrefix(name, "/internal/vfs.") {
			names = append(names, strings.TrimLeft(name, "./"))
		}
		if !more {
			return names
		}
	}
}

// goroutine returns the running goroutine's name: "goroutine 7".
func goroutine() string {
	var buf [40]byte
	name, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
	return name
}

// beside opens the store as another process would, whose calls do not fail. It is let go of when the run ends.
func (f *failRun) beside(o Options) *DB {
	f.hide(f.db)
	o.fs, o.reservation, o.LockTimeout, o.alone = vfs.OS, f.opts.reservation, f.opts.LockTimeout, true // alone: see hide
	db, err := Open(f.path, &o)
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.bad == nil { // else it depends on what has failed
			f.problem("beside: %v", err)
		}
		return nil
	}
	f.others = append(f.others, db)
	f.hide(db)
	return db
}

// hide has the process forget that it has the file open: another process would not know.
// No goroutine of the store may look meanwhile.
func (f *failRun) hide(db *DB) {
	if db != nil {
		key := db.key // which file it is, the store goes on to know
		db.unregister()
		db.key = key
	}
}

// failKill lets go of a store as the death of its process does. It returns what could not be let go of.
func failKill(db *DB) (err error) {
	if db == nil || db.closing.Swap(true) {
		return nil
	}
	close(db.ended)
	db.background.Wait()
	db.life.Lock()
	db.closed.Store(true)
	db.life.Unlock()
	db.share.mu.Lock()
	if db.table != nil {
		err = db.table.Kill()
		db.table, db.share.detached = nil, true
	}
	db.share.mu.Unlock()
	db.attached = false
	return errors.Join(err, db.release())
}

// aftermath comes when the disk works again: reads go on, writes too or are refused; and the next process finds what it must.
func (f *failRun) aftermath(kill bool) {
	f.failer.Set()
	poisoned := false
	if f.db != nil && !f.db.closed.Load() {
		f.view()
		if !f.opts.reads() {
			if k, err := f.transact(Sync); err == nil {
				f.marks("ack", k)
			}
		}
		f.db.background.Wait() // a sync that is known to fail there may not have come back yet
		poisoned = f.db.poisoned() != nil
		if !poisoned && f.must() != "" {
			f.problem("the store goes on after a failed sync: %s", f.must())
		}
		if cause := f.db.poisoned(); cause != nil && !errors.Is(cause, f.bad) {
			f.problem("poisoned by another error: %v", cause)
		}
	}
	for _, db := range f.others {
		failKill(db)
	}
	if kill || f.db == nil {
		failKill(f.db)
	} else {
		f.watch("close", f.db.Close)
	}
	if what := f.leak.left(); what != "" {
		f.problem("%s", what)
	}
	if err := f.reopen(); err != nil {
		f.problem("the next process: %v", err)
	}
	f.count(poisoned)
}

// must names a failed sync that the open store must not have got over.
func (f *failRun) must() string {
	for _, s := range f.strikes {
		switch s.stack[0] {
		case "page.(*File).Sync", "page.(*File).syncMapping", "page.(*File).writeOutPieces", "page.(*File).writeOutPieces.func1", "wal.(*Log).sync", "(*DB).writeSlots":
			if s.life == f.life && !s.within("Open") && !s.within("(*Tx).compactInto") && !s.within("Salvage") {
				return s.String()
			}
		}
	}
	return ""
}

// reopen opens the store as the next process does.
func (f *failRun) reopen() error {
	o := Options{LockTimeout: f.opts.LockTimeout, reservation: f.opts.reservation, PageSize: f.opts.PageSize}
	db, err := Open(f.path, &o)
	if err != nil {
		return err
	}
	defer failKill(db)
	k, err := crashVerify(db, f.line, f.lo, f.hi)
	if err != nil {
		return err
	}
	if err := db.Check(); err != nil {
		return err
	}
	line := f.line.fork(k, 4711)
	if _, err := line.commit(db, Sync, func(uint64) {}); err != nil {
		return err
	}
	return db.Close()
}

// count adds the run to the table, and notes failures that nobody was told of.
func (f *failRun) count(poisoned bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	failTotals.mu.Lock()
	defer failTotals.mu.Unlock()
	failTotals.runs++
	if poisoned {
		failTotals.poisoned++
	}
	for _, s := range f.strikes {
		failTotals.failed++
		switch why := s.silent(f.bad.errno); {
		case s.told:
			failTotals.told++
		case why != nil:
			why.times.Add(1)
			failTotals.silent++
		default:
			failTotals.unreported++
			what := "in the background"
			if s.step != nil {
				what = "by " + s.step.what
			}
			f.problem("nobody was told, %s: %s", what, s)
		}
	}
}

// failTotals is the table's last line.
var failTotals struct {
	mu                               sync.Mutex
	workloads, calls, runs, poisoned int
	failed, told, silent, unreported int
}

// try makes one run.
func (w *failWork) try(t *testing.T, dir string, way failWay, nth int) *failRun {
	bad := &failError{way.errno}
	rule := way.rule
	rule.Nth, rule.Err = nth, bad
	f := w.prepare(t, dir)
	f.bad = bad
	f.failer.Set(rule)
	w.guarded(f, fmt.Sprintf("%s/%s/%d", w.name, way.name, nth), func() {
		w.run(f)
		f.aftermath(nth%2 == 0)
	})
	return f
}

// guarded makes a panic a finding, and a hang one too.
func (w *failWork) guarded(f *failRun, name string, fn func()) {
	timer := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic("failing calls: " + name + " hangs")
	})
	defer timer.Stop()
	defer func() {
		if r := recover(); r != nil {
			f.problem("panic: %v\n%s", r, debug.Stack())
		}
	}()
	fn()
}

// sound makes the run in which nothing fails, and returns the calls.
func (w *failWork) sound(t *testing.T, dir string) (calls []vfs.Site) {
	f := w.prepare(t, dir)
	var mu sync.Mutex
	f.failer.Watch(func(site vfs.Site, _ bool) {
		failSites.add(site, false)
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, site)
	})
	w.guarded(f, w.name, func() {
		w.run(f)
		f.failer.Watch(nil)
		f.aftermath(false)
	})
	if len(f.wrong) > 0 {
		t.Fatalf("nothing failed, but: %s", strings.Join(f.wrong, "\n"))
	}
	return calls
}

// failures lists what failed, as far as it fits a screen.
func (f *failRun) failures() string {
	var b strings.Builder
	for i, s := range f.strikes {
		if i == 5 {
			fmt.Fprintf(&b, "and %d others failed\n", len(f.strikes)-i)
			break
		}
		fmt.Fprintf(&b, "failed: %s\n", s)
	}
	return b.String()
}

// failCase is a run to be made.
type failCase struct {
	way failWay
	nth int
}

// cases returns the runs of a workload that makes these calls: all, or a sample.
func (w *failWork) cases(calls []vfs.Site) (cases []failCase) {
	rng := rand.New(rand.NewPCG(*crashSeed, uint64(len(w.name))))
	for _, way := range failWays {
		n := 0
		for _, site := range calls {
			if len(way.rule.Kinds) > 0 && !slices.Contains(way.rule.Kinds, site.Kind) {
				continue
			}
			n++
			if *failAll || !w.threads && failSites.claim(site, way.name) || rng.IntN(12*len(calls)) < 20 {
				cases = append(cases, failCase{way, n})
			}
		}
	}
	return cases
}

// TestFailingCalls makes calls fail, and prints what came of it.
func TestFailingCalls(t *testing.T) {
	began := time.Now()
	works := failWorks()
	if len(works) < 30 {
		t.Errorf("%d workloads", len(works))
	}
	// The system tells nothing of a writer that is another user's: then the table is asked.
	old := lockHolder
	defer func() { lockHolder = old }()
	lockHolder = func(info vfs.Info, off int64) int {
		if off == lockWriter {
			return 0
		}
		return old(info, off)
	}
	t.Run("all", func(t *testing.T) {
		for _, w := range works {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				w.matrix(t)
			})
		}
	})
	if t.Failed() || *failOnly != "" || failTotals.workloads < len(works) {
		return // not all of it was run
	}
	failSites.judge(t)
	c := &failTotals
	t.Logf("%d workloads of %d calls in all, %d ways to fail: %d runs in %.0f s, %d calls failed, %d told to their callers, %d that need not be, %d unreported; %d stores refused writes, the others went on",
		len(works), c.calls, len(failWays), c.runs, time.Since(began).Seconds(), c.failed, c.told, c.silent, c.unreported, c.poisoned)
	for i := range failSilences {
		s := &failSilences[i]
		t.Logf("%7d need not be told: %s", s.times.Load(), s)
		if *failAll && !s.rare && s.times.Load() == 0 {
			t.Errorf("no call failed that need not be told because of: %s", s)
		}
	}
}

// matrix makes the runs of one workload.
func (w *failWork) matrix(t *testing.T) {
	dir := crashDir(t)
	calls := w.sound(t, dir)
	failTotals.mu.Lock()
	failTotals.workloads++
	failTotals.calls += len(calls)
	failTotals.mu.Unlock()
	found := 0
	for _, c := range w.cases(calls) {
		name := fmt.Sprintf("%s/%d", c.way.name, c.nth)
		if *failOnly != "" && *failOnly != name {
			continue
		}
		f := w.try(t, dir, c.way, c.nth)
		os.RemoveAll(filepath.Dir(f.path))
		if len(f.wrong) == 0 {
			continue
		}
		t.Errorf("%s: %s\n%sagain: go test -run '^%s$' -folio.failcalls -folio.failcall %s .", name, strings.Join(f.wrong, "\n"), f.failures(),
			strings.ReplaceAll(t.Name(), " ", "_"), name)
		if found++; found == 5 {
			t.Fatal("and so on")
		}
	}
}
