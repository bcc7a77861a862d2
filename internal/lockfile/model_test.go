package lockfile

import (
	"flag"
	"fmt"
	"slices"
	"testing"
)

var flagModel = flag.Bool("folio.model", false, "walk all states of the model within wide bounds, which takes gigabytes of memory and minutes")

// TestModel walks all states of a small model of the protocol: one writer, which may die and be succeeded, and reading
// processes that attach, begin, end, leave and die, each between any two of the others' stores and loads. It looks for
// a reader whose snapshot has been reclaimed, one that is shown less than somebody had been told of before it began, and
// a state in which somebody waits for ever.
// Cases D1, D2, D3 and D4 of RELIABILITY.md.
func TestModel(t *testing.T) {
	bounds := []model{{readers: 1, commits: 2, deaths: 2}, {readers: 2, commits: 1, deaths: 1}}
	if *flagModel {
		bounds = append(bounds, model{readers: 1, commits: 4, deaths: 2}, model{readers: 2, commits: 3, deaths: 0},
			model{readers: 2, commits: 2, deaths: 1}, model{readers: 2, commits: 3, deaths: 1})
	}
	for _, c := range bounds {
		m := &c
		n, trace := m.explore()
		t.Logf("%d readers, %d commits, %d deaths: %d states", c.readers, c.commits, c.deaths, n)
		if trace != nil {
			t.Errorf("%s", join(trace))
		}
	}
}

// The model found one fault that nobody had thought of: a writer that died after it had taken the mark back, and before it
// looked at the slots once more, left a table that told its successor that nobody was attached ("mark left as it was").

// TestModelPlants takes one rule of the protocol away at a time: the model has to fail.
// Case D5 of RELIABILITY.md.
func TestModelPlants(t *testing.T) {
	for _, fault := range []string{"no second look", "published during the scan", "mark taken back blindly", "mark before the slot",
		"acknowledged first", "attach without acked", "nobody polls", "reused in recovery", "brought back at once", "mark left as it was",
		"same number", "wakes without the mark", "sleeps with a pin"} {
		n, found := 0, ""
		for _, m := range []model{{readers: 1, commits: 2, deaths: 0}, {readers: 1, commits: 2, deaths: 1}, {readers: 2, commits: 1, deaths: 1}} {
			m.fault = fault
			k, trace := m.explore()
			n += k
			if trace != nil {
				found = trace[len(trace)-1]
				break
			}
		}
		if found == "" {
			t.Errorf("%s: not found in %d states", fault, n)
		}
		t.Logf("%-26s %8d states: %s", fault, n, found)
	}
}

func join(trace []string) string {
	s := ""
	for _, l := range trace {
		s += "\n    " + l
	}
	return s
}

// model has the bounds of an exploration, and the rule that is broken.
type model struct {
	readers, commits, deaths int
	fault                    string
}

const maxReaders = 2

// mstate is one state. Snapshots are numbers; 0 is the store as it was found, and ckpt the last one that a meta slot names.
type mstate struct {
	published, acked, mark uint8             // the table; published is a number and one, 0: none
	slot                   [maxReaders]uint8 // 1: in use; 2: by one who sleeps
	pin                    [maxReaders]uint8 // a number and one

	w mwriter
	r [maxReaders]mreader

	newest    uint8  // number of the newest commit
	ckpt      uint8  // what a recovery starts from
	told      uint8  // newest commit that somebody was told of
	reclaimed uint16 // snapshots whose pages may have been written over
	deaths    uint8
}

type mwriter struct {
	pc    uint8
	i     uint8  // slot that is scanned next
	pins  uint16 // found by the scan
	used  bool
	aside bool  // keeps off what others may read
	shown uint8 // first snapshot that this writer showed, and one
	limit uint8 // what the scan may reclaim lies below
}

type mreader struct {
	pc    uint8
	word  uint8 // published, as loaded
	need  uint8 // told when it began
	using uint8 // a number and one
	sees  uint8 // newest commit in what it reads
	fresh bool  // has not begun since it attached
}

// Program counters of the writer.
const (
	wIdle      = iota
	wAcked     // commit: acked is to be stored
	wLook      // commit: the mark is to be looked at again
	wPublish   // commit: publish, then acknowledge
	wPublished // commit: published; acked is to be stored
	wTell
	wScan
	wRescan
	wReclaim
	wDead
	wRecover
	wShow
)

