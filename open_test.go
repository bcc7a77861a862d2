package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// Reopens fails the test if the store cannot be opened for writing: a lock belongs to the open file, and a mapping that
// nobody unmaps keeps that open for as long as the process lives, whatever was closed.
func Reopens(t *testing.T, path string) {
	t.Helper()
	db, err := Open(path, &Options{LockTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Error("locked after it was closed: ", err)
		return
	}
	must(t, db.Close())
}

// Check of a store opened for reading takes a hold of the mapping and never gives it back: Close leaves
// the mapping, and with it the lock, behind. After Close it panics.
func TestReadOnlyCheckLeaksLock(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := db.Path()
	must(t, db.Close())
	ro := mustOpenAt(t, path, &Options{ReadOnly: true})
	must(t, ro.Check())
	must(t, ro.Close())
	Reopens(t, path)
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
func TestPrivateReplayLeaksLock(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	must(t, db.Checkpoint())
	mustPut(t, db, "a", "c")
	path := crashCopy(t, db.Path())
	ro := mustOpenAt(t, path, &Options{ReadOnly: true})
	must(t, ro.View(func(tx *Tx) error {
		if v := tx.Root().Get([]byte("a")); string(v) != "c" {
			t.Errorf("got %q", v)
		}
		return nil
	}))
	must(t, ro.Close())
	Reopens(t, path)
}

// Recovery fails at the sync of the log after the replay: the replay's transaction is left open and holds the mapping,
// and so the lock; the next Open finds the store locked by nobody.
func TestFailedRecoveryLeaksLock(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := crashCopy(t, db.Path())
	fsys := newHookFS()
	n := 0
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindSync && isLog(f) {
			if n++; n == 2 { // the first is before reading it
				return errInjected
			}
		}
		return nil
	})
	fsys.before.Store(&hook)
	if _, err := Open(path, &Options{fs: fsys}); err == nil {
		t.Fatal("opened")
	}
	Reopens(t, path)
}

// The handle is poisoned while it makes its first log. Close says so.
func TestCloseOfPoisonedWithoutLog(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindSync && !isLog(f) {
			return errInjected
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
	Reopens(t, db.Path())
}

// Fault runs fn, in which the mapping faults, and wants an error. Without SetPanicOnFault here the
// fault would end the process.
func Fault(t *testing.T, what string, fn func() error) {
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
func TestFaultInUnmanagedWrite(t *testing.T) {
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
			path := mustOpenFilled(t)
			db := mustOpenAt(t, path, nil)
			tx, err := db.Begin(true)
			must(t, err)
			b := tx.Bucket([]byte("b"))
			for range b.All() { // touch all
			}
			must(t, os.Truncate(path, 8192))
			Fault(t, what, func() error { return op(b) })
			if !tx.done.Load() {
				tx.Rollback()
			}
			t.SkipNow() // the store is past closing
		})
	}
}

// A transaction of Begin had put operations by. Methods that take it over to the tree, where these are done, had their guard behind that, or
// none: a fault of the mapping there ended the process.
func TestFaultOnTheWayToTheTree(t *testing.T) {
	key := []byte("key50")
	ops := map[string]func(b *Bucket) error{
		"Len":          func(b *Bucket) error { b.Len(); return b.tx.Err() },
		"Get":          func(b *Bucket) error { b.Get(key); return b.tx.Err() },
		"Count":        func(b *Bucket) error { b.Count(nil, nil); return b.tx.Err() },
		"Rank":         func(b *Bucket) error { b.Rank(key); return b.tx.Err() },
		"At":           func(b *Bucket) error { b.At(1); return b.tx.Err() },
		"Stats":        func(b *Bucket) error { b.Stats(); return b.tx.Err() },
		"Cursor":       func(b *Bucket) error { b.Cursor(); return b.tx.Err() },
		"Sequence":     func(b *Bucket) error { b.Sequence(); return b.tx.Err() },
		"SetSequence":  func(b *Bucket) error { return b.SetSequence(1) },
		"NextSequence": func(b *Bucket) error { _, err := b.NextSequence(); return err },
		"Check":        func(b *Bucket) error { return b.tx.Check() },
		"Put":          func(b *Bucket) error { return b.Put(key, make([]byte, 20000)) },
	}
	for what, op := range ops {
		t.Run(what, func(t *testing.T) {
			path := mustOpenFilled(t)
			db := mustOpenAt(t, path, nil)
			must(t, db.View(func(tx *Tx) error { // touch all
				for range tx.Bucket([]byte("b")).All() {
				}
				return nil
			}))
			tx, err := db.Begin(true)
			must(t, err)
			b := tx.Bucket([]byte("b"))
			for i := range 10 {
				must(t, b.Put(fmt.Appendf(nil, "key%02d", 10*i), nil))
			}
			if !tx.deferred {
				t.Fatal("nothing has been put by")
			}
			must(t, os.Truncate(path, 8192))
			Fault(t, what, func() error { return op(b) })
			if !tx.done.Load() {
				tx.Rollback()
			}
			t.SkipNow() // the store is past closing
		})
	}
}

