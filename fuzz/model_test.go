package fuzz

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cockroachdb/datadriven"
)

var (
	seedFlag   = flag.Uint64("folio.seed", 0, "seed of TestModel's first episode and of TestKill; 0: a new one")
	opsFlag    = flag.Int("folio.ops", 40_000, "operations of TestModel")
	shrinkFlag = flag.Duration("folio.shrink", 30*time.Second, "how long a script that fails is made shorter")
)

// firstSeed is -folio.seed, or a new seed.
func firstSeed() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return uint64(time.Now().UnixNano())
}

// TestModel runs episodes of random operations until -folio.ops have passed. Each
// episode has a store, options and a seed of its own, so that a failure replays
// without what went before it.
// Cases A5 and C6 of RELIABILITY.md.
func TestModel(t *testing.T) {
	seed := firstSeed()
	dir := scratch(t)
	// A panic of a goroutine that is not ours ends the process without a report.
	fmt.Fprintf(os.Stderr, "TestModel: -folio.seed=%d -folio.ops=%d\n", seed, *opsFlag)
	began := time.Now()
	for done, episodes := 0, 0; done < *opsFlag; episodes++ {
		n, failed := episode(dir, seed, *opsFlag-done)
		if failed != nil {
			failed.report(t, dir)
			return
		}
		if done += n; episodes%100 == 99 {
			t.Logf("%d operations, %d episodes, %v", done, episodes+1, time.Since(began).Round(time.Second))
		}
		seed = newSeeded(seed).Uint64() | 1
	}
}

// A failure is a script whose last op showed a difference.
type failure struct {
	script
	seed uint64
	err  error
}

// episode runs up to limit ops drawn from seed in a new store, and gives their number.
func episode(dir string, seed uint64, limit int) (int, *failure) {
	s := newSeeded(seed)
	cfg := drawConfig(s)
	g := newGenerator(s, cfg)
	limit = min(limit, []int{500, 4000, 12_000}[s.intn(3)])
	return generated(dir, cfg, g, limit, seed)
}

// generated runs ops of a generator while it has any, up to limit.
func generated(dir string, cfg config, g *generator, limit int, seed uint64) (int, *failure) {
	dir, err := os.MkdirTemp(dir, "episode-")
	if err != nil {
		return 0, &failure{err: err, seed: seed}
	}
	defer os.RemoveAll(dir)
	failed := &failure{script: script{cfg: cfg}, seed: seed}
	w, err := newWorld(dir, cfg)
	if err != nil {
		failed.err = err
		return 0, failed
	}
	defer watch(w, failed)()
	for len(failed.ops) < limit && g.more() {
		o := g.op(w)
		failed.ops = append(failed.ops, o)
		w.step.Store(int64(len(failed.ops)))
		if failed.err = w.apply(o); failed.err != nil {
			w.abandon()
			return 0, failed
		}
	}
	if failed.err = w.finish(); failed.err != nil {
		w.abandon()
		return 0, failed
	}
	return len(failed.ops), nil
}

// hung is how long one op may take.
const hung = 2 * time.Minute

// watch ends the process, saying where, when an op takes longer than it may: a
// deadlock would otherwise tell no seed. The function that it returns ends the watch.
func watch(w *world, f *failure) func() {
	ended := make(chan struct{})
	go func() {
		for last := int64(-1); ; {
			select {
			case <-ended:
				return
			case <-time.After(hung):
			}
			step := w.step.Load()
			if step != last {
				last = step
				continue
			}
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			fmt.Fprintf(os.Stderr, "operation %d hangs; seed %d; %s\n%s\n", step, f.seed, f.replay(), stacks)
			os.Exit(2)
		}
	}()
	return func() { close(ended) }
}

// replay is the command that runs the failing episode again. What a fuzz target
// found has no seed: the fuzzer prints how to run its input again.
func (f *failure) replay() string {
	if f.seed == 0 {
		return "see the fuzzer's own last lines"
	}
	return fmt.Sprintf("go test ./fuzz -run '^TestModel$' -folio.seed=%d -folio.ops=%d", f.seed, max(len(f.ops), 1))
}

// report prints all that is needed to find the fault.
func (f *failure) report(t *testing.T, dir string) {
	t.Helper()
	short := shrink(f.script, func(s script) int {
		n, err := play(dir, s, nil)
		if err == nil || shape(err) != shape(f.err) {
			return -1
		}
		return n
	}, *shrinkFlag)
	_, err := play(dir, short, nil)
	t.Fatalf("seed %d, operation %d: %v\n\nreplay: %s\n\nshrunk to %d operations (%s):\n\nrun\n%v----\nok\n",
		f.seed, len(f.ops), f.err, f.replay(), len(short.ops), shrunkFailure(err), short)
}

// shape reduces an error to the letters at the end of its first line, so that a
// script does not shrink to one that fails otherwise.
func shape(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return r
		}
		return -1
	}, line)
	return letters[max(0, len(letters)-30):]
}

// shrunkFailure tells how the shrunk script fails, in a line.
func shrunkFailure(err error) string {
	if err == nil {
		return "which fails only now and then"
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

// TestScripts runs the scripts of testdata, which are shrunk failures of the past
// and corner cases written by hand.
func TestScripts(t *testing.T) {
	dir := scratch(t)
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				d.Fatalf(t, "no such command: %s", d.Cmd)
			}
			s, err := parseScript(d.Input)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			if n, err := play(dir, s, nil); err != nil {
				return fmt.Sprintf("operation %d: %v\n", n+1, err)
			}
			return "ok\n"
		})
	})
}

// scratch returns a directory for stores: in memory where the system has such a
// place, because a test that waits for a disk finds less in its time.
func scratch(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "folio-fuzz-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
