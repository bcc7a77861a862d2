package folio

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// TxID names a committed write transaction, and the state of the store behind it. They
// count up from 1, without gaps, but that a process which opens the store to write it passes over those that processes which
// read it may know of commits that a power cut has taken; 0 is the empty new store.
type TxID = page.TxID

// Tx is a transaction: one unchanging state of the store to read, and, if it is writable, to
// change. A read transaction never holds a writer up, and waits for none, but for this: one that begins
// behind commits that no reader has seen writes their pages out first, or waits for who is doing so.
// There is one write transaction at a time.
//
// A read transaction may be used by several goroutines at a time, each with cursors of its
// own; a write transaction by one goroutine. Every transaction must be ended, by Commit or
// Rollback, or by View and Update, which do it themselves: an open one keeps the pages of
// its state from being reused.
//
// Damage in the file and faults of the mapping: View and Update end the function and return the error.
// In a transaction begun with Begin, methods without an error result return what they
// return for something absent, and Err tells; Commit fails. Goroutines that you start inside
// View's function do not have its protection: begin a transaction for them with Begin.
//
// Slices from a transaction point into the mapping of the file. They are valid until the transaction
// ends, must not be written to, and should be copied before they are sent on a
// channel: the runtime cannot recover from a fault there.
type Tx struct {
	db       *DB
	id       page.TxID
	snapshot *snapshot
	shard    *pinShard
	root     Bucket
	first    Bucket // the first bucket that is opened: saves an allocation
	used     atomic.Bool
	broken   atomic.Pointer[error] // first damage met
	trace    *trace                // Options.TraceReaders
	managed  bool                  // View's or Update's
	done     atomic.Bool
	*writing // nil in a read transaction
}

// writing is what only a write transaction has.
type writing struct {
	deferred     bool    // the tree is not touched: see backlog
	holdsTree    bool    // the tree lock
	postponed    int     // puts and deletions that the tree does not have, the last in ops
	stash        *stash  // what the tree lacks besides, from before these; nil: nothing
	leaf         page.ID // that the last one is about
	leaves       int     // how often that was another one than before
	caught       int     // of a transaction in the tree: where in ops they begin
	streak       int     // puts and deletions since anything else was done in the tree: see collects
	rising       bool    // each of the puts so far was of a higher key than the one before, in one bucket
	highest      []byte  // the last of these
	puts         bool    // something: see pager.spare
	lost         bool    // the tree has only some of what the transaction has done, for good: that has failed
	large        bool    // ops is the store's large buffer
	restructures bool    // buckets have been made, deleted or moved
	unknowing    bool    // the published snapshot does not have the buckets that there are

	ops        wal.Ops
	selected   *Bucket // the bucket that ops speak of
	changed    bool
	bulk       bool // too large for the log
	replaying  bool // of the log: nothing is logged
	failed     error
	durability Durability
	onCommit   []func()
	dropping   map[page.ID]bool // roots of buckets being deleted, against cycles
	stats      TxStats

	rootNesting nesting // of Tx.root

	// Of Tx.first.
	firstNesting nesting
	firstName    [32]byte
	firstChild   [1]*Bucket

	names [2][]byte // scratch of log
}

// writings are parts of write transactions that have ended, to be used again. A handle that the user still has of such a transaction, of a bucket or a
// cursor of it, must not look there: all of them ask first whether the transaction is done.
var writings = sync.Pool{New: func() any { return new(writing) }}

// recycle gives back what only a write transaction has. It has ended, and its goroutine does nothing more with it.
func (tx *Tx) recycle() {
	*tx.writing = writing{}
	writings.Put(tx.writing)
}

// Begin starts a transaction. A read transaction does not wait, except that it may write
// out commits that nobody has looked at yet, and, in a process that only reads, as Options.LockTimeout says. A write transaction waits for the one before it, and gets
// an error that is ErrPoisoned after a failed sync. End it with Commit or Rollback.
func (db *DB) Begin(writable bool) (*Tx, error) {
	if db.closing.Load() {
		return nil, ErrDatabaseNotOpen // a writer too, at once: Close may keep the writer lock for long
	}
	if writable {
		if db.opts.ReadOnly {
			return nil, ErrDatabaseReadOnly
		}
		return db.beginWrite()
	}
	s, shard, err := db.pin()
	if err != nil {
		return nil, err
	}
	tx := &Tx{db: db, id: s.tx, snapshot: s, shard: shard}
	tx.readRoot()
	if db.opts.TraceReaders {
		db.traces.add(tx)
	}
	return tx, nil
}

// readRoot readies the root of a transaction that reads its snapshot.
func (tx *Tx) readRoot() {
	tx.root.tx, tx.root.tree, tx.root.sequence = tx, &tx.snapshot.top, tx.snapshot.root.Sequence
}

