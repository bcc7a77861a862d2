package freelist

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/page"
)

// unit is a run of pages with one life.
type unit struct {
	id, n page.ID
	born  page.TxID
}

type deadUnit struct {
	unit
	died page.TxID
}

// durable is what a meta slot says, and what it reaches.
type durable struct {
	pin page.TxID
	end page.ID
	own Extent
	set []byte
	use map[page.ID]unit
}

// machine runs a store's life over a List, told by a stream of choices, beside a naive
// model: one place for each page, lives decided by looking at every pin. After each step the two
// must agree on every page. It stands for the root package and the disk, too: a file with
// a size, a slot that survives a crash.
type machine struct {
	l       *List
	choices []byte
	log     []string // of what was done

	end   page.ID
	file  page.ID // pages that the file holds
	full  bool    // the disk: growing fails
	use   map[page.ID]unit
	own   map[page.ID]unit
	dead  []deadUnit
	dying []unit // that the running transaction will supersede
	last  page.TxID
	fixed []Extent
	bound page.ID
	limit page.ID          // while confined; 0: not
	busy  map[page.ID]bool // frames being written

	readers map[page.TxID]bool
	onward  page.TxID // all snapshots from here on are pinned; 0: no such pin
	slot    durable
	open    *Snapshot
	openAs  durable
	tail    Extent // withdrawn
}

const testPageSize = 8 // tiny, so that free sets take several pages

func newMachine(choices []byte) *machine {
	m := &machine{
		choices: choices,
		use:     map[page.ID]unit{},
		own:     map[page.ID]unit{},
		busy:    map[page.ID]bool{},
		readers: map[page.TxID]bool{},
		last:    1,
	}
	// What is in use at first ends near the border of two chunks, or near the start.
	m.end = []page.ID{3, 3, 20, 20, 100, 100, chunkPages - 10, 2*chunkPages - 3}[m.pick(8)]
	m.file = m.end
	m.use[2] = unit{2, m.end - 2, 1}
	m.slot = durable{pin: 1, end: m.end, use: maps.Clone(m.use)}
	m.start(New(m.end, testPageSize))
	return m
}

func (m *machine) start(l *List) {
	m.l = l
	l.OnFree = func(id page.ID, n int) bool { return !m.busy[id] }
	l.Grow = func(end page.ID) (page.ID, error) {
		if m.full {
			return 0, errFullDisk
		}
		m.file = max(m.file, end+page.ID(m.pick(4)))
		return m.file, nil
	}
}

var (
	errFullDisk = errors.New("disk is full")
	errTruncate = errors.New("cannot truncate")
)

// pick returns the next choice, below n.
func (m *machine) pick(n int) int {
	if len(m.choices) == 0 {
		return 0
	}
	c := int(m.choices[0])
	m.choices = m.choices[1:]
	return c % n
}

func (m *machine) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// choose returns one of the units.
func (m *machine) choose(of map[page.ID]unit) (unit, bool) {
	if len(of) == 0 {
		return unit{}, false
	}
	ids := slices.Sorted(maps.Keys(of))
	return of[ids[m.pick(len(ids))]], true
}

// pins returns everything pinned.
func (m *machine) pins() []page.TxID {
	p := slices.Collect(maps.Keys(m.readers))
	p = append(p, m.slot.pin)
	if m.open != nil {
		p = append(p, m.openAs.pin)
	}
	if m.onward != 0 {
		p = append(p, m.onward|Onward)
	}
	slices.Sort(p)
	return slices.Compact(p)
}

// needed decides by looking at every pin whether somebody can reach a dead page.
func (d deadUnit) needed(pins []page.TxID) bool {
	return slices.ContainsFunc(pins, func(p page.TxID) bool {
		if p >= Onward {
			return p-Onward < d.died && d.born < d.died
		}
		return d.born <= p && p < d.died
	})
}

// run lives until the choices are used up.
func (m *machine) run() error {
	for len(m.choices) > 0 {
		if err := m.step(); err != nil {
			return fmt.Errorf("%w\nafter\n\t%s", err, strings.Join(m.log, "\n\t"))
		}
		if err := m.compare(); err != nil {
			return fmt.Errorf("%w\nafter\n\t%s", err, strings.Join(m.log, "\n\t"))
		}
	}
	return nil
}

