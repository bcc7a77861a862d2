package page

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
)

// Map is a mapping of the data file. It lives as long as somebody holds it: the File its current one, everybody else
// what he retained. Slices of it are valid as long.
type Map struct {
	f       *File
	mapping vfs.Mapping // nil if there is nothing to map
	base    unsafe.Pointer
	refs    atomic.Int64

	// What may be seen of it. It is replaced when the mapping grows in place.
	extent atomic.Pointer[extent]
}

// extent is how far a mapping reaches.
type extent struct {
	pages ID // whole pages that are mapped, in the file or beyond its end
	marks markDir
}

func newMap(f *File, m vfs.Mapping) *Map {
	p := &Map{f: f, mapping: m}
	if m != nil {
		p.base = unsafe.Pointer(unsafe.SliceData(m.Bytes()))
	}
	p.refs.Store(1)
	p.measure()
	return p
}

// measure takes note of how long the mapping is.
func (m *Map) measure() {
	var pages ID
	if m.mapping != nil {
		pages = m.f.pagesIn(int64(len(m.mapping.Bytes())))
	}
	m.extent.Store(&extent{pages: pages, marks: m.f.marks.reserve(pages)})
}

// Retain holds the mapping once more. The caller must hold it already, or come from File.Map.
func (m *Map) Retain() { m.refs.Add(1) }

// Release ends one hold. The last one, of a mapping that has been replaced by a larger one, unmaps it.
func (m *Map) Release() {
	switch n := m.refs.Add(-1); {
	case n == 0 && m.mapping != nil:
		// Nothing was written through it, so there is nothing to lose, and nobody to tell.
		_ = m.mapping.Close()
	case n < 0:
		panic("page: mapping released more often than held")
	}
}

