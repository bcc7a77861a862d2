package folio

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/wal"
)

// collector is a write transaction that only makes puts and deletions for long stretches, and a map of what it should hold.
type collector struct {
	t     *testing.T
	rng   *rand.Rand
	tx    *Tx
	model map[string]string // "bucket/key"
	keys  int
}

func (c *collector) bucket(i int) (*Bucket, string) {
	switch i {
	case 0:
		return c.tx.Root(), "/"
	case 1:
		return c.tx.Bucket([]byte("a")), "a/"
	}
	return c.tx.Bucket([]byte("a")).Bucket([]byte("b")), "b/"
}

func (c *collector) key() string { return fmt.Sprintf("k%05d", c.rng.IntN(c.keys)) }

// stretch makes n changes behind each other.
func (c *collector) stretch(n int) {
	for range n {
		b, name := c.bucket(c.rng.IntN(3))
		k := c.key()
		if c.rng.IntN(4) == 0 {
			must(c.t, b.Delete([]byte(k)))
			delete(c.model, name+k)
			continue
		}
		v := bytes.Repeat([]byte{byte('a' + c.rng.IntN(26))}, c.rng.IntN(300))
		if c.rng.IntN(500) == 0 {
			v = make([]byte, 20000) // a run
		}
		must(c.t, b.Put([]byte(k), v))
		c.model[name+k] = string(v)
	}
}

// look reads in one of all ways, and compares.
func (c *collector) look(cursors []*Cursor) {
	b, name := c.bucket(c.rng.IntN(3))
	var keys []string
	for k := range c.model {
		if len(k) > len(name) && k[:len(name)] == name {
			keys = append(keys, k[len(name):])
		}
	}
	slices.Sort(keys)
	nested := 0
	if name != "b/" {
		nested = 1
	}
	switch c.rng.IntN(7) {
	case 0:
		k := c.key()
		if v, ok := c.model[name+k]; ok != (b.Get([]byte(k)) != nil) || ok && string(b.Get([]byte(k))) != v {
			c.t.Fatalf("%s%s: %d bytes, want %v", name, k, len(b.Get([]byte(k))), ok)
		}
	case 1:
		if n := b.Len(); n != len(keys)+nested {
			c.t.Fatalf("%s has %d items, want %d", name, n, len(keys)+nested)
		}
	case 2: // a cursor that is older than the last changes
		cur := cursors[0]
		if name == "/" && len(keys) > 0 {
			at := c.key()
			k, _ := cur.Seek([]byte(at))
			last := string(k)
			c.stretch(400)
			next := ""
			for k := range c.model {
				if k[0] == '/' && k[1:] > last && (next == "" || k[1:] < next) {
					next = k[1:]
				}
			}
			if last >= "k" {
				if k, _ := cur.Next(); string(k) != next {
					c.t.Fatalf("behind %q comes %q, want %q", last, k, next)
				}
			}
			return
		}
		cur.First()
	case 3:
		var got []string
		for k, v := range b.All() {
			if v != nil {
				got = append(got, string(k))
			}
		}
		if !slices.Equal(got, keys) {
			c.t.Fatalf("%s: %d keys by iterator, want %d", name, len(got), len(keys))
		}
	case 4:
		from, to := c.key(), c.key()
		if from > to {
			from, to = to, from
		}
		_, err := b.DeleteRange([]byte(from), []byte(to))
		must(c.t, err)
		for _, k := range keys {
			if k >= from && k < to {
				delete(c.model, name+k)
			}
		}
	case 5:
		if n, err := b.NextSequence(); err != nil || n == 0 {
			c.t.Fatal(n, err)
		}
	case 6:
		must(c.t, c.tx.Check())
	}
}

