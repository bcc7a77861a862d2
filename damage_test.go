package folio

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// A Put that is refused because the key names a bucket has copied the pages on its way already: the nested
// bucket's root has a new number, and the old one dies at the commit, but nobody notes that the
// bucket's entry must follow. The committed store names a dead page.
func TestRefusedPutKeepsNestedBucket(t *testing.T) {
	db := mustOpen(t, nil)
	value := make([]byte, 500)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := b.Put(fmt.Appendf(nil, "key%03d", i), value); err != nil {
				return err
			}
		}
		_, err = b.CreateBucket([]byte("sub"))
		return err
	}))
	must(t, db.Update(func(tx *Tx) error {
		if err := tx.Bucket([]byte("b")).Put([]byte("sub"), nil); !errors.Is(err, ErrIncompatibleValue) {
			t.Errorf("Put on a bucket's name: %v", err)
		}
		return tx.Root().Put([]byte("x"), []byte("y"))
	}))
	if err := db.Check(); err != nil {
		t.Error(err)
	}
	must(t, db.Checkpoint())
	for i := range 20 {
		mustPut(t, db, fmt.Sprint("other", i), string(value))
	}
	if err := db.Check(); err != nil {
		t.Error(err)
	}
	must(t, db.View(func(tx *Tx) error {
		n := 0
		for range tx.Bucket([]byte("b")).All() {
			n++
		}
		if n != 101 {
			t.Errorf("%d items, want 101", n)
		}
		return nil
	}))
}

// A meta slot's write fails after the slot's 512 bytes have reached the file (the rest of its page has not). The handle is
// not poisoned, the checkpoint is given up and its pages are used again; but the slot on the disk is whole and
// the highest, and names them.
func TestFailedMetaWriteThatLanded(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		t.Run(fmt.Sprintf("bulk=%v", bulk), func(t *testing.T) {
			fsys := newHookFS()
			db := mustOpen(t, &Options{fs: fsys})
			model := map[string]string{}
			put := func(from, to int, round string) error {
				err := db.Update(func(tx *Tx) error {
					tx.bulk = bulk && round == "lost"
					for i := from; i < to; i++ {
						if err := tx.Root().Put(fmt.Appendf(nil, "key%04d", i), fmt.Appendf(nil, "%s%0200d", round, i)); err != nil {
							return err
						}
					}
					return nil
				})
				if err == nil {
					for i := from; i < to; i++ {
						model[fmt.Sprintf("key%04d", i)] = fmt.Sprintf("%s%0200d", round, i)
					}
				}
				return err
			}
			must(t, put(0, 400, "a"))
			must(t, db.Checkpoint())
			must(t, put(0, 400, "b"))
			failed := false
			hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
				if kind != vfs.KindWrite || isLog(f) || off > 4096 || failed {
					return nil
				}
				failed = true
				f.WriteAt(p[:512], off)
				return errInjected
			})
			fsys.before.Store(&hook)
			var err error
			if bulk {
				err = put(0, 400, "lost")
			} else {
				err = db.Checkpoint()
			}
			if err == nil || !failed {
				t.Fatalf("checkpoint gave %v", err)
			}
			for i := range 30 { // may be refused
				if put(i*10, i*10+40, fmt.Sprint("c", i)) != nil {
					break
				}
				db.View(func(*Tx) error { return nil })
			}
			re, err := Open(crashCopy(t, db.Path()), nil)
			if err != nil {
				t.Fatal("after a kill: ", err)
			}
			defer re.Close()
			if err := re.Check(); err != nil {
				t.Error(err)
			}
			if err := re.View(func(tx *Tx) error {
				bad := 0
				for k, v := range model {
					got := string(tx.Root().Get([]byte(k)))
					if got != v && !(bulk && len(got) > 4 && got[:4] == "lost") {
						bad++
					}
				}
				if bad > 0 {
					t.Errorf("%d acknowledged values are gone", bad)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Setting a sequence is logged but never makes a transaction too large for the log, so a
// transaction of many such calls cannot be committed at all.
func TestManySequences(t *testing.T) {
	db := mustOpen(t, &Options{LogLimit: 256 << 10})
	must(t, db.Update(func(tx *Tx) error {
		for range 60000 {
			if err := tx.Root().SetSequence(math.MaxUint64); err != nil {
				return err
			}
		}
		return nil
	}))
}

// A store that has reached MaxSize must still be able to checkpoint, to delete and to close cleanly: the limit is
// for transactions, not for the free set of a checkpoint.
func TestMaxSizeReached(t *testing.T) {
	for pages := int64(40); pages < 60; pages++ {
		db := mustOpen(t, &Options{MaxSize: pages * 4096, PageSize: 4096})
		value := make([]byte, 1000)
		for i := 0; ; i++ {
			err := db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "%05d", i*7919%100000), value) })
			if errors.Is(err, ErrMaxSizeReached) {
				break
			}
			must(t, err)
		}
		if err := db.Checkpoint(); err != nil {
			t.Fatalf("%d pages: Checkpoint: %v", pages, err)
		}
		if err := db.Check(); err != nil {
			t.Fatalf("%d pages: Check: %v", pages, err)
		}
		if err := db.Close(); err != nil {
			t.Fatalf("%d pages: Close: %v", pages, err)
		}
	}
}

// Stats counts what was done since Open.
func TestStatsCount(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	db.Update(func(*Tx) error { return errInjected })
	must(t, db.Checkpoint())
	if s := db.Stats(); s.Commits != 1 || s.Rollbacks != 1 || s.Groups != 1 || s.Checkpoints != 1 {
		t.Errorf("commits %d, rollbacks %d, groups %d, checkpoints %d; want 1 each", s.Commits, s.Rollbacks, s.Groups, s.Checkpoints)
	}
}

