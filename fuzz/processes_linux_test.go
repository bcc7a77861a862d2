package fuzz

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio"
)

var processesFlag = flag.Duration("folio.processes", 3*time.Second, "how long TestProcesses has processes killed")

func init() { playRole = perform }

// notes is what processes tell each other past the store: how many commits of each ledger have been acknowledged. It is
// a file that is read and written by single system calls.
type notes struct{ f *os.File }

func openNotes(path string) (notes, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return notes{f}, err
}

func (n notes) acknowledge(g, count int) error {
	var p [8]byte
	le.PutUint64(p[:], uint64(count))
	_, err := n.f.WriteAt(p[:], int64(g)*8)
	return err
}

func (n notes) acknowledged() (counts [ledgers]int, err error) {
	var p [8 * ledgers]byte
	if _, err := n.f.ReadAt(p[:], 0); err != nil {
		return counts, err
	}
	for g := range counts {
		counts[g] = int(le.Uint64(p[g*8:]))
	}
	return counts, nil
}

// perform is what a process of TestProcesses does until it is killed. It returns only if something is wrong.
func perform(spec string) error {
	if spec == helperRole {
		return help(figureOrders())
	}
	f := strings.Split(spec, "|")
	n, err := openNotes(f[2])
	if err != nil {
		return err
	}
	switch f[0] {
	case "write":
		return writeBeside(f[1], n)
	case "read":
		return readBeside(f[1], n)
	case "visit":
		return visitBeside(f[1], n)
	default:
		return privateBeside(f[1], n)
	}
}

// writeBeside is keepLedger in all goroutines; whoever comes while another one writes waits.
func writeBeside(path string, n notes) error {
	opts := ledgerOptions()
	opts.LockTimeout = time.Minute
	db, err := folio.Open(path, opts)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range ledgers {
		go func() { failed <- keepLedgerNoted(db, g, n) }()
	}
	return <-failed
}

func keepLedgerNoted(db *folio.DB, g int, n notes) error {
	for {
		var count int
		err := db.Update(func(tx *folio.Tx) (err error) {
			if count, err = advance(tx, g); count%7 == 0 {
				tx.SetDurability(folio.Relaxed)
			}
			return err
		})
		if err == nil {
			err = n.acknowledge(g, count)
		}
		if err == nil && g == 1 && count%60 == 0 {
			err = db.Checkpoint()
		}
		if err != nil {
			return err
		}
		if count%50 == 0 {
			time.Sleep(time.Duration(count%7) * time.Millisecond)
		}
	}
}

// view checks that a transaction sees what had been acknowledged before it began, and no less than one before.
func view(tx *folio.Tx, before, last *[ledgers]int) error {
	for g := range ledgers {
		got := count(tx, g)
		if got < before[g] || got < last[g] {
			return fmt.Errorf("transaction %d: %d commits of ledger %d, %d were acknowledged before, %d seen before",
				tx.ID(), got, g, before[g], last[g])
		}
		last[g] = got
	}
	return audit(tx)
}

// readBeside reads from several goroutines. Some views last, and are read again at their end.
func readBeside(path string, n notes) error {
	db, err := folio.Open(path, &folio.Options{ReadOnly: true, LockTimeout: time.Minute})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i := range 3 {
		go func() {
			var last [ledgers]int
			for k := 0; ; k++ {
				before, err := n.acknowledged()
				if err == nil {
					err = db.View(func(tx *folio.Tx) error {
						err := view(tx, &before, &last)
						if err == nil && k%20 == 0 {
							time.Sleep(time.Duration(i*70) * time.Millisecond)
							err = errors.Join(audit(tx), tx.Check())
						}
						return err
					})
				}
				if err != nil {
					failed <- fmt.Errorf("goroutine %d, view %d: %w", i, k, err)
					return
				}
				if k%10 == i {
					time.Sleep(time.Duration(k%40) * time.Millisecond) // long enough for the pin to be let go
				}
			}
		}()
	}
	return <-failed
}

// visitBeside opens the store again and again.
func visitBeside(path string, n notes) error {
	var last [ledgers]int
	for {
		before, err := n.acknowledged()
		if err != nil {
			return err
		}
		db, err := folio.Open(path, &folio.Options{ReadOnly: true, LockTimeout: time.Minute})
		if err != nil {
			return err
		}
		err = errors.Join(db.View(func(tx *folio.Tx) error { return view(tx, &before, &last) }), db.Check(), db.Close())
		if err != nil {
			return err
		}
	}
}

// privateBeside opens the store for itself, changes it, and sees nothing of what others do.
func privateBeside(path string, n notes) error {
	for {
		before, err := n.acknowledged()
		if err != nil {
			return err
		}
		opts := ledgerOptions()
		opts.Private, opts.LockTimeout = true, time.Minute
		db, err := folio.Open(path, opts)
		if err != nil {
			return err
		}
		var last [ledgers]int
		err = db.View(func(tx *folio.Tx) error { return view(tx, &before, &last) })
		for k := 0; k < 60 && err == nil; k++ {
			err = db.Update(func(tx *folio.Tx) error { _, err := advance(tx, k%ledgers); return err })
		}
		if err == nil {
			err = errors.Join(db.View(audit), db.Check())
		}
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
	}
}

// actor is one of TestProcesses' processes.
type actor struct {
	role      string
	cmd       *exec.Cmd
	complaint bytes.Buffer
	done      chan struct{}
}

