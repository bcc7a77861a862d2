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
	return View{base: m.base, marks: e.marks, count: min(count, e.pages, m.f.Pages()), shift: m.f.shift, m: m}
}

// View is what one snapshot may see of the data file. Views may be copied; all methods may be called concurrently. The
// zero View has no pages.
type View struct {
	base  unsafe.Pointer // of the mapping
	marks markDir        // covers all pages below count
	count ID
	shift uint8 // log2 of the page size
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
		// Below count lies in the mapping: View made sure. Bounds checks would take a quarter of the time.
		p := unsafe.Slice((*byte)(unsafe.Add(v.base, uintptr(id)<<v.shift)), 1<<v.shift)
		if m := v.marks.load(id); m != 0 && m == nodeMark(p) {
			return p, nil
		}
	}
	return v.load(id)
}

// load is Page for a page without the right mark, touched for the first time most likely. A fault here would block
// a processor of the Go scheduler until the disk answers; a system call does not, and returns an error where a
// fault would be a signal.
func (v *View) load(id ID) ([]byte, error) {
	if id < FirstID || id >= v.count {
		return nil, v.corrupt(id, fmt.Sprintf("page number is not in %d to %d", FirstID, max(v.count, 1)-1), nil)
	}
	size := int64(1) << v.shift
	if err := v.m.mapping.Populate(int64(id)<<v.shift, size); err != nil {
		return nil, v.corrupt(id, "cannot be read", err)
	}
	p := unsafe.Slice((*byte)(unsafe.Add(v.base, uintptr(id)<<v.shift)), size)
	chunk := v.chunk(id)
	if mark := &chunk[id%(1<<chunkBits)]; mark.Load() != nodeMark(p) {
		if err := Validate(p, id); err != nil {
			return nil, v.named(err)
		}
		mark.Store(nodeMark(p))
	}
	return p, nil
}

// chunk returns the marks around id, and puts them into the view's directory, which may be older than they are.
func (v *View) chunk(id ID) *markChunk {
	c := v.m.f.marks.chunk(id)
	if at := &v.marks[id>>chunkBits]; at.Load() != c {
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
	if n < 0 || r.ID < FirstID || r.ID >= v.count || RunPages(uint64(n), 1<<v.shift) > uint64(v.count-r.ID) {
		return nil, v.corrupt(r.ID, fmt.Sprintf("run of %d bytes is not in pages %d to %d", n, FirstID, max(v.count, 1)-1), nil)
	}
	b := unsafe.Slice((*byte)(unsafe.Add(v.base, uintptr(r.ID)<<v.shift)), n)
	if v.marks.load(r.ID) == runMark(r, n) {
		return b, nil
	}
	var sum xxhash.Digest
	sum.Reset()
	for at := 0; at < n; at += runSlice {
		part := b[at:min(at+runSlice, n)]
		if err := v.m.mapping.Populate(int64(r.ID)<<v.shift+int64(at), int64(len(part))); err != nil {
			return nil, v.corrupt(r.ID+ID(at>>v.shift), "cannot be read", err)
		}
		sum.Write(part)
	}
	if sum.Sum64() != r.Sum {
		return nil, v.corrupt(r.ID, fmt.Sprintf("checksum of a run of %d bytes is wrong", n), nil)
	}
	v.chunk(r.ID)[r.ID%(1<<chunkBits)].Store(runMark(r, n))
	return b, nil
}

// Prefetch asks the system to read pages ahead that have not been touched yet. Ids that are none do not matter.
func (v *View) Prefetch(ids ...ID) {
	for i := 0; i < len(ids); {
		from, n := ids[i], ID(1)
		i++
		if from >= v.count || v.marks.load(from) != 0 {
			continue
		}
		for i < len(ids) && ids[i] == from+n && ids[i] < v.count && v.marks.load(ids[i]) == 0 {
			n++
			i++
		}
		v.m.mapping.WillNeed(int64(from)<<v.shift, int64(n)<<v.shift)
	}
}

// corrupt makes an error about the page as a whole.
func (v *View) corrupt(id ID, reason string, err error) error {
	return v.named(&CorruptError{Page: id, Offset: -1, Invariant: 2, Reason: reason, Err: err})
}

// named puts the file's name into an error of this package.
func (v *View) named(err error) error {
	var c *CorruptError
	if v.m != nil && errors.As(err, &c) {
		c.File = v.m.f.name
	}
	return err
}
