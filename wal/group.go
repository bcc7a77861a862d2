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
	buf   []byte // room for a head, then the payload
	first uint64
	count uint32
}

// Add appends a transaction; it copies ops. TxIDs must be consecutive: anything
// else is a mistake of the caller and panics.
func (g *Group) Add(tx uint64, ops Ops) {
	if g.count == 0 {
		g.first = tx
		g.buf = append(g.buf[:0], make([]byte, headSize)...)
	} else if tx != g.first+uint64(g.count) {
		panic(fmt.Sprintf("wal: transaction %d added behind %d", tx, g.LastTx()))
	}
	g.buf = binary.AppendUvarint(g.buf, uint64(len(ops)))
	g.buf = append(g.buf, ops...)
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
func (g *Group) Size() int64 { return padded(int64(len(g.buf))) }

// Reset empties the group and keeps its buffer unless that has become large.
func (g *Group) Reset() {
	buf := g.buf[:0]
	if cap(buf) > keepBuffer {
		buf = nil
	}
	*g = Group{buf: buf}
}

// TxSize returns the bytes to reserve for a transaction with n bytes of
// operations. However transactions are grouped, the groups take no more than the sum.
func TxSize(n int) int64 {
	var length [binary.MaxVarintLen64]byte
	return padded(headSize + int64(binary.PutUvarint(length[:], uint64(n))) + int64(n))
}

// seal pads the buffer with zeros to whole blocks and returns what the head has
// to say about the payload. The group's payload does not change, and may go on growing.
func (g *Group) seal() (record []byte, h head) {
	payload := g.buf[headSize:]
	h = head{
		kind:    kindGroup,
		length:  uint32(len(payload)),
		count:   g.count,
		tx:      g.first,
		payload: xxhash.Sum64(payload),
	}
	var zeros [block]byte
	n := len(g.buf)
	record = append(g.buf, zeros[:int(padded(int64(n)))-n]...)
	g.buf = record[:n]
	return record, h
}