func (m *machine) step() error {
	switch m.pick(20) {
	case 0, 1, 2, 3:
		return m.alloc()
	case 4, 5:
		return m.freeOwn()
	case 6, 7:
		m.supersede()
	case 8, 9, 10:
		return m.commit()
	case 11:
		m.note("rollback")
		m.l.Rollback()
		clear(m.own)
		m.dying = nil
	case 12:
		m.note("pin %d", m.last)
		m.readers[m.last] = true
	case 13:
		switch m.pick(6) {
		case 0:
			m.onward = m.last
			m.note("pin %d onward", m.last)
		case 1, 2:
			m.onward = 0
			m.note("unpin onward")
		}
		if p := slices.Sorted(maps.Keys(m.readers)); len(p) > 0 {
			pin := p[m.pick(len(p))]
			m.note("unpin %d", pin)
			delete(m.readers, pin)
		}
	case 14:
		m.reclaim()
	case 15, 16, 17:
		return m.checkpoint()
	case 18:
		return m.bulk()
	case 19:
		return m.odd()
	}
	return nil
}

var runLengths = []int{1, 1, 1, 1, 2, 3, 5, 17, 64, 200}

func (m *machine) alloc() error {
	n := page.ID(runLengths[m.pick(len(runLengths))])
	id, ok := m.l.Alloc(int(n))
	m.note("alloc n=%d -> %d %v", n, id, ok)
	if !ok {
		if at, found := m.findFree(n); found {
			return fmt.Errorf("no run of %d found, but there is one at %d", n, at)
		}
		return m.extend(n)
	}
	if m.limit > 0 && uint64(id)+uint64(n) > uint64(m.limit) {
		return fmt.Errorf("%d pages at %d, confined to below %d", n, id, m.limit)
	}
	return m.give(id, n)
}

// findFree returns the leftmost run of n pages that Alloc may hand out.
func (m *machine) findFree(n page.ID) (int, bool) {
	end := m.end
	if m.limit > 0 {
		end = min(end, m.limit)
	}
	return m.allocatable().find(0, int(end), int(n))
}

// give checks pages that the list has handed out, and makes them the transaction's.
func (m *machine) give(id, n page.ID) error {
	free := m.allocatable()
	switch {
	case id < max(page.FirstID, m.bound) || id+n > m.end:
		return fmt.Errorf("%d pages at %d are out of bounds", n, id)
	case free.run(int(id)) < int(n):
		return fmt.Errorf("%d pages at %d are not free", n, id)
	case id+n > m.file:
		return fmt.Errorf("%d pages at %d are past the end of the file of %d", n, id, m.file)
	}
	m.own[id] = unit{id, n, m.last + 1}
	return nil
}

func (m *machine) extend(n page.ID) error {
	had := m.tail.N
	m.tail = Extent{} // given back if need be
	at, fits := m.findFree(n)
	id, err := m.l.Extend(int(n), math.MaxUint32)
	m.note("extend n=%d -> %d %v", n, id, err)
	if err == errFullDisk && m.full {
		return nil
	}
	switch {
	case err != nil:
		return err
	case fits && had == 0:
		return fmt.Errorf("extend where %d pages are free at %d", n, at)
	case !fits && m.limit > 0 && id+n == m.end: // the end itself was free, and above the limit
	case !fits && id+n <= m.end:
		return fmt.Errorf("extend found %d pages at %d", n, id)
	case !fits && id > m.end:
		return fmt.Errorf("extend left a gap before %d", id)
	case !fits && id > 2 && m.allocatable()[id-1]:
		return fmt.Errorf("extend left page %d out", id-1)
	}
	m.end = max(m.end, id+n)
	return m.give(id, n)
}

func (m *machine) freeOwn() error {
	u, ok := m.choose(m.own)
	if !ok {
		id := page.ID(m.pick(int(m.end) + 3))
		if m.l.FreeOwn(id, 1) == nil {
			return fmt.Errorf("page %d was given back without being owned", id)
		}
		return nil
	}
	k := 1 + page.ID(m.pick(int(u.n)))
	m.note("give id=%d n=%d", u.id+u.n-k, k)
	if err := m.l.FreeOwn(u.id+u.n-k, int(k)); err != nil {
		return err
	}
	delete(m.own, u.id)
	if u.n -= k; u.n > 0 {
		m.own[u.id] = u
	}
	return nil
}

