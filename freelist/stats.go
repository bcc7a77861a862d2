package freelist

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/foliodb/folio/page"
)

// Stats are figures about the space of a file, in pages.
type Stats struct {
	End      page.ID // page count
	Free     uint64  // free, those put aside included
	Aside    uint64  // free, but not to be allocated for now, besides what is kept for the next free set
	Largest  page.ID // longest run that can be allocated
	Own      uint64  // allocated by the running transaction
	Retained uint64  // dead, and kept for a pin
	Busy     uint64  // dead, and kept because OnFree asked to
	Fixed    uint64  // of free sets that a meta slot may name
}

// Stats returns the figures of now.
func (l *List) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		End:     l.end,
		Free:    l.free.n + l.aside.n,
		Aside:   l.aside.n - uint64(l.kept.N),
		Largest: l.runs.longest(),
		Own:     l.own.n,
		Busy:    l.busy.pages,
	}
	for _, h := range l.holds {
		s.Retained += h.lives.pages
	}
	for _, e := range l.fixed {
		s.Fixed += uint64(e.N)
	}
	return s
}

// Pinned is how many pages a pin retains. A page that several pins need counts for
// the smallest of them.
type Pinned struct {
	Pin   page.TxID // with Onward, if it was given so
	Pages uint64
}

// Retained returns what each pin retains, by ascending pin; pins that retain nothing
// are left out.
func (l *List) Retained() []Pinned {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r []Pinned
	for _, h := range l.holds {
		r = append(r, Pinned{h.pin, h.lives.pages})
	}
	return r
}

// RetainedBy returns how many pages one pin retains: what could become free if it went.
func (l *List) RetainedBy(pin page.TxID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.findHold(pin); ok {
		return l.holds[i].lives.pages
	}
	return 0
}

// Dump writes the whole list as text: one line for each place that pages are in, and
// one for each pin.
func (l *List) Dump(w io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "end %d\n", l.end)
	line := func(name string, set *bitmap) {
		if set.n > 0 {
			fmt.Fprintf(&b, "%s: %s\n", name, set)
		}
	}
	line("free", &l.free)
	line("aside", &l.aside)
	line("own", &l.own)
	for _, h := range l.holds {
		fmt.Fprintf(&b, "pin %s:%s\n", pinName(h.pin), &h.lives)
	}
	if l.busy.pages > 0 {
		fmt.Fprintf(&b, "busy:%s\n", &l.busy)
	}
	for _, e := range l.fixed {
		fmt.Fprintf(&b, "free set: %v\n", e)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func pinName(pin page.TxID) string {
	if pin >= Onward {
		return fmt.Sprintf("%d onward", pin&^Onward)
	}
	return fmt.Sprint(uint64(pin))
}

// String returns " 7 born 2 died 6, 9-10 born 3 died 5", by page.
func (l *pile) String() string {
	sorted := slices.SortedFunc(l.all(), func(a, b life) int { return cmp.Compare(a.id, b.id) })
	var b strings.Builder
	for i, f := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %v born %d died %d", Extent{f.id, f.n}, f.born, f.died)
	}
	return b.String()
}

// String returns the members: "2-5 9 20-25".
func (b *bitmap) String() string {
	var s strings.Builder
	for id, n := b.next(0); n > 0; id, n = b.next(id + n) {
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(Extent{id, n}.String())
	}
	return s.String()
}

// DumpSet writes a stored free set as text: its size, then one extent a line. Damage is part
// of the text, at the place where it shows.
func DumpSet(w io.Writer, set []byte, end page.ID) error {
	var b strings.Builder
	extents, pages := 0, uint64(0)
	for e, err := range Extents(set, end) {
		if err != nil {
			var damage *page.CorruptError
			errors.As(err, &damage)
			fmt.Fprintf(&b, "damaged at byte %d: %s\n", damage.Offset, damage.Reason)
			break
		}
		fmt.Fprintf(&b, "%v\n", e)
		extents++
		pages += uint64(e.N)
	}
	_, err := fmt.Fprintf(w, "pages %d, extents %d, bytes %d\n%s", pages, extents, len(set), b.String())
	return err
}
