package folio

import (
	"errors"

	"github.com/foliodb/folio/internal/vfs"
)

// OpenMemory opens a store without a file: everything is gone when it is closed. It does what a store in a file
// does; commits cost no sync, since there is nothing to lose; Sync does nothing, and Checkpoint only
// gives memory back. opts may be nil; LockTimeout means nothing here, and ReadOnly and Private are errors. The
// pages lie outside the Go heap: in anonymous memory on Linux, in a temporary file without a name
// elsewhere.
func OpenMemory(opts *Options) (*DB, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Private {
		return nil, errors.New("folio: Options.Private: a store in memory is nobody else's anyway")
	}
	if o.ReadOnly {
		return nil, errors.New("folio: Options.ReadOnly: a new store in memory has nothing to read")
	}
	db := newDB("", o)
	db.memory, db.volatile = true, true
	if err := db.openMemory(); err != nil {
		db.release()
		return nil, outer(err)
	}
	return db, nil
}

func (db *DB) openMemory() (err error) {
	if db.file, err = vfs.Anonymous(); err != nil {
		return err
	}
	if err := db.format(db.file); err != nil {
		return err
	}
	return db.start()
}

// joinMemory is join without a log: the commit is acknowledged at once.
func (tx *Tx) joinMemory() error {
	db := tx.db
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	err := db.adopt(tx)
	db.acknowledgeHead()
	return err
}

// giveBack cuts the free end of the file off, which gives the memory back.
func (db *DB) giveBack() error {
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	if err := db.publish(); err != nil {
		return err
	}
	db.reclaim()
	_, err := db.free.Trim(db.cutThreshold(), db.data.Truncate)
	return outer(err)
}
