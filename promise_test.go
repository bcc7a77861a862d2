package folio

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// On a full disk a commit fails that has no room for its pages, and what was acknowledged before can be read: space for
// it has been promised.
func TestDeferredOnFullDisk(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "first", "v")
	var full atomic.Bool
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if full.Load() && kind == vfs.KindAllocate && !isLog(f) {
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&hook)
	full.Store(true)
	acknowledged := 0
	for i := 0; ; i++ {
		err := db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "%05d", i), make([]byte, 1000)) })
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		acknowledged++
	}
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n != acknowledged+1 {
			t.Errorf("%d items, want %d", n, acknowledged+1)
		}
		return nil
	}))
	must(t, db.Check())
	full.Store(false)
	mustPut(t, db, "last", "v")
	has(t, db, "last", "v")
	must(t, db.Check())
	if acknowledged < 10 {
		t.Errorf("only %d commits found room", acknowledged)
	}
}

// MaxSize does not count for what was acknowledged. While that was applied it did not count for the promises of new commits either, so
// that they were acknowledged too, and the file grew as long as somebody committed beside.
func TestMaxSizeBesideUnit(t *testing.T) {
	fsys := newHookFS()
	const limit = 2 << 20
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: 1 << 20, MaxSize: limit, Durability: Relaxed})
	put := func(name string, i, size int) error {
		return db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "%s%05d", name, i), make([]byte, size)) })
	}
	must(t, db.Update(func(tx *Tx) error {
		for i := range 3000 {
			if err := tx.Root().Put(fmt.Appendf(nil, "key%05d", i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Checkpoint())
	for i := range 1000 {
		must(t, put("key", 3*i, 101))
	}
	reached, release := stopDataWrite(fsys, vfs.KindWrite)
	done := make(chan error, 1)
	go func() { done <- db.drain() }()
	<-reached // the unit is spilled
	committed := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := put("new", i, 900); err != nil {
				committed <- err
				return
			}
		}
	}()
	grown := func() bool {
		info, err := os.Stat(db.Path())
		must(t, err)
		return info.Size() > limit
	}
	for range 50 { // soon the next commit waits for the tree
		if time.Sleep(2 * time.Millisecond); grown() {
			t.Error("the file is longer than MaxSize for commits that need not have been acknowledged")
			break
		}
	}
	close(release)
	must(t, <-done)
	if err := <-committed; !errors.Is(err, ErrMaxSizeReached) {
		t.Error(err)
	}
	must(t, db.Check())
}

// Room was promised as if all of the backlog were applied at once. In two units, each of which comes to nearly all leaves, it takes nearly twice as
// much: on a full disk what had been acknowledged could not be applied, and a file grew beyond MaxSize.
func TestPromiseForTwoUnits(t *testing.T) {
	db := mustOpen(t, &Options{MemoryLimit: 512 << 10, Durability: Relaxed, LogLimit: 256 << 20})
	const items = 27000
	for i := range 27 {
		must(t, db.Update(func(tx *Tx) error {
			for k := range 1000 {
				must(t, tx.Root().Put(fmt.Appendf(nil, "%07d", 100*(1000*i+k)), make([]byte, 1100)))
			}
			return nil
		}))
	}
	must(t, db.Checkpoint())
	get(t, db, "none")
	size := func() int64 {
		info, err := os.Stat(db.Path())
		must(t, err)
		return info.Size() >> 20
	}
	db.lockTree(nil) // somebody applies
	for n := 0; db.lateBytes() < db.backlogLimit()/2; {
		must(t, db.Update(func(tx *Tx) error {
			for range 100 {
				n++
				must(t, tx.Root().Put(fmt.Appendf(nil, "%07d", n*7919%items*100+n%50), nil))
			}
			return nil
		}))
	}
	promised := size()
	db.unlockTree()
	must(t, db.View(func(tx *Tx) error { return nil }))
	if n := size(); n > promised {
		t.Errorf("the file has %d MiB, promised were %d", n, promised)
	}
}
