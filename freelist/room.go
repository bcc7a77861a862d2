package freelist

import (
	"github.com/foliodb/folio/page"
)

// Alive returns the pages below End that are neither free nor dead.
func (l *List) Alive() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.free.n + l.aside.n + l.held.n
	return uint64(l.end) - min(rest, uint64(l.end))
}

// Promise makes the file hold so many pages that n single ones can be allocated from now on without growing it, if nobody
// else allocates, and has no checkpoint cut them off before the next call. Promises do not add up: n is all that is
// promised. What the running transaction has allocated counts as if it were free: whoever promises anything beside one promises what
// that one is about to use. For a promise the file is not made longer than most pages. The error is Grow's, or ErrFull; then the
// promise is what it was. Like Extend it may take as long as the disk does.
func (l *List) Promise(n uint64, most page.ID) error {
	was, lacking := l.setPromise(n)
	if lacking == 0 {
		return nil
	}
	l.size.Lock()
	defer l.size.Unlock()
	if _, lacking = l.setPromise(n); lacking == 0 {
		return nil
	}
	err := l.lengthen(lacking, most)
	if err != nil {
		l.setPromise(was)
	}
	return err
}

// Provide makes the file hold so many pages that the running transaction can allocate n single ones more without growing it, whatever is
// promised. For this the file is not made longer than most pages. The error is Grow's, or ErrFull. Like Extend it may take as long as the disk does.
func (l *List) Provide(n uint64, most page.ID) error {
	if l.lacks(n) == 0 {
		return nil
	}
	l.size.Lock()
	defer l.size.Unlock()
	lacking := l.lacks(n)
	if lacking == 0 {
		return nil
	}
	return l.lengthen(lacking, most)
}

// lacks returns how many pages the file has to be longer by for n single ones to be allocated. A tail that a checkpoint has withdrawn counts: Extend takes it
// back.
func (l *List) lacks(n uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.free.n + uint64(l.tail.N) + uint64(l.ahead())
	return n - min(n, have)
}

// Left returns how many single pages can be allocated until the file is most pages long; if it is full, without making it longer.
func (l *List) Left(most page.ID, full bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.room
	if !full {
		room = max(room, most)
	}
	return l.free.n + uint64(l.tail.N) + uint64(room-min(l.end, room))
}

// ahead returns how many pages the file has behind the end. It has none while the end lies behind it, for a checkpoint whose Ensure has not come yet. mu is held.
func (l *List) ahead() page.ID { return l.room - min(l.end, l.room) }

// lengthen makes the file longer by so many pages, but not longer than most. size is held, mu is not.
func (l *List) lengthen(lacking uint64, most page.ID) error {
	l.mu.Lock()
	end := uint64(max(l.room, l.end)) + lacking // the end lies behind the room while a checkpoint's set does, which is the checkpoint's
	l.mu.Unlock()
	if end > uint64(most) {
		return ErrFull
	}
	return l.grow(page.ID(end))
}

// Redeem lowers what is promised.
func (l *List) Redeem(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised = min(l.promised, n)
}

// setPromise returns what had been promised, and how many pages the file has to be longer by.
func (l *List) setPromise(n uint64) (was, lacking uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, l.promised = l.promised, n
	have := l.free.n + uint64(l.ahead()) + l.own.n
	return was, n - min(n, have)
}

// spare returns how many of the n free pages at the end are promised to nobody.
func (l *List) spare(n page.ID) page.ID {
	return page.ID(min(uint64(n), l.free.n-min(l.promised, l.free.n)))
}
