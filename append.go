package folio

// A transaction that loads keys in ascending order, all above those that the bucket has, gains nothing by being put off: there is nothing
// to sort, each leaf is filled once and left, and no other commit's operations share it. So when it is large it goes over to the tree and commits in bulk.
// Its leaves fly while it goes on (flight.go), and it writes nothing to the log: a load is written once instead of twice.

// appendFrom is how many bytes of operations a transaction has made in ascending order before it does so. A bulk commit is a checkpoint,
// which costs several syncs, and nobody else's commit shares them.
func (db *DB) appendFrom() int64 { return min(1<<20, db.bulkLimit()/4) }

// startAppending takes a deferred transaction, all of whose puts so far have ascended, over to the tree if it is to append. It reports whether it has.
func (b *Bucket) startAppending(key []byte) (done bool, err error) {
	tx := b.tx
	if int64(len(tx.ops)) < tx.db.appendFrom() || tx.durability == Relaxed || tx.selected != b {
		return false, nil
	}
	tx.rising = false
	// The backlog may hold higher keys than the snapshot, and not all before this one need be above: then the transaction goes on in the tree, and
	// no harm is done.
	above, err := b.tree.Above(key)
	if err != nil {
		return false, tx.doom(err)
	}
	if !above {
		return false, nil
	}
	if err := tx.enterTree(); err != nil {
		return false, err
	}
	if above, err = b.tree.Above(key); err != nil {
		return false, tx.doom(err)
	}
	if above {
		tx.goBulk()
	}
	return true, nil
}

// appends reports whether a bulk transaction is to put key at once, behind all others.
func (b *Bucket) appends(key []byte) (bool, error) {
	above, err := b.tree.Above(key)
	if err != nil {
		return false, b.tx.doom(err)
	}
	if p := &b.tx.db.pager; above {
		p.sorted, p.appending = true, true
	}
	return above, nil
}
