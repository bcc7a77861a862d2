package folio

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/freelist"
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
	LogLive  int64  // bytes of the log that a recovery would read; 0 in a process that reads beside one that writes, which alone knows

	// Of a store that is only read, or not yet written, these are figures of the last checkpoint, in which all is free that its state does not
	// reach. What has been retained since only a process that writes knows. A private store that was opened beside a writer knows of no free pages
	// but its own.
	FreePages     uint64 // can be allocated
	RetainedPages uint64 // superseded, kept for a reader, the last checkpoint or a commit under way
	LargestFree   uint64 // longest run of free pages

	HeapBytes    int64 // changed pages of commits on the heap, in the data file already or not; without up to a quarter of MemoryLimit that is kept for the next ones
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
	BackgroundFail error // what the store did last in the background failed for: a checkpoint, writing pages, making the file shorter; or ErrFileReplaced, or why the free set cannot be read; nil: nothing failed
}

// Stats returns figures about the store. It waits for nothing but short bookkeeping, and, where no write has read it yet, for the
// free set to be read from the file, once for each checkpoint.
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
	db.logStats(&s)
	if p := db.backgroundError.Load(); p != nil {
		s.BackgroundFail = *p
	}
	db.groupStats(&s)
	db.freeStats(&s)
	if list := db.listReaders(); len(list) > 0 {
		s.Oldest = list[0]
		if s.OldestReader == 0 || list[0].Tx < s.OldestReader { // the writer's own readers are in no slot of the table
			s.OldestReader = list[0].Tx
		}
	}
	return s
}

// logStats tells of the log. Who only reads has none open: the file tells how long it is, and his replay how much of it counts.
func (db *DB) logStats(s *Stats) {
	if db.hasLog.Load() {
		s.LogSize, s.LogLive = db.log.Size(), db.log.Live()
		return
	}
	if !db.opts.ReadOnly {
		return
	}
	info, err := db.opts.fs.Stat(logName(db.file.Name()))
	if err != nil {
		return
	}
	s.LogSize = info.Size
	if (db.table == nil || !db.writerLives()) && !db.followsWriter() { // else it may have gone on
		s.LogLive = db.replayed.Load()
	}
}

// followsWriter reports whether what is read is what another process has shown, and not a checkpoint with its log.
func (db *DB) followsWriter() bool {
	p := db.published.Load()
	return p.share != nil && p.share.base == nil
}

// freeStats tells of free pages: what the free list knows, or, as long as it has not been given the stored set, what that says.
func (db *DB) freeStats(s *Stats) {
	db.loading.Lock()
	defer db.loading.Unlock()
	f := db.free.Stats()
	s.Pages, s.FreePages, s.RetainedPages, s.LargestFree = uint64(f.End), f.Free, f.Retained, uint64(f.Largest)
	if db.opts.ReadOnly && db.followsWriter() {
		s.Pages = uint64(db.published.Load().end)
	}
	// Of a private store that has not been written, not even by who took it back, the set has been looked at, and is not looked at again: see
	// loadFreeEarly.
	unwritten := db.opts.Private && db.stored.checkpoint != 0 && page.TxID(db.known.Load()) == db.newest().Tx && f.End == max(db.newest().Pages, page.FirstID)
	if db.loaded && !unwritten || db.memory || db.withoutSet && db.opts.Private {
		return
	}
	m, err := db.lookAtStored()
	if err != nil {
		if s.BackgroundFail == nil {
			s.BackgroundFail = outer(db.named(err))
		}
		return
	}
	s.CheckpointTx, s.Checkpoint = m.Tx, m.Checkpoint
	s.FreePages, s.LargestFree = db.stored.pages, uint64(db.stored.longest)
	s.Pages = max(s.Pages, uint64(m.Pages))
}

// storedSet is what a stored free set comes to.
type storedSet struct {
	checkpoint uint64 // that it is of; 0: none has been looked at
	pages      uint64
	longest    page.ID
}

// lookAtStored sees to it that db.stored is of the last checkpoint, whose meta it returns. In a process that reads, a writer may make
// another one meanwhile, and use the pages of the set again. db.loading is held.
func (db *DB) lookAtStored() (m page.Meta, err error) {
	for failed := uint64(0); ; failed = m.Checkpoint {
		if m, err = db.lastCheckpoint(); err != nil || m.Checkpoint == db.stored.checkpoint {
			return m, err
		}
		set := storedSet{checkpoint: m.Checkpoint}
		if err = db.eachStored(&m, func(e freelist.Extent) {
			set.pages += uint64(e.N)
			set.longest = max(set.longest, e.N)
		}); err == nil {
			db.stored = set
			return m, nil
		}
		var c *CorruptError
		if m.Checkpoint == failed || !errors.As(err, &c) || c.Err != nil { // what the disk refused is told, and not tried again
			return m, err
		}
	}
}

// lastCheckpoint is what the file says, where another process may have written it since this one looked.
func (db *DB) lastCheckpoint() (page.Meta, error) {
	if db.table == nil || !db.opts.ReadOnly {
		return db.newest(), nil // nothing has been written: see loadFree
	}
	probe := newDB(db.path, db.opts)
	probe.file = db.file
	_, err := probe.readSlots()
	for tries := 0; err != nil && tries < 3; tries++ { // see snapshotOf
		time.Sleep(time.Millisecond)
		_, err = probe.readSlots()
	}
	return probe.newest(), err
}

// eachStored calls fn for each extent of the free set of m. It reads the file and not the mapping, of which it would note what it has
// found sound there: no snapshot keeps these pages.
func (db *DB) eachStored(m *page.Meta, fn func(freelist.Extent)) error {
	if m.FreeLen == 0 {
		return nil
	}
	own := newSlot(*m).own
	info, err := db.file.Stat()
	if err != nil {
		return err
	}
	if int64(m.FreeLen) > info.Size { // only of a file that was cut, which CheckFile opens
		return &CorruptError{Page: own.Start, Offset: -1, Invariant: 5, Reason: "free set: the file was cut"}
	}
	set := make([]byte, m.FreeLen)
	if _, err := db.file.ReadAt(set, int64(own.Start)*int64(m.PageSize)); err != nil {
		return &CorruptError{Page: own.Start, Offset: -1, Invariant: 2, Reason: "free set: cannot be read", Err: err}
	}
	if sum := page.Sum(set); sum != m.Free.Sum {
		return &CorruptError{Page: own.Start, Offset: 0, Invariant: 2,
			Reason: fmt.Sprintf("free set: checksum of %d bytes is %016x, its reference says %016x", len(set), sum, m.Free.Sum)}
	}
	return freelist.EachExtent(set, own, m.Pages, m.PageSize, func(e freelist.Extent) string {
		fn(e)
		return ""
	})
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
