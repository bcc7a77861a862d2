package fuzz

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
)

// A bucket is the model of one bucket: sorted slices, the plainest thing that
// answers order, rank and count. The buckets of one transaction form a tree of
// their own, so that a pointer serves as the model of a handle; only the items
// are shared with older states, until the first change.
type bucket struct {
	parent *bucket
	name   string
	items  []item // ascending by key
	shared bool   // items belongs to an older state too: copy before a change
	kids   map[string]*bucket
	seq    uint64
	dead   bool // deleted in this transaction: handles of it must not work
}

// An item is a key with a value, or the name of a nested bucket.
type item struct {
	key    string
	value  value
	bucket bool
}

// A value is the recipe of a value's bytes: cheap to keep, to print and to
// compare, at any length.
type value struct {
	n    int
	seed uint32
}

// append adds the bytes of v to dst.
func (v value) append(dst []byte) []byte {
	dst = slices.Grow(dst, v.n)
	x := v.state()
	for i := 0; i < v.n; i += 8 {
		x = next(x)
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], x)
		dst = append(dst, word[:min(8, v.n-i)]...)
	}
	return dst
}

// equal reports whether b holds the bytes of v.
func (v value) equal(b []byte) bool {
	if len(b) != v.n {
		return false
	}
	x := v.state()
	for len(b) >= 8 {
		x = next(x)
		if binary.LittleEndian.Uint64(b) != x {
			return false
		}
		b = b[8:]
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], next(x))
	return bytes.Equal(b, word[:len(b)])
}

func (v value) state() uint64 {
	return (uint64(v.seed)+1)*0x9e3779b97f4a7c15 ^ uint64(v.n)
}

// next is xorshift64: its state must not be 0, and state() never is for the
// lengths that a value can have.
func next(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
}

func newBucket(parent *bucket, name string) *bucket {
	return &bucket{parent: parent, name: name, kids: map[string]*bucket{}}
}

// clone returns a tree that can be changed while b stays as it is.
func (b *bucket) clone(parent *bucket) *bucket {
	b.shared = true
	c := &bucket{parent: parent, name: b.name, items: b.items, shared: true, seq: b.seq}
	c.kids = make(map[string]*bucket, len(b.kids))
	for name, kid := range b.kids {
		c.kids[name] = kid.clone(c)
	}
	return c
}

// own makes the items b's alone.
func (b *bucket) own() {
	if b.shared {
		b.items = slices.Clone(b.items)
		b.shared = false
	}
}

// rank returns the number of items below key.
func (b *bucket) rank(key []byte) int {
	return sort.Search(len(b.items), func(i int) bool { return b.items[i].key >= string(key) })
}

// above returns the number of items up to key, key itself included.
func (b *bucket) above(key []byte) int {
	i := b.rank(key)
	if i < len(b.items) && b.items[i].key == string(key) {
		i++
	}
	return i
}

// find returns the item of key, nil if there is none.
func (b *bucket) find(key []byte) *item {
	if i := b.rank(key); i < len(b.items) && b.items[i].key == string(key) {
		return &b.items[i]
	}
	return nil
}

// span returns the indexes of the items in [from, to); nil is no bound.
func (b *bucket) span(from, to []byte) (lo, hi int) {
	hi = len(b.items)
	if from != nil {
		lo = b.rank(from)
	}
	if to != nil {
		hi = b.rank(to)
	}
	return lo, max(lo, hi)
}

func (b *bucket) put(it item) {
	b.own()
	i := b.rank([]byte(it.key))
	if i < len(b.items) && b.items[i].key == it.key {
		b.items[i] = it
		return
	}
	b.items = slices.Insert(b.items, i, it)
}

// cut removes the items with indexes in [lo, hi), buckets among them with all
// that they hold.
func (b *bucket) cut(lo, hi int) {
	b.own()
	for _, it := range b.items[lo:hi] {
		if it.bucket {
			b.kids[it.key].kill()
			delete(b.kids, it.key)
		}
	}
	b.items = slices.Delete(b.items, lo, hi)
}

func (b *bucket) kill() {
	b.dead = true
	for _, kid := range b.kids {
		kid.kill()
	}
}

func (b *bucket) createBucket(name []byte) *bucket {
	kid := newBucket(b, string(name))
	b.kids[kid.name] = kid
	b.put(item{key: kid.name, bucket: true})
	return kid
}

// move hangs the bucket called name below dst; handles keep pointing at it.
func (b *bucket) move(name []byte, dst *bucket) {
	kid := b.kids[string(name)]
	delete(b.kids, kid.name)
	i := b.rank(name)
	b.own()
	b.items = slices.Delete(b.items, i, i+1)
	kid.parent = dst
	dst.kids[kid.name] = kid
	dst.put(item{key: kid.name, bucket: true})
}

// under reports whether b is a or lies below a.
func (b *bucket) under(a *bucket) bool {
	for ; b != nil; b = b.parent {
		if b == a {
			return true
		}
	}
	return false
}

// all returns the buckets of the tree, parents first, in the order of their
// names: the generator's choices must not depend on the order of a map.
func (b *bucket) all() []*bucket {
	found := []*bucket{b}
	for i := 0; i < len(found); i++ {
		names := make([]string, 0, len(found[i].kids))
		for name := range found[i].kids {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			found = append(found, found[i].kids[name])
		}
	}
	return found
}

// path returns the names that lead to b.
func (b *bucket) path() []string {
	var names []string
	for ; b.parent != nil; b = b.parent {
		names = append(names, b.name)
	}
	slices.Reverse(names)
	return names
}

// size counts the items of the whole tree.
func (b *bucket) size() int {
	n := len(b.items)
	for _, kid := range b.kids {
		n += kid.size()
	}
	return n
}

// successor returns the smallest string that is above every one with the given
// prefix, nil if there is none.
func successor(prefix []byte) []byte {
	up := slices.Clone(prefix)
	for len(up) > 0 {
		last := len(up) - 1
		if up[last]++; up[last] != 0 {
			return up
		}
		up = up[:last]
	}
	return nil
}
