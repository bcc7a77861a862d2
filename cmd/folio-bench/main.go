// Folio-bench runs one list of workloads on Folio and on other embedded stores, side by side, and prints a table of
// medians and ratios. README.md tells how to run and how to read it.
//
// The files, in the order of reading:
//
//	engine.go    what an engine is; then one file for each
//	data.go      the records, and how a store is held to what it should contain
//	workload.go  the list of workloads; ycsb.go, those of YCSB
//	latency.go   how long single puts take; cold.go, reads from the disk
//	bench.go     one workload on one engine, in a process of its own; memory.go and disk.go, what it takes
//	series.go    all of them, in turns, and again
//	report.go    the table, and JSON; chart.go, the chart
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == jobCommand {
		err = serveJob(os.Args[2])
	} else {
		err = run(os.Args[1:], os.Stdout)
	}
	if err != nil {
		complain("folio-bench: %v", err)
		os.Exit(1)
	}
}

// complain writes a line to standard error, where progress and errors go.
func complain(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// run is the command line.
func run(args []string, out io.Writer) error {
	var s series
	flags := flag.NewFlagSet("folio-bench", flag.ContinueOnError)
	flags.IntVar(&s.Config.N, "n", allRecords, "records")
	flags.IntVar(&s.Config.Value, "value", 150, "bytes in a value")
	flags.IntVar(&s.Config.LoadTx, "load-tx", 100_000, "records in a transaction of a load")
	flags.IntVar(&s.Config.Batch, "batch", 1000, "records in a transaction of a batch")
	const share = "; with fewer than a million records, the same share of that)"
	flags.Int64Var(&s.Config.Bytes, "bytes", 0, "bytes of large values, for each of their sizes, at most (default: 256 MiB"+share)
	flags.IntVar(&s.Config.Free, "free", 0, "free pages of the store that has many (default: a million"+share)
	flags.Int64Var(&s.Config.Cold, "cold", 0, "bytes of values in the store that is read cold (default: 2 GiB"+share)
	flags.IntVar(&s.Config.ColdRate, "cold-rate", 0, "gets a second from that store at most, to see what they leave to a computing goroutine (default: as many as there can be)")
	flags.DurationVar(&s.Config.Time, "time", 3*time.Second, "of each workload that has no other end, and of large puts at most")
	flags.BoolVar(&s.Config.Verify, "verify", false, "read and check everything after each workload")
	flags.IntVar(&s.Runs, "runs", 3, "how often the whole list is run; the table shows medians")
	dir := flags.String("dir", "", "folder for the stores, on the disk that is to be measured (default: that of temporary files)")
	engineList := flags.String("engines", "all", "engines, with commas: "+strings.Join(names, ","))
	workloadList := flags.String("workloads", "all", "workloads, with commas; list: print them")
	jsonFile := flags.String("json", "", "write all results to this file")
	chartFile := flags.String("svg", "", "write a bar chart to this file")
	from := flags.String("from", "", "run nothing: report of earlier runs of the same size, from files of --json, with commas")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return nil
		}
		return err
	}
	if *workloadList == "list" {
		for _, w := range workloads {
			fmt.Fprintf(out, "%-16s %s\n", w.name, w.title)
		}
		return nil
	}
	s.Config.fillIn()
	if s.Config.N < 10 || s.Config.Bytes < 1 || s.Config.Free < 1 || s.Config.Cold < 1 || s.Config.ColdRate < 0 || s.Config.Value < stampSize || s.Config.LoadTx < 1 || s.Config.Batch < 1 || s.Runs < 1 {
		return fmt.Errorf("too small: at least 10 records, %d bytes in a value, and 1 of everything else", stampSize)
	}
	if *from != "" {
		old, err := readSeries(strings.Split(*from, ","))
		if err != nil {
			return err
		}
		return old.report(out, *jsonFile, *chartFile)
	}
	var err error
	if s.engines, err = choose(*engineList); err != nil {
		return err
	}
	if s.workloads, err = chooseWorkloads(*workloadList); err != nil {
		return err
	}
	if left := missing(); len(left) > 0 {
		complain("not in this build, for want of cgo (a C compiler) or of another system: %s", strings.Join(left, ", "))
	}
	return s.runAndReport(*dir, out, *jsonFile, *chartFile)
}

// runAndReport reports what there is even if an engine failed.
func (s *series) runAndReport(dir string, out io.Writer, jsonFile, chartFile string) error {
	failed := s.run(dir)
	if len(s.Results) == 0 {
		return failed
	}
	if err := s.report(out, jsonFile, chartFile); err != nil {
		return err
	}
	return failed
}

// report prints the table, and writes the files that have a name.
func (s *series) report(out io.Writer, jsonFile, chartFile string) error {
	if err := s.table(out); err != nil {
		return err
	}
	if jsonFile != "" {
		if err := s.writeJSON(jsonFile); err != nil {
			return err
		}
	}
	if chartFile != "" {
		return s.writeChart(chartFile)
	}
	return nil
}
