package folio

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// mixedBucket is what a bucket should hold.
type mixedBucket struct {
	keys     []string // sorted
	values   map[string]string
	sequence uint64
}

func newMixedBucket() *mixedBucket { return &mixedBucket{values: map[string]string{}} }

func (b *mixedBucket) put(key, value string) {
	if i, ok := slices.BinarySearch(b.keys, key); !ok {
		b.keys = slices.Insert(b.keys, i, key)
	}
	b.values[key] = value
}

func (b *mixedBucket) cut(i, j int) {
	for _, k := range b.keys[i:j] {
		delete(b.values, k)
	}
	b.keys = slices.Delete(b.keys, i, j)
}

func (b *mixedBucket) delete(key string) {
	if i, ok := slices.BinarySearch(b.keys, key); ok {
		b.cut(i, i+1)
	}
}

// below returns how many keys are below key.
func (b *mixedBucket) below(key string) int { i, _ := slices.BinarySearch(b.keys, key); return i }

// mixed is a state of the whole store. The names of buckets begin with "~", behind all keys, and hold no slash.
type mixed map[string]*mixedBucket // by path; "" is the root

func (m mixed) clone() mixed {
	c := mixed{}
	for path, b := range m {
		c[path] = &mixedBucket{slices.Clone(b.keys), maps.Clone(b.values), b.sequence}
	}
	return c
}

func (m mixed) bucket(tx *Tx, path string) *Bucket {
	b := tx.Root()
	if path == "" {
		return b
	}
	for _, name := range strings.Split(path[1:], "/") {
		b = b.Bucket([]byte(name))
	}
	return b
}

// compare compares all that tx sees.
func (m mixed) compare(tx *Tx) error {
	found := 0
	var walk func(path string, b *Bucket) error
	walk = func(path string, b *Bucket) error {
		found++
		want := m[path]
		if want == nil {
			return fmt.Errorf("bucket %q should not be", path)
		}
		if b.Sequence() != want.sequence {
			return fmt.Errorf("bucket %q: sequence %d, want %d", path, b.Sequence(), want.sequence)
		}
		i := 0
		for k, v := range b.All() {
			if v == nil {
				if err := walk(path+"/"+string(k), b.Bucket(k)); err != nil {
					return err
				}
				continue
			}
			if i >= len(want.keys) || string(k) != want.keys[i] || string(v) != want.values[want.keys[i]] {
				return fmt.Errorf("bucket %q: item %d of %d is %.40q with %d bytes", path, i, len(want.keys), k, len(v))
			}
			i++
		}
		if i != len(want.keys) {
			return fmt.Errorf("bucket %q: %d items, want %d", path, i, len(want.keys))
		}
		return nil
	}
	if err := walk("", tx.Root()); err != nil {
		return err
	}
	if found != len(m) {
		return fmt.Errorf("%d buckets, want %d", found, len(m))
	}
	return tx.Err()
}

// mixedCursor is a cursor with the place it should have.
type mixedCursor struct {
	c     *Cursor
	path  string
	place string
}

// mixedRun is one run of TestMixed.
type mixedRun struct {
	rng   *rand.Rand
	model mixed
	next  int // the next ascending key
}

func (r *mixedRun) key() string {
	switch r.rng.IntN(400) {
	case 0:
		return fmt.Sprintf("L%s%04d", strings.Repeat("l", 1500), r.rng.IntN(50))
	default:
		return fmt.Sprintf("k%06d", r.rng.IntN(20000))
	}
}

func (r *mixedRun) value() string {
	n := r.rng.IntN(40)
	switch r.rng.IntN(800) {
	case 0:
		n = 70000 + r.rng.IntN(5000)
	case 1, 2:
		n = 1000 + r.rng.IntN(4000)
	}
	return strings.Repeat(string(rune('a'+r.rng.IntN(26))), n)
}

func (r *mixedRun) path() string {
	return slices.Sorted(maps.Keys(r.model))[r.rng.IntN(len(r.model))]
}

