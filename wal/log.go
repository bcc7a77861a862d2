package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/foliodb/folio/internal/vfs"
)

// Sizes of the file, in bytes.
const (
	DefaultLimit   = 64 << 20
	DefaultInitial = 64 << 10

	minLimit = 16 << 10
	// maxStep bounds how much the file grows at once, and with it how long the
	// committer that needs the space waits: some 10 ms.
	maxStep = 8 << 20
	// growUnit keeps the file's end on the blocks of common file systems.
	growUnit = 4096
)

// Options are the log's settings. The zero value is a good one.
type Options struct {
	Limit   int64         // size that the file may grow to; 0: DefaultLimit; at least 16 KiB
	Initial int64         // size of a new file; 0: DefaultInitial
	Replace bool          // Create replaces a log left at the name; otherwise it is fs.ErrExist
	Rand    func() uint64 // epochs; nil: crypto/rand. Must not repeat over the lives of one store
}

func (o Options) withDefaults() Options {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Initial == 0 {
		o.Initial = DefaultInitial
	}
	o.Limit = max(o.Limit, minLimit) &^ (block - 1)
	o.Initial = min(max(o.Initial, recordsAt+2*block), o.Limit) &^ (block - 1)
	if o.Rand == nil {
		o.Rand = randomEpoch
	}
	return o
}

func randomEpoch() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// A Log is an open log that is appended to. All methods may be called
// concurrently. Locks, in order: growing, syncing, mu; mu is never held across a sync.
type Log struct {
	// Constant.
	file vfs.File
	id   [16]byte
	opt  Options

	growing sync.Mutex // held by who makes the file larger
	// syncing is held across each sync of the file. Two at once would be wrong:
	// the kernel reports a failed write-back to one of them only, and the other
	// would acknowledge what is lost.
	syncing sync.Mutex

	mu       sync.Mutex // guards all below
	space    space
	next     Position // of the next record
	released LSN
	synced   LSN
	err      error // the first failure, for ever (R5)
	link     [block]byte
	tails    int64 // how many bytes of tails may still follow the last record; 0: the next one is none
	cramped  int64 // the size beyond which Extend found no room; 0: none

	// A part of the file around the end, to be written without system calls; nil: there is none.
	window            vfs.Window
	windowAt, windowN int64
	windowless        bool // the system has none
}

// windowSize is how much of the file is opened as a window at a time, in bytes, and windowMost the size of a record up to which it is
// written by one.
const (
	windowSize = 4 << 20
	windowMost = 128 << 10
)

// Create makes a new log file with perm and a first record to come at LSN start,
// preallocates it, and makes file and name durable. checkpoint is the number of
// the checkpoint that it continues. A failure leaves no file behind.
func Create(fsys vfs.FS, name string, perm fs.FileMode, id [16]byte, checkpoint uint64, start LSN, opt Options) (*Log, error) {
	opt = opt.withDefaults()
	if opt.Replace {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("wal: replace: %w", err)
		}
	}
	f, err := fsys.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, fmt.Errorf("wal: create: %w", err)
	}
	h := Header{Version: Version, ID: id, Checkpoint: checkpoint, Epoch: opt.Rand(), LSN: start}
	err = writeNew(f, &h, opt.Initial)
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wal: create: %w", err), f.Close(), fsys.Remove(name))
	}
	l := &Log{file: f, id: id, opt: opt, next: h.Start(), released: start, synced: start}
	l.space = space{
		segs: []segment{{lsn: start, off: recordsAt, end: recordsAt}},
	}
	l.space.grow(opt.Initial)
	return l, nil
}

// writeNew fills a new file: header, zeros, sync.
func writeNew(f vfs.File, h *Header, size int64) error {
	if err := zero(f, 0, size); err != nil {
		return err
	}
	var p [recordsAt]byte
	h.encode(p[:])
	if _, err := f.WriteAt(p[:], 0); err != nil {
		return err
	}
	return f.Sync()
}

