package folio

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
)

// A writer that came just when a reading process attached, or left, took it for one that has another table, and gave up at once: the
// process had its lock on the data file before it was in the table, and after. Now it has that only while it is in the
// table; and the writer waits, since of a process that is killed the locks go one by one.
func TestWriterComesAsReadersCome(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	path := db.Path()
	must(t, db.Close())

	f, err := vfs.OS.Open(path, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Lock(lockAttached, false)) // what is left of a process
	time.AfterFunc(50*time.Millisecond, func() { f.Unlock(lockAttached) })
	w := openAgain(t, path, Options{LockTimeout: time.Minute})
	must(t, errors.Join(w.Close(), f.Close()))

	open := func(o Options) {
		o.LockTimeout = time.Minute
		db, err := tryAgain(path, o)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			return
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 150 {
		var wait sync.WaitGroup
		for i := range 4 {
			wait.Go(func() { open(Options{ReadOnly: i > 0}) })
		}
		wait.Wait()
		if t.Failed() {
			return
		}
	}
}

// A child process has none of the store's locks, nor keeps what the store gave back, however long it runs.
func TestChildKeepsNoLocks(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	in, out, err := os.Pipe()
	must(t, err)
	child, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "read x"}, &os.ProcAttr{Files: []*os.File{in}})
	if err != nil {
		t.Skip(err)
	}
	defer func() {
		must(t, errors.Join(in.Close(), out.Close()))
		_, err := child.Wait()
		must(t, err)
	}()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", child.Pid))
	must(t, err)
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", child.Pid, fd.Name())); to == w.Path() || to == logName(w.Path()) || to == lockName(w.Path()) {
			t.Errorf("the child has %s open", to)
		}
	}
	path := w.Path()
	killed(t, w)
	if out := openElsewhere(t, path, "write"); out != "opened" {
		t.Errorf("while a child of the process that died runs: %s", out)
	}
}

// The system tells nothing of another user's processes: then the writer is named as it named itself in the table.
func TestHolderOfAnotherUser(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	old := lockHolder
	defer func() { lockHolder = old }()
	lockHolder = func(vfs.Info, int64) int { return 0 }
	_, err := tryAgain(w.Path(), Options{LockTimeout: time.Millisecond})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder != os.Getpid() {
		t.Errorf("second writer: %v", err)
	}
	must(t, os.WriteFile(lockName(w.Path())+"2", make([]byte, 100), 0o600))
	if pid := lockfile.WriterOf(vfs.OS, lockName(w.Path())+"2"); pid != 0 {
		t.Errorf("junk names process %d", pid)
	}
}
