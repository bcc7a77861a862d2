package folio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

func setLogPosition(m *page.Meta, p wal.Position) {
	m.LogLSN, m.LogOffset, m.LogEpoch, m.LogChain = uint64(p.LSN), p.Offset, p.Epoch, p.Chain
}

func logPosition(m *page.Meta) wal.Position {
	return wal.Position{LSN: wal.LSN(m.LogLSN), Offset: m.LogOffset, Epoch: m.LogEpoch, Chain: m.LogChain}
}

// readSlots reads both meta slots. It reports whether the store needs no further look: both are
// sound and alike, say that the store was closed cleanly, and there is no log.
func (db *DB) readSlots() (clean bool, err error) {
	info, err := db.file.Stat()
	if err != nil {
		return false, err
	}
	var found [2]error
	found[0] = db.readSlot(0, 0, info.Size)
	// The second slot lies one page behind the first. If that one cannot be read, its page size
	// is not known: a slot names its own, so at most one place fits.
	if found[0] == nil {
		found[1] = db.readSlot(1, int64(db.slots[0].meta.PageSize), info.Size)
	} else {
		for size := int64(4096); size <= 65536; size *= 2 {
			err := db.readSlot(1, size, info.Size)
			if err == nil {
				found[1] = nil
				break
			}
			if found[1] == nil || telling(err) > telling(found[1]) {
				found[1] = err
			}
		}
	}
	switch newer := page.ErrVersionMismatch; {
	case found[0] != nil && found[1] != nil, errors.Is(found[0], newer), errors.Is(found[1], newer): // what another version wrote is not written over
		return false, db.noSlot(found[0], found[1])
	case found[0] != nil || found[1] != nil:
		return false, nil
	}
	a, b := &db.slots[0].meta, &db.slots[1].meta
	if a.StoreID != b.StoreID {
		return false, &CorruptError{File: filepath.Base(db.path), Page: 1, Offset: page.MetaStoreID, Invariant: 5,
			Reason: "meta slots are of different stores"}
	}
	if db.memory {
		return true, nil
	}
	if a.Checkpoint == b.Checkpoint && *a != *b {
		return false, &CorruptError{File: filepath.Base(db.path), Page: 1, Offset: page.MetaCheckpoint, Invariant: 5,
			Reason: fmt.Sprintf("meta slots of checkpoint %d differ", a.Checkpoint)}
	}
	_, err = db.opts.fs.Stat(logName(db.file.Name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return err != nil && a.Checkpoint == b.Checkpoint && a.Clean && b.Clean, nil
}

// What readSlot says of a file that ends too early, which may be no store at all, and of a disk that fails.
const (
	shortSlot  = "file ends within the meta slot"
	unreadSlot = "meta slot cannot be read"
)

// isUnread reports whether it was the disk that failed, and not the slot that was found wanting: it may be sound.
func isUnread(err error) bool {
	var c *CorruptError
	if errors.As(err, &c) {
		return c.Reason == unreadSlot
	}
	return err != nil && !errors.Is(err, page.ErrInvalid) && !errors.Is(err, page.ErrVersionMismatch)
}

// telling says which error of a slot, looked for where it may lie, tells most about it: that there is none may be said of a
// wrong place.
func telling(err error) int {
	var c *CorruptError
	switch {
	case isUnread(err):
		return 3
	case errors.As(err, &c) && c.Reason == shortSlot:
		return 0
	case errors.Is(err, page.ErrInvalid):
		return 1
	}
	return 2
}

// readSlot reads slot i at the offset; a slot that is not sound stays zero.
func (db *DB) readSlot(i int, off, size int64) error {
	db.slots[i] = slot{}
	p := make([]byte, page.MetaSize)
	if n, err := db.file.ReadAt(p, off); n < len(p) {
		reason := shortSlot
		if !errors.Is(err, io.EOF) {
			reason = unreadSlot
		}
		return &CorruptError{File: filepath.Base(db.path), Page: page.ID(i), Offset: n, Invariant: 5, Reason: reason, Err: err}
	}
	m, err := page.DecodeMeta(p, i)
	if err != nil {
		return err
	}
	if i == 1 && int64(m.PageSize) != off {
		return &CorruptError{File: filepath.Base(db.path), Page: 1, Offset: page.MetaPageSize, Invariant: 5,
			Reason: fmt.Sprintf("page size %d in a slot at offset %d", m.PageSize, off)}
	}
	if m.Checkpoint == 0 {
		return &CorruptError{File: filepath.Base(db.path), Page: page.ID(i), Offset: page.MetaCheckpoint, Invariant: 5, Reason: "checkpoint number is 0"}
	}
	need := int64(m.Pages) * int64(m.PageSize)
	if need > size { // a writer may have made the file longer since, and then written the slot
		info, err := db.file.Stat()
		if err != nil {
			return err
		}
		size = info.Size
	}
	if need > size && !db.opts.allowCut {
		return &CorruptError{File: filepath.Base(db.path), Page: page.ID(i), Offset: page.MetaPages, Invariant: 5,
			Reason: fmt.Sprintf("file is %d bytes long and should be %d: it was cut", size, need)}
	}
	db.slots[i] = newSlot(m)
	db.slots[i].id = page.ID(i)
	return nil
}

// newSlot is the slot that holds m.
func newSlot(m page.Meta) slot {
	s := slot{meta: m}
	if m.FreeLen > 0 {
		s.own.Start, s.own.N = m.Free.ID, page.ID(page.RunPages(m.FreeLen, m.PageSize))
	}
	return s
}

// noSlot says why a file of which neither slot can be used is refused: another version is told
// before damage, damage before "not a store".
func (db *DB) noSlot(a, b error) error {
	if onlyTooShort(a, b) {
		return fmt.Errorf("%w: %s", ErrInvalid, db.path)
	}
	for _, err := range []error{a, b} {
		if errors.Is(err, page.ErrVersionMismatch) {
			return fmt.Errorf("%w: %s: %w", ErrVersionMismatch, db.path, err)
		}
	}
	for _, err := range []error{a, b} {
		if isUnread(err) {
			return db.named(err) // it may be sound, and only the disk have failed
		}
	}
	var damaged []error
	for _, err := range []error{a, b} {
		if errors.Is(err, ErrCorrupt) && telling(err) > 0 {
			damaged = append(damaged, outer(db.named(err)))
		}
	}
	if len(damaged) > 0 {
		return errors.Join(damaged...)
	}
	return fmt.Errorf("%w: %s", ErrInvalid, db.path)
}

// onlyTooShort reports whether nothing in the file looks like a store: there is no magic, and what is
// called damage is that the file ends.
func onlyTooShort(a, b error) bool {
	short := func(err error) bool {
		var c *CorruptError
		return errors.Is(err, page.ErrInvalid) || errors.As(err, &c) && c.Reason == shortSlot
	}
	return short(a) && short(b)
}

// repairSlots begins the recovery of a store that was not closed cleanly, by the open protocol of
// ARCHITECTURE.md: nothing that is only in the page cache may be believed, since a cache left by
// a failed sync holds what the disk does not. So both files are synced, their cached pages
// dropped, and the slots read again. It reports whether nothing is left to do.
func (db *DB) repairSlots() (clean bool, err error) {
	if db.opts.reads() {
		m := db.newest()
		s := db.newestSlot()
		db.slots[0], db.slots[1] = s, s
		if db.opts.withoutLog {
			return true, nil
		}
		return m.Clean, db.checkStrayLog(m)
	}
	if err := refresh(db.file, db.opts.reread); err != nil {
		return false, err
	}
	if _, err := db.readSlots(); err != nil {
		return false, err
	}
	m := db.newest()
	if !m.Clean {
		return false, nil
	}
	if err := db.checkStrayLog(m); err != nil {
		return false, err
	}
	if err := db.equalise(); err != nil {
		return false, err
	}
	return true, db.removeStrayLog()
}

// equalise makes a damaged slot, or the lower one of two, like the other. It comes before anything that the lower
// one needs is touched, and after everything that may find that the store cannot be recovered: what is refused
// is not changed. In a recovery where it is in doubt whether the mapping shows what is written, both are written, under a higher number, and
// looked at: what is replayed is read through the mapping.
func (db *DB) equalise() error {
	m := db.newest()
	first := 0
	if db.slots[1].meta.Checkpoint < db.slots[0].meta.Checkpoint {
		first = 1
	}
	look := db.doubtful && db.recovering && !db.mappingChecked
	if look {
		m.Checkpoint++
	}
	for _, i := range [2]int{first, 1 - first} {
		if db.slots[i].meta == m {
			continue
		}
		if err := m.Check(i); err != nil {
			return err
		}
		p := make([]byte, page.MetaSize)
		m.Encode(p, i)
		if _, err := db.file.WriteAt(p, int64(i)*int64(m.PageSize)); err != nil {
			return err
		}
		if err := db.file.Sync(); err != nil {
			return err
		}
		db.slots[i] = newSlot(m)
	}
	if look {
		db.mappingChecked = true
		return db.checkMapping()
	}
	return nil
}

// hugePage is how much of the data file's cached pages is dropped for the sake of the slots: the largest piece that Linux caches a file in, of which it
// drops nothing in part, is as many pages as one page of the processor's tables has entries for.
//
// All behind may stay. What a slot reaches was synced, successfully, before the slot was written, and is not written to as long as
// one is there: the cache can only be right about it. Whatever else is there is written before it is read. To read leaves from the
// disk again one by one took a third of the time of a recovery.
func hugePage() int64 { return int64(os.Getpagesize()) * int64(os.Getpagesize()/8) }

// refresh makes reads of the first n bytes of f, or of all of it, come from the disk, and its size be what the disk has. A
// sync that failed in an earlier life may have left a size that only the kernel's memory knows, and that no later sync writes because it
// does not change; so it is changed, and changed back.
func refresh(f vfs.File, n int64) error {
	if err := f.Sync(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for _, size := range []int64{info.Size + 4096, info.Size} {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.DropCache(n)
}

// checkStrayLog looks at a log beside a store that was closed cleanly: Close was cut short before it
// removed it, or it was being made. Another store's log may hold that one's commits and is
// left for the user to put right.
func (db *DB) checkStrayLog(m page.Meta) error {
	f, err := db.opts.fs.Open(logName(db.file.Name()), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := wal.ReadHeader(f)
	switch {
	case err == nil && h.ID != m.StoreID:
		return foreignLog(f.Name(), h.ID, m.StoreID)
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrCorrupt): // damaged, or never finished
		return notStore(f, "log")
	}
	return err // it could be any store's
}

// notStore is an error if a file that has the name of the store's log, or lock file, begins as a data file does, by either slot: it would be
// removed as a log that was never finished, or overwritten.
func notStore(f vfs.File, what string) error {
	var p [8]byte
	for off := int64(0); off <= 65536; off = max(4096, 2*off) {
		switch n, err := f.ReadAt(p[:], off); {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case page.IsMeta(p[:n]):
			return fmt.Errorf("folio: %s is a data file, and lies where the store's %s has to be: move it away", f.Name(), what)
		}
	}
	return nil
}

// notStoreNamed is notStore for the file of that name, if there is one.
func (db *DB) notStoreNamed(name, what string) error {
	f, err := db.opts.fs.Open(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return notStore(f, what)
}

func foreignLog(name string, is, want [16]byte) error {
	return &logError{&wal.CorruptError{File: filepath.Base(name), Offset: wal.HeaderID, Invariant: wal.InvariantKept,
		Reason: fmt.Sprintf("belongs to store %x, not to %x: move it away if you know that it is not needed", is, want)}}
}

func (db *DB) removeStrayLog() error {
	name := logName(db.file.Name())
	if err := db.opts.fs.Remove(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return db.opts.fs.SyncDir(filepath.Dir(name))
}

// openLog opens the log that meta m requires.
func (db *DB) openLog(m page.Meta, flag int) (vfs.File, error) {
	name := logName(db.file.Name())
	f, err := db.opts.fs.Open(name, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &logError{&wal.CorruptError{File: filepath.Base(name), Offset: -1, Invariant: wal.InvariantKept,
			Reason: fmt.Sprintf("is missing: the store was not closed cleanly and its last commits are there; put it back beside %s", db.path)}}
	}
	if err != nil {
		return nil, err
	}
	h, err := wal.ReadHeader(f)
	if err == nil && h.ID != m.StoreID {
		err = foreignLog(name, h.ID, m.StoreID)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// recover replays the log into the tree. The log is not touched but for a
// record behind its end, which starts a new epoch, so that a record of the timeline
// that ended here can never become valid again. Every step may be cut short and
// repeated: until the checkpoint's meta is durable the pages written are free for the meta that counts.
func (db *DB) recover() error {
	m := db.newest()
	f, err := db.openLog(m, os.O_RDWR)
	if err != nil {
		return err
	}
	// Who died may not have come to the sync of the folder; nothing is shown before the names are durable.
	err = errors.Join(refresh(f, 0), db.opts.fs.SyncDir(filepath.Dir(f.Name())))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	before, err := db.file.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	var res replayed
	err = db.keepOff()
	if err == nil {
		res, err = db.replay(f)
	}
	if err == nil {
		err = db.leaveAppending()
	}
	var jump uint64
	if err == nil {
		jump, err = db.overtake(&res)
	}
	if err == nil {
		db.log, err = wal.Open(f, db.storeID, &res.log, jump, db.logOptions())
	}
	if err != nil {
		if res.tx != nil {
			res.tx.abort()
		}
		return errors.Join(err, db.restoreSize(before.Size), f.Close())
	}
	db.hasLog.Store(true)
	if err := db.log.Sync(); err != nil {
		if res.tx != nil {
			res.tx.abort()
		}
		return err
	}
	if res.tx == nil {
		return nil
	}
	return db.commitReplay(res, jump)
}

// keepOff reads the free set, and sees to it that a replay which meets damage leaves all that either slot knows as it is. What is free by two equal slots nobody needs.
// Of two that differ, since who died was between them, the lower one may need what is free by the higher: and that one may be found damaged when the replay has
// already written to such pages. Then the lower slot, which was whole, would be worth nothing. So pages are taken behind those that either slot knows, until all is
// found sound and the slots are made equal. Behind the page counts of both slots all is free, by definition; a slot that could not be read may know any page that there is.
func (db *DB) keepOff() error {
	if err := db.loadFree(); err != nil {
		return err
	}
	a, b := &db.slots[0].meta, &db.slots[1].meta
	if db.doubtful || db.keepsOff() || *a == *b {
		return nil
	}
	from := max(a.Pages, b.Pages)
	if a.Checkpoint == 0 || b.Checkpoint == 0 {
		var err error
		if from, err = db.wholePages(); err != nil {
			if isFull(err) { // pages that are free will do, with the slots made equal before
				return nil
			}
			return err
		}
	}
	db.free.AppendOnly(max(from, page.FirstID))
	db.appending = true
	return nil
}

// leaveAppending makes the slots equal, and lets pages be taken that are free.
func (db *DB) leaveAppending() error {
	if err := db.equalise(); err != nil {
		return err
	}
	if db.appending {
		db.appending = false
		db.free.AppendOnly(0)
	}
	return nil
}

// overtake raises the TxID of the recovered state above all that processes have been shown, or told of: so no state of this
// timeline has the number of one in the timeline that ended. Even where both hold the same commits their pages
// differ, and a pin has to tell whose it keeps. It returns the next TxID if it jumps, else 0.
func (db *DB) overtake(r *replayed) (jump uint64, err error) {
	last := r.last
	if n := r.log.NextTx; n > 0 {
		last = max(last, page.TxID(n)-1) // of an earlier recovery, which was cut short
	}
	if db.hasCompany() {
		last = max(last, page.TxID(db.table.Floor())+1)
	}
	if last == r.last {
		return 0, nil
	}
	if r.tx == nil { // a checkpoint has to say so all the same
		if r.tx, err = db.beginWrite(); err != nil {
			return 0, err
		}
		r.tx.replaying = true
	}
	for db.opts.moving != nil && r.last < last {
		r.last++
		db.opts.moving(r.last)
	}
	r.last = last
	return uint64(last) + 1, nil
}

// restoreSize cuts off what the data file grew by for a replay that failed. A damaged file need not end with a whole page,
// and keeps even that: a store that is refused is not changed.
func (db *DB) restoreSize(size int64) error {
	now, err := db.file.Stat()
	if err != nil || now.Size == size {
		return err
	}
	return db.file.Truncate(size)
}

// replayed is what replay made: a transaction that is not yet committed.
type replayed struct {
	tx   *Tx // nil: the log held nothing
	last page.TxID
	log  wal.Result
}

// replay applies the log's transactions in one transaction of our own, which keeps within the
// memory limit as any.
func (db *DB) replay(f vfs.File) (r replayed, err error) {
	m := db.newest()
	r.last = m.Tx
	p := replayer{limit: db.replayLimit()}
	defer p.memory.close()
	defer p.sorter.close()
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	p.most = int(min(info.Size, p.limit))
	var at wal.Record
	log, err := wal.Recover(f, db.storeID, logPosition(&m), func(rec wal.Record) error {
		if page.TxID(rec.FirstTx) != r.last+1 {
			return db.logDamage(f, rec, fmt.Sprintf("transaction %d follows %d", rec.FirstTx, r.last))
		}
		for id, ops := range rec.All() {
			if r.tx == nil {
				if r.tx, err = db.beginWrite(); err != nil {
					return err
				}
				r.tx.replaying = true
				p.tx = r.tx
			}
			if err := p.add(ops); err != nil {
				return replayError(f, rec, id, err)
			}
			r.last = page.TxID(id)
		}
		at = rec
		return nil
	})
	if err == nil && r.tx != nil {
		if err = p.finish(); err != nil {
			err = replayError(f, at, uint64(r.last), err)
		}
	}
	r.log = log
	return r, err
}

// replayError sorts the error of a transaction's replay. Its operations succeeded when they were logged, so an error
// of use means that the log and the data file do not belong together.
func replayError(f vfs.File, rec wal.Record, id uint64, err error) error {
	for _, use := range []error{wal.ErrCorrupt, ErrBucketNotFound, ErrBucketExists, ErrBucketNameRequired, ErrKeyRequired,
		ErrKeyTooLarge, ErrValueTooLarge, ErrIncompatibleValue, ErrSameBuckets} {
		if errors.Is(err, use) {
			return &logError{&wal.CorruptError{File: filepath.Base(f.Name()), Offset: rec.Offset, LSN: rec.LSN, Invariant: wal.InvariantPrefix,
				Reason: fmt.Sprintf("transaction %d cannot be replayed", id), Err: err}}
		}
	}
	return fmt.Errorf("replay of transaction %d: %w", id, err)
}

func (db *DB) logDamage(f vfs.File, rec wal.Record, reason string) error {
	return &wal.CorruptError{File: filepath.Base(f.Name()), Offset: rec.Offset, LSN: rec.LSN, Invariant: wal.InvariantPrefix, Reason: reason}
}

// commitReplay commits the replayed transactions. The log has them, and goes on behind the link, so that the store is where it would be if nobody had
// died: a checkpoint can come later, beside whatever is done with the store. But a gap in the TxIDs, jump, no log
// has in its middle: then there is a checkpoint at once.
func (db *DB) commitReplay(r replayed, jump uint64) (err error) {
	tx := r.tx
	tx.id = r.last
	merged := false
	if jump > 0 {
		db.checkpointing.Lock()
		merged, err = tx.commitByCheckpoint()
		db.checkpointing.Unlock()
	} else {
		merged, err = tx.commitLogged()
	}
	if !merged {
		tx.abort()
		return err
	}
	tx.end()
	db.writer.Unlock()
	db.leave()
	return err
}

// commitLogged commits what the log already has.
func (tx *Tx) commitLogged() (merged bool, err error) {
	db := tx.db
	if err := db.pager.spill(func(*frame) bool { return true }); err != nil {
		return false, outer(err)
	}
	g := &db.groups
	g.mu.Lock()
	err = db.adopt(tx)
	db.head.pos = db.log.End()
	db.acknowledgeHead()
	g.mu.Unlock()
	if err != nil {
		return true, db.poison(err)
	}
	return true, outer(db.publish())
}

// readState returns a state to be read: the one that the data file has, or the one behind it that the log makes of it.
// The pages that the log's commits changed are on the heap then: nothing is written.
func (db *DB) readState(m page.Meta, clean bool) (*snapshot, error) {
	st, o := metaState(&m), (*overlay)(nil)
	if clean {
		db.replayed.Store(0)
	} else {
		var err error
		if st, o, err = db.replayAside(m); err != nil {
			return nil, err
		}
	}
	s := newSnapshot(st, db.data.Map())
	if o != nil {
		o.view = s.m.View(m.Pages)
		s.overlay = o
		s.top.Init(s.root, nil, &s.view, o)
	}
	return s, nil
}

// replayAside replays the log in a store of its own on the same file, which ends with that: a process that reads beside others may
// have to do so again and again, while transactions read what it showed before.
func (db *DB) replayAside(m page.Meta) (state, *overlay, error) {
	st := metaState(&m)
	f, err := db.openLog(m, os.O_RDONLY)
	if err != nil {
		return st, nil, err
	}
	defer f.Close()
	aside := newDB(db.path, db.opts)
	aside.file, aside.slots, aside.recovering = db.file, [2]slot{newSlot(m), newSlot(m)}, true
	if err := aside.prepare(m); err != nil {
		return st, nil, err
	}
	defer aside.data.Close()
	aside.begin(st)
	aside.published.Store(newSnapshot(st, aside.data.Map()))
	defer aside.published.Load().m.Release()
	aside.pager.private = true
	defer aside.pager.reset()
	r, err := aside.replay(f)
	db.replayed.Store(int64(r.log.End.LSN - r.log.From.LSN))
	if r.tx == nil {
		return st, nil, err
	}
	r.tx.end()
	aside.writer.Unlock()
	aside.leave()
	if err != nil {
		return st, nil, err
	}
	return state{tx: r.last, root: r.tx.root.header(), end: aside.free.End()}, newOverlay(aside.frames, aside.pageSize), nil
}

// overlay is how readers of a read-only store see pages that a replayed log has changed.
// It never changes; it is a btree.Writer whose writing half is not reached by read transactions.
type overlay struct {
	pager
	frames frameTable
	view   page.View
	parts  map[page.ID][]byte // every single page, those within runs too
}

// newOverlay takes over the frames of the transaction that replayed the log.
func newOverlay(frames frameTable, pageSize int) *overlay {
	o := &overlay{frames: frames, parts: make(map[page.ID][]byte)}
	for _, f := range frames.slots {
		if f == nil {
			continue
		}
		f.seal()
		for i := 0; i < len(f.buf)/pageSize; i++ {
			o.parts[f.id+page.ID(i)] = f.buf[i*pageSize : (i+1)*pageSize]
		}
	}
	return o
}

// Page returns a page.
func (o *overlay) Page(id page.ID) ([]byte, error) {
	if f := o.frames.get(id); f != nil {
		return f.node()
	}
	return o.view.Page(id)
}

// Run returns the content of a run.
func (o *overlay) Run(r page.Ref, n int) ([]byte, error) {
	if f := o.frames.get(r.ID); f != nil && f.run && len(f.buf) >= n {
		return f.buf[:n:n], nil
	}
	return o.view.Run(r, n)
}

// Expose does nothing: the overlay's buffers are never reused.
func (o *overlay) Expose(page.ID) {}

// requireLog creates the log before the first commit after a clean open, and marks both slots as
// needing it, one after the other: a log that is lost later is noticed. The writer lock is held.
func (db *DB) requireLog() error {
	if db.log != nil {
		return nil
	}
	if ok, err := db.stillNamed(db.abs); err != nil {
		return outer(err)
	} else if !ok { // by that name lies the log of another store, or will
		return outer(fmt.Errorf("%w: %s", ErrFileReplaced, db.abs))
	}
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	m := db.newest()
	opt := db.logOptions()
	opt.Replace = true
	info, err := db.file.Stat()
	if err != nil {
		return outer(err)
	}
	// The data file's name must be durable before there is a log of it: who made the store may have died before his
	// sync of the folder, and a log alone is refused.
	if err := db.opts.fs.SyncDir(filepath.Dir(db.file.Name())); err != nil {
		return outer(err)
	}
	// Whatever has come by that name since Open would be removed.
	if err := db.checkStrayLog(m); err != nil {
		return outer(err)
	}
	log, err := wal.Create(db.opts.fs, logName(db.file.Name()), info.Mode.Perm(), db.storeID, m.Checkpoint+1, wal.LSN(m.LogLSN), opt)
	if err != nil {
		return outer(err)
	}
	own := db.newestSlot().own
	m.Checkpoint++
	m.Tx = db.head.tx // it is higher where another process had been shown more: see overtake
	m.Clean = false
	setLogPosition(&m, log.End())
	if err := db.writeSlots(m, own); err != nil {
		return outer(errors.Join(err, log.Close()))
	}
	db.log = log
	db.groups.mu.Lock()
	db.head.pos = log.End()
	db.groups.mu.Unlock()
	db.hasLog.Store(true)
	return nil
}

func (db *DB) logOptions() wal.Options {
	return wal.Options{Limit: db.opts.LogLimit, Rand: db.opts.random}
}

// logless reports that nothing has been written since the store was opened clean.
func (db *DB) logless() bool { return !db.hasLog.Load() }
