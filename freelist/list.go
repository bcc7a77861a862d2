package freelist

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/foliodb/folio/page"
)

// ErrFull is returned when no page number is left.
var ErrFull = errors.New("freelist: page numbers are used up")

// Extent is a run of pages: N of them, from Start on.
type Extent struct {
	Start page.ID
	N     page.ID
}

func (e Extent) end() page.ID { return e.Start + e.N }

// String returns "5" for one page, "5-7" for more, and "none".
func (e Extent) String() string {
	switch e.N {
	case 0:
		return "none"
	case 1:
		return fmt.Sprint(e.Start)
	}
	return fmt.Sprintf("%d-%d", e.Start, e.end()-1)
}

// List is the space of one data file. Its methods may be called from any goroutine.
//
// There are two locks. mu guards everything and is a leaf: while it is held only OnFree is
// called. size is held, with mu not held, while the file grows and while it is cut, so that
// these two never cross. Only Extend, Promise, Provide, Ensure, Cut, Trim and AppendOnly take it, and may
// therefore take as long as the disk does: do not call them with a lock held that readers or
// committers wait for.
type List struct {
	// OnFree, if not nil, is asked before a dead page becomes free: a death is one Dead as given to
	// Commit. It runs within Commit and Reclaim with the list locked, and must not call
	// the list. When it has returned true the pages may be allocated at any moment, so it
	// is the place to let go of frames that nobody will need. False keeps the pages until a
	// later Reclaim asks again: for a frame that somebody is writing out just now. Pages that
	// FreeOwn and Rollback free are not reported. To be set before first use.
	OnFree func(id page.ID, n int) bool

	// Grow, if not nil, makes the file hold at least end pages and returns how many it holds
	// now. It is called with no lock held but size. To be set before first use.
	Grow func(end page.ID) (page.ID, error)

	// LeastSet is how many pages a free set takes at least: for tests, in which sets of more than a page would take
	// many pages. To be set before first use.
	LeastSet int

	pageSize int // constant

	size sync.Mutex

	// Guarded by mu.
	mu    sync.Mutex
	end   page.ID // page count: every page given out is below it
	room  page.ID // pages that the file is known to hold; changed only with size held, too
	bound page.ID // AppendOnly's; 0: none
	limit page.ID // Confine's; 0: none

	promised uint64 // pages that can be allocated without growing the file, by Promise

	free  bitmap
	runs  runs // over free
	aside bitmap
	own   bitmap
	held  bitmap

	// cur to curEnd is the run of free pages that is being used up. class is the length that
	// was good enough when it was looked for, and sweep how many more runs may be taken from
	// the same chunk before all are searched again.
	cur, curEnd page.ID
	class       page.ID
	sweep       int

	// Dead pages by the pin that they are kept for, ascending; those that OnFree has asked to
	// keep; and the last transaction that has committed.
	holds  []hold
	busy   pile
	blocks blockPool
	last   page.TxID

	fixed []Extent  // pages of free sets that a slot may name; in held
	open  *Snapshot // of the checkpoint under way; nil: none
	tail  Extent    // withdrawn by it; in aside
	kept  Extent    // pages side by side, for the next free set; in aside
}

// maxClass is the length of run that is good enough for single pages: at 64 pages
// a write, pages are written at all but full speed.
const maxClass = 64

// sparseClass is good enough while more than half of the file is free: then pages should move to its beginning, so that
// the end can be cut off, and there are runs of this length everywhere.
const sparseClass = 8

// maxSweep is how many runs are taken from one chunk before the index, and so all that has
// become free meanwhile, is looked at again.
const maxSweep = 64

// New returns the list of a file with the given page count, in which every page is in
// use. The page size is in bytes. A file with a free set needs Load before anything else.
func New(end page.ID, pageSize int) *List {
	if end < page.FirstID || pageSize < 1 {
		panic(fmt.Sprintf("freelist: no list of %d pages of %d bytes", end, pageSize))
	}
	l := &List{pageSize: pageSize, end: end, room: end}
	p := new(pool)
	l.free.pool, l.aside.pool, l.own.pool, l.held.pool = p, p, p, p
	l.own.sticky = true
	l.runs.set = &l.free
	return l
}

// End returns the page count: every page ever given out, and still of use, is below it.
func (l *List) End() page.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Alloc takes n contiguous free pages for the running transaction. It reports false
// if there is no such run; Extend has one then. Single pages come one after the other from a
// long run where there is one, so that they can be written together.
func (l *List) Alloc(n int) (page.ID, bool) {
	count := pages(n)
	l.mu.Lock()
	id, ok := l.alloc(count)
	l.mu.Unlock()
	return id, ok
}

