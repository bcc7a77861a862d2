package freelist

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/foliodb/folio/page"
)

// The part of the machine that is about checkpoints, crashes, and what else comes seldom.

// checkpoint takes a snapshot, or ends the one there is.
func (m *machine) checkpoint() error {
	if m.open != nil {
		return m.endCheckpoint()
	}
	shrink := []int{0, 1, 3, 20}[m.pick(4)]
	s, err := m.l.Snapshot(m.last, shrink)
	if err != nil {
		return err
	}
	m.note("snapshot pin=%d shrink=%d -> end %d, own %v", m.last, shrink, s.End, s.Own)
	return m.opened(s, m.last, m.use, shrink)
}

func (m *machine) opened(s *Snapshot, pin page.TxID, use map[page.ID]unit, shrink int) error {
	if own := s.Own; own.N > 0 {
		free := m.allocatable()
		inFile := own.N
		if own.end() > m.end {
			inFile = m.end - min(own.Start, m.end)
		}
		if free.run(int(own.Start)) < int(inFile) || own.Start > m.end || own.Start < max(2, m.bound) {
			return fmt.Errorf("free set at %v, which is not free", own)
		}
		m.end = max(m.end, own.end())
		m.fixed = append(m.fixed, own)
	}
	if s.End != m.end {
		m.tail = Extent{s.End, m.end - s.End}
		free := m.allocatable2(false)
		if free.run(int(s.End)) != int(m.tail.N) || int(m.tail.N) < shrink || shrink == 0 || m.bound != 0 {
			return fmt.Errorf("tail %v withdrawn", m.tail)
		}
	}
	m.open = s
	m.openAs = durable{pin: pin, end: s.End, own: s.Own, set: s.Encode(), use: maps.Clone(use)}
	return m.compareSet()
}

// compareSet holds the encoded set against everything that the checkpoint does not reach.
func (m *machine) compareSet() error {
	d := m.openAs
	reached := make(naive, m.end)
	for _, u := range d.use {
		for i := range u.n {
			reached[u.id+i] = true
		}
	}
	for i := range d.own.N {
		reached[d.own.Start+i] = true
	}
	set := make(naive, m.end)
	for e, err := range Extents(d.set, d.end) {
		if err != nil && d.own.N > 0 {
			return err
		}
		for i := range e.N {
			set[e.Start+i] = true
		}
	}
	for id := page.FirstID; id < m.end; id++ {
		switch {
		case reached[id] && id >= d.end:
			return fmt.Errorf("checkpoint reaches page %d, its count is %d", id, d.end)
		case id < d.end && reached[id] == set[id]:
			return fmt.Errorf("page %d: reached %v, in the free set %v", id, reached[id], set[id])
		}
	}
	if again := EncodeSet(d.end, func(id page.ID) bool { return set[id] }); d.own.N > 0 && set.has() && !bytes.Equal(again, d.set) {
		return fmt.Errorf("set %x, encoded again %x", d.set, again)
	}
	if d.own.N > 0 && len(d.set) > int(d.own.N)*testPageSize {
		return fmt.Errorf("set of %d bytes in %d pages", len(d.set), d.own.N)
	}
	return nil
}

func (m *machine) endCheckpoint() error {
	if m.pick(4) == 0 || m.l.Ensure(m.open) != nil {
		m.abandon()
		return nil
	}
	if m.file < m.open.End {
		return fmt.Errorf("count %d in a file of %d", m.open.End, m.file)
	}
	return m.finish(m.pick(4))
}

func (m *machine) abandon() {
	own := m.open.Own
	m.l.Abandon(m.open)
	m.note("abandon")
	m.open, m.tail = nil, Extent{}
	m.fixed = slices.DeleteFunc(m.fixed, func(e Extent) bool { return e == own })
	if own.end() > m.file || m.l.End() < m.end && own.end() == m.end {
		m.end = max(own.Start, m.l.End())
	}
}

