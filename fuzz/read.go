package fuzz

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/foliodb/folio"
)

// read runs an op that only looks at bucket b, whose model is m.
func (t *txn) read(o op, b *folio.Bucket, m *bucket) error {
	switch o.kind {
	case kGet:
		got := b.Get(o.k)
		t.keep(got, "Get")
		return sameValue(got, m.find(o.k))
	case kHold:
		t.held[o.n] = handle{b, m}
		return nil
	case kSequence:
		return same("sequence", b.Sequence(), m.seq)
	case kLen:
		return same("items", b.Len(), len(m.items))
	case kCount:
		lo, hi := m.span(o.k, o.l)
		return same("count", b.Count(o.k, o.l), hi-lo)
	case kRank:
		return same("rank", b.Rank(o.k), m.rank(o.k))
	case kAt:
		k, v := b.At(o.n)
		t.keep(k, "At")
		if o.n < 0 || o.n >= len(m.items) {
			return sameItem(k, v, nil)
		}
		return sameItem(k, v, &m.items[o.n])
	case kAll:
		return sameItems(b.All(), m.items)
	case kBackward:
		return sameItems(b.Backward(), reversed(m.items))
	case kRange:
		lo, hi := m.span(o.k, o.l)
		return sameItems(b.Range(o.k, o.l), m.items[lo:hi])
	case kPrefix:
		lo, hi := m.span(o.k, successor(o.k))
		return sameItems(b.Prefix(o.k), m.items[lo:hi])
	case kForEach:
		return sameItems(fromForEach(b.ForEach), m.items)
	case kForEachBucket:
		return forEachBucket(b, m)
	case kBucketStats:
		b.Stats()
		return same("writable", b.Writable() && b.Tx() == t.tx, t.writable)
	}
	panic("fuzz: operation without an effect: " + o.String())
}

func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s %v, want %v", what, got, want)
	}
	return nil
}

// sameValue compares what Get gave with an item of the model: nil for none and
// for a bucket, an empty slice for an empty value.
func sameValue(got []byte, want *item) error {
	switch {
	case want == nil || want.bucket:
		if got != nil {
			return fmt.Errorf("a value of %d bytes, want nil", len(got))
		}
	case got == nil:
		return errors.New("nil, want a value")
	case !want.value.equal(got):
		return fmt.Errorf("another value, %d bytes, want %d", len(got), want.value.n)
	}
	return nil
}

// sameItem compares a key and value with an item, nil for none.
func sameItem(k, v []byte, want *item) error {
	switch {
	case want == nil && k == nil && v == nil:
		return nil
	case want == nil:
		return fmt.Errorf("key %s, want none", quote(k))
	case k == nil || string(k) != want.key:
		return fmt.Errorf("key %s, want %s", quote(k), quote([]byte(want.key)))
	}
	if err := sameValue(v, want); err != nil {
		return fmt.Errorf("key %s: %w", quote(k), err)
	}
	return nil
}

// sameItems compares everything that seq gives with the items.
func sameItems(seq iter.Seq2[[]byte, []byte], items []item) error {
	i := 0
	for k, v := range seq {
		if i == len(items) {
			return fmt.Errorf("key %s behind the last of %d items", quote(k), i)
		}
		if err := sameItem(k, v, &items[i]); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
		i++
	}
	return same("items seen", i, len(items))
}

// fromForEach makes an iterator of a method that calls a function for each item.
func fromForEach(forEach func(func(k, v []byte) error) error) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		err := forEach(func(k, v []byte) error {
			if !yield(k, v) {
				return errBoom
			}
			return nil
		})
		if err != nil && err != errBoom {
			panic(err)
		}
	}
}

func reversed(items []item) []item {
	items = slices.Clone(items)
	slices.Reverse(items)
	return items
}

func forEachBucket(b *folio.Bucket, m *bucket) error {
	var got, want []string
	if err := b.ForEachBucket(func(k []byte) error { got = append(got, string(k)); return nil }); err != nil {
		return err
	}
	for _, it := range m.items {
		if it.bucket {
			want = append(want, it.key)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("buckets %q, want %q", got, want)
	}
	return nil
}

// verify compares all that the transaction sees with its model.
func (t *txn) verify() error {
	if err := t.checkKept(); err != nil {
		return err
	}
	return compare(t.tx.Root(), t.root)
}

// compare compares a bucket and everything below it with the model m: by scans
// both ways, by a cursor, by key and by number.
func compare(b *folio.Bucket, m *bucket) error {
	err := errors.Join(
		same("sequence", b.Sequence(), m.seq),
		same("items", b.Len(), len(m.items)),
		sameItems(b.All(), m.items),
		sameItems(b.Backward(), reversed(m.items)),
		comparePoints(b, m),
		forEachBucket(b, m))
	if err != nil {
		return fmt.Errorf("bucket %s: %w", quotePath(m.path()), err)
	}
	for _, it := range m.items {
		if !it.bucket {
			continue
		}
		kid := b.Bucket([]byte(it.key))
		if kid == nil {
			return fmt.Errorf("bucket %s: nested bucket %s is not there", quotePath(m.path()), quote([]byte(it.key)))
		}
		if err := compare(kid, m.kids[it.key]); err != nil {
			return err
		}
	}
	return nil
}

// comparePoints looks up a few of the items in every way there is.
func comparePoints(b *folio.Bucket, m *bucket) error {
	c := b.Cursor()
	for i := 0; i < len(m.items); i += 1 + len(m.items)/8 {
		it := &m.items[i]
		key := []byte(it.key)
		k, v := b.At(i)
		err := errors.Join(sameItem(k, v, it), sameValue(b.Get(key), it), same("rank", b.Rank(key), i))
		k, v = c.Seek(key)
		if err = errors.Join(err, sameItem(k, v, it)); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}
