package btree

import (
	"errors"
	"fmt"
	"math"

	"github.com/foliodb/folio/page"
)

// ErrKind tells that the entry under a key is a bucket where an item was expected, or the other way round. It is found
// before anything is changed, and leaves the tree usable.
var ErrKind = errors.New("btree: entry of the other kind")

// Reader gives the pages of one snapshot. *page.View is one.
type Reader interface {
	// Page returns a page that has been validated. Its bytes are unchanged until the transaction ends, or, of a page
	// that the transaction itself changes, until the operation ends.
	Page(id page.ID) ([]byte, error)

	// Run returns the n bytes of a run, their checksum verified.
	Run(r page.Ref, n int) ([]byte, error)
}

// Writer is a write transaction as its trees see it. Buffers that it returns stay valid until the operation (Put, Delete
// and so on) ends, where nothing else is said. After an error of any method the operation under way is left half done,
// and the transaction must not be committed.
type Writer interface {
	Reader

	// TxID is what new pages are born in.
	TxID() page.TxID

	// Touch makes a page the transaction's own: the same number and buffer if it is already and lies on the heap,
	// else a copy under a new number.
	Touch(id page.ID) (page.ID, []byte, error)

	// Own returns the buffer of a page that Touch would return as it is; nil: it would not.
	Own(id page.ID) []byte

	// Alloc returns a new page of the transaction's own, zeroed.
	Alloc() (page.ID, []byte, error)

	// Renew gives an own page a fresh, zeroed buffer. The old one can be read until the next call of the Writer, and
	// until the transaction ends if it was exposed.
	Renew(id page.ID) (old, fresh []byte, err error)

	// Free says that a page is no longer part of the tree. born is 0 for a page that was not read.
	Free(id page.ID, born page.TxID)

	// PutRun stores the concatenation of the parts as a run.
	PutRun(parts ...[]byte) (page.Ref, error)

	// FreeRun says that a run of n bytes is no longer part of the tree.
	FreeRun(r page.Ref, n int)

	// Expose says that bytes of a page, or of the run that begins there, are about to be handed to the user, and so have
	// to stay as they are until the transaction ends.
	Expose(id page.ID)
}

// Tree is the tree of one bucket as of one transaction. Init readies it; it must not be copied while cursors use it.
type Tree struct {
	v     *page.View // where pages come from if w is nil; otherwise those that w has in the file; nil: nobody reads ahead
	w     Writer     // nil: the tree is only read
	image page.Leaf  // the items of a tree that is kept in its parent's leaf; nil: none
	items uint64
	seq   uint64
	gen   uint64 // counts changes, so that cursors notice them
	last  *trail // of a tree that is changed more than once; nil: none yet
	root  page.ID
	level uint8 // of the root
}

// Init makes t the tree that h describes; image is what follows h in the bucket's entry, as page.DecodeBucket returns it.
// Pages come from w, or, where it is nil, from v: then the tree is only read. With w, v is where cursors read ahead, and may be nil.
func (t *Tree) Init(h page.BucketHeader, image []byte, v *page.View, w Writer) {
	// One by one: a literal is made elsewhere and copied, which took half of the time of opening a bucket.
	t.v, t.w, t.image, t.last = v, w, nil, nil
	t.items, t.seq, t.gen = h.Items, h.Sequence, 0
	t.root, t.level = h.Root, h.Level
	if h.Root == 0 {
		t.level, t.items = 0, 0
		if len(image) > 0 {
			t.image = page.Leaf(image)
			t.items = uint64(t.image.Count())
		}
	}
}

// Header returns the tree as it is to be described in its bucket's entry. The sequence is the one that Init was given.
func (t *Tree) Header() page.BucketHeader {
	return page.BucketHeader{Sequence: t.seq, Items: t.items, Root: t.root, Level: t.level}
}

