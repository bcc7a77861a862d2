package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for the program when a workload starts a process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == jobCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

func tiny() config {
	return config{
		N: 600, Value: 150, LoadTx: 250, Batch: 50, Bytes: 3 << 20, Free: 300, Cold: 1 << 20, Time: 5 * time.Millisecond, Verify: true,
	}
}

// TestWorkloads runs each workload on each engine of the build, in the order of the list, and reads everything after
// each: runJob does with Verify.
func TestWorkloads(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			s := &series{Config: tiny()}
			st := &seat{dir: filepath.Join(t.TempDir(), e.name)}
			for _, w := range workloads {
				if !e.runs(w) {
					continue
				}
				runTiny(t, s, st, e, w)
			}
		})
	}
}

// runTiny runs a workload in this process, but for what it starts itself.
func runTiny(t *testing.T, s *series, st *seat, e *engine, w *workload) {
	t.Helper()
	before := st.state
	s.inProcess = true
	out, err := s.one(st, e, w)
	if err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	if len(out.Metrics) == 0 {
		t.Fatalf("%s reports nothing", w.name)
	}
	for _, m := range out.Metrics {
		if m.Value <= 0 {
			t.Errorf("%s%s is %g %s", w.name, m.Name, m.Value, m.Unit)
		}
	}
	if w.reads && before.count() > 0 && before.Size == out.State.Size && out.State != before {
		t.Errorf("%s reads only, but makes %+v of %+v", w.name, out.State, before)
	}
	if w.name == "remove" && out.State.count() != before.count()-before.count()/2 {
		t.Errorf("remove leaves %d of %d", out.State.count(), before.count())
	}
}

// TestFirstLook: "go run . --n 10000 --time 200ms --runs 1", which the README calls a first look, took half an hour. Puts of large values
// minded neither of the two flags, and wrote 256 MiB in durable transactions of 4 KiB, on each engine; the cold store had two
// GiB, and that of the free pages a million of them.
func TestFirstLook(t *testing.T) {
	c := config{N: 10_000, Value: 150, LoadTx: 100_000, Batch: 1000, Time: time.Nanosecond}
	c.fillIn()
	if c.Bytes != 256<<20/100 || c.Free != 10_000 || c.Cold != 2<<30/100 {
		t.Errorf("a hundredth of the records: %+v", c)
	}
	whole := config{N: 10_000_000, Free: 5}
	whole.fillIn()
	if whole.Bytes != 256<<20 || whole.Free != 5 || whole.Cold != 2<<30 {
		t.Errorf("ten times the records: %+v", whole)
	}
	s := &series{Config: c, inProcess: true}
	st := &seat{dir: filepath.Join(t.TempDir(), "folio")}
	for _, w := range workloads {
		if w.name != "put-4k" && w.name != "get-4k" {
			continue
		}
		if _, err := s.one(st, engines["folio"], w); err != nil {
			t.Fatal(err)
		}
		if st.state.count() != 2 {
			t.Errorf("%s: %d values in a nanosecond", w.name, st.state.count())
		}
	}
}

