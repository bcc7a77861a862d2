// Package weave runs the goroutines of a test one at a time, in an order that a plan decides, so that a race is found by
// search instead of by luck, and a found one is seen again from a list of a few numbers.
//
// It has stand-ins for what goroutines meet in: the types of sync and sync/atomic that Folio uses, channel operations,
// time, and random numbers. A test gets them into the library by building it from rewritten sources (see Rewrite); the
// library as it is shipped knows nothing of this package. Before each operation of a stand-in the running goroutine,
// a task, asks the session who goes on. What would block is known to the session exactly, so it knows when nobody
// can go on but those who wait for each other.
//
// Not modelled are the memory of the processor (all is sequentially consistent) and accesses without
// synchronisation, which the race detector finds, and the fairness of the scheduler: any order may happen. Time
// is virtual: it passes when nobody else can run, or when a plan says so.
//
// Outside of a session the stand-ins work for one goroutine alone.
package weave

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"strings"
)

// clock stands among the tasks for time that passes.
const clock = 0

// maxSteps is when a session is given up: so many operations no scenario has.
const maxSteps = 2_000_000

// Errors of sessions.
var (
	ErrDeadlock = errors.New("weave: deadlock")
	ErrEndless  = errors.New("weave: the session does not end")
	ErrPanic    = errors.New("weave: a task panicked")
)

// active is the session that runs; nil: none. Sessions belong to one goroutine, and run one after the other.
var active *session

// session is one run of tasks.
type session struct {
	plan   Plan
	order  []int
	result Result
	random uint64 // drawn from by the library

	tasks  []*task  // that have not ended, by id
	names  []string // of tasks, the first one's is 1
	cur    *task    // running; nil: between two
	chosen *task    // to run next
	steps  int
	events uint64 // operations on channels so far
	over   error  // why the session ends early

	now    Duration
	timers []*Timer

	ready []int // scratch
	site  uintptr
}

// task is a goroutine of a session.
type task struct {
	id    int
	name  string
	next  func() (struct{}, bool)
	yield func(struct{}) bool

	waits string      // for what it is blocked
	free  func() bool // tells that it no longer is; nil: it is not blocked
}

// Turn is a deviation from the rule that whoever runs goes on as long as he can, and then the next one in order does: at
// choice N the turn went to task To; 0 is time.
type Turn struct{ N, To int }

// Result is what is known of a session.
type Result struct {
	Err     error
	Turns   []Turn // replay them by Follow
	Points  int    // choices that there were
	Sum     uint64 // of all choices: two schedules that differ have different ones
	Choices []Choice
	Trace   []Step
}

// Choice is where more than one could go on. Rule is who would have without a plan.
type Choice struct {
	Rule  int32
	Ready uint64 // a bit each
	Site  uintptr
}

// Step is a choice as it was made.
type Step struct {
	N        int
	From, To string
	Site     uintptr // what From was about to do
}

// Config is how a session is run.
type Config struct {
	Plan   Plan   // nil: nobody is ever interrupted
	Order  []int  // ranks of the tasks that main starts, from 1; nil: in the order in which it does
	Seed   uint64 // of random numbers that the tasks draw
	Record bool   // Result.Choices is wanted
	Trace  bool   // Result.Trace is
}

// Run runs main, and whatever tasks it starts, to their ends. It returns early when a task panics or fails, when none can
// go on, and when there is no end; tasks are left behind then.
func Run(c Config, main func()) Result {
	if active != nil {
		panic("weave: session within a session")
	}
	s := &session{plan: c.Plan, order: c.Order, random: c.Seed}
	if s.plan == nil {
		s.plan = rule{}
	}
	if c.Record {
		s.result.Choices = []Choice{}
	}
	if c.Trace {
		s.result.Trace = []Step{}
	}
	active = s
	defer func() { active = nil }()
	s.chosen = s.start("main", main)
	s.loop()
	s.result.Err = s.over
	return s.result
}

// loop resumes whoever was chosen until all have ended.
func (s *session) loop() {
	for s.over == nil {
		t := s.chosen
		s.cur = t
		if _, alive := t.next(); alive {
			continue // t has chosen
		}
		s.cur = nil
		for i := range s.tasks {
			if s.tasks[i] == t {
				s.tasks = append(s.tasks[:i], s.tasks[i+1:]...)
				break
			}
		}
		if len(s.tasks) == 0 {
			return
		}
		s.site = 0
		s.chosen = s.pick(t.id)
	}
}

// start makes a task.
func (s *session) start(name string, f func()) *task {
	s.names = append(s.names, name)
	t := &task{id: len(s.names), name: name}
	if t.id >= 64 {
		panic("weave: more than 63 tasks")
	}
	t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer func() {
			if r := recover(); r != nil && s.over == nil {
				s.over = fmt.Errorf("%w: %s: %v\n%s", ErrPanic, name, r, debug.Stack())
			}
		}()
		f()
	})
	s.tasks = append(s.tasks, t)
	return t
}

// Start starts a task with a name, for traces.
func Start(name string, f func()) {
	s := active
	if s == nil {
		panic("weave: task outside of a session")
	}
	s.start(name, f)
}

