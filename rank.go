package folio

import "runtime/debug"

// Len returns the number of items in the bucket, a nested bucket being one. It costs nothing: the
// tree carries the count.
func (b *Bucket) Len() int {
	b.use("Len")
	return clampInt(b.tree.Len())
}

// Count returns the number of items from the key from up to, and without, the key to; nil is no bound. It takes
// two descents of the tree, however many items there are.
func (b *Bucket) Count(from, to []byte) int {
	b.use("Count")
	defer b.tx.catchUnmanaged(debug.SetPanicOnFault(true))
	n, err := b.tree.Count(from, to)
	if err != nil {
		b.tx.spoil(err)
	}
	return clampInt(n)
}

// Rank returns the number of items below key, whether key is there or not.
func (b *Bucket) Rank(key []byte) int {
	b.use("Rank")
	defer b.tx.catchUnmanaged(debug.SetPanicOnFault(true))
	n, err := b.tree.Rank(key)
	if err != nil {
		b.tx.spoil(err)
	}
	return clampInt(n)
}

// At returns item i in order, counted from 0; nil, nil out of range. A nested bucket has a nil value.
func (b *Bucket) At(i int) (k, v []byte) {
	b.use("At")
	if i < 0 {
		return nil, nil
	}
	defer b.tx.catchUnmanaged(debug.SetPanicOnFault(true))
	k, v, bucket, found, err := b.tree.At(uint64(i))
	if err != nil {
		b.tx.spoil(err)
	}
	if !found || err != nil {
		return nil, nil
	}
	if bucket {
		v = nil
	}
	return k, v
}
