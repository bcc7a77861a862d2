package folio

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// Small workloads, all of them: every sequence of one to three steps on a fresh store. What a mind that writes workloads does
// not think of is mostly short. (CrashMonkey's authors found that of the crash bugs of file systems most need no more
// than three operations: Mohan et al., Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing, OSDI 2018.)
//
// All of them, with a thousand states for each:
//
//	go test -run TestCrashSmall -timeout 2h -folio.small 1000 -v .
var smallStates = flag.Int("folio.small", 0, "distinct states for each of all small workloads; 0: a sample of the workloads, with a few states each")

// smallRun is one run of a sequence.
type smallRun struct {
	*crashRun
	planned map[uint64]crashProfile // by transaction
	next    crashProfile            // of a transaction that is not planned yet
	reader  *Tx
}

// profile makes the transactions of the timeline: whatever the step that comes to a number does.
func (s *smallRun) profile(g *crashGen, k uint64) {
	if s.planned[k] == nil {
		s.planned[k] = s.next
	}
	s.planned[k](g, k)
}

func (s *smallRun) endReader() {
	if s.reader != nil {
		s.note(crashCompare(s.reader, s.line))
		s.note(s.reader.Rollback())
		s.reader = nil
	}
}

// smallStep is one thing to do with a store.
type smallStep struct {
	name    string
	profile crashProfile // nil: it commits nothing
	do      func(s *smallRun)
}

func smallCommit(s *smallRun)  { s.commit(1) }
func smallRelaxed(s *smallRun) { s.relax(1) }

func smallPut(g *crashGen, k uint64) { g.put(nil, fmt.Sprintf("p%d", k%3), 20+int(k)) }

var smallSteps = []smallStep{
	{"put", smallPut, smallCommit},
	{"relaxed", smallPut, smallRelaxed},
	{"delete", func(g *crashGen, k uint64) { g.do(crashOp{kind: "del", key: g.now.choose(g.Rand, false)}) }, smallCommit},
	{"large", func(g *crashGen, k uint64) { g.put(nil, "large", directRun+100*int(k)) }, smallCommit},
	{"range", func(g *crashGen, k uint64) { g.do(crashOp{kind: "range", key: "g", to: "q"}) }, smallCommit},
	{"grow", func(g *crashGen, k uint64) {
		for i := range 40 {
			g.put(nil, fmt.Sprintf("g%02d", i), 3000)
		}
	}, smallCommit},
	{"sync", nil, func(s *smallRun) { s.sync() }},
	{"checkpoint", nil, func(s *smallRun) { s.checkpoint() }},
	{"reader", nil, func(s *smallRun) {
		if s.reader != nil {
			s.endReader()
			return
		}
		tx, err := s.db.Begin(false)
		if s.note(err); err == nil {
			s.reader = tx
			s.observed(tx)
			s.note(crashCompare(tx, s.line))
		}
	}},
	{"reopen", nil, func(s *smallRun) {
		s.endReader()
		s.close()
		s.open()
	}},
}

// smallSequences returns all sequences of up to n steps.
func smallSequences(n int) [][]int {
	all := [][]int{{}}
	for from := 0; n > 0; n-- {
		to := len(all)
		for ; from < to; from++ {
			for step := range smallSteps {
				all = append(all, append(slices.Clone(all[from]), step))
			}
		}
	}
	return all[1:]
}

func smallName(steps []int) string {
	var names []string
	for _, i := range steps {
		names = append(names, smallSteps[i].name)
	}
	return strings.Join(names, "-")
}

// parseSmall is the inverse of smallName.
func parseSmall(t *testing.T, name string) (steps []int) {
	for part := range strings.SplitSeq(name, "-") {
		i := slices.IndexFunc(smallSteps, func(s smallStep) bool { return s.name == part })
		if i < 0 {
			t.Fatalf("no step is called %s", part)
		}
		steps = append(steps, i)
	}
	return steps
}

