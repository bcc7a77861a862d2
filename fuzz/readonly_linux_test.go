package fuzz

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio"
)

// A store on media that cannot be written is read, clean or not, and opened privately; files beside it are not even tried to be
// made. Beside a writer, who has the same files by a mount that can be written, a reader there cannot take part: it is told who
// writes, and is in a writer's way while it reads.
// Case D7 of RELIABILITY.md.
func TestReadOnlyMedia(t *testing.T) {
	if !withMounts(t, true) {
		return
	}
	dir := t.TempDir()
	mountTmpfs(t, dir, "64m", false)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	open, closed := filepath.Join(dir, "rw"), filepath.Join(dir, "ro")
	for _, d := range []string{open, closed} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(open, closed, "", syscall.MS_BIND, ""); err != nil {
		t.Skip(err)
	}
	if err := syscall.Mount("", closed, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	path, there := filepath.Join(closed, "app.db"), filepath.Join(open, "app.db")
	put := func(db *folio.DB, n uint64) {
		t.Helper()
		if err := db.Update(func(tx *folio.Tx) error { return tx.Root().Put(numberKey, le.AppendUint64(nil, n)) }); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(want uint64) {
		t.Helper()
		for _, o := range []folio.Options{{ReadOnly: true}, {Private: true}} {
			db, err := folio.Open(path, &o)
			if err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			if got, err := seeNumber(db); err != nil || got[0] != want {
				t.Errorf("%+v: %v, %v; want %d", o, got, err, want)
			}
			if o.Private {
				put(db, 77)
			}
			if err := errors.Join(db.Check(), db.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	db, err := folio.Open(there, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(db, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sees(1)

	w := startHelper(t)
	w.ask("write " + there)
	w.ask("put 2")
	for _, o := range []folio.Options{{ReadOnly: true}, {Private: true}} {
		o.LockTimeout = 50 * time.Millisecond
		_, err := folio.Open(path, &o)
		var locked *folio.LockedError
		if !errors.As(err, &locked) || locked.Holder != w.cmd.Process.Pid {
			t.Errorf("%+v beside a writer: %v; process %d writes", o, err, w.cmd.Process.Pid)
		}
	}
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.cmd.Wait()
	sees(2) // by a replay
	if db, err = folio.Open(path, &folio.Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if out, err := folio.Open(path, nil); err == nil {
		out.Close()
		t.Error("opened for writing")
	}
	next := startHelper(t)
	next.tell("write " + there)
	next.refused(fmt.Sprintf("held open for reading by process %d", os.Getpid()))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sees(2)
}
