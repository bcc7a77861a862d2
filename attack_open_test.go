package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// attackReopens fails the test if the store cannot be opened for writing: a lock belongs to the open file, and a mapping that
// nobody unmaps keeps that open for as long as the process lives, whatever was closed.
func attackReopens(t *testing.T, path string) {
	t.Helper()
	db, err := Open(path, &Options{LockTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Error("locked after it was closed: ", err)
		return
	}
	attackMust(t, db.Close())
}

// Check of a store opened for reading takes a hold of the mapping and never gives it back: Close leaves
// the mapping, and with it the lock, behind. After Close it panics.
func TestAttackReadOnlyCheckLeaksLock(t *testing.T) {
	db := attackOpen(t, nil)
	attackPut(t, db, "a", "b")
	path := db.Path()
	attackMust(t, db.Close())
	ro := attackOpenAt(t, path, &Options{ReadOnly: true})
	attackMust(t, ro.Check())
	attackMust(t, ro.Close())
	attackReopens(t, path)
	func() {
		defer func() {
			if r := recover(); r != nil {
				t.Error("Check after Close panics: ", r)
			}
		}()
		if err := ro.Check(); !errors.Is(err, ErrDatabaseNotOpen) {
			t.Error("Check after Close: ", err)
		}
	}()
}

// A store that was opened for reading and whose log was replayed in memory keeps the replaying transaction's
// hold of the mapping, and so the lock.
func TestAttackPrivateReplayLeaksLock(t *testing.T) {
	db := attackOpen(t, nil)
	attackPut(t, db, "a", "b")
	attackMust(t, db.Checkpoint())
	attackPut(t, db, "a", "c")
	path := attackCrash(t, db.Path())
	ro := attackOpenAt(t, path, &Options{ReadOnly: true})
	attackMust(t, ro.View(func(tx *Tx) error {
		if v := tx.Root().Get([]byte("a")); string(v) != "c" {
			t.Errorf("got %q", v)
		}
		return nil
	}))
	attackMust(t, ro.Close())
	attackReopens(t, path)
}

// Recovery fails at the sync of the log after the replay: the replay's transaction is left open and holds the mapping,
// and so the lock; the next Open finds the store locked by nobody.
func TestAttackFailedRecoveryLeaksLock(t *testing.T) {
	db := attackOpen(t, nil)
	attackPut(t, db, "a", "b")
	path := attackCrash(t, db.Path())
	fsys := newAttackFS()
	n := 0
	hook := attackHook(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindSync && isLog(f) {
			if n++; n == 2 { // the first is before reading it
				return errAttack
			}
		}
		return nil
	})
	fsys.before.Store(&hook)
	if _, err := Open(path, &Options{fs: fsys}); err == nil {
		t.Fatal("opened")
	}
	attackReopens(t, path)
}

// The handle is poisoned while it makes its first log. Close says so.
func TestAttackCloseOfPoisonedWithoutLog(t *testing.T) {
	fsys := newAttackFS()
	db := attackOpen(t, &Options{fs: fsys})
	hook := attackHook(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindSync && !isLog(f) {
			return errAttack
		}
		return nil
	})
	fsys.before.Store(&hook)
	if err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), nil) }); !errors.Is(err, ErrPoisoned) {
		t.Errorf("Update: %v", err)
	}
	if err := db.Close(); !errors.Is(err, ErrPoisoned) {
		t.Errorf("Close: %v, want ErrPoisoned", err)
	}
	attackReopens(t, db.Path())
}

// attackFault runs fn, in which the mapping faults, and wants an error. Without SetPanicOnFault here the
// fault would end the process.
func attackFault(t *testing.T, what string, fn func() error) {
	t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("%s in a transaction of Begin: fault is not caught: %v", what, r)
		}
	}()
	if err := fn(); err == nil {
		t.Errorf("%s: no error", what)
	}
}

