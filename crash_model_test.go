package folio

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// What a store under test ought to hold. Transaction k of a timeline is a function of a seed, k and the content
// before it, and of nothing else: so a content that is found after a crash can be told to be that of transaction k
// without any record of the run that made it.

// crashBucket is the content of a bucket. It is not changed once it is part of a timeline.
type crashBucket struct {
	sequence uint64
	items    map[string]crashItem
	sorted   atomic.Pointer[[]string] // names in order, made when first asked for, by several goroutines perhaps
}

// crashItem is a value, or a bucket.
type crashItem struct {
	value  []byte
	bucket *crashBucket
}

func (b *crashBucket) clone() *crashBucket {
	c := &crashBucket{sequence: b.sequence, items: maps.Clone(b.items)}
	for name, it := range c.items {
		if it.bucket != nil {
			c.items[name] = crashItem{bucket: it.bucket.clone()}
		}
	}
	return c
}

// names returns the names in order.
func (b *crashBucket) names() []string {
	if p := b.sorted.Load(); p != nil {
		return *p
	}
	names := slices.Sorted(maps.Keys(b.items))
	b.sorted.Store(&names)
	return names
}

// choose returns one of the names, of buckets or of values; "" when there is none.
func (b *crashBucket) choose(rng *rand.Rand, buckets bool) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(b.items)) {
		if (b.items[name].bucket != nil) == buckets {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[rng.IntN(len(names))]
}

// walk returns the bucket at a path.
func (b *crashBucket) walk(path []string) *crashBucket {
	for _, name := range path {
		b = b.items[name].bucket
	}
	return b
}

// crashOp is one change, in a bucket.
type crashOp struct {
	kind  string
	path  []string
	key   string
	to    string // end of a range
	value []byte
	n     uint64   // sequence
	dst   []string // of a move
}

func (op crashOp) apply(root *crashBucket) {
	b := root.walk(op.path)
	switch op.kind {
	case "put":
		b.items[op.key] = crashItem{value: op.value}
	case "del":
		delete(b.items, op.key)
	case "range":
		maps.DeleteFunc(b.items, func(k string, _ crashItem) bool { return k >= op.key && k < op.to })
	case "create":
		b.items[op.key] = crashItem{bucket: &crashBucket{items: map[string]crashItem{}}}
	case "drop":
		delete(b.items, op.key)
	case "move":
		root.walk(op.dst).items[op.key] = b.items[op.key]
		delete(b.items, op.key)
	case "sequence":
		b.sequence = op.n
	}
	b.sorted.Store(nil)
}

// do makes the change in a transaction.
func (op crashOp) do(tx *Tx) error {
	b := crashWalk(tx, op.path)
	switch op.kind {
	case "put":
		return b.Put([]byte(op.key), op.value)
	case "del":
		return b.Delete([]byte(op.key))
	case "range":
		_, err := b.DeleteRange([]byte(op.key), []byte(op.to))
		return err
	case "create":
		_, err := b.CreateBucket([]byte(op.key))
		return err
	case "drop":
		return b.DeleteBucket([]byte(op.key))
	case "move":
		return b.MoveBucket([]byte(op.key), crashWalk(tx, op.dst))
	case "sequence":
		return b.SetSequence(op.n)
	}
	return fmt.Errorf("no such operation: %s", op.kind)
}

func crashWalk(tx *Tx, path []string) *Bucket {
	b := tx.Root()
	for _, name := range path {
		b = b.Bucket([]byte(name))
	}
	return b
}

// crashProfile makes the changes of a transaction on a content.
type crashProfile func(g *crashGen, k uint64)

// crashGen collects the changes of one transaction and keeps the content behind them.
type crashGen struct {
	*rand.Rand
	now *crashBucket
	ops []crashOp
}

func (g *crashGen) do(op crashOp) {
	g.ops = append(g.ops, op)
	op.apply(g.now)
}

func (g *crashGen) put(path []string, key string, size int) {
	v := make([]byte, size)
	for i := 0; i < size; i += 8 {
		x := g.Uint64()
		for j := i; j < min(i+8, size); j++ {
			v[j] = byte(x >> (8 * (j - i)))
		}
	}
	g.do(crashOp{kind: "put", path: path, key: key, value: v})
}

// crashLine is a timeline: its own transactions behind those of another one.
type crashLine struct {
	base    *crashLine // nil: the empty store
	from    uint64     // the last transaction of base that counts
	seed    uint64
	profile crashProfile
	look    func(tx *Tx) // is shown each transaction that is about to commit; nil: nobody looks

	mu    sync.Mutex
	after []*crashBucket  // transactions from+1 on
	made  [][]crashOp     // what they change
	still map[uint64]bool // transactions of the store's own, which change nothing: shrink's
}

// hold says that transaction k, which is about to commit, changes nothing; or that it is one that does after all.
func (l *crashLine) hold(k uint64, still bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.still == nil {
		l.still = map[uint64]bool{}
	}
	if n := k - l.from - 1; l.still[k] != still && n < uint64(len(l.after)) { // it had been another one, that failed
		l.after, l.made = l.after[:n], l.made[:n]
	}
	l.still[k] = still
}

// newest is the highest transaction that may be there when k is: the store's own ones can follow it.
func (l *crashLine) newest(k uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.still[k+1] {
		k++
	}
	return k
}

// at returns the content after transaction k.
func (l *crashLine) at(k uint64) *crashBucket {
	switch {
	case k <= l.from && l.base != nil:
		return l.base.at(k)
	case k == 0:
		return &crashBucket{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for uint64(len(l.after)) < k-l.from {
		next, before := l.from+uint64(len(l.after))+1, &crashBucket{}
		switch {
		case len(l.after) > 0:
			before = l.after[len(l.after)-1]
		case l.base != nil:
			before = l.base.at(l.from)
		}
		var ops []crashOp
		if !l.still[next] {
			g := l.generate(next, before)
			before, ops = g.now, g.ops
		}
		l.after, l.made = append(l.after, before), append(l.made, ops)
	}
	return l.after[k-l.from-1]
}

// generate makes transaction k.
func (l *crashLine) generate(k uint64, before *crashBucket) *crashGen {
	g := &crashGen{Rand: rand.New(rand.NewPCG(l.seed, k)), now: before.clone()}
	if g.now.items == nil {
		g.now.items = map[string]crashItem{}
	}
	l.profile(g, k)
	g.put(nil, "zz-last", 16) // so that no transaction is without a change
	return g
}

// ops returns the changes of transaction k.
func (l *crashLine) ops(k uint64) []crashOp {
	l.at(k)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made[k-l.from-1]
}

// fork returns a timeline that leaves l behind transaction k.
func (l *crashLine) fork(k, seed uint64) *crashLine {
	return &crashLine{base: l, from: k, seed: seed, profile: crashSmall}
}

// commit makes the next transaction of the timeline. begin is told its number before the commit.
func (l *crashLine) commit(db *DB, d Durability, begin func(k uint64)) (k uint64, err error) {
	err = db.Update(func(tx *Tx) error {
		k = uint64(tx.ID())
		l.hold(k, false)
		tx.SetDurability(d)
		for _, op := range l.ops(k) {
			if err := op.do(tx); err != nil {
				return fmt.Errorf("transaction %d: %s %q: %w", k, op.kind, op.key, err)
			}
		}
		if l.look != nil {
			l.look(tx)
		}
		begin(k)
		return nil
	})
	return k, err
}

// crashVerify reads the store whole, in every way, and compares it with the timeline. It returns the number
// of the transaction that the store holds.
func crashVerify(db *DB, l *crashLine, lo, hi uint64) (k uint64, err error) {
	err = db.View(func(tx *Tx) error {
		k = uint64(tx.ID())
		if k < lo || k > hi {
			return fmt.Errorf("holds transaction %d, must be %d to %d", k, lo, hi)
		}
		return crashCompare(tx, l)
	})
	return k, err
}

// crashCompare compares what a transaction sees with the timeline.
func crashCompare(tx *Tx, l *crashLine) error {
	if err := l.at(uint64(tx.ID())).compare(tx.Root(), "/"); err != nil {
		return fmt.Errorf("transaction %d: %w", tx.ID(), err)
	}
	return nil
}

// compare reads a bucket forward, backward and key by key.
func (want *crashBucket) compare(b *Bucket, at string) error {
	if b == nil {
		return fmt.Errorf("%s is not there", at)
	}
	if b.Len() != len(want.items) || b.Sequence() != want.sequence {
		return fmt.Errorf("%s has %d items and sequence %d, want %d and %d", at, b.Len(), b.Sequence(), len(want.items), want.sequence)
	}
	names := want.names()
	c := b.Cursor()
	i := 0
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := want.same(names, i, k, v); err != nil {
			return fmt.Errorf("%s forward: %w", at, err)
		}
		i++
	}
	if i != len(names) {
		return fmt.Errorf("%s forward ends after %d of %d items", at, i, len(names))
	}
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		i--
		if err := want.same(names, i, k, v); err != nil {
			return fmt.Errorf("%s backward: %w", at, err)
		}
	}
	if i != 0 {
		return fmt.Errorf("%s backward ends before the first %d items", at, i)
	}
	for _, name := range names {
		it := want.items[name]
		v := b.Get([]byte(name))
		if !bytes.Equal(v, it.value) || (v == nil) != (it.value == nil) {
			return fmt.Errorf("%s: get of %q gives %.20x, want %.20x", at, name, v, it.value)
		}
		if it.bucket != nil {
			if err := it.bucket.compare(b.Bucket([]byte(name)), at+name+"/"); err != nil {
				return err
			}
		}
	}
	return nil
}

var errCrashTooMany = errors.New("more items than there should be")

// same compares item i with what a cursor gave.
func (want *crashBucket) same(names []string, i int, k, v []byte) error {
	if i < 0 || i >= len(names) {
		return errCrashTooMany
	}
	it := want.items[names[i]]
	if string(k) != names[i] || !bytes.Equal(v, it.value) || (v == nil) != (it.value == nil) {
		return fmt.Errorf("item %d is %q=%.20x, want %q=%.20x", i, k, v, names[i], it.value)
	}
	return nil
}
