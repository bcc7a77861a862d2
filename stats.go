package folio

import (
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/foliodb/folio/btree"
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
	OpenReaders    int    // read transactions open; a write transaction is one as long as it has only put and deleted, and for moments the store itself
	OldestReader   TxID   // oldest state that is read, in other processes too; 0: there is none
	Oldest         Reader // who reads it, since when, and what that keeps; see Readers for all
	Processes      int    // others that have the store open to read
	Poisoned       bool   // writes are refused after a failed sync
	Commits        uint64
	Rollbacks      uint64
	Groups         uint64 // records written to the log
	Checkpoints    uint64
	BackgroundFail error // why the last background checkpoint failed, or ErrFileReplaced; nil: it did not
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
		LastTx:      TxID(db.known.Load()),
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
	if list := db.listReaders(); len(list) > 0 {
		s.Oldest = list[0]
	}
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
	if db.table == nil {
		return
	}
	processes := make(map[int]bool)
	for _, r := range db.table.Readers() {
		if db.opts.reads() && r.PID == os.Getpid() {
			continue // counted above; and what has just been read is pinned for a moment longer
		}
		processes[r.PID] = true
		for _, p := range r.Pins {
			if tx := page.TxID(p.Tx); s.OldestReader == 0 || tx < s.OldestReader {
				s.OldestReader = tx
			}
		}
	}
	s.Processes = len(processes)
}

// TxStats counts what a write transaction has done so far.
type TxStats struct {
	Puts     uint64 // keys set
	Deletes  uint64 // items removed, by DeleteRange too; a key that was not there may count
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
	if !tx.bulk {
		s.LogBytes = len(tx.ops)
	}
	if tx.holdsTree {
		s.Pages = int(tx.db.pager.heap) / tx.db.pageSize
	}
	return s
}

// BucketStats describes a bucket and all buckets inside it, with bbolt's names where the meaning is
// the same. Sizes are in bytes.
type BucketStats struct {
	BranchPageN     int // branch pages
	BranchOverflowN int // pages of runs that hold separators
	LeafPageN       int // leaf pages
	LeafOverflowN   int // pages of runs that hold values and long keys
	KeyN            int // items, nested buckets among them
	Depth           int // levels of the deepest tree

	BranchAlloc int // of branch pages
	BranchInuse int // of these, used
	LeafAlloc   int // of leaf pages
	LeafInuse   int // of these, used

	BucketN           int // buckets, this one included
	InlineBucketN     int // of these, kept in their parent's leaf
	InlineBucketInuse int // bytes of these
}

// Add adds other to s.
func (s *BucketStats) Add(other BucketStats) {
	s.BranchPageN += other.BranchPageN
	s.BranchOverflowN += other.BranchOverflowN
	s.LeafPageN += other.LeafPageN
	s.LeafOverflowN += other.LeafOverflowN
	s.KeyN += other.KeyN
	s.Depth = max(s.Depth, other.Depth)
	s.BranchAlloc += other.BranchAlloc
	s.BranchInuse += other.BranchInuse
	s.LeafAlloc += other.LeafAlloc
	s.LeafInuse += other.LeafInuse
	s.BucketN += other.BucketN
	s.InlineBucketN += other.InlineBucketN
	s.InlineBucketInuse += other.InlineBucketInuse
}

// Stats walks the bucket and all inside it; it reads every node page.
func (b *Bucket) Stats() BucketStats {
	b.use("Bucket.Stats")
	defer b.tx.catchUnmanaged(debug.SetPanicOnFault(true))
	var s BucketStats
	if b.tx.writing != nil && b.tx.failed == nil {
		if err := b.flush(false); err != nil {
			b.tx.spoil(err)
			return s
		}
	}
	first := entry{header: b.header()}
	if first.header.Root == 0 {
		first.image, _, _ = b.tree.Inline(nil) // of an image, which is at hand
	}
	seen := make(map[page.ID]bool) // a damaged file can nest a bucket in itself
	for waiting := []entry{first}; len(waiting) > 0; {
		next := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		s.Add(b.treeStats(next, &waiting, seen))
	}
	return s
}

// treeStats is Stats of one tree; the buckets in it are added to waiting.
func (b *Bucket) treeStats(e entry, waiting *[]entry, seen map[page.ID]bool) BucketStats {
	s := BucketStats{BucketN: 1, KeyN: clampInt(e.header.Items)}
	if e.header.Root == 0 {
		s.InlineBucketN, s.InlineBucketInuse = 1, len(e.image)
	} else {
		s.Depth = int(e.header.Level) + 1
	}
	db := b.tx.db
	var pages btree.Reader
	var view *page.View
	var w btree.Writer
	if b.tx.writing != nil {
		pages, w = &db.pager, &db.pager
	} else if view = &b.tx.snapshot.view; b.tx.snapshot.overlay != nil {
		pages, w = b.tx.snapshot.overlay, b.tx.snapshot.overlay
	} else {
		pages = view
	}
	var t btree.Tree
	t.Init(e.header, e.image, view, w)
	t.Check(btree.Checker{
		Found: func(e *page.CorruptError) { b.tx.spoil(e) },
		Page: func(id page.ID, level int, _ btree.Place) bool {
			if seen[id] {
				return false
			}
			seen[id] = true
			p, err := pages.Page(id)
			if err == nil {
				s.count(p, level)
			}
			return true
		},
		Run: func(r page.Ref, n int, _ btree.Place) bool {
			s.LeafOverflowN += int(page.RunPages(uint64(n), db.pageSize))
			return false
		},
		Bucket: func(name, value []byte, _ btree.Place) {
			h, image := page.DecodeBucket(value)
			*waiting = append(*waiting, entry{header: h, image: image})
		},
	})
	return s
}

// count adds one node page.
func (s *BucketStats) count(p []byte, level int) {
	if level > 0 {
		s.BranchPageN++
		s.BranchAlloc += len(p)
		s.BranchInuse += page.HeaderSize + page.Branch(p).Live()
		return
	}
	s.LeafPageN++
	s.LeafAlloc += len(p)
	s.LeafInuse += page.HeaderSize + page.Leaf(p).Live()
}
