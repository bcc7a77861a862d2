package folio

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// One process writes, and others read beside it. They know of each other by a table in memory that they share (package
// lockfile): the writer shows there what it has published, and readers pin there what they read. See
// ARCHITECTURE.md, "Several processes".
//
// Where memory cannot be shared, or its file not be written by who only wants to read, the locks of the data file let
// either one writer in, or readers.

// sharing is a store's part in the table.
type sharing struct {
	// Of the writer.
	polling atomic.Bool // a timer looks for processes that attach
	aside   atomic.Bool // allocation is append-only: processes may read what another writer has shown
	shown   page.TxID   // the first snapshot that this writer showed to others. Guarded by groups.mu
	pins    []uint64    // scratch. Guarded by groups.mu

	// Of a process that reads.
	barred   error      // why it has no part in the table, if that is for want of a permission. Constant after Open
	mu       sync.Mutex // held to pin in the table, and to let go of that
	tidying  bool       // a timer lets go of what nobody reads. Guarded by mu
	detached bool       // Close has begun to leave the table. Guarded by mu
	asleep   bool       // the table says that nobody reads here. Guarded by mu
	renewals uint64     // counts calls of renew. Guarded by mu
}

// shared is what a snapshot has in a process that reads beside others.
type shared struct {
	word   lockfile.Word // that the table had
	covers uint64        // TxID that the table had as acknowledged, at most
	pin    lockfile.Pin
	pinned atomic.Bool // the pin stands in the table, and counts
	keeps  page.TxID   // what is pinned: of a checkpoint, if that is what is read
	base   *slot       // the checkpoint that is read, with or without a log on top; nil: a published snapshot
}

// lockName is the name of the table's file beside a data file.
func lockName(path string) string { return path + "-lock" }

// errBusy says that a snapshot cannot be had yet: a writer is at work, and has not shown it.
var errBusy = errors.New("folio: another process is about to show a newer state")

// Intervals of what is done beside transactions.
const (
	pollAttach = 5 * time.Millisecond  // looks whether a process has attached, while commits are unpublished
	pollIdle   = 20                    // looks without a commit in between: then they are published anyway
	letGo      = 10 * time.Millisecond // a snapshot that no transaction of this process reads stays pinned
	sleepAfter = 200 * time.Millisecond
)

// join attaches a store that is only read to the table. It reports whether it could; if not, the locks of the
// data file have to do.
func (db *DB) join() (bool, error) {
	if able, err := db.canShare(); !able {
		return false, err
	}
	err := db.attach(time.Now().Add(min(max(db.opts.LockTimeout, minPatience), maxPatience)))
	if err == nil {
		if err = db.table.Join(); err == nil {
			return true, nil
		}
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		db.share.barred = err
	}
	return false, errors.Join(refusal(err), db.retreat())
}

// retreat is detach in Open, which goes on: without a table, or with another one.
func (db *DB) retreat() error {
	err := db.detach()
	db.table, db.share.detached = nil, false
	return err
}

// How long a process that wants to read waits for those who are in the way by another name, before it
// is content with the locks of the data file.
const (
	minPatience = 100 * time.Millisecond
	maxPatience = time.Second
)

// canShare reports whether the system lets processes share memory.
func (db *DB) canShare() (bool, error) {
	_, err := db.file.Share(0)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	return err == nil, err
}

// refusal drops errors that only mean that this process cannot take part in the table.
func refusal(err error) error {
	for _, e := range []error{errElsewhere, errors.ErrUnsupported, fs.ErrPermission, syscall.EROFS} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// deadline is when a wait for other processes ends that begins now.
func (db *DB) deadline() time.Time {
	if db.opts.LockTimeout < 0 {
		return time.Now().Add(1 << 61) // seventy years
	}
	return time.Now().Add(db.opts.LockTimeout)
}

// errElsewhere says that processes are attached, and not by this table: they came by another name of the data file, and have
// another one.
var errElsewhere = errors.New("folio: processes are attached by another name of the file")

// attach makes the store part of the table, as soon as nobody is in the way. errElsewhere: somebody still was when patience ended.
//
// It takes lockAttached first, and has it for as long as it is attached. Whoever makes the table anew must be the only one who does,
// so there is never more than one table with somebody in it. Others may be on their way to this one, leave it, or have been
// killed, and lose their locks one by one: who has to wait lets go of the lock meanwhile.
func (db *DB) attach(patience time.Time) error {
	info, err := db.file.Stat()
	if err != nil {
		return err
	}
	deadline := db.deadline()
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		err := db.tryAttach(info)
		switch now := time.Now(); {
		case errors.Is(err, errElsewhere):
			if now.After(patience) {
				return err
			}
		case !errors.Is(err, vfs.ErrLocked):
			return err
		case now.After(deadline):
			return &LockedError{Path: db.path}
		}
		time.Sleep(wait)
	}
}

