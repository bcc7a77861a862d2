package folio

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// state is the store as of one commit.
type state struct {
	tx   page.TxID
	root page.BucketHeader
	end  page.ID // pages below are the store's

	// pos is where the log goes on behind this commit. Known once the commit's
	// group has been appended.
	pos wal.Position
}

// snapshot is a state that readers can be shown: every page it reaches is in the
// data file. It holds the mapping that its readers walk.
type snapshot struct {
	state
	view page.View
	m    *page.Map
	pins []pinShard

	since time.Time   // when it was made to be shown
	read  atomic.Bool // a transaction has begun with it

	// Trees that transactions share, for what is only read is the same to all of them.
	top    btree.Tree                      // of the top-level buckets
	opened [8]atomic.Pointer[openedBucket] // see Bucket.opened

	overlay *overlay // pages of a log that was replayed in memory; nil: there are none
	share   *shared  // in a process that reads beside others; nil elsewhere
}

// openedBucket is a top-level bucket as a transaction has found it.
type openedBucket struct {
	name     string
	tree     *btree.Tree
	sequence uint64
}

// seenBucket stands for one that was opened once: of a snapshot that few read nothing is kept, for that costs an allocation.
var seenBucket openedBucket

// place returns where the bucket of that name is kept, or may be; nil: nowhere.
func (s *snapshot) place(name []byte) *atomic.Pointer[openedBucket] {
	const looks = 4 // what a store with many more buckets than places loses at most
	from := len(name)
	if from > 0 {
		from += int(name[from-1])
	}
	for i := range looks {
		at := &s.opened[(from+i)%len(s.opened)]
		if o := at.Load(); o == nil || o == &seenBucket || o.name == string(name) {
			return at
		}
	}
	return nil
}

// pinShard counts readers. Each has a cache line of its own: one shared counter cost 15 ns
// with two goroutines, shards 5.
type pinShard struct {
	n atomic.Int64
	_ [56]byte
}

// pinShards is the number of shards: some for each processor that runs Go code, because a
// reader picks its shard by chance: by where its stack lies.
var pinShards = func() int {
	n := 4
	for n < 4*runtime.GOMAXPROCS(0) && n < 64 {
		n *= 2
	}
	return n
}()

func newSnapshot(s state, m *page.Map) *snapshot {
	n := &snapshot{state: s, m: m, since: time.Now(), view: m.View(s.end), pins: make([]pinShard, pinShards)}
	n.top.Init(s.root, nil, &n.view, nil)
	return n
}

// pinned counts the readers. Once the snapshot is no longer published the count
// never goes from zero to more for good: a reader that raises it then looks
// again at what is published, and lowers it.
func (s *snapshot) pinned() int64 {
	var n int64
	for i := range s.pins {
		n += s.pins[i].n.Load()
	}
	return n
}

// pin pins the published snapshot for a reader and returns the shard to lower again.
// It takes no lock unless a commit that was acknowledged is not yet published; then
// whoever comes first publishes it.
func (db *DB) pin() (*snapshot, *pinShard, error) {
	if db.table != nil && db.opts.ReadOnly {
		return db.pinShared()
	}
	for {
		s := db.published.Load()
		if db.known.Load() > uint64(s.tx) {
			db.wanted.Store(true)
			if err := db.publish(); err != nil {
				return nil, nil, err
			}
			continue
		}
		shard := s.shard()
		shard.n.Add(1)
		if db.published.Load() != s {
			shard.n.Add(-1)
			continue
		}
		if !s.read.Load() {
			s.read.Store(true)
		}
		if db.closing.Load() {
			db.unpin(shard)
			return nil, nil, ErrDatabaseNotOpen
		}
		return s, shard, nil
	}
}

// shard returns where a reader counts itself: by the place of its stack, which no two goroutines share. A random number
// did as well, and took 14 of the 200 ns of a transaction that reads one item which the processor has in its cache.
func (s *snapshot) shard() *pinShard {
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here))) * 0x9e3779b97f4a7c15
	return &s.pins[int(at>>56)&(len(s.pins)-1)]
}

// hold pins the published snapshot, whatever has been acknowledged since.
func (db *DB) hold() (*snapshot, *pinShard) {
	for {
		s := db.published.Load()
		shard := s.shard()
		shard.n.Add(1)
		if db.published.Load() == s {
			return s, shard
		}
		shard.n.Add(-1)
	}
}

// unpin ends a reader. Space that only it retained is found by the next commit.
func (db *DB) unpin(shard *pinShard) {
	shard.n.Add(-1)
	if db.closing.Load() {
		select {
		case db.left <- struct{}{}:
		default:
		}
	}
}

// pinsLocked returns every snapshot that is pinned now, ascending: the list that
// ARCHITECTURE.md has. The slice is valid until the next call. groups.mu is held.
func (db *DB) pinsLocked() []page.TxID {
	g := &db.groups
	p := g.pins[:0]
	if !db.volatile {
		p = append(p, db.slots[0].meta.Tx, db.slots[1].meta.Tx) // last durable checkpoint
	}
	if g.checkpointing {
		p = append(p, g.checkpointPin)
	}
	if g.publishing {
		p = append(p, g.publishPin)
	}
	p = append(p, g.acked.tx, db.published.Load().tx)
	for _, n := range g.sealed { // stand-ins of settle are among them, with an older state
		if n.applied && n.end.tx > g.acked.tx {
			p = append(p, n.end.tx)
		}
	}
	db.forgetSnapshots()
	for _, s := range g.old {
		p = append(p, s.tx)
	}
	p = db.tablePins(p)
	slices.Sort(p)
	g.pins = p
	return slices.Compact(p)
}

// forgetSnapshots lets go of snapshots that were published once and have no reader left.
// groups.mu is held.
func (db *DB) forgetSnapshots() {
	g := &db.groups
	g.old = slices.DeleteFunc(g.old, func(s *snapshot) bool {
		if s.pinned() > 0 {
			return false
		}
		s.m.Release()
		return true
	})
}