// A transaction that failed on its way to the tree has left its snapshot, which nobody keeps for it any more. Handles of buckets that had not come to the tree looked
// for nested ones there.
func TestNoBucketOfALostTransaction(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err == nil {
			_, err = b.CreateBucket([]byte("c"))
		}
		return err
	}))
	must(t, db.Close())
	db = mustOpenAt(t, db.Path(), nil)
	tx, err := db.Begin(true)
	must(t, err)
	b := tx.Bucket([]byte("b"))
	must(t, b.Put([]byte("k"), nil))
	if !tx.deferred {
		t.Fatal("nothing has been put by")
	}
	tx.ops = append(tx.ops, 0xff) // which cannot be repeated in the tree
	if tx.Root().Len(); !tx.lost || tx.Err() == nil {
		t.Fatalf("operations that make no sense are done: %v", tx.Err())
	}
	if b.Bucket([]byte("c")) != nil {
		t.Error("a nested bucket is found")
	}
	must(t, tx.Rollback())
	must(t, db.Check())
}

// A cursor that went on within a page was not guarded, since the page had been touched; but it can be gone again.
func TestFaultWithinALeaf(t *testing.T) {
	for _, what := range []string{"Next", "Prev", "Range", "below"} {
		t.Run(what, func(t *testing.T) {
			path := mustOpenFilled(t)
			db := mustOpenAt(t, path, nil)
			tx, err := db.Begin(false)
			must(t, err)
			c := tx.Bucket([]byte("b")).Cursor()
			c.Seek([]byte("key50"))
			c.Next()
			Fault(t, what, func() error {
				var k []byte
				switch what {
				case "Range":
					for k = range c.b.Range([]byte("key10"), []byte("key60")) {
						must(t, os.Truncate(path, 8192))
						k = nil
					}
				case "below":
					k, _ := c.Next()
					must(t, os.Truncate(path, 8192))
					if c.below(k, []byte("key99")) {
						t.Error("a key that cannot be read is below another")
					}
				case "Next":
					must(t, os.Truncate(path, 8192))
					k, _ = c.Next()
				case "Prev":
					must(t, os.Truncate(path, 8192))
					k, _ = c.Prev()
				}
				if k != nil {
					t.Errorf("%s gives a key in spite of the fault", what)
				}
				return tx.Err()
			})
			must(t, tx.Rollback())
			t.SkipNow() // the store is past closing
		})
	}
}

// mustOpenFilled makes a store with a bucket of some pages.
func mustOpenFilled(t *testing.T) string {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
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
	must(t, db.Close())
	return db.Path()
}

// cutter cuts a file when it is written to.
type Cutter struct{ path string }

func (c Cutter) Write(p []byte) (int, error) { return len(p), os.Truncate(c.path, 8192) }

// The file is cut while WriteTo copies from the mapping.
func TestFaultInUnmanagedWriteTo(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 5000 {
			if err := tx.Root().Put(fmt.Appendf(nil, "key%04d", i), make([]byte, 300)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Close())
	db = mustOpenAt(t, db.Path(), nil)
	tx, err := db.Begin(false)
	must(t, err)
	defer tx.Rollback()
	Fault(t, "WriteTo", func() error { _, err := tx.WriteTo(Cutter{db.Path()}); return err })
}

// A hostile file has a bucket that contains itself. Every page is sound. Compact follows it for ever, until the stack
// ends the process.
func TestCompactOfCycle(t *testing.T) {
	if path := os.Getenv("FOLIO_ATTACK_CYCLE"); path != "" {
		debug.SetMaxStack(8 << 20)
		db, err := Open(path, nil)
		must(t, err)
		if err := db.Compact(path + "-copy"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Compact: %v", err)
		}
		return
	}
	const magic = 0x1122334455667788
	db := mustOpen(t, &Options{PageSize: 4096})
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		return b.SetSequence(magic)
	}))
	must(t, db.Close())
	file, err := os.ReadFile(db.Path())
	must(t, err)
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
	must(t, os.WriteFile(db.Path(), file, 0o600))
	cmd := exec.Command(os.Args[0], "-test.run=^TestCompactOfCycle$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "FOLIO_ATTACK_CYCLE="+db.Path())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("Compact of a bucket that contains itself: %v\n%.300s", err, out)
	}
}

// removalFS looks at the store whenever its log is removed.
type removalFS struct {
	vfs.FS
	look func()
}

func (r removalFS) Remove(name string) error {
	if strings.HasSuffix(name, "-wal") {
		r.look()
	}
	return r.FS.Remove(name)
}

// A Close that was cut short leaves one slot that is clean, one that needs the log, and the log. Open makes the slots agree
// before it removes the log: with the clean one damaged afterwards the other one must not stand alone.
func TestLogRemovedAfterSlotsAgree(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := db.Path()
	unclean := crashCopy(t, path)
	must(t, db.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	old, err := os.ReadFile(unclean)
	must(t, err)
	log, err := os.ReadFile(logName(unclean))
	must(t, err)
	size := defaultPageSize()
	copy(data[size:size+page.MetaSize], old[size:]) // slot 1, as it was before Close
	must(t, errors.Join(os.WriteFile(path, data, 0o600), os.WriteFile(logName(path), log, 0o600)))
	looked := 0
	look := func() {
		looked++
		b, err := os.ReadFile(path)
		must(t, err)
		first, err := page.DecodeMeta(b[:page.MetaSize], 0)
		must(t, err)
		second, err := page.DecodeMeta(b[size:size+page.MetaSize], 1)
		must(t, err)
		if first != second {
			t.Errorf("the log is removed while the slots are %+v and %+v", first, second)
		}
	}
	db = mustOpenAt(t, path, &Options{fs: removalFS{vfs.OS, look}})
	if looked != 1 {
		t.Errorf("the log was removed %d times", looked)
	}
	must(t, db.Check())
}