func (db *DB) tryAttach(info vfs.Info) (err error) {
	// The writer has it exclusively for the moment in which it cuts the file.
	if err := db.file.Lock(lockAttached, false); err != nil {
		return err
	}
	db.attached = true
	if err = db.notStoreNamed(lockName(db.file.Name()), "lock file"); err == nil {
		db.table, err = lockfile.Attach(db.opts.fs, lockName(db.file.Name()), info.Mode.Perm(), info, db.alone)
	}
	if err != nil {
		db.attached = false
		err = errors.Join(err, db.file.Unlock(lockAttached))
	}
	return err
}

// alone is errElsewhere if another process has lockAttached.
func (db *DB) alone() error {
	others, err := db.file.LockedByOthers(lockAttached)
	if err == nil && others {
		err = errElsewhere
	}
	return err
}

// detach leaves the table. The timer of tidyLater does nothing from then on.
func (db *DB) detach() error {
	var err error
	db.share.mu.Lock()
	db.share.detached = true
	if t := db.table; t != nil {
		if !db.opts.reads() {
			t.SetWriter(0)
		}
		err = t.Close()
	}
	if db.attached { // not before: who has a part in a table has it
		db.attached = false
		err = errors.Join(err, db.file.Unlock(lockAttached))
	}
	db.share.mu.Unlock()
	return err
}

// attachWriter makes a store that is going to be written part of the table. It has the locks of the data file.
func (db *DB) attachWriter() error {
	if able, err := db.canShare(); !able {
		return err
	}
	err := db.attach(db.deadline())
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if errors.Is(err, errElsewhere) {
		return &LockedError{Path: db.path, Holder: db.holder(lockAttached), Reader: true}
	}
	if err != nil {
		return err
	}
	if db.table.Fresh {
		db.table.SetWriter(os.Getpid())
		return nil
	}
	db.table.Succeed(os.Getpid())
	_, err = db.table.Reap()
	return err
}

// shows reports whether this process writes the store and shows others what it has published.
func (db *DB) shows() bool { return db.table != nil && !db.opts.reads() }

// hasCompany reports whether processes may be attached that read what another writer has shown.
func (db *DB) hasCompany() bool { return db.shows() && !db.table.Fresh }

// putAside keeps all pages that the file has now from being allocated, as long as a process may read what another writer
// has shown: the free set tells neither when pages were born nor when they died, and a replay allocates others than those that
// the writer allocated who died. The writer lock is held, and nothing has been allocated.
func (db *DB) putAside(pages page.ID) {
	db.free.AppendOnly(max(pages, page.FirstID))
	db.share.aside.Store(true)
}

// wholePages makes the file end with a whole page, and returns how many it has.
func (db *DB) wholePages() (page.ID, error) {
	info, err := db.file.Stat()
	if err != nil {
		return 0, err
	}
	pages := page.ID((info.Size + int64(db.pageSize) - 1) / int64(db.pageSize))
	return pages, db.data.Grow(pages)
}

// bringBack ends putAside once no process reads a snapshot of another writer any more. The tree lock is held.
func (db *DB) bringBack() {
	if !db.share.aside.Load() {
		return
	}
	g := &db.groups
	g.mu.Lock()
	shown := db.share.shown
	old := shown == 0
	if !old {
		for _, p := range db.table.Pins(nil) {
			old = old || page.TxID(p) < shown
		}
	}
	g.mu.Unlock()
	if old {
		return
	}
	db.share.aside.Store(false)
	db.free.AppendOnly(0)
}

