package folio

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// Planted faults show what the tests are worth: each is a small change that breaks the store, and the test that hunts it
// has to find it. The production code knows nothing of them. A fault is text that is put in the place of other
// text, and go's -overlay builds the tests from the changed file. All of them:
//
//	go test -run TestPlantedFaults -timeout 30m -folio.planted -v .
//
// A fault in testdata/planted is
//
//	fault name=... file=group.go hunt=TestCrash/plain
//	What it breaks, and which invariant.
//	<<<<
//	text that the file has once
//	====
//	text in its place
//	>>>>
//	----
//	applies
//
// The first argument may be benign instead of fault: the change breaks nothing, and the hunt must not find anything. in=wal
// hunts with the tests of another package; panic says that the store stops itself, and hang that a hunt comes to no end.
var (
	plantedAll  = flag.Bool("folio.planted", false, "hunt every planted fault, not only one")
	plantedPart = flag.Int("folio.eighth", -1, "with -folio.planted or -folio.plants: hunt only an eighth of them, which one modulo 8; building each takes 8 s")
	plantedOne  = flag.String("folio.fault", "", "hunt the planted faults of which the name matches this pattern")
)

// plantedFault is one of them.
type plantedFault struct {
	name, file, in, hunt string
	what                 string
	benign, hang         bool
	hunks                []plantedHunk
}

type plantedHunk struct{ find, replace string }

// plantedResult is a row of the table that the test prints.
type plantedResult struct {
	fault   *plantedFault
	found   string // what the test said; "": nothing
	states  int    // opened until then
	seconds float64
}

// TestPlantedFaults looks whether every fault still applies, and hunts one of them, or all.
func TestPlantedFaults(t *testing.T) {
	faults := readPlanted(t)
	if len(faults) < 24 {
		t.Errorf("%d faults", len(faults))
	}
	pattern := "^log-sync-left-out$"
	if *plantedAll {
		pattern = ""
	}
	if *plantedOne != "" {
		pattern = *plantedOne
	}
	chosen := regexp.MustCompile(pattern)
	faults = slices.DeleteFunc(faults, func(f *plantedFault) bool { return !chosen.MatchString(f.name) })
	if *plantedPart >= 0 {
		var part []*plantedFault
		for i := *plantedPart % 8; i < len(faults); i += 8 {
			part = append(part, faults[i])
		}
		faults = part
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command to build a fault with")
	}
	results := make([]plantedResult, len(faults))
	t.Run("hunt", func(t *testing.T) {
		for i, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				results[i] = f.search(t)
			})
		}
	})
	fmt.Printf("%-36s %-32s %8s %8s  %s\n", "planted fault", "hunted by", "states", "seconds", "found")
	for _, r := range results {
		if r.fault != nil {
			fmt.Printf("%-36s %-32s %8d %8.1f  %s\n", r.fault.name, r.fault.where(), r.states, r.seconds, r.found)
		}
	}
}

func (f *plantedFault) where() string {
	if f.in == "." {
		return f.hunt
	}
	return f.in + ": " + f.hunt
}

// readPlanted reads the faults, and looks that each applies and no name comes twice.
func readPlanted(t *testing.T) (faults []*plantedFault) {
	names := map[string]bool{}
	datadriven.Walk(t, "testdata/planted", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			f := &plantedFault{in: ".", benign: d.Cmd == "benign", hang: d.HasArg("hang")}
			d.ScanArgs(t, "name", &f.name)
			d.ScanArgs(t, "file", &f.file)
			d.ScanArgs(t, "hunt", &f.hunt)
			d.MaybeScanArgs(t, "in", &f.in)
			switch {
			case d.Cmd != "fault" && d.Cmd != "benign":
				d.Fatalf(t, "no such command: %s", d.Cmd)
			case names[f.name]:
				d.Fatalf(t, "a second fault has the name %s", f.name)
			}
			names[f.name] = true
			if err := f.parse(d.Input); err != nil {
				d.Fatalf(t, "%s: %v", f.name, err)
			}
			if _, err := f.patched(); err != nil {
				d.Fatalf(t, "%s: %v", f.name, err)
			}
			if err := f.huntExists(); err != nil {
				d.Fatalf(t, "%s: %v", f.name, err)
			}
			faults = append(faults, f)
			return "applies\n"
		})
	})
	return faults
}

// parse reads the sentence and the hunks.
func (f *plantedFault) parse(input string) error {
	what, rest, _ := strings.Cut(input, "<<<<\n")
	f.what = strings.TrimSpace(what)
	for rest != "" {
		find, behind, ok := strings.Cut(rest, "====\n")
		replace, next, ok2 := strings.Cut(behind, ">>>>")
		if !ok || !ok2 {
			return errors.New("want <<<<, ====, >>>>")
		}
		// Without their last line break, so that a find may end within a line.
		f.hunks = append(f.hunks, plantedHunk{strings.TrimSuffix(find, "\n"), strings.TrimSuffix(replace, "\n")})
		_, rest, _ = strings.Cut(next, "<<<<\n")
	}
	if f.what == "" || len(f.hunks) == 0 {
		return errors.New("want a sentence, and a change")
	}
	return nil
}

