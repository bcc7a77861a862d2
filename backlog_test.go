package folio

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// late returns how many operations the tree does not have.
func late(db *DB) int {
	db.groups.mu.Lock()
	defer db.groups.mu.Unlock()
	n := 0
	for _, g := range db.groups.late.groups {
		n += g.lateOps
	}
	return n
}

// Transactions that only put and delete do not touch the tree until somebody looks, and then all of them are there, in the
// order in which they were made.
func TestDeferred(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "0")
	get(t, db, "k")
	mustPut(t, db, "k", "0") // published by itself, since there was a reader
	for i := range 50 {
		must(t, db.Update(func(tx *Tx) error {
			r := tx.Root()
			return errors.Join(r.Put([]byte("k"), fmt.Append(nil, i)), r.Put(fmt.Append(nil, "twice", i), nil), r.Delete(fmt.Append(nil, "twice", i-1)),
				r.Put([]byte("within"), []byte("x")), r.Put([]byte("within"), fmt.Append(nil, i)))
		}))
	}
	if n := late(db); n != 250 {
		t.Errorf("%d operations are late", n)
	}
	if db.head.tx != 2 || db.last != 52 {
		t.Errorf("the tree has transaction %d of %d", db.head.tx, db.last)
	}
	has(t, db, "k", "49")
	has(t, db, "within", "49")
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n != 3 || tx.Root().Get([]byte("twice49")) == nil {
			t.Errorf("%d items", n)
		}
		return nil
	}))
	if n := late(db); n != 0 {
		t.Errorf("%d operations are late after a look", n)
	}
	must(t, db.Check())
}

// Nothing that a transaction can see tells whether it is deferred, and when it goes over to the tree: all orders of
// operations give what a map would.
func TestDeferredAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		db := mustOpen(t, nil)
		model := map[string]string{}
		mustNest(t, db)
		for range 40 {
			was := maps.Clone(model)
			err := db.Update(func(tx *Tx) error {
				in := []*Bucket{tx.Root(), tx.Bucket([]byte("a")), tx.Bucket([]byte("a")).Bucket([]byte("b"))}
				for range rng.IntN(12) {
					i := rng.IntN(3)
					key := fmt.Sprint("k", rng.IntN(30))
					switch name := fmt.Sprint(i, key); rng.IntN(12) {
					case 0:
						if got, ok := model[name]; string(in[i].Get([]byte(key))) != got || (in[i].Get([]byte(key)) != nil) != ok {
							t.Errorf("seed %d: %s is %q, want %q", seed, name, in[i].Get([]byte(key)), got)
						}
					case 1, 2, 3:
						delete(model, name)
						must(t, in[i].Delete([]byte(key)))
					case 4:
						value := string(make([]byte, 3000+rng.IntN(3000)))
						model[name] = value
						must(t, in[i].Put([]byte(key), []byte(value)))
					default:
						value := fmt.Sprint(rng.Uint64())
						model[name] = value
						must(t, in[i].Put([]byte(key), []byte(value)))
					}
				}
				for i, name := range []string{"a", "b"} {
					if err := in[i].Put([]byte(name), nil); !errors.Is(err, ErrIncompatibleValue) {
						t.Errorf("put on a bucket's name: %v", err)
					}
				}
				if rng.IntN(6) == 0 {
					return errTakenBack
				}
				return nil
			})
			if err == errTakenBack {
				model = was
			} else {
				must(t, err)
			}
			switch rng.IntN(8) {
			case 0:
				must(t, db.Checkpoint())
			case 1:
				must(t, db.Close())
				db = mustOpenAt(t, db.Path(), nil)
			case 2, 3:
				compareDeferred(t, db, seed, model)
			}
		}
		compareDeferred(t, db, seed, model)
		must(t, errors.Join(db.Check(), db.Close()))
	}
}

