package folio

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"

	"github.com/foliodb/folio/page"
)

// maxNesting is how deep buckets are followed into each other. What a file nests deeper goes to lost+found: stacks are
// not endless.
const maxNesting = 1000

// anyBorn is above every transaction.
const anyBorn = page.TxID(math.MaxUint64)

// A spot is where a page belongs, as its parent says.
type spot struct {
	id     page.ID
	level  int
	born   page.TxID // of the parent: the page is not younger
	lo, hi []byte    // its keys are in between; nil: no bound
	items  uint64    // below it
	refs   bool      // there may be runs and buckets below it
}

// A hole is a spot whose page cannot be read, or is not the one that belongs there.
type hole struct {
	spot
	path [][]byte
	why  error
}

// A deepBucket is one that is nested too deep.
type deepBucket struct {
	header page.BucketHeader
	image  page.Leaf
	holder page.ID
}

// bucket saves what is in a bucket, where the shelf is. holder is the page that its image lies in.
func (s *salvage) bucket(h page.BucketHeader, image page.Leaf, holder page.ID) {
	if h.Root == 0 {
		if image != nil {
			s.leaf(image, holder)
		}
		return
	}
	at := spot{id: h.Root, level: int(h.Level), born: anyBorn, items: h.Items, refs: true}
	if n := s.visit(at); n != h.Items && s.err == nil {
		s.miscounted(at, n)
	}
}

// miscounted reports that there are other items below a page than its parent counted, though all pages are sound in
// themselves: one of them may be of another time.
func (s *salvage) miscounted(at spot, n uint64) {
	f := SalvageFinding{Err: s.corrupt(at.id, 3, "%d items below this page, its parent says %d: some may be old", n, at.items),
		Bucket: s.path, From: at.lo, To: at.hi, Range: true, Lost: true}
	if n < at.items {
		f.Items = at.items - n
	}
	s.found(f)
}

// visit saves what is below a page, and returns how many items that should have been.
func (s *salvage) visit(at spot) uint64 {
	if s.err != nil {
		return at.items
	}
	p, err := s.node(at)
	if err != nil {
		s.holes = append(s.holes, hole{at, clonePath(s.path), err})
		return at.items
	}
	s.nodes++
	s.progress()
	if at.level == 0 {
		return s.leaf(page.Leaf(p), at.id)
	}
	b := page.Branch(p)
	total := uint64(0)
	lo := at.lo
	for i := range b.Count() {
		hi := at.hi
		if i+1 < b.Count() {
			hi = s.separator(b, i+1, at)
		}
		child := spot{id: b.Child(i), level: at.level - 1, born: page.BornOf(p), lo: lo, hi: hi, items: b.Items(i), refs: b.Refs(i)}
		n := s.visit(child)
		if n != child.items {
			s.miscounted(child, n)
		}
		total += n
		lo = hi
	}
	return total
}

// node returns the page of a spot, if it is the one that belongs there.
func (s *salvage) node(at spot) ([]byte, error) {
	if at.id >= page.FirstID && at.id < s.view.Count() && s.used.has(at.id) {
		return nil, s.corrupt(at.id, 1, "page is reached twice")
	}
	p, err := s.view.Page(at.id)
	switch {
	case err != nil:
		return nil, err
	case page.LevelOf(p) != at.level:
		return nil, s.corrupt(at.id, 2, "page has level %d, its parent says %d", page.LevelOf(p), at.level)
	case page.BornOf(p) > at.born:
		return nil, s.corrupt(at.id, 2, "page was born in transaction %d, after its parent in %d", page.BornOf(p), at.born)
	case at.level == 0 && !s.within(page.Leaf(p), at):
		return nil, s.corrupt(at.id, 3, "keys are not between the parent's separators")
	}
	s.claim(at.id, 1)
	return p, nil
}

// within reports whether the keys of a leaf lie in their bounds, as far as they can be read.
func (s *salvage) within(l page.Leaf, at spot) bool {
	if l.Count() == 0 {
		return true
	}
	if at.lo != nil {
		if key, err := s.key(l, 0); err == nil && bytes.Compare(key, at.lo) < 0 {
			return false
		}
	}
	if at.hi != nil {
		if key, err := s.key(l, l.Count()-1); err == nil && bytes.Compare(key, at.hi) >= 0 {
			return false
		}
	}
	return true
}

// claim marks pages as reached; false: one was already.
func (s *salvage) claim(id page.ID, n uint64) bool {
	for i := page.ID(0); uint64(i) < n; i++ {
		if s.used.has(id + i) {
			return false
		}
	}
	for i := page.ID(0); uint64(i) < n; i++ {
		s.used.add(id + i)
		if s.free != nil && id+i < s.end && s.free.has(id+i) {
			s.stale = id + i
		}
	}
	return true
}

