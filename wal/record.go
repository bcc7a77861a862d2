package wal

import (
	"encoding/binary"
	"iter"

	"github.com/cespare/xxhash/v2"
)

const (
	recordMagic = 0x4c41574f // "OWAL"
	headSize    = 88
	headChain   = 64            // where the head has the checksum of the record before
	headSum     = 80            // where its own lies
	maxPayload  = 1<<31 - 1<<16 // fits an int on 32 bits with its head and padding

	// MaxLimit is the largest limit of a log, in bytes: a terabyte, and less on 32 bits, where sets of its blocks have to find room.
	MaxLimit = 1 << (34 + 6*(^uint(0)>>63))

	maxSize = 2 * MaxLimit // of the file, which can become a little longer than the limit
)

// kind tells what a record's payload is.
type kind uint8

const (
	kindGroup kind = 1 // transactions, each {uvarint length, operations}
	kindLink  kind = 2 // {u64 offset of the next record, u64 its epoch}
	kindRun   kind = 3 // as kindGroup, but tails may follow

	kindTail kind = 255 // in no head: see tail
)

// hasGroup reports whether the payload is transactions.
func (k kind) hasGroup() bool { return k == kindGroup || k == kindRun || k == kindTail }

const linkPayload = 16

// A head is the start of a record. It lies in one block and has a checksum of its
// own over all of it, the payload's checksum included: so a payload is hashed
// once, and a head whose payload was lost or overwritten can still be believed.
//
//	offset size
//	     0    4  magic
//	     4    1  kind: 1 group, 2 link, 3 group with tails behind it
//	     5    3  zero
//	     8    4  payload length
//	    12    4  count of transactions
//	    16   16  store id
//	    32    8  LSN
//	    40    8  epoch
//	    48    8  group: first TxID; link: the next TxID when it jumps, or 0
//	    56    8  claim: LSN up to which the log had been synced
//	    64    8  chain: checksum (offset 80) of the record before
//	    72    8  xxhash64 of the payload
//	    80    8  xxhash64 of bytes [0, 80): the record's checksum
//	    88       payload, then zeros to a multiple of 512, or, with tails, of 8
//
// All numbers are little-endian.
type head struct {
	kind    kind
	length  uint32
	count   uint32
	id      [16]byte
	lsn     LSN
	epoch   uint64
	tx      uint64
	claim   LSN
	chain   uint64
	payload uint64
	sum     uint64
}

// size returns the bytes that the record takes in the file.
func (h *head) size() int64 {
	switch h.kind {
	case kindRun:
		return paddedTail(headSize + int64(h.length))
	case kindTail:
		return paddedTail(tailSize + int64(h.length))
	}
	return padded(headSize + int64(h.length))
}

// encode fills p[:headSize] and sets the checksum.
func (h *head) encode(p []byte) {
	_ = p[headSize-1]
	binary.LittleEndian.PutUint32(p, recordMagic)
	binary.LittleEndian.PutUint32(p[4:], uint32(h.kind))
	binary.LittleEndian.PutUint32(p[8:], h.length)
	binary.LittleEndian.PutUint32(p[12:], h.count)
	copy(p[16:32], h.id[:])
	binary.LittleEndian.PutUint64(p[32:], uint64(h.lsn))
	binary.LittleEndian.PutUint64(p[40:], h.epoch)
	binary.LittleEndian.PutUint64(p[48:], h.tx)
	binary.LittleEndian.PutUint64(p[56:], uint64(h.claim))
	binary.LittleEndian.PutUint64(p[headChain:], h.chain)
	binary.LittleEndian.PutUint64(p[72:], h.payload)
	h.sum = xxhash.Sum64(p[:headSum])
	binary.LittleEndian.PutUint64(p[headSum:], h.sum)
}

// hasMagic reports whether a record may start with p.
func hasMagic(p []byte) bool { return binary.LittleEndian.Uint32(p) == recordMagic }

// decode reads a head from p[:headSize] and reports whether it is sound in
// itself: magic and checksum.
func (h *head) decode(p []byte) bool {
	_ = p[headSize-1]
	if !hasMagic(p) {
		return false
	}
	*h = head{
		kind:    kind(p[4]),
		length:  binary.LittleEndian.Uint32(p[8:]),
		count:   binary.LittleEndian.Uint32(p[12:]),
		id:      [16]byte(p[16:32]),
		lsn:     LSN(binary.LittleEndian.Uint64(p[32:])),
		epoch:   binary.LittleEndian.Uint64(p[40:]),
		tx:      binary.LittleEndian.Uint64(p[48:]),
		claim:   LSN(binary.LittleEndian.Uint64(p[56:])),
		chain:   binary.LittleEndian.Uint64(p[headChain:]),
		payload: binary.LittleEndian.Uint64(p[72:]),
		sum:     binary.LittleEndian.Uint64(p[headSum:]),
	}
	return xxhash.Sum64(p[:headSum]) == h.sum
}