// zero reserves [off, end) and writes zeros to it. Reserved blocks alone would
// not do: their first use costs an update of the file's metadata in the sync. Zeros
// alone would not either: the disk may turn out to be full only in the sync.
func zero(f vfs.File, off, end int64) error {
	if err := f.Allocate(off, end-off); err != nil {
		return err
	}
	zeros := make([]byte, min(end-off, 1<<20))
	for off < end {
		n := min(end-off, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Open goes on behind what Recover has read from f, which must be open for
// writing and the same file, unchanged since. It appends a link with a new
// epoch (R6), which the first Sync makes durable: sync before anything is shown
// that Recover read. Everything before res.From may be written over from now on,
// so every meta slot that can be chosen must name that position. nextTx is
// the TxID of the next transaction, which may jump here; 0: it does not.
//
// The log owns f if there is no error; else f is the caller's still. A log that
// was full grows past its limit by what the link needs, so ENOSPC is possible.
func Open(f vfs.File, id [16]byte, res *Result, nextTx uint64, opt Options) (*Log, error) {
	l := &Log{
		file: f, id: id, opt: opt.withDefaults(),
		next: res.End, released: res.From.LSN, synced: res.From.LSN,
	}
	l.space = res.space.clone()
	if err := l.adopt(); err != nil {
		return nil, err
	}
	if l.space.limit < padded(l.next.Offset)+block {
		return nil, corrupt(f, l.next.Offset, l.next.LSN, InvariantPrefix, "no room behind the end of the log")
	}
	var target int64
	for {
		var ok bool
		if l.space.fits(block) {
			target = padded(l.next.Offset) + block
			break
		}
		if target, ok = l.space.place(block); ok {
			break
		}
		if err := l.growTo(l.space.need(block), l.space.need(block), true); err != nil {
			return nil, err
		}
	}
	if err := l.writeLink(target, nextTx); err != nil {
		return nil, err
	}
	return l, nil
}

// adopt decides how much of an existing file may be used. A crash while the file
// grew can leave a hole at its end; reserving space for it makes sure that an
// append cannot fail there (R3). On a full disk the hole is left alone.
func (l *Log) adopt() error {
	info, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("wal: open: %w", err)
	}
	size := info.Size &^ (block - 1)
	if err := l.file.Allocate(0, size); err != nil {
		size = min(size, l.space.top())
	}
	l.space.grow(size)
	return nil
}

// End returns where the next record will be: the position for a checkpoint that
// covers everything appended so far.
func (l *Log) End() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Synced returns the LSN up to which the log is known to be durable.
func (l *Log) Synced() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// Live returns the bytes between the released position and the end.
func (l *Log) Live() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.space.live()
}

// Size returns the size of the file.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.space.size
}

// Capacity returns the most that Reserve grants whenever everything appended has
// been released: the end and the anchor can cut the file in three.
func (l *Log) Capacity() int64 { return Capacity(l.opt.Limit) }

// Capacity is that of a log with a limit, in bytes.
func Capacity(limit int64) int64 {
	return min((limit-recordsAt-block-runLimit(limit))/3-block, maxPayload) &^ (block - 1)
}

// runLimit bounds a run, and with it the anchor, in bytes: less where the log is small.
func (l *Log) runLimit() int64 { return runLimit(l.opt.Limit) }

func runLimit(limit int64) int64 { return min(runMost, max(floored(limit/32), block)) }

// Err returns the failure that ended the log, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail makes err the log's end, unless it has one, and returns what ended it.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failLocked(err)
}

func (l *Log) failLocked(err error) error {
	if l.err == nil {
		l.err = err
	}
	return l.err
}