// The file is cut by somebody else after its pages have been touched. In a transaction made by Begin, methods that
// return an error must return one, not kill the process with SIGBUS.
func TestAttackFaultInUnmanagedWrite(t *testing.T) {
	ops := map[string]func(b *Bucket) error{
		"Put":          func(b *Bucket) error { return b.Put([]byte("key50"), nil) },
		"Delete":       func(b *Bucket) error { return b.Delete([]byte("key50")) },
		"DeleteRange":  func(b *Bucket) error { _, err := b.DeleteRange([]byte("key20"), []byte("key70")); return err },
		"CreateBucket": func(b *Bucket) error { _, err := b.CreateBucket([]byte("key50x")); return err },
		"DeleteBucket": func(b *Bucket) error { return b.DeleteBucket([]byte("key50y")) },
		"MoveBucket":   func(b *Bucket) error { return b.MoveBucket([]byte("key50y"), b.tx.Root()) },
	}
	for what, op := range ops {
		t.Run(what, func(t *testing.T) {
			path := attackOpenFilled(t)
			db := attackOpenAt(t, path, nil)
			tx, err := db.Begin(true)
			attackMust(t, err)
			b := tx.Bucket([]byte("b"))
			for range b.All() { // touch all
			}
			attackMust(t, os.Truncate(path, 8192))
			attackFault(t, what, func() error { return op(b) })
			if db.current != nil {
				tx.Rollback()
			}
			t.SkipNow() // the store is past closing
		})
	}
}

// attackOpenFilled makes a store with a bucket of some pages.
func attackOpenFilled(t *testing.T) string {
	db := attackOpen(t, nil)
	attackMust(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := b.Put(fmt.Appendf(nil, "key%02d", i), make([]byte, 300)); err != nil {
				return err
			}
		}
		return nil
	}))
	attackMust(t, db.Close())
	return db.Path()
}

// cutter cuts a file when it is written to.
type attackCutter struct{ path string }

func (c attackCutter) Write(p []byte) (int, error) { return len(p), os.Truncate(c.path, 8192) }

// The file is cut while WriteTo copies from the mapping.
func TestAttackFaultInUnmanagedWriteTo(t *testing.T) {
	db := attackOpen(t, nil)
	attackMust(t, db.Update(func(tx *Tx) error {
		for i := range 5000 {
			if err := tx.Root().Put(fmt.Appendf(nil, "key%04d", i), make([]byte, 300)); err != nil {
				return err
			}
		}
		return nil
	}))
	attackMust(t, db.Close())
	db = attackOpenAt(t, db.Path(), nil)
	tx, err := db.Begin(false)
	attackMust(t, err)
	defer tx.Rollback()
	attackFault(t, "WriteTo", func() error { _, err := tx.WriteTo(attackCutter{db.Path()}); return err })
}

// A hostile file has a bucket that contains itself. Every page is sound. Compact follows it for ever, until the stack
// ends the process.
func TestAttackCompactOfCycle(t *testing.T) {
	if path := os.Getenv("FOLIO_ATTACK_CYCLE"); path != "" {
		debug.SetMaxStack(8 << 20)
		db, err := Open(path, nil)
		attackMust(t, err)
		if err := db.Compact(path + "-copy"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Compact: %v", err)
		}
		return
	}
	const magic = 0x1122334455667788
	db := attackOpen(t, &Options{PageSize: 4096})
	attackMust(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		return b.SetSequence(magic)
	}))
	attackMust(t, db.Close())
	file, err := os.ReadFile(db.Path())
	attackMust(t, err)
	var want [8]byte
	binary.LittleEndian.PutUint64(want[:], magic)
	found := false
	for id := 2; id < len(file)/4096; id++ {
		p := file[id*4096:][:4096]
		if at := bytes.Index(p, want[:]); at >= 0 {
			found = true
			binary.LittleEndian.PutUint64(p[at+8:], 1)
			binary.LittleEndian.PutUint32(p[at+16:], uint32(id))
			page.Seal(p)
		}
	}
	if !found {
		t.Fatal("no bucket found")
	}
	attackMust(t, os.WriteFile(db.Path(), file, 0o600))
	cmd := exec.Command(os.Args[0], "-test.run=^TestAttackCompactOfCycle$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "FOLIO_ATTACK_CYCLE="+db.Path())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("Compact of a bucket that contains itself: %v\n%.300s", err, out)
	}
}