// plain does puts and deletions behind each other, most of which are collected when there are many.
func (r *mixedRun) plain(tx *Tx, n int) error {
	path := r.path()
	b, want := r.model.bucket(tx, path), r.model[path]
	style := r.rng.IntN(4)
	for range n {
		if r.rng.IntN(300) == 0 {
			path = r.path()
			b, want = r.model.bucket(tx, path), r.model[path]
		}
		key := r.key()
		switch {
		case style == 0:
			r.next++
			key = fmt.Sprintf("a%08d", r.next)
		case style == 1 && len(want.keys) > 0:
			key = want.keys[r.rng.IntN(len(want.keys))]
		}
		if style != 0 && r.rng.IntN(3) == 0 || style == 1 && r.rng.IntN(8) > 0 {
			want.delete(key)
			if err := b.Delete([]byte(key)); err != nil {
				return err
			}
			continue
		}
		value := r.value()
		want.put(key, value)
		if err := b.Put([]byte(key), []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// look reads something, and compares it.
func (r *mixedRun) look(tx *Tx) error {
	path := r.path()
	b, want := r.model.bucket(tx, path), r.model[path]
	key := r.key()
	if len(want.keys) > 0 && r.rng.IntN(2) == 0 {
		key = want.keys[r.rng.IntN(len(want.keys))]
	}
	switch r.rng.IntN(6) {
	case 0:
		if n := b.Rank([]byte(key)); n != want.below(key) {
			return fmt.Errorf("%q: rank of %.40q is %d, want %d", path, key, n, want.below(key))
		}
	case 1:
		if n := b.Count(nil, []byte("~")); n != len(want.keys) {
			return fmt.Errorf("%q: %d items, want %d", path, n, len(want.keys))
		}
	case 2:
		if i := r.rng.IntN(len(want.keys) + 1); i < len(want.keys) {
			if k, v := b.At(i); string(k) != want.keys[i] || string(v) != want.values[want.keys[i]] {
				return fmt.Errorf("%q: item %d is %.40q with %d bytes, want %.40q with %d", path, i, k, len(v), want.keys[i], len(want.values[want.keys[i]]))
			}
		}
	case 3:
		if s := b.Stats(); s.KeyN < len(want.keys) {
			return fmt.Errorf("%q: stats count %d items, want %d", path, s.KeyN, len(want.keys))
		}
	default:
		v := b.Get([]byte(key))
		if value, ok := want.values[key]; string(v) != value || (v != nil) != ok {
			return fmt.Errorf("%q: %.40q has %d bytes, want %d", path, key, len(v), len(value))
		}
	}
	return nil
}

// step moves a cursor and compares.
func (r *mixedRun) step(m *mixedCursor) error {
	want := r.model[m.path]
	var k []byte
	var i int
	switch r.rng.IntN(5) {
	case 0:
		place := r.key()
		i = want.below(place)
		if i == len(want.keys) {
			return nil // there is nothing to stand on
		}
		k, _ = m.c.Seek([]byte(place))
	case 1:
		i = want.below(m.place) - 1
		k, _ = m.c.Prev()
		if i < 0 && k == nil {
			return nil
		}
	default:
		i = want.below(m.place + "\x00")
		k, _ = m.c.Next()
	}
	if len(k) > 0 && k[0] == '~' || k == nil {
		if i < len(want.keys) && i >= 0 {
			return fmt.Errorf("%q: cursor gives %q, want %.40q", m.path, k, want.keys[i])
		}
		if k != nil {
			m.place = string(k)
		}
		return nil
	}
	if i < 0 || i >= len(want.keys) || string(k) != want.keys[i] {
		return fmt.Errorf("%q: cursor at %.40q gives %.40q", m.path, m.place, k)
	}
	m.place = string(k)
	return nil
}

// buckets makes, deletes or moves a bucket, or does something else that is no put or deletion.
func (r *mixedRun) buckets(tx *Tx) error {
	path := r.path()
	b, want := r.model.bucket(tx, path), r.model[path]
	switch r.rng.IntN(6) {
	case 0:
		name := fmt.Sprint("~", r.rng.IntN(3))
		if strings.Count(path, "/") > 2 {
			return nil
		}
		if _, ok := r.model[path+"/"+name]; !ok {
			r.model[path+"/"+name] = newMixedBucket()
		}
		_, err := b.CreateBucketIfNotExists([]byte(name))
		return err
	case 1:
		if path == "" || len(r.model) < 4 || r.rng.IntN(4) > 0 {
			return nil
		}
		for p := range r.model {
			if p == path || strings.HasPrefix(p, path+"/") {
				delete(r.model, p)
			}
		}
		i := strings.LastIndexByte(path, '/')
		return r.model.bucket(tx, path[:i]).DeleteBucket([]byte(path[i+1:]))
	case 2:
		to := r.path()
		i := strings.LastIndexByte(path, '/')
		if path == "" || to == path[:i] || to == path || strings.HasPrefix(to, path+"/") || r.model[to+path[i:]] != nil {
			return nil
		}
		for _, p := range slices.Collect(maps.Keys(r.model)) {
			if p == path || strings.HasPrefix(p, path+"/") {
				r.model[to+p[i:]] = r.model[p]
				delete(r.model, p)
			}
		}
		from := b.parent
		return from.MoveBucket([]byte(path[i+1:]), r.model.bucket(tx, to))
	case 3:
		if len(want.keys) == 0 {
			return nil
		}
		i := r.rng.IntN(len(want.keys))
		j := min(i+r.rng.IntN(300), len(want.keys)-1)
		n, err := b.DeleteRange([]byte(want.keys[i]), []byte(want.keys[j]))
		if n != j-i && err == nil {
			err = fmt.Errorf("%q: %d items removed, want %d", path, n, j-i)
		}
		want.cut(i, j)
		return err
	case 4:
		want.sequence++
		n, err := b.NextSequence()
		if n != want.sequence && err == nil {
			err = fmt.Errorf("%q: sequence %d, want %d", path, n, want.sequence)
		}
		return err
	default:
		if r.rng.IntN(4) > 0 {
			return nil
		}
		return tx.Check()
	}
}

// transaction does up to n operations.
func (r *mixedRun) transaction(tx *Tx, n int) error {
	var cursors []*mixedCursor
	only := r.rng.IntN(3) == 0 // puts and deletions
	for n > 0 {
		part := 1 + r.rng.IntN(min(n, 1+r.rng.IntN(2000)))
		n -= part
		if err := r.plain(tx, part); err != nil {
			return err
		}
		if only {
			continue
		}
		for range r.rng.IntN(6) {
			var err error
			switch {
			case r.rng.IntN(12) == 0:
				err = r.buckets(tx)
				cursors = slices.DeleteFunc(cursors, func(m *mixedCursor) bool {
					return m.c.b.dead || r.model[m.path] == nil || r.model.bucket(tx, m.path) != m.c.b
				})
			case r.rng.IntN(4) == 0 && len(cursors) < 4:
				path := r.path()
				m := &mixedCursor{c: r.model.bucket(tx, path).Cursor(), path: path}
				cursors = append(cursors, m)
				if k, _ := m.c.First(); k == nil {
					cursors = cursors[:len(cursors)-1]
				} else {
					m.place = string(k)
				}
			case r.rng.IntN(2) == 0 && len(cursors) > 0:
				m := cursors[r.rng.IntN(len(cursors))]
				if err = r.step(m); err == nil && r.rng.IntN(3) == 0 && m.place[0] != '~' { // what it stands on may be gone
					r.model[m.path].delete(m.place)
					err = m.c.Delete()
				}
			default:
				err = r.look(tx)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A store with little memory and a short log does what maps would: transactions of one to thousands of operations, deferred, in the tree and
// in bulk, with reads and cursors in between, taken back or not, and older states that are read meanwhile; and a copy of its files is
// at any time what a crash leaves behind.
func TestMixed(t *testing.T) {
	for seed := range uint64(max(4, mixedSeeds())) {
		mixedSeed(t, seed)
	}
}

func mixedSeeds() (n int) {
	fmt.Sscan(os.Getenv("FOLIO_MIXED"), &n)
	return n
}

func mixedSeed(t *testing.T, seed uint64) {
	r := &mixedRun{rng: rand.New(rand.NewPCG(seed, 77)), model: mixed{"": newMixedBucket()}}
	opts := func() *Options {
		return &Options{MemoryLimit: minLimit, LogLimit: []int64{minLimit, 1 << 20, 64 << 20}[r.rng.IntN(3)], Durability: Durability(1 + r.rng.IntN(2))}
	}
	db := mustOpen(t, opts())
	type old struct {
		tx    *Tx
		model mixed
	}
	var readers []old
	finish := func(k int) {
		o := readers[k]
		readers = slices.Delete(readers, k, k+1)
		mustWith(t, o.model.compare(o.tx), "seed", seed, "old reader")
		must(t, o.tx.Rollback())
	}
	for range 60 {
		was := r.model.clone()
		n := 1
		switch r.rng.IntN(4) {
		case 0:
			n = 1 + r.rng.IntN(5000)
		case 1:
			n = 1 + r.rng.IntN(300)
		default:
			n = 1 + r.rng.IntN(10)
		}
		back := r.rng.IntN(8) == 0
		err := db.Update(func(tx *Tx) error {
			if r.rng.IntN(4) == 0 {
				tx.SetDurability(Durability(1 + r.rng.IntN(2)))
			}
			if err := r.transaction(tx, n); err != nil {
				return err
			}
			if back {
				return errTakenBack
			}
			return nil
		})
		if back && err == errTakenBack {
			r.model, err = was, nil
		}
		mustWith(t, err, "seed", seed)
		switch r.rng.IntN(12) {
		case 0:
			mustWith(t, db.View(r.model.compare), "seed", seed)
		case 1:
			if len(readers) < 3 {
				tx, err := db.Begin(false)
				must(t, err)
				readers = append(readers, old{tx, r.model.clone()})
			}
		case 2:
			if len(readers) > 0 {
				finish(r.rng.IntN(len(readers)))
			}
		case 3:
			must(t, db.Checkpoint())
		case 4:
			mustWith(t, db.Check(), "seed", seed)
		case 5, 6: // crash
			db.checkpointing.Lock() // no log is cut between the two files
			path := crashCopy(t, db.Path())
			db.checkpointing.Unlock()
			c, err := Open(path, opts())
			mustWith(t, err, "seed", seed)
			mustWith(t, errors.Join(c.View(r.model.compare), c.Check()), "seed", seed, "after a crash")
			if r.rng.IntN(2) == 0 {
				must(t, c.Close())
				os.Remove(path)
				break
			}
			for len(readers) > 0 {
				finish(0)
			}
			must(t, db.Close())
			db = c
			t.Cleanup(func() { c.Close() })
		case 7:
			if r.rng.IntN(3) == 0 {
				for len(readers) > 0 {
					finish(0)
				}
				path := db.Path()
				must(t, db.Close())
				db = mustOpenAt(t, path, opts())
			}
		}
	}
	for len(readers) > 0 {
		finish(0)
	}
	mustWith(t, errors.Join(db.View(r.model.compare), db.Check(), db.Close()), "seed", seed)
}
