package folio

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// The crash tests run workloads on a recorder, build states of the disk that a power cut at any moment of the log
// may leave (see vfs.History), and open the store in each. What must hold of it is in judge.
//
// A campaign is, for example,
//
//	go test -run 'TestCrash' -timeout 2h -folio.crashstates 1000000 -folio.seed 7 .
//
// With -folio.whole TestCrash and TestCrashKill leave nothing to chance: see crashHunt.whole. Of one workload that is
//
//	go test -run 'TestCrash$/plain$' -timeout 1h -folio.whole .
var (
	crashStates = flag.Int("folio.crashstates", 120, "distinct states per workload of the crash tests")
	crashSeed   = flag.Uint64("folio.seed", 1, "seed of the crash tests")
	crashWhole  = flag.Bool("folio.whole", false, "TestCrash and TestCrashKill: all states that are not drawn at random, of all moments")
	crashState  = flag.String("folio.crashstate", "", "a state that a crash test printed: only this is built")
	crashFault  = flag.Int("folio.crashfault", 0, "the call that fails, of a crash test that printed it")
)

// campaign is the budget from which on the crash tests leave out nothing that can be visited one by one.
const campaign = 1000

// crashTotals counts the states that were opened, by test.
var crashTotals crashCount

type crashCount struct {
	mu    sync.Mutex
	tests map[string]*crashHunt // sums
}

func (c *crashCount) add(test string, h *crashHunt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tests == nil {
		c.tests = map[string]*crashHunt{}
	}
	sum := c.tests[test]
	if sum == nil {
		sum = &crashHunt{}
		c.tests[test] = sum
	}
	sum.states += h.states
	sum.inside += h.inside
	sum.failures += h.failures
	sum.calls += h.calls
}

// print says what a campaign has done.
func (c *crashCount) print(took time.Duration) {
	all := 0
	for _, test := range slices.Sorted(maps.Keys(c.tests)) {
		sum := c.tests[test]
		fmt.Printf("crash states: %9d %s", sum.states, test)
		if sum.inside > 0 {
			fmt.Printf(", %d of them within recovery", sum.inside)
		}
		if sum.calls > 0 {
			fmt.Printf(", %d of %d calls failed once", sum.failures, sum.calls)
		}
		fmt.Println()
		all += sum.states
	}
	if all > 0 {
		fmt.Printf("crash states: %9d in all, seed %d, %.0f a second\n", all, *crashSeed, float64(all)/took.Seconds())
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	start := time.Now()
	code := m.Run()
	if testing.Verbose() {
		crashTotals.print(time.Since(start))
	}
	os.Exit(code)
}

// crashDir returns a new directory, in memory where there is such a place.
func crashDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "folio-crash")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestCrash cuts the power at any moment of each workload.
// Cases A7, A8, B3, B4, B5, C2 and C6 of RELIABILITY.md.
func TestCrash(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, w, "")
			r := c.record()
			defer c.log()
			if *crashState != "" {
				c.only(r)
				return
			}
			promise := func(h *vfs.History, at int) crashPromise { return promised(h, at, r.line) }
			if *crashWhole {
				c.report(c.whole(r.rec.Log(), promise))
				return
			}
			c.report(c.hunt(r.rec.Log(), *crashStates, promise))
		})
	}
}

// TestCrashKill kills the process at moments of each workload: relaxed commits must survive that too.
func TestCrashKill(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		if !w.weak {
			continue // TestCrash has these states
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, w, "")
			r := c.record()
			defer c.log()
			h := vfs.NewHistory(r.rec.Log())
			points := h.Points()
			killed := 0
			for k, i := range c.rng.Perm(len(points)) {
				if k > max(*crashStates/4, 20) && !*crashWhole || c.failed {
					break
				}
				p := promised(h, points[i], r.line)
				n, _ := h.Mark(points[i], "relaxed")
				p.lo = max(p.lo, n)
				c.report(c.judge(h.State(points[i], vfs.KeepAll), p))
				killed++
			}
			if *crashWhole {
				fmt.Printf("%s: whole: killed at %d of %d moments\n", t.Name(), killed, len(points))
			}
		})
	}
}

// TestCrashRestart cuts the power again while a store recovers, or kills the process and cuts the power of the next one: at every
// moment of each recovery, and at random ones behind it.
// Case C1 of RELIABILITY.md.
func TestCrashRestart(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, w, "")
			r := c.record()
			defer c.log()
			h := vfs.NewHistory(r.rec.Log())
			points := h.Points()
			const each = 40
			inside := 2
			if *crashStates >= campaign {
				inside = 10
			}
			for range max(*crashStates/2/each, 2) {
				s, p := c.found(h, points, r.line)
				if c.report(c.restart(s, p, inside, each)); c.failed {
					return
				}
			}
		})
	}
}

// found is what a process may find at a random moment, after a kill or a power cut, and what it must find there.
func (c *crashHunt) found(h *vfs.History, points []int, line *crashLine) (*vfs.State, crashPromise) {
	at := points[c.rng.IntN(len(points))]
	s := h.State(at, vfs.KeepAll)
	if c.rng.IntN(2) == 0 {
		s = c.sample(h, at).Cut()
	}
	return s, promised(h, at, line)
}