// Inline appends to buf the image by which the tree can be kept in its parent's leaf, and reports whether it is small
// enough for that; nothing is appended for an empty tree. The page that the tree occupies is left as it is: Drop frees it.
func (t *Tree) Inline(buf []byte) ([]byte, bool, error) {
	switch {
	case t.root == 0:
		return append(buf, t.image...), true, nil
	case t.level > 0:
		return buf, false, nil
	}
	p, err := t.load(t.root, 0, math.MaxUint64)
	if err != nil {
		return buf, false, err
	}
	l := page.Leaf(p)
	if _, ok := l.ImageSize(); !ok {
		return buf, false, nil
	}
	if l.Count() == 0 {
		return buf, true, nil
	}
	return l.AppendImage(buf), true, nil
}

// Get returns what lies under key: the value, and whether it is that of a bucket. The slice is valid and unchanged until
// the transaction ends. Get does not allocate, but where a long key or a run has to be looked at.
func (t *Tree) Get(key []byte) (value []byte, bucket, found bool, err error) {
	if t.w != nil || t.root == 0 {
		return t.get(key, true)
	}
	id, born := t.root, page.TxID(math.MaxUint64)
	for level := int(t.level); ; level-- {
		p, err := t.v.Page(id)
		if err != nil {
			return nil, false, false, err
		}
		if page.LevelOf(p) != level || page.BornOf(p) > born {
			return nil, false, false, misplaced(p, id, level, born)
		}
		if page.FlagsOf(p)&page.FlagLong != 0 {
			return t.get(key, true)
		}
		if level == 0 {
			l := page.Leaf(p)
			i := l.Find(key)
			if i < 0 {
				return nil, false, false, nil
			}
			_, value, bucket, form := l.Item(i)
			if form != page.Inline {
				value, err = t.run(l, i)
			}
			return value, bucket, err == nil, err
		}
		b := page.Branch(p)
		born = page.BornOf(p)
		id = b.Child(b.Search(key))
		if level == 1 { // pages above are in the processor's caches mostly
			t.v.Ahead(id)
		}
	}
}

// Peek is Get for the caller's own use: in a tree that is changed, the slice is valid only until the next change.
func (t *Tree) Peek(key []byte) (value []byte, bucket, found bool, err error) {
	return t.get(key, false)
}

// Plain returns the leaf in which key belongs, 0 if the tree has no page, and whether it is sure that neither this leaf nor the pages on the way
// hold long keys, that it holds no bucket, and that, where the tree is only read, it is not damaged. The leaf itself is not looked at: the branch
// above tells, and the file's marks. Probe tells more.
func (t *Tree) Plain(key []byte) (leaf page.ID, sure bool, err error) {
	if t.root == 0 {
		return 0, true, nil // an image holds neither
	}
	id, born := t.root, page.TxID(math.MaxUint64)
	var flags uint8
	for level := int(t.level); level > 0; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return 0, false, err
		}
		flags |= page.FlagsOf(p)
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return 0, false, err
		}
		id, born = b.Child(i), page.BornOf(p)
		if level == 1 {
			sure = !b.Refs(i) && flags&page.FlagLong == 0 && (t.w != nil || t.v.Known(id))
		}
	}
	return id, sure, nil
}

// Probe is Peek for one who is going to change the entry, at a time when that must not fail. long reports that a page on the way has
// long keys: to change it, runs may have to be read that nobody has looked at on the way.
func (t *Tree) Probe(key []byte) (bucket, found, long bool, err error) {
	l, flags, err := t.leafFor(key)
	if l == nil {
		return false, false, false, err
	}
	_, bucket, found, err = t.getIn(l, key, false)
	return bucket, found, flags&page.FlagLong != 0, err
}

// get is Get for every kind of tree.
func (t *Tree) get(key []byte, expose bool) (value []byte, bucket, found bool, err error) {
	l, _, err := t.leafFor(key)
	if l == nil {
		return nil, false, false, err
	}
	return t.getIn(l, key, expose)
}

