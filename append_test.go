package folio

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// appender loads ascending keys, and a map of what the store should hold.
type appender struct {
	t     *testing.T
	rng   *rand.Rand
	model map[string]string // "bucket/key"
	next  [2]int
}

func (a *appender) bucket(tx *Tx, i int) (*Bucket, string) {
	if i == 0 {
		return tx.Root(), "/"
	}
	b, err := tx.CreateBucketIfNotExists([]byte("a"))
	must(a.t, err)
	return b, "a/"
}

// load puts n ascending keys, and looks or changes something else now and then.
func (a *appender) load(tx *Tx, i, n int, pure bool) error {
	b, name := a.bucket(tx, i)
	for range n {
		a.next[i] += 1 + a.rng.IntN(3)
		k, v := fmt.Sprintf("k%08d", a.next[i]), fmt.Sprintf("%0*d", a.rng.IntN(300), a.next[i])
		if err := b.Put([]byte(k), []byte(v)); err != nil {
			return err
		}
		a.model[name+k] = v
		if pure || a.rng.IntN(40) > 0 {
			continue
		}
		old := fmt.Sprintf("k%08d", a.rng.IntN(a.next[i]+1))
		want, there := a.model[name+old]
		switch a.rng.IntN(7) {
		case 0:
			if got := b.Get([]byte(old)); (got != nil) != there || string(got) != want {
				a.t.Fatalf("%s%s is %q, want %q", name, old, got, want)
			}
		case 1:
			if err := b.Delete([]byte(old)); err != nil {
				return err
			}
			delete(a.model, name+old)
		case 2:
			if err := b.Put([]byte(old), []byte("again")); err != nil {
				return err
			}
			a.model[name+old] = "again"
		case 3:
			if k, _ := b.Cursor().Last(); len(k) == 0 {
				a.t.Fatal("no last key")
			}
		case 4:
			to := fmt.Sprintf("k%08d", a.rng.IntN(a.next[i]+1))
			if _, err := b.DeleteRange([]byte(old), []byte(to)); err != nil {
				return err
			}
			for k := range a.model {
				if k >= name+old && k < name+to {
					delete(a.model, k)
				}
			}
		case 5:
			big := fmt.Sprintf("%0*d", 20000, 7)
			if err := b.Put([]byte(k), []byte(big)); err != nil {
				return err
			}
			a.model[name+k] = big
		case 6:
			must(a.t, tx.Check())
		}
	}
	return nil
}

func (a *appender) compare(tx *Tx) {
	a.t.Helper()
	found := 0
	for i, name := range []string{"/", "a/"} {
		b := tx.Root()
		if i > 0 {
			if b = tx.Bucket([]byte("a")); b == nil {
				continue
			}
		}
		for k, v := range b.All() {
			if v == nil {
				continue
			}
			found++
			if want, ok := a.model[name+string(k)]; !ok || want != string(v) {
				a.t.Fatalf("%s%s is %.40q, want %.40q", name, k, v, want)
			}
		}
	}
	if found != len(a.model) {
		a.t.Fatalf("%d items, want %d", found, len(a.model))
	}
}

// Loads in ascending order by large transactions are written once, and hold what a map would hold, whatever else the transactions do meanwhile, whether they
// commit, are rolled back, or find the disk full.
func TestAppend(t *testing.T) {
	bulk := 0
	for seed := range uint64(6) {
		a := &appender{t: t, rng: rand.New(rand.NewPCG(seed, 11)), model: map[string]string{}}
		fsys := newHookFS()
		o := &Options{fs: fsys, MemoryLimit: minLimit, LogLimit: 1 << 20}
		db := mustOpen(t, o)
		for range 25 {
			before, next := maps.Clone(a.model), a.next
			full := a.rng.IntN(4) == 0
			if full {
				n := a.rng.IntN(60)
				var calls atomic.Int64
				h := hookFunc(func(kind vfs.Kind, _ vfs.File, _ int64, _ []byte) error {
					if (kind == vfs.KindWrite || kind == vfs.KindAllocate) && calls.Add(1) > int64(n) {
						return syscall.ENOSPC
					}
					return nil
				})
				fsys.before.Store(&h)
			}
			errRollback := errors.New("rolled back")
			err := db.Update(func(tx *Tx) error {
				pure := a.rng.IntN(2) == 0
				for range 1 + a.rng.IntN(3) {
					if err := a.load(tx, a.rng.IntN(2), 1+a.rng.IntN(2500), pure); err != nil {
						return err
					}
				}
				if tx.bulk {
					bulk++
				}
				if a.rng.IntN(5) == 0 {
					return errRollback
				}
				return nil
			})
			fsys.before.Store(nil)
			switch {
			case err == nil:
			case errors.Is(err, errRollback), full && errors.Is(err, syscall.ENOSPC):
				a.model, a.next = before, next
			case full && db.poisoned() != nil:
			default:
				t.Fatal(err)
			}
			if db.poisoned() != nil { // the transaction may be there or not: a new store
				db.Close()
				db = mustOpen(t, o)
				a.model, a.next = map[string]string{}, [2]int{}
			}
			must(t, db.View(func(tx *Tx) error { a.compare(tx); return nil }))
			must(t, db.Check())
		}
		must(t, db.Close())
		db = mustOpenAt(t, db.Path(), o)
		must(t, db.View(func(tx *Tx) error { a.compare(tx); return nil }))
		must(t, db.Close())
	}
	if bulk < 20 {
		t.Errorf("%d bulk transactions", bulk)
	}
}

// An ascending load of some megabytes goes by the log no more than a larger one does; one in any other order, a relaxed one, and one between keys that
// are there, does.
func TestAppendIsBulk(t *testing.T) {
	const n = 40_000 // of 132 bytes with what the log needs
	for _, c := range []struct {
		name string
		key  func(i int) int
		put  string
		d    Durability
		want bool
	}{
		{"ascending", func(i int) int { return i }, "", Sync, true},
		{"behind others", func(i int) int { return i }, "00", Sync, true},
		{"below another", func(i int) int { return i }, "zz", Sync, false},
		{"descending", func(i int) int { return n - i }, "", Sync, false},
		{"relaxed", func(i int) int { return i }, "", Relaxed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := mustOpen(t, &Options{Durability: c.d})
			if c.put != "" {
				must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte(c.put), nil) }))
			}
			var keys []string
			must(t, db.Update(func(tx *Tx) error {
				for i := range n {
					k := fmt.Sprintf("k%08d", c.key(i))
					keys = append(keys, k)
					if err := tx.Root().Put([]byte(k), make([]byte, 120)); err != nil {
						return err
					}
				}
				if tx.bulk != c.want {
					t.Errorf("bulk is %v", tx.bulk)
				}
				return nil
			}))
			slices.Sort(keys)
			must(t, db.View(func(tx *Tx) error {
				i := 0
				for k := range tx.Root().All() {
					if string(k) == c.put {
						continue
					}
					if string(k) != keys[i] {
						t.Fatalf("item %d is %s, want %s", i, k, keys[i])
					}
					i++
				}
				if i != n {
					t.Errorf("%d items", i)
				}
				return nil
			}))
			must(t, db.Check())
		})
	}
}