// TestCrashRestartFailedSync makes each sync of a recovery fail once, or two of them when there are few states. Who recovers is
// told; the next process finds what that has left, and the power is cut in its life.
func TestCrashRestartFailedSync(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := w.start(t, vfs.OS, *crashSeed, 0)
			c := newCrashHunt(t, w, "")
			defer c.log()
			h := vfs.NewHistory(r.rec.Log())
			points := h.Points()
			const each = 10
			for range max(*crashStates/20/each, 1) {
				s, p := c.found(h, points, r.line)
				c.fault = 0
				if c.report(c.restart(s, p, 0, 0)); c.failed { // for the number of its syncs
					return
				}
				c.calls += c.syncs
				faults := c.rng.Perm(c.syncs)
				if *crashStates < campaign {
					faults = faults[:min(2, len(faults))]
				}
				for _, i := range faults {
					c.fault = i + 1
					if err := c.restart(s, p, 0, each); err != nil {
						c.report(fmt.Errorf("sync %d of recovery fails: %w", c.fault, err))
						return
					}
				}
			}
		})
	}
}

// TestCrashRestartNew kills the process at every moment up to its first acknowledgement. The next one finds a store, or
// none, of which not even the name need be durable.
func TestCrashRestartNew(t *testing.T) {
	w := &crashWorks[0]
	c := newCrashHunt(t, w, "")
	r := c.record()
	defer c.log()
	h := vfs.NewHistory(r.rec.Log())
	for _, at := range h.Points() {
		if n, _ := h.Mark(at, "ack"); n > 0 {
			break
		}
		c.report(c.restart(h.State(at, vfs.KeepAll), promised(h, at, r.line), 0, max(*crashStates/4, 20)))
		if c.failed {
			break
		}
	}
}

// TestCrashRestartClose kills the process, or cuts the power, at every moment of a Close and of the Open behind it, and cuts
// the power of the next process.
// Case C5 of RELIABILITY.md.
func TestCrashRestartClose(t *testing.T) {
	i := slices.IndexFunc(crashWorks, func(w crashWork) bool { return w.name == "again" })
	w := &crashWorks[i]
	c := newCrashHunt(t, w, "")
	r := c.record()
	defer c.log()
	h := vfs.NewHistory(r.rec.Log())
	for _, at := range h.Points() {
		ack, _ := h.Mark(at, "ack")
		begin, _ := h.Mark(at, "begin")
		if ack != 3 || begin != 3 {
			continue
		}
		for _, s := range []*vfs.State{h.State(at, vfs.KeepAll), c.sample(h, at).Cut()} {
			if c.report(c.restart(s, promised(h, at, r.line), 0, max(*crashStates/6, 10))); c.failed {
				return
			}
		}
	}
}

// sample returns one of the states of a moment.
func (c *crashHunt) sample(h *vfs.History, at int) *vfs.State {
	s := h.State(at, vfs.DropAll)
	n := 0
	h.Enumerate(at, vfs.Plan{Budget: 1 + c.rng.IntN(20), Seed: c.rng.Uint64(), Torture: true}, func(x *vfs.State) bool {
		if n++; c.rng.IntN(n) == 0 {
			s = x
		}
		return true
	})
	return s
}

// crashLost decides what the disk holds of the sectors that a failed sync has lost, once the cache is dropped: by the seed the
// old content of all, the new content of all, or of each sector the old, the new or a mixture. For the store all that
// is the same: it may rely on none of it.
func crashLost(seed uint64) vfs.Chooser {
	switch seed % 3 {
	case 0:
		return vfs.DropAll
	case 1:
		return vfs.KeepAll
	}
	return func(u vfs.Unit) vfs.Fate {
		rng := rand.New(rand.NewPCG(seed, uint64(u.Op)<<32^uint64(u.Part)<<8^uint64(u.Ino)))
		switch rng.IntN(5) {
		case 0, 1:
			return vfs.Drop
		case 2, 3:
			return vfs.Keep
		}
		return vfs.Mixed(rng.IntN(1 << 20))
	}
}

// syncKinds are the calls whose failure leaves nobody knowing what is on the disk.
var syncKinds = []vfs.Kind{vfs.KindSync, vfs.KindMsync, vfs.KindSyncDir}

// TestCrashFailedSync makes each sync of each workload fail once, or a sample of them when there are few states. The workload
// must be told; what it was told is done must survive whatever the disk made of the rest, and restarts and power cuts
// after it.
func TestCrashFailedSync(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		if w.sound {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, w, "")
			defer c.log()
			crashEachFault(c, syncKinds, true, nil)
		})
	}
}

