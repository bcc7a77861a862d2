package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// Locks, in order: writer, life, checkpointing, tree, publishing, append, groups.mu. Who
// holds one takes only what stands to the right of it. Nobody waits for a leader's sync
// while holding publishing, append or groups.mu. A checkpoint neither takes the writer
// lock nor waits for one who holds it. A transaction that holds the tree may take checkpointing:
// ARCHITECTURE.md says why. The free list and the log have locks of their own
// inside, behind all of these.

// DB is an open store. All methods may be called from any goroutine, at any time. Update, View, Batch and Begin run transactions, in
// which everything else is read and changed; the other methods are about the store as a whole: how durable it is, whether it
// is sound, copies, and figures. One DB is enough for a process: Open it once, share it, and Close it at the end.
type DB struct {
	// Constant after Open.
	path     string
	abs      string // path, whatever the working directory is by now
	opts     Options
	pageSize int
	storeID  [16]byte
	memory   bool     // no file: see OpenMemory
	volatile bool     // commits are kept in memory only: OpenMemory, Options.Private
	locked   bool     // the locks are held
	key      fileKey  // in the registry of open files
	file     vfs.File // the data file
	data     *page.File
	attached bool            // lockAttached is held
	table    *lockfile.Table // nil: there is none; see share.go

	privateFrom page.ID // Options.Private: pages from here on are in memory
	withoutSet  bool    // Options.Private beside a writer: what is free is not known

	recovering     bool // in Open: limits of the user's do not hold
	appending      bool // in Open: a replay takes only pages behind those that either slot knows: see keepOff
	mappingChecked bool // the mapping has been held against slots that recovery wrote
	doubtful       bool // whether the mapping shows what is written has to be looked at: see checkMedium

	// life is held for reading by what Close has to wait for, write transactions among them
	// until their commit has returned. Nobody waits for the writer lock with it, and only who has that lock takes it a second
	// time, to move pages: Close takes the writer lock first, so that it cannot have come in between.
	life   sync.RWMutex
	closed atomic.Bool // set under life

	published  atomic.Pointer[snapshot]
	acked      atomic.Uint64 // TxID of the newest commit that may be shown
	known      atomic.Uint64 // TxID of the newest that somebody may know of, so that readers have to be shown it; at most acked
	wanted     atomic.Bool   // a reader had to publish since the leader last did
	closing    atomic.Bool   // Close has been called
	left       chan struct{} // readers that end while closing say so
	deserted   chan struct{} // closed when Close has no more to wait for that runs functions of the user's
	ended      chan struct{} // closed when Close has ended
	poisonedBy atomic.Pointer[poisonError]
	timerSet   atomic.Bool
	hasLog     atomic.Bool

	background      sync.WaitGroup
	publisher       atomic.Bool
	churned         atomic.Bool  // the tree has been changed since lookAround
	unlooked        atomic.Int64 // bytes of the log that commits have taken since
	resting         atomic.Bool  // a timer is set: see rest
	opened          time.Time
	pace            pace
	checkpointed    atomic.Int64 // when the last checkpoint ended, in nanoseconds since opened
	checkpointer    atomic.Bool
	extender        atomic.Bool
	backgroundError atomic.Pointer[error]

	writer sync.Mutex
	// Guarded by writer; last by groups.mu too.
	last         page.TxID // newest commit
	restructured page.TxID // newest commit that made, deleted or moved a bucket
	opsBuffer    wal.Ops
	crowd        int    // how many commits the last sync has made durable; of who has the lead
	highest      []byte // a buffer, see writing
	largeOps     []byte // for large transactions; nil until there is one

	// Guarded by the tree lock (groups.treeHeld); head and the free list's transactions by groups.mu too.
	pager   pager
	frames  frameTable
	buffers bufferPool
	clean   []*frame // on the heap and in the data file, oldest first
	head    state    // newest commit that the tree has
	sorter  sorter

	applying atomic.Bool // the backlog is being applied: what was acknowledged has a right to space
	full     atomic.Bool // the disk had no room when the data file was to grow last
	short    atomic.Bool // a transaction has found no space since the last checkpoint that was made for that: see cramped

	loading sync.Mutex
	loaded  bool      // the persisted free set has been read
	stored  storedSet // what is known of it otherwise; see Stats. Guarded by loading

	replayed atomic.Int64 // bytes of the log that were replayed in memory last, in a process that reads

	checkpointing sync.Mutex
	slots         [2]slot

	publishing sync.Mutex
	released   bool // the files are closed; guarded by publishing and the tree lock
	append     sync.Mutex
	groups     groups
	covered    []*group // scratch of who leads

	free *freelist.List
	log  *wal.Log // nil until the first commit after a clean open; set under writer and checkpointing

	batch batcher
	stats counters
	share sharing

	traces   traces
	watching atomic.Bool         // readers are being looked at
	watched  atomic.Int64        // when they were, Unix milliseconds
	told     map[toldReader]bool // of whom OnOldReader was told; by who is watching
	telling  atomic.Bool         // a timer is set: see tellLater
	tellOne  sync.Mutex          // one tells others at a time
}