// smallWork is the workload of a sequence. Before each step it marks the step's number.
func smallWork(steps []int) *crashWork { return smallPlanned(steps, nil) }

// smallPlanned is a workload that need not run for its timeline to be known: still are the numbers of the transactions that
// the store made by itself.
func smallPlanned(steps []int, still map[uint64]bool) *crashWork {
	s := &smallRun{planned: map[uint64]crashProfile{}}
	k := uint64(0)
	for _, i := range steps {
		if p := smallSteps[i].profile; p != nil {
			for k++; still[k]; k++ {
			}
			s.planned[k] = p
		}
	}
	weak := slices.ContainsFunc(steps, func(i int) bool { return smallSteps[i].name == "relaxed" })
	return &crashWork{name: "small-" + smallName(steps), weak: weak, opts: Options{LogLimit: minLimit, MemoryLimit: minLimit}, profile: s.profile,
		run: func(r *crashRun) {
			s.crashRun = r
			clear(s.planned)
			for n, i := range steps {
				r.rec.Mark("step", uint64(n))
				if p := smallSteps[i].profile; p != nil {
					s.next = p
				}
				if smallSteps[i].do(s); !r.ok() {
					break
				}
			}
			s.endReader()
		}}
}

// TestCrashSmall runs all sequences, and opens states of the moments of the last step of each: those before are
// the moments of a shorter sequence.
func TestCrashSmall(t *testing.T) {
	all := smallSequences(3)
	for first := range smallSteps {
		t.Run(smallSteps[first].name, func(t *testing.T) {
			t.Parallel()
			c := newCrashHunt(t, smallWork([]int{first}), "")
			defer c.log()
			n := 0
			for i, steps := range all {
				if steps[0] != first || *smallStates == 0 && i%29 != int(*crashSeed)%29 {
					continue
				}
				n++
				if err := smallHunt(c, steps); err != nil {
					c.report(fmt.Errorf("%s: %w", smallName(steps), err))
					return
				}
			}
			t.Logf("%d workloads", n)
		})
	}
}

// smallHunt runs one sequence and hunts through its last step.
func smallHunt(c *crashHunt, steps []int) error {
	c.w = smallWork(steps)
	r := c.w.start(c.t, vfs.OS, *crashSeed, 0)
	if err := r.err(); err != nil {
		return err
	}
	clear(c.checked) // every run has a store of its own
	c.from = 0
	if n := len(steps); n > 1 {
		for _, op := range r.rec.Log() {
			if op.Kind == vfs.KindMark && op.Note == "step" && op.N == int64(n-1) {
				c.from = op.Begin
			}
		}
	}
	budget := *smallStates
	if budget == 0 {
		budget = 25
	}
	h := vfs.NewHistory(r.rec.Log())
	promise := func(h *vfs.History, at int) crashPromise { return promised(h, at, r.line) }
	if err := c.hunt(r.rec.Log(), budget, promise); err != nil {
		return err
	}
	// The death of the process at each moment; and of one of them what a power cut leaves of the next process.
	points := slices.DeleteFunc(h.Points(), func(at int) bool { return at <= c.from })
	chosen := c.rng.IntN(len(points))
	for i, at := range points {
		if *smallStates == 0 && i != chosen {
			continue
		}
		s, p := h.State(at, vfs.KeepAll), promise(h, at)
		killed := p // keeps what is relaxed, too
		n, _ := h.Mark(at, "relaxed")
		killed.lo = max(p.lo, n)
		if seen, ok := c.checked[s.Hash()]; !ok || seen.k < killed.lo || seen.k > killed.hi {
			if err := c.judge(s, killed); err != nil {
				return err
			}
		}
		if i == chosen {
			if err := c.restart(s, p, 0, budget/5); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestSmallSequences counts them.
func TestSmallSequences(t *testing.T) {
	n := len(smallSteps)
	if got, want := len(smallSequences(3)), n+n*n+n*n*n; got != want {
		t.Errorf("%d sequences, want %d", got, want)
	}
}