// Program counters of a reader.
const (
	rGone = iota
	rSlot
	rMark
	rIdle
	rLoad
	rAcked
	rPin
	rLookAgain
	rUsing
	rUnpin
	rDead
	rBase
	rAsleep
	rWake
	rWakeMark
)

// next calls fn with every state that follows s.
func (m *model) next(s mstate, fn func(string, mstate)) {
	m.writer(s, fn)
	for i := range m.readers {
		m.reader(s, i, fn)
	}
}

func (m *model) is(fault string) bool { return m.fault == fault }

func (m *model) writer(s mstate, fn func(string, mstate)) {
	step := func(name string, change func(*mstate)) {
		n := s
		change(&n)
		fn("writer: "+name, n)
	}
	if s.w.pc != wDead && int(s.deaths) < m.deaths {
		step("dies", func(n *mstate) { n.w = mwriter{pc: wDead}; n.deaths++ })
	}
	switch s.w.pc {
	case wIdle:
		if int(s.newest) < m.commits+int(s.deaths) {
			step("commits, and looks at the mark", func(n *mstate) {
				n.newest++
				n.reclaimed &^= 1 << n.newest
				switch {
				case m.is("acknowledged first"):
					n.told = n.newest
					n.w.pc = wPublish
				case n.mark != 0:
					n.w.pc = wPublish
				default:
					n.w.pc = wAcked
				}
			})
		}
		if s.published != s.newest+1 && (s.mark != 0 && !m.is("nobody polls")) {
			step("polls: publishes", func(n *mstate) { n.published = n.newest + 1 })
		}
		if s.published != s.newest+1 {
			step("publishes for itself", func(n *mstate) {
				if !m.is("nobody polls") {
					n.published = n.newest + 1
				}
			})
		}
		if s.mark != 0 {
			step("begins to scan", func(n *mstate) {
				n.w.pc, n.w.i, n.w.pins, n.w.used, n.w.limit = wScan, 0, 0, false, n.published
			})
		} else if s.published > 0 {
			step("reclaims, nobody is attached", func(n *mstate) { m.reclaim(n, 0, n.published) })
		}
		for i := range m.readers {
			if s.r[i].pc == rDead && s.slot[i] != 0 {
				step("reaps", func(n *mstate) { n.pin[i], n.slot[i] = 0, 0 })
			}
		}
		if s.ckpt != s.newest && s.published == s.newest+1 {
			step("checkpoints", func(n *mstate) { n.ckpt = n.newest })
		}
	case wAcked:
		step("stores acked", func(n *mstate) {
			n.acked, n.w.pc = n.newest, wLook
		})
	case wLook:
		step("looks at the mark again", func(n *mstate) {
			n.w.pc = wTell
			if n.mark != 0 {
				n.w.pc = wPublish
			}
		})
	case wPublish:
		step("publishes", func(n *mstate) { n.published, n.w.pc = n.newest+1, wPublished })
	case wPublished:
		step("stores acked", func(n *mstate) { n.acked, n.w.pc = n.newest, wTell })
	case wTell:
		step("tells", func(n *mstate) { n.told, n.w.pc = n.newest, wIdle })
	case wScan, wRescan:
		if m.is("published during the scan") && int(s.newest) < m.commits+int(s.deaths) {
			step("commits in another goroutine", func(n *mstate) {
				n.newest++
				n.published, n.acked, n.w.limit = n.newest+1, n.newest, n.newest+1
				n.reclaimed &^= 1 << n.newest
			})
		}
		step("looks at a slot", func(n *mstate) {
			i := n.w.i
			if int(i) == m.readers {
				switch {
				case n.w.used || n.w.pc == wRescan || m.is("mark taken back blindly"):
					if n.w.pc == wRescan && n.w.used {
						n.mark = 1
					}
					if m.is("mark taken back blindly") && !n.w.used {
						n.mark = 0
					}
					n.w.pc = wReclaim
				default:
					n.mark = 0
					n.w.pc, n.w.i = wRescan, 0
				}
				return
			}
			if n.slot[i] != 0 {
				n.w.used = n.w.used || n.slot[i] == 1
				if n.pin[i] != 0 {
					n.w.pins |= 1 << (n.pin[i] - 1)
				}
			}
			n.w.i++
		})
	case wReclaim:
		step("reclaims", func(n *mstate) {
			m.reclaim(n, n.w.pins, n.w.limit)
			n.w.pc = wIdle
		})
	case wDead:
		if slices.ContainsFunc(s.r[:m.readers], func(r mreader) bool { return r.pc == rBase }) {
			return // the lock on the writer's byte
		}
		step("is succeeded", func(n *mstate) {
			n.w = mwriter{pc: wRecover, aside: true}
			attached := slices.ContainsFunc(n.r[:m.readers], func(r mreader) bool { return r.pc != rGone && r.pc != rDead })
			if !attached { // the table is made anew
				n.published, n.acked, n.mark, n.slot, n.pin = 0, 0, 0, [maxReaders]uint8{}, [maxReaders]uint8{}
				n.w.aside = false
			} else if !m.is("mark left as it was") {
				n.mark = 1
			}
		})
	case wRecover:
		step("replays the log", func(n *mstate) {
			if m.is("reused in recovery") || !n.w.aside {
				n.reclaimed |= (uint16(2)<<n.newest - 1) &^ (1 << n.ckpt)
			}
			if m.is("same number") {
				// The same commits on other pages, under the number that the old pages have.
				n.w.pc = wShow
				return
			}
			n.newest++
			n.w.pc = wShow
		})
	case wShow:
		step("shows what it found", func(n *mstate) {
			n.ckpt = n.newest
			n.reclaimed &^= 1 << n.newest
			n.published, n.acked, n.w.shown = n.newest+1, n.newest, n.newest+1
			n.w.pc = wIdle
			if m.is("brought back at once") {
				n.w.aside = false
				n.reclaimed |= 1<<n.newest - 1
			}
		})
	}
}

