package btree

import (
	"errors"
	"fmt"
	"slices"

	"github.com/foliodb/folio/page"
)

// relocate moves pages, as far as what it may use up reaches, and holds the outcome against what Relocate promises. Cursors
// stay open across it.
func (w *world) relocate() {
	w.t.Helper()
	if w.s.intn(2) == 0 { // pages that are the transaction's own already stay; without them more is to be done
		w.commit()
	}
	limit := page.FirstID + page.ID(w.s.intn(int(w.m.next)))
	r := &Relocation{Limit: limit, Moves: 1 << 20, Visits: 1 << 20}
	if w.s.intn(3) == 0 {
		r.Moves = w.s.intn(12)
	}
	if w.s.intn(6) == 0 {
		r.Visits = w.s.intn(40)
	}
	refuse := -1 // the bucket at which the callback wants to end it all
	if w.s.intn(6) == 0 {
		refuse = w.s.intn(4)
	}
	var told []string
	r.Bucket = func(name, value []byte) error {
		if refuse == len(told) {
			return errInjected
		}
		told = append(told, string(name)+string(value))
		return nil
	}
	stay := w.m.ownFrom(limit)
	moves, had := r.Moves, len(w.m.allocs)

	w.m.confine(limit)
	err := w.tree.Relocate(r)
	w.trace("relocate to below %d, %d moves, %d visits: %d moved, %v", limit, moves, r.Visits, moves-r.Moves, err)
	if err != nil && err != ErrNoRoom && err != errInjected {
		w.failf("relocate: %v", err)
	}
	if got := w.m.newPages(had); got != uint64(moves-r.Moves) {
		w.failf("relocate: %d pages are new, %d were counted", got, moves-r.Moves)
	}
	w.toldBuckets(told, err)
	if err == nil {
		if high := w.m.above(&w.tree, limit, stay); len(high) > 0 {
			w.failf("relocate: %v stay at %d or above", high, limit)
		}
		again, had := &Relocation{Limit: limit, Moves: 1, Visits: 1 << 20, Bucket: func(_, _ []byte) error { return nil }}, len(w.m.allocs)
		w.m.refused = 0
		if err := w.tree.Relocate(again); err != nil || again.Moves != 1 || len(w.m.allocs) != had {
			w.failf("relocate moves something a second time: %v", err)
		}
	}
	w.m.unconfine()
	w.m.endOperation()
	w.m.verify(w.t, &w.tree)
	for i := range w.places {
		w.cursor(&w.places[i])
	}
	w.scan()
}

// toldBuckets holds the buckets that Relocate has told of against those that there are.
func (w *world) toldBuckets(told []string, err error) {
	w.t.Helper()
	var want []string
	for _, r := range w.model {
		if !r.bucket {
			continue
		}
		if h, _ := page.DecodeBucket(r.value); h.Root != 0 {
			want = append(want, string(r.key)+string(r.value))
		}
	}
	if w.tree.Header().Root == 0 {
		want = nil
	}
	if err != nil {
		want = want[:min(len(told), len(want))]
	}
	if !slices.Equal(told, want) {
		w.failf("relocate told of buckets %q, there are %q", told, want)
	}
}

// ownFrom returns the pages from limit on that Touch leaves where they are.
func (m *memory) ownFrom(limit page.ID) map[page.ID]bool {
	all := map[page.ID]bool{}
	for id, p := range m.pages {
		if p.own && id >= limit {
			all[id] = true
		}
	}
	return all
}

// newPages returns how many pages the allocations from the given one on have taken for good.
func (m *memory) newPages(from int) (n uint64) {
	for _, id := range m.allocs[from:] {
		if r := m.runs[id]; r == nil {
			n++
		} else if !r.dead {
			n += page.RunPages(uint64(len(r.data)), m.ps)
		}
	}
	return n
}

// above describes the pages and the leaves' runs of a tree that lie at limit or above, at least in part, but for the pages in stay
// and the runs that nobody had room for.
func (m *memory) above(t *Tree, limit page.ID, stay map[page.ID]bool) (all []string) {
	runs := func(l page.Leaf) {
		for i := range l.Count() {
			n := page.RunPages(l.RunLen(i), m.ps)
			if n == 0 || m.refused > 0 && n >= m.refused {
				continue
			}
			if end := uint64(l.Ref(i).ID) + n; end > uint64(limit) {
				all = append(all, fmt.Sprintf("run of page %d up to %d", page.IDOf(l), end))
			}
		}
	}
	t.Check(Checker{
		Found: func(e *page.CorruptError) { all = append(all, e.Error()) },
		Page: func(id page.ID, level int, _ Place) bool {
			if id >= limit && !stay[id] {
				all = append(all, fmt.Sprintf("page %d of level %d", id, level))
			}
			if level == 0 {
				runs(m.pages[id].buf)
			}
			return true
		},
	})
	return all
}

// relocate is the command of that name.
func (s *script) relocate() {
	limit, moves := page.ID(s.number("limit")), 1000
	s.d.MaybeScanArgs(s.t, "moves", &moves)
	r := &Relocation{Limit: limit, Moves: moves, Visits: 10000}
	r.Bucket = func(name, _ []byte) error {
		s.printf("bucket %s", abridged(name))
		return nil
	}
	stay := s.m.ownFrom(limit)
	s.m.confine(limit)
	defer s.m.unconfine()
	err := s.tree.Relocate(r)
	s.failed(err)
	s.printf("%d moved", moves-r.Moves)
	if err != nil && !errors.Is(err, ErrNoRoom) || !s.m.strict {
		return
	}
	for _, what := range s.m.above(&s.tree, limit, stay) {
		s.printf("still there: %s", what)
	}
}
