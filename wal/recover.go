package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
)

// A Result says what Recover read.
type Result struct {
	From         Position // where reading began
	End          Position // where it stopped: every record before it was sound, and passed on
	Groups       int
	Transactions int
	NextTx       uint64 // expected next: above all read, or where a link raised it to; 0: unknown
	Stop         string // why reading stopped, in words
	Torn         bool   // it stopped at a record that was begun and is not whole
	Leftovers    int    // sound heads outside the part that was read: recycled or lost

	space space
}

// stop says why the log may end here. It is not an error yet.
type stop struct {
	reason string
	torn   bool
}

// recovery is a log being read.
type recovery struct {
	win  window
	id   [16]byte
	head Header
	res  Result
	seen blocks // blocks of the records read

	claim    LSN   // of the head read last; 0: none yet
	halfTail bool  // where no record is the next one there is a tail that is not whole
	closed   bool  // the record before is one that no tail follows
	walked   int64 // up to where the tails of runs have been told of
}

// Recover reads the log of store id from position from, which a checkpoint named,
// and calls fn for each group; an error of fn ends it and is returned. It
// follows links and stops at the first block that is not the record expected;
// then it decides whether that is the log's end or damage, as the package
// comment argues. The file must have been synced and dropped from the cache
// before, and not be written meanwhile; it may be open for reading only.
//
// Errors: *CorruptError for damage, ErrVersion, what reading the file gave, and
// what fn gave. Result says in any case how far reading got: what fn was given
// before an error is sound, and can be salvaged.
func Recover(f vfs.File, id [16]byte, from Position, fn func(Record) error) (Result, error) {
	r, err := newRecovery(f, id, from)
	if err != nil {
		return Result{From: from, End: from, Stop: "the log cannot be read"}, err
	}
	if err := r.read(visitor{group: fn}); err != nil {
		return r.res, err
	}
	return r.res, r.judge(nil)
}

// visitor is told of records as they are read; a nil function is not called.
type visitor struct {
	group func(Record) error
	link  func(h *head, off, target int64, epoch uint64)
}

// newRecovery verifies what can be before a record is read: the header, and
// that from can be a position in this file.
func newRecovery(f vfs.File, id [16]byte, from Position) (*recovery, error) {
	h, err := ReadHeader(f)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	size := info.Size &^ (block - 1)
	switch {
	case size > maxSize:
		return nil, corrupt(f, 0, h.LSN, InvariantKept, "file of %d bytes is longer than any log", info.Size)
	case h.ID != id:
		return nil, corrupt(f, 16, h.LSN, InvariantKept, "log belongs to store %x, not %x", h.ID, id)
	case from.LSN > maxLSN || from.Offset < recordsAt || from.Offset%tailUnit != 0:
		return nil, corrupt(f, from.Offset, from.LSN, InvariantKept, "checkpoint names an impossible position")
	case from.LSN < h.LSN:
		return nil, corrupt(f, headerLSN, from.LSN, InvariantKept, "log begins at lsn %d, behind the checkpoint", h.LSN)
	case from.LSN == h.LSN && from != h.Start():
		return nil, corrupt(f, 0, from.LSN, InvariantKept, "log is not the one that the checkpoint names")
	case padded(from.Offset)+block > size:
		return nil, corrupt(f, from.Offset, from.LSN, InvariantKept, "file ends at %d, before the checkpoint's position", info.Size)
	}
	return startAt(f, size, h, from), nil
}

// startAt returns a recovery of the file of size bytes that has read nothing yet.
func startAt(f vfs.File, size int64, h Header, from Position) *recovery {
	r := &recovery{
		win:  window{file: f, size: size},
		id:   h.ID,
		head: h,
		res:  Result{From: from, End: from},
		seen: newBlocks(size),
	}
	r.res.space = space{segs: []segment{{lsn: from.LSN, off: from.Offset, end: from.Offset}}}
	r.res.space.grow(size)
	if first := floored(from.Offset); first < from.Offset {
		r.seen.add(first) // it may have the first tail
	}
	return r
}

// corrupt returns the error for damage where reading stands.
func (r *recovery) corrupt(format string, args ...any) error {
	return r.broken(InvariantPrefix, format, args...)
}