// TestVerify shows that a store which lost, changed or mixed up records does not pass.
func TestVerify(t *testing.T) {
	st, err := engines["bbolt"].open(t.TempDir(), setting{relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	b := &bench{st: st, s: state{Size: 150}}
	if err := b.putNext(100); err != nil {
		t.Fatal(err)
	}
	if err := b.s.verify(st); err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]state{
		"one more":      {End: 101, Size: 150},
		"one less":      {End: 99, Size: 150},
		"another round": {End: 100, Size: 150, Round: 1},
		"another size":  {End: 100, Size: 151},
		"another order": {End: 100, Size: 150, Stride: 7},
	} {
		if wrong.verify(st) == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
	var one, other [keySize]byte
	v := newValues(150)
	err = st.Update(func(w writer) error { return w.Put(b.s.putKey(&one, 5), v.of(6, 0)) })
	if err != nil {
		t.Fatal(err)
	}
	if b.s.verify(st) == nil {
		t.Error("another record's value is not noticed")
	}
	if b.s.putKey(&one, 1); string(one[:]) == string(b.s.putKey(&other, 2)) {
		t.Error("two records have the same key")
	}
}

// TestProgram runs the whole program, processes and all, and looks at what it prints and writes.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	jsonFile, chartFile := filepath.Join(dir, "r.json"), filepath.Join(dir, "r.svg")
	var out strings.Builder
	err := run([]string{
		"--engines", "folio,bbolt", "--workloads", "load,get,reopen-kill,get-64k", "--runs", "2",
		"--n", "500", "--time", "5ms", "--bytes", "200000", "--free", "100", "--cold", "100000", "--verify", "--dir", dir, "--json", jsonFile, "--svg", chartFile,
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"get, one transaction", "open after kill -9", "get of 64 KiB", "peak heap", "folio/best peer"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &out)
		}
	}
	text, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var got series
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if want := 2 * 2 * 4; len(got.Results) != want {
		t.Errorf("there are %d results, not %d", len(got.Results), want)
	}
	var again strings.Builder
	if err := run([]string{"--from", jsonFile + "," + jsonFile}, &again); err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(out.String(), "median of 2", "median of 4", 1); again.String() != want {
		t.Errorf("the same runs twice give\n%s\nnot\n%s", &again, want)
	}
	chart, err := os.ReadFile(chartFile)
	if err != nil || strings.Count(string(chart), "<rect") != 2*2 {
		t.Errorf("chart: %v\n%s", err, chart)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "folio-bench-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"--engines", "nosuch"}, {"--workloads", "nosuch"}, {"--n", "1"}, {"--value", "3"}, {"--runs", "0"}, {"--bytes", "-1"}, {"--nosuch"}, {"--from", "nosuch.json"},
	} {
		if run(args, &strings.Builder{}) == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	var out strings.Builder
	if err := run([]string{"--workloads", "list"}, &out); err != nil || strings.Count(out.String(), "\n") != len(workloads) {
		t.Errorf("list: %v\n%s", err, &out)
	}
}

// TestRatio holds the comparison to its direction: more than 1 means that Folio is better.
func TestRatio(t *testing.T) {
	for _, c := range []struct {
		unit                  string
		folio, lmdb, mdbx, of float64
	}{
		{unitRate, 10, 4, 5, 2},
		{unitTime, 10, 4, 5, 0.4},
		{unitSize, 1, 4, 3, 3},
		{unitRate, 10, 0, 0, 0},
	} {
		r := row{unit: c.unit, values: map[string]float64{"folio": c.folio, "lmdb": c.lmdb, "mdbx": c.mdbx, "static": 100}}
		if got := r.against(isPeer); got != c.of {
			t.Errorf("%+v gives %g", c, got)
		}
	}
	if m := median([]float64{9, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four is %g", m)
	}
}

// TestColdRate: gets from the cold store keep to the rate that is asked for, which bounds them from above whatever the machine does.
func TestColdRate(t *testing.T) {
	c := config{N: 1000, Value: 150, LoadTx: 1000, Batch: 10, Bytes: 1, Free: 1, Cold: 100_000, ColdRate: 2000, Time: 50 * time.Millisecond}
	s := &series{Config: c, inProcess: true}
	st := &seat{dir: filepath.Join(t.TempDir(), "folio")}
	i := slices.IndexFunc(workloads, func(w *workload) bool { return w.name == "cold" })
	out, err := s.one(st, engines["folio"], workloads[i])
	if err != nil {
		t.Fatal(err)
	}
	rate := out.Metrics[0].Value * 1000
	if most := float64(c.ColdRate) + 16/c.Time.Seconds(); rate == 0 || rate > most {
		t.Errorf("%.0f gets a second, want at most %.0f", rate, most)
	}
}