// separator returns separator i of a branch; of a long one whose run is lost, the upper bound of all: that finds a
// wrong page less sharply, and loses nothing.
func (s *salvage) separator(b page.Branch, i int, at spot) []byte {
	if !b.IsLong(i) {
		return b.Separator(i, nil)
	}
	ref, n := b.SepRef(i), b.SepLen(i)
	run, err := s.view.Run(ref, n)
	if err != nil {
		s.found(SalvageFinding{Err: err, Bucket: s.path})
		return nil
	}
	s.claim(ref.ID, page.RunPages(uint64(n), s.size))
	return run
}

// key returns the whole key of entry i.
func (s *salvage) key(l page.Leaf, i int) ([]byte, error) {
	if l.Form(i) != page.LongKey {
		return l.Key(i), nil
	}
	run, err := s.run(l, i)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(run, l.Key(i)) {
		return nil, s.corrupt(l.Ref(i).ID, 3, "run does not begin as its key does")
	}
	return run[:l.KeyLen(i)], nil
}

// run returns the run of entry i.
func (s *salvage) run(l page.Leaf, i int) ([]byte, error) {
	n := l.RunLen(i)
	if n > math.MaxInt {
		return nil, s.corrupt(l.Ref(i).ID, 0, "run of %d bytes is too large for this machine", n)
	}
	return s.view.Run(l.Ref(i), int(n))
}

// leaf saves the entries of a leaf or of an image. id is the page that it lies in.
func (s *salvage) leaf(l page.Leaf, id page.ID) uint64 {
	for i := range l.Count() {
		if s.err != nil {
			break
		}
		if err := s.entry(l, i); err != nil {
			var damage *CorruptError
			if !errors.As(err, &damage) && !s.out.refused(err) {
				s.note(err)
				break
			}
			if damage == nil {
				err = s.corrupt(id, 3, "the new store refuses an entry: %v", err)
			}
			s.found(SalvageFinding{Err: err, Bucket: s.path, Key: append([]byte{}, l.Key(i)...), Items: 1, Lost: true})
		}
	}
	return uint64(l.Count())
}

// entry saves entry i.
func (s *salvage) entry(l page.Leaf, i int) error {
	form := l.Form(i)
	key := l.Key(i)
	var value []byte
	if form == page.Inline {
		value = l.Value(i)
	} else {
		run, err := s.run(l, i)
		if err != nil {
			return err
		}
		ref := l.Ref(i)
		if !s.claim(ref.ID, page.RunPages(l.RunLen(i), s.size)) {
			return s.corrupt(ref.ID, 1, "run is reached twice")
		}
		if value = run; form == page.LongKey {
			if key, err = s.key(l, i); err != nil {
				return err
			}
			value = run[l.KeyLen(i):]
		}
	}
	if l.IsBucket(i) {
		if form != page.Inline {
			if err := page.ValidateBucket(value, s.size); err != nil {
				return s.inRun(l, i, err)
			}
		}
		return s.nested(key, value, page.IDOf(l))
	}
	s.items++
	if s.out == nil {
		return nil
	}
	return s.out.put(key, value)
}

// inRun says of an error of page.ValidateBucket where the bucket lies: behind the key in the run of entry i.
func (s *salvage) inRun(l page.Leaf, i int, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		at := l.KeyLen(i) + max(c.Offset, 0)
		c.File, c.Page, c.Offset = filepath.Base(s.src.path), l.Ref(i).ID+page.ID(at/s.size), at%s.size
	}
	return err
}

// nested saves a bucket inside another.
func (s *salvage) nested(name, value []byte, holder page.ID) error {
	h, image := page.DecodeBucket(value)
	if len(s.path) >= maxNesting {
		s.found(SalvageFinding{Err: s.corrupt(holder, 0, "buckets are nested more than %d deep: those below this one are in lost+found", maxNesting),
			Bucket: s.path, Key: append([]byte{}, name...), Lost: true})
		s.deep = append(s.deep, deepBucket{h, image, holder})
		return nil
	}
	if s.out != nil {
		if _, err := s.out.enter(name); err != nil {
			return err
		}
		defer s.out.leave()
		if h.Sequence > 0 {
			if err := s.out.top().SetSequence(h.Sequence); err != nil {
				return err
			}
		}
		if err := s.out.turn(); err != nil {
			return err
		}
	}
	s.path = append(s.path, name)
	s.bucket(h, image, holder)
	s.path = s.path[:len(s.path)-1]
	return nil
}

func (s *salvage) progress() {
	if s.opts.Progress != nil && s.out != nil && s.nodes%256 == 0 {
		s.opts.Progress(s.nodes, s.rep.Pages)
	}
}
