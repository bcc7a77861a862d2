package btree

import (
	"bytes"
	"math"

	"github.com/foliodb/folio/page"
)

// Len returns the number of items.
func (t *Tree) Len() uint64 { return t.items }

// Rank returns the number of items whose key is below key, which need not be there.
func (t *Tree) Rank(key []byte) (uint64, error) {
	if t.root == 0 {
		if t.image == nil {
			return 0, nil
		}
		i, _, err := t.searchLeaf(t.image, key)
		return uint64(i), err
	}
	var n uint64
	id, born := t.root, page.TxID(math.MaxUint64)
	for level := int(t.level); ; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return 0, err
		}
		if level == 0 {
			i, _, err := t.searchLeaf(page.Leaf(p), key)
			return n + uint64(i), err
		}
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return 0, err
		}
		n += b.ItemsBefore(i)
		id, born = b.Child(i), page.BornOf(p)
	}
}

// Count returns the number of items from key from up to, but not including, key to; nil is no bound.
func (t *Tree) Count(from, to []byte) (uint64, error) {
	if from != nil && to != nil && bytes.Compare(from, to) >= 0 {
		return 0, nil
	}
	lo, hi := uint64(0), t.items
	var err error
	if from != nil {
		if lo, err = t.Rank(from); err != nil {
			return 0, err
		}
	}
	if to != nil {
		if hi, err = t.Rank(to); err != nil {
			return 0, err
		}
	}
	return max(hi, lo) - lo, nil
}

// At returns item i in key order, counted from 0. Beyond the last one found is false. Key and value are valid and
// unchanged until the transaction ends.
func (t *Tree) At(i uint64) (key, value []byte, bucket, found bool, err error) {
	if i >= t.items {
		return nil, nil, false, false, nil
	}
	l, born := t.image, page.TxID(math.MaxUint64)
	if id := t.root; id != 0 {
		for level := int(t.level); ; level-- {
			p, err := t.load(id, level, born)
			if err != nil {
				return nil, nil, false, false, err
			}
			if level == 0 {
				l = page.Leaf(p)
				break
			}
			b := page.Branch(p)
			var child int
			child, i = b.Locate(i)
			id, born = b.Child(child), page.BornOf(p)
		}
	}
	if i >= uint64(l.Count()) {
		return nil, nil, false, false, corrupt(page.IDOf(l), 24, 3, "fewer items than its parent counts")
	}
	key, value, bucket, err = t.item(l, int(i), true)
	return key, value, bucket, err == nil, err
}