// getIn is get in the key's leaf.
func (t *Tree) getIn(l page.Leaf, key []byte, expose bool) (value []byte, bucket, found bool, err error) {
	i, found, err := t.searchLeaf(l, key)
	if !found {
		return nil, false, false, err
	}
	_, value, bucket, err = t.item(l, i, expose)
	return value, bucket, err == nil, err
}

// leafFor returns the leaf in which key belongs, nil if the tree is empty, and the flags of all pages on the way together.
func (t *Tree) leafFor(key []byte) (l page.Leaf, flags uint8, err error) {
	if t.root == 0 {
		if t.image != nil {
			flags = page.FlagsOf(t.image)
		}
		return t.image, flags, nil
	}
	id, born := t.root, page.TxID(math.MaxUint64)
	for level := int(t.level); ; level-- {
		p, err := t.load(id, level, born)
		if err != nil {
			return nil, 0, err
		}
		flags |= page.FlagsOf(p)
		if level == 0 {
			return page.Leaf(p), flags, nil
		}
		b := page.Branch(p)
		i, err := t.searchBranch(b, key)
		if err != nil {
			return nil, 0, err
		}
		id, born = b.Child(i), page.BornOf(p)
	}
}

// item returns the whole key and the value of entry i, which are exposed if they go to the user.
func (t *Tree) item(l page.Leaf, i int, expose bool) (key, value []byte, bucket bool, err error) {
	if expose && t.w != nil && t.root != 0 {
		t.w.Expose(page.IDOf(l))
	}
	key, value, bucket, form := l.Item(i)
	if form == page.Inline {
		return key, value, bucket, nil
	}
	if expose && t.w != nil {
		t.w.Expose(l.Ref(i).ID)
	}
	if form == page.LongKey {
		if key, err = t.longKey(l, i); err != nil {
			return nil, nil, false, err
		}
	}
	value, err = t.run(l, i)
	return key, value, bucket, err
}

// page returns a validated page.
func (t *Tree) page(id page.ID) ([]byte, error) {
	if t.w != nil {
		return t.w.Page(id)
	}
	return t.v.Page(id)
}

// load returns a page that stands below one of level+1, born in born.
func (t *Tree) load(id page.ID, level int, born page.TxID) ([]byte, error) {
	p, err := t.page(id)
	if err != nil {
		return nil, err
	}
	if page.LevelOf(p) != level || page.BornOf(p) > born {
		return nil, misplaced(p, id, level, born)
	}
	return p, nil
}

// loadLeaf is load for a leaf that is not the root, and so is not empty.
func (t *Tree) loadLeaf(id page.ID, born page.TxID) (page.Leaf, error) {
	p, err := t.load(id, 0, born)
	if err == nil && page.CountOf(p) == 0 {
		err = emptyLeaf(id)
	}
	return p, err
}

func emptyLeaf(id page.ID) error { return corrupt(id, 24, 2, "empty leaf below a branch") }

// misplaced tells what is wrong with a page that does not belong where it was found.
func misplaced(p []byte, id page.ID, level int, born page.TxID) error {
	if page.LevelOf(p) != level {
		return corrupt(id, 13, 2, "level %d where level %d belongs", page.LevelOf(p), level)
	}
	return corrupt(id, 16, 2, "born in %d, after its parent's %d", page.BornOf(p), born)
}

func corrupt(id page.ID, offset, invariant int, format string, args ...any) error {
	return &page.CorruptError{Page: id, Offset: offset, Invariant: invariant, Reason: fmt.Sprintf(format, args...)}
}

// materialise gives a tree that is empty or an image a page of its own.
func (t *Tree) materialise() error {
	id, p, err := t.w.Alloc()
	if err != nil {
		return err
	}
	l := page.InitLeaf(p, id, t.w.TxID())
	if t.image != nil && !t.image.CopyRange(l, 0, 0, t.image.Count()) {
		return corrupt(0, -1, 3, "image of a bucket does not fit a page")
	}
	t.root, t.level, t.image = id, 0, nil
	t.gen++
	return nil
}