func pages(n int) page.ID {
	if n < 1 || uint64(n) > math.MaxUint32 {
		panic(fmt.Sprintf("freelist: %d pages asked for", n))
	}
	return page.ID(n)
}

func (l *List) alloc(n page.ID) (page.ID, bool) {
	if l.curEnd-l.cur < n && !l.nextRun(n) {
		return 0, false
	}
	id := l.cur
	if n == 1 { // claim in short: nearly all calls end here
		l.free.remove(id, 1)
		l.runs.mark(uint32(id >> chunkShift))
		l.cur++
	} else {
		l.claim(id, n)
	}
	l.own.add(id, n)
	return id, true
}

// nextRun makes another run of at least n pages the current one: the pages right behind, a
// run of the same chunk that is as good as the last one was when it was looked for, or the leftmost
// that is at least 64 long (8 in a file that is mostly free); or 32, 16, and so on. It reports false if there is none.
func (l *List) nextRun(n page.ID) bool {
	if l.sweep > 0 {
		if c := l.free.chunk(uint32(l.curEnd >> chunkShift)); c != nil {
			from, least := uint(l.curEnd%chunkPages), max(n, l.class)
			if l.free.has(l.curEnd) {
				least = n
			}
			at, ok := c.find(from, uint(least))
			if ok && l.within(l.curEnd-page.ID(from)+page.ID(at), n) {
				l.sweep--
				l.startRun(l.curEnd-page.ID(from)+page.ID(at), n)
				return true
			}
		}
	}
	longest := l.runs.longest()
	if longest < n {
		return false
	}
	l.class = maxClass
	if 2*l.free.n > uint64(l.end) {
		l.class = sparseClass
	}
	for l.class > longest {
		l.class /= 2
	}
	l.sweep = maxSweep
	id, _ := l.runs.find(max(n, l.class))
	for !l.within(id, n) {
		if l.class <= n {
			return false // the leftmost run of that length lies too high
		}
		l.class /= 2
		id, _ = l.runs.find(max(n, l.class))
	}
	l.startRun(id, n)
	return true
}

// within reports whether n pages from id on lie below Confine's limit.
func (l *List) within(id, n page.ID) bool {
	return l.limit == 0 || uint64(id)+uint64(n) <= uint64(l.limit)
}

// startRun makes the free pages from id on the current run: n at least, and those behind as
// far as the chunk goes.
func (l *List) startRun(id, n page.ID) {
	l.cur, l.curEnd = id, id+n
	if c := l.free.chunk(uint32(l.curEnd >> chunkShift)); c != nil {
		l.curEnd += page.ID(c.runAt(uint(l.curEnd % chunkPages)))
	}
	if l.limit > 0 {
		l.curEnd = min(l.curEnd, l.limit)
	}
}

// claim takes pages out of the free ones.
func (l *List) claim(id, n page.ID) {
	l.free.remove(id, n)
	l.runs.markRange(id, n)
	end := id + n
	switch {
	case end <= l.cur || id >= l.curEnd:
	case id <= l.cur:
		l.cur = min(end, l.curEnd)
	default:
		l.curEnd = id
	}
}

// release makes pages free, or puts them aside below AppendOnly's bound. They are in no
// set.
func (l *List) release(id, n page.ID) {
	if id < l.bound {
		k := min(n, l.bound-id)
		l.aside.add(id, k)
		id, n = id+k, n-k
	}
	if n > 0 {
		l.free.add(id, n)
		l.runs.markRange(id, n)
	}
}

// Extend takes n contiguous pages at the end for the running transaction, and raises End;
// free pages that adjoin the end are used first. The file has grown, by Grow, before the pages
// are given out, but is not made longer than most pages; if it cannot grow nothing has changed and the error is Grow's, or ErrFull. A tail that a
// checkpoint has withdrawn is given back, and the pages are taken there if they fit.
func (l *List) Extend(n int, most page.ID) (page.ID, error) {
	count := pages(n)
	growing := false
	for {
		id, end, err := l.extend(count)
		if err != nil || id != 0 {
			if growing {
				l.size.Unlock()
			}
			return id, err
		}
		if !growing {
			growing = true
			l.size.Lock() // whoever held it may have made room, or cut the file: look again
			continue
		}
		err = ErrFull
		if end <= most {
			err = l.grow(end)
		}
		if err != nil {
			l.size.Unlock()
			return 0, err
		}
	}
}

