package lockfile

import (
	"sync/atomic"
	"unsafe"
)

// Layout of the file, in bytes. The words that the writer stores at each commit share a cache line, which readers
// load at each begin; slots have two lines each, so that processes do not disturb one another.
const (
	offMagic     = 0
	offLayout    = 8
	offDev       = 16
	offIno       = 24
	offSum       = 32 // of the four words before
	offWriter    = 40 // pid of the writer, for messages
	offPublished = 64
	offAcked     = 72
	offMark      = 80
	offHigh      = 88 // slots from here on were never used
	offOwn       = 96 // what the writer itself reads, for messages: TxID + 1, its time, transactions, bytes
	offCells     = 128
	cellSize     = 64
	cells        = 4
	offRetained  = 512 // bytes that the writer keeps for each slot, for messages
	offSlots     = 4096
	slotSize     = 128
	slots        = (offSlots - offRetained) / 8

	// Size of the file. There is no file of another size: a table that is full has room for 3,136 snapshots.
	Size = offSlots + slots*slotSize

	offState  = 0 // pid<<1, and 1 while the process is awake; 0: free
	offSince  = 8 // Unix time in milliseconds
	offPins   = 16
	pinSize   = 16 // TxID + 1, and the time; 0: none
	slotPins  = 7
	cellWords = 6
)

// magic is "FOLIOLCK" in a little-endian machine's memory: on another one it is another number.
const magic = 0x4b434c4f494c4f46

// layout changes with the layout.
const layout = 1

// words is the mapped file.
type words struct{ base unsafe.Pointer }

func (w words) at(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Add(w.base, off)) }

func (w words) slot(i, off int) *atomic.Uint64 { return w.at(offSlots + i*slotSize + off) }

func (w words) pin(p pinAt) *atomic.Uint64 { return w.slot(p.slot, offPins+p.i*pinSize) }

// pinAt is the place of a pin.
type pinAt struct{ slot, i int }

// Snapshot is what a reader has to know of a published state.
type Snapshot struct {
	Tx   uint64
	Root [3]uint64 // the root bucket's header
	End  uint64    // page count
}

func (s *Snapshot) words() [cellWords - 1]uint64 {
	return [...]uint64{s.Tx, s.Root[0], s.Root[1], s.Root[2], s.End}
}

// sum is the checksum of a cell or of the header. Its words are torn at most, not made by an enemy: whoever may write the
// file may read the store.
func sum(w ...uint64) uint64 {
	h := uint64(layout)
	for _, x := range w {
		h = (h ^ x) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h
}

// A Word names a published snapshot: 0 is none.
type Word uint64

// Tx is the TxID of the snapshot.
func (w Word) Tx() uint64 { return uint64(w) >> 2 }

func (w Word) cell() int { return int(w & (cells - 1)) }

// Published returns the word of the newest snapshot.
func (t *Table) Published() Word { return Word(t.w.at(offPublished).Load()) }

// Acked returns the TxID of the newest commit that anybody was told of.
func (t *Table) Acked() uint64 { return t.w.at(offAcked).Load() }

// Snapshot returns the snapshot that the word names; false: it is not in the table any more.
func (t *Table) Snapshot(w Word) (Snapshot, bool) {
	off := offCells + w.cell()*cellSize
	var v [cellWords]uint64
	for i := range v {
		v[i] = t.w.at(off + 8*i).Load()
	}
	s := Snapshot{Tx: v[0], Root: [3]uint64{v[1], v[2], v[3]}, End: v[4]}
	return s, w != 0 && v[5] == sum(v[:5]...) && s.Tx == w.Tx()
}

// Publish shows a snapshot to every process. The writer calls it, and nobody beside it.
func (t *Table) Publish(s Snapshot) {
	cell := (t.Published().cell() + 1) % cells
	off := offCells + cell*cellSize
	v := s.words()
	for i, x := range v {
		t.w.at(off + 8*i).Store(x)
		step("cell")
	}
	t.w.at(off + 8*len(v)).Store(sum(v[:]...))
	step("publish")
	t.w.at(offPublished).Store(s.Tx<<2 | uint64(cell))
	step("published")
}

// Acknowledge notes that somebody is about to be told of a commit. It never goes back, and may be called by several
// goroutines of the writer.
func (t *Table) Acknowledge(tx uint64) {
	for w := t.w.at(offAcked); ; {
		old := w.Load()
		if old >= tx || w.CompareAndSwap(old, tx) {
			step("acked")
			return
		}
	}
}

// Attached reports whether a reading process may be attached, and awake. The writer asks.
func (t *Table) Attached() bool { return t.w.at(offMark).Load() != 0 }

// Floor is the highest TxID that the table shows anywhere: a new writer's come after it.
func (t *Table) Floor() uint64 {
	n := max(t.Published().Tx(), t.Acked())
	for _, p := range t.Pins(nil) {
		n = max(n, p)
	}
	return n
}

// Pins appends the TxIDs that processes pin. The writer calls it, after it has stored the newest published word. If no slot is
// in use, or all who have one sleep, it takes the mark back.
func (t *Table) Pins(pins []uint64) []uint64 {
	if !t.Attached() {
		return pins
	}
	pins, used := t.scan(pins)
	if used {
		return pins
	}
	t.w.at(offMark).Store(0)
	step("unmarked")
	if pins, used = t.scan(pins); used {
		t.w.at(offMark).Store(1)
	}
	return pins
}

func (t *Table) scan(pins []uint64) (_ []uint64, used bool) {
	for i := range t.high() {
		state := t.w.slot(i, offState).Load()
		if state == 0 {
			continue
		}
		used = used || state&1 != 0
		for k := range slotPins {
			if p := t.w.pin(pinAt{i, k}).Load(); p != 0 {
				pins = append(pins, p-1)
			}
			step("scan")
		}
	}
	return pins, used
}

// high is how many slots have ever been in use. Whoever writes the file can write anything there.
func (t *Table) high() int { return int(min(t.w.at(offHigh).Load(), slots)) }

// step is called between any two steps of the protocol, for tests.
var step = func(string) {}
