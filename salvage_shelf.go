package folio

import (
	"errors"
	"fmt"
)

// A shelf is the new store that Salvage fills: a cursor in its buckets, and a transaction that is committed and
// begun anew when it has grown, so that the memory that it takes is bounded.
type shelf struct {
	db    *DB
	tx    *Tx
	path  [][]byte
	stack []*Bucket // of the path; the first is the root

	pending, limit        int64 // bytes in the transaction, about
	items, buckets, bytes uint64
}

// A bucket that a transaction has opened stays on its heap.
const bucketWeight = 1 << 10

func newShelf(db *DB) (*shelf, error) {
	o := &shelf{db: db, limit: db.opts.MemoryLimit}
	return o, o.begin()
}

func (o *shelf) begin() error {
	tx, err := o.db.Begin(true)
	if err != nil {
		return err
	}
	tx.bulk = true // the store comes into being at the end: there is no use in a log
	o.tx, o.pending = tx, 0
	o.stack = append(o.stack[:0], tx.Root())
	return nil
}

// top is the bucket where the cursor is.
func (o *shelf) top() *Bucket { return o.stack[len(o.stack)-1] }

// put stores an item where the cursor is.
func (o *shelf) put(key, value []byte) error {
	if err := o.top().Put(key, value); err != nil {
		return err
	}
	o.items++
	o.bytes += uint64(len(key)) + uint64(len(value))
	o.pending += int64(len(key)) + int64(len(value)) + 64
	return o.turn()
}

// enter goes into a bucket below, which it makes if it is not there.
func (o *shelf) enter(name []byte) (made bool, err error) {
	at := o.top()
	b, err := at.lookup(name)
	if err != nil {
		return false, err
	}
	if b == nil {
		if b, err = at.CreateBucket(name); err != nil {
			return false, err
		}
		made = true
		o.buckets++
	}
	o.path, o.stack = append(o.path, name), append(o.stack, b)
	o.pending += bucketWeight
	return made, nil
}

// leave goes back to the bucket above.
func (o *shelf) leave() {
	o.path, o.stack = o.path[:len(o.path)-1], o.stack[:len(o.stack)-1]
}

// move goes to a bucket by its path, and makes what is not there of it. When it cannot, the cursor is on the way.
func (o *shelf) move(path [][]byte) (made bool, err error) {
	o.path, o.stack = o.path[:0], o.stack[:1]
	for _, name := range path {
		new, err := o.enter(name)
		if err != nil {
			return made, err
		}
		made = made || new
	}
	return made, nil
}

// turn begins a new transaction when this one has grown.
func (o *shelf) turn() error {
	if o.pending < o.limit {
		return nil
	}
	return o.commit()
}

// commit begins a new transaction, with the cursor where it is.
func (o *shelf) commit() error {
	if err := o.tx.Commit(); err != nil {
		return err
	}
	if err := o.begin(); err != nil {
		return err
	}
	at := o.tx.Root()
	for _, name := range o.path {
		b, err := at.lookup(name)
		if err == nil && b == nil {
			err = fmt.Errorf("folio: bucket of the new store: %w", ErrBucketNotFound)
		}
		if err != nil {
			return err
		}
		at = b
		o.stack = append(o.stack, b)
	}
	return nil
}

// refused sorts an error of the new store: true if it is about the item that was to be stored, which a sound store
// cannot hold, and the next may be tried.
func (o *shelf) refused(err error) bool {
	if o.tx.failed != nil {
		return false
	}
	for _, use := range []error{ErrBucketNotFound, ErrBucketExists, ErrBucketNameRequired, ErrKeyRequired, ErrKeyTooLarge,
		ErrValueTooLarge, ErrIncompatibleValue, ErrSameBuckets} {
		if errors.Is(err, use) {
			return true
		}
	}
	return false
}