// showFirst shows the state that Open found, or made.
func (db *DB) showFirst() {
	if !db.shows() {
		return
	}
	g := &db.groups
	g.mu.Lock()
	s := db.published.Load().state
	db.share.shown = s.tx
	db.table.Publish(tableSnapshot(s))
	g.mu.Unlock()
	db.table.Acknowledge(uint64(s.tx))
}

func tableSnapshot(s state) lockfile.Snapshot {
	r := s.root
	return lockfile.Snapshot{
		Tx:   uint64(s.tx),
		Root: [3]uint64{r.Sequence, r.Items, uint64(r.Root) | uint64(r.Level)<<32},
		End:  uint64(s.end),
	}
}

func stateOf(s lockfile.Snapshot) state {
	return state{
		tx:   page.TxID(s.Tx),
		root: page.BucketHeader{Sequence: s.Root[0], Items: s.Root[1], Root: page.ID(s.Root[2]), Level: uint8(s.Root[2] >> 32)},
		end:  page.ID(s.End),
	}
}

// show comes before anybody is told of a commit: while processes are attached that read, what they are shown next
// must have it, even when this process dies the next moment. Otherwise it costs two stores. A data file that cannot be written
// does not undo the commit; the others wait then until it can.
func (db *DB) show() {
	if !db.shows() {
		return
	}
	t := db.table
	tx := db.acked.Load()
	if !t.Attached() {
		t.Acknowledge(tx)
		if !t.Attached() {
			db.pollLater()
			return
		}
		db.showNow()
		return
	}
	db.showNow()
	t.Acknowledge(tx)
}

func (db *DB) showNow() {
	if err := db.publish(); err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
		db.noteBackground(err)
		db.pollLater()
	}
}

// pollLater has a timer look for processes that attach, as long as commits are unpublished: nobody else would wake a
// store in which nothing happens.
func (db *DB) pollLater() {
	if db.acked.Load() > uint64(db.published.Load().tx) && db.share.polling.CompareAndSwap(false, true) {
		tx := db.acked.Load()
		time.AfterFunc(pollAttach, func() { db.poll(tx, 1) })
	}
}

func (db *DB) poll(tx uint64, n int) {
	if db.enter() != nil {
		return
	}
	defer db.leave()
	if now := db.acked.Load(); now != tx {
		tx, n = now, 1
	}
	if db.table.Attached() || n >= pollIdle {
		db.share.polling.Store(false) // before: what is acknowledged from here on starts another one
		db.showNow()
		return
	}
	time.AfterFunc(pollAttach, func() { db.poll(tx, n+1) })
}

// tablePins appends what other processes pin. groups.mu is held, under which the table is published to.
func (db *DB) tablePins(p []page.TxID) []page.TxID {
	if !db.shows() {
		return p
	}
	db.share.pins = db.table.Pins(db.share.pins[:0])
	for _, tx := range db.share.pins {
		p = append(p, page.TxID(tx))
	}
	return p
}

// cut cuts the data file, unless a process is attached: it may be about to look how long the file is.
func (db *DB) cut(end page.ID) error {
	if db.table == nil {
		return db.data.Truncate(end)
	}
	if err := db.file.Lock(lockAttached, true); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil
		}
		return err
	}
	return errors.Join(db.data.Truncate(end), db.file.Lock(lockAttached, false))
}

// accompanied reports whether a process is attached that reads, or sleeps: the file is not made shorter then.
func (db *DB) accompanied() bool { return db.shows() && db.table.Occupied() }

// openShared opens a store that is only read, beside others: on the newest snapshot that a writer has shown, or, while
// nobody writes, on the checkpoint and the log.
func (db *DB) openShared() error {
	s, err := db.awaitShared(db.deadline(), db.acquire)
	if err != nil {
		return err
	}
	db.published.Store(s)
	db.head, db.last = s.state, s.tx
	db.groups.acked = s.state
	db.acked.Store(uint64(s.tx))
	db.known.Store(uint64(s.tx))
	db.tidyLater()
	return nil
}

// awaitShared calls fn until it is not busy, or Close has been called.
func (db *DB) awaitShared(deadline time.Time, fn func() (*snapshot, error)) (*snapshot, error) {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		s, err := fn()
		if !errors.Is(err, errBusy) {
			return s, err
		}
		if db.closing.Load() {
			return nil, ErrDatabaseNotOpen
		}
		if time.Now().After(deadline) {
			return nil, &LockedError{Path: db.path, Holder: db.tableHolder()}
		}
		time.Sleep(wait)
	}
}