// What a transaction has collected is there as soon as it looks, in every way of looking; a rollback takes all of it; and what is
// committed, with the log or without, is what a map would hold, after recovery too.
func TestCollected(t *testing.T) {
	for _, opt := range []Options{{}, {MemoryLimit: minLimit, LogLimit: 1 << 20}} {
		for seed := range uint64(3) {
			path := filepath.Join(t.TempDir(), "a.db")
			db := mustOpenAt(t, path, &opt)
			rng := rand.New(rand.NewPCG(seed, 7))
			model := map[string]string{}
			mustNest(t, db)
			for range 4 {
				was := maps.Clone(model)
				undo := errors.New("undo")
				err := db.Update(func(tx *Tx) error {
					c := &collector{t: t, rng: rng, tx: tx, model: model, keys: 3000}
					cur := tx.Root().Cursor() // the transaction is in the tree
					for range 3 {
						c.stretch(rng.IntN(1500))
						c.look([]*Cursor{cur})
					}
					c.stretch(rng.IntN(1500))
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
			}
			must(t, db.Check())
			crashed := mustOpenAt(t, crashCopy(t, path), &opt)
			sameAsModel(t, crashed, model)
			must(t, crashed.Check())
			must(t, crashed.Close())
			must(t, db.Close())
			db = mustOpenAt(t, path, &opt)
			sameAsModel(t, db, model)
			must(t, db.Close())
		}
	}
}

func sameAsModel(t *testing.T, db *DB, model map[string]string) {
	t.Helper()
	must(t, db.View(func(tx *Tx) error {
		n := 0
		for i, name := range []string{"/", "a/", "b/"} {
			c := &collector{tx: tx}
			b, _ := c.bucket(i)
			for k, v := range b.All() {
				if v == nil {
					continue
				}
				n++
				if w, ok := model[name+string(k)]; !ok || w != string(v) {
					return fmt.Errorf("%s%s: %d bytes, want %d, %v", name, k, len(v), len(w), ok)
				}
			}
		}
		if n != len(model) {
			return fmt.Errorf("%d items, want %d", n, len(model))
		}
		return nil
	}))
}

// A cursor that stands between items sees what is put before and behind it by a transaction that collects.
func TestCursorBesideCollected(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		b := tx.Root()
		must(t, b.Put([]byte("m"), nil))
		c := b.Cursor()
		if k, _ := c.First(); string(k) != "m" {
			t.Fatalf("%q", k)
		}
		for i := range 2 * collectFrom {
			must(t, b.Put(fmt.Appendf(nil, "n%04d", i), nil))
			must(t, b.Put(fmt.Appendf(nil, "l%04d", i), nil))
		}
		if tx.postponed == 0 {
			t.Error("nothing has been collected")
		}
		if k, _ := c.Next(); string(k) != "n0000" {
			t.Errorf("behind m comes %q", k)
		}
		c.Seek([]byte("m"))
		for i := range 2 * collectFrom {
			must(t, b.Delete(fmt.Appendf(nil, "l%04d", 2*collectFrom-1-i)))
		}
		if k, _ := c.Prev(); k != nil {
			t.Errorf("before m comes %q", k)
		}
		return nil
	}))
	must(t, db.Check())
}

// A transaction whose operations have megabytes goes through the log like any other, without a copy of them on the heap, deferred or not:
// what it did is there after its death.
func TestLargeLoggedTransactions(t *testing.T) {
	for _, reads := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.db")
		db := mustOpenAt(t, path, nil)
		mustPut(t, db, "k", "v")
		for round := range 3 {
			must(t, db.Update(func(tx *Tx) error {
				if reads {
					tx.Root().Len()
				}
				for i := range 12000 {
					must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i*7919%12000), fmt.Appendf(make([]byte, 0, 400), "%0300d", round)))
				}
				if !tx.large || tx.bulk || tx.deferred == reads {
					t.Errorf("large %v, bulk %v, deferred %v", tx.large, tx.bulk, tx.deferred)
				}
				return nil
			}))
			mustPut(t, db, "k", fmt.Sprint(round))
		}
		if n := db.Stats().LogLive; n < 10<<20 {
			t.Errorf("the log has %d bytes", n)
		}
		db2 := mustOpenAt(t, crashCopy(t, path), nil)
		must(t, db2.View(func(tx *Tx) error {
			if n := tx.Root().Len(); n != 12001 {
				t.Errorf("%d items", n)
			}
			if v := string(tx.Root().Get([]byte("00077"))); v != fmt.Sprintf("%0300d", 2) {
				t.Errorf("%q", v)
			}
			return nil
		}))
		must(t, db2.Check())
		must(t, db2.Close())
		must(t, db.Check())
		must(t, db.Close())
		if db.groups.late.memory.chunks != nil {
			t.Error("memory is left")
		}
	}
}

