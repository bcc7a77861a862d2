package folio

import (
	"errors"
	"math"
	"syscall"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

// promise sees to it that the data file has room for the pages that applying the backlog, with some operations more, will take:
// an acknowledged commit must not meet a full disk. Random keys come to u(1-exp(-n/u)) of u leaves after n times; n
// counts how often an operation was about another leaf than the one before, so ascending keys take little; and what is applied
// in more than one unit takes its leaves twice, since what was superseded is free only when nobody looks at it; a quarter more is for splits and branches. Where leaves are full to the brim it may be too little: then the file has to grow when the
// backlog is applied, and if it cannot, readers get the error until there is space. Nothing is lost by that.
//
// What is asked for counts as part of the backlog, from before room is made for it: who applies the backlog
// meanwhile leaves that much of the promise. It is taken back on an error. A little more is promised at a time, so that not every commit has
// to ask. groups.mu is held, but not while the file grows.
func (db *DB) promise(leaves, size int) error {
	g := &db.groups
	l := &g.late
	l.add(leaves, size)
	if l.leaves <= l.coveredLeaves && l.bytes <= l.coveredBytes {
		return nil
	}
	ahead, more := l.leaves/promisePart, l.bytes/promisePart
	for {
		covered, bytes := l.leaves+ahead, l.bytes+more
		need, round := db.needed(covered, bytes), l.rounds
		g.mu.Unlock()
		most := db.mostPages()
		if most < math.MaxUint32 || db.full.Load() {
			need += db.sparePages() // who only deletes, and needs these, goes to the tree
		}
		err := db.free.Promise(need, most)
		g.mu.Lock()
		switch {
		case err == nil && l.rounds != round: // a unit has begun or ended: it may be another promise by now
		case err == nil:
			l.coveredLeaves, l.coveredBytes = covered, bytes
			return nil
		case ahead+int(more) == 0 || !isFull(err):
			l.add(-leaves, -size)
			return err
		default:
			ahead, more = 0, 0
		}
	}
}

// promisePart is how much more than is needed is promised at a time: one in so many.
const promisePart = 4

// isFull reports whether err tells that there is no more space to be had.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, freelist.ErrFull) || errors.Is(err, ErrMaxSizeReached)
}

// mostPages is how long MaxSize lets the file become.
func (db *DB) mostPages() page.ID {
	if limit := db.opts.MaxSize; limit > 0 {
		return page.ID(min(limit/int64(db.pageSize), math.MaxUint32))
	}
	return math.MaxUint32
}

// promised returns how many pages applying the backlog may take, and forgets what was promised beyond that. groups.mu is held.
func (db *DB) promised() uint64 {
	l := &db.groups.late
	l.uncover()
	return db.needed(l.leaves, l.bytes)
}

// uncover forgets what was promised ahead: from now on it counts differently. mu is held.
func (l *backlog) uncover() {
	l.coveredLeaves, l.coveredBytes = l.leaves, l.bytes
	l.rounds++
}

// maxCaution bounds, in pages, what is promised for the case that every leaf splits, and none shares its branches with another.
const maxCaution = 4096

// needed returns how many pages a backlog may take.
func (db *DB) needed(leaves int, bytes int64) uint64 {
	if leaves == 0 {
		return 0
	}
	used, n := max(float64(db.free.Alive()), 1), float64(leaves)
	once := used * (1 - math.Exp(-n/used))
	bound := used*(1-math.Exp(-3*n/used)) + n
	touched := once
	if db.applying.Load() || bytes+int64(opCost*leaves) > db.unitLimit() { // the pages of a unit under way count as if they were free
		touched = 2 * used * (1 - math.Exp(-n/(2*used)))
	}
	return uint64(1.25*touched+min(bound-once, maxCaution)) + uint64(2*bytes/int64(db.pageSize)) + 8
}