// patched returns the file with the fault in it.
func (f *plantedFault) patched() (string, error) {
	b, err := os.ReadFile(f.file)
	if err != nil {
		return "", err
	}
	text := string(b)
	for _, h := range f.hunks {
		if n := strings.Count(text, h.find); n != 1 {
			return "", fmt.Errorf("%s has this %d times, not once:\n%s", f.file, n, h.find)
		}
		text = strings.Replace(text, h.find, h.replace, 1)
	}
	return text, nil
}

// huntExists looks for the test, and for the workload of a crash test.
func (f *plantedFault) huntExists() error {
	test, work, _ := strings.Cut(f.hunt, "/")
	files, err := filepath.Glob(filepath.Join(f.in, "*_test.go"))
	if err != nil {
		return err
	}
	found := slices.ContainsFunc(files, func(name string) bool {
		b, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(b), "\nfunc "+test+"(t *testing.T)")
	})
	if !found {
		return fmt.Errorf("there is no test %s", f.hunt)
	}
	if work != "" && !slices.ContainsFunc(crashWorks, func(w crashWork) bool { return strings.ReplaceAll(w.name, " ", "_") == work }) {
		return fmt.Errorf("there is no workload %s", work)
	}
	return nil
}

// build builds the hunting package's tests with the fault.
func (f *plantedFault) build(t *testing.T) string {
	dir := t.TempDir()
	text, err := f.patched()
	if err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs(f.file)
	if err != nil {
		t.Fatal(err)
	}
	patched := filepath.Join(dir, "patched.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: patched}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{patched: []byte(text), filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "planted.test")
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", bin, "./"+f.in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a fault that does not compile shows nothing: %v\n%s", err, out)
	}
	return bin
}

// search hunts the fault with more and more states, of other seeds.
func (f *plantedFault) search(t *testing.T) plantedResult {
	bin := f.build(t)
	r := plantedResult{fault: f}
	began := time.Now()
	budgets := []int{60, 300, 1500, 6000, 24000}
	if f.benign {
		budgets = []int{300}
	}
	for i, budget := range budgets {
		out, found := f.run(t, bin, budget, *crashSeed+uint64(i))
		for _, m := range plantedStates.FindAllStringSubmatch(out, -1) {
			n, _ := strconv.Atoi(m[1])
			r.states += n
		}
		if r.found = found; found != "" {
			t.Logf("%s\n%s", f.what, out[:min(len(out), 1500)])
			break
		}
	}
	r.seconds = time.Since(began).Seconds()
	switch {
	case f.benign && r.found != "":
		t.Errorf("%s\nis thought benign, but %s finds it", f.what, f.where())
	case !f.benign && r.found == "":
		t.Errorf("%s\n%s does not find it in %d states", f.what, f.where(), r.states)
	case f.benign:
		r.found = "(benign)"
	}
	return r
}

var (
	plantedStates = regexp.MustCompile(`(\d+) distinct states opened`)
	plantedSays   = regexp.MustCompile(`_test\.go:\d+: (.*)`)
	plantedPlace  = regexp.MustCompile(`^.*state at=\S+(?: [a-z]+(?:=\S+)?)*: `)
)

// run runs the hunt once, and returns what it printed and, in a line, what it found.
func (f *plantedFault) run(t *testing.T, bin string, budget int, seed uint64) (out, found string) {
	limit := 5 * time.Minute // the matrix of failing calls takes a minute when two hunts share two slow cores
	if f.hang {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit+20*time.Second)
	defer cancel()
	parts := strings.Split(f.hunt, "/")
	args := []string{"-test.run", "^" + strings.Join(parts, "$/^") + "$", "-test.failfast", "-test.parallel=1", "-test.timeout", limit.String()}
	if strings.HasPrefix(f.hunt, "TestCrash") {
		args = append(args, "-folio.crashstates", fmt.Sprint(budget), "-folio.seed", fmt.Sprint(seed), "-test.v")
	}
	if f.in == "fuzz" {
		args = append(args, "-folio.ops", fmt.Sprint(100*budget), "-folio.seed", fmt.Sprint(seed), "-folio.shrink", "0s")
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = f.in
	cmd.Env = append(os.Environ(), "FOLIO_MODEL_SECONDS=30") // of wal's: a machine that does other things besides gets through few logs in the usual two
	b, err := cmd.CombinedOutput()
	out = string(b)
	if err == nil {
		return out, ""
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	hung := strings.Contains(out, "panic: test timed out")
	switch {
	case hung != f.hang:
		t.Fatalf("hangs: %v\n%s", hung, out)
	case hung:
		return out, "hangs"
	}
	// What a test says is a finding; other ways to end, for want of space or by a signal, are not. That a workload does not do what it
	// is for, because of the fault, is no finding either: no state was found wanting.
	idle := false
	for _, m := range plantedSays.FindAllStringSubmatch(out, -1) {
		switch {
		case strings.Contains(m[1], crashIdle):
			idle = true
		case !strings.Contains(m[1], "distinct states opened"):
			return out, f.inALine(m[1])
		}
	}
	if _, said, ok := strings.Cut(out, "panic: "); ok {
		return out, f.inALine("panic: " + said)
	}
	if !idle {
		t.Fatalf("no finding, but %v\n%s", err, out)
	}
	return "", ""
}

// inALine shortens what a test said.
func (f *plantedFault) inALine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s = plantedPlace.ReplaceAllString(s, "")
	return strings.ToValidUTF8(s[:min(len(s), 90)], "")
}
