package folio

import (
	"errors"
	"time"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

// slot is what one meta slot of the data file says, and the pages of the free set that it
// names. Guarded by groups.mu; changed only by who holds the checkpoint lock.
type slot struct {
	meta page.Meta
	own  freelist.Extent
	id   page.ID // the page that it was read from, for reports of damage; else 0
}

// checkpoint makes one committed state durable in the data file itself, beside readers and writers. The
// steps and what each relies on:
//
//  1. Seal the open group, so that a state k ends exactly here; pin k; take the free
//     set, which no transaction is changing at that moment. Make k durable in the log.
//  2. Write the frames that k reaches, and the free set. These pages are reached by no
//     meta and, but for k itself, by no snapshot: whatever the kernel does with them is harmless.
//  3. Sync the data file: msync of the mapping, then fdatasync, which carries the size.
//  4. Write the older meta slot and sync it; then the other one, alike. At any moment one slot is
//     whole and its pages and its log are untouched, so one damaged slot costs nothing.
//  5. Only now let the previous checkpoint go: its pages, its free set's pages.
//  6. Let go of the log before k, and cut the file's free tail.
//
// A failure before step 4 leaves everything as it was and is tried again. A failed sync poisons, and so does any
// failure in step 4: a meta may be on the disk then that names what would be used again.
type checkpoint struct {
	db     *DB
	state  state
	set    *freelist.Snapshot // nil once the free list has it back
	frames []*frame
	bulk   bool // it commits a transaction, and nobody else can meanwhile
}

// Checkpoint writes all commits so far to the data file and makes them durable there, so that
// the log is empty and the next Open has nothing to replay. It runs beside readers and
// writers; it blocks until done. The store does this by itself as the log grows.
//
// If much of the file is free by then, Checkpoint also moves pages from its end to its beginning and gives
// the end back to the file system. That takes transactions of their own, between which writers
// get their turn, so TxIDs may advance, and the call takes longer the more they write; and the end stays while a read transaction keeps pages there.
//
// ErrFileReplaced says that the file no longer has its name: somebody removed or replaced it.
func (db *DB) Checkpoint() error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	if db.opts.ReadOnly {
		return ErrDatabaseReadOnly
	}
	if err := db.checkpointAll(); err != nil {
		return err
	}
	if err := db.shrink(false); err != nil {
		return err
	}
	return db.keepsName()
}

// checkpointAll is Checkpoint for who keeps Close from finishing, without the moving of pages.
func (db *DB) checkpointAll() error { return db.checkpointNow(db.checkpoint) }

// checkpointSome makes the log shorter, and frees what the last checkpoint retains: all that the tree has by now becomes durable. Of the backlog
// only as much is applied before that no more than half of the log is kept for the rest. So whoever
// commits meanwhile does not wait until all of it has been applied. A transaction that gets the tree first has applied everything, and is not
// waited for: it may come to wait for this checkpoint.
func (db *DB) checkpointSome() error {
	return db.checkpointNow(func() error {
		end, half := db.log.End().LSN, db.log.Live()/2
		enough := func() bool { // groups.mu is held
			return len(db.groups.late.groups) == 0 || int64(end-db.head.pos.LSN) <= half
		}
		for more := true; more; {
			var err error
			if more, err = db.drainUnit(enough); err != nil {
				return outer(err)
			}
		}
		return db.checkpointTree()
	})
}

func (db *DB) checkpointNow(checkpoint func() error) error {
	if db.volatile {
		return db.giveBack()
	}
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	if db.log == nil {
		return nil // nothing was written since the store was opened clean
	}
	if err := checkpoint(); err != nil {
		return err
	}
	// What only the checkpoint before had retained is free from here on, and may be the file's end. A
	// second checkpoint, with little to write, cuts it off.
	if db.reclaim(); db.worthCutting() {
		return checkpoint()
	}
	return nil
}

// worthCutting reports whether enough is free at the end of the file.
func (db *DB) worthCutting() bool {
	g := &db.groups
	g.mu.Lock()
	busy := len(g.late.groups) > 0 // it will grow again at once
	g.mu.Unlock()
	return !busy && int64(db.free.Tail())*int64(db.pageSize) >= db.opts.minCut && !db.accompanied()
}

// reclaim frees what no pin needs any more, unless a writer is at work, which does that itself.
func (db *DB) reclaim() {
	if !db.tryLockTree() {
		return
	}
	defer db.unlockTree()
	db.reclaimLocked()
}

// reclaimLocked is reclaim for who holds the tree lock.
func (db *DB) reclaimLocked() {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	db.free.Reclaim(db.pinsLocked())
}

// checkpoint makes all commits so far durable in the data file. The checkpoint lock is held.
func (db *DB) checkpoint() error {
	if err := db.settle(); err != nil {
		return outer(err)
	}
	if err := db.applyAcknowledged(); err != nil {
		return outer(err)
	}
	return db.checkpointTree()
}