// reclaim lets every snapshot below the limit be written over that nobody pins.
func (m *model) reclaim(n *mstate, pins uint16, limit uint8) {
	if n.w.aside {
		below := uint16(1)<<(n.w.shown-1) - 1
		if n.w.shown == 0 || pins&below != 0 {
			return
		}
		n.w.aside = false
		if m.is("same number") { // the number tells nothing: the old pages of the snapshot that it names go as well
			for i := range m.readers {
				if n.r[i].using == n.w.shown && n.r[i].word != n.published {
					n.reclaimed |= 1 << (n.w.shown - 1)
				}
			}
		}
	}
	for s := uint8(0); s+1 < limit; s++ {
		if pins&(1<<s) == 0 && s != n.ckpt {
			n.reclaimed |= 1 << s
		}
	}
}

func (m *model) reader(s mstate, i int, fn func(string, mstate)) {
	r := &s.r[i]
	step := func(name string, change func(*mstate, *mreader)) {
		n := s
		change(&n, &n.r[i])
		fn(fmt.Sprintf("reader %d: %s", i, name), n)
	}
	switch r.pc {
	case rGone:
	case rDead:
		if s.slot[i] == 0 {
			step("is started again", func(n *mstate, r *mreader) { *r = mreader{} })
		}
		return
	default:
		if int(s.deaths) < m.deaths {
			step("dies", func(n *mstate, r *mreader) {
				n.deaths++
				*r = mreader{pc: rDead}
				if n.slot[i] == 0 {
					*r = mreader{}
				}
			})
		}
	}
	switch r.pc {
	case rGone:
		step("attaches", func(n *mstate, r *mreader) {
			*r = mreader{pc: rSlot, fresh: true}
			if m.is("mark before the slot") {
				r.pc = rMark
			}
		})
	case rSlot:
		step("takes a slot", func(n *mstate, r *mreader) {
			n.slot[i], r.pc = 1, rMark
			if m.is("mark before the slot") {
				r.pc = rIdle
			}
		})
	case rMark:
		step("sets the mark", func(n *mstate, r *mreader) {
			n.mark, r.pc = 1, rIdle
			if m.is("mark before the slot") {
				r.pc = rSlot
			}
		})
	case rIdle:
		step("begins", func(n *mstate, r *mreader) { r.need, r.pc = n.told, rLoad })
		step("leaves", func(n *mstate, r *mreader) { n.slot[i] = 0; *r = mreader{} })
		step("sleeps", func(n *mstate, r *mreader) { n.slot[i], r.pc = 2, rAsleep })
	case rAsleep:
		step("begins, and has to wake", func(n *mstate, r *mreader) { r.need, r.pc = n.told, rWake })
	case rWake:
		step("is awake", func(n *mstate, r *mreader) {
			n.slot[i], r.pc = 1, rWakeMark
			if m.is("wakes without the mark") {
				r.pc = rLoad
			}
		})
	case rWakeMark:
		step("sets the mark", func(n *mstate, r *mreader) { n.mark, r.pc = 1, rLoad })
	case rLoad:
		step("loads published", func(n *mstate, r *mreader) { r.word, r.pc = n.published, rAcked })
	case rAcked:
		behind := r.word == 0 || s.acked+1 > r.word
		if m.is("attach without acked") {
			behind = r.word == 0
		}
		switch {
		case !behind:
			step("loads acked", func(n *mstate, r *mreader) { r.pc = rPin })
		case s.w.pc == wDead:
			step("finds no writer, and locks", func(n *mstate, r *mreader) { r.pc = rBase })
		default:
			step("waits", func(n *mstate, r *mreader) { r.pc = rLoad })
		}
	case rBase:
		step("reads the checkpoint and the log", func(n *mstate, r *mreader) {
			if n.published != r.word {
				r.pc = rLoad
				return
			}
			n.pin[i] = n.ckpt + 1
			r.using, r.sees, r.pc = n.ckpt+1, n.newest, rUsing
		})
	case rPin:
		step("pins", func(n *mstate, r *mreader) {
			n.pin[i], r.pc = r.word, rLookAgain
			if m.is("no second look") {
				r.using, r.sees, r.pc = r.word, r.word-1, rUsing
			}
		})
	case rLookAgain:
		step("looks again", func(n *mstate, r *mreader) {
			if n.published == r.word {
				r.using, r.sees, r.pc = r.word, r.word-1, rUsing
				return
			}
			n.pin[i], r.pc = 0, rLoad
		})
	case rUsing:
		step("ends", func(n *mstate, r *mreader) { r.using, r.pc = 0, rUnpin })
		if m.is("sleeps with a pin") {
			step("sleeps while it reads", func(n *mstate, r *mreader) { n.slot[i] = 2 })
		}
	case rUnpin:
		step("unpins", func(n *mstate, r *mreader) { n.pin[i], r.pc, r.word, r.need, r.sees = 0, rIdle, 0, 0, 0 })
	}
}