func (db *DB) tableHolder() int {
	if pid := db.table.Writer(); pid != 0 {
		return pid
	}
	return db.holder(lockWriter)
}

// acquire returns the newest snapshot that may be shown, pinned in the table. sharing.mu is held, or nobody else has the store yet.
func (db *DB) acquire() (*snapshot, error) {
	w := db.table.Published()
	if w != 0 && db.table.Acked() <= w.Tx() {
		return db.acquirePublished(w)
	}
	// What is newest is in the data file and the log alone. While nobody writes they can be read; a shared lock on the
	// writer's byte sees to that.
	err := db.file.Lock(lockWriter, false)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	s, err := db.acquireBase(w)
	if e := db.file.Unlock(lockWriter); e != nil {
		if s != nil {
			db.forgo(s)
		}
		return nil, errors.Join(err, e)
	}
	return s, err
}

// forgo lets go of a snapshot that nobody has been given. One that is published goes with the handle.
func (db *DB) forgo(s *snapshot) {
	db.table.Unpin(s.share.pin)
	if s != db.published.Load() {
		s.m.Release()
	}
}

// pinTable pins a snapshot in the table, if the table still shows the word.
func (db *DB) pinTable(tx page.TxID, w lockfile.Word) (lockfile.Pin, error) {
	pin, err := db.table.Pin(uint64(tx))
	if err != nil {
		return pin, err
	}
	if db.table.Published() != w {
		db.table.Unpin(pin)
		return pin, errBusy
	}
	return pin, nil
}

func (db *DB) acquirePublished(w lockfile.Word) (*snapshot, error) {
	t, ok := db.table.Snapshot(w)
	if !ok {
		return nil, errBusy
	}
	pin, err := db.pinTable(page.TxID(t.Tx), w)
	if err != nil {
		return nil, err
	}
	s, err := db.snapshotOf(stateOf(t))
	if err != nil {
		db.table.Unpin(pin)
		return nil, err
	}
	s.share = &shared{word: w, covers: w.Tx(), pin: pin, keeps: s.tx}
	s.share.pinned.Store(true)
	return s, nil
}

// snapshotOf maps what a published state needs.
func (db *DB) snapshotOf(st state) (*snapshot, error) {
	if db.data == nil {
		// The slots tell the page size. The writer may be at one of them, and at the other one when that is read.
		_, err := db.readSlots()
		for tries := 0; err != nil && tries < 3; tries++ {
			time.Sleep(time.Millisecond)
			_, err = db.readSlots()
		}
		if err != nil {
			return nil, err
		}
		if err := db.prepare(db.newest()); err != nil {
			return nil, err
		}
		db.withoutSet = true
		db.begin(st)
	} else if err := db.follow(st.end); err != nil {
		return nil, err
	}
	return newSnapshot(st, db.data.Map()), nil
}

// acquireBase returns the state of the data file and the log, while nobody writes.
func (db *DB) acquireBase(w lockfile.Word) (*snapshot, error) {
	if db.table.Published() != w {
		return nil, errBusy
	}
	acked := db.table.Acked()
	base, clean, err := db.readCheckpoint()
	if err != nil {
		return nil, err
	}
	m := base.meta
	pin, err := db.pinTable(m.Tx, w)
	if err != nil {
		return nil, err
	}
	s, err := db.baseSnapshot(m, clean)
	if err != nil {
		db.table.Unpin(pin)
		return nil, err
	}
	s.share = &shared{word: w, covers: max(uint64(s.tx), acked), pin: pin, keeps: m.Tx, base: &base}
	s.share.pinned.Store(true)
	return s, nil
}

// readCheckpoint reads the slot that counts, and whether the log has to be added to it.
func (db *DB) readCheckpoint() (base slot, clean bool, err error) {
	probe := newDB(db.path, db.opts)
	probe.file = db.file
	if clean, err = probe.readSlots(); err == nil && !clean {
		clean, err = probe.repairSlots()
	}
	if err != nil {
		return base, false, err
	}
	db.groups.mu.Lock()
	defer db.groups.mu.Unlock()
	db.slots = probe.slots
	return db.newestSlot(), clean, nil
}

