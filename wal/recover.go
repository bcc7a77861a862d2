package wal

import (
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
	case h.ID != id:
		return nil, corrupt(f, 16, h.LSN, InvariantKept, "log belongs to store %x, not %x", h.ID, id)
	case from.LSN > maxLSN || from.Offset < recordsAt || from.Offset%block != 0:
		return nil, corrupt(f, from.Offset, from.LSN, InvariantKept, "checkpoint names an impossible position")
	case from.LSN < h.LSN:
		return nil, corrupt(f, headerLSN, from.LSN, InvariantKept, "log begins at lsn %d, behind the checkpoint", h.LSN)
	case from.LSN == h.LSN && from != h.Start():
		return nil, corrupt(f, 0, from.LSN, InvariantKept, "log is not the one that the checkpoint names")
	case from.Offset+block > size:
		return nil, corrupt(f, from.Offset, from.LSN, InvariantKept, "file ends at %d, before the checkpoint's position", info.Size)
	}
	r := &recovery{
		win:  window{file: f, size: size},
		id:   id,
		head: h,
		res:  Result{From: from, End: from},
		seen: newBlocks(size),
	}
	r.res.space = space{
		segs:   []segment{{lsn: from.LSN, off: from.Offset, end: from.Offset}},
		starts: newBlocks(size),
	}
	r.res.space.grow(size)
	return r, nil
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
		var h head
		payload, end, err := r.record(&h)
		if err != nil {
			return err
		}
		if end.reason != "" {
			r.res.Stop, r.res.Torn = end.reason, end.torn
			return nil
		}
		if h.kind == kindLink {
			err = r.follow(&h, payload, v)
		} else {
			err = r.pass(&h, payload, v)
		}
		if err != nil {
			return err
		}
	}
}

// record reads the record at the end reached so far. It is the next one if end is
// empty. Damage that no crash can cause is an error here already: the file reaches
// past the log's end by its reserve (R2, R3), and nothing sound at this LSN, of
// this epoch and chain, was written by anything but the log.
func (r *recovery) record(h *head) (payload []byte, end stop, err error) {
	at := r.res.End
	if at.Offset+block > r.win.size {
		return nil, end, r.corrupt("file ends at %d, before the log does", r.win.size)
	}
	p, err := r.win.bytes(at.Offset, block)
	if err != nil {
		return nil, end, err
	}
	if end = r.expect(h, p); end.reason != "" {
		return nil, end, nil
	}
	switch {
	case h.kind != kindGroup && h.kind != kindLink:
		return nil, end, r.corrupt("record is of unknown kind %d", h.kind)
	case h.claim > h.lsn:
		return nil, end, r.corrupt("record claims a sync up to lsn %d, past itself", h.claim)
	case h.size() > r.win.size-at.Offset:
		return nil, end, r.corrupt("record of %d bytes reaches past the end of the file at %d", h.size(), r.win.size)
	}
	p, err = r.win.bytes(at.Offset, headSize+int64(h.length))
	if err != nil {
		return nil, end, err
	}
	payload = p[headSize:]
	if xxhash.Sum64(payload) != h.payload {
		return nil, stop{"a record whose payload is not whole", true}, nil
	}
	if !r.seen.addRange(at.Offset, h.size()) {
		return nil, end, r.corrupt("record lies over one that is live")
	}
	return payload, end, nil
}

// expect decodes the head in p and says why it is not the one expected.
func (r *recovery) expect(h *head, p []byte) stop {
	at := r.res.End
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

// pass gives a group to the visitor, once it is known to be well formed.
func (r *recovery) pass(h *head, payload []byte, v visitor) error {
	next := h.tx + uint64(h.count)
	switch {
	case h.count == 0 || next < h.tx || !framed(payload, h.count):
		return r.corrupt("group is not %d transactions from %d", h.count, h.tx)
	case r.res.NextTx != 0 && h.tx != r.res.NextTx:
		return r.corrupt("transaction %d follows %d", h.tx, r.res.NextTx-1)
	}
	if v.group != nil {
		err := v.group(Record{
			LSN: h.lsn, Offset: r.res.End.Offset, Epoch: h.epoch, Synced: h.claim,
			FirstTx: h.tx, Count: int(h.count), Payload: payload,
		})
		if err != nil {
			r.res.Stop = "the reader gave up"
			return err
		}
	}
	r.res.Groups++
	r.res.Transactions += int(h.count)
	r.res.NextTx = next
	r.advance(h)
	return nil
}

// follow goes on where a link leads.
func (r *recovery) follow(h *head, payload []byte, v visitor) error {
	target, epoch, ok := parseLink(payload, r.win.size)
	switch {
	case !ok:
		return r.corrupt("link leads nowhere")
	case h.tx != 0 && h.tx < r.res.NextTx:
		return r.corrupt("link goes back to transaction %d behind %d", h.tx, r.res.NextTx-1)
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
	r.res.space.wrote(h.size())
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
	for off := int64(recordsAt); off+block <= r.win.size; off += block {
		if r.seen.has(off) {
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
		if h.sum == r.res.From.Chain && h.lsn+LSN(h.size()) == r.res.From.LSN && r.res.space.anchor == 0 {
			r.res.space.anchor = off
		}
		if h.claim > r.res.End.LSN && verdict == nil {
			verdict = r.corrupt("%s, but the record at offset %d was written when the log was synced up to lsn %d",
				r.res.Stop, off, h.claim)
		}
		if other != nil {
			other(&h, off)
		}
	}
	if verdict != nil {
		return verdict
	}
	if r.res.space.anchor == 0 && r.res.From == r.res.End && r.res.From.LSN != r.head.LSN {
		return r.broken(InvariantKept, "log does not reach the checkpoint's position: %s there, and the record before it is gone",
			r.res.Stop)
	}
	r.res.space.relimit()
	return nil
}