// readWriter is what a read transaction reads through besides its view: nothing, or the overlay of a store
// whose log was replayed in memory.
func (tx *Tx) readWriter() btree.Writer {
	if o := tx.snapshot.overlay; o != nil {
		return o
	}
	return nil
}

// beginWrite starts a write transaction.
func (db *DB) beginWrite() (*Tx, error) {
	db.writer.Lock()
	return db.beginLocked(false)
}

// beginLocked is beginWrite for who has the writer lock, which goes to the transaction, or is released. closes: it is Close that
// begins one.
func (db *DB) beginLocked(closes bool) (*Tx, error) {
	tx, err := db.prepareWrite(closes)
	if err != nil {
		db.writer.Unlock()
		return nil, err
	}
	return tx, nil
}

func (db *DB) prepareWrite(closes bool) (*Tx, error) {
	if db.closing.Load() && !closes {
		return nil, ErrDatabaseNotOpen
	}
	if err := db.poisoned(); err != nil {
		return nil, err
	}
	if err := db.loadFree(); err != nil {
		return nil, outer(err)
	}
	if err := db.makeRoom(); err != nil {
		return nil, err
	}
	if err := db.boundBacklog(0); err != nil {
		return nil, err
	}

	tx := &Tx{db: db, id: db.last + 1, writing: writings.Get().(*writing)}
	tx.durability, tx.ops = db.opts.Durability, db.opsBuffer[:0]
	db.life.RLock() // cannot block for long: Close takes the writer lock first
	tx.root.tx, tx.root.tree, tx.root.nesting = tx, &tx.rootNesting.own, &tx.rootNesting
	if db.deferring() {
		tx.deferTx()
		return tx, nil
	}
	tx.unknowing = !db.bucketsKnown()
	if err := tx.takeTree(); err != nil {
		db.leave()
		return nil, outer(err)
	}
	return tx, nil
}

// makeRoom publishes when the frames on the heap have reached the memory limit. While the data file
// cannot be written they stay, and writes are refused.
func (db *DB) makeRoom() error {
	g := &db.groups
	g.mu.Lock()
	full := g.pendingBytes > db.opts.MemoryLimit
	g.mu.Unlock()
	if !full {
		return nil
	}
	if err := db.settle(); err != nil {
		return err
	}
	return db.publish()
}

// end marks a write transaction as finished, keeps its buffer, unless the group may refer to it, and lets go of the tree. The writer lock is held.
func (tx *Tx) end() {
	tx.done.Store(true)
	switch {
	case tx.large:
		tx.db.giveLargeOps()
	case len(tx.ops) >= wal.LargeOps || cap(tx.ops) > keepOps:
		tx.db.opsBuffer = nil
	case tx.ops != nil:
		tx.db.opsBuffer = tx.ops[:0]
	}
	tx.ops = nil
	tx.db.highest = tx.highest[:0]
	if tx.holdsTree {
		tx.holdsTree = false
		tx.db.unlockTree()
	}
}

// keepOps bounds the buffer of log operations that is kept between transactions, in bytes.
const keepOps = 2 << 20

// abort rolls a write transaction back and releases the writer lock.
func (tx *Tx) abort() {
	db := tx.db
	db.stats.rollbacks.Add(1)
	tx.leave()
	tx.end()
	db.writer.Unlock()
	db.leave()
	tx.recycle()
}

// Commit makes the transaction's changes part of the store and returns when they are as durable as the
// store or SetDurability asks. On an error the changes are not made; only
// after ErrPoisoned may they still be found when the store is opened again. Commit of a read
// transaction is ErrTxNotWritable.
func (tx *Tx) Commit() error {
	switch {
	case tx.done.Load():
		return ErrTxClosed
	case tx.managed:
		return ErrTxManaged
	case tx.writing == nil:
		return ErrTxNotWritable
	}
	return tx.finish()
}

// finish commits and then calls what OnCommit was given.
func (tx *Tx) finish() error {
	err := tx.commit()
	if err == nil {
		for _, fn := range tx.onCommit {
			fn()
		}
	}
	tx.recycle()
	return err
}

// Rollback ends the transaction and forgets its changes. A second one is ErrTxClosed, so
// that a deferred Rollback is harmless after Commit.
func (tx *Tx) Rollback() error {
	switch {
	case tx.done.Load():
		return ErrTxClosed
	case tx.managed:
		return ErrTxManaged
	}
	if !tx.rollback() {
		return ErrTxClosed
	}
	return nil
}

