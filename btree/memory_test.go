package btree

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foliodb/folio/page"
)

// memory is a Writer that holds to its contract as strictly as it can: buffers are poisoned at the first moment that
// the contract allows, pages of earlier transactions must not be written to, every page and run is freed at most once, and
// between operations pages are spilled, so that they come back under other numbers.
type memory struct {
	ps    int
	tx    page.TxID
	next  page.ID
	pages map[page.ID]*memPage
	runs  map[page.ID]*memRun
	spare []page.ID // ids that may be used again
	holes []page.ID // ids of runs that are gone; used again only while confined

	room    []bool // free ids below the limit while confined; nil: not confined
	refused uint64 // pages of the shortest run that was refused while confined; 0: none

	own     []page.ID        // of this transaction, in the order in which they were made
	dead    []page.ID        // superseded in this transaction; they go at its end
	retired [][]byte         // to be poisoned when the operation ends
	old     []byte           // of the last Renew, to be poisoned at the next call
	used    map[page.ID]bool // shown in this operation, as pages that must not be changed
	touched map[page.ID]bool // handed out in this operation to be changed
	scratch []byte

	rnd    *rand.Rand // decides about spilling; nil: never
	strict bool       // complain about what only a damaged tree does
	doomed bool       // an operation failed
	calls  int        // of Page, Touch and Run
	allocs []page.ID  // since the last report
	frees  []page.ID
	fails  []string
}

type memPage struct {
	buf     []byte
	born    page.TxID
	own     bool   // of this transaction, and on the heap
	sum     uint64 // of buf, where it must not change
	exposed bool
	dead    bool
	damaged bool // to be validated before it is shown
}

type memRun struct {
	data    []byte
	born    page.TxID
	sum     uint64
	exposed bool
	dead    bool
}

func newMemory(pageSize int) *memory {
	return &memory{
		ps: pageSize, tx: 1, next: page.FirstID, strict: true,
		pages: map[page.ID]*memPage{}, runs: map[page.ID]*memRun{}, used: map[page.ID]bool{}, touched: map[page.ID]bool{},
		scratch: make([]byte, 0, pageSize),
	}
}

func (m *memory) failf(format string, args ...any) {
	m.fails = append(m.fails, fmt.Sprintf(format, args...))
}

// complain is failf for what a damaged tree may bring about.
func (m *memory) complain(format string, args ...any) {
	if m.strict {
		m.failf(format, args...)
	}
}

func poison(b []byte) {
	for i := range b {
		b[i] = 0xAA
	}
}

// enter begins every call: what Renew gave last is no longer valid.
func (m *memory) enter() {
	if m.old != nil {
		poison(m.old)
		m.old = nil
	}
}

// newID returns an id for a page. The only error is ErrNoRoom.
func (m *memory) newID() (page.ID, error) {
	if m.room != nil {
		return m.roomFor(1)
	}
	if n := len(m.spare); n > 0 {
		id := m.spare[n-1]
		m.spare = m.spare[:n-1]
		return id, nil
	}
	m.next++
	return m.next - 1, nil
}

// confine restricts new pages and runs to ids below limit, until unconfine is called.
func (m *memory) confine(limit page.ID) {
	limit = min(limit, m.next)
	m.room, m.refused = make([]bool, limit), 0
	for _, ids := range [][]page.ID{m.spare, m.holes} {
		for _, id := range ids {
			if id < limit {
				m.room[id] = true
			}
		}
	}
}

// unconfine ends what confine began.
func (m *memory) unconfine() {
	used := func(id page.ID) bool { return int(id) < len(m.room) && !m.room[id] }
	m.spare = slices.DeleteFunc(m.spare, used)
	m.holes = slices.DeleteFunc(m.holes, used)
	m.room = nil
}

// roomFor takes the leftmost n free ids in a row.
func (m *memory) roomFor(n int) (page.ID, error) {
	run := 0
	for id, free := range m.room {
		if run++; !free {
			run = 0
		}
		if run == n {
			clear(m.room[id+1-n : id+1])
			return page.ID(id + 1 - n), nil
		}
	}
	return 0, ErrNoRoom
}

func (m *memory) Page(id page.ID) ([]byte, error) {
	m.enter()
	p := m.pages[id]
	if p == nil || p.dead && m.strict {
		m.complain("page %d read, which is none", id)
		return nil, &page.CorruptError{Page: id, Offset: -1, Reason: "no such page"}
	}
	if err := m.see(id, p); err != nil {
		return nil, err
	}
	m.used[id] = true
	return p.buf[:m.ps:m.ps], nil
}