func compareDeferred(t *testing.T, db *DB, seed uint64, model map[string]string) {
	t.Helper()
	got := map[string]string{}
	must(t, db.View(func(tx *Tx) error {
		a := tx.Bucket([]byte("a"))
		for i, b := range []*Bucket{tx.Root(), a, a.Bucket([]byte("b"))} {
			for k, v := range b.All() {
				if v != nil {
					got[fmt.Sprint(i, string(k))] = string(v)
				}
			}
		}
		return nil
	}))
	if !maps.Equal(got, model) {
		t.Fatalf("seed %d: the store has %d items %v, want %d", seed, len(got), slices.Sorted(maps.Keys(got)), len(model))
	}
}

// What was committed before a transaction that holds the tree is shown while that goes on: nobody waits for a user's function.
func TestViewBesideUpdateInTheTree(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "k", "0")
	reached, release := stopLogSync(fsys, nil)
	var all sync.WaitGroup
	all.Go(func() { mustPut(t, db, "k", "1") }) // its sync waits
	<-reached
	inTree, end := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		must(t, db.Update(func(tx *Tx) error {
			if v := tx.Root().Get([]byte("k")); string(v) != "1" { // it builds on what is not acknowledged
				t.Errorf("the next transaction finds %q", v)
			}
			close(inTree)
			<-end
			return tx.Root().Put([]byte("k"), []byte("2"))
		}))
	})
	<-inTree
	done := make(chan struct{})
	go func() { defer close(done); has(t, db, "k", "0") }()
	waitFor(t, "View before the acknowledgement", done)
	close(release)
	for db.acked.Load() != 2 {
		time.Sleep(time.Millisecond)
	}
	done = make(chan struct{})
	go func() { defer close(done); has(t, db, "k", "1"); must(t, db.Checkpoint()) }()
	waitFor(t, "View and Checkpoint after it", done)
	close(end)
	all.Wait()
	has(t, db, "k", "2")
	must(t, db.Check())
}

// Groups that are not yet acknowledged are applied one by one for a transaction that wants the tree, since each of them may be
// what a reader is to be shown.
func TestGroupsAreAppliedOneByOne(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "k", "0")
	var all sync.WaitGroup
	reached, release := stopLogSync(fsys, nil)
	all.Go(func() { mustPut(t, db, "k", "1") })
	<-reached
	all.Go(func() { mustPut(t, db, "k", "2") })
	for late(db) < 3 {
		time.Sleep(time.Millisecond)
	}
	tx, err := db.Begin(true)
	must(t, err)
	tx.Root().Get([]byte("k"))
	again, releaseAgain := stopLogSync(fsys, nil)
	close(release)
	<-again // "1" has been acknowledged, "2" has not
	has(t, db, "k", "1")
	must(t, tx.Rollback())
	has(t, db, "k", "1")
	close(releaseAgain)
	all.Wait()
	has(t, db, "k", "2")
	must(t, db.Check())
}

// A deferred transaction does not join a group of which the tree has others: what the group ends with would be nobody's state.
func TestDeferredBehindOneInTheTree(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "k", "0")
	get(t, db, "k")
	var all sync.WaitGroup
	reached, release := stopLogSync(fsys, nil)
	all.Go(func() { mustPut(t, db, "k", "1") })
	<-reached
	committed := func() page.TxID {
		db.groups.mu.Lock()
		defer db.groups.mu.Unlock()
		return db.last
	}
	for i := range 4 {
		all.Go(func() {
			must(t, db.Update(func(tx *Tx) error {
				if i == 0 {
					tx.Root().Get([]byte("k")) // takes it to the tree
				}
				return tx.Root().Put(fmt.Append(nil, i), nil)
			}))
		})
		for committed() < page.TxID(3+i) {
			time.Sleep(time.Millisecond)
		}
	}
	close(release)
	all.Wait()
	must(t, db.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n != 5 {
			t.Errorf("%d items", n)
		}
		return nil
	}))
	must(t, db.Check())
}