// wrong says what may not be in a state.
func (m *model) wrong(s *mstate) string {
	for i := range m.readers {
		r := &s.r[i]
		if r.pc != rUsing {
			continue
		}
		if s.reclaimed&(1<<(r.using-1)) != 0 {
			return fmt.Sprintf("reader %d reads snapshot %d, whose pages were reused", i, r.using-1)
		}
		if r.sees < r.need {
			return fmt.Sprintf("reader %d sees commit %d, %d was told before", i, r.sees, r.need)
		}
	}
	return ""
}

// explore walks all states, and returns how many there are, and the steps to one that is wrong. Then it looks for states
// from which a reader that waits can never read.
func (m *model) explore() (int, []string) {
	type from struct {
		prev int
		step string
	}
	states := []mstate{{published: 1, w: mwriter{shown: 1}}}
	index := map[mstate]int{states[0]: 0}
	came := []from{{-1, "start"}}
	var back [][]int32
	trace := func(i int, last string) []string {
		t := []string{last}
		for ; i >= 0; i = came[i].prev {
			t = append(t, came[i].step)
		}
		slices.Reverse(t)
		return t
	}
	back = append(back, nil)
	for i := 0; i < len(states); i++ {
		if bad := m.wrong(&states[i]); bad != "" {
			return len(states), trace(i, bad)
		}
		m.next(states[i], func(name string, n mstate) {
			k, ok := index[n]
			if !ok {
				k = len(states)
				index[n] = k
				states = append(states, n)
				came = append(came, from{i, name})
				back = append(back, nil)
			}
			if k != i {
				back[k] = append(back[k], int32(i))
			}
		})
	}
	// From every state in which a reader waits one must be reachable, without anybody dying or being told to commit, in
	// which it reads: here in weaker form, by any steps.
	for r := range m.readers {
		good := make([]bool, len(states))
		var work []int32
		for i := range states {
			if pc := states[i].r[r].pc; pc != rLoad && pc != rAcked {
				good[i] = true
				work = append(work, int32(i))
			}
		}
		for len(work) > 0 {
			i := work[len(work)-1]
			work = work[:len(work)-1]
			for _, p := range back[i] {
				if !good[p] {
					good[p] = true
					work = append(work, p)
				}
			}
		}
		for i := range states {
			if !good[i] {
				return len(states), trace(i, fmt.Sprintf("reader %d waits for ever", r))
			}
		}
	}
	return len(states), nil
}
