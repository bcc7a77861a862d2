package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"
)

var le = binary.LittleEndian

// config is what the flags say about the size of the work.
type config struct {
	N        int           // records
	Value    int           // bytes in a value
	LoadTx   int           // records in a transaction of a load
	Batch    int           // records in a transaction of a batch
	Bytes    int64         // of large values, for each of their sizes, at most
	Free     int           // free pages of the store that has many
	Cold     int64         // bytes of values in the store that is read cold
	ColdRate int           // gets a second from it at most; 0: as many as there can be
	Time     time.Duration // of the workloads that have no other end
	Verify   bool          // read everything after each workload
}

// allRecords is the number of records of a full series.
const allRecords = 1_000_000

// fillIn sets the sizes that the command line leaves open. They shrink with the number of records: of a first look at ten
// thousand nobody expects that it writes gigabytes.
func (c *config) fillIn() {
	share := func(of int64) int64 { return max(of*int64(min(c.N, allRecords))/allRecords, 1) }
	if c.Bytes == 0 {
		c.Bytes = share(256 << 20)
	}
	if c.Free == 0 {
		c.Free = int(share(1_000_000))
	}
	if c.Cold == 0 {
		c.Cold = share(2 << 30)
	}
}

// A job is what a process is told to do, in JSON on its command line.
type job struct {
	Engine, Workload string
	Dir              string
	State            state
	Config           config
	Crash            bool // fill the log and die
}

// A metric is one number of a result.
type metric struct {
	Name  string // added to the workload's title; mostly empty
	Unit  string
	Value float64
}

// lower tells whether a smaller value is the better one.
func (m metric) lower() bool { return m.Unit == unitTime || m.Unit == unitSize }

const (
	unitRate  = "k/s"
	unitBytes = "MB/s"
	unitTime  = "ms"
	unitSize  = "x" // of the payload
	unitShare = "%" // of what is done with nothing beside it
)

// An outcome is what a process reports, in JSON on its standard output.
type outcome struct {
	State   state
	Metrics []metric
	Heap    uint64 // peak of the Go heap in use, in bytes
	Memory  uint64 // peak of the memory that no file backs, C's included; 0: not known on this system
}

// bench is a workload as it runs.
type bench struct {
	cfg     config
	e       *engine
	w       *workload
	dir     string
	s       state
	st      store   // nil: closed
	v       *values // for the goroutine of the workload itself
	start   time.Time
	opens   []time.Duration
	metrics []metric
}

// runJob runs one workload in this process.
func runJob(j job) (outcome, error) {
	b := &bench{cfg: j.Config, e: engines[j.Engine], dir: j.Dir, s: j.State}
	at := slices.IndexFunc(workloads, func(w *workload) bool { return w.name == j.Workload })
	if b.e == nil || at < 0 {
		return outcome{}, fmt.Errorf("no engine %q, or no workload %q", j.Engine, j.Workload)
	}
	b.w = workloads[at]
	if j.Crash {
		return outcome{}, b.crash()
	}
	memory := watchMemory()
	err := b.measure()
	if b.st != nil {
		err = errors.Join(err, b.close())
	}
	if err != nil {
		return outcome{}, err
	}
	if b.w.sized {
		if err := b.size(": files, closed"); err != nil {
			return outcome{}, err
		}
	}
	heap, anon := memory.stop()
	if b.cfg.Verify && b.e.keeps {
		err = b.verify()
	}
	return outcome{State: b.s, Metrics: b.metrics, Heap: heap, Memory: anon}, err
}

func (b *bench) measure() error {
	if err := b.open(); err != nil {
		return err
	}
	if !b.w.fresh && !b.w.opens {
		if err := b.warm(); err != nil {
			return err
		}
	}
	if err := b.w.run(b); err != nil {
		return err
	}
	if b.w.sized {
		return b.size(": files, open")
	}
	return nil
}

