package folio

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

func mustHave(t *testing.T, db *DB, want map[string]string) {
	t.Helper()
	must(t, db.View(func(tx *Tx) error {
		have := map[string]string{}
		for k, v := range tx.Root().All() {
			have[string(k)] = string(v)
		}
		if len(have) != len(want) {
			t.Errorf("%d items, want %d", len(have), len(want))
		}
		for k, v := range want {
			if have[k] != v {
				t.Errorf("%q is %q, want %q", k, have[k], v)
			}
		}
		return nil
	}))
	must(t, db.Check())
}

// A recovery leaves the log as it was and goes on behind it, so that no checkpoint is waited for. So the next recovery reads what
// several lives have logged.
func TestRecoveryGoesOn(t *testing.T) {
	want := map[string]string{}
	put := func(db *DB, k, v string) {
		mustPut(t, db, k, v)
		want[k] = v
	}
	db := mustOpen(t, nil)
	put(db, "a", "1")
	put(db, "b", "1")
	for life := range 5 {
		last := db.Stats().LastTx
		db = mustOpenAt(t, crashCopy(t, db.Path()), &Options{alone: true})
		s := db.Stats()
		if s.Checkpoints != 0 || s.LastTx != last || s.LogLive == 0 {
			t.Errorf("life %d: %d checkpoints, transaction %d, want %d, %d bytes of log", life, s.Checkpoints, s.LastTx, last, s.LogLive)
		}
		mustHave(t, db, want)
		put(db, "b", fmt.Sprint(life))
		put(db, fmt.Sprint("c", life), "1")
	}
	must(t, db.Close())
	db = mustOpenAt(t, db.Path(), nil)
	mustHave(t, db, want)
}

// The checkpoint behind a recovery names the place in the log behind what was replayed, even while commits of the backlog lie behind that.
func TestCheckpointBehindRecovery(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	mustPut(t, db, "b", "1")
	db = mustOpenAt(t, crashCopy(t, db.Path()), &Options{alone: true})
	mustPut(t, db, "c", "1")
	if db.lateBytes() == 0 {
		t.Fatal("the commit is in the tree")
	}
	must(t, func() error {
		db.checkpointing.Lock()
		defer db.checkpointing.Unlock()
		return db.checkpointTree()
	}())
	if m := db.newest(); m.Tx != 2 {
		t.Errorf("checkpoint of transaction %d", m.Tx)
	}
	db = mustOpenAt(t, crashCopy(t, db.Path()), nil)
	mustHave(t, db, map[string]string{"a": "1", "b": "1", "c": "1"})
}

// Behind a recovery a goroutine checkpoints. When that was left to the next commits, lives without many of them made the log longer, each by
// what it had logged and a link, until a full disk took no link any more, and the store could not be opened.
func TestCheckpointBehindOpen(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	must(t, db.Checkpoint())
	path := crashCopy(t, db.Path())
	fsys := newHookFS()
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindAllocate && off > 0 {
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&hook)
	for range 300 {
		db, err := Open(path, &Options{fs: fsys})
		must(t, err)
		mustPut(t, db, "k", "v")
		crashKill(db)
	}
	db = mustOpenAt(t, path, &Options{fs: fsys})
	for db.Stats().LogLive > 1024 {
		if err := db.Stats().BackgroundFail; err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// After a failed sync the cache can have slots that the disk has not: the next Open reads them from the disk. All else it may take
// from the cache.
func TestOpenDropsSlots(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "1")
	path := crashCopy(t, db.Path())
	fsys, dropped := newHookFS(), map[string]int64{}
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindDrop {
			dropped[f.Name()] = off
		}
		return nil
	})
	fsys.before.Store(&hook)
	mustOpenAt(t, path, &Options{fs: fsys})
	if n, log := dropped[path], dropped[logName(path)]; n < 2*65536 || log != 0 || len(dropped) != 2 {
		t.Errorf("dropped: %v", dropped)
	}
}

// scoutStore is a store, of which this process has read nothing, and a sorter with changes to items of all its leaves, and of a bucket that is not
// there yet.
func scoutStore(t *testing.T) (db *DB, s *sorter) {
	t.Helper()
	nested := [][]byte{[]byte("a"), []byte("nested")}
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	made := mustOpen(t, nil)
	must(t, made.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket(nested[0])
		if err == nil {
			b, err = b.CreateBucket(nested[1])
		}
		for i := range 2 * scoutFrom {
			if err == nil {
				err = b.Put(key(i), make([]byte, 100))
			}
		}
		return err
	}))
	must(t, made.Close())
	db = mustOpenAt(t, made.Path(), nil)
	var ops wal.Ops
	ops.Bucket(nested)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(2 * scoutFrom) {
		ops.Put(key(i), []byte("v"))
	}
	ops.Bucket([][]byte{[]byte("b"), []byte("new")})
	ops.Put([]byte("k"), []byte("v"))
	s = &sorter{}
	must(t, s.add(ops))
	s.sort()
	return db, s
}

// unknown returns the leaves of a sorter's changes that the process has not validated.
func (s *sorter) unknown(t *testing.T, db *DB) (ids []page.ID) {
	w := &scout{db: db, s: s, snapshot: db.published.Load(), view: db.published.Load().view}
	for i := range s.changes {
		must(t, w.enter(s.changes[i].bucket))
		id, err := w.look(&s.changes[i])
		must(t, err)
		if id != 0 && !w.view.Known(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// A scout has looked at every leaf before the operations on it come, and holds no snapshot afterwards.
func TestScout(t *testing.T) {
	db, s := scoutStore(t)
	if n := len(s.unknown(t, db)); n < 100 {
		t.Fatalf("only %d leaves to be looked at", n)
	}
	recall := s.send(db)
	for len(s.unknown(t, db)) > 0 {
		time.Sleep(time.Millisecond)
	}
	recall()
	if n := db.published.Load().pinned(); n != 0 {
		t.Errorf("%d pins are left", n)
	}
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), []byte("v")) }))
}

// A scout that is called back comes at once: what it reads is about to be used otherwise.
func TestScoutIsCalledBack(t *testing.T) {
	db, s := scoutStore(t)
	n := len(s.unknown(t, db))
	w := newScout(db, s)
	close(w.quit)
	w.run()
	if m := len(s.unknown(t, db)); m < n-1 {
		t.Errorf("it has looked at %d leaves more", n-m)
	}
	if n := db.published.Load().pinned(); n != 0 {
		t.Errorf("%d pins are left", n)
	}
}

// What a scout finds damaged it leaves to who comes after it. So does one whose file is cut under it.
func TestScoutFindsDamage(t *testing.T) {
	for _, spoil := range []func(t *testing.T, db *DB, leaf page.ID){
		func(t *testing.T, db *DB, leaf page.ID) {
			_, err := db.file.WriteAt([]byte("damage"), int64(leaf)*int64(db.pageSize)+100)
			must(t, err)
		},
		func(t *testing.T, db *DB, leaf page.ID) { // branches that are known go too: that is a fault, and no error of a first touch
			must(t, os.Truncate(db.Path(), 2*int64(db.pageSize)))
		},
	} {
		db, s := scoutStore(t)
		ids := s.unknown(t, db)
		leaf := ids[len(ids)/2]
		spoil(t, db, leaf)
		newScout(db, s).run()
		if v := db.published.Load().view; v.Known(leaf) {
			t.Error("a damaged leaf is trusted")
		}
	}
}
