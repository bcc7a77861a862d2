package freelist

import "github.com/foliodb/folio/page"

// Account is what the list knew of each page at one moment, for a checker that holds it against what
// the trees reach.
type Account struct {
	unused bitmap
	end    page.ID
}

// Account returns the account of now, to be called under the lock that commits are made under. What the running
// transaction has allocated is not in use by the newest commit.
func (l *List) Account() *Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.newSet()
	l.own.copyTo(&set)
	return &Account{unused: set, end: l.end}
}

// InUse reports whether the newest commit's trees should reach the page: it is not free, not kept for
// an older state, and not of a free set.
func (a *Account) InUse(id page.ID) bool { return id < a.end && !a.unused.has(id) }

// End returns the page count.
func (a *Account) End() page.ID { return a.end }

// EncodeSet returns the stored form of the free set of a file with the given page count: of the pages for which unused
// is true. It is nil if there is none.
func EncodeSet(end page.ID, unused func(page.ID) bool) []byte {
	set := bitmap{pool: new(pool)}
	for id := page.FirstID; id < end; id++ {
		if unused(id) {
			set.add(id, 1)
		}
	}
	if set.n == 0 {
		return nil
	}
	return encode(&set)
}

// Tail returns how many pages are free at the end of the file, those that are kept for a free set included.
func (l *List) Tail() page.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.freeTail()
}

// freeTail is Tail for who holds mu.
func (l *List) freeTail() page.ID {
	n := l.free.tail(l.end)
	if k := l.kept; k.N > 0 && k.end() == l.end-n {
		n += k.N + l.free.tail(k.Start)
	}
	return n
}