// Go is the go statement.
func Go(f func()) {
	if active == nil {
		panic("weave: task outside of a session")
	}
	active.start("background", f)
	active.point()
}

// Join waits until no other task is left that has not ended.
func Join() {
	if s := active; s != nil && len(s.tasks) > 1 {
		s.block("others to end", func() bool { return len(s.tasks) == 1 })
	}
}

// Fail ends the session with an error.
func Fail(err error) {
	s := active
	if s == nil {
		panic(err)
	}
	if s.over == nil {
		s.over = err
	}
	s.suspend(nil)
}

// Yield is a point at which another task may go on.
//
//go:noinline
func Yield() {
	if active != nil {
		active.point()
	}
}

// point is Yield. Whatever calls it is called by the place that counts as its site.
func (s *session) point() {
	if len(s.tasks) == 1 && len(s.timers) == 0 {
		return
	}
	s.site = 0
	if s.result.Trace != nil || s.result.Choices != nil || s.plan.sites() {
		var pc [1]uintptr
		runtime.Callers(3, pc[:])
		s.site = pc[0]
	}
	me := s.cur
	if next := s.pick(me.id); next != me {
		s.suspend(next)
	}
}

// block suspends the running task until free.
func (s *session) block(what string, free func() bool) {
	me := s.cur
	me.waits, me.free = what, free
	s.site = 0
	if next := s.pick(me.id); next != me {
		s.suspend(next)
	}
	me.free = nil
}

// suspend lets next run instead of the running task, for ever if it is nil.
func (s *session) suspend(next *task) {
	me := s.cur
	s.chosen = next
	me.yield(struct{}{})
}

// pick decides who goes on, from being the task that ran. Nil: nobody can.
func (s *session) pick(from int) *task {
	for s.over == nil {
		s.ready = s.ready[:0]
		for _, t := range s.tasks {
			if t.free == nil || t.free() {
				s.ready = append(s.ready, t.id)
			}
		}
		who := clock
		if n := len(s.ready); n > 0 {
			who = s.following(from)
		} else if len(s.timers) == 0 {
			s.over = fmt.Errorf("%w: %s", ErrDeadlock, s.waiters())
			return nil
		}
		if s.steps++; s.steps > maxSteps {
			s.over = fmt.Errorf("%w: %s", ErrEndless, s.waiters())
			return nil
		}
		if len(s.timers) > 0 {
			s.ready = append(s.ready, clock)
		}
		if len(s.ready) > 1 {
			who = s.choose(from, who)
		}
		if who != clock {
			return s.task(who)
		}
		s.fire()
	}
	return nil
}

// following is the rule: the same one, or else the next.
func (s *session) following(from int) int {
	next, first := -1, -1
	for _, id := range s.ready {
		r := s.rank(id)
		if first < 0 || r < s.rank(first) {
			first = id
		}
		if r >= s.rank(from) && (next < 0 || r < s.rank(next)) {
			next = id
		}
	}
	if next < 0 {
		return first
	}
	return next
}

// rank is a task's place in the order: main, the ones that it has started, others.
func (s *session) rank(id int) int {
	if i := id - 2; i >= 0 && i < len(s.order) {
		return 1 + s.order[i]
	}
	return id
}

// choose asks the plan.
func (s *session) choose(from, rule int) int {
	n := s.result.Points
	s.result.Points++
	to := s.plan.choose(s, n, rule)
	if to != rule {
		s.result.Turns = append(s.result.Turns, Turn{n, to})
	}
	s.result.Sum = (s.result.Sum ^ uint64(to+1)) * 0x9e3779b97f4a7c15
	s.result.Sum ^= s.result.Sum >> 29
	if s.result.Choices != nil {
		c := Choice{Rule: int32(rule), Site: s.site}
		for _, id := range s.ready {
			c.Ready |= 1 << id
		}
		s.result.Choices = append(s.result.Choices, c)
	}
	if s.result.Trace != nil {
		s.result.Trace = append(s.result.Trace, Step{n, s.name(from), s.name(to), s.site})
	}
	return to
}

func (s *session) task(id int) *task {
	for _, t := range s.tasks {
		if t.id == id {
			return t
		}
	}
	return nil
}

func (s *session) name(id int) string {
	if id == clock {
		return "time"
	}
	return fmt.Sprintf("%d %s", id, s.names[id-1])
}

// waiters tells what each task waits for.
func (s *session) waiters() string {
	var b strings.Builder
	for _, t := range s.tasks {
		what := "nothing"
		if t.free != nil {
			what = t.waits
		}
		fmt.Fprintf(&b, "\n  %d %s waits for %s", t.id, t.name, what)
	}
	buf := make([]byte, 1<<16)
	fmt.Fprintf(&b, "\n%s", buf[:runtime.Stack(buf, true)])
	return b.String()
}

// Where names a site: the file's base name and the line.
func Where(site uintptr) string {
	if site == 0 {
		return "blocks or ends"
	}
	f, _ := runtime.CallersFrames([]uintptr{site}).Next()
	return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
}
