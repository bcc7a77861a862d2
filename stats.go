package folio

import (
	"sync/atomic"

	"github.com/foliodb/folio/page"
)

// counters are what Stats counts since Open.
type counters struct {
	commits, rollbacks, checkpoints, groups atomic.Uint64
}

// Stats describes a store as it is now. Counts are since Open.
type Stats struct {
	PageSize int
	Pages    uint64 // page count: the data file's size is this times PageSize, plus space reserved ahead
	FileSize int64  // of the data file, bytes
	LogSize  int64  // of the log, bytes; 0: there is none
	LogLive  int64  // bytes of the log that a recovery would read

	FreePages     uint64 // can be allocated
	RetainedPages uint64 // superseded, kept for a reader, the last checkpoint or a commit under way
	LargestFree   uint64 // longest run of free pages

	HeapBytes    int64 // changed pages on the heap, those already in the data file included
	PendingBytes int64 // of these, not yet in the data file

	LastTx         TxID // newest commit
	PublishedTx    TxID // newest that is in the data file for readers
	CheckpointTx   TxID // newest that is durable in the data file
	Checkpoint     uint64
	OpenReaders    int  // read transactions open
	OldestReader   TxID // state that the oldest of them reads; 0: there is none
	Poisoned       bool // writes are refused after a failed sync
	Commits        uint64
	Rollbacks      uint64
	Groups         uint64 // records written to the log
	Checkpoints    uint64
	BackgroundFail error // why the last background checkpoint failed; nil: it did not
}

// Stats returns figures about the store. It waits for nothing but short bookkeeping.
func (db *DB) Stats() Stats {
	if db.enter() != nil {
		return Stats{}
	}
	defer db.leave()
	s := Stats{
		PageSize:    db.pageSize,
		Poisoned:    db.poisoned() != nil,
		LastTx:      TxID(db.acked.Load()),
		Commits:     db.stats.commits.Load(),
		Rollbacks:   db.stats.rollbacks.Load(),
		Groups:      db.stats.groups.Load(),
		Checkpoints: db.stats.checkpoints.Load(),
	}
	if info, err := db.file.Stat(); err == nil {
		s.FileSize = info.Size
	}
	if db.hasLog.Load() {
		s.LogSize, s.LogLive = db.log.Size(), db.log.Live()
	}
	if p := db.backgroundError.Load(); p != nil {
		s.BackgroundFail = *p
	}
	f := db.free.Stats()
	s.Pages, s.FreePages, s.RetainedPages, s.LargestFree = uint64(f.End), f.Free, f.Retained, uint64(f.Largest)
	db.groupStats(&s)
	return s
}

func (db *DB) groupStats(s *Stats) {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	s.PendingBytes = g.pendingBytes
	for _, f := range g.written {
		s.HeapBytes += int64(len(f.buf))
	}
	s.HeapBytes += g.pendingBytes
	p := db.published.Load()
	s.PublishedTx = p.tx
	m := db.newest()
	s.CheckpointTx, s.Checkpoint = m.Tx, m.Checkpoint
	oldest := page.TxID(0)
	for _, old := range append(g.old[:len(g.old):len(g.old)], p) {
		n := int(old.pinned())
		s.OpenReaders += n
		if n > 0 && (oldest == 0 || old.tx < oldest) {
			oldest = old.tx
		}
	}
	s.OldestReader = oldest
}

// TxStats counts what a write transaction has done so far.
type TxStats struct {
	Puts     uint64 // keys set
	Deletes  uint64 // items removed, by DeleteRange too
	Pages    int    // of its own on the heap
	LogBytes int    // of its record so far
}

// Stats returns what the transaction has done so far; zero in a read transaction.
func (tx *Tx) Stats() TxStats {
	tx.check("Stats")
	if tx.writing == nil {
		return TxStats{}
	}
	s := tx.writing.stats
	s.LogBytes = len(tx.ops)
	s.Pages = int(tx.db.pager.heap) / tx.db.pageSize
	return s
}
