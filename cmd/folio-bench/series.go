package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A series is all workloads on all engines, a few times over.
type series struct {
	Config  config
	Runs    int
	Machine machine
	Results []result
	Missing []string // engines that are not in the build

	engines   []*engine
	workloads []*workload
	inProcess bool // for tests: no process for each workload
}

// A result is what one workload on one engine gave in one run.
type result struct {
	Run              int
	Engine, Workload string
	outcome
}

func chooseWorkloads(list string) ([]*workload, error) {
	if list == "all" {
		return workloads, nil
	}
	wanted := strings.Split(list, ",")
	var chosen []*workload
	for _, w := range workloads { // in their own order, for they build on each other
		if at := slices.Index(wanted, w.name); at >= 0 {
			chosen = append(chosen, w)
			wanted = slices.Delete(wanted, at, at+1)
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("no workload is called %q; --workloads list prints them", wanted[0])
	}
	return chosen, nil
}

// run runs everything. Each workload goes round all engines before the next one begins, and each round begins with
// another engine, so that what changes with time on a machine hits all of them alike. An engine that fails is left out
// for the rest of its run.
func (s *series) run(parent string) error {
	dir, err := os.MkdirTemp(parent, "folio-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.Machine, s.Missing = thisMachine(), missing()
	var failures []error
	for r := range s.Runs {
		stores := map[*engine]*seat{}
		for _, e := range s.engines {
			stores[e] = &seat{dir: filepath.Join(dir, e.name)}
		}
		for i, w := range s.workloads {
			for j := range s.engines {
				e := s.engines[(r+i+j)%len(s.engines)]
				if !e.runs(w) || stores[e].failed {
					continue
				}
				complain("run %d of %d: %s: %s", r+1, s.Runs, w.name, e.name)
				out, err := s.one(stores[e], e, w)
				if err != nil {
					complain("%v", err)
					stores[e].failed = true
					failures = append(failures, err)
					continue
				}
				s.Results = append(s.Results, result{r + 1, e.name, w.name, out})
			}
		}
		for _, st := range stores {
			if err := os.RemoveAll(st.dir); err != nil {
				return err
			}
		}
	}
	return errors.Join(failures...)
}

// A seat is the store of an engine between two processes.
type seat struct {
	dir    string
	state  state
	failed bool
}

// one runs a workload on an engine. If the store does not hold what the workload wants, it is loaded before; that is
// not measured.
func (s *series) one(st *seat, e *engine, w *workload) (outcome, error) {
	size := w.value
	if size == 0 {
		size = s.Config.Value
	}
	if !w.fresh && (e.keeps || e.loads) && (st.state.count() == 0 || st.state.Size != size) {
		before := "load"
		if w.value > 0 {
			before = strings.Replace(w.name, "get", "put", 1)
		}
		if _, err := s.process(st, e, before, size, true); err != nil {
			return outcome{}, err
		}
	}
	return s.process(st, e, w.name, size, w.fresh)
}

func (s *series) process(st *seat, e *engine, workload string, size int, fresh bool) (outcome, error) {
	if fresh {
		if err := os.RemoveAll(st.dir); err != nil {
			return outcome{}, err
		}
		st.state = state{Size: size}
	}
	if err := os.MkdirAll(st.dir, 0o700); err != nil {
		return outcome{}, err
	}
	st.state.Size = size
	j := job{Engine: e.name, Workload: workload, Dir: st.dir, State: st.state, Config: s.Config}
	var out outcome
	var err error
	if s.inProcess {
		out, err = runJob(j)
	} else {
		settle()
		err = runProcess(j, &out)
	}
	st.state = out.State
	return out, err
}
