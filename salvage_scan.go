package folio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

// findState finds the state to be saved: what the newest sound meta slot says, or, if there is none, what the pages
// themselves tell.
func (s *salvage) findState() error {
	metas, errs, err := s.readMetas()
	if err != nil {
		return err
	}
	best := -1
	for i := range metas {
		if errs[i] == nil && (best < 0 || metas[i].Checkpoint > metas[best].Checkpoint) {
			best = i
		}
	}
	for i, err := range errs {
		if err != nil && best >= 0 {
			s.rep.add(SalvageFinding{Err: s.named(err)})
			if slot := i; errors.Is(err, page.ErrInvalid) {
				s.rep.Findings[len(s.rep.Findings)-1].Err = s.corrupt(page.ID(slot), 5, "is no meta slot")
			}
		}
	}
	if best < 0 {
		return s.findByPages(errs)
	}
	s.meta = metas[best]
	if err := s.mapPages(s.meta.PageSize, s.meta.Pages); err != nil {
		return err
	}
	s.rep.Tx = s.meta.Tx
	if n := s.view.Count(); n < s.meta.Pages {
		s.rep.add(SalvageFinding{Err: s.corrupt(n, 5, "file has %d pages and should have %d: it was cut", n, s.meta.Pages)})
	}
	s.readFree()
	return nil
}

// readMetas reads both slots. A second one is looked for at each place where it could lie, if the first one does not
// tell the page size.
func (s *salvage) readMetas() (metas [2]page.Meta, errs [2]error, err error) {
	read := func(i int, off int64) {
		p := make([]byte, page.MetaSize)
		if n, e := s.src.file.ReadAt(p, off); n < len(p) {
			if e != nil && !errors.Is(e, io.EOF) {
				errs[i] = &CorruptError{Page: page.ID(i), Offset: -1, Invariant: 5, Reason: "cannot be read", Err: e}
			} else {
				errs[i] = page.ErrInvalid
			}
			return
		}
		metas[i], errs[i] = page.DecodeMeta(p, i)
		if i == 1 && errs[i] == nil && int64(metas[i].PageSize) != off {
			errs[i] = page.ErrInvalid
		}
	}
	read(0, 0)
	if errs[0] == nil {
		read(1, int64(metas[0].PageSize))
	} else {
		var first error
		for size := int64(page.MinPageSize); size <= page.MaxPageSize; size *= 2 {
			if read(1, size); errs[1] == nil {
				break
			}
			if first == nil || !errors.Is(errs[1], page.ErrInvalid) && errors.Is(first, page.ErrInvalid) {
				first = errs[1]
			}
		}
		if errs[1] != nil {
			errs[1] = first
		}
	}
	for _, e := range errs {
		if errors.Is(e, page.ErrVersionMismatch) {
			return metas, errs, fmt.Errorf("%w: %s: %w", ErrVersionMismatch, s.src.path, e)
		}
	}
	return metas, errs, nil
}

// mapPages maps the file. The state has pages below end, as far as that is known.
func (s *salvage) mapPages(size int, end page.ID) (err error) {
	if s.data, err = page.NewFile(s.src.file, size); err != nil {
		return err
	}
	m := s.data.Map()
	s.src.published.Store(&snapshot{m: m}) // released with the handle
	s.view = m.View(s.data.Pages())
	s.size, s.end = size, end
	s.used = newPageSet(s.view.Count())
	s.rep.PageSize, s.rep.Pages = size, int(s.view.Count())
	return nil
}

// readFree reads the free set. With it every page that belongs to the state, but is not reached, is known for certain.
func (s *salvage) readFree() {
	m := &s.meta
	free := newPageSet(s.end)
	err := eachFree(&s.view, m, func(e freelist.Extent) {
		for id := e.Start; id < e.Start+e.N; id++ {
			free.add(id)
		}
	})
	if err != nil {
		s.rep.add(SalvageFinding{Err: s.named(err)})
		return
	}
	if m.FreeLen > 0 {
		s.claim(m.Free.ID, page.RunPages(m.FreeLen, s.size))
	}
	s.free = free
}

