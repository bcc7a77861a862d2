package lockfile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/foliodb/folio/internal/vfs"
)

// roleEnv, when set, makes the test binary a process that stops itself at a certain step: a role, the file, and the step.
const roleEnv = "FOLIO_LOCKFILE_ROLE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(roleEnv); spec != "" {
		f := strings.Split(spec, "|")
		var at int
		fmt.Sscan(f[2], &at)
		n := 0
		step = func(name string) {
			if n++; n == at {
				fmt.Println("stops", name)
				// To this very thread: one that another thread has to take lets this one run on meanwhile.
				runtime.LockOSThread()
				_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
				runtime.UnlockOSThread()
			}
		}
		if err := play(f[0], f[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is what the process does: it reads twice, or it writes.
func play(role, name string) error {
	t, err := attachSoon(name, time.Minute)
	if err != nil {
		return err
	}
	if role == "write" {
		if !t.Fresh {
			t.Succeed(os.Getpid())
		}
		for range 2 {
			tx := t.Floor() + 1
			t.Publish(Snapshot{Tx: tx, End: tx})
			t.Acknowledge(tx)
			t.Pins(nil)
			if _, err := t.Reap(); err != nil {
				return err
			}
		}
		return t.Close()
	}
	if err := t.Join(); err != nil {
		return err
	}
	for range 2 {
		if err := readOnce(t, func(s string) { fmt.Println(s) }); err != nil {
			return err
		}
		t.Sleep()
		t.Wake()
	}
	return t.Close()
}

// readOnce pins the newest snapshot and lets go of it, and says so.
func readOnce(t *Table, say func(string)) error {
	for {
		w := t.Published()
		s, ok := t.Snapshot(w)
		if !ok || t.Acked() > w.Tx() {
			time.Sleep(time.Millisecond)
			continue
		}
		p, err := t.Pin(s.Tx)
		if err != nil {
			return err
		}
		if t.Published() != w {
			t.Unpin(p)
			continue
		}
		if s.End != s.Tx {
			return fmt.Errorf("snapshot %+v", s)
		}
		say(fmt.Sprint("reads ", s.Tx))
		step("reading")
		say(fmt.Sprint("read ", s.Tx))
		t.Unpin(p)
		return nil
	}
}

// TestStopped stops a real process between any two steps, and has others go on: none waits for it, none takes away what it
// reads. Then it goes on too, or is killed, and nothing of it stays.
// Case D4 of RELIABILITY.md.
func TestStopped(t *testing.T) {
	for _, role := range []string{"read", "write"} {
		for _, killed := range []bool{false, true} {
			for at := 1; ; at++ {
				if !stopAt(t, role, killed, at) {
					if at < 10 {
						t.Errorf("%s: only %d steps", role, at-1)
					}
					t.Logf("%s, killed %v: stopped at each of %d steps", role, killed, at-1)
					break
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// stopAt runs the process, and reports whether it came to the step.
func stopAt(t *testing.T, role string, killed bool, at int) bool {
	name := lockName(t)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	// With the race detector a process sleeps for a second before it exits, which once passed for a process that hangs.
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", roleEnv, role, name, at), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	// A process that reads has a writer to wait for.
	var w *Table
	if role == "read" {
		w = mustAttach(t, name)
		w.Publish(Snapshot{Tx: 1, End: 1})
		w.Acknowledge(1)
	}
	must(t, cmd.Start())
	tooLong := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // whoever waits for it then sees an error
	defer func() { tooLong.Stop(); _ = cmd.Process.Kill() }()
	lines := bufio.NewScanner(out)
	reads, where := uint64(0), ""
	for where == "" && lines.Scan() {
		where = heard(lines.Text(), &reads)
	}
	if where == "" {
		must(t, cmd.Wait())
		if w != nil {
			must(t, w.Close())
		}
		return false
	}
	awaitStop(t, cmd.Process.Pid)
	around(t, name, role, where, w, reads)
	if killed {
		_ = cmd.Process.Kill()
	} else {
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
	for lines.Scan() {
		heard(lines.Text(), &reads)
	}
	if err := cmd.Wait(); err != nil && !killed {
		t.Errorf("%s, stopped at %q: %v", role, where, err)
	}
	// Whatever is left, the next one takes over.
	last := mustAttach(t, name)
	if _, err := last.Reap(); err != nil {
		t.Error(err)
	}
	if n := len(last.Readers()); n > 0 {
		t.Errorf("%s, stopped at %q: %d slots are left", role, where, n)
	}
	last.Succeed(1)
	if p := last.Pins(nil); len(p) > 0 || last.Attached() {
		t.Errorf("%s, stopped at %q: pins %v are left, mark %v", role, where, p, last.Attached())
	}
	if w != nil {
		must(t, w.Close())
	}
	must(t, last.Close())
	if exists(name) {
		t.Errorf("%s, stopped at %q: the file is left", role, where)
	}
	return true
}

// heard follows what the process says: which snapshot it reads, and where it stops.
func heard(line string, reads *uint64) string {
	if s, ok := strings.CutPrefix(line, "stops "); ok {
		return s
	}
	var tx uint64
	if n, _ := fmt.Sscanf(line, "reads %d", &tx); n == 1 {
		*reads = tx
	}
	if n, _ := fmt.Sscanf(line, "read %d", &tx); n == 1 {
		*reads = 0
	}
	return ""
}

func awaitStop(t *testing.T, pid int) {
	for range 100000 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(t, err)
		if f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])); f[0] == "T" {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
	t.Fatal("the process does not stop")
}

// around is what others do while the process is stopped.
func around(t *testing.T, name, role, where string, w *Table, reads uint64) {
	other, err := attachSoon(name, 50*time.Millisecond)
	if errors.Is(err, vfs.ErrLocked) {
		// Only who makes or removes the file keeps others out, as long as it takes.
		if role == "read" || !slices.Contains([]string{"life locked", "made", "last"}, where) {
			t.Errorf("%s, stopped at %q: the table cannot be attached to", role, where)
		}
		return
	}
	must(t, err)
	defer func() { must(t, other.Close()) }()
	writer := w
	if role == "write" {
		if where == "opened" {
			return // it will find this one attached
		}
		must(t, other.Join()) // and stays a reader: the stopped one is the writer
		if word := other.Published(); word != 0 {
			if s, ok := other.Snapshot(word); !ok || s.End != s.Tx {
				t.Errorf("write, stopped at %q: snapshot %+v, %v", where, s, ok)
			}
		}
		return
	}
	for range 6 { // all cells are filled again
		tx := writer.Published().Tx() + 1
		writer.Publish(Snapshot{Tx: tx, End: tx})
		writer.Acknowledge(tx)
		pins := writer.Pins(nil)
		if reads != 0 && !slices.Contains(pins, reads) {
			t.Errorf("read, stopped at %q: snapshot %d is read, the pins are %v", where, reads, pins)
		}
	}
	n, err := writer.Reap()
	if n != 0 || err != nil {
		t.Errorf("read, stopped at %q: %d slots of the living were freed, %v", where, n, err)
	}
	must(t, other.Join())
	must(t, readOnce(other, func(string) {}))
}
