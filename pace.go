package folio

import (
	"sync/atomic"
	"time"
)

// pace lets a checkpoint go slowly while commits wait for syncs. What it has the disk take is in the way of their syncs: these wait for all that the
// disk has been given before.
type pace struct {
	syncing atomic.Bool  // the log is being synced, and somebody waits for it
	last    atomic.Int64 // when that ended last: nanoseconds since DB.opened
	waiting atomic.Bool  // somebody wants to know of the next end
	ended   chan struct{}
}

const (
	// paceMost is how long a piece of a checkpoint waits for a sync of the log, at most.
	paceMost = time.Millisecond

	// paceBusy is how long after a sync of the log the next one is expected.
	paceBusy = time.Millisecond
)

// syncLog makes the log durable for who waits for commits. What will be published early is made ready for that while the disk takes the log.
func (db *DB) syncLog(early bool) error {
	p := &db.pace
	p.syncing.Store(true)
	defer func() {
		p.last.Store(int64(time.Since(db.opened)))
		p.syncing.Store(false)
		if p.waiting.Load() {
			select {
			case p.ended <- struct{}{}:
			default:
			}
		}
	}()
	if early {
		db.log.WriteOut()
		db.prepublish()
	}
	return db.log.Sync()
}

// committing reports whether commits come so close behind each other that somebody waits for one, or is about to.
func (db *DB) committing() bool { return db.committingSince(0) }

// committingSince is committing, but for the syncs that ended before a time, in nanoseconds since DB.opened.
func (db *DB) committingSince(begun int64) bool {
	if db.opts.alone {
		return db.opts.busy
	}
	p := &db.pace
	last := p.last.Load()
	return p.syncing.Load() || last > begun && time.Since(db.opened)-time.Duration(last) < paceBusy
}

// givingWay returns giveWay for a checkpoint that is about to sync the data file. It has had the log synced just before, which nobody else waited for.
func (db *DB) givingWay() func() bool {
	begun := int64(time.Since(db.opened))
	return func() bool { return db.giveWay(begun) }
}

// giveWay is called between pieces of a checkpoint. If the log is being synced it waits for the end of that, but not long. It reports whether commits come so close
// behind each other that the next piece should be small. When the log is nearly full commits would soon have to wait for the checkpoint itself, and it does neither.
func (db *DB) giveWay(begun int64) (busy bool) {
	p := &db.pace
	if db.log.Live() > db.opts.LogLimit/8*7 {
		return false
	}
	if !p.syncing.Load() {
		return db.committingSince(begun)
	}
	p.waiting.Store(true)
	defer p.waiting.Store(false)
	select {
	case <-p.ended: // of a sync that nobody had waited for
	default:
	}
	if p.syncing.Load() {
		select {
		case <-p.ended:
		case <-time.After(paceMost):
		}
	}
	return true
}
