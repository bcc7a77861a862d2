package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// machine says what the results were measured on.
type machine struct {
	OS, Arch, Go, CPU string
	CPUs              int
	Modules           map[string]string // versions of the engines' modules
}

func thisMachine() machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), Modules: map[string]string{}}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name\t: ")
		m.CPU, _, _ = strings.Cut(rest, "\n")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			for _, name := range names {
				if strings.Contains(d.Path, name) {
					m.Modules[d.Path] = d.Version
				}
			}
		}
	}
	return m
}

// A row is one line of the table: a number of one workload, for each engine.
type row struct {
	workload, title string
	unit            string
	values          map[string]float64 // by engine: the median over the runs
}

// rows collects the results. Memory is the largest over all workloads of a run.
func (s *series) rows() []row {
	var rows []row
	for _, w := range s.workloads {
		var seen []metric
		for _, r := range s.Results {
			for _, m := range r.Metrics {
				if r.Workload == w.name && !slices.ContainsFunc(seen, func(x metric) bool { return x.Name == m.Name }) {
					seen = append(seen, m)
				}
			}
		}
		for _, m := range seen {
			row := row{w.name, w.title + m.Name, m.Unit, map[string]float64{}}
			for _, e := range s.engines {
				if all := s.all(e.name, w.name, m.Name); len(all) > 0 {
					row.values[e.name] = median(all)
				}
			}
			rows = append(rows, row)
		}
	}
	return append(rows,
		s.memory("peak heap, of all workloads", func(r result) uint64 { return r.Heap }),
		s.memory("peak memory without mapped files", func(r result) uint64 { return r.Memory }))
}

// all returns a metric of each run.
func (s *series) all(engine, workload, name string) []float64 {
	var all []float64
	for _, r := range s.Results {
		for _, m := range r.Metrics {
			if r.Engine == engine && r.Workload == workload && m.Name == name {
				all = append(all, m.Value)
			}
		}
	}
	return all
}

func (s *series) memory(title string, of func(result) uint64) row {
	r := row{"memory", title, "MiB", map[string]float64{}}
	for _, e := range s.engines {
		peaks := map[int]float64{}
		for _, x := range s.Results {
			if x.Engine == e.name && of(x) > 0 {
				peaks[x.Run] = max(peaks[x.Run], float64(of(x))/(1<<20))
			}
		}
		if len(peaks) > 0 {
			var all []float64
			for _, p := range peaks {
				all = append(all, p)
			}
			r.values[e.name] = median(all)
		}
	}
	return r
}

func median(all []float64) float64 {
	slices.Sort(all)
	mid := len(all) / 2
	if len(all)%2 == 0 {
		return (all[mid-1] + all[mid]) / 2
	}
	return all[mid]
}

// isPeer tells the stores that Folio is compared to from Folio and the bounds.
func isPeer(name string) bool { return name != "folio" && !isBound(name) }

func isBound(name string) bool { return name == "static" || name == "raw" || name == "static+raw" }

// against returns how many times better Folio is than the best of the chosen engines; 0: there is nothing to compare.
func (r row) against(chosen func(string) bool) float64 {
	own, best := r.values["folio"], 0.0
	for name, value := range r.values {
		ratio := own / value
		if (metric{Unit: r.unit}).lower() {
			ratio = value / own
		}
		if chosen(name) && own > 0 && value > 0 && (best == 0 || ratio < best) {
			best = ratio
		}
	}
	return best
}

// table prints all rows.
func (s *series) table(out io.Writer) error {
	fmt.Fprintf(out, "%d records, keys of %d bytes, values of %d; median of %d; %s %s/%s, %d CPUs %s\n\n",
		s.Config.N, keySize, s.Config.Value, s.Runs, s.Machine.Go, s.Machine.OS, s.Machine.Arch, s.Machine.CPUs, s.Machine.CPU)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	cells := []string{"workload", "unit"}
	for _, e := range s.engines {
		cells = append(cells, e.name)
	}
	line := func() {
		// Aligned to the right, except for the first column.
		fmt.Fprintf(w, "%-62s\t%s\t\n", cells[0], strings.Join(cells[1:], "\t"))
	}
	cells = append(cells, "folio/best peer", "folio/bound")
	line()
	for _, r := range s.rows() {
		cells = []string{r.title, r.unit}
		for _, e := range s.engines {
			cells = append(cells, number(r.values[e.name]))
		}
		cells = append(cells, number(r.against(isPeer)), number(r.against(isBound)))
		line()
	}
	return w.Flush()
}

// number prints three digits, as far as they mean something, and nothing for 0.
func number(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func (s *series) writeJSON(name string) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// readSeries reads what writeJSON wrote, as one series with all of their runs.
func readSeries(files []string) (*series, error) {
	all := &series{}
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var s series
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if i == 0 {
			all.Config, all.Machine, all.Missing = s.Config, s.Machine, s.Missing
		} else if s.Config != all.Config {
			return nil, fmt.Errorf("%s is of runs of another size than %s", name, files[0])
		}
		for _, r := range s.Results {
			r.Run += all.Runs
			all.Results = append(all.Results, r)
		}
		all.Runs += s.Runs
	}
	for _, name := range names {
		if slices.ContainsFunc(all.Results, func(r result) bool { return r.Engine == name }) {
			all.engines = append(all.engines, &engine{name: name})
		}
	}
	all.workloads = workloads
	return all, nil
}

// writeFile writes a file by a function that need not look at errors: the last flush tells.
func writeFile(name string, write func(io.Writer)) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	write(w)
	if err := w.Flush(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
