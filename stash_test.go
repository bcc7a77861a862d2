package folio

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// stashing are options of a store of which a bulk transaction puts by n operations at a time.
func stashing(n int) Options {
	return Options{MemoryLimit: minLimit, LogLimit: minLimit, stashes: n}
}

// What a transaction has put by is there as soon as it looks, in every way of looking, the last of what was done to each key; a rollback takes
// all of it; and what is committed is what a map would hold. No page of it is left over.
func TestStash(t *testing.T) {
	rows, parts, whole := 0, 0, 0
	for _, n := range []int{16, 300, 100000} { // with the first two, rows are short and stay on the heap until they are written out with others
		seeds := uint64(3)
		if n == 16 { // so many rows that the stash is emptied in between, which takes a while
			seeds = 1
		}
		for seed := range seeds {
			opt := stashing(n)
			path := filepath.Join(t.TempDir(), "a.db")
			db := mustOpenAt(t, path, &opt)
			rng := rand.New(rand.NewPCG(seed, 11))
			model := map[string]string{}
			mustNest(t, db)
			for round := range 4 {
				was := maps.Clone(model)
				undo := errors.New("undo")
				err := db.Update(func(tx *Tx) error {
					c := &collector{t: t, rng: rng, tx: tx, model: model, keys: 2000 + 8000*round}
					cur := tx.Root().Cursor()
					for range 3 {
						c.stretch(1000 + rng.IntN(6000))
						if st := tx.stash; st != nil {
							rows = max(rows, len(st.rows))
							for _, r := range st.rows {
								parts = max(parts, len(r))
								for _, p := range r {
									if p.n >= directRun {
										whole++
									}
								}
							}
						}
						c.look([]*Cursor{cur})
						if tx.stash != nil || tx.postponed > 0 && !tx.collecting() {
							t.Fatal("something is put by behind a look")
						}
					}
					c.stretch(rng.IntN(6000))
					if err := tx.Root().Put([]byte("a"), nil); !errors.Is(err, ErrIncompatibleValue) {
						t.Fatalf("a value under a bucket's name: %v", err)
					}
					if rng.IntN(3) == 0 {
						return undo
					}
					return nil
				})
				if errors.Is(err, undo) {
					model = was
				} else {
					must(t, err)
				}
				sameAsModel(t, db, model)
				must(t, db.Check())
			}
			must(t, db.Close())
			db = mustOpenAt(t, path, &opt)
			sameAsModel(t, db, model)
			must(t, db.Close())
		}
	}
	if rows < 5 || parts < 3 || whole < 10 {
		t.Errorf("at most %d rows, of %d parts, %d of all long", rows, parts, whole)
	}
}

// Only what is scattered over a large tree is put by: what is dense there is better done at once.
func TestStashOnlyWhatIsScattered(t *testing.T) {
	opt := stashing(0)
	db := mustOpen(t, &opt)
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	must(t, db.Update(func(tx *Tx) error {
		for i := range 30000 {
			must(t, tx.Root().Put(key(i), make([]byte, 40)))
		}
		return nil
	}))
	for _, c := range []struct {
		name string
		keys int // that are put
		want bool
	}{{"scattered", 30000, true}, {"dense", 300, false}} {
		must(t, db.Update(func(tx *Tx) error {
			seen := false
			for i := range 3000 {
				at := i * 7919 % c.keys // in no order
				must(t, tx.Root().Put(key(at), make([]byte, 100)))
				seen = seen || tx.stash != nil
			}
			if seen != c.want {
				t.Errorf("%s: put by: %v", c.name, seen)
			}
			return nil
		}))
	}
	must(t, db.Check())
}