// findByPages is findState without a meta slot.
func (s *salvage) findByPages(errs [2]error) error {
	size, err := s.guessPageSize()
	if err != nil {
		return err
	}
	if size == 0 {
		for _, err := range errs {
			if errors.Is(err, ErrCorrupt) {
				return s.named(err)
			}
		}
		return fmt.Errorf("%w: %s", ErrInvalid, s.src.path)
	}
	if err := s.mapPages(size, 0); err != nil {
		return err
	}
	s.end = s.view.Count()
	s.rep.Scanned = true
	for i, err := range errs {
		if errors.Is(err, page.ErrInvalid) {
			err = s.corrupt(page.ID(i), 5, "is no meta slot")
		}
		s.rep.add(SalvageFinding{Err: s.named(err)})
	}
	r, ok := s.chooseRoot()
	if !ok {
		return s.corrupt(0, 5, "both meta slots are damaged, and no page looks like a root")
	}
	s.meta = page.Meta{PageSize: size, Tx: r.born, Pages: s.end, Clean: true,
		Root: page.BucketHeader{Items: r.items, Root: r.id, Level: uint8(r.level)}}
	s.rep.Tx = r.born
	s.rep.add(SalvageFinding{Err: s.corrupt(r.id, 5, "both meta slots are damaged: this page, of transaction %d, is taken for the root, "+
		"since it is the newest that nothing refers to; the root's sequence, and commits that came after it, are lost", r.born), Lost: true})
	return nil
}

// guessPageSize finds the page size with which pages are sound; 0: there is none.
func (s *salvage) guessPageSize() (int, error) {
	if s.opts.PageSize != 0 {
		return s.opts.PageSize, nil
	}
	info, err := s.src.file.Stat()
	if err != nil {
		return 0, err
	}
	best, most := 0, 0
	for size := page.MinPageSize; size <= page.MaxPageSize; size *= 2 {
		p := make([]byte, size)
		sound := 0
		for id := page.FirstID; int64(id) < info.Size/int64(size) && sound < 8; id++ {
			if n, _ := s.src.file.ReadAt(p, int64(id)*int64(size)); n == size && page.Validate(p, id) == nil {
				sound++
			}
		}
		if sound > most {
			best, most = size, sound
		}
	}
	return best, nil
}

// A root is a sound page that no other page under consideration refers to.
type root struct {
	spot
	first, last []byte // keys of its tree, if known
}

// roots finds, among the pages to consider, sound ones that no other of these refers to.
func (s *salvage) roots(consider func(page.ID) bool) []root {
	count := s.view.Count()
	nodes, below := newPageSet(count), newPageSet(count)
	for id := page.FirstID; id < count; id++ {
		if !consider(id) {
			continue
		}
		if _, err := s.view.Page(id); err == nil {
			nodes.add(id)
		} else {
			s.noteUnread(id, err)
		}
	}
	each := func(fn func(id page.ID, p []byte)) {
		for id := page.FirstID; id < count; id++ {
			if nodes.has(id) {
				if p, err := s.view.Page(id); err == nil {
					fn(id, p)
				}
			}
		}
	}
	each(func(_ page.ID, p []byte) {
		s.references(p, func(child page.ID, level int, born page.TxID) {
			if child < count && nodes.has(child) {
				if c, err := s.view.Page(child); err == nil && page.LevelOf(c) == level && page.BornOf(c) <= born {
					below.add(child)
				}
			}
		})
	})
	var found []root
	each(func(id page.ID, p []byte) {
		if !below.has(id) {
			found = append(found, root{spot: spot{id: id, level: page.LevelOf(p), born: page.BornOf(p), items: itemsOf(p), refs: true}})
		}
	})
	return found
}

// noteUnread says once of a page that the disk did not give: what is made of the others might have been another thing with it.
func (s *salvage) noteUnread(id page.ID, err error) {
	var c *CorruptError
	if !errors.As(err, &c) || c.Err == nil || s.unread[id] {
		return
	}
	if s.unread == nil {
		s.unread = map[page.ID]bool{}
	}
	s.unread[id] = true
	s.rep.add(SalvageFinding{Err: s.named(err)})
}

