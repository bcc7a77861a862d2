package folio

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// fillTo puts until there is no room, to the brim, and returns how many records there are.
func fillTo(t *testing.T, db *DB, size int, full error) int {
	t.Helper()
	n := 0
	for failed := 0; failed < 10; {
		err := db.Update(func(tx *Tx) error { return tx.Root().Put(fullKey(n), make([]byte, size)) })
		switch {
		case errors.Is(err, full):
			failed++
			size /= 2 // something smaller may fit
		case err != nil:
			t.Fatal(err)
		default:
			n++
		}
		if n == 1e6 {
			t.Fatal("it is never full")
		}
	}
	return n
}

func fullKey(i int) []byte { return fmt.Appendf(nil, "k%06d", i) }

// deleteEach deletes every other of n records, but not more than 500, a transaction each: from all over, so that most are about a leaf that the last checkpoint has.
func deleteEach(t *testing.T, db *DB, n int) {
	t.Helper()
	for i := range min(n/2, 500) {
		if err := db.Update(func(tx *Tx) error { return tx.Root().Delete(fullKey(i * 7919 % n)) }); err != nil {
			t.Fatalf("deletion %d: %v", i, err)
		}
	}
}

// A store that had come to MaxSize refused to delete: a deletion takes new pages for the way from the leaf to the root, puts had taken the last, and
// what each deletion let go of was retained by the last checkpoint. Some deletions came through while a checkpoint happened to be made; bbolt's all do. Found by
// a user's look at it.
func TestDeletesAtMaxSize(t *testing.T) {
	for _, size := range []int{100, 3000, 10000} {
		for _, durability := range []Durability{Sync, Relaxed} {
			t.Run(fmt.Sprintf("%d %v", size, durability), func(t *testing.T) {
				t.Parallel()
				const most = 512 << 10
				db := mustOpen(t, &Options{MaxSize: most, Durability: durability})
				n := fillTo(t, db, size, ErrMaxSizeReached)
				must(t, db.Checkpoint()) // which retains what is deleted now
				if left := db.free.Left(db.mostPages(), false); left < db.sparePages() {
					t.Errorf("puts have left %d pages", left)
				}
				deleteEach(t, db, n)
				must(t, db.Update(func(tx *Tx) error {
					_, err := tx.Root().DeleteRange(nil, fullKey(n-n/4))
					return err
				}))
				must(t, db.Check())
				if again := fillTo(t, db, size, ErrMaxSizeReached); again < n/2 {
					t.Errorf("%d records fit at first, then %d", n, again)
				}
				must(t, db.Checkpoint())
				if s := db.Stats().FileSize; s > most+most/16 {
					t.Errorf("the file has %d bytes", s)
				}
				must(t, db.Check())
				must(t, db.Close())
			})
		}
	}
}

// Near MaxSize each small put made a checkpoint, though it had room: a few pages are always retained. Found by a reviewer.
func TestPutsNearMaxSize(t *testing.T) {
	db := mustOpen(t, &Options{MaxSize: 2 << 20, Durability: Relaxed})
	n := fillTo(t, db, 100, ErrMaxSizeReached)
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange(nil, fullKey(250))
		return err
	}))
	must(t, db.Checkpoint())
	before := db.Stats().Checkpoints
	const puts = 300
	for i := range puts {
		must(t, db.Update(func(tx *Tx) error { return tx.Root().Put(fullKey(n/2+i*97%(n/2)), make([]byte, 100)) }))
	}
	if made := db.Stats().Checkpoints - before; made > puts/2 {
		t.Errorf("%d checkpoints for %d puts", made, puts)
	} else {
		t.Logf("%d checkpoints for %d puts", made, puts)
	}
	must(t, db.Check())
}

// The same on a disk that is full, of which nobody knows before the file is to grow.
func TestDeletesOnFullDisk(t *testing.T) {
	for _, size := range []int{100, 3000, 10000} {
		fsys := newHookFS()
		db := mustOpen(t, &Options{fs: fsys, Durability: Relaxed})
		must(t, db.Update(func(tx *Tx) error {
			for i := range 1000 {
				if err := tx.Root().Put(fmt.Appendf(nil, "a%06d", i), make([]byte, 100)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, db.Checkpoint())
		hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
			if kind == vfs.KindAllocate && !isLog(f) {
				return syscall.ENOSPC
			}
			return nil
		})
		fsys.before.Store(&hook)
		n := fillTo(t, db, size, syscall.ENOSPC)
		must(t, db.Checkpoint())
		deleteEach(t, db, n)
		must(t, db.Update(func(tx *Tx) error {
			_, err := tx.Root().DeleteRange([]byte("a"), []byte("b"))
			return err
		}))
		mustPut(t, db, "last", "v")
		must(t, db.Check())
		fsys.before.Store(nil)
		must(t, db.Close())
	}
}

// A checkpoint failed at MaxSize, and so did Close, which left the log behind: the free set found no free pages in one piece, although half of the file was
// retained by nothing but the last checkpoint.
func TestCheckpointAtMaxSize(t *testing.T) {
	db := mustOpen(t, &Options{MaxSize: 1 << 20, Durability: Relaxed})
	n := fillTo(t, db, 100, ErrMaxSizeReached)
	for i := 0; i < n/6; i += 7 {
		db.Update(func(tx *Tx) error { return tx.Root().Delete(fullKey(i)) })
	}
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange(nil, fullKey(n/2))
		return err
	}))
	must(t, db.Checkpoint())
	must(t, db.Check())

	// Not even with no page left, which takes a hand here.
	mustPut(t, db, "a", "b")
	has(t, db, "a", "b") // so that no transaction is applied meanwhile
	for left := true; left; {
		_, left = db.free.Alloc(1)
	}
	for {
		if _, err := db.free.Extend(1, db.mostPages()); err != nil {
			break
		}
	}
	must(t, db.checkpointAll())
	db.free.Rollback()
	must(t, db.Check())
	must(t, db.Close())
}

// Where the disk had no room for a longer log, commits were refused for good: a checkpoint, which would have let the log begin anew, was not made before
// the log was longer. Found on a file system of 8 MiB, of which the data file had taken most ahead.
func TestLogOnFullDisk(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "first", "v")
	var refused atomic.Int64
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindAllocate && isLog(f) {
			refused.Add(1)
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&hook)
	for i := range 3000 {
		must(t, db.Update(func(tx *Tx) error { return tx.Root().Put(fullKey(i), make([]byte, 400)) }))
	}
	if refused.Load() == 0 || db.Stats().Checkpoints == 0 {
		t.Errorf("the log was refused room %d times, %d checkpoints", refused.Load(), db.Stats().Checkpoints)
	}
	must(t, db.Check())
}