// A group can be applied before it is in the log: a transaction that wants the tree does that. Its operations, when they are many, are
// written to the log from where the backlog has them, so they have to stay there until then.
func TestLargeGroupIsAppliedBeforeItIsLogged(t *testing.T) {
	fsys := newHookFS()
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpenAt(t, path, &Options{fs: fsys})
	must(t, db.Update(func(tx *Tx) error { // makes the log long enough: to grow it takes a sync
		for i := range 12000 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i*7919%12000), make([]byte, 300))) // not in order: it would append
		}
		return nil
	}))
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange(nil, nil)
		return err
	}))
	must(t, db.Checkpoint())
	mustPut(t, db, "k", "0")
	var all sync.WaitGroup
	reached, release := stopLogSync(fsys, nil)
	all.Go(func() { mustPut(t, db, "k", "1") })
	<-reached
	all.Go(func() {
		must(t, db.Update(func(tx *Tx) error {
			for i := range 6000 {
				must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i*7919%6000), bytes.Repeat([]byte{'x'}, 300)))
			}
			if !tx.large || !tx.deferred {
				t.Errorf("large %v, deferred %v", tx.large, tx.deferred)
			}
			return nil
		}))
	})
	for late(db) < 6000 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		tx, err := db.Begin(true)
		must(t, err)
		if n := tx.Root().Len(); n != 6001 {
			t.Errorf("%d items", n)
		}
		for i := range 6000 { // takes the memory of those, were it free
			must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i), bytes.Repeat([]byte{'y'}, 300)))
		}
		must(t, tx.Rollback())
	}
	close(release)
	all.Wait()
	crashed := mustOpenAt(t, crashCopy(t, path), nil)
	must(t, crashed.View(func(tx *Tx) error {
		if n := tx.Root().Len(); n != 6001 {
			t.Errorf("%d items after recovery", n)
		}
		if v := tx.Root().Get([]byte("05999")); len(v) != 300 || v[299] != 'x' {
			t.Errorf("recovered %.20q", v)
		}
		return nil
	}))
	must(t, crashed.Check())
	must(t, db.Check())
}

// That a key names a bucket is told at once, by a transaction that is deferred or collects too, although these do not look at the leaf
// if the branch above says that there are no buckets in it.
func TestPutUnderABucketsName(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		for i := range 2000 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i), make([]byte, 100)))
		}
		_, err := tx.CreateBucket([]byte("01000b"))
		return err
	}))
	get(t, db, "01000")
	must(t, db.Update(func(tx *Tx) error {
		if err := tx.Root().Put([]byte("01000b"), nil); !errors.Is(err, ErrIncompatibleValue) || !tx.deferred {
			t.Errorf("deferred %v: %v", tx.deferred, err)
		}
		if err := tx.Root().Delete([]byte("01000b")); !errors.Is(err, ErrIncompatibleValue) || !tx.deferred {
			t.Errorf("deferred %v: %v", tx.deferred, err)
		}
		tx.Root().Len()
		for i := range 2 * collectFrom {
			must(t, tx.Root().Put(fmt.Appendf(nil, "%05d", i), make([]byte, 100)))
		}
		if err := tx.Root().Put([]byte("01000b"), nil); !errors.Is(err, ErrIncompatibleValue) || tx.postponed == 0 {
			t.Errorf("%d collected: %v", tx.postponed, err)
		}
		return nil
	}))
	must(t, db.Check())
}

// When what had been collected could not be done in the tree, the put that was told of it failed, and the puts before, which had
// succeeded, were partly missing: Get found nothing, or the old value, and Err did not tell.
func TestGetAfterFailedCatchUp(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit, Durability: Relaxed})
	key := fillTree(t, db, 5000)
	tx, err := db.Begin(true)
	must(t, err)
	tx.Root().Get(key(0))
	c := tx.Cursor()
	c.First()
	failDataWrites(fsys)
	done := 0
	for ; err == nil; done++ {
		err = tx.Root().Put(key(4999-done), make([]byte, 101))
	}
	if !errors.Is(err, errInjected) || done < 1000 {
		t.Fatal(done, err)
	}
	for i := range done {
		if v := tx.Root().Get(key(4999 - i)); v != nil {
			t.Fatalf("Get gives %d bytes", len(v))
		}
	}
	if k, _ := c.Next(); k != nil {
		t.Errorf("a cursor gives %q", k)
	}
	hasFailed(t, tx)
	fsys.before.Store(nil)
	if v := get(t, db, string(key(4999))); len(v) != 100 {
		t.Errorf("%d bytes", len(v))
	}
	must(t, db.Check())
}