// rollback is false if another goroutine has just ended the transaction, which then only reads.
func (tx *Tx) rollback() bool {
	if tx.writing != nil {
		tx.abort()
		return true
	}
	if tx.done.Swap(true) {
		return false
	}
	if tx.trace != nil {
		tx.db.traces.remove(tx.trace)
	}
	tx.db.unpin(tx.shard)
	return true
}

// View calls fn with a read transaction and ends it. It returns fn's error, or what was found damaged. A panic
// of fn passes through, after the rollback.
func (db *DB) View(fn func(*Tx) error) (err error) {
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	tx.managed = true
	defer tx.conclude(debug.SetPanicOnFault(true), &err)
	err = fn(tx)
	return err
}

// Update calls fn with a write transaction and commits it; if fn returns an error or panics it is
// rolled back. Concurrent Updates run one after the other and share syncs.
func (db *DB) Update(fn func(*Tx) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	return tx.update(fn)
}

// update is Update with a transaction that has begun.
func (tx *Tx) update(fn func(*Tx) error) error {
	tx.managed = true
	if err := tx.call(fn); err != nil {
		tx.rollback()
		return err
	}
	return tx.finish()
}

// call runs fn; unless it returns, the transaction is rolled back.
func (tx *Tx) call(fn func(*Tx) error) (err error) {
	returned := false
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if returned {
			return
		}
		r := recover()
		if e := tx.damageOf(r); e != nil {
			err = e
			return
		}
		tx.rollback()
		if r != nil {
			panic(r)
		}
	}()
	err = fn(tx)
	returned = true
	if p := tx.broken.Load(); p != nil && err == nil {
		err = *p
	}
	return err
}

// conclude is View's deferred end.
func (tx *Tx) conclude(old bool, err *error) {
	r := recover()
	debug.SetPanicOnFault(old)
	if tx.done.Load() {
		return
	}
	tx.rollback()
	if r == nil {
		if p := tx.broken.Load(); p != nil && *err == nil {
			*err = *p
		}
		return
	}
	e := tx.damageOf(r)
	if e == nil {
		panic(r)
	}
	*err = e
}

// damage is what a method without an error result panics with inside View and Update, which
// return its error.
type damage struct{ err error }

func (d *damage) Error() string { return d.err.Error() }

// damageOf returns the error for a recovered panic that is damage found, a fault inside
// the mapping, or of the code that reads pages; nil for any other.
func (tx *Tx) damageOf(r any) error {
	if d, ok := r.(*damage); ok {
		return d.err
	}
	if f, ok := r.(interface{ Addr() uintptr }); ok {
		if id, ok := tx.contains(f.Addr()); ok {
			return outer(&CorruptError{File: filepath.Base(tx.db.path), Page: id, Offset: -1, Invariant: 2,
				Reason: "cannot be accessed: the device failed, the file was cut by another process, or a slice of the store was written to"})
		}
		return nil
	}
	if e, ok := r.(runtime.Error); ok && inPages() {
		return outer(&CorruptError{File: filepath.Base(tx.db.path), Offset: -1, Invariant: 2,
			Reason: "a page has changed since it was validated: " + e.Error()})
	}
	return nil
}

// inPages reports whether the panic that is being recovered began in the code that reads pages. What it reads has been validated,
// so the page has changed since: somebody else writes to the file, or has cut it and this process made it longer again. That
// is not worth the process's life. A panic in the user's own functions stays one.
func inPages() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicked = true
		case panicked && !strings.HasPrefix(f.Function, "runtime."):
			return strings.HasPrefix(f.Function, "github.com/foliodb/folio/page.") ||
				strings.HasPrefix(f.Function, "github.com/foliodb/folio/btree.")
		}
		if !more {
			return false
		}
	}
}

// contains reports whether addr lies in a mapping that the transaction reads through, and in which page.
func (tx *Tx) contains(addr uintptr) (page.ID, bool) {
	if tx.writing == nil || tx.deferred {
		return tx.snapshot.m.Contains(addr)
	}
	if !tx.done.Load() && tx.holdsTree {
		for _, m := range tx.db.pager.maps {
			if id, ok := m.Contains(addr); ok {
				return id, true
			}
		}
	}
	m := tx.db.data.Map() // a commit that ended has let go of the others
	defer m.Release()
	return m.Contains(addr)
}

// spoil notes damage that a method without an error result has met. Inside View and Update it does
// not return.
func (tx *Tx) spoil(err error) {
	err = outer(tx.db.named(err))
	tx.broken.CompareAndSwap(nil, &err)
	if tx.writing != nil && tx.failed == nil {
		tx.failed = err
	}
	if tx.managed {
		panic(&damage{err})
	}
}

