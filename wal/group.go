package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// keepBuffer bounds the buffer that a Group keeps when it is reset: one large
// transaction should not hold its size for ever.
const keepBuffer = 1 << 20

// A Group collects the transactions of one record. The zero value is an empty
// group. It is meant to be reused: after the first few it allocates nothing. It
// has no lock of its own.
type Group struct {
	// Unawaited says that nobody waits for the record to be durable. It is written by the cheapest way then, which makes the next sync
	// more expensive. Reset clears it.
	Unawaited bool

	buf   []byte // room for a head, then the payload, without what refs has
	refs  []ref
	lent  int64 // bytes of refs
	first uint64
	count uint32
	parts [][]byte // scratch of seal
}

// ref is a transaction's operations that were not copied.
type ref struct {
	at  int // they come behind buf[:at]
	ops Ops
}

// LargeOps is the number of bytes from which operations are not copied into a Group.
const LargeOps = 1 << 20

// Add appends a transaction. It copies ops if they have less than LargeOps bytes; otherwise they have to stay as they are until the group
// has been appended or reset. TxIDs must be consecutive: anything else is a mistake of the caller and panics.
func (g *Group) Add(tx uint64, ops Ops) {
	if g.count == 0 {
		g.first = tx
		g.buf = append(g.buf[:0], make([]byte, headSize)...)
	} else if tx != g.first+uint64(g.count) {
		panic(fmt.Sprintf("wal: transaction %d added behind %d", tx, g.LastTx()))
	}
	g.buf = binary.AppendUvarint(g.buf, uint64(len(ops)))
	if len(ops) < LargeOps {
		g.buf = append(g.buf, ops...)
	} else {
		g.refs = append(g.refs, ref{len(g.buf), ops})
		g.lent += int64(len(ops))
	}
	g.count++
}

// Len returns the number of transactions.
func (g *Group) Len() int { return int(g.count) }

// FirstTx returns the TxID of the first transaction; 0 when there is none.
func (g *Group) FirstTx() uint64 { return g.first }

// LastTx returns the TxID of the last transaction; 0 when there is none.
func (g *Group) LastTx() uint64 {
	if g.count == 0 {
		return 0
	}
	return g.first + uint64(g.count) - 1
}

// Size returns the bytes that the group takes in the log as it is now; 0 when
// it is empty.
func (g *Group) Size() int64 { return padded(int64(len(g.buf)) + g.lent) }

// Reset empties the group and keeps its buffer unless that has become large.
func (g *Group) Reset() {
	buf := g.buf[:0]
	if cap(buf) > keepBuffer {
		buf = nil
	}
	clear(g.refs)
	clear(g.parts)
	*g = Group{buf: buf, refs: g.refs[:0], parts: g.parts[:0]}
}

// TxSize returns the bytes to reserve for a transaction with n bytes of
// operations. However transactions are grouped, the groups take no more than the sum.
func TxSize(n int) int64 {
	var length [binary.MaxVarintLen64]byte
	return padded(headSize + int64(binary.PutUvarint(length[:], uint64(n))) + int64(n))
}

// kind is that of the group's record, where runs are bounded by most bytes.
func (g *Group) kind(most int64) kind {
	if g.Unawaited && paddedTail(int64(len(g.buf))) <= most && len(g.refs) == 0 {
		return kindRun
	}
	return kindGroup
}

// tail describes the group as a tail, without its checksum.
func (g *Group) tail() tail { return tail{length: uint32(len(g.buf) - headSize), tx: g.first} }

// sealTail completes t, which describes the group, for a place behind a record of that checksum, and returns its bytes, which are valid until the group
// changes.
func (g *Group) sealTail(t *tail, chain uint64) []byte {
	end, from := len(g.buf), headSize-tailSize
	var zeros [tailUnit]byte
	g.buf = append(g.buf, zeros[:t.size()-int64(end-from)]...)
	p := g.buf[from:]
	g.buf = g.buf[:end]
	t.encode(p, chain)
	return p
}

// seal returns the record in parts, padded with zeros, the first with room for the head, and what
// the head has to say about the payload. The group's payload does not change, and may go on growing.
func (g *Group) seal(k kind) (parts [][]byte, h head) {
	end := len(g.buf)
	h = head{
		kind:   k,
		length: uint32(int64(end) + g.lent - headSize),
		count:  g.count,
		tx:     g.first,
	}
	var zeros [block]byte
	padding := int(h.size() - int64(end) - g.lent)
	g.buf = append(g.buf, zeros[:padding]...)
	g.parts = g.parts[:0]
	from := 0
	for _, r := range g.refs {
		g.parts = append(g.parts, g.buf[from:r.at], r.ops)
		from = r.at
	}
	g.parts = append(g.parts, g.buf[from:])
	g.buf = g.buf[:end]
	if len(g.parts) == 1 {
		h.payload = xxhash.Sum64(g.buf[headSize:])
		return g.parts, h
	}
	var sum xxhash.Digest
	sum.Reset()
	skip := headSize
	for i, p := range g.parts {
		if i == len(g.parts)-1 {
			p = p[:len(p)-padding]
		}
		sum.Write(p[skip:])
		skip = 0
	}
	h.payload = sum.Sum64()
	return g.parts, h
}