// Puts into one bucket count for whether those into another one are collected. So a cursor can stand in a leaf that nothing has changed since, while the tree lacks what was put
// just behind it: it must not go on in that leaf.
func TestCursorSeesWhatIsCollected(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		a, err := tx.CreateBucket([]byte("a"))
		must(t, err)
		b, err := tx.CreateBucket([]byte("b"))
		must(t, err)
		for _, k := range []string{"k1", "k3", "k5"} {
			must(t, a.Put([]byte(k), []byte(k)))
		}
		c := a.Cursor()
		c.First()
		for i := range 2 * collectFrom {
			must(t, b.Put(fmt.Appendf(nil, "k%05d", i), nil))
		}
		must(t, a.Put([]byte("k2"), []byte("k2")))
		must(t, a.Delete([]byte("k3")))
		if !tx.behind() {
			t.Fatal("nothing is collected")
		}
		if k, v := c.Next(); string(k) != "k2" || string(v) != "k2" {
			t.Errorf("behind the first key comes %q, %q", k, v)
		}
		for i := range 2 * collectFrom {
			must(t, b.Put(fmt.Appendf(nil, "l%05d", i), nil))
		}
		must(t, a.Delete([]byte("k1")))
		if !tx.behind() {
			t.Fatal("nothing is collected any more")
		}
		if k, _ := c.Prev(); k != nil {
			t.Errorf("before the second key comes %q", k)
		}
		return nil
	}))
}

// A group refers to the operations of a large transaction instead of copying them. The buffer of one that was small enough to be kept could have
// room for a large one: then the next transaction was given that buffer while the group still referred to it, and wrote over what was on its way to the
// log. An acknowledged commit was gone after a crash, with all behind it.
// Case F1 of RELIABILITY.md.
func TestLargeOperationsInAKeptBuffer(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	for range 2 {
		mustPut(t, db, "first", "v")
		get(t, db, "first")
	}
	db.opsBuffer = make(wal.Ops, 0, wal.LargeOps*3/2) // as one just below a mebibyte may leave it
	tx, err := db.Begin(true)
	must(t, err)
	n := 0
	for ; len(tx.ops) < wal.LargeOps; n++ {
		must(t, tx.Root().Put(fmt.Appendf(nil, "k%05d", n), bytes.Repeat([]byte("v"), 1000)))
	}
	reached, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, p []byte) error {
		if kind == vfs.KindWrite && isLog(f) && p == nil && once.CompareAndSwap(false, true) {
			close(reached)
			<-release
		}
		return nil
	})
	fsys.before.Store(&hook)
	committed := make(chan error, 1)
	go func() { committed <- tx.Commit() }()
	<-reached
	next, err := db.Begin(true)
	must(t, err)
	for i := range 100 {
		must(t, next.Root().Put(fmt.Appendf(nil, "n%05d", i), make([]byte, 1000)))
	}
	close(release)
	must(t, <-committed)
	must(t, next.Rollback())
	c := mustOpenAt(t, crashCopy(t, db.Path()), nil)
	must(t, c.View(func(tx *Tx) error {
		if got := tx.Root().Len(); got != n+1 {
			t.Errorf("%d items after a crash, want %d", got, n+1)
		}
		return nil
	}))
	has(t, c, "k00000", string(bytes.Repeat([]byte("v"), 1000)))
}

// A bulk transaction that collected little since it gave up logging kept its large buffer until the next one, where nothing frees it at rest.
func TestLargeBufferGoesBack(t *testing.T) {
	db := mustOpen(t, &Options{MemoryLimit: 4 << 20})
	for _, n := range []int{5100, 6000, 20000} {
		bulk := false
		must(t, db.Update(func(tx *Tx) error {
			for i := range n {
				if err := tx.Root().Put(fmt.Appendf(nil, "k%08d", i*7919%1000003), make([]byte, 1000)); err != nil {
					return err
				}
			}
			bulk = tx.bulk
			return nil
		}))
		db.writer.Lock()
		if db.largeOps != nil {
			t.Errorf("%d puts, bulk %v: %d KiB are kept", n, bulk, len(db.largeOps)>>10)
		}
		db.writer.Unlock()
		db.trim()
		g := &db.groups
		g.mu.Lock()
		if g.late.memory.large != nil {
			t.Errorf("%d puts: trim leaves the large buffer", n)
		}
		g.mu.Unlock()
	}
}