// TestCrashFullDisk makes each call that takes space fail, once or from then on, as a full disk does.
func TestCrashFullDisk(t *testing.T) {
	for i := range crashWorks {
		w := &crashWorks[i]
		if w.sound {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, w, "")
			defer c.log()
			kinds := []vfs.Kind{vfs.KindAllocate, vfs.KindWrite, vfs.KindCreate, vfs.KindLink}
			crashEachFault(c, kinds, false, func(r *vfs.Rule, nth int) {
				r.Err, r.Forever, r.Short = syscall.ENOSPC, nth%2 == 0, nth%3*700
			})
		})
	}
}

// crashEachFault runs the workload once for each call of these kinds, or a sample of the calls, and makes that one fail. each
// says that a budget of a campaign is spread over all of them.
func crashEachFault(c *crashHunt, kinds []vfs.Kind, each bool, change func(r *vfs.Rule, nth int)) {
	count := vfs.NewFailer(vfs.OS)
	c.w.start(c.t, count, *crashSeed, 0)
	calls := count.Calls(kinds...)
	runs := min(calls, max(*crashStates/12, 4))
	if each && *crashStates >= campaign {
		runs = calls
	}
	budget := max(*crashStates/2/max(runs, 1), 8)
	c.calls = calls
	for _, i := range c.rng.Perm(calls)[:runs] {
		nth := i + 1
		if *crashFault > 0 {
			nth = *crashFault
		}
		rule := vfs.Rule{Kinds: kinds, Nth: nth}
		if change != nil {
			change(&rule, nth)
		}
		c.replay = fmt.Sprintf("-folio.crashfault %d ", nth)
		did, err := crashFaulted(c, rule, budget)
		if did {
			c.failures++
		}
		if err != nil {
			c.report(fmt.Errorf("call %d fails: %w", nth, err))
			return
		}
		if *crashFault > 0 {
			return
		}
	}
}

// firstFailure returns the moment of the first call in a log that failed, 0 when none did: what a crash before it leaves is
// the same in every run.
func firstFailure(log []vfs.Op) int {
	for i := range log {
		if log[i].Err != nil {
			return log[i].Begin
		}
	}
	return 0
}

// crashFaulted is one run of crashEachFault. It tells whether a call failed: of goroutines another run may make fewer of them.
func crashFaulted(c *crashHunt, rule vfs.Rule, budget int) (did bool, err error) {
	failer := vfs.NewFailer(vfs.OS, rule)
	r := c.w.start(c.t, failer, *crashSeed, rule.Nth)
	did = failer.Failed() > 0
	for _, err := range r.errs {
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrDatabaseNotOpen) {
			return did, fmt.Errorf("the workload was told: %w", err)
		}
	}
	clear(c.checked)                                                // every run has a store of its own
	c.rng = rand.New(rand.NewPCG(*crashSeed, 100+uint64(rule.Nth))) // and is the same without the others
	c.from = firstFailure(r.rec.Log())
	if *crashState != "" {
		c.only(r)
		return did, nil
	}
	h := vfs.NewHistory(r.rec.Log())
	promise := func(h *vfs.History, at int) crashPromise { return promised(h, at, r.line) }
	if err := c.hunt(r.rec.Log(), budget/2, promise); err != nil {
		return did, err
	}
	p := promise(h, h.Events())
	if err := c.judge(h.State(h.Events(), vfs.KeepAll), p); err != nil {
		return did, err
	}
	if did && len(r.errs) == 0 && !c.w.threads && strings.Contains(c.t.Name(), "FailedSync") {
		return did, errors.New("nobody was told")
	}
	if err := c.restart(h.State(h.Events(), vfs.KeepAll), p, 0, budget/2); err != nil {
		return did, err
	}
	return did, c.restartBehind(h, promise, budget)
}

// restartBehind restarts at random moments behind a failure, until which the process lived: of a campaign at two at which it was
// killed, and at one at which the power was cut; else at one, killed or cut by turns.
func (c *crashHunt) restartBehind(h *vfs.History, promise func(h *vfs.History, at int) crashPromise, budget int) error {
	points := slices.DeleteFunc(h.Points(), func(at int) bool { return at <= c.from })
	if c.from == 0 || len(points) == 0 {
		return nil
	}
	cuts := []bool{c.rng.IntN(2) == 0}
	if *crashStates >= campaign {
		cuts = []bool{false, false, true}
	}
	for _, cut := range cuts {
		at := points[c.rng.IntN(len(points))]
		s := h.State(at, vfs.KeepAll)
		// Who makes a store takes its name back when the sync of the folder fails. Who is killed before that leaves a name
		// of which the next process cannot know that no sync of its own makes it durable; RELIABILITY.md says so.
		if cut || s.LostName("app.db") {
			s = c.sample(h, at).Cut()
		}
		if err := c.restart(s, promise(h, at), 0, max(budget/4, 2)); err != nil {
			return err
		}
	}
	return nil
}

// TestCrashLeavesNothing looks for goroutines that outlive their stores.
func TestCrashLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range crashWorks {
		crashWorks[i].start(t, vfs.OS, *crashSeed, 0)
	}
	for tries := 0; runtime.NumGoroutine() > before; tries++ {
		if tries == 100 {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