// finish makes the open checkpoint the slot's. how: 0 and 1 cut, 2 cut and fail, 3 no cut.
func (m *machine) finish(how int) error {
	old := m.slot.own
	m.slot = m.openAs
	s := m.open
	m.open, m.tail = nil, Extent{}
	truncate := func(end page.ID) error {
		if end < m.slot.end {
			return fmt.Errorf("cut to %d below the count %d", end, m.slot.end)
		}
		free := m.allocatable()
		for id := end; id < m.end; id++ {
			if !free[id] {
				return fmt.Errorf("cut to %d takes page %d away", end, id)
			}
		}
		m.end = end
		if how == 2 {
			return errTruncate
		}
		m.file = end
		return nil
	}
	if how == 3 {
		truncate = nil
	}
	tail, was := int(m.allocatable().tail()), m.end
	cut, err := m.l.Cut(s, truncate)
	m.note("cut %d -> %v %v, end %d", how, cut, err, m.end)
	if err != nil && err != errTruncate {
		return err
	}
	tail = min(tail, int(was-m.slot.end))
	if want := how != 3 && m.bound == 0 && s.cuts && tail >= int(s.shrink); cut != want || cut && int(was-m.end) != tail {
		return fmt.Errorf("cut: %v, from %d to %d with %d free at the end", cut, was, m.end, tail)
	}
	if old.N > 0 {
		m.note("release %v", old)
		m.l.Release(old)
		m.fixed = slices.DeleteFunc(m.fixed, func(e Extent) bool { return e == old })
	}
	return nil
}

// has reports whether there are members.
func (s naive) has() bool { return slices.Contains(s, true) }

// tail returns how many members there are at the end.
func (s naive) tail() int {
	n := 0
	for n < len(s) && s[len(s)-1-n] {
		n++
	}
	return n
}

// bulk commits the running transaction by a checkpoint of its own, or fails to.
func (m *machine) bulk() error {
	if m.open != nil {
		return m.endCheckpoint()
	}
	died := m.died()
	use := maps.Clone(m.use)
	maps.Copy(use, m.own)
	for _, u := range m.dying {
		delete(use, u.id)
	}
	s, err := m.l.SnapshotBulk(m.last+1, died, 1)
	if err != nil {
		return err
	}
	m.note("bulk tx=%d died=%v -> end %d, own %v", m.last+1, died, s.End, s.Own)
	if err := m.opened(s, m.last+1, use, 1); err != nil {
		return err
	}
	if err := m.compare(); err != nil {
		return err
	}
	if m.pick(3) == 0 || m.l.Ensure(s) != nil {
		m.abandon()
		m.note("rollback")
		m.l.Rollback()
		clear(m.own)
		m.dying = nil
		return nil
	}
	if err := m.finish(m.pick(4)); err != nil {
		return err
	}
	pins := m.pins()
	m.note("commit tx=%d died=%v pins=%v", m.last+1, died, pins)
	if err := m.l.Commit(m.last+1, died, pins); err != nil {
		return err
	}
	m.committed(pins)
	return nil
}

// odd does what comes seldom.
func (m *machine) odd() error {
	switch m.pick(10) {
	case 0, 1:
		return m.crash()
	case 2:
		m.full = !m.full
		m.note("full disk: %v", m.full)
	case 3:
		if u, ok := m.choose(m.use); ok {
			m.busy[u.id] = true
			m.note("busy %d", u.id)
		}
	case 4:
		clear(m.busy)
		m.note("nothing busy")
	case 5:
		m.appendOnly(0)
	case 6:
		m.appendOnly(page.ID(m.pick(int(m.file) + 1)))
	case 7, 8:
		m.confine(page.ID(m.pick(int(m.end)+3)) << m.pick(5))
	case 9:
		m.confine(0)
	}
	return nil
}

func (m *machine) appendOnly(from page.ID) {
	m.note("append only from %d", from)
	m.l.AppendOnly(from)
	m.bound = from
	m.end = max(m.end, from)
	m.tail = Extent{}
}

func (m *machine) confine(limit page.ID) {
	m.note("confine to below %d", limit)
	m.l.Confine(limit)
	m.limit = limit
}

// crash starts again from what the slot says.
func (m *machine) crash() error {
	if m.file < m.slot.end {
		return fmt.Errorf("file of %d pages, slot says %d", m.file, m.slot.end)
	}
	m.note("crash; slot at %d, end %d, own %v, set %x", m.slot.pin, m.slot.end, m.slot.own, m.slot.set)
	m.use = maps.Clone(m.slot.use)
	m.end, m.last, m.bound, m.limit = m.slot.end, m.slot.pin, 0, 0
	m.own, m.dead, m.dying, m.fixed = map[page.ID]unit{}, nil, nil, nil
	m.open, m.tail, m.onward = nil, Extent{}, 0
	m.readers, m.busy = map[page.TxID]bool{}, map[page.ID]bool{}
	m.start(New(m.end, testPageSize))
	if m.pick(3) == 0 {
		m.appendOnly(m.file)
	}
	if m.slot.own.N == 0 {
		return nil
	}
	m.fixed = []Extent{m.slot.own}
	return m.l.Load(bytes.Clone(m.slot.set), m.slot.own)
}
