package folio

import (
	"errors"
	"time"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
)

// A copy-on-write tree leaves holes all over its file, and a few pages near the end keep it long. shrink moves these
// into the holes, so that the next checkpoint can cut the end off. To move a page is to touch it: the
// transactions that do so change no item, so their log records are empty.

// shrinkPart is the part of the file that has to be free before pages are moved: one in so many. A tree in steady state
// needs about as much to breathe, see retains.
const shrinkPart = 8

// How many pages one transaction moves, while writers wait. To move one took 8 to 40 microseconds, and before that each transaction walks over all branches, of which
// it is taken to look at twenty in that time: it moves as many as take as long as the walk, but not so few that it is about the commit, nor so many that it takes more than some ten milliseconds.
const (
	minShrinkMoves = 128
	maxShrinkMoves = 1024
	visitsPerMove  = 20
)

// shrinkMoves is how many pages the next transaction moves if the one before looked at so many. With large pages so many might not fit the heap: nothing is spilled while
// pages move.
func (db *DB) shrinkMoves(visits int) int {
	return int(min(int64(max(minShrinkMoves, min(visits/visitsPerMove, maxShrinkMoves))), db.opts.MemoryLimit/2/int64(db.pageSize)))
}

// shrinkRest is how much longer than it took to move pages writers are left alone afterwards, if any has come between the last two transactions.
const shrinkRest = 2

// maxShrinkDepth bounds the nesting to which buckets are visited; deeper ones stay where they are.
const maxShrinkDepth = 64

// shrink makes the file shorter if much of it is free. It follows a checkpoint, and like that never waits for a writer who
// does not come to an end: it may be the caller's own transaction. Not being able to is no error, unless
// the store is poisoned by it. closes: Close calls it, in which nobody else can begin a transaction.
func (db *DB) shrink(closes bool) error {
	db.checkpointing.Lock() // one that has begun meanwhile keeps pages from being used
	db.reclaim()
	db.checkpointing.Unlock()
	limit, ok := db.shrinkable()
	if !ok {
		return nil
	}
	db.groups.mu.Lock()
	db.groups.churn = 0
	db.groups.mu.Unlock()
	// The first transaction has writers wait until it has applied the backlog: what is there by now is applied before.
	if err := db.applyAcknowledged(); err != nil {
		if !errors.Is(err, ErrDatabaseNotOpen) {
			db.noteBackground(outer(err))
		}
		return db.poisoned()
	}
	moved := false
	// What nested buckets have to say of their moves may come to lie high again, one level of nesting further up.
	rounds := maxShrinkDepth + int(min(db.free.End(), 1<<30))/(db.shrinkMoves(0)/2)
	visits, last := 0, TxID(0)
	for more := true; more && rounds > 0; rounds-- {
		tx, err := db.beginIfIdle(closes)
		if tx == nil && err == nil {
			break
		}
		begun, beside := time.Now(), false
		if err == nil {
			beside = last > 0 && tx.ID() > last+1
			last = tx.ID()
			more, visits, err = tx.moveDown(limit, db.shrinkMoves(visits))
		}
		if err != nil {
			if !errors.Is(err, ErrDatabaseNotOpen) {
				db.noteBackground(err)
			}
			break
		}
		moved = moved || more
		if more && beside {
			time.Sleep(shrinkRest * time.Since(begun))
		}
	}
	if err := db.poisoned(); err != nil || !moved {
		return err
	}
	return db.checkpointAll()
}

// beginIfIdle begins a write transaction, or returns none if there is one that does not end within some milliseconds.
func (db *DB) beginIfIdle(closes bool) (*Tx, error) {
	for range 20 {
		if db.writer.TryLock() {
			return db.beginLocked(closes)
		}
		time.Sleep(time.Millisecond)
	}
	return nil, nil
}

// shrinkable returns the page below which all pages should fit, with some to spare for the branches that
// move along, and whether it is worth while. Looking for the pages at the end costs a walk over
// all branches, so at least a quarter as many pages have to have died, or been given back, since the last time.
func (db *DB) shrinkable() (limit page.ID, ok bool) {
	if db.accompanied() {
		return 0, false // it could not be cut
	}
	s := db.free.Stats()
	if s.Aside > 0 || s.Retained > s.Free/2 {
		return 0, false // a checkpoint is under way, or a reader keeps what would be moved
	}
	gain := db.gain(s.End, s.Free)
	if gain == 0 {
		return 0, false
	}
	return s.End - page.ID(gain), true
}

// gain returns how many pages the file could be cut by when so many are free; 0: too few, or too soon.
func (db *DB) gain(end page.ID, free uint64) uint64 {
	spare := free/16 + 16
	if free < uint64(end)/shrinkPart || free < spare+uint64(db.cutThreshold()) {
		return 0
	}
	db.groups.mu.Lock()
	defer db.groups.mu.Unlock()
	if db.groups.churn < (uint64(end)-min(free, uint64(end)))/4 {
		return 0
	}
	return free - spare
}

// shrinkBeforeClose checkpoints and shrinks a file that is worth it. Close calls it when all other transactions have ended.
func (db *DB) shrinkBeforeClose() {
	if db.opts.ReadOnly || db.volatile || db.poisoned() != nil {
		return
	}
	s := db.free.Stats()
	if db.gain(s.End, s.Free+s.Retained) == 0 {
		return
	}
	if db.checkpointAll() == nil { // Close tries again, and reports
		db.shrink(true)
	}
}

var errNothingMoved = errors.New("folio: nothing moved")

// moveDown moves some of the pages at limit and above to below it, and commits. It reports whether there is more to be done, and how many pages it looked at.
func (tx *Tx) moveDown(limit page.ID, moves int) (more bool, visits int, err error) {
	db := tx.db
	most := 4 * int(min(db.free.End(), 1<<28))
	r := &btree.Relocation{Limit: limit, Moves: moves, Visits: most}
	err = tx.update(func(tx *Tx) error {
		if err := tx.enterTree(); err != nil {
			return err
		}
		if err := tx.relocate(r); err != nil {
			return err
		}
		if r.Moves == moves {
			return errNothingMoved
		}
		tx.changed = true
		if db.opts.moving != nil {
			db.opts.moving(tx.id)
		}
		return nil
	})
	visits = most - r.Visits
	if errors.Is(err, errNothingMoved) {
		return false, visits, nil
	}
	return err == nil, visits, err
}

// relocate moves pages of all buckets.
func (tx *Tx) relocate(r *btree.Relocation) error {
	db := tx.db
	db.free.Confine(r.Limit)
	db.pager.confined = true
	defer func() {
		db.pager.confined = false
		db.free.Confine(0)
	}()
	err := tx.root.relocate(r, maxShrinkDepth)
	if errors.Is(err, btree.ErrNoRoom) {
		return nil
	}
	return err
}

// relocate moves pages of the bucket, and of those inside it.
func (b *Bucket) relocate(r *btree.Relocation, depth int) error {
	if depth == 0 {
		return nil
	}
	before := b.header()
	outer := r.Bucket
	r.Bucket = func(name, value []byte) error {
		c := b.child(name)
		if c == nil {
			c = b.adopt(name, value)
		}
		err := c.relocate(r, depth-1)
		if !c.dirty && len(c.order) == 0 {
			b.delist(c) // handles of all buckets there are would take much memory
		}
		return err
	}
	err := b.tree.Relocate(r)
	r.Bucket = outer
	if b.header() != before {
		b.dirty = true
	}
	return err
}