// references calls fn for the pages that a node refers to.
func (s *salvage) references(p []byte, fn func(child page.ID, level int, born page.TxID)) {
	if page.KindOf(p) == page.KindBranch {
		b := page.Branch(p)
		for i := range b.Count() {
			fn(b.Child(i), page.LevelOf(p)-1, page.BornOf(p))
		}
		return
	}
	l := page.Leaf(p)
	for i := range l.Count() {
		if !l.IsBucket(i) {
			continue
		}
		var value []byte
		if l.Form(i) == page.Inline {
			value = l.Value(i)
		} else if run, err := s.run(l, i); err == nil {
			value = run[l.KeyLen(i):]
			if page.ValidateBucket(value, s.size) != nil {
				continue
			}
		} else {
			continue
		}
		if h, _ := page.DecodeBucket(value); h.Root != 0 {
			fn(h.Root, int(h.Level), page.BornOf(p))
		}
	}
}

func itemsOf(p []byte) uint64 {
	if page.KindOf(p) == page.KindLeaf {
		return uint64(page.CountOf(p))
	}
	b := page.Branch(p)
	n := uint64(0)
	for i := range b.Count() {
		n += b.Items(i)
	}
	return n
}

// maxTrials bounds how many pages chooseRoot tries as a root.
const maxTrials = 64

// chooseRoot finds the root bucket's root when no meta slot tells. Every commit writes it anew, since a change below
// changes all on the way. So of the pages of the newest transaction one is the root, and all others are below it. If
// more than one of them hangs free, then that transaction was written in part and given up, or a page is damaged: what
// reaches much is taken before what is new.
func (s *salvage) chooseRoot() (root, bool) {
	free := s.roots(func(page.ID) bool { return true })
	slices.SortStableFunc(free, func(a, b root) int {
		if c := cmp.Compare(b.born, a.born); c != 0 {
			return c
		}
		return cmp.Compare(b.level, a.level)
	})
	type trial struct {
		root
		nodes, holes int
		alone        bool
	}
	var tried []trial
	most := 0
	for i, r := range free {
		if len(tried) == maxTrials {
			break
		}
		t := trial{root: r}
		t.alone = (i == 0 || free[i-1].born != r.born) && (i+1 == len(free) || free[i+1].born != r.born)
		look := &salvage{src: s.src, rep: &SalvageReport{}, view: s.view, size: s.size, end: s.end, used: newPageSet(s.view.Count())}
		look.bucket(page.BucketHeader{Root: r.id, Level: uint8(r.level), Items: r.items}, nil, r.id)
		t.nodes, t.holes = look.nodes, len(look.holes)
		if len(tried) == 0 && t.alone && t.holes < t.nodes {
			return r, true
		}
		most = max(most, t.nodes)
		tried = append(tried, t)
	}
	for _, t := range tried {
		if t.nodes*2 >= most {
			return t.root, true
		}
	}
	return root{}, false
}

// orphans finds pages that belong to the state but were not reached, since what refers to them is damaged. It saves
// those whose place is certain, reports the holes, and returns the rest.
func (s *salvage) orphans() []root {
	holes := s.holes
	s.holed = len(holes) > 0
	if s.err != nil || s.free == nil && len(holes) == 0 {
		return nil
	}
	unreached := func(id page.ID) bool {
		return id < s.end && !s.used.has(id) && (s.free == nil || !s.free.has(id))
	}
	found := s.roots(unreached)
	gap := s.gap(unreached, holes)
	// A page younger than the state is of a commit that the log has too, or of none. What is nested too deep is not lost.
	found = slices.DeleteFunc(found, func(r root) bool {
		return r.born > s.meta.Tx || s.isDeep(r.id) || s.free == nil && !s.explained(r, holes)
	})
	for i := range found {
		s.span(&found[i])
	}
	placed := s.assign(found, holes, gap)
	var left []root
	for i, r := range found {
		if placed[i] < 0 {
			left = append(left, r)
		}
	}
	for i, h := range holes {
		s.fillHole(h, found, placed, i)
	}
	for _, h := range s.holes[len(holes):] { // found just now
		s.foundHole(h, 0)
	}
	s.path = s.path[:0]
	s.holes = nil
	return left
}