// see counts looks at pages, and validates those that were damaged on purpose.
func (m *memory) see(id page.ID, p *memPage) error {
	m.calls++
	if p.damaged {
		return page.Validate(p.buf, id)
	}
	return nil
}

func (m *memory) Run(r page.Ref, n int) ([]byte, error) {
	m.enter()
	m.calls++
	run := m.runs[r.ID]
	if run == nil || run.dead && m.strict || len(run.data) != n || run.sum != r.Sum {
		m.complain("run %v of %d bytes read, which is none", r, n)
		return nil, &page.CorruptError{Page: r.ID, Offset: -1, Reason: "no such run"}
	}
	return run.data[:n:n], nil
}

func (m *memory) TxID() page.TxID { return m.tx }

func (m *memory) Touch(id page.ID) (page.ID, []byte, error) {
	m.enter()
	p := m.pages[id]
	if p == nil || p.dead && m.strict {
		m.complain("page %d touched, which is none", id)
		return 0, nil, &page.CorruptError{Page: id, Offset: -1, Reason: "no such page"}
	}
	if err := m.see(id, p); err != nil {
		return 0, nil, err
	}
	if p.own {
		m.touched[id] = true
		return id, p.buf, nil
	}
	to, err := m.newID()
	if err != nil {
		return 0, nil, err
	}
	buf := make([]byte, m.ps)
	copy(buf, p.buf)
	page.SetID(buf, to)
	page.SetBorn(buf, m.tx)
	m.pages[to] = &memPage{buf: buf, born: m.tx, own: true}
	m.touched[to] = true
	m.own = append(m.own, to)
	m.allocs = append(m.allocs, to)
	m.release(id)
	return to, buf, nil
}

func (m *memory) Own(id page.ID) []byte {
	m.enter()
	if p := m.pages[id]; p != nil && p.own && !p.dead {
		return p.buf
	}
	return nil
}

func (m *memory) Alloc() (page.ID, []byte, error) {
	m.enter()
	id, err := m.newID()
	if err != nil {
		return 0, nil, err
	}
	buf := make([]byte, m.ps)
	m.pages[id] = &memPage{buf: buf, born: m.tx, own: true}
	m.touched[id] = true
	m.own = append(m.own, id)
	m.allocs = append(m.allocs, id)
	return id, buf, nil
}

func (m *memory) Renew(id page.ID) (old, fresh []byte, err error) {
	m.enter()
	p := m.pages[id]
	if p == nil || !p.own {
		m.failf("page %d renewed, which is not own", id)
		return nil, nil, fmt.Errorf("page %d is not own", id)
	}
	old, fresh = p.buf, make([]byte, m.ps)
	if !p.exposed {
		m.old = old
	}
	p.buf, p.exposed = fresh, false
	return old, fresh, nil
}

func (m *memory) Free(id page.ID, born page.TxID) {
	m.enter()
	p := m.pages[id]
	if p == nil || p.dead {
		m.complain("page %d freed, which is none", id)
		return
	}
	if born != 0 && born != p.born {
		m.complain("page %d freed as born in %d, not %d", id, born, p.born)
	}
	m.release(id)
}

// release ends the life of a page: at the end of the operation where it is the transaction's own, else with it.
func (m *memory) release(id page.ID) {
	p := m.pages[id]
	if p.dead {
		return
	}
	p.dead = true
	m.frees = append(m.frees, id)
	m.dead = append(m.dead, id)
	if p.own && !p.exposed {
		m.retired = append(m.retired, p.buf)
	}
}

func (m *memory) PutRun(parts ...[]byte) (page.Ref, error) {
	m.enter()
	data := bytes.Join(parts, nil)
	n := page.RunPages(uint64(len(data)), m.ps)
	id := m.next // runs get numbers of their own, past all others
	if m.room == nil {
		m.next += page.ID(n)
	} else {
		var err error
		if id, err = m.roomFor(int(n)); err != nil {
			if m.refused > 0 && n >= m.refused {
				m.failf("run of %d pages asked for where there was no room for %d", n, m.refused)
			}
			m.refused = n
			return page.Ref{}, err
		}
	}
	m.runs[id] = &memRun{data: data, born: m.tx, sum: page.Sum(data)}
	m.allocs = append(m.allocs, id)
	return page.Ref{ID: id, Born: m.tx, Sum: page.Sum(data)}, nil
}

func (m *memory) FreeRun(r page.Ref, n int) {
	m.enter()
	run := m.runs[r.ID]
	if run == nil || run.dead || len(run.data) != n || run.born != r.Born {
		m.complain("run %v of %d bytes freed, which is none", r, n)
		return
	}
	run.dead = true
	if run.born == m.tx && !run.exposed {
		m.retired = append(m.retired, run.data)
	}
	m.frees = append(m.frees, r.ID)
}