func (r *recovery) broken(invariant int, format string, args ...any) error {
	r.res.Stop = "damage"
	return corrupt(r.win.file, r.res.End.Offset, r.res.End.LSN, invariant, format, args...)
}

// read passes records on until one is not the next.
func (r *recovery) read(v visitor) error {
	for {
		over, err := r.superseded()
		if err != nil {
			return err
		}
		if !over {
			if done, err := r.readTail(v); err != nil {
				return err
			} else if done {
				continue
			}
		}
		var h head
		payload, end, err := r.record(&h)
		if err != nil {
			return err
		}
		if over && end.reason != "" { // by a record that is not whole
			if done, err := r.readTail(v); err != nil {
				return err
			} else if done {
				continue
			}
		}
		if end.reason != "" {
			if r.halfTail {
				end = stop{"a tail that is not whole", true}
			}
			r.res.Stop, r.res.Torn = end.reason, end.torn
			return nil
		}
		r.claim, r.closed = h.claim, h.kind != kindRun
		if h.kind == kindLink {
			err = r.follow(&h, payload, v)
		} else {
			err = r.passGroup(&h, payload, v)
		}
		if err != nil {
			return err
		}
	}
}

// superseded reports whether the next record seems to lie at the beginning of a block, and not close behind the last one, where a tail may lie all the same: one of
// a lost timeline, which was not there when the life began that came next, and has come to light. What a life begins with is a link at the beginning of a block,
// and does not destroy such a tail. There is no other way to have both: of one life only one record follows another.
func (r *recovery) superseded() (bool, error) {
	at := r.res.End.aligned()
	if at == r.res.End || at.Offset+headSize > r.win.size {
		return false, nil
	}
	p, err := r.win.bytes(at.Offset, headSize)
	if err != nil || !hasMagic(p) || binary.LittleEndian.Uint64(p[headChain:]) != at.Chain { // most often it is an old one
		return false, err
	}
	var h head
	return r.expect(&h, p, at).reason == "", nil
}

// readTail passes the tail on that lies at the end reached so far, and reports whether there is one.
func (r *recovery) readTail(v visitor) (bool, error) {
	t, payload, err := r.tail()
	if t == nil || err != nil {
		return false, err
	}
	n, ok := framed(payload)
	if n == 0 || !ok {
		return false, r.corrupt("tail is not transactions from %d", t.tx)
	}
	if err := r.pass(Record{Tail: true, Size: t.size(), FirstTx: t.tx, Count: int(n), Payload: payload}, v); err != nil {
		return false, err
	}
	r.res.space.wroteTail(t.size())
	r.res.End = r.res.End.behind(t)
	return true, nil
}

// tail reads the tail at the end reached so far; nil without an error: there is none, and if anything follows it lies at the beginning of a block.
func (r *recovery) tail() (*tail, []byte, error) {
	at := r.res.End
	r.halfTail = false
	if r.closed {
		return nil, nil, nil
	}
	t, payload, begun, err := r.tailAt(at)
	switch n := r.win.size - at.Offset; {
	case err != nil || !begun:
		return nil, nil, err
	case t.size() > n: // every tail had room in the file when it was written
		return nil, nil, r.corrupt("record of %d bytes reaches past the end of the file at %d", t.size(), r.win.size)
	case payload == nil:
		r.halfTail = true
		return nil, nil, nil
	}
	if fresh := padded(at.Offset); !r.seen.addRange(fresh, at.Offset+t.size()-fresh) {
		return nil, nil, r.corrupt("record lies over one that is live")
	}
	return &t, payload, nil
}

// tailAt reads the tail at a place, if one was begun there. The payload is nil if the tail is not whole.
func (r *recovery) tailAt(at Position) (t tail, payload []byte, begun bool, err error) {
	if at.Offset+tailSize > r.win.size {
		return t, nil, false, nil
	}
	p, err := r.win.bytes(at.Offset, tailSize)
	if err != nil || !t.decode(p, at.Chain) {
		return t, nil, false, err
	}
	if t.size() > r.win.size-at.Offset {
		return t, nil, true, nil
	}
	if p, err = r.win.bytes(at.Offset, tailSize+int64(t.length)); err == nil && tailSum(p, at.Chain) == t.sum {
		payload = p[tailSize:]
	}
	return t, payload, true, err
}