// gap reports whether a page of the state is unreached that neither can be read nor is a hole itself: then not all that
// fell out of the holes is there to be chosen from.
func (s *salvage) gap(unreached func(page.ID) bool, holes []hole) bool {
	known := newPageSet(s.view.Count())
	note := func(id page.ID, n uint64) {
		for i := page.ID(0); uint64(i) < n && id+i < s.view.Count(); i++ {
			known.add(id + i)
		}
	}
	for i := range holes {
		note(holes[i].id, 1)
	}
	for id := page.FirstID; id < s.view.Count(); id++ {
		if !unreached(id) {
			continue
		}
		p, err := s.view.Page(id)
		if err != nil {
			continue
		}
		known.add(id)
		if page.KindOf(p) == page.KindBranch {
			b := page.Branch(p)
			for i := range b.Count() {
				if i > 0 && b.IsLong(i) {
					note(b.SepRef(i).ID, page.RunPages(uint64(b.SepLen(i)), s.size))
				}
			}
			continue
		}
		l := page.Leaf(p)
		for i := range l.Count() {
			if l.Form(i) != page.Inline {
				note(l.Ref(i).ID, page.RunPages(l.RunLen(i), s.size))
			}
		}
	}
	for id := page.FirstID; id < s.view.Count(); id++ {
		if unreached(id) && !known.has(id) {
			return true
		}
	}
	return false
}

// isDeep reports whether a page is the root of a bucket that waits for lost+found.
func (s *salvage) isDeep(id page.ID) bool {
	return slices.ContainsFunc(s.deep, func(d deepBucket) bool { return d.header.Root == id })
}

// span notes the first and the last key below a root.
func (s *salvage) span(r *root) {
	edge := func(last bool) []byte {
		id, level := r.id, r.level
		for {
			p, err := s.view.Page(id)
			if err != nil || page.LevelOf(p) != level || page.CountOf(p) == 0 {
				return nil
			}
			i := 0
			if last {
				i = page.CountOf(p) - 1
			}
			if level == 0 {
				key, err := s.key(page.Leaf(p), i)
				if err != nil {
					return nil
				}
				return key
			}
			id, level = page.Branch(p).Child(i), level-1
		}
	}
	r.first, r.last = edge(false), edge(true)
}

// explained reports whether an unreached page may have hung at one of the holes. Where the free set is lost too this
// is all that tells it from a page of the past.
func (s *salvage) explained(r root, holes []hole) bool {
	for i := range holes {
		h := &holes[i]
		if h.refs && r.born <= h.born || h.fits(&r) {
			return true
		}
		if i == 1000 {
			return true // too many to look at each
		}
	}
	return false
}

// fits reports whether a root may have been below the page of the hole, in the same tree.
func (h *hole) fits(r *root) bool {
	return r.level < h.level && r.born <= h.born && r.first != nil && r.last != nil &&
		(h.lo == nil || bytes.Compare(r.first, h.lo) >= 0) && (h.hi == nil || bytes.Compare(r.last, h.hi) < 0)
}

// assign says for each root which hole it is to be put into; -1: that is not certain. It is, when the free set leaves
// no page of the past among them, when just one hole fits, and when nothing lost anywhere could hold a nested bucket, whose pages
// may look alike. Otherwise their items must be as many as the hole's parent counted, and no other page may have been there
// to make up that number: no root that fits this hole and another one, and no page that cannot be read.
func (s *salvage) assign(roots []root, holes []hole, gap bool) []int {
	at := make([]int, len(roots))
	for i := range at {
		at[i] = -1
	}
	if s.free == nil || s.stale != 0 || len(holes)*len(roots) > 1<<22 {
		return at
	}
	sums := make([]uint64, len(holes))
	unsure := make([]bool, len(holes))
	refs := false
	for i := range holes {
		h := &holes[i]
		refs = refs || h.refs
		for j := range roots {
			r := &roots[j]
			if !h.fits(r) || h.refs && r.level != h.level-1 {
				continue
			}
			switch {
			case at[j] == -1:
				at[j] = i
				continue
			case at[j] >= 0:
				unsure[at[j]] = true
			}
			at[j], unsure[i] = -2, true
		}
	}
	for j, i := range at {
		if i >= 0 {
			sums[i] += roots[j].items
		}
	}
	for j, i := range at {
		if i < 0 || sums[i] > holes[i].items || refs && (sums[i] < holes[i].items || gap || unsure[i]) {
			at[j] = -1
		}
	}
	return at
}