// With whatever room there is, a transaction that puts by succeeds, or fails for want of room and leaves nothing; and it needs little more than one that does
// not.
func TestStashWithoutRoom(t *testing.T) {
	run := func(limit int64, n int) (done bool) {
		opt := stashing(n)
		opt.MaxSize = limit
		db := mustOpen(t, &opt)
		defer db.Close()
		rng := rand.New(rand.NewPCG(5, 5))
		must(t, db.Update(func(tx *Tx) error {
			for i := range 300 {
				must(t, tx.Root().Put(fmt.Appendf(nil, "was%05d", i), make([]byte, 100)))
			}
			return nil
		}))
		model := map[string]string{}
		err := db.Update(func(tx *Tx) error {
			for range 6000 {
				k, v := fmt.Sprintf("k%05d", rng.IntN(30000)), fmt.Sprint(rng.IntN(1e9), string(make([]byte, 150)))
				if err := tx.Root().Put([]byte(k), []byte(v)); err != nil {
					return err
				}
				model[k] = v
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrMaxSizeReached) {
			t.Fatal(err)
		}
		must(t, db.Check())
		must(t, db.View(func(tx *Tx) error {
			want := 300
			if err == nil {
				want += len(model)
			}
			if n := tx.Root().Len(); n != want {
				return fmt.Errorf("%d items, want %d", n, want)
			}
			for k, v := range model {
				if err == nil && string(tx.Root().Get([]byte(k))) != v {
					return fmt.Errorf("%s differs", k)
				}
			}
			return nil
		}))
		return err == nil
	}
	least := func(n int) int64 {
		for limit := int64(1 << 20); ; limit += 64 << 10 {
			if run(limit, n) {
				return limit
			}
			if limit > 64<<20 {
				t.Fatal("never enough")
			}
		}
	}
	with, without := least(600), least(0) // of a tree so small nothing is put by else
	t.Logf("least size with a stash %d, without %d", with, without)
	if with > without+1<<20 {
		t.Errorf("a stash needs %d bytes of file, without it is %d", with, without)
	}
}

// A part that cannot be written, for want of space that had been promised, leaves no page behind.
func TestStashPartFails(t *testing.T) {
	fsys := newHookFS()
	opt := stashing(600)
	opt.fs = fsys
	db := mustOpen(t, &opt)
	failed := 0
	fail := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindWrite && failed < 3 && bytes.Contains(debug.Stack(), []byte("writeRow")) {
			failed++
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&fail)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 5000 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%06d", i*7919%5000), make([]byte, 150)))
		}
		return nil
	}))
	if failed == 0 {
		t.Error("nothing failed")
	}
	must(t, db.Check())
}

// Found by a review: what is not put by was sorted a second time. The sort leaves in the changes what it compared last, not the beginnings of keys, so keys with long
// beginnings in common came to the tree in no order, and the transaction failed on a sound store.
func TestCollectedPrefixes(t *testing.T) {
	for _, c := range []struct {
		n, size int
		opt     Options
	}{{20000, 60, stashing(0)}, {20000, 250, stashing(0)}, {20000, 60, stashing(700)}, {300000, 200, Options{}}} {
		db := mustOpen(t, &c.opt)
		model := map[string]int{}
		rng := rand.New(rand.NewPCG(1, 2))
		must(t, db.Update(func(tx *Tx) error {
			for i := range c.n {
				k := fmt.Sprintf("%s:%08d", []string{"accounts", "balances", "customers"}[rng.IntN(3)], rng.IntN(c.n))
				if err := tx.Root().Put([]byte(k), fmt.Appendf(nil, "%0*d", c.size, i)); err != nil {
					return err
				}
				model[k] = i
			}
			return nil
		}))
		must(t, db.Check())
		must(t, db.View(func(tx *Tx) error {
			if n := tx.Root().Len(); n != len(model) {
				return fmt.Errorf("%d items, want %d", n, len(model))
			}
			for k, i := range model {
				if string(tx.Root().Get([]byte(k))) != fmt.Sprintf("%0*d", c.size, i) {
					return fmt.Errorf("%s differs", k)
				}
			}
			return nil
		}))
	}
}

// Found by a review: what was put by had begun behind a bucket's name, and who looked right behind that took the name for there still.
func TestLookRightBehindStash(t *testing.T) {
	opt := stashing(0)
	db := mustOpen(t, &opt)
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	must(t, db.Update(func(tx *Tx) error {
		for i := range 30000 {
			must(t, tx.Root().Put(key(i), make([]byte, 40)))
		}
		return nil
	}))
	must(t, db.Update(func(tx *Tx) error {
		for i := 0; !tx.bulk || tx.postponed > 0; i++ { // dense: done at once
			must(t, tx.Root().Put(key(i*7919%300), make([]byte, 100)))
		}
		must(t, tx.Root().Put(key(40000), nil)) // above all
		for i := 0; tx.stash == nil; i++ {      // scattered: put by
			must(t, tx.Root().Put(key(i*7919%30000), make([]byte, 100)))
		}
		if n := tx.Root().Len(); n != 30001 {
			t.Errorf("%d items", n)
		}
		return nil
	}))
	must(t, db.Check())
}