// record reads the record at the beginning of the block behind the end reached so far, which it takes there. It is the next one if end is
// empty. Damage that no crash can cause is an error here already: the file reaches
// past the log's end by its reserve (R2, R3), and nothing sound at this LSN, of
// this epoch and chain, was written by anything but the log.
func (r *recovery) record(h *head) (payload []byte, end stop, err error) {
	at := r.res.End.aligned()
	if at.Offset+block > r.win.size {
		return nil, end, r.corrupt("file ends at %d, before the log does", r.win.size)
	}
	p, err := r.win.bytes(at.Offset, block)
	if err != nil {
		return nil, end, err
	}
	if end = r.expect(h, p, at); end.reason != "" {
		return nil, end, nil
	}
	before := r.res.End
	r.res.End = at
	switch {
	case h.kind != kindGroup && h.kind != kindLink && h.kind != kindRun:
		return nil, end, r.corrupt("record is of unknown kind %d", h.kind)
	case h.claim > h.lsn:
		return nil, end, r.corrupt("record claims a sync up to lsn %d, past itself", h.claim)
	case h.length > maxPayload:
		return nil, end, r.corrupt("record of %d bytes is longer than any", h.length)
	case h.size() > r.win.size-at.Offset:
		return nil, end, r.corrupt("record of %d bytes reaches past the end of the file at %d", h.size(), r.win.size)
	}
	p, err = r.win.bytes(at.Offset, headSize+int64(h.length))
	if err != nil {
		return nil, end, err
	}
	payload = p[headSize:]
	if xxhash.Sum64(payload) != h.payload {
		r.res.End = before
		return nil, stop{"a record whose payload is not whole", true}, nil
	}
	if !r.seen.addRange(at.Offset, h.size()) {
		return nil, end, r.corrupt("record lies over one that is live")
	}
	return payload, end, nil
}

// expect decodes the head in p and says why it is not the one expected at that place.
func (r *recovery) expect(h *head, p []byte, at Position) stop {
	sound := h.decode(p)
	switch {
	case !sound && hasMagic(p):
		return stop{"a record whose head is not whole", true}
	case !sound && blank(p):
		return stop{reason: "nothing written"}
	case !sound:
		return stop{reason: "no record"}
	case h.id != r.id:
		return stop{reason: "a record of another store"}
	case h.lsn != at.LSN:
		return stop{reason: fmt.Sprintf("an old record, lsn %d", h.lsn)}
	case h.epoch != at.Epoch || h.chain != at.Chain:
		return stop{reason: "a record of a lost timeline"}
	}
	return stop{}
}