// A put to a damaged page is refused at once, not after it has been acknowledged; and a damaged neighbour does not keep
// what was acknowledged from being applied.
func TestDeferredBesideDamage(t *testing.T) {
	db := mustOpen(t, nil)
	key := func(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }
	must(t, db.Update(func(tx *Tx) error {
		for i := range 2000 {
			if err := tx.Root().Put(key(i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Close())
	db = mustOpenAt(t, db.Path(), nil)
	id, from, to := leafOf(t, db, key(1000))
	must(t, db.Close())
	spoilByte(t, db.Path(), int(id)*db.pageSize+100)
	db = mustOpenAt(t, db.Path(), nil)
	err := db.Update(func(tx *Tx) error { return tx.Root().Put(key(1000), nil) })
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a put to a damaged page: %v", err)
	}
	for round := range 3 { // fill the neighbours, then empty them
		for i := range 2000 {
			if string(key(i)) >= from && (to == "" || string(key(i)) < to) {
				continue
			}
			mustWith(t, db.Update(func(tx *Tx) error {
				if round == 2 && i >= 10 {
					return tx.Root().Delete(key(i))
				}
				tx.SetDurability(Relaxed)
				return tx.Root().Put(key(i), make([]byte, 100+150*round))
			}), "round", round, "item", i)
		}
		if n := late(db); n == 0 {
			t.Error("nothing was deferred")
		}
		must(t, db.View(func(tx *Tx) error {
			if v := tx.Root().Get(key(1)); len(v) != 100+150*round {
				t.Errorf("round %d: %d bytes", round, len(v))
			}
			return nil
		}))
	}
	if err := db.View(func(tx *Tx) error { tx.Root().Get(key(1000)); return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a look at the damaged page: %v", err)
	}
	db.Close()
}

// leafOf returns the leaf in which a key lies, and the bounds of its keys.
func leafOf(t *testing.T, db *DB, key []byte) (id page.ID, from, to string) {
	t.Helper()
	must(t, db.View(func(tx *Tx) error {
		h := tx.root.header()
		id = h.Root
		for level := h.Level; level > 0; level-- {
			p, err := tx.snapshot.view.Page(id)
			must(t, err)
			b := page.Branch(p)
			i := b.Search(key)
			if i > 0 {
				from = string(b.Separator(i, nil))
			}
			if i+1 < b.Count() {
				to = string(b.Separator(i+1, nil))
			}
			id = b.Child(i)
		}
		return nil
	}))
	return id, from, to
}

// The limit of the backlog bounds the heap: who commits faster than the tree takes it waits.
func TestBacklogIsBounded(t *testing.T) {
	db := mustOpen(t, &Options{MemoryLimit: minLimit, Durability: Relaxed})
	mustPut(t, db, "k", "v")
	for i := range 4000 {
		mustPut(t, db, fmt.Sprint(i*7919%4000), string(make([]byte, 500)))
		db.groups.mu.Lock()
		n := db.groups.late.bytes
		db.groups.mu.Unlock()
		if n > db.backlogLimit() {
			t.Fatalf("%d bytes are late", n)
		}
	}
	must(t, db.Check())
	if s, err := os.Stat(db.Path()); err != nil || s.Size() < 2e6 {
		t.Errorf("file: %v, %v", s.Size(), err)
	}
}

// mustWith is must that says where.
func mustWith(t *testing.T, err error, where ...any) {
	t.Helper()
	if err != nil {
		t.Fatal(append(where, err)...)
	}
}

// Close of a poisoned store applies nothing, so it did not wait for a reader who has the backlog applied and has no pin yet. It closed the file
// under him, and who waited for the tree behind him found a store without a mapping and ended the process.
func TestCloseWaitsForWhoApplies(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
	key := fillTree(t, db, 3000)
	for i := range 200 {
		must(t, db.Update(func(tx *Tx) error {
			tx.SetDurability(Relaxed)
			return tx.Root().Put(key(10*i), make([]byte, 101))
		}))
	}
	if n := late(db); n != 200 {
		t.Fatalf("%d operations are late", n)
	}
	db.poison(errInjected)
	reached, release := stopDataWrite(fsys, vfs.KindWrite)
	var all sync.WaitGroup
	view := func() {
		if err := db.View(func(tx *Tx) error { return nil }); err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
			t.Errorf("a reader beside Close: %v", err)
		}
	}
	all.Go(view)
	<-reached // the unit is spilled
	all.Go(view)
	for waiting := false; !waiting; time.Sleep(time.Millisecond) {
		db.groups.mu.Lock()
		waiting = db.groups.treeFree != nil
		db.groups.mu.Unlock()
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		t.Errorf("the store was closed meanwhile: %v", err)
	case <-time.After(50 * time.Millisecond):
		defer func() {
			if err := <-closed; !errors.Is(err, ErrPoisoned) {
				t.Errorf("Close: %v", err)
			}
		}()
	}
	close(release)
	all.Wait()
}

// Buckets were looked for among all that the backlog speaks of, one by one. With one for each of a hundred thousand users a unit took half a
// minute, in which nobody could read.
func TestBacklogOfManyBuckets(t *testing.T) {
	const n = 100_000
	var ops wal.Ops
	for i := range 2 * n {
		ops.Bucket([][]byte{fmt.Appendf(nil, "bucket%06d", i*7%n)})
		ops.Delete([]byte("k"))
	}
	var s sorter
	must(t, s.add(ops))
	if len(s.paths) != n || len(s.numbers) != n || len(s.changes) != 2*n {
		t.Errorf("%d buckets, %d of them found at once, %d changes", len(s.paths), len(s.numbers), len(s.changes))
	}
	for i, c := range s.changes {
		if got := s.paths[c.bucket].String(); got != fmt.Sprintf("/bucket%06d", i*7%n) {
			t.Fatalf("change %d is of %s", i, got)
		}
	}
	if s.reset(); len(s.numbers) > 0 {
		t.Error("buckets are remembered")
	}
}

// The key that was to be deleted stood beside a long one, whose run was damaged. The transaction was deferred, since the way to the key does not
// read that run, and acknowledged. Then it could not be applied, because the keys on both sides were compared: no reader got in any more, and no
// Open. It is the same with splits and joins, which compare keys of siblings too.
func TestDeferredBesideDamagedRuns(t *testing.T) {
	deferred := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 5))
		db := mustOpen(t, nil)
		key := func(i int) []byte { return fmt.Appendf(nil, "%05d", i) }
		bucket := func(tx *Tx) *Bucket {
			if seed%2 == 0 {
				return tx.Root()
			}
			return tx.Bucket(key(0))
		}
		var runs [][]byte
		must(t, db.Update(func(tx *Tx) error {
			if seed%2 == 1 {
				if _, err := tx.CreateBucket(key(0)); err != nil {
					return err
				}
			}
			for range 300 + rng.IntN(600) {
				if err := bucket(tx).Put(key(1+rng.IntN(9999)), make([]byte, rng.IntN(200))); err != nil {
					return err
				}
			}
			for i := range 12 {
				b, run := bucket(tx), bytes.Repeat(fmt.Appendf(nil, "<%06d>", i), 150)
				if i%3 == 0 {
					b = tx.Root()
				}
				k := key(rng.IntN(10000))
				if i%4 == 0 { // one that only its run tells from others
					k = append(key(5000), make([]byte, 100)...)
				}
				if err := b.Put(append(k, run...), nil); err != nil {
					return err
				}
				runs = append(runs, run)
			}
			return nil
		}))
		must(t, db.Close())
		file := readFile(t, db.Path())
		for _, run := range runs {
			if rng.IntN(3) > 0 {
				spoilByte(t, db.Path(), bytes.Index(file, run[:1000])+900)
			}
		}
		db = mustOpenAt(t, db.Path(), nil)
		for round := range 6 {
			for range 300 {
				k := key(1 + rng.IntN(9999))
				// It may be refused.
				db.Update(func(tx *Tx) error {
					tx.SetDurability(Relaxed)
					var err error
					if round%2 == 1 {
						err = bucket(tx).Delete(k)
					} else {
						err = bucket(tx).Put(k, make([]byte, rng.IntN(600)))
					}
					if tx.deferred && err == nil {
						deferred++
					}
					return err
				})
			}
			mustWith(t, db.View(func(tx *Tx) error { return nil }), "seed", seed, "round", round)
		}
		must(t, db.Close())
	}
	if deferred < 10000 {
		t.Errorf("only %d transactions were deferred", deferred)
	}
}

// A transaction begun with Begin could not go over to the tree, because the backlog could not be applied, and its Get went on to ask the
// snapshot: it gave what had been there before the transaction's own Put, where it should have given nothing.
func TestGetWithoutTheTree(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit, Durability: Relaxed})
	key := fillTree(t, db, 3000)
	for i := range 200 {
		must(t, db.Update(func(tx *Tx) error { return tx.Root().Put(key(10*i), make([]byte, 101)) }))
	}
	tx, err := db.Begin(true)
	must(t, err)
	must(t, tx.Root().Put(key(0), []byte("own")))
	failDataWrites(fsys)
	for range 2 {
		if v := tx.Root().Get(key(0)); v != nil {
			t.Errorf("Get gives %d bytes", len(v))
		}
		if k, _ := tx.Cursor().First(); k != nil || tx.Root().Len() != 0 {
			t.Errorf("a cursor gives %q, Len %d", k, tx.Root().Len())
		}
	}
	hasFailed(t, tx)
	fsys.before.Store(nil)
	if v := get(t, db, string(key(0))); len(v) != 101 {
		t.Errorf("%d bytes", len(v))
	}
	must(t, db.Check())
}

