package main

import (
	"errors"
	"fmt"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// A batcher puts records into a bucket in transactions that are bounded in bytes: few
// enough to be fast, and none so large that an error loses much.
type batcher struct {
	db      *folio.DB
	path    [][]byte // of the bucket, which is made if it is not there
	limit   int64    // bytes of keys and values a transaction
	tx      *folio.Tx
	to      *folio.Bucket // in tx
	pending count         // in tx
	stored  count         // committed
}

// A count is a number of records and their bytes, keys and values.
type count struct {
	records int
	bytes   int64
}

func (b *batcher) put(key, value []byte) error {
	if err := b.begin(); err != nil {
		return err
	}
	if err := putIn(b.to, key, value); err != nil {
		return err
	}
	return b.added(len(key) + len(value))
}

// makeBucket makes an empty bucket in the bucket.
func (b *batcher) makeBucket(name []byte) error {
	if err := b.begin(); err != nil {
		return err
	}
	_, err := b.to.CreateBucketIfNotExists(name)
	switch {
	case errors.Is(err, folio.ErrIncompatibleValue):
		return usagef(`"%s" is a key with a value, not a bucket`, page.Escape(name))
	case err != nil:
		return keyError(err, name)
	}
	return b.added(len(name))
}

// added counts a record, and commits when the transaction is full.
func (b *batcher) added(bytes int) error {
	b.pending.records++
	b.pending.bytes += int64(bytes)
	if b.pending.bytes < b.limit {
		return nil
	}
	return b.commit()
}

func (b *batcher) begin() (err error) {
	if b.tx != nil {
		return nil
	}
	if b.tx, err = b.db.Begin(true); err != nil {
		return err
	}
	b.to, err = makeBucket(b.tx, b.path)
	return err
}

func (b *batcher) commit() error {
	tx := b.tx
	b.tx = nil
	if err := tx.Commit(); err != nil {
		return err
	}
	b.stored.records += b.pending.records
	b.stored.bytes += b.pending.bytes
	b.pending = count{}
	return nil
}

// end commits what is left, nothing too, so that the bucket is there. After an error
// it drops that, and adds to the error what is in the store.
func (b *batcher) end(err error, noun string) error {
	if err == nil {
		if err = b.begin(); err == nil {
			err = b.commit()
		}
	}
	if b.tx != nil {
		err = errors.Join(err, b.tx.Rollback())
	}
	if err != nil && b.stored.records > 0 {
		err = fmt.Errorf("%w; %s before that are in the store", err, plural(b.stored.records, noun))
	}
	return err
}
