package lockfile

import (
	"errors"
	"os"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// ErrFull is the error of a process that finds no slot free.
var ErrFull = errors.New("lockfile: no reader slot is free")

// A Pin is a snapshot that this process keeps.
type Pin struct{ at pinAt }

// Join takes the first slot of a process that reads, and sets the mark. Callers of Join, Pin and Unpin in one process
// exclude each other.
func (t *Table) Join() error {
	_, err := t.takeSlot()
	return err
}

func (t *Table) takeSlot() (int, error) {
	for i := range slots {
		if t.owns(i) {
			continue
		}
		err := t.file.Lock(slotLock(i), true)
		if errors.Is(err, vfs.ErrLocked) {
			continue
		}
		if err != nil {
			return 0, err
		}
		step("slot locked")
		t.clear(i)
		t.SetRetained(i, 0)
		t.w.slot(i, offSince).Store(uint64(time.Now().UnixMilli()))
		for high := t.w.at(offHigh); ; {
			old := high.Load()
			if old > uint64(i) || high.CompareAndSwap(old, uint64(i)+1) {
				break
			}
		}
		step("slot high")
		t.w.slot(i, offState).Store(uint64(os.Getpid())<<1 | 1)
		step("slot used")
		t.w.at(offMark).Store(1)
		step("marked")
		t.slots = append(t.slots, i)
		return i, nil
	}
	return 0, ErrFull
}

// Sleep says that this process reads nothing, and has not for a while. It is not counted then as one that has to be shown what
// is committed; it keeps its slots, and may have no pins.
func (t *Table) Sleep() {
	for _, i := range t.slots {
		t.w.slot(i, offState).Store(uint64(os.Getpid()) << 1)
		step("asleep")
	}
}

// Wake ends Sleep. It is the same as to attach: only then may the process look what is acknowledged.
func (t *Table) Wake() {
	for _, i := range t.slots {
		t.w.slot(i, offState).Store(uint64(os.Getpid())<<1 | 1)
		step("awake")
	}
	t.w.at(offMark).Store(1)
	step("marked")
}

func (t *Table) owns(slot int) bool {
	for _, i := range t.slots {
		if i == slot {
			return true
		}
	}
	return false
}

// clear takes all pins of a slot away. The caller has its lock.
func (t *Table) clear(i int) {
	for k := range slotPins {
		t.w.pin(pinAt{i, k}).Store(0)
	}
}

// Pin stores a pin of the snapshot. It counts if the published word is found to be the same afterwards.
func (t *Table) Pin(tx uint64) (Pin, error) {
	for _, i := range t.slots {
		for k := range slotPins {
			at := pinAt{i, k}
			if t.w.pin(at).Load() == 0 {
				t.setPin(at, tx)
				return Pin{at}, nil
			}
		}
	}
	i, err := t.takeSlot()
	if err != nil {
		return Pin{}, err
	}
	at := pinAt{i, 0}
	t.setPin(at, tx)
	return Pin{at}, nil
}

func (t *Table) setPin(at pinAt, tx uint64) {
	t.w.slot(at.slot, offPins+at.i*pinSize+8).Store(uint64(time.Now().UnixMilli()))
	t.w.pin(at).Store(tx + 1)
	step("pinned")
}

// Unpin ends a pin.
func (t *Table) Unpin(p Pin) {
	t.w.pin(p.at).Store(0)
	step("unpinned")
}

// Reap frees the slots of processes that are gone, and reports how many these were. The writer calls it.
func (t *Table) Reap() (n int, err error) {
	for i := range t.high() {
		if t.w.slot(i, offState).Load() == 0 {
			continue
		}
		switch err := t.file.Lock(slotLock(i), true); {
		case errors.Is(err, vfs.ErrLocked):
			continue
		case err != nil:
			return n, err
		}
		step("dead slot locked")
		t.clear(i)
		t.w.slot(i, offState).Store(0)
		step("dead slot free")
		if err := t.file.Unlock(slotLock(i)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// A Reader is a slot of a process that is attached for reading.
type Reader struct {
	Slot     int
	PID      int
	Since    time.Time // when it took the slot
	Pins     []Pinned
	Retained uint64 // bytes that the writer said it keeps for these pins
}

// Pinned is a snapshot that a process keeps.
type Pinned struct {
	Tx    uint64
	Since time.Time
}

// Readers lists the processes that read, for messages: what it says may be over already.
func (t *Table) Readers() []Reader {
	var list []Reader
	for i := range t.high() {
		state := t.w.slot(i, offState).Load()
		if state == 0 {
			continue
		}
		r := Reader{Slot: i, PID: int(state >> 1), Since: milli(t.w.slot(i, offSince).Load()), Retained: t.w.at(offRetained + 8*i).Load()}
		for k := range slotPins {
			if p := t.w.pin(pinAt{i, k}).Load(); p != 0 {
				r.Pins = append(r.Pins, Pinned{p - 1, milli(t.w.slot(i, offPins+k*pinSize+8).Load())})
			}
		}
		list = append(list, r)
	}
	return list
}

// Occupied reports whether a process has a slot, or died with one; those that sleep too.
func (t *Table) Occupied() bool {
	for i := range t.high() {
		if t.w.slot(i, offState).Load() != 0 {
			return true
		}
	}
	return false
}

// SetRetained notes how many bytes the writer keeps for a slot's pins.
func (t *Table) SetRetained(slot int, bytes uint64) { t.w.at(offRetained + 8*slot).Store(bytes) }

// Own is the oldest snapshot that transactions of the writer's process read. Zero: they read none.
type Own struct {
	Tx       uint64
	Since    time.Time
	Count    int
	Retained uint64
}

// SetOwn notes what the writer's own transactions read.
func (t *Table) SetOwn(o Own) {
	t.w.at(offOwn).Store(0)
	if o.Count == 0 {
		return
	}
	t.w.at(offOwn + 8).Store(uint64(o.Since.UnixMilli()))
	t.w.at(offOwn + 16).Store(uint64(o.Count))
	t.w.at(offOwn + 24).Store(o.Retained)
	t.w.at(offOwn).Store(o.Tx + 1)
}

// Own returns what the writer said that it reads itself; false: nothing.
func (t *Table) Own() (Own, bool) {
	tx := t.w.at(offOwn).Load()
	o := Own{Tx: tx - 1, Since: milli(t.w.at(offOwn + 8).Load()), Count: int(t.w.at(offOwn + 16).Load()), Retained: t.w.at(offOwn + 24).Load()}
	return o, tx != 0
}

func milli(ms uint64) time.Time { return time.UnixMilli(int64(ms)) }