// The names of the buckets that a put goes to are logged too. A deferred transaction counted only keys and values, and one put far down could
// be too large for the log: it was refused, where it would have been a bulk commit in the tree.
func TestDeferredUnderLongNames(t *testing.T) {
	db := mustOpen(t, &Options{LogLimit: minLimit})
	const depth = 700
	name := bytes.Repeat([]byte("n"), 480)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket(name[:100])
		for i := 0; i < depth && err == nil; i++ {
			b, err = b.CreateBucket(name)
		}
		return err
	}))
	down := func(tx *Tx) *Bucket {
		b := tx.Bucket(name[:100])
		for range depth {
			b = b.Bucket(name)
		}
		return b
	}
	must(t, db.Update(func(tx *Tx) error { return down(tx).Put([]byte("k"), []byte("v")) }))
	must(t, db.View(func(tx *Tx) error {
		if v := down(tx).Get([]byte("k")); string(v) != "v" {
			t.Errorf("%q", v)
		}
		return nil
	}))
	must(t, db.Check())
}

// A checkpoint that makes the log shorter waited for the tree with the checkpoint lock held, to have some of the backlog applied, even when a
// transaction had got the tree first and applied all of it. When that came to need a checkpoint itself, the two waited for each other for ever,
// and so did every writer from then on.
// Case B2 of RELIABILITY.md.
func TestCheckpointBesideBulkInTheTree(t *testing.T) {
	for range 5 {
		db := mustOpen(t, &Options{LogLimit: minLimit, Durability: Relaxed, MemoryLimit: 1 << 20})
		for range 2 {
			mustPut(t, db, "first", "v")
			get(t, db, "first")
		}
		for i := range 20 {
			must(t, db.Update(func(tx *Tx) error {
				for k := range 10 {
					must(t, tx.Root().Put(fmt.Append(nil, "k", i, k), make([]byte, 500)))
				}
				return nil
			}))
		}
		tx, err := db.Begin(true)
		must(t, err)
		db.lockTree(nil) // somebody applies
		checkpointed := make(chan struct{})
		go func() {
			defer close(checkpointed)
			if err := db.checkpointSome(); err != nil {
				t.Error(err)
			}
		}()
		for waiting := false; !waiting; time.Sleep(time.Millisecond) {
			db.groups.mu.Lock()
			waiting = db.groups.treeFree != nil
			db.groups.mu.Unlock()
		}
		db.unlockTree()
		tx.Root().Get([]byte("first")) // is most often faster than who was woken
		for i := range 300 {
			must(t, tx.Root().Put(fmt.Append(nil, "large", i), make([]byte, 3000)))
		}
		committed := make(chan struct{})
		go func() {
			defer close(committed)
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
		}()
		waitFor(t, "the commit", committed)
		waitFor(t, "the checkpoint", checkpointed)
		must(t, db.Check())
	}
}