func (m *memory) Expose(id page.ID) {
	m.enter()
	if p := m.pages[id]; p != nil {
		p.exposed = true
	} else if r := m.runs[id]; r != nil {
		r.exposed = true
	} else {
		m.complain("page %d exposed, which is none", id)
	}
}

// endOperation is what a pager does between two operations, and where the checks of the first are done.
func (m *memory) endOperation() {
	m.enter()
	for _, b := range m.retired {
		poison(b)
	}
	m.retired = m.retired[:0]
	for id := range m.used {
		if p := m.pages[id]; p != nil && !p.own && page.Sum(p.buf) != p.sum {
			m.failf("page %d was written to, and is not own", id)
		}
	}
	clear(m.used)
	for id := range m.touched {
		if p := m.pages[id]; !p.dead && (m.strict || !m.doomed) {
			copied := append(m.scratch[:0], p.buf...)
			page.Seal(copied)
			if err := page.Validate(copied, id); err != nil {
				m.failf("%v", err)
			}
		}
	}
	clear(m.touched)
	if m.rnd == nil {
		return
	}
	m.own = slices.DeleteFunc(m.own, func(id page.ID) bool {
		p := m.pages[id]
		if !p.dead && m.rnd.IntN(16) > 0 {
			return false
		}
		if !p.dead {
			m.spill(p)
		}
		return true
	})
}

// spill makes an own page one that is no longer on the heap.
func (m *memory) spill(p *memPage) {
	copied := bytes.Clone(p.buf)
	page.Seal(copied)
	if !p.exposed {
		poison(p.buf)
	}
	p.buf, p.own, p.exposed, p.sum = copied, false, false, page.Sum(copied)
}

// commit ends the transaction. What it superseded is gone, and what it made is no longer its own.
func (m *memory) commit() {
	m.endOperation()
	for _, id := range m.dead {
		delete(m.pages, id)
		m.spare = append(m.spare, id)
	}
	for id, r := range m.runs {
		r.exposed = false
		if r.dead {
			delete(m.runs, id)
			for i := range page.RunPages(uint64(len(r.data)), m.ps) {
				m.holes = append(m.holes, id+page.ID(i))
			}
		}
	}
	m.own, m.dead = m.own[:0], m.dead[:0]
	for _, p := range m.pages {
		if p.own {
			m.spill(p)
		} else if page.Sum(p.buf) != p.sum {
			m.failf("page %d was written to, and is not own", page.IDOf(p.buf))
		}
	}
	m.tx++
	m.allocs, m.frees = m.allocs[:0], m.frees[:0]
}

// report fails the test with what has been complained of.
func (m *memory) report(tb testing.TB) {
	tb.Helper()
	for _, f := range m.fails {
		tb.Error(f)
	}
	if len(m.fails) > 0 {
		tb.FailNow()
	}
}

// verify checks the tree, and that every page and run is in it exactly once, or freed.
func (m *memory) verify(tb testing.TB, t *Tree) {
	tb.Helper()
	for _, err := range m.findings(t) {
		tb.Error(err)
	}
	m.report(tb)
	if tb.Failed() {
		tb.FailNow()
	}
}

// findings returns what verify fails with.
func (m *memory) findings(t *Tree) (all []error) {
	pages, runs := map[page.ID]bool{}, map[page.ID]bool{}
	t.Check(Checker{
		Found: func(e *page.CorruptError) { all = append(all, e) },
		Page: func(id page.ID, level int, _ Place) bool {
			if pages[id] {
				all = append(all, fmt.Errorf("page %d is in the tree twice", id))
			}
			pages[id] = true
			return true
		},
		Run: func(r page.Ref, n int, _ Place) bool {
			if runs[r.ID] {
				all = append(all, fmt.Errorf("run %d is in the tree twice", r.ID))
			}
			runs[r.ID] = true
			return true
		},
	})
	for id, p := range m.pages {
		if !p.dead && !pages[id] {
			all = append(all, fmt.Errorf("page %d is lost", id))
		}
		if p.dead && pages[id] {
			all = append(all, fmt.Errorf("page %d is freed, and in the tree", id))
		}
	}
	for id, r := range m.runs {
		if !r.dead && !runs[id] {
			all = append(all, fmt.Errorf("run %d is lost", id))
		}
		if r.dead && runs[id] {
			all = append(all, fmt.Errorf("run %d is freed, and in the tree", id))
		}
	}
	return all
}