func startActor(role, path, notes string) (*actor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &actor{role: role, cmd: exec.Command(self), done: make(chan struct{})}
	a.cmd.Env = append(os.Environ(), roleEnv+"="+strings.Join([]string{role, path, notes}, "|"))
	a.cmd.Stderr = &a.complaint
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = a.cmd.Wait(); close(a.done) }()
	return a, nil
}

// kill ends the process, and tells what it had to complain about.
func (a *actor) kill() error {
	_ = a.cmd.Process.Kill()
	<-a.done
	return a.complained()
}

func (a *actor) complained() error {
	if a.complaint.Len() == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", a.role, strings.TrimSpace(a.complaint.String()))
}

// Each writer that takes over begins behind the end of the file, and while processes are attached that is never cut: so the file
// grows with each of them. At processesSize all processes are killed, and the next one has to find that nearly all
// of it is free, and make it no longer than afterwardsSize.
const (
	processesSize  = 128 << 20
	afterwardsSize = 16 << 20
)

// endAll kills all processes, and returns what they complained about.
func endAll(actors []*actor) (complaints []error) {
	var wait sync.WaitGroup
	for _, a := range actors {
		if a != nil {
			wait.Go(func() { _ = a.kill() })
		}
	}
	wait.Wait()
	for i, a := range actors {
		if a != nil {
			if err := a.complained(); err != nil {
				complaints = append(complaints, err)
			}
			actors[i] = nil
		}
	}
	return complaints
}

// TestProcesses has two writers, of which one waits, and reading processes of several kinds on one store, and kills or
// stops any of them every 50 to 450 ms. No reader may see anything wrong, nothing that was acknowledged may be lost or
// be late, and in the end, when all are dead, the store is whole and no larger than it has to be.
func TestProcesses(t *testing.T) {
	seed := firstSeed()
	s := newSeeded(seed)
	dir := scratch(t)
	path, notesPath := filepath.Join(dir, "app.db"), filepath.Join(dir, "notes")
	db, err := folio.Open(path, ledgerOptions())
	if err != nil {
		t.Fatal(err)
	}
	n, err := openNotes(notesPath)
	if err != nil {
		t.Fatal(err)
	}
	for g := range ledgers {
		if err := n.acknowledge(g, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	roles := []string{"write", "write", "read", "read", "read", "read", "read", "read", "read", "read", "visit", "private"}
	actors := make([]*actor, len(roles))
	kills, stops, ends := map[string]int{}, 0, 0
	var failures []error
	start := time.Now()
	for time.Since(start) < *processesFlag && failures == nil {
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.Size() > processesSize {
			ends++
			failures = endAll(actors)
			acknowledged, err := n.acknowledged()
			if err := errors.Join(err, survivedAtLeast(path, acknowledged)); err != nil {
				failures = append(failures, err)
			}
		}
		for i, role := range roles {
			if actors[i] == nil {
				if actors[i], err = startActor(role, path, notesPath); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Duration(50+s.intn(400)) * time.Millisecond)
		i := s.intn(len(roles))
		if s.intn(3) == 0 {
			i = s.intn(2) // writers
		}
		if s.intn(5) == 0 {
			stops++
			_ = actors[i].cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(s.intn(300)) * time.Millisecond)
			_ = actors[i].cmd.Process.Signal(syscall.SIGCONT)
		} else {
			kills[roles[i]]++
			if err := actors[i].kill(); err != nil {
				failures = append(failures, err)
			}
			actors[i] = nil
		}
		for _, a := range actors {
			if a == nil {
				continue
			}
			select {
			case <-a.done:
				failures = append(failures, fmt.Errorf("%s has ended: %v", a.role, a.complained()))
			default:
			}
		}
	}
	failures = append(failures, endAll(actors)...)
	acknowledged, err := n.acknowledged()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: killed %v, stopped %d times, all at once %d times; commits acknowledged: %v", time.Since(start).Round(time.Second), kills, stops,
		ends, acknowledged)
	for _, err := range failures {
		t.Errorf("seed %d: %v", seed, err)
	}
	if t.Failed() {
		return
	}
	if err := survivedAtLeast(path, acknowledged); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if _, err := os.Stat(path + "-lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file is still there: %v", err)
	}
}

// survivedAtLeast opens the store when all processes are dead.
func survivedAtLeast(path string, acknowledged [ledgers]int) error {
	db, err := folio.Open(path, ledgerOptions())
	if err != nil {
		return err
	}
	var last [ledgers]int
	err = errors.Join(db.View(func(tx *folio.Tx) error { return view(tx, &acknowledged, &last) }), db.Check())
	// A file is made shorter as it is changed: see ARCHITECTURE.md, "Checkpoint".
	for i := 0; i < 400 && err == nil; i++ {
		err = db.Update(func(tx *folio.Tx) error { _, err := advance(tx, i%ledgers); return err })
	}
	for range 3 {
		err = errors.Join(err, db.Checkpoint())
	}
	if err = errors.Join(err, db.Check(), db.Close()); err != nil {
		return err
	}
	// A ledger's store has some 3 MB.
	if info, err := os.Stat(path); err != nil || info.Size() > afterwardsSize {
		return fmt.Errorf("of what processes kept that are dead %d bytes are left in the file: %v", info.Size(), err)
	}
	return nil
}