// extend is Extend as far as the file has room. Beyond, it returns the page count that
// the file needs.
func (l *List) extend(n page.ID) (id, end page.ID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail.N > 0 {
		l.giveBackTail()
		if id, ok := l.alloc(n); ok {
			return id, 0, nil
		}
	}
	used := min(n, l.free.tail(l.end))
	if n-used > math.MaxUint32-l.end {
		return 0, 0, ErrFull
	}
	id, end = l.end-used, l.end+(n-used)
	if end > l.room {
		return 0, end, nil
	}
	l.occupy(id, n)
	l.own.add(id, n)
	return id, 0, nil
}

// occupy takes n pages from id on that reach the end or go past it; those below it are free.
func (l *List) occupy(id, n page.ID) {
	if id < l.end {
		l.claim(id, min(n, l.end-id))
	}
	l.end = max(l.end, id+n)
}

// grow makes the file hold end pages. size is held, mu is not.
func (l *List) grow(end page.ID) error {
	room := end
	if l.Grow != nil {
		got, err := l.Grow(end)
		if err != nil {
			return err
		}
		room = max(room, got)
	}
	l.mu.Lock()
	l.room = max(l.room, room)
	l.mu.Unlock()
	return nil
}

// FreeOwn gives back pages that the running transaction has allocated: it may get them
// again at once. Pages of which bytes were handed out, or which were written and may be
// read, must instead die at the commit, with the transaction as Born. It is a *page.CorruptError,
// and changes nothing, if the transaction does not own all of them.
func (l *List) FreeOwn(id page.ID, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := page.ID(n)
	if n < 1 || uint64(n) > math.MaxUint32 || !l.inFile(id, count) || !l.own.all(id, count) {
		return damaged(id, "given back by a transaction that does not own it")
	}
	l.own.remove(id, count)
	l.release(id, count)
	if count == 1 && id+1 == l.cur && l.cur < l.curEnd && id >= l.bound {
		l.cur = id // still warm: the next one to be taken
	}
	return nil
}

// inFile reports whether the pages are below the end and not meta slots.
func (l *List) inFile(id, n page.ID) bool {
	return id >= page.FirstID && uint64(id)+uint64(n) <= uint64(l.end)
}

func damaged(id page.ID, reason string) *page.CorruptError {
	return &page.CorruptError{Page: id, Offset: -1, Invariant: 1, Reason: reason}
}

// Rollback ends the running transaction: everything it has allocated is free again. The end
// stays where it is; the file has room up to it.
func (l *List) Rollback() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ci := range l.own.used {
		c := l.own.chunks[ci]
		if first := page.ID(ci) << chunkShift; first >= l.bound {
			l.free.merge(ci, c)
			l.runs.mark(ci)
			continue
		}
		l.releaseChunk(ci, c)
	}
	l.own.reset()
	l.restart()
}

// releaseChunk releases the members of a chunk run by run, because AppendOnly's bound may
// lie among them.
func (l *List) releaseChunk(ci uint32, c *chunk) {
	first := page.ID(ci) << chunkShift
	for i := uint(0); i < chunkPages; {
		at, ok := c.find(i, 1)
		if !ok {
			return
		}
		n := c.runAt(at)
		l.release(first+page.ID(at), page.ID(n))
		i = at + n
	}
}

// restart lets the next allocation begin at the left again.
func (l *List) restart() { l.cur, l.curEnd, l.sweep = 0, 0, 0 }

// Confine restricts Alloc to pages below limit, until it is called with 0: it reports false when there is no such run.
// This is for a transaction that moves pages towards the beginning of the file. Extend takes no notice of it.
func (l *List) Confine(limit page.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
	l.restart()
}

// AppendOnly restricts allocation to pages at or past from, and puts off all cutting of the
// file by checkpoints, until it is called with 0. From the page count of the file as it is, this is how a new
// writer keeps off pages that readers of his predecessor may have pinned unbeknown to
// him; it then comes before the first allocation. The file holds at least from pages.
func (l *List) AppendOnly(from page.ID) {
	l.size.Lock()
	defer l.size.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBackTail()
	l.giveBackKept()
	l.bound = from
	old := l.free
	l.free = bitmap{pool: old.pool}
	was := l.aside
	l.aside = bitmap{pool: old.pool}
	for _, set := range []*bitmap{&old, &was} {
		l.releaseAll(set)
	}
	l.room = max(l.room, from) // even where a checkpoint has raised the end already: it may give up, and lower it
	if from > l.end {
		end := l.end
		l.end = from
		l.release(end, from-end)
	}
	l.restart()
}

// releaseAll releases the members of a set that is used no more.
func (l *List) releaseAll(set *bitmap) {
	for ci, c := range set.chunks {
		if c == nil {
			continue
		}
		l.runs.mark(uint32(ci))
		l.releaseChunk(uint32(ci), c)
		*c = chunk{}
		set.drop(uint32(ci))
	}
}