func blank(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// passGroup is pass for a record that is no tail.
func (r *recovery) passGroup(h *head, payload []byte, v visitor) error {
	if n, ok := framed(payload); n == 0 || !ok || n != h.count {
		return r.corrupt("group is not %d transactions from %d", h.count, h.tx)
	}
	if err := r.pass(Record{Size: h.size(), FirstTx: h.tx, Count: int(h.count), Payload: payload}, v); err != nil {
		return err
	}
	r.advance(h)
	return nil
}

// pass gives a group that lies at the end reached so far, and is well formed, to the visitor.
func (r *recovery) pass(rec Record, v visitor) error {
	next := rec.FirstTx + uint64(rec.Count)
	switch {
	case next < rec.FirstTx:
		return r.corrupt("group is not %d transactions from %d", rec.Count, rec.FirstTx)
	case r.res.NextTx != 0 && rec.FirstTx != r.res.NextTx:
		return r.corrupt("transaction %d follows %d", rec.FirstTx, r.res.NextTx-1)
	}
	if v.group != nil {
		at := r.res.End
		rec.LSN, rec.Offset, rec.Epoch, rec.Synced = at.LSN, at.Offset, at.Epoch, r.claim
		if err := v.group(rec); err != nil {
			r.res.Stop = "the reader gave up"
			return err
		}
	}
	r.res.Groups++
	r.res.Transactions += rec.Count
	r.res.NextTx = next
	return nil
}

// maxTx bounds the numbers of transactions, far above what a store can reach, so that they can be counted on.
const maxTx = 1<<62 - 1

// follow goes on where a link leads.
func (r *recovery) follow(h *head, payload []byte, v visitor) error {
	target, epoch, ok := parseLink(payload, r.win.size)
	switch {
	case !ok:
		return r.corrupt("link leads nowhere")
	case h.tx != 0 && h.tx < r.res.NextTx:
		return r.corrupt("link goes back to transaction %d behind %d", h.tx, r.res.NextTx-1)
	case h.tx > maxTx:
		return r.corrupt("link to transaction %d, which is beyond all", h.tx)
	}
	if v.link != nil {
		v.link(h, r.res.End.Offset, target, epoch)
	}
	r.res.NextTx = max(r.res.NextTx, h.tx)
	r.advance(h)
	r.res.space.jump(target)
	r.res.End.Offset, r.res.End.Epoch = target, epoch
	return nil
}

func (r *recovery) advance(h *head) {
	r.res.space.wrote(h.size(), h.kind == kindRun)
	r.res.End = r.res.End.after(h)
}

// judge decides whether the log may end where reading stopped. It searches every
// block that was not read for heads that are sound in themselves: one that
// claims a sync past the end is the proof of damage. other, if not nil, is told of
// each.
//
// It also finds the anchor, the head of the record before the position that
// reading began at. The log keeps it (R1), so if it is missing and nothing follows
// the position either, this is not the log that the position was in.
func (r *recovery) judge(other func(h *head, off int64)) error {
	var verdict error
	from := r.res.From
	for off := int64(recordsAt); off+block <= r.win.size; off += block {
		if r.seen.has(off) && (off != floored(from.Offset) || off == from.Offset) {
			continue
		}
		p, err := r.win.bytes(off, block)
		if err != nil {
			return err
		}
		var h head
		if !h.decode(p) || h.id != r.id {
			continue
		}
		r.res.Leftovers++
		if h.claim > r.res.End.LSN && verdict == nil {
			verdict = r.corrupt("%s, but the record at offset %d was written when the log was synced up to lsn %d",
				r.res.Stop, off, h.claim)
		}
		if other != nil {
			other(&h, off)
		}
		if err := r.lookBehind(&h, off, other); err != nil {
			return err
		}
	}
	if verdict != nil {
		return verdict
	}
	if !r.res.space.anchored() && r.res.From == r.res.End && r.res.From.LSN != r.head.LSN {
		return r.broken(InvariantKept, "log does not reach the checkpoint's position: %s there, and the record before it is gone",
			r.res.Stop)
	}
	r.res.space.relimit()
	return nil
}

// lookBehind looks whether the record at off, or a tail of its run, is the one before the position that reading began at, which makes it the anchor. other,
// if not nil, is told of the tails.
func (r *recovery) lookBehind(h *head, off int64, other func(h *head, off int64)) error {
	from := r.res.From
	end := h.lsn + LSN(h.size())
	if end == from.LSN && h.sum == from.Chain {
		r.keepAnchor(h, off)
	}
	if h.kind != kindRun || h.size() > runMost {
		return nil
	}
	near := from.LSN > end && from.LSN-h.lsn <= runMost && int64(from.LSN-h.lsn) == from.Offset-off
	tell := other != nil && off >= r.walked // a head within another run is none that the log wrote
	if !near && !tell {
		return nil
	}
	at := Position{LSN: end, Offset: off + h.size(), Chain: h.sum}
	for at.LSN != from.LSN {
		t, payload, _, err := r.tailAt(at)
		if err != nil {
			return err
		}
		if payload == nil || at.LSN+LSN(t.size()) > h.lsn+runMost {
			break
		}
		if tell {
			n, _ := framed(payload)
			other(&head{kind: kindTail, lsn: at.LSN, tx: t.tx, count: n, claim: h.claim, epoch: h.epoch, length: t.length}, at.Offset)
		}
		if at = at.behind(&t); at.LSN == from.LSN && at.Chain == from.Chain {
			r.keepAnchor(h, off)
		}
	}
	if tell {
		r.walked = at.Offset
	}
	return nil
}

// keepAnchor makes the record at off, or its run, the anchor, if there is none yet.
func (r *recovery) keepAnchor(h *head, off int64) {
	s := &r.res.space
	switch {
	case s.anchored():
	case h.kind == kindRun && int64(r.res.From.LSN-h.lsn) == r.res.From.Offset-off:
		s.anchor = interval{off, padded(r.res.From.Offset)}
		s.starts.add(off)
		s.runs.add(off)
	default:
		s.anchor = interval{off, off + block}
	}
}
