package wal

import (
	"encoding/binary"
	"iter"

	"github.com/cespare/xxhash/v2"
)

const (
	recordMagic = 0x4c41574f // "OWAL"
	headSize    = 88
	headSum     = 80            // where the head's checksum lies
	maxPayload  = 1<<31 - 1<<16 // fits an int on 32 bits with its head and padding
)

// kind tells what a record's payload is.
type kind uint8

const (
	kindGroup kind = 1 // transactions, each {uvarint length, operations}
	kindLink  kind = 2 // {u64 offset of the next record, u64 its epoch}
)

const linkPayload = 16

// A head is the start of a record. It lies in one block and has a checksum of its
// own over all of it, the payload's checksum included: so a payload is hashed
// once, and a head whose payload was lost or overwritten can still be believed.
//
//	offset size
//	     0    4  magic
//	     4    1  kind: 1 group, 2 link
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
//	    88       payload, then zeros to a multiple of 512
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
func (h *head) size() int64 { return padded(headSize + int64(h.length)) }

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
	binary.LittleEndian.PutUint64(p[64:], h.chain)
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
		chain:   binary.LittleEndian.Uint64(p[64:]),
		payload: binary.LittleEndian.Uint64(p[72:]),
		sum:     binary.LittleEndian.Uint64(p[headSum:]),
	}
	return xxhash.Sum64(p[:headSum]) == h.sum
}

// A Record is a group read back from the log.
type Record struct {
	LSN     LSN
	Offset  int64 // in the file
	Epoch   uint64
	Synced  LSN    // up to where the log had been synced when it was written
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

// framed reports whether payload is exactly count transactions.
func framed(payload []byte, count uint32) bool {
	for ; count > 0; count-- {
		var ok bool
		if _, payload, ok = cutBytes(payload); !ok {
			return false
		}
	}
	return len(payload) == 0
}