// TestRefusedStoreKeepsItsSize: Open refused a store for its log, but had replayed the part before the damage, and then cut
// the data file to whole pages; one that ends with part of a page lost that. FuzzOpen found it.
func TestRefusedStoreKeepsItsSize(t *testing.T) {
	db := mustOpen(t, nil)
	for i := range 3 {
		must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte{byte('a' + i)}, []byte("value")) }))
	}
	path := db.Path()
	size := int64(db.newest().Pages)*int64(db.pageSize) + 48 // the replay has to make it longer
	crashKill(db)
	log, err := os.OpenFile(logName(path), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = log.WriteAt([]byte{0xff}, 4640) // in the second record; the third says that it was synced
	must(t, errors.Join(err, log.Close()))
	must(t, os.Truncate(path, size))
	if db, err := Open(path, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v, %v", db, err)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() != size {
		t.Errorf("size %d, want %d", info.Size(), size)
	}
}

// TestRefusedStoreKeepsItsLog: the log held nothing behind the checkpoint, so that recovery read the free set last, when it had made the slots equal and
// written to the log. What is refused is not changed: the set is read before. FuzzOpen found it.
func TestRefusedStoreKeepsItsLog(t *testing.T) {
	db := mustOpen(t, nil)
	key := []byte("key")
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Put(key, make([]byte, 100_000)) }))
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Delete(key) }))
	must(t, db.Checkpoint())
	path, m, pageSize := db.Path(), db.newest(), db.pageSize
	crashKill(db)
	data, err := os.ReadFile(path)
	must(t, err)
	if m.FreeLen == 0 {
		t.Fatal("there is no free set")
	}
	data[int(m.Free.ID)*pageSize] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	log, err := os.ReadFile(logName(path))
	must(t, err)
	if db, err := Open(path, nil); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("open: %v, %v", db, err)
	}
	for name, want := range map[string][]byte{path: data, logName(path): log} {
		if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s has changed: %v", filepath.Base(name), err)
		}
	}
}

// Check stopped at a damaged free set, and told of a number in it that cannot be as if it lay in page 0. It goes on to the
// tree, and names the byte.
func TestCheckGoesOnBehindFreeSet(t *testing.T) {
	s := newSweepStore(t, true)
	m, err := page.DecodeMeta(s.data, 0)
	must(t, err)
	set := s.data[int(m.Free.ID)*sweepPage:][:m.FreeLen]
	set[1]++ // how many pages the extents have together
	m.Free.Sum = page.Sum(set)
	for slot := range 2 {
		m.Encode(s.data[slot*sweepPage:][:page.MetaSize], slot)
	}
	leaf := 0
	for id := 2; leaf == 0; id++ {
		if p := s.data[id*sweepPage:][:sweepPage]; page.Validate(p, page.ID(id)) == nil && page.IDOf(p) != m.Root.Root && page.LevelOf(p) == 1 {
			leaf = int(page.Branch(p).Child(0)) // of a bucket, below its branch
		}
	}
	s.data[leaf*sweepPage+3000] ^= 1
	for _, readOnly := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "a.db")
		must(t, os.WriteFile(path, s.data, 0o600))
		db := mustOpenAt(t, path, &Options{ReadOnly: readOnly})
		text := fmt.Sprint(db.Check())
		for _, want := range []string{
			fmt.Sprintf("a.db: page %d: offset %d: free set: pages do not add up (invariant 1)", m.Free.ID, len(set)),
			fmt.Sprintf("a.db: page %d: offset 0: checksum is", leaf),
		} {
			if !strings.Contains(text, want) {
				t.Errorf("read-only %v: does not say %q:\n%s", readOnly, want, text)
			}
		}
	}
}

// A meta slot's write fails after it has reached the file, which poisons. Commits that were acknowledged while the checkpoint ran are in the
// backlog, and the next reader has them applied: that takes pages, and the first to be had was the free set's, which the failed checkpoint
// had given back. The slot on the disk names it, so the store could not be opened any more.
func TestBacklogAfterFailedMetaWrite(t *testing.T) {
	for slot := range int64(2) {
		t.Run(fmt.Sprint("slot", slot), func(t *testing.T) {
			fsys := newHookFS()
			db := mustOpen(t, &Options{fs: fsys})
			put := func(from, to int, round string) {
				must(t, db.Update(func(tx *Tx) error {
					for i := from; i < to; i++ {
						if err := tx.Root().Put(fmt.Appendf(nil, "key%04d", i), fmt.Appendf(nil, "%s%0200d", round, i)); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			put(0, 400, "a")
			must(t, db.Checkpoint())
			put(0, 400, "b")
			must(t, db.Checkpoint())
			put(0, 40, "c")
			reached, release := make(chan struct{}), make(chan struct{})
			metas := int64(0)
			hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
				if kind != vfs.KindWrite || isLog(f) || off > int64(db.pageSize) {
					return nil
				}
				if metas++; metas != slot+1 {
					return nil
				}
				close(reached)
				<-release
				f.WriteAt(p[:512], off)
				return errInjected
			})
			fsys.before.Store(&hook)
			done := make(chan error)
			go func() { done <- db.Checkpoint() }()
			<-reached
			put(100, 2100, "d")
			close(release)
			if err := <-done; !errors.Is(err, ErrPoisoned) {
				t.Fatalf("checkpoint gave %v", err)
			}
			want := fmt.Sprintf("d%0200d", 2000)
			if late(db) != 2000 {
				t.Errorf("%d operations are late", late(db))
			}
			has(t, db, "key2000", want)
			re := mustOpenAt(t, crashCopy(t, db.Path()), nil)
			must(t, re.Check())
			has(t, re, "key2000", want)
			mustPut(t, re, "key2000", "e")
		})
	}
}