// tryRetain is Retain for who does not hold it: false once it is unmapped.
func (m *Map) tryRetain() bool {
	for {
		n := m.refs.Load()
		if n == 0 {
			return false
		}
		if m.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Contains tells whether a memory fault at addr was one of this mapping, and in which page.
func (m *Map) Contains(addr uintptr) (ID, bool) {
	base := uintptr(m.base)
	e := m.extent.Load()
	if m.mapping == nil || addr < base || (addr-base)>>m.f.shift >= uintptr(e.pages) {
		return 0, false
	}
	return ID((addr - base) >> m.f.shift), true
}

// View returns what a snapshot may see: the pages below count, as far as the file has them and they are mapped. It is
// valid while the mapping is held.
func (m *Map) View(count ID) View {
	e := m.extent.Load()
	return View{
		base:  m.base,
		marks: unsafe.Pointer(unsafe.SliceData(e.marks)),
		count: min(count, e.pages, m.f.Pages()),
		size:  uint32(m.f.pageSize),
		m:     m,
	}
}

// View is what one snapshot may see of the data file. Views may be copied; all methods may be called concurrently. The
// zero View has no pages.
//
// Every id below count lies in the mapping and has a place in the directory of marks: Map.View sees to that, so that
// Page need not.
type View struct {
	base  unsafe.Pointer // of the mapping
	marks unsafe.Pointer // to the first element of a markDir
	count ID
	size  uint32 // of a page
	m     *Map
}

// Count returns the number of pages: every id that can be read is below it.
func (v *View) Count() ID { return v.count }

// Page returns a node page, validated. The slice is that of the mapping: it must not be written to, has no spare
// capacity, and is valid while the mapping is held and no page is written under this id. The error is a *CorruptError.
//
// A page with a mark has been touched before. One without must not be looked at here: see load.
func (v *View) Page(id ID) ([]byte, error) {
	if id < v.count {
		p := v.at(id)
		if m := uint32(v.mark(id).Load()); m != 0 && m == nodeMark(p[:HeaderSize:HeaderSize]) {
			return p[:v.size:v.size], nil
		}
	}
	return v.load(id)
}

// PageSize returns the size of a page in bytes.
func (v *View) PageSize() int { return int(v.size) }

// Known reports whether this process has validated or written the node page that lies under id, without looking at it.
func (v *View) Known(id ID) bool { return id < v.count && v.mark(id).Load()&1 != 0 }

// Lead returns how key i of l, a leaf that Page returned, begins: its first n bytes at the top of a number, and zeros below; of a shorter key, with zeros
// behind it. So of two keys the one with the lesser lead is the lesser, as far as both leads go: with as many bytes as the shorter lead has.
//
// It reads the leaf's first lines only, and not where the key lies: who walks from leaf to leaf and looks at the keys' places in order alone would wait for two
// lines of memory more at each, which took him as long as everything else. n is the length of the leaf's prefix and four; 0 where that is more than the mark
// tells.
func (v *View) Lead(l Leaf, i int) (lead uint64, n int) {
	id, pre := IDOf(l), prefixOf(l)
	if pre > 4 || id >= v.count {
		return 0, 0
	}
	mark := v.mark(id).Load()
	if uint32(mark) != nodeMark(l) {
		return 0, 0
	}
	first := mark >> 32 << 32 // the prefix is that of the first key too
	shared := ^uint64(0) << (64 - 8*pre)
	return first&shared | uint64(l.head(i))<<32>>(8*pre), pre + 4
}

// at returns where page id begins, which is below count. The array is a way of saying so that costs nothing: a page
// is as long as the page size.
func (v *View) at(id ID) *[MaxPageSize]byte {
	return (*[MaxPageSize]byte)(unsafe.Add(v.base, uintptr(id)*uintptr(v.size)))
}

// mark returns the mark of page id, which is below count.
func (v *View) mark(id ID) *atomic.Uint64 {
	return &v.chunkOf(id).Load().marks[id%(1<<chunkBits)]
}

// chunkOf returns the place of the chunk of marks around id, which is below count.
func (v *View) chunkOf(id ID) *atomic.Pointer[markChunk] {
	const size = unsafe.Sizeof(atomic.Pointer[markChunk]{})
	return (*atomic.Pointer[markChunk])(unsafe.Add(v.marks, uintptr(id>>chunkBits)*size))
}

// offset returns where page id begins in the file.
func (v *View) offset(id ID) int64 { return int64(id) * int64(v.size) }

// load is Page for a page without the right mark, touched for the first time most likely. A fault here would block
// a processor of the Go scheduler until the disk answers. A system call asks for the page, others run until it is there (see fetch), and what cannot be
// read is an error where a fault would be a signal.
func (v *View) load(id ID) ([]byte, error) {
	if id < FirstID || id >= v.count {
		return nil, v.corrupt(id, fmt.Sprintf("page number is not in %d to %d", FirstID, max(v.count, 1)-1), nil)
	}
	if !v.warm(id) {
		if err := v.fetch(id); err != nil {
			return nil, v.corrupt(id, "cannot be read", err)
		}
	}
	p := v.at(id)[:v.size:v.size]
	if mark := v.makeMark(id); uint32(mark.Load()) != nodeMark(p) {
		if err := Validate(p, id); err != nil {
			return nil, v.named(err)
		}
		mark.Store(markOf(p))
	}
	return p, nil
}

// warm reports whether page id has been found in memory together with its neighbours: then it is touched without a system call. In a store that the page cache
// has, each first touch of a page was such a call, which took longer than the page's checksum. Pages that the system takes away between
// the two are read by a fault, as those are that have been touched before.
func (v *View) warm(id ID) bool {
	if v.Was(id) {
		return true
	}
	if !v.Here(GroupOf(id), GroupPages) {
		return false
	}
	if GroupOf(id)+GroupPages <= v.count { // else pages may come behind it that were not asked about
		v.setWarm(id)
	}
	return true
}

// makeMark is mark for a mark that will be set.
func (v *View) makeMark(id ID) *atomic.Uint64 {
	return &v.makeChunk(id).marks[id%(1<<chunkBits)]
}

// makeChunk returns the chunk of page id, which may be younger than the view's directory.
func (v *View) makeChunk(id ID) *markChunk {
	c := v.m.f.marks.chunk(id)
	if at := v.chunkOf(id); at.Load() != c {
		at.Store(c)
	}
	return c
}

// runSlice is how much of a run is read at a time when its checksum is taken, so that a large one need not fit the
// memory.
const runSlice = 4 << 20

// Run returns the n bytes that a run holds. The checksum is verified the first time. The slice is that of the
// mapping, as with Page. The error is a *CorruptError.
func (v *View) Run(r Ref, n int) ([]byte, error) {
	if n < 0 || r.ID < FirstID || r.ID >= v.count || RunPages(uint64(n), int(v.size)) > uint64(v.count-r.ID) {
		return nil, v.corrupt(r.ID, fmt.Sprintf("run of %d bytes is not in pages %d to %d", n, FirstID, max(v.count, 1)-1), nil)
	}
	b := unsafe.Slice(&v.at(r.ID)[0], n)
	if v.mark(r.ID).Load() == uint64(runMark(r, n)) {
		return b, nil
	}
	var sum xxhash.Digest
	sum.Reset()
	for at := 0; at < n; at += runSlice {
		part := b[at:min(at+runSlice, n)]
		if err := v.m.mapping.Populate(v.offset(r.ID)+int64(at), int64(len(part))); err != nil {
			return nil, v.corrupt(r.ID+ID(at/int(v.size)), "cannot be read", err)
		}
		sum.Write(part)
	}
	if sum.Sum64() != r.Sum {
		return nil, v.named(&CorruptError{Page: r.ID, Offset: 0, Invariant: invariantPage,
			Reason: fmt.Sprintf("checksum of a run of %d bytes is %016x, its reference says %016x", n, sum.Sum64(), r.Sum)})
	}
	v.makeMark(r.ID).Store(uint64(runMark(r, n)))
	return b, nil
}

// corrupt makes an error about the page as a whole.
func (v *View) corrupt(id ID, reason string, err error) error {
	return v.named(&CorruptError{Page: id, Offset: -1, Invariant: invariantPage, Reason: reason, Err: err})
}

// named puts the file's name into an error of this package.
func (v *View) named(err error) error {
	var c *CorruptError
	if v.m != nil && errors.As(err, &c) {
		c.File = v.m.f.name
	}
	return err
}