func (m *machine) supersede() {
	u, ok := m.choose(m.use)
	if m.pick(8) == 0 && len(m.own) > 0 { // a page of its own of which bytes were handed out
		u, ok = m.choose(m.own)
	}
	if ok && !slices.Contains(m.dying, u) {
		m.dying = append(m.dying, u)
	}
}

// died returns what the running transaction supersedes, for the list.
func (m *machine) died() []Dead {
	var d []Dead
	m.dying = slices.DeleteFunc(m.dying, func(u unit) bool { return m.use[u.id] != u && m.own[u.id] != u })
	for _, u := range m.dying {
		d = append(d, Dead{u.id, u.n, u.born})
	}
	return d
}

func (m *machine) commit() error {
	died, bad := m.died(), 0
	if m.pick(4) == 0 { // as a damaged file would have it
		id := page.ID(m.pick(int(m.end) + 2))
		if !covers(m.use, id) {
			died = append(died, Dead{id, 1, 0})
			bad++
		}
		if len(died) > 0 {
			died = append(died, died[0])
			bad++
		}
	}
	tx, pins := m.last+1, m.pins()
	m.note("commit tx=%d died=%v pins=%v", tx, died, pins)
	err := m.l.Commit(tx, died, pins)
	if count := errorCount(err); count != bad {
		return fmt.Errorf("%d errors for %d bad pages: %v", count, bad, err)
	}
	m.committed(pins)
	return nil
}

func errorCount(err error) int {
	if err == nil {
		return 0
	}
	all := err.(interface{ Unwrap() []error }).Unwrap()
	for _, e := range all {
		if !errors.Is(e, page.ErrCorrupt) {
			return -1
		}
	}
	return len(all)
}

func covers(of map[page.ID]unit, id page.ID) bool {
	for _, u := range of {
		if u.id <= id && id < u.id+u.n {
			return true
		}
	}
	return false
}

// committed is what a commit does in the model.
func (m *machine) committed(pins []page.TxID) {
	m.last++
	maps.Copy(m.use, m.own)
	clear(m.own)
	for _, u := range m.dying {
		delete(m.use, u.id)
		if d := (deadUnit{u, m.last}); d.needed(pins) || m.busy[d.id] {
			m.dead = append(m.dead, d)
		}
	}
	m.dying = nil
}

func (m *machine) reclaim() {
	pins := m.pins()
	m.note("reclaim pins=%v", pins)
	m.l.Reclaim(pins)
	m.dead = slices.DeleteFunc(m.dead, func(d deadUnit) bool { return !d.needed(pins) && !m.busy[d.id] })
}

// allocatable returns the pages that may be handed out.
func (m *machine) allocatable() naive { return m.allocatable2(true) }

func (m *machine) allocatable2(butTail bool) naive {
	free := make(naive, m.end)
	for id := max(page.FirstID, m.bound); id < m.end; id++ {
		free[id] = true
	}
	m.takeOut(free)
	if butTail {
		for i := range m.l.kept.N {
			free[m.l.kept.Start+i] = false
		}
		for i := range m.tail.N {
			free[m.tail.Start+i] = false
		}
	}
	return free
}

// takeOut removes every page that is not free.
func (m *machine) takeOut(free naive) {
	out := func(id, n page.ID) {
		for i := range n {
			free[id+i] = false
		}
	}
	for _, u := range m.use {
		out(u.id, u.n)
	}
	for _, u := range m.own {
		out(u.id, u.n)
	}
	for _, d := range m.dead {
		out(d.id, d.n)
	}
	for _, e := range m.fixed {
		out(e.Start, e.N)
	}
}