var errEmptyPath = errors.New("folio: path is empty")

// Open opens the store at path, or creates it. opts may be nil. A store that was not closed
// cleanly is recovered first, in a time bounded by the log's size.
//
// The log lies beside the data file, under its name and -wal. So a symbolic link in place of the data file is refused, since two names would
// mean two logs; links to folders are followed. Of a data file with several hard links always the same one should be used: after a
// kill, who opens it by another one is told that the log is missing (ErrLogCorrupt).
//
// A file is made by a longer name, which is for a moment only: where a name can have 255 bytes, path's last element may have 220, and so with all copies.
//
// Only one process writes at a time: while another has the store open, Open waits for
// Options.LockTimeout and then returns a *LockedError, which is ErrTimeout. A
// file that is not a store is ErrInvalid, one of another version ErrVersionMismatch; damage is a
// *CorruptError; nothing that the store has on the disk is changed then.
func Open(path string, opts *Options) (*DB, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, errEmptyPath
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, outer(err)
	}
	db := newDB(path, o)
	db.abs = abs
	if err := db.open(abs); err != nil {
		db.release()
		return nil, outer(err)
	}
	return db, nil
}

func newDB(path string, o Options) *DB {
	db := &DB{path: path, opts: o, left: make(chan struct{}, 1), opened: time.Now()}
	db.deserted, db.ended = make(chan struct{}), make(chan struct{})
	db.groups.baton = make(chan struct{}, 1)
	db.pace.ended = make(chan struct{}, 1)
	db.batch.db = db
	return db
}

// open is Open in steps: file, lock, meta, then recovery where it is needed.
func (db *DB) open(path string) error {
	for {
		if err := db.openFile(path); err != nil {
			return err
		}
		if err := db.checkMedium(db.file); err != nil {
			return err
		}
		if err := db.register(); err != nil {
			return err
		}
		if err := db.exclude(); err != nil {
			return err
		}
		if ok, err := db.stillNamed(path); err != nil {
			return err
		} else if ok {
			break
		}
		db.unregister()
		if err := errors.Join(db.retreat(), db.unlock(), db.file.Close()); err != nil {
			return err
		}
		db.file = nil
	}
	if err := db.initialise(path); err != nil {
		return err
	}
	return db.start()
}

// exclude keeps out whom the store cannot bear beside it.
func (db *DB) exclude() error {
	if db.opts.reads() {
		if joined, err := db.join(); joined || err != nil {
			return err
		}
	}
	err := db.lock()
	var locked *LockedError
	if barred := db.share.barred; barred != nil && errors.As(err, &locked) && !locked.Reader {
		err = &barredError{locked, barred}
	}
	return err
}

// stillNamed reports whether the path leads to the file that has been locked: while Open waited for the lock it may
// have been replaced, or taken back by who was creating it.
func (db *DB) stillNamed(path string) (bool, error) {
	info, err := db.opts.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return fileKey{info.Dev, info.Ino} == db.key, err
}

