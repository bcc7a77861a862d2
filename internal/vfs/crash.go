package vfs

import (
	"slices"
	"sort"
)

// The crash simulator. A Recorder logs what was done to files; from its log
// this half of the package builds every content of the disk that a power cut
// may leave, under the fault model of a pessimist:
//
//   - A sync that returned nil made durable what had ended before it began, data
//     and size. A msync does so for the data in its range.
//   - Everything else may be there or not, each 512-byte sector of each
//     write by itself, in any order; and torn within the sector, if asked for.
//   - The size of a file is any of those it had since its size was last settled. What
//     a file has gained and nothing was written to reads as zeros.
//   - After a failed sync what it covered stays in that state for ever: later
//     syncs do not cover it, newer durable writes supersede it.
//   - A name made, moved or removed is so for certain after a SyncDir only. Two
//     changes of names may survive in any combination; one rename within a
//     directory is atomic.
//   - No write changes bytes outside its range.
//
// The cut of power is the crash meant everywhere; State.Kill is the death of the
// process alone, which takes nothing of what was done.

// Unit is the smallest thing that a crash keeps or takes back by itself.
type Unit struct {
	Op   int // Seq of the operation; negative when it came before the start of the log
	Part int // sector, counted from the first that the write touches; or PartSize, PartName
	Ino  int // the file; 0 for a change of names
}

// Parts of an operation that are no sectors.
const (
	PartSize = -1 // its effect on the size of the file
	PartName = -2 // its effect on names; PartName-1 in the second directory of a rename
)

// Chooser decides what becomes of a unit.
type Chooser func(Unit) Fate

// KeepAll is the Chooser of a crash that takes nothing back: a killed process.
func KeepAll(Unit) Fate { return Keep }

// DropAll is the Chooser of a crash that leaves only what was synced.
func DropAll(Unit) Fate { return Drop }

// Fate says what becomes of a unit. Sizes and names know Drop and
// Keep only, and take any other fate for Keep.
type Fate uint32

// The fates without a number; Torn, Mixed and Garbage make the others.
const (
	Drop Fate = iota // the crash takes it back
	Keep             // it survives
	torn
	mixed
	garbage

	fateBits = 3
	fateMask = 1<<fateBits - 1
)

// Torn keeps the first n bytes of what the operation wrote to the sector.
func Torn(n int) Fate { return torn | Fate(n)<<fateBits }

// Mixed keeps about half of the bytes that the operation wrote to the sector, chosen by n.
func Mixed(n int) Fate { return mixed | Fate(n)<<fateBits }

// Garbage leaves noise, a function of n, where the operation wrote.
func Garbage(n int) Fate { return garbage | Fate(n)<<fateBits }

// split returns the kind of the fate and its number.
func (f Fate) split() (kind Fate, n int) { return f & fateMask, int(f >> fateBits) }

// apply brings to buf, the sector at off, what f leaves of the bytes that c
// wrote to spans. Only those bytes change.
func (f Fate) apply(buf []byte, off int64, c *change, spans []span) {
	kind, n := f.split()
	noise := uint64(n)
	written := 0
	for _, a := range spans {
		dst := buf[a.from-off : a.to-off]
		src := c.data[a.from-c.off : a.to-c.off]
		switch kind {
		case Keep:
			copy(dst, src)
		case torn:
			copy(dst, src[:min(len(src), max(n-written, 0))])
			written += len(src)
		case mixed, garbage:
			for i := range dst {
				noise += 0x9e3779b97f4a7c15
				r := mix(noise)
				switch {
				case kind == garbage:
					dst[i] = byte(r)
				case r&1 != 0:
					dst[i] = src[i]
				}
			}
		}
	}
}

// History is a log made ready for asking what a crash at any of its moments
// may leave. It is read-only and may be used by several goroutines.
type History struct {
	log     []Op
	moments []moment
	events  int
}

// moment is a snap and the event that led to it.
type moment struct {
	event int
	snap  *snap
}

// event is one beginning or end in a log.
type event struct {
	at  int
	op  *Op
	end bool
}

// NewHistory prepares a log, as Recorder.Log returns it. It keeps the log.
func NewHistory(log []Op) *History {
	h := &History{log: log}
	events := make([]event, 0, 2*len(log))
	for i := range log {
		op := &log[i]
		events = append(events, event{op.Begin, op, false})
		if op.End != Never {
			events = append(events, event{op.End, op, true})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at - b.at })
	s := &snap{}
	h.moments = append(h.moments, moment{-1, s})
	for _, e := range events {
		h.events = e.at + 1
		if next := s.apply(e.op, e.end); next != s {
			s = next
			h.moments = append(h.moments, moment{e.at, s})
		}
	}
	return h
}

// Events is the number of events in the log: crashes are at 0 to Events.
func (h *History) Events() int { return h.events }

// Points returns the moments at which a crash can leave something that it
// could not leave, or must keep something that it need not keep, a moment
// before: after each change has begun, each sync has ended and each mark was made.
func (h *History) Points() []int {
	var points []int
	for i := range h.log {
		if h.log[i].Kind == KindMark {
			points = append(points, h.log[i].Begin+1)
		}
	}
	for _, m := range h.moments {
		if m.event >= 0 {
			points = append(points, m.event+1)
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// Mark returns the highest number that was marked by then with this kind;
// false when none was.
func (h *History) Mark(at int, kind string) (n uint64, ok bool) {
	for i := range h.log {
		if op := &h.log[i]; op.Kind == KindMark && op.Note == kind && op.Begin < at {
			n, ok = max(n, uint64(op.N)), true
		}
	}
	return n, ok
}

// State returns what a crash at a moment leaves when choose decides.
func (h *History) State(at int, choose Chooser) *State {
	p := h.plan(at)
	fates := make([]Fate, len(p.units))
	for i := range p.units {
		fates[i] = choose(p.units[i].Unit)
	}
	return p.state(fates)
}

// plan prepares the states of one moment.
func (h *History) plan(at int) *plan {
	i := sort.Search(len(h.moments), func(i int) bool { return h.moments[i].event >= at })
	if i == 0 {
		i = 1
	}
	return newPlan(h.moments[i-1].snap, h.log, at)
}

// Crash returns what a crash at a moment leaves when choose decides: a pure
// function of its arguments. For many states of one log use a History.
func Crash(log []Op, at int, choose Chooser) *State {
	return NewHistory(log).State(at, choose)
}