// compare holds every page's place in the list against the model's, and the list against
// itself.
func (m *machine) compare() error {
	l := m.l
	if l.end != m.end || l.room > m.file {
		return fmt.Errorf("end %d, room %d; model: end %d, file %d", l.end, l.room, m.end, m.file)
	}
	want := make([]byte, m.end)
	for id := range want {
		want[id] = 'f'
		if page.ID(id) < m.bound {
			want[id] = 'a'
		}
	}
	put := func(e Extent, place byte) {
		for i := range e.N {
			want[e.Start+i] = place
		}
	}
	put(m.tail, 'a')
	kept := l.kept // which of the old sets' pages are kept is the list's affair, but they are free, and two at least
	for i := range kept.N {
		if kept.N < 2 || want[kept.Start+i] != 'f' {
			return fmt.Errorf("%v is kept, page %d of it in %c", kept, kept.Start+i, want[kept.Start+i])
		}
	}
	put(kept, 'a')
	put(Extent{0, 2}, 'u')
	for _, u := range m.use {
		put(Extent{u.id, u.n}, 'u')
	}
	for _, u := range m.own {
		put(Extent{u.id, u.n}, 'o')
	}
	for _, d := range m.dead {
		put(Extent{d.id, d.n}, 'h')
	}
	for _, e := range m.fixed {
		put(e, 'h')
	}
	got := make([]byte, m.end)
	for id := range got {
		got[id] = 'u'
	}
	for place, set := range map[byte]*bitmap{'f': &l.free, 'a': &l.aside, 'o': &l.own, 'h': &l.held} {
		for id, n := set.next(0); n > 0; id, n = set.next(id + n) {
			for i := range n {
				if id+i >= m.end {
					return fmt.Errorf("page %d past the end is in %c", id+i, place)
				}
				if got[id+i] != 'u' {
					return fmt.Errorf("page %d is in %c and in %c", id+i, got[id+i], place)
				}
				got[id+i] = place
			}
		}
	}
	for id := range want {
		if got[id] != want[id] {
			return fmt.Errorf("page %d is in %c; model: %c", id, got[id], want[id])
		}
	}
	account := l.Account()
	for id := page.FirstID; id < account.End(); id++ {
		if account.InUse(id) != (want[id] == 'u') {
			return fmt.Errorf("page %d in use: %v; model: %c", id, account.InUse(id), want[id])
		}
	}
	return m.compareFigures()
}

func (m *machine) compareFigures() error {
	l := m.l
	if l.curEnd > l.cur && !l.free.all(l.cur, l.curEnd-l.cur) {
		return fmt.Errorf("current run %d to %d is not free", l.cur, l.curEnd)
	}
	s := l.Stats()
	var held, fixed uint64
	for _, d := range m.dead {
		held += uint64(d.n)
	}
	for _, e := range m.fixed {
		fixed += uint64(e.N)
	}
	if s.Retained+s.Busy != held || s.Fixed != fixed {
		return fmt.Errorf("%+v; model: %d dead, %d fixed", s, held, fixed)
	}
	tail := m.allocatable()
	for i := range l.kept.N {
		tail[l.kept.Start+i] = true
	}
	if l.Tail() != page.ID(tail.tail()) {
		return fmt.Errorf("tail of %d", l.Tail())
	}
	var sum uint64
	for _, p := range l.Retained() {
		sum += p.Pages
		if l.RetainedBy(p.Pin) != p.Pages || p.Pages == 0 {
			return fmt.Errorf("pin %d retains %d, %d", p.Pin, p.Pages, l.RetainedBy(p.Pin))
		}
	}
	if sum != s.Retained {
		return fmt.Errorf("pins retain %d of %d", sum, s.Retained)
	}
	return nil
}

var seedFlag = flag.Uint64("seed", 0, "run TestModel with this seed only")

// TestModel runs lives told by random choices. A failure prints the seed and what was done.
func TestModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(1000)
	if testing.Short() {
		seeds = 100
	}
	for seed := range seeds {
		if *seedFlag != 0 {
			seed = *seedFlag - 1
		}
		choices := make([]byte, 600)
		r := rand.New(rand.NewPCG(seed, 2))
		for i := range choices {
			choices[i] = byte(r.Uint32())
		}
		if err := newMachine(choices).run(); err != nil {
			t.Fatalf("%v\nreplay: go test ./freelist -run TestModel -seed %d", err, seed+1)
		}
		if *seedFlag != 0 {
			return
		}
	}
}
