package weave

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// find explores a scenario until it fails, and returns after how many schedules.
func find(t *testing.T, limit int, main func()) (int, Config, Result) {
	t.Helper()
	e := NewExplorer(1, 2, 1000)
	for n := 1; n <= limit; n++ {
		c := e.Next()
		r := Run(c, main)
		if r.Err != nil {
			return n, c, r
		}
		e.Learn(&r)
	}
	return 0, Config{}, Result{}
}

// TestLostUpdate: two tasks read a counter, and then write it.
func TestLostUpdate(t *testing.T) {
	main := func() {
		var n Int64
		for range 2 {
			Start("adder", func() { n.Store(n.Load() + 1) })
		}
		Join()
		if n.Load() != 2 {
			Fail(errors.New("lost"))
		}
	}
	n, c, r := find(t, 100, main)
	if n == 0 {
		t.Fatal("not found")
	}
	again := Run(Config{Plan: Follow(r.Turns), Order: c.Order, Trace: true}, main)
	if again.Err == nil || again.Sum != r.Sum {
		t.Errorf("replay: %v, sum %x, want %x", again.Err, again.Sum, r.Sum)
	}
	if len(again.Trace) != again.Points || !strings.HasPrefix(Where(again.Trace[len(again.Trace)-1].Site), "weave_test.go:") {
		t.Errorf("trace %v", again.Trace)
	}
	fails := func(l []Turn) bool { return Run(Config{Plan: Follow(l), Order: c.Order}, main).Err != nil }
	short := Shorten(r.Turns, fails)
	if !fails(short) {
		t.Errorf("%v is too short", short)
	}
	for i := range short {
		if less := slices.Concat(short[:i], short[i+1:]); fails(less) {
			t.Errorf("%v is too long", short)
		}
	}
}

// TestRareOrder takes three interruptions at certain places among many others.
func TestRareOrder(t *testing.T) {
	main := func() {
		var turn, noise Int64
		step := func(from int64) {
			for range 5 {
				noise.Add(1)
			}
			if turn.Load() == from {
				turn.Store(from + 1)
			}
		}
		Start("a", func() { step(0); step(2) })
		Start("b", func() { step(1); step(3) })
		Join()
		if turn.Load() == 4 {
			Fail(errors.New("met"))
		}
	}
	if n, _, _ := find(t, 3000, main); n == 0 {
		t.Error("not found")
	}
}

// TestDeadlock takes two locks in both orders.
func TestDeadlock(t *testing.T) {
	var a, b *Mutex
	n, _, r := find(t, 100, func() {
		a, b = new(Mutex), new(Mutex)
		Start("ab", func() { a.Lock(); b.Lock(); Yield(); b.Unlock(); a.Unlock() })
		Start("ba", func() { b.Lock(); a.Lock(); Yield(); a.Unlock(); b.Unlock() })
		Join()
	})
	if n == 0 || !errors.Is(r.Err, ErrDeadlock) || !strings.Contains(r.Err.Error(), "3 ba waits for a Mutex") {
		t.Errorf("after %d: %v", n, r.Err)
	}
}

// TestWriterWaits: a second RLock behind a writer that waits never returns.
func TestWriterWaits(t *testing.T) {
	n, _, r := find(t, 100, func() {
		var m RWMutex
		Start("reader", func() { m.RLock(); m.RLock(); Yield(); m.RUnlock(); m.RUnlock() })
		Start("writer", func() { m.Lock(); Yield(); m.Unlock() })
		Join()
	})
	if n == 0 || !errors.Is(r.Err, ErrDeadlock) {
		t.Errorf("after %d: %v", n, r.Err)
	}
}

// TestOthersWork runs what must end well in all orders.
func TestOthersWork(t *testing.T) {
	e := NewExplorer(7, 2, 1000)
	sums := map[uint64]bool{}
	for range 500 {
		r := Run(e.Next(), func() {
			var w WaitGroup
			ch, done := make(chan int, 1), make(chan struct{})
			late := false
			w.Add(2)
			Go(func() { defer w.Done(); Send(ch, 1); Send(ch, 2); Close(done) })
			Go(func() {
				defer w.Done()
				if x, y := Recv(ch), Recv(ch); x != 1 || y != 2 {
					Fail(errors.New("order"))
				}
				Recv(done)
			})
			AfterFunc(Second, func() { late = true })
			stopped := AfterFunc(2*Second, func() { Fail(errors.New("stopped timer")) })
			stopped.Stop()
			Sleep(3 * Second)
			Recv(After(1))
			w.Wait()
			Join()
			if !late {
				Fail(errors.New("time passed without the timer"))
			}
		})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		e.Learn(&r)
		sums[r.Sum] = true
	}
	if len(sums) < 300 {
		t.Errorf("%d distinct schedules of 500", len(sums))
	}
}