// fillHole saves the roots that were found for hole n, and reports what it lacks.
func (s *salvage) fillHole(h hole, roots []root, placed []int, n int) {
	var mine []root
	sum := uint64(0)
	for j, i := range placed {
		if i == n {
			mine = append(mine, roots[j])
			sum += roots[j].items
		}
	}
	if len(mine) > 0 && s.err == nil {
		slices.SortFunc(mine, func(a, b root) int { return bytes.Compare(a.first, b.first) })
		if _, err := s.out.move(h.path); err != nil {
			s.note(err)
			return
		}
		for _, r := range mine {
			s.path = append(s.path[:0], h.path...)
			r.lo, r.hi, r.refs = h.lo, h.hi, h.refs
			s.visit(r.spot)
		}
	}
	s.foundHole(h, sum)
}

// foundHole reports a hole, of which so many items were found elsewhere.
func (s *salvage) foundHole(h hole, items uint64) {
	f := SalvageFinding{Err: h.why, Bucket: h.path, From: h.lo, To: h.hi, Range: true}
	f.Lost = items != h.items || items == 0
	if items < h.items {
		f.Items = h.items - items
	}
	if !f.Lost {
		f.Err = fmt.Errorf("%w; the pages below it were found by a look at all", h.why)
	}
	s.found(f)
}

// keepOrphans puts into lost+found what has no place.
func (s *salvage) keepOrphans(left []root) {
	if s.err != nil || len(left)+len(s.deep) == 0 {
		return
	}
	s.out.move(nil)
	name := []byte("lost+found")
	for {
		_, _, found, err := s.out.top().tree.Get(name)
		if err != nil {
			s.note(err)
			return
		}
		if !found {
			break
		}
		name = append(name, '+')
	}
	s.rep.LostFound = name
	before := s.out.items
	for _, r := range left {
		if s.used.has(r.id) {
			continue
		}
		s.keep(name, fmt.Appendf(nil, "page-%d", r.id), func() {
			// Without a hole that it fell out of, what should refer to it may be a page of the past.
			s.found(SalvageFinding{Err: s.corrupt(r.id, 1, "nothing refers to this page of %d items, which is sound: they are in %s/page-%d",
				r.items, name, r.id), Lost: !s.holed})
			s.adrift = true
			s.visit(r.spot)
			for _, h := range s.holes {
				s.foundHole(h, 0)
			}
			s.adrift, s.holes = false, nil
		})
	}
	for n := 0; n < len(s.deep); n++ { // more may come
		d := s.deep[n]
		s.keep(name, fmt.Appendf(nil, "deep-%d", n+1), func() {
			if d.header.Sequence > 0 {
				s.note(s.out.top().SetSequence(d.header.Sequence))
			}
			s.bucket(d.header, d.image, d.holder)
		})
	}
	for _, h := range s.holes {
		s.foundHole(h, 0)
	}
	s.rep.LostFoundItems = s.out.items - before
}

// keep makes a bucket in lost+found and fills it.
func (s *salvage) keep(name, piece []byte, fill func()) {
	if s.err != nil {
		return
	}
	s.path = append(s.path[:0], name, piece)
	if _, err := s.out.move(s.path); err != nil {
		s.note(err)
		return
	}
	fill()
}

// logBase is the log's name, for messages.
func (s *salvage) logBase() string { return filepath.Base(logName(s.src.path)) }