// checkpointTree runs the steps, for the state that the tree is in. The checkpoint lock is held.
func (db *DB) checkpointTree() error {
	c := &checkpoint{db: db}
	if err := c.begin(); err != nil {
		return outer(err)
	}
	if err := c.run(); err != nil {
		c.abandon()
		return outer(err)
	}
	return nil
}

// begin is step 1 up to the log's sync.
func (c *checkpoint) begin() error {
	db := c.db
	g := &db.groups
	db.append.Lock()
	defer db.append.Unlock()
	var taken error
	behind := false
	_, err := db.flushLocked(func() {
		c.state, behind = db.head, len(g.late.groups) > 0
		g.checkpointing, g.checkpointPin = true, c.state.tx
		if c.set, taken = db.free.Snapshot(c.state.tx, db.cutThreshold()); taken != nil {
			return
		}
		c.state.end = c.set.End
		c.frames = g.gather(c.state.tx)
	})
	if err = errors.Join(taken, err); err != nil {
		c.abandon()
		return err
	}
	if !behind { // else the tree ends with a group that was appended before
		c.state.pos = db.log.End()
	}
	return nil
}

// cutThreshold is how many free pages at the end are worth cutting off; 0: none may be.
func (db *DB) cutThreshold() int {
	if db.accompanied() {
		return 0
	}
	return max(1, int(db.opts.minCut)/db.pageSize)
}

// run is everything behind begin. A bulk commit comes in here: all before it is durable, and it has
// no frames.
func (c *checkpoint) run() error {
	if err := c.db.settle(); err != nil {
		return err
	}
	if err := c.writeFrames(); err != nil {
		return err
	}
	m, err := c.writeSet()
	if err != nil {
		return err
	}
	return c.complete(m)
}

// checkpointChunk is how many frames are written before the publish lock is offered to
// readers who wait for it.
const checkpointChunk = 1024

// writeFrames is the first half of step 2.
func (c *checkpoint) writeFrames() error {
	if err := c.db.writeChunks(c.frames); err != nil {
		return err
	}
	return c.db.publishApplied()
}