// Relaxed commits became one group as long as nobody applied any, however many they were: then all of the backlog was one unit. To sort that took
// more memory than the limit knows of, and committers waited until all of it had been applied.
func TestUnitsAreBounded(t *testing.T) {
	db := mustOpen(t, &Options{MemoryLimit: 1 << 20, Durability: Relaxed})
	for range 2 {
		mustPut(t, db, "first", "v")
		get(t, db, "first")
	}
	db.lockTree(nil) // somebody applies
	for i := 0; db.lateBytes() < db.backlogLimit()*9/10; i++ {
		must(t, db.Update(func(tx *Tx) error {
			for k := range 100 {
				must(t, tx.Root().Put(fmt.Append(nil, k*7919%1000, i), nil))
			}
			return nil
		}))
	}
	due, size := db.due(db.unitLimit()), int64(0)
	for _, n := range due {
		size += n.size()
	}
	if size > 2*db.unitLimit() || len(due) > 10 {
		t.Errorf("a unit has %d bytes in %d groups, the limit is %d", size, len(due), db.unitLimit())
	}
	db.unlockTree()
	must(t, db.Check())
}

// How much of the log the backlog keeps was judged by the bytes of its operations. A commit that is synced takes at least half a kibibyte of the log, and another
// one several times what its operation does, so that with small
// ones, and nobody who looked, a checkpoint thought that there was next to nothing to apply, and freed none of the log; and none began before it was full.
// Then commits failed.
func TestLogOfTinyCommits(t *testing.T) {
	for d, n := range map[Durability]int{Sync: 2000, Relaxed: 2000 * 512 / 40} { // as many bytes of log
		db := mustOpen(t, &Options{LogLimit: minLimit, Durability: d})
		for range 2 {
			mustPut(t, db, "first", "v")
			get(t, db, "first")
		}
		for i := range n {
			mustWith(t, db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Append(nil, i), nil) }), i, "commits")
		}
		if late := late(db); late > n/4 {
			t.Errorf("%v: %d operations are late", d, late)
		}
		if n := db.stats.checkpoints.Load(); n < 4 {
			t.Errorf("%d checkpoints", n)
		}
		must(t, db.Check())
	}
}

// failDataWrites has every write to the data file fail.
func failDataWrites(fsys *hookFS) {
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindWrite && !isLog(f) {
			return errInjected
		}
		return nil
	})
	fsys.before.Store(&hook)
}

// fillTree puts n items of 100 bytes into the tree, and returns their keys.
func fillTree(t *testing.T, db *DB, n int) (key func(i int) []byte) {
	t.Helper()
	key = func(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }
	must(t, db.Update(func(tx *Tx) error {
		for i := range n {
			if err := tx.Root().Put(key(i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Checkpoint())
	return key
}

// hasFailed looks that a transaction tells of an injected error.
func hasFailed(t *testing.T, tx *Tx) {
	t.Helper()
	if !errors.Is(tx.Err(), errInjected) {
		t.Error(tx.Err())
	}
	if err := tx.Commit(); !errors.Is(err, errInjected) {
		t.Error(err)
	}
}

// mustNest makes a bucket a, and in it a bucket b.
func mustNest(t *testing.T, db *DB) {
	t.Helper()
	must(t, db.Update(func(tx *Tx) error {
		a, err := tx.CreateBucket([]byte("a"))
		if err == nil {
			_, err = a.CreateBucket([]byte("b"))
		}
		return err
	}))
}