// Found by a review: when the stash could not be emptied, who looked next read the tree without it, and was not told.
func TestReadBehindStashThatFails(t *testing.T) {
	fsys := newHookFS()
	opt := stashing(600)
	opt.fs = fsys
	db := mustOpen(t, &opt)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 3000 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%06d", i), []byte("old")))
		}
		return nil
	}))
	tx, err := db.Begin(true)
	must(t, err)
	armed := false
	fail := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if armed && kind == vfs.KindWrite && bytes.Contains(debug.Stack(), []byte("writeRow")) {
			return syscall.EIO
		}
		return nil
	})
	fsys.before.Store(&fail)
	n := 0
	for ; tx.stash == nil || int64(len(tx.ops)) <= db.bulkLimit()/2+28000; n++ {
		must(t, tx.Root().Put(fmt.Appendf(nil, "%06d", n*7919%3000), bytes.Repeat([]byte("n"), 150)))
	}
	armed = true
	if _, err = tx.Root().NextSequence(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("a stash that fails: %v", err)
	}
	if v := tx.Root().Get(fmt.Appendf(nil, "%06d", (n-1)*7919%3000)); v != nil {
		t.Errorf("%q is read behind a failure", v)
	}
	if !errors.Is(tx.Err(), syscall.EIO) {
		t.Errorf("Err is %v", tx.Err())
	}
	must(t, tx.Rollback())
	must(t, db.Check())
}

// Found by a review: a transaction that overwrote a small tree again and again put all of it by, and the file grew to three hundred times the tree. And what a merge had in sight at once was
// bounded in bytes, but not in operations.
func TestStashIsBounded(t *testing.T) {
	for _, c := range []struct {
		size  int
		limit int64
	}{{0, minLimit}, {100, minLimit}, {100, 1 << 20}} {
		size := c.size
		opt := Options{MemoryLimit: c.limit, LogLimit: 4 * c.limit}
		path := filepath.Join(t.TempDir(), "a.db")
		db := mustOpenAt(t, path, &opt)
		const keys = 30000
		key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
		rng := rand.New(rand.NewPCG(1, 3))
		must(t, db.Update(func(tx *Tx) error {
			for i := range keys {
				must(t, tx.Root().Put(key(i), make([]byte, size)))
			}
			return nil
		}))
		before, err := os.Stat(path)
		must(t, err)
		rows, window, most := 0, 0, 0
		must(t, db.Update(func(tx *Tx) error {
			for range 20 * keys {
				must(t, tx.Root().Put(key(rng.IntN(keys)), make([]byte, size)))
				if tx.stash != nil {
					rows, window = max(rows, len(tx.stash.rows)), max(window, tx.stash.window)
				}
				most = max(most, cap(db.sorter.changes))
			}
			return nil
		}))
		after, err := os.Stat(path)
		must(t, err)
		t.Logf("values of %d bytes: %d rows, %d operations in sight, room for %d; file %d, before %d", size, rows, window, most, after.Size(), before.Size())
		if rows < 2 || after.Size() > 13*before.Size() {
			t.Errorf("values of %d bytes: %d rows, file %d bytes, before %d", size, rows, after.Size(), before.Size())
		}
		if limit := int(db.bulkLimit() / 2 / opCost); window > 2*limit || most > 8*limit {
			t.Errorf("values of %d bytes: %d operations in sight, room for %d; %d are collected", size, window, most, limit)
		}
		must(t, db.Close())
	}
}

// Found by a review: once bytes of a page that had been written out were shown, the parts of a stash were kept as if they were such bytes.
func TestStashOfWhoLooksInBetween(t *testing.T) {
	size := func(stashes int) int64 {
		opt := stashing(stashes)
		path := filepath.Join(t.TempDir(), "a.db")
		db := mustOpenAt(t, path, &opt)
		rng := rand.New(rand.NewPCG(1, 3))
		must(t, db.Update(func(tx *Tx) error {
			for range 40 {
				for range 1500 {
					must(t, tx.Root().Put(fmt.Appendf(nil, "%06d", rng.IntN(3000)), make([]byte, 100)))
				}
				for i := range 20 {
					tx.Root().Get(fmt.Appendf(nil, "%06d", i*100))
				}
			}
			return nil
		}))
		must(t, db.Check())
		fi, err := os.Stat(path)
		must(t, err)
		return fi.Size()
	}
	if with, without := size(600), size(0); with > without+without/4 {
		t.Errorf("file of %d bytes with a stash, %d without", with, without)
	}
}