// writeChunks writes frames of a pinned state that nobody else has written meanwhile.
func (db *DB) writeChunks(frames []*frame) error {
	for len(frames) > 0 {
		n := min(len(frames), checkpointChunk)
		if err := db.writeChunk(frames[:n]); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

func (db *DB) writeChunk(frames []*frame) error {
	db.publishing.Lock()
	defer db.publishing.Unlock()
	db.groups.mu.Lock()
	rest := frames[:0]
	for _, f := range frames {
		if !f.written { // a publisher may have been here
			rest = append(rest, f)
		}
	}
	db.groups.mu.Unlock()
	return db.writeFrames(rest)
}

// writeSet is the second half of step 2.
// It returns the meta to be written.
func (c *checkpoint) writeSet() (page.Meta, error) {
	db := c.db
	if err := db.free.Ensure(c.set); err != nil {
		return page.Meta{}, err
	}
	m := c.meta()
	set := c.set.Encode()
	if len(set) == 0 {
		return m, nil
	}
	own := c.set.Own
	padded := make([]byte, int(own.N)*db.pageSize)
	copy(padded, set)
	if page.ID(page.RunPages(uint64(len(set)), db.pageSize)) < own.N {
		set = padded // the length has to tell of all pages that were reserved
	}
	m.Free = page.Ref{ID: own.Start, Born: c.state.tx, Sum: page.Sum(set)}
	m.FreeLen = uint64(len(set))
	return m, db.data.Write(own.Start, padded)
}

// meta is the meta of the state, with the number after the highest there is.
func (c *checkpoint) meta() page.Meta {
	db := c.db
	m := page.Meta{
		PageSize:   db.pageSize,
		StoreID:    db.storeID,
		Checkpoint: max(db.slots[0].meta.Checkpoint, db.slots[1].meta.Checkpoint) + 1,
		Tx:         c.state.tx,
		Pages:      c.state.end,
		Root:       c.state.root,
	}
	setLogPosition(&m, c.state.pos)
	return m
}

// complete is steps 3 to 6.
func (c *checkpoint) complete(m page.Meta) error {
	db := c.db
	if err := db.poisoned(); err != nil {
		return err
	}
	var giveWay func() bool
	if !c.bulk {
		giveWay = db.givingWay()
	}
	if err := db.data.Sync(giveWay); err != nil {
		return db.poison(err)
	}
	if err := db.writeSlots(m, c.set.Own); err != nil {
		return err
	}
	g := &db.groups
	g.mu.Lock()
	g.checkpointing = false
	g.mu.Unlock()
	db.log.Release(c.state.pos)
	set := c.set
	c.set = nil
	db.stats.checkpoints.Add(1)
	db.checkpointed.Store(int64(time.Since(db.opened)))
	if _, err := db.free.Cut(set, db.cut); err != nil {
		db.noteBackground(err) // the file is longer than it had to be
	}
	return nil
}

// writeSlots is steps 4 and 5: it writes the slot that is older, then the other one.
func (db *DB) writeSlots(m page.Meta, own freelist.Extent) error {
	first := 0
	if db.slots[1].meta.Checkpoint < db.slots[0].meta.Checkpoint {
		first = 1
	}
	for _, i := range [2]int{first, 1 - first} {
		// A poisoned handle must not write a meta: what it would name may not be on the disk.
		if err := db.poisoned(); err != nil {
			return err
		}
		if err := db.data.WriteMeta(i, &m); err != nil {
			return db.poison(err) // it may have been written all the same
		}
		if err := db.file.Sync(); err != nil {
			return db.poison(err)
		}
		db.setSlot(i, slot{meta: m, own: own})
	}
	if err := db.checkMapping(); err != nil {
		return db.poison(err)
	}
	return nil
}

// setSlot notes what a slot says now, and frees the free set that no slot names any more.
func (db *DB) setSlot(i int, s slot) {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	old := db.slots[i].own
	db.slots[i] = s
	if old.N > 0 && old != db.slots[0].own && old != db.slots[1].own {
		db.free.Release(old)
	}
}

// abandon gives back what a checkpoint that failed had taken. A poisoned handle keeps all of it, the pin too: a slot on the disk may
// name it, and readers go on to have the backlog applied, which takes pages.
func (c *checkpoint) abandon() {
	g := &c.db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.db.poisoned() != nil {
		return
	}
	g.checkpointing = false
	if c.set != nil {
		c.db.free.Abandon(c.set)
	}
}

// checkpointDue reports whether a checkpoint should start: five eighths of the log are in use, or the pages that the last checkpoint retains
// are an eighth of those in use. But while changes come so fast that this happens every few moments, checkpoints would do little
// but write pages out that are superseded the next moment: then half as many as are in use have to be retained.
func (db *DB) checkpointDue() bool {
	if db.volatile {
		f := db.free.Stats()
		return f.Free > uint64(f.End)/2 && int64(f.Free)*int64(db.pageSize) > minRetained
	}
	if db.log.Live() > db.opts.LogLimit/8*5 {
		return true
	}
	return db.retains(0.5) || db.retains(0.125) && int64(time.Since(db.opened))-db.checkpointed.Load() > int64(checkpointPause)
}

// checkpointPause is how long a checkpoint that only gives back space is put off after the one before.
const checkpointPause = time.Second

// heldByCheckpoint is how many pages the last checkpoint retains: they have died since.
func (db *DB) heldByCheckpoint() uint64 {
	g := &db.groups
	g.mu.Lock()
	pin := min(db.slots[0].meta.Tx, db.slots[1].meta.Tx)
	g.mu.Unlock()
	return db.free.RetainedBy(pin)
}

// retains reports whether the last checkpoint retains a part of what is in use besides, in pages that have died since.
func (db *DB) retains(part float64) bool {
	held := db.heldByCheckpoint()
	return int64(held)*int64(db.pageSize) > minRetained && float64(held) > float64(db.free.Alive())*part
}

// boundSpace waits for a checkpoint when the last one retains as much as is in use: changes that come faster than
// the disk takes them would make the file larger and larger meanwhile. It does so, too, where there is hardly any space, and a checkpoint would free some.
// Neither the tree lock is held nor any behind it.
//
// With random keys, what is applied at once can change nearly every leaf of a small store. So while transactions come as fast as
// they are taken the file can become several times as large as it has to be; it is cut when they have stopped.
func (db *DB) boundSpace(puts bool) error {
	if db.volatile || !db.hasLog.Load() || !db.retains(1) && !db.cramped(puts) {
		return nil
	}
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	db.reclaim()
	if !db.retains(1) && !db.cramped(puts) { // the one that was under way has done it
		return nil
	}
	err := db.checkpointTree()
	db.short.Store(false)
	db.reclaim()
	if isFull(err) && db.poisoned() == nil { // the transaction may need less than is left
		db.noteBackground(err)
		return nil
	}
	return err
}

// cramped reports whether there is hardly any space, or has just been none for a transaction, while the last checkpoint retains pages. A store that has come to
// MaxSize, or has filled its disk, could else not even delete. Who puts needs more than who only deletes.
func (db *DB) cramped(puts bool) bool {
	short := db.short.Load()
	if db.opts.MaxSize == 0 && !db.full.Load() && !short {
		return false
	}
	held := db.heldByCheckpoint()
	if short {
		return held > 0
	}
	left, spare := db.free.Left(db.mostPages(), db.full.Load()), db.sparePages()
	free := max(left, spare) - spare // to puts
	return left < 2*spare && held > left/2 || puts && left < spare+putPages && held > free+leastGain
}

// putPages is more than the pages that a small transaction takes.
const putPages = 16

// leastGain keeps stores in which there is always hardly any space from making a checkpoint for each put: a few pages are retained behind each.
const leastGain = 3

// minRetained keeps small stores from checkpointing all the time.
const minRetained = 4 << 20