// named puts the file's name into damage found in it.
func (db *DB) named(err error) error {
	var c *CorruptError
	if errors.As(err, &c) && c.File == "" {
		c.File = filepath.Base(db.path)
		if db.memory {
			c.File = "store in memory"
		}
	}
	return err
}

// catch is deferred by methods of transactions that are not View's or Update's: a fault inside the mapping
// becomes the transaction's error.
func (tx *Tx) catch(old bool) {
	debug.SetPanicOnFault(old)
	if r := recover(); r != nil {
		err := tx.damageOf(r)
		if err == nil {
			panic(r)
		}
		tx.spoil(err)
	}
}

// catchError is catch for methods that return an error.
func (tx *Tx) catchError(old bool, err *error) {
	debug.SetPanicOnFault(old)
	if r := recover(); r != nil {
		e := tx.damageOf(r)
		if e == nil {
			panic(r)
		}
		if tx.writing != nil && tx.failed == nil {
			tx.failed = e
		}
		*err = e
	}
}

// Err returns what made a method without an error result return nothing: the damage that the transaction has met, or why
// a change of it has failed, behind which nothing is read any more. Nil as long as all answers were true.
func (tx *Tx) Err() error {
	if p := tx.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// check panics when the transaction has ended: the caller's method has no error to return.
func (tx *Tx) check(method string) {
	if tx.done.Load() {
		panic("folio: " + method + " on a transaction that has ended")
	}
}

// ID returns the TxID of the commit that the transaction reads, or, writable, will make.
func (tx *Tx) ID() TxID { return tx.id }

// DB returns the store.
func (tx *Tx) DB() *DB { return tx.db }

// Writable reports whether the transaction may write.
func (tx *Tx) Writable() bool { return tx.writing != nil }

// Size returns the size of the data file in bytes as the transaction sees it.
func (tx *Tx) Size() int64 {
	tx.check("Size")
	if tx.writing != nil {
		return int64(tx.db.free.End()) * int64(tx.db.pageSize)
	}
	return int64(tx.snapshot.view.Count()) * int64(tx.db.pageSize)
}

// Root returns the top-level bucket. It holds keys as well as buckets.
func (tx *Tx) Root() *Bucket {
	tx.check("Root")
	return &tx.root
}

// Bucket returns the top-level bucket of that name; nil: there is none.
func (tx *Tx) Bucket(name []byte) *Bucket { tx.check("Bucket"); return tx.root.Bucket(name) }

// CreateBucket makes a top-level bucket; see Bucket.CreateBucket.
func (tx *Tx) CreateBucket(name []byte) (*Bucket, error) { return tx.root.CreateBucket(name) }

// CreateBucketIfNotExists returns a top-level bucket, made if it is not there.
func (tx *Tx) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	return tx.root.CreateBucketIfNotExists(name)
}

// DeleteBucket deletes a top-level bucket and all in it; see Bucket.DeleteBucket.
func (tx *Tx) DeleteBucket(name []byte) error { return tx.root.DeleteBucket(name) }

// MoveBucket moves the bucket of that name from src to dst; nil stands for the root.
// ErrSameBuckets when that is into itself, below itself, or no move.
func (tx *Tx) MoveBucket(name []byte, src, dst *Bucket) error {
	if src == nil {
		src = &tx.root
	}
	if dst == nil {
		dst = &tx.root
	}
	if src.tx != tx || dst.tx != tx {
		return ErrDifferentDB
	}
	return src.MoveBucket(name, dst)
}

// ForEach calls fn for each top-level bucket in order, as bbolt's does: keys of the root bucket are passed over. An error
// of fn ends it and is returned.
func (tx *Tx) ForEach(fn func(name []byte, b *Bucket) error) error {
	return tx.root.ForEachBucket(func(name []byte) error {
		return fn(name, tx.root.Bucket(name))
	})
}

// Cursor returns a cursor over the root bucket.
func (tx *Tx) Cursor() *Cursor { return tx.root.Cursor() }

// SetDurability chooses how durable this write transaction's commit has to be before Commit returns.
func (tx *Tx) SetDurability(d Durability) {
	tx.check("SetDurability")
	if tx.writing == nil {
		return
	}
	if d == DefaultDurability {
		d = tx.db.opts.Durability
	}
	if d > Relaxed {
		panic(fmt.Sprintf("folio: SetDurability with unknown %v", d))
	}
	tx.durability = d
}

// OnCommit has fn called after the transaction has been committed, in the order of the calls, by the
// goroutine that commits and without any lock held.
func (tx *Tx) OnCommit(fn func()) {
	if fn == nil { // after the commit, nobody would see whose it was
		panic("folio: OnCommit of a nil function")
	}
	tx.check("OnCommit")
	if tx.writing != nil {
		tx.onCommit = append(tx.onCommit, fn)
	}
}
