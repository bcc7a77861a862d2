package page

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// Keys are ordered as their leads are, as far as both go, whatever the prefixes of their leaves, and however short keys are. First leads were compared with zeros where
// they end, so that of two keys that begin alike the one in the leaf with the shorter prefix was thought the lesser.
func TestLead(t *testing.T) {
	f, _ := newTestFile(t, 64)
	rng := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		leaf Leaf
		i    int
	}
	var all []entry
	for id := FirstID; id < 64; id++ {
		common := make([]byte, rng.IntN(7))
		for i := range common {
			common[i] = byte(rng.IntN(3))
		}
		var keys [][]byte
		for range 1 + rng.IntN(8) {
			key := slices.Clone(common)
			for range rng.IntN(9) {
				key = append(key, byte(rng.IntN(3)))
			}
			if len(key) > 0 {
				keys = append(keys, key)
			}
		}
		slices.SortFunc(keys, bytes.Compare)
		keys = slices.CompactFunc(keys, bytes.Equal)
		p := make([]byte, ps)
		l := InitLeaf(p, id, TxID(id))
		for i, key := range keys {
			l.Insert(i, Entry{Key: key, KeyLen: len(key)})
		}
		fresh := make([]byte, ps)
		if l.CompactInto(fresh); id%3 == 0 { // with the best prefix
			copy(fresh, p)
		}
		Seal(fresh)
		must(t, f.Write(id, fresh))
		if id%2 == 0 {
			f.Trust(fresh)
		}
	}
	v := viewOf(t, f)
	short, told, untold := 0, 0, 0
	for id := FirstID; id < 64; id++ {
		p, err := v.Page(id)
		must(t, err)
		l := Leaf(p)
		for i := range l.Count() {
			all = append(all, entry{l, i})
			switch _, n := v.Lead(l, i); {
			case n == 0 && prefixOf(l) > 4:
				untold++
			case n != prefixOf(l)+4:
				t.Errorf("page %d, prefix %d: %d bytes", id, prefixOf(l), n)
			}
			if len(l.Key(i)) < 8 {
				short++
			}
		}
	}
	for _, a := range all {
		for _, b := range all {
			x, n := v.Lead(a.leaf, a.i)
			y, m := v.Lead(b.leaf, b.i)
			rest := 64 - 8*min(n, m)
			if x, y = x>>rest, y>>rest; x == y {
				continue
			}
			told++
			if want := bytes.Compare(a.leaf.Key(a.i), b.leaf.Key(b.i)); want < 0 != (x < y) {
				t.Fatalf("%x and %x have leads %x and %x", a.leaf.Key(a.i), b.leaf.Key(b.i), x, y)
			}
		}
	}
	if short == 0 || told == 0 || untold == 0 {
		t.Errorf("%d short keys, %d told, %d without", short, told, untold)
	}

	// A leaf that is not the one that the mark is of says nothing.
	other := slices.Clone([]byte(all[0].leaf))
	SetBorn(other, BornOf(other)+1)
	if _, n := v.Lead(other, 0); n > 0 {
		t.Error("a lead is told by another page's mark")
	}
	SetID(other, 64)
	if _, n := v.Lead(other, 0); n > 0 {
		t.Error("a lead is told of a page beyond the view")
	}
}

// A leaf filled in order lies backward in memory; its compact copy lies forward.
func TestOrdered(t *testing.T) {
	l := InitLeaf(make([]byte, ps), 5, 1)
	for i := range 3 {
		if want := i < 2; l.Ordered() != want {
			t.Errorf("%d entries: ordered: %v", i, l.Ordered())
		}
		l.Insert(i, Entry{Key: []byte{byte(i)}, KeyLen: 1})
	}
	fresh := make([]byte, ps)
	l.CompactInto(fresh)
	if !Leaf(fresh).Ordered() {
		t.Error("a compact copy is out of order")
	}
}
