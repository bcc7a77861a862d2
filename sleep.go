package folio

import "time"

// A process that reads beside others lets go of what it has pinned soon after its last transaction, and after a while it tells
// the writer that it reads nothing: it sleeps. Neither costs anything while it reads, nor while it does not.

// tidyLater has a timer let go of snapshots that nobody here reads, so that a process that reads nothing costs the writer
// nothing. sharing.mu is held, or nobody else has the store yet.
func (db *DB) tidyLater() {
	if db.opts.Private || db.share.tidying {
		return
	}
	db.share.tidying = true
	time.AfterFunc(letGo, db.tidy)
}

func (db *DB) tidy() {
	db.share.mu.Lock()
	defer db.share.mu.Unlock()
	db.share.tidying = false
	if db.share.detached {
		return
	}
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	newest := db.published.Load()
	kept := g.old[:0]
	left := false
	for _, s := range g.old {
		if db.letGo(s) {
			s.m.Release()
			continue
		}
		kept, left = append(kept, s), true
	}
	clear(g.old[len(kept):])
	g.old = kept
	if !db.letGo(newest) || left {
		db.tidyLater()
		return
	}
	n := db.share.renewals // nothing is pinned: whoever reads from here on calls renew
	time.AfterFunc(sleepAfter, func() { db.sleep(n) })
}

// sleep tells the writer that nobody reads here, if nobody has since the call of renew that is named: it need not publish each
// commit for this process then. The next one who reads waits until the writer has seen that, some milliseconds at most.
func (db *DB) sleep(renewal uint64) {
	db.share.mu.Lock()
	defer db.share.mu.Unlock()
	if !db.share.detached && db.share.renewals == renewal {
		db.share.asleep = true
		db.table.Sleep()
	}
}

// letGo takes the pin of a snapshot away if no transaction reads it, and reports whether it has none.
func (db *DB) letGo(s *snapshot) bool {
	if !s.share.pinned.Load() {
		return s.pinned() == 0
	}
	s.share.pinned.Store(false)
	if s.pinned() > 0 {
		s.share.pinned.Store(true)
		return false
	}
	db.table.Unpin(s.share.pin)
	return true
}