const (
	tailSize = 24
	// runMost bounds a run in bytes, and so a tail. The longer, the more of the space before a checkpoint's position has to be kept (R1), and
	// is read to find that the log is the right one.
	runMost = 64 << 10
)

// A tail is a group that lies close behind the record before, in the same block where that ends within one. It is what groups are written as
// for which nobody waits: transactions by the hundred thousand, each in a block of its own, filled the log with zeros. What a tail
// does not say is as in the head of its run, which is the record before the first tail, and all tails behind it. Only what no sync has covered may
// be a block's content when a tail is written to it, because a write may destroy the block that it is torn in.
//
//	offset size
//	     0    8  xxhash64, with the checksum of the record before as its seed, of bytes [8, 24) and the payload: the tail's checksum
//	     8    8  first TxID
//	    16    4  payload length
//	    20    4  the lower half of xxhash64, with the same seed, of bytes [8, 20): the check
//	    24       payload, as of a group, then zeros to a multiple of 8
//
// All numbers are little-endian. The check tells whether a tail was begun here, behind that record, before its length is believed. First there was a constant
// instead: then what lay there before, be it a user's value, or a torn block, could look like a tail that reaches behind the end of the file.
type tail struct {
	length uint32
	tx     uint64
	sum    uint64
}

// size returns the bytes that the tail takes in the file.
func (t *tail) size() int64 { return paddedTail(tailSize + int64(t.length)) }

// encode fills p[:tailSize], in front of the payload, and sets the checksum.
func (t *tail) encode(p []byte, chain uint64) {
	binary.LittleEndian.PutUint64(p[8:], t.tx)
	binary.LittleEndian.PutUint32(p[16:], t.length)
	binary.LittleEndian.PutUint32(p[20:], uint32(seeded(p[8:20], chain)))
	t.sum = tailSum(p[:tailSize+t.length], chain)
	binary.LittleEndian.PutUint64(p, t.sum)
}

func tailSum(p []byte, chain uint64) uint64 { return seeded(p[8:], chain) }

func seeded(p []byte, seed uint64) uint64 {
	var sum xxhash.Digest
	sum.ResetWithSeed(seed)
	sum.Write(p)
	return sum.Sum64()
}

// decode reads a tail's beginning and reports whether one was begun there, behind a record of that checksum.
func (t *tail) decode(p []byte, chain uint64) bool {
	_ = p[tailSize-1]
	*t = tail{
		sum:    binary.LittleEndian.Uint64(p),
		tx:     binary.LittleEndian.Uint64(p[8:]),
		length: binary.LittleEndian.Uint32(p[16:]),
	}
	return t.length <= runMost && t.tx != 0 && binary.LittleEndian.Uint32(p[20:]) == uint32(seeded(p[8:20], chain))
}

// A Record is a group read back from the log.
type Record struct {
	LSN     LSN
	Offset  int64 // in the file
	Size    int64 // in the file
	Tail    bool  // it is close behind the record before
	Epoch   uint64
	Synced  LSN    // up to where the log had been synced when it was written; 0 of a tail, if its run's head has not been read
	FirstTx uint64 // TxID of the first transaction
	Count   int    // transactions, with consecutive TxIDs; at least 1
	Payload []byte // verified; valid during the call that it is passed to
}

// LastTx returns the TxID of the last transaction.
func (r *Record) LastTx() uint64 { return r.FirstTx + uint64(r.Count) - 1 }

// All yields each transaction's TxID and operations, slices of the payload.
func (r *Record) All() iter.Seq2[uint64, Ops] {
	return func(yield func(uint64, Ops) bool) {
		p := r.Payload
		for tx := r.FirstTx; len(p) > 0; tx++ {
			ops, rest, ok := cutBytes(p)
			if !ok || !yield(tx, ops) {
				return
			}
			p = rest
		}
	}
}

// framed returns of how many transactions payload consists.
func framed(payload []byte) (count uint32, ok bool) {
	for len(payload) > 0 {
		if _, payload, ok = cutBytes(payload); !ok {
			return count, false
		}
		count++
	}
	return count, true
}