// verify holds the store to its state. The time and memory that it takes are not measured.
func (b *bench) verify() error {
	if err := b.open(); err != nil {
		return err
	}
	return errors.Join(b.s.verify(b.st), b.close())
}

func (b *bench) open() (err error) {
	b.st, err = b.e.open(b.dir, setting{relaxed: b.w.relaxed, load: b.w.load})
	return err
}

func (b *bench) close() error {
	st := b.st
	b.st = nil
	return st.Close()
}

// openTimed opens the store and gets a record, for opening may put off what the first read then does.
func (b *bench) openTimed() error {
	var key [keySize]byte
	start := time.Now()
	if err := b.open(); err != nil {
		return err
	}
	err := b.st.View(func(r reader) error {
		value, err := r.Get(b.s.putKey(&key, b.s.First))
		if err == nil && len(value) != b.s.Size {
			err = fmt.Errorf("the first get gives %d bytes", len(value))
		}
		return err
	})
	b.opens = append(b.opens, time.Since(start))
	return err
}

// warm reads everything once, so that pages are in memory, checked by those who check them at first sight, and in the
// caches of those who have some.
func (b *bench) warm() error {
	var key [keySize]byte
	return b.st.View(func(r reader) error {
		err := r.Scan(nil, func(_, _ []byte) bool { return true })
		for i := uint64(0); i < min(b.s.count(), 200_000) && err == nil; i++ {
			_, err = r.Get(b.s.putKey(&key, b.s.First+mix(i)%b.s.count()))
		}
		return err
	})
}

// begin starts the clock, on a heap without garbage of the preparations.
func (b *bench) begin() {
	runtime.GC()
	b.start = time.Now()
}

// rate reports so many operations since begin.
func (b *bench) rate(name string, n uint64) {
	b.report(name, unitRate, float64(n)/1000/time.Since(b.start).Seconds())
}

// throughput reports so many values since begin.
func (b *bench) throughput(n uint64) {
	b.report("", unitBytes, float64(n)*float64(b.s.Size)/1e6/time.Since(b.start).Seconds())
}

// durations reports the median of the times that opening took.
func (b *bench) durations(name string) {
	slices.Sort(b.opens)
	b.report(name, unitTime, b.opens[len(b.opens)/2].Seconds()*1000)
}

// size reports what the files take on the disk, as a multiple of the bytes in keys and values.
func (b *bench) size(name string) error {
	size, err := diskUse(b.dir)
	if err != nil {
		return err
	}
	b.report(name, unitSize, float64(size)/float64(b.s.payload()))
	return nil
}

func (b *bench) report(name, unit string, value float64) {
	b.metrics = append(b.metrics, metric{name, unit, value})
}

// crash fills the log, says what the store now holds, and dies by a signal that nothing can catch.
func (b *bench) crash() error {
	if err := b.open(); err != nil {
		return err
	}
	if err := fill(b); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcome{State: b.s}); err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return err
	}
	select {} // the signal is on its way
}

// runCrash runs crash in a process of its own, and takes over the state that it reports.
func (b *bench) runCrash() error {
	j := job{Engine: b.e.name, Workload: b.w.name, Dir: b.dir, State: b.s, Config: b.cfg, Crash: true}
	var out outcome
	err := runProcess(j, &out)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
		return fmt.Errorf("the process that should die did not: %v", err)
	}
	if out.State.End <= b.s.End {
		return errors.New("the process died before it had filled the log")
	}
	b.s = out.State
	return nil
}

// runProcess runs a job in a process of its own, which is this program again. out is set even if the process died, if
// it had reported before.
func runProcess(j job, out *outcome) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	c := exec.Command(self, jobCommand, string(text))
	c.Stdout, c.Stderr = &stdout, &stderr
	err = c.Run()
	if stdout.Len() > 0 {
		err = errors.Join(err, json.Unmarshal(stdout.Bytes(), out))
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w\n%s", j.Engine, j.Workload, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// jobCommand is the first argument of such a process.
const jobCommand = "job"

// serveJob is what it does.
func serveJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	out, err := runJob(j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