func (db *DB) baseSnapshot(m page.Meta, clean bool) (*snapshot, error) {
	if db.data == nil {
		if err := db.prepare(m); err != nil {
			return nil, err
		}
		db.begin(metaState(&m))
		if !db.opts.Private {
			return db.readState(m, clean)
		}
		if clean {
			s, err := db.readState(m, clean)
			if err != nil {
				return nil, err
			}
			db.published.Store(s)
			db.loadFreeEarly()
			return s, nil
		}
		db.published.Store(newSnapshot(metaState(&m), db.data.Map()))
		if err := db.replayVolatile(); err != nil {
			return nil, err
		}
		if err := db.publish(); err != nil {
			return nil, err
		}
		return db.published.Load(), nil
	}
	if err := db.follow(m.Pages); err != nil {
		return nil, err
	}
	return db.readState(m, clean)
}

// loadFreeEarly has what is free read before writers are let in. The pin keeps what the state reaches, but not the pages of the free set: a writer
// that comes later uses these again after its second checkpoint. If the set is damaged reading goes on all the same; the first write and Stats look
// at it again, and say so.
func (db *DB) loadFreeEarly() {
	if db.loadFree() == nil {
		db.loading.Lock()
		defer db.loading.Unlock()
		_, _ = db.lookAtStored() // which nothing of this process's has changed: see freeStats
	}
}

// follow maps pages that a writer may have added. Where that is in doubt it looks whether the mapping still shows the file: a
// writer that came later may have made overlay copy it. Before a writer shows anything it has written the meta slots.
func (db *DB) follow(end page.ID) error {
	if err := db.data.Cover(end); err != nil {
		return err
	}
	return db.checkMapping()
}

// pinShared is pin in a process that reads beside others. It takes no lock and stores nothing in shared memory unless the
// snapshot is new to this process, or nobody here has read it for a while.
func (db *DB) pinShared() (*snapshot, *pinShard, error) {
	for {
		s := db.published.Load()
		shard := s.shard()
		shard.n.Add(1)
		// Close says so first, and then counts: it is seen here, or leaves the table only after us.
		if db.closing.Load() {
			db.unpin(shard)
			return nil, nil, ErrDatabaseNotOpen
		}
		// Who takes the pin away first says so too, and then counts: one of the two sees the other. A snapshot that is
		// no longer shown may have been forgotten before it was counted.
		if db.published.Load() == s && db.isCurrent(s) {
			return s, shard, nil
		}
		db.unpin(shard)
		if err := db.renew(); err != nil {
			return nil, nil, outer(err)
		}
	}
}

// isCurrent reports whether the snapshot is the newest that may be shown, and pinned.
func (db *DB) isCurrent(s *snapshot) bool { return db.isNewest(s) && s.share.pinned.Load() }

func (db *DB) isNewest(s *snapshot) bool {
	return s.share.word == db.table.Published() && s.share.covers >= db.table.Acked()
}

// renew sees to it that the newest snapshot is pinned and shown to this process.
func (db *DB) renew() error {
	deadline := db.deadline() // of all who wait at the same time
	db.share.mu.Lock()
	defer db.share.mu.Unlock()
	if db.share.detached {
		return ErrDatabaseNotOpen
	}
	db.share.renewals++
	if db.share.asleep {
		db.share.asleep = false
		db.table.Wake()
	}
	s, err := db.awaitShared(deadline, db.renewOnce)
	if err != nil {
		return err
	}
	if old := db.published.Load(); old != s {
		g := &db.groups
		g.mu.Lock()
		g.old = append(g.old, old)
		db.published.Store(s)
		g.acked = s.state
		g.mu.Unlock()
		db.acked.Store(uint64(s.tx))
		db.known.Store(uint64(s.tx))
	}
	db.tidyLater()
	return nil
}

func (db *DB) renewOnce() (*snapshot, error) {
	s := db.published.Load()
	if !db.isNewest(s) {
		return db.acquire()
	}
	if s.share.pinned.Load() {
		return s, nil
	}
	pin, err := db.pinTable(s.share.keeps, s.share.word)
	if err != nil {
		return nil, err
	}
	s.share.pin = pin
	s.share.pinned.Store(true)
	return s, nil
}