// keepsName is an error unless the path that the store was opened by leads to its data file still. Who has written nothing does not ask.
func (db *DB) keepsName() error {
	if db.logless() {
		return nil
	}
	ok, err := db.stillNamed(db.abs)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrFileReplaced, db.abs)
	}
	return outer(err)
}

// openFile opens the data file, making a new store if there is none.
func (db *DB) openFile(path string) error {
	o := &db.opts
	flags := os.O_RDWR
	if o.reads() {
		flags = os.O_RDONLY
	}
	for tries := 0; ; tries++ {
		f, err := o.fs.Open(path, flags, 0)
		if err == nil {
			db.file = f
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) || o.reads() || tries == 3 {
			return err
		}
		if there, err := exists(o.fs, logName(path)); err != nil {
			return err
		} else if there {
			return &logError{fmt.Errorf("%s is there without its data file %s: a log alone cannot make a store; "+
				"put the data file back, or move the log away", logName(path), filepath.Base(path))}
		}
		if err := db.create(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// logName is the name of the log beside a data file.
func logName(path string) string { return path + "-wal" }

// start reads the metas, recovers if the store was not closed cleanly, and shows
// the newest state.
func (db *DB) start() error {
	if db.table != nil {
		return db.openShared()
	}
	clean, err := db.readSlots()
	if err != nil {
		return err
	}
	if !db.memory && !db.opts.reads() {
		if err := db.attachWriter(); err != nil {
			return err
		}
	}
	if !clean {
		if clean, err = db.repairSlots(); err != nil {
			return err
		}
	}
	m := db.newest()
	if err := db.prepare(m); err != nil {
		return err
	}
	st := metaState(&m)
	if db.hasCompany() && clean {
		st.tx = max(st.tx, page.TxID(db.table.Floor()))
	}
	db.begin(st)
	db.published.Store(newSnapshot(db.head, db.data.Map()))
	if !clean {
		if err := db.catchUp(m); err != nil {
			return err
		}
	}
	db.showFirst()
	if !clean && !db.opts.reads() && !db.opts.alone {
		db.checkpointLater() // or the next recovery has all that again, and each makes the log longer
	}
	return nil
}

// catchUp adds what the log has to what the data file has.
func (db *DB) catchUp(m page.Meta) error {
	switch {
	case db.opts.ReadOnly:
		s, err := db.readState(m, false)
		if err != nil {
			return err
		}
		db.groups.old = append(db.groups.old, db.published.Load())
		db.published.Store(s)
		db.acked.Store(uint64(s.tx))
		db.known.Store(uint64(s.tx))
		return nil
	case db.opts.Private:
		return db.replayVolatile()
	}
	db.recovering = true
	defer func() { db.recovering = false }()
	return db.recover()
}

// prepare maps the data file.
func (db *DB) prepare(m page.Meta) (err error) {
	db.pageSize, db.storeID = m.PageSize, m.StoreID
	if !db.opts.reads() {
		if err := db.opts.checkMaxSize(m.PageSize); err != nil {
			return err
		}
	}
	if db.opts.Private {
		if err := db.makePrivate(); err != nil {
			return err
		}
	}
	if db.data, err = page.NewFile(db.file, m.PageSize, db.pageOptions()...); err != nil {
		return err
	}
	if err := db.checkMapping(); err != nil {
		err = errors.Join(err, db.data.Close())
		db.data = nil
		return err
	}
	db.buffers = bufferPool{size: m.PageSize, max: int(min(db.opts.MemoryLimit/int64(m.PageSize), math.MaxInt32))}
	db.pager.db = db
	return nil
}

// begin makes s the newest state.
func (db *DB) begin(s state) {
	db.free = freelist.New(max(s.end, page.FirstID), db.pageSize)
	db.free.OnFree, db.free.Grow = db.dropped, db.growFile
	db.free.LeastSet = db.opts.leastSet
	db.head, db.last = s, s.tx
	db.groups.acked = s
	db.acked.Store(uint64(s.tx))
	db.known.Store(uint64(s.tx))
}

func metaState(m *page.Meta) state {
	return state{tx: m.Tx, root: m.Root, end: m.Pages, pos: logPosition(m)}
}

// newestSlot is the slot that counts.
func (db *DB) newestSlot() slot {
	if db.slots[1].meta.Checkpoint > db.slots[0].meta.Checkpoint {
		return db.slots[1]
	}
	return db.slots[0]
}

func (db *DB) newest() page.Meta { return db.newestSlot().meta }

// pageOptions are the data file's settings.
func (db *DB) pageOptions() []page.Option {
	var o []page.Option
	if n := db.opts.reservation; n > 0 {
		o = append(o, page.Reserve(n))
	}
	if n := db.opts.MaxSize; n > 0 {
		o = append(o, page.MaxSize(n))
	}
	return o
}

// loadFree reads the persisted free set, which a store that is only read never needs. It comes before
// the first write, so nothing is published yet but what the slots say.
func (db *DB) loadFree() error {
	db.loading.Lock()
	defer db.loading.Unlock()
	if db.loaded {
		return nil
	}
	// What may fail for want of space comes first: the set is loaded once.
	var pages page.ID
	if db.hasCompany() {
		var err error
		if pages, err = db.wholePages(); err != nil {
			return err
		}
	}
	m := db.newest()
	if m.FreeLen > 0 && !db.withoutSet {
		v := db.published.Load().view
		set, err := v.Run(m.Free, int(m.FreeLen))
		if err != nil {
			return err
		}
		if err := db.free.Load(set, db.newestSlot().own); err != nil {
			return err
		}
	}
	if db.opts.Private {
		db.free.AppendOnly(db.privateFrom)
	}
	if db.hasCompany() {
		db.putAside(pages)
	}
	db.loaded = true
	return nil
}

// enter keeps Close from finishing until leave; ErrDatabaseNotOpen after Close.
func (db *DB) enter() error {
	db.life.RLock()
	if db.closed.Load() {
		db.life.RUnlock()
		return ErrDatabaseNotOpen
	}
	return nil
}

func (db *DB) leave() { db.life.RUnlock() }

// Close waits for all transactions to end, checkpoints, removes the log and releases the
// file. New transactions get ErrDatabaseNotOpen as soon as Close has been called. A store that refuses writes (ErrPoisoned) is only let go, and Close
// returns that error: the next Open recovers what was acknowledged. If the file no longer has its name, Close leaves the log
// and returns ErrFileReplaced.
//
// A file of which much is free is made shorter first, as Checkpoint does.
//
// A second Close returns nil when the first one has ended, so that the store can be opened again. But as long as that waits for transactions, for
// other calls or for OnOldReader it waits no more than a second: it may have been called from within one of these.
func (db *DB) Close() error {
	if db.closing.Swap(true) {
		db.awaitClose()
		return nil
	}
	defer close(db.ended)
	db.awaitReaders()
	db.awaitCalls()
	db.awaitWatch()
	close(db.deserted)
	db.background.Wait()
	db.shrinkBeforeClose() // no transaction keeps pages from moving by now
	db.awaitCalls()
	db.background.Wait()
	db.writer.Lock()
	db.life.Lock()
	defer db.life.Unlock()
	err := db.finish()
	db.closed.Store(true)
	db.writer.Unlock()
	return errors.Join(outer(err), outer(db.release()))
}

// closePatience is how long a second Close waits while the first one waits for what users do. Which goroutine a transaction belongs to is not known.
const closePatience = time.Second

// awaitClose waits for the Close that came first.
func (db *DB) awaitClose() {
	select {
	case <-db.ended:
	case <-db.deserted:
		<-db.ended
	case <-time.After(closePatience):
	}
}

// awaitReaders returns when no read transaction is left.
func (db *DB) awaitReaders() {
	for db.readers() > 0 {
		select {
		case <-db.left:
		case <-time.After(10 * time.Millisecond): // a reader may have looked at closing just before it was set
		}
	}
}

// awaitCalls returns when all commits and calls that had begun have returned. From then on only Close itself has transactions,
// to make the file shorter. It comes before background.Wait, because commits begin what runs in the background; and that is waited for
// without a lock, because OnOldReader may call what takes one.
func (db *DB) awaitCalls() {
	db.writer.Lock()
	db.life.Lock()
	db.writer.Unlock()
	db.life.Unlock()
}

// awaitWatch returns when OnOldReader has: it is not called any more.
func (db *DB) awaitWatch() {
	for db.watching.Load() {
		time.Sleep(time.Millisecond)
	}
}

// readers counts the read transactions that are open.
func (db *DB) readers() int {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	n := db.published.Load().pinned()
	for _, s := range g.old {
		n += s.pinned()
	}
	return int(n)
}

// finish makes a store that was written a clean one. All locks that matter are held or idle.
func (db *DB) finish() error {
	if err := db.poisoned(); err != nil {
		return err
	}
	if db.log == nil || db.opts.ReadOnly {
		return nil
	}
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	if err := db.settle(); err != nil {
		return err
	}
	if err := db.applyAcknowledged(); err != nil {
		return err
	}
	if db.newest().Tx != db.head.tx {
		if err := db.checkpoint(); err != nil {
			return err
		}
	}
	db.reclaim()
	if db.worthCutting() {
		if err := db.checkpoint(); err != nil {
			return err
		}
	}
	if err := db.cut(db.newest().Pages); err != nil {
		return err
	}
	if err := db.keepsName(); err != nil {
		return err // the log of that name may be another store's by now
	}
	if err := db.markClean(); err != nil {
		return err
	}
	return db.removeLog()
}

// markClean marks both slots as needing no log, one after the other.
func (db *DB) markClean() error {
	m, own := db.newest(), db.newestSlot().own
	m.Checkpoint++
	m.Clean = true
	setLogPosition(&m, wal.Position{LSN: db.log.End().LSN})
	return db.writeSlots(m, own)
}

// removeLog removes the log, which no slot requires.
func (db *DB) removeLog() error {
	log := db.log
	db.log = nil
	if err := log.Close(); err != nil {
		return err
	}
	name := logName(db.file.Name())
	if err := db.opts.fs.Remove(name); err != nil {
		return err
	}
	return db.opts.fs.SyncDir(filepath.Dir(name))
}

// release closes what is open, whatever state the handle is in. Who has the backlog applied for a reader has neither a pin nor
// another lock that Close waits for.
func (db *DB) release() error {
	db.lockTree(nil)
	defer db.unlockTree()
	db.publishing.Lock()
	defer db.publishing.Unlock()
	db.released = true
	var errs []error
	if db.log != nil {
		errs = append(errs, db.log.Close())
		db.log = nil
	}
	if db.file != nil {
		errs = append(errs, db.detach()) // first: a timer of it lets go of snapshots too
	}
	if s := db.published.Load(); s != nil {
		for _, old := range db.groups.old {
			old.m.Release()
		}
		db.groups.old = nil
		s.m.Release()
	}
	if db.data != nil {
		errs = append(errs, db.data.Close())
	}
	if db.file != nil {
		// A lock belongs to the open file, which a mapping that is still about would keep open.
		errs = append(errs, db.unlock(), db.file.Close())
	}
	db.groups.mu.Lock() // a reader that has been turned away may look at it: see publish
	db.groups.late.memory.close()
	db.groups.mu.Unlock()
	vfs.FreeMemory(db.largeOps)
	db.sorter.close()
	db.pager.close()
	db.unregister()
	return errors.Join(errs...)
}

// Path returns the path that the store was opened by.
func (db *DB) Path() string { return db.path }

// IsReadOnly reports whether the store was opened with Options.ReadOnly.
func (db *DB) IsReadOnly() bool { return db.opts.ReadOnly }

// String names the store, for messages.
func (db *DB) String() string { return fmt.Sprintf("DB<%q>", db.path) }

// Sync makes all commits so far durable: relaxed ones survive a power cut from then
// on. It blocks for a sync of the log, and for what is left of one under way, and does nothing where all are durable.
func (db *DB) Sync() error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	if db.opts.ReadOnly {
		return ErrDatabaseReadOnly
	}
	if db.volatile {
		return nil
	}
	if db.poisoned() == nil && db.logless() {
		return nil
	}
	return db.settle()
}
