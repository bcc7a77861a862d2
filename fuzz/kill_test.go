package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio"
)

var killsFlag = flag.Int("folio.kills", 12, "processes that TestKill kills")

// writerEnv, when set, makes the test binary a writer on the store it names.
const writerEnv = "FOLIO_FUZZ_WRITER"

// roleEnv, when set, makes the test binary one of TestProcesses' processes: a role, the store, and the notes.
const roleEnv = "FOLIO_FUZZ_ROLE"

// playRole is what that process does. There is none on systems where processes cannot share a store.
var playRole func(spec string) error

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path))
		os.Exit(1)
	}
	if role := os.Getenv(roleEnv); role != "" && playRole != nil {
		fmt.Fprintln(os.Stderr, playRole(role))
		os.Exit(1)
	}
	if spec := os.Getenv(cutEnv); spec != "" {
		if err := cutFile(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ledgerOptions keep the log and the memory small, so that checkpoints, commits without
// the log and spilling are always under way when the process is killed.
func ledgerOptions() *folio.Options {
	return &folio.Options{PageSize: 4096, LogLimit: 256 << 10, MemoryLimit: 256 << 10, LockTimeout: 10 * time.Second}
}

// writeUntilKilled is the writer: it reports each commit on standard output once
// the commit has returned, and returns only if something is wrong.
func writeUntilKilled(path string) error {
	db, err := folio.Open(path, ledgerOptions())
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range ledgers {
		go func() { failed <- keepLedger(db, g, os.Stdout) }()
	}
	go func() {
		for {
			if err := db.View(auditSum); err != nil {
				failed <- fmt.Errorf("a view while others write: %w", err)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return <-failed
}

// shrunk is what a writer reports after a checkpoint that made the file shorter.
const shrunk = "shrunk"

// keepLedger commits for ever as goroutine g.
func keepLedger(db *folio.DB, g int, report io.Writer) error {
	for {
		var n int
		err := db.Update(func(tx *folio.Tx) (err error) {
			if n, err = advance(tx, g); n%7 == 0 {
				tx.SetDurability(folio.Relaxed) // kill -9 must not take it either
			}
			return err
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(report, "%d %d\n", g, n); err != nil {
			return err
		}
		if g == 1 && n%60 == 0 {
			before := db.Stats().FileSize
			if err := db.Checkpoint(); err != nil {
				return err
			}
			if db.Stats().FileSize < before {
				fmt.Fprintln(report, shrunk)
			}
		}
	}
}

// TestKill starts a writing process again and again and kills it at a random
// moment, while it recovers too. Every commit that it reported must be there
// afterwards, at most one more of each goroutine, and the store must be whole.
func TestKill(t *testing.T) {
	seed := firstSeed()
	s := newSeeded(seed)
	dir := scratch(t)
	path := filepath.Join(dir, "app.db")
	var acknowledged [ledgers]int
	shrinks := 0
	for i := range *killsFlag {
		if err := killWriter(path, time.Duration(s.intn(200_000))*time.Microsecond, &acknowledged, &shrinks); err != nil {
			t.Fatalf("seed %d, kill %d: %v", seed, i, err)
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue // killed before the store was in place
		}
		// Half of the time a copy is opened instead, so that the next writer finds
		// what this one left and not what a recovery made of it.
		look := path
		if s.intn(2) == 0 {
			look = filepath.Join(dir, "copy.db")
			if err := copyStore(path, look); err != nil {
				t.Fatal(err)
			}
		}
		if err := survived(look, s.intn(3) == 0, &acknowledged); err != nil {
			t.Fatalf("seed %d, kill %d: %v", seed, i, err)
		}
		if look != path {
			os.Remove(look)
		}
	}
	t.Logf("%d kills, commits acknowledged: %v, files made shorter: %d", *killsFlag, acknowledged, shrinks)
	if *killsFlag >= 100 && shrinks == 0 {
		t.Error("no checkpoint made the file shorter: this was no test of that")
	}
	if sum := acknowledged[0] + acknowledged[1] + acknowledged[2] + acknowledged[3]; sum < *killsFlag {
		t.Errorf("only %d commits in %d kills: this was no test", sum, *killsFlag)
	}
}

// killWriter starts a writer, kills it after the delay, and raises acknowledged and shrinks to
// what it had reported.
func killWriter(path string, delay time.Duration, acknowledged *[ledgers]int, shrinks *int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	reports, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(reports)
	var bad error
	for lines.Scan() {
		if lines.Text() == shrunk {
			*shrinks++
			continue
		}
		var g, n int
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &g, &n); err != nil || g < 0 || g >= ledgers {
			bad = fmt.Errorf("the writer reported %q", lines.Text())
			break
		}
		acknowledged[g] = max(acknowledged[g], n)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // how it ended is plain: it was killed, unless it complained
	if complaint.Len() > 0 {
		return fmt.Errorf("the writer failed: %s", strings.TrimSpace(complaint.String()))
	}
	return bad
}

// survived opens a store whose writer was killed. What it finds beyond what was
// acknowledged has now been seen, and counts from here on.
func survived(path string, readOnly bool, acknowledged *[ledgers]int) error {
	opts := ledgerOptions()
	opts.ReadOnly = readOnly
	db, err := folio.Open(path, opts)
	if err != nil {
		return err
	}
	err = db.View(func(tx *folio.Tx) error {
		for g, want := range acknowledged {
			got := count(tx, g)
			if got < want || got > want+1 {
				return fmt.Errorf("goroutine %d: %d commits, of which %d were acknowledged", g, got, want)
			}
			acknowledged[g] = got
		}
		return audit(tx)
	})
	return errors.Join(err, db.Check(), db.Close())
}

// TestConcurrent has all goroutines of a ledger write, others read, scan, check and
// copy, and looks at every snapshot that is seen.
// Cases B7 and F16 of RELIABILITY.md.
func TestConcurrent(t *testing.T) {
	dir := scratch(t)
	db, err := folio.Open(filepath.Join(dir, "app.db"), ledgerOptions())
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	for g := range ledgers {
		writers.Go(func() { concurrentWriter(t, db, g) })
	}
	for name, act := range concurrentReaders(dir) {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := act(db, n); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if err := errors.Join(db.View(audit), db.Check(), db.Close()); err != nil {
		t.Fatal(err)
	}
	all := [ledgers]int{concurrentCommits, concurrentCommits, concurrentCommits, concurrentCommits}
	if err := survived(db.Path(), true, &all); err != nil {
		t.Error(err)
	}
}

// concurrentCommits is how many commits each writer makes.
const concurrentCommits = 150

// concurrentWriter commits, and checks that a view begun after a commit sees it.
func concurrentWriter(t *testing.T, db *folio.DB, g int) {
	for range concurrentCommits {
		var n int
		update := db.Update
		if g == 3 {
			update = db.Batch
		}
		err := update(func(tx *folio.Tx) (err error) {
			if n, err = advance(tx, g); g == 2 && n%3 == 0 {
				tx.SetDurability(folio.Relaxed)
			}
			return err
		})
		if err != nil {
			t.Errorf("goroutine %d, commit %d: %v", g, n, err)
			return
		}
		if err := db.View(func(tx *folio.Tx) error { return same("own commits", count(tx, g), n) }); err != nil {
			t.Errorf("goroutine %d, view after commit %d: %v", g, n, err)
			return
		}
	}
}

// concurrentReaders are what goes on beside the writers, each in a goroutine.
func concurrentReaders(dir string) map[string]func(db *folio.DB, n int) error {
	return map[string]func(db *folio.DB, n int) error{
		"audit": func(db *folio.DB, _ int) error { return db.View(audit) },
		"long view": func(db *folio.DB, _ int) error {
			return db.View(func(tx *folio.Tx) error {
				id := tx.ID()
				time.Sleep(20 * time.Millisecond)
				return errors.Join(audit(tx), same("ID", tx.ID(), id))
			})
		},
		"checkpoint": func(db *folio.DB, _ int) error { return errors.Join(db.Checkpoint(), db.Sync()) },
		"check":      func(db *folio.DB, _ int) error { return db.Check() },
		"copy": func(db *folio.DB, n int) error {
			path := filepath.Join(dir, fmt.Sprintf("copy-%d.db", n))
			copyTo := []func(string) error{db.Backup, db.Compact}[n%2]
			if err := copyTo(path); err != nil {
				return err
			}
			defer os.Remove(path)
			c, err := folio.Open(path, nil)
			if err != nil {
				return err
			}
			return errors.Join(c.View(audit), c.Check(), c.Close())
		},
	}
}