// Append writes the group as one record behind the end and returns the end after
// it; an empty group changes nothing. The record is durable after the next Sync. A small one that is unawaited takes no more than it needs: see tail.
// It takes one write, or two when the log must go on elsewhere in the file. If the
// room was not reserved, Append may have to grow the file, and then can fail
// like Reserve, changing nothing. Any other failure ends the log.
func (l *Log) Append(g *Group) (Position, error) {
	if g.count == 0 {
		return l.End(), l.Err()
	}
	if g.Size() > maxPayload {
		return Position{}, ErrTooLarge
	}
	n, k := g.Size(), g.kind(l.runLimit())
	var record [][]byte
	var h head
	if k != kindRun {
		record, h = g.seal(k) // while others may append
	}
	l.mu.Lock()
	for l.err == nil && !l.space.room(n) {
		l.mu.Unlock()
		if err := l.grow(n); err != nil {
			return Position{}, err
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	if l.err != nil {
		return Position{}, l.err
	}
	if k == kindRun {
		if t := g.tail(); t.size() <= l.tails && l.space.fitsTail(t.size()) {
			if err := l.writeTail(g, &t); err != nil {
				return Position{}, err
			}
			return l.next, nil
		}
		record, h = g.seal(k)
	}
	if !l.space.fits(n) {
		target, _ := l.space.place(n)
		if err := l.writeLink(target, 0); err != nil {
			return Position{}, err
		}
	}
	if err := l.write(record, &h, g.Unawaited); err != nil {
		return Position{}, err
	}
	return l.next, nil
}

// write completes the head and writes the record at the beginning of the block behind the end, where there is
// room. The caller holds mu.
func (l *Log) write(record [][]byte, h *head, unawaited bool) error {
	n := h.size()
	l.next = l.next.aligned()
	h.id, h.lsn, h.epoch = l.id, l.next.LSN, l.next.Epoch
	h.claim, h.chain = l.synced, l.next.Chain
	h.encode(record[0])
	var err error
	switch {
	case len(record) > 1:
		err = l.file.WriteV(record, l.next.Offset)
	case unawaited && n <= windowMost:
		err = l.store(record[0])
	default:
		_, err = l.file.WriteAt(record[0], l.next.Offset)
	}
	if err != nil {
		return l.failLocked(fmt.Errorf("wal: append: %w", err))
	}
	l.space.wrote(n, h.kind == kindRun)
	l.next = l.next.after(h)
	l.tails = 0
	if h.kind == kindRun {
		l.tails = l.runLimit() - n
	}
	return nil
}

// writeTail writes a tail at the end, where there is room. The caller holds mu.
func (l *Log) writeTail(g *Group, t *tail) error {
	if err := l.store(g.sealTail(t, l.next.Chain)); err != nil {
		return l.failLocked(fmt.Errorf("wal: append: %w", err))
	}
	l.space.wroteTail(t.size())
	l.next = l.next.behind(t)
	l.tails -= t.size()
	return nil
}

// store writes what nobody waits for at the end, by the cheapest way. The caller holds mu.
func (l *Log) store(p []byte) error {
	if l.open(int64(len(p))) {
		return l.window.Write(p, l.next.Offset)
	}
	_, err := l.file.WriteAt(p, l.next.Offset)
	return err
}

// open sees to it that there is a window with n bytes from the end on. The caller holds mu, and n bytes have room there.
func (l *Log) open(n int64) bool {
	from := l.next.Offset
	if l.window != nil && from >= l.windowAt && from+n <= l.windowAt+l.windowN {
		return true
	}
	if l.windowless {
		return false
	}
	l.shut()
	size := min(windowSize, l.space.size-from)
	w, err := l.file.Window(from, size)
	if err != nil {
		l.windowless = true // whatever is wrong, a write will tell
		return false
	}
	l.window, l.windowAt, l.windowN = w, from, size
	return true
}

// shut closes the window if there is one. The caller holds mu.
func (l *Log) shut() {
	if l.window != nil {
		l.window.Close() // what was written stays, whatever the answer
		l.window = nil
	}
}

// writeLink appends a link to target and goes on there. The caller holds mu.
func (l *Log) writeLink(target int64, nextTx uint64) error {
	epoch := l.opt.Rand()
	payload := l.link[headSize : headSize+linkPayload]
	h := linkHead(payload, target, epoch)
	h.tx = nextTx
	if err := l.write([][]byte{l.link[:]}, &h, false); err != nil {
		return err
	}
	l.space.jump(target)
	l.space.relimit()
	l.next.Offset, l.next.Epoch = target, epoch
	return nil
}

// Reserve makes sure that groups of n bytes in all (see TxSize) can be appended
// from now on without growing the file, and grows it if it must. It keeps no
// account: n counts all that is on its way. Failures that change nothing: ErrFull at
// the limit, until a Release; ErrTooLarge, when that might not help; ENOSPC.
func (l *Log) Reserve(n int64) error {
	n = padded(n) // the file's size stays a multiple of a block
	for {
		l.mu.Lock()
		err, ok := l.err, l.space.room(n)
		l.mu.Unlock()
		if err != nil || ok {
			return err
		}
		if err := l.grow(n); err != nil {
			return err
		}
	}
}

// grow makes the file larger so that n bytes fit, unless they do by now. Who
// appends meanwhile can take the new room, so the caller looks again.
func (l *Log) grow(n int64) error {
	l.growing.Lock()
	defer l.growing.Unlock()
	l.mu.Lock()
	err, ok, old, need := l.err, l.space.room(n), l.space.size, l.space.need(n)
	l.mu.Unlock()
	switch {
	case err != nil || ok:
		return err
	case need > l.opt.Limit && n > l.Capacity():
		return ErrTooLarge
	case need > l.opt.Limit:
		return ErrFull
	}
	want := max(old+min(old, maxStep), need+growUnit-1)
	if n >= unzeroed {
		want = need + growUnit - 1
	}
	return l.growTo(need, min(want, l.opt.Limit), n < unzeroed)
}

// unzeroed is the size from which a record gets space without zeros: it fills the space itself, so that zeros would be written, and synced, for
// nothing, and the update of the metadata, which they are there for, does not count against the record.
const unzeroed = 1 << 20

// Tight reports whether the file should grow before somebody has to wait for it: see Extend.
func (l *Log) Tight() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && l.space.size < l.opt.Limit && l.space.size != l.cramped && !l.space.room(min(l.space.size/3, maxStep/2))
}

// Extend makes the file larger if it is tight, beside appends. A failure changes nothing, unless it is that of a sync, see Err.
func (l *Log) Extend() error {
	l.growing.Lock()
	defer l.growing.Unlock()
	if !l.Tight() {
		return nil
	}
	old := l.Size()
	size := min(old+min(old, maxStep), l.opt.Limit)
	err := l.growTo(size, size, true)
	if err != nil {
		l.mu.Lock()
		l.cramped = old // not again with each commit: to try may take the disk's last bytes from others for a moment
		l.mu.Unlock()
	}
	return err
}

// growTo makes the file want bytes long, or need if the disk has no more, and fills the new part with zeros, or only reserves it. The
// caller holds growing, or is the only one.
func (l *Log) growTo(need, want int64, zeros bool) error {
	old := l.Size()
	info, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("wal: grow: %w", err)
	}
	// The file may be longer than what is used of it, when adopt could not reserve all. It never gets shorter: it would
	// end within a torn record then, which no crash makes, and would be taken for damage.
	back := max(old, info.Size)
	size := max(want&^(growUnit-1), need) // whole units unless the limit cuts one
	reserve := zero
	if !zeros {
		reserve = func(f vfs.File, off, end int64) error { return f.Allocate(off, end-off) }
	}
	err = reserve(l.file, old, size)
	if err != nil && need < size {
		size = need
		if err = l.file.Truncate(back); err == nil {
			err = reserve(l.file, old, size)
		}
	}
	if err != nil {
		// Give back what there is of it; if that fails too, it is unused space
		// at the file's end and no harm.
		return errors.Join(fmt.Errorf("wal: grow: %w", err), l.file.Truncate(back))
	}
	if err := l.sync(true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.space.grow(size)
	return nil
}

// Sync makes everything appended before the call durable. Its first failure
// ends the log: it is returned by every later call too. It waits for a sync under way.
func (l *Log) Sync() error { return l.sync(false) }

// sync does so even if nothing was appended, when it is for the file's size.
func (l *Log) sync(always bool) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	err, end, synced := l.err, l.next.LSN, l.synced
	l.tails = 0 // the block in which the log ends is not written to again: the sync may cover it
	l.mu.Unlock()
	if err != nil || end == synced && !always {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return l.fail(fmt.Errorf("wal: sync: %w", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = end
	l.tails = 0 // only a head says how far the log is synced (R4)
	return nil
}

// WriteOut has the disk begin to take what was appended, so that a Sync soon behind it waits less; while somebody else syncs it does nothing. Nothing
// is durable by it. A failure ends the log as that of a sync does, and the next Sync returns it.
func (l *Log) WriteOut() {
	if !l.syncing.TryLock() {
		return
	}
	defer l.syncing.Unlock()
	l.mu.Lock()
	err, size := l.err, l.space.size
	l.tails = 0 // the block in which the log ends is on its way: a tail would have the disk take it twice
	l.mu.Unlock()
	if err != nil {
		return
	}
	if err := l.file.WriteOut(0, size, false); err != nil {
		l.fail(fmt.Errorf("wal: sync: %w", err))
	}
}

// Release allows everything before p to be written over. p comes from End or
// Append, and every checkpoint that recovery could start from lies at or behind
// it. A position before the one released last changes nothing; one that is no
// record's, or that is not synced yet, is a mistake and panics.
func (l *Log) Release(p Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.LSN < l.released {
		return
	}
	if p.LSN > l.synced {
		panic(fmt.Sprintf("wal: release of lsn %d, synced is %d", p.LSN, l.synced))
	}
	if !l.space.release(p) {
		panic(fmt.Sprintf("wal: release of lsn %d, offset %d: no record there", p.LSN, p.Offset))
	}
	l.released, l.cramped = p.LSN, 0
}

// Close closes the file, without a sync. Calls afterwards give fs.ErrClosed, or
// the failure that came before.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := errors.Is(l.err, fs.ErrClosed)
	l.failLocked(fs.ErrClosed)
	l.shut()
	l.mu.Unlock()
	if closed {
		return fs.ErrClosed
	}
	return l.file.Close()
}