// TestPanic ends a session, and a task that never ends does not.
func TestPanic(t *testing.T) {
	r := Run(Config{}, func() {
		Start("bad", func() { panic("oh") })
		Join()
	})
	if !errors.Is(r.Err, ErrPanic) || !strings.Contains(r.Err.Error(), "bad: oh") {
		t.Error(r.Err)
	}
	if r = Run(Config{}, func() {
		Start("other", func() {})
		for {
			Sleep(1)
		}
	}); !errors.Is(r.Err, ErrEndless) {
		t.Error(r.Err)
	}
}

// TestPairs counts the orders of three and three operations in which nobody is interrupted more than twice in all: of
// 20, those with at most four runs of one task, which are 2, 4 and 8.
func TestPairs(t *testing.T) {
	e := NewExplorer(1, 2, 1000)
	e.PairsOnly = true
	orders := map[string]bool{}
	for n := 0; ; n++ {
		if left, all := e.Left(); left == 0 {
			if !all {
				t.Error("some were forgotten")
			}
			break
		}
		var order []byte
		r := Run(e.Next(), func() {
			for _, name := range []byte("ab") {
				Start("", func() {
					for range 3 {
						Yield()
						order = append(order, name)
					}
				})
			}
			Join()
		})
		e.Learn(&r)
		orders[string(order)] = true
	}
	if len(orders) != 14 {
		t.Errorf("%d orders: %+v", len(orders), e.Stats)
	}
}

// TestSelectIsReplayed: which of two channels that are ready a select takes is the same whenever the seed is. The
// interleavings of two plants could not be run again, since two who had waited for the lead found it and what they waited
// for at once, and the runtime chose.
func TestSelectIsReplayed(t *testing.T) {
	run := func(seed uint64) (taken []int) {
		a, b := make(chan int, 1), make(chan int, 1)
		Run(Config{Seed: seed}, func() {
			for len(taken) < 20 {
				a <- 0
				b <- 1
				w := Choose(2)
			again:
				select {
				case i := <-If(w.Is(0), a):
					taken = append(taken, i)
					<-b
				case i := <-If(w.Is(1), b):
					taken = append(taken, i)
					<-a
				default:
					if w.Next() {
						goto again
					}
					t.Fatal("none is ready")
				}
			}
		})
		return taken
	}
	first := run(1)
	if !slices.Contains(first, 0) || !slices.Contains(first, 1) {
		t.Errorf("one way only: %v", first)
	}
	for range 5 {
		if again := run(1); !slices.Equal(again, first) {
			t.Errorf("%v, before %v", again, first)
		}
	}
	if slices.Equal(run(2), first) {
		t.Error("the seed decides nothing")
	}
}

func TestRewrite(t *testing.T) {
	const from = `package p

import (
	"sync"
	"math/rand/v2"
	"time"
)

func f(ch, other chan int) {
	var m sync.Mutex
	m.Lock()
	go f(ch, nil)
	select {
	case <-ch:
		return
	case v := <-time.After(time.Second):
		_ = v
	}
	select {
	case other <- int(rand.Uint32()):
	default:
	}
	select {
	case ch <- 1:
	case <-other:
	default:
		return
	}
	ch <- <-other
	close(ch)
}
`
	const want = `package p; import weave "github.com/foliodb/folio/internal/weave"

import (
	sync "github.com/foliodb/folio/internal/weave"
	rand "github.com/foliodb/folio/internal/weave"
	time "github.com/foliodb/folio/internal/weave"
)

func f(ch, other chan int) { weave.Yield();
	var m sync.Mutex
	m.Lock()
	weave.Go(func() { f(ch, nil) })
	weave.Yield(); weave1W := weave.Choose(2); weave1C1 := time.After(time.Second); weave1: select {
	case <-weave.If(weave1W.Is(0), ch): weave.Did();
		return
	case v := <-weave.If(weave1W.Is(1), weave1C1): weave.Did();
		_ = v
	default: if weave1W.Next() { goto weave1 }; weave.Wait(); goto weave1 }
	weave.Yield(); select {
	case other <- int(rand.Random32()): weave.Did();
	default:
	}
	weave.Yield(); weave3W := weave.Choose(2); weave3: select {
	case weave.If(weave3W.Is(0), ch) <- 1: weave.Did();
	case <-weave.If(weave3W.Is(1), other): weave.Did();
	default: if weave3W.Next() { goto weave3 };
		return
	}
	weave.Send(ch, weave.Recv(other))
	weave.Close(ch)
}
`
	got, err := rewrite("p.go", from, true, []string{"f"})
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if strings.Count(got, "\n") != strings.Count(from, "\n") {
		t.Error("lines have moved")
	}
}
