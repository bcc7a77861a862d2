package page

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// File is the data file: it grows, maps, writes and syncs it. All methods may be called concurrently, as far as what
// they say about it allows.
//
// Reading goes through a Map and the View of a snapshot; writing goes through the descriptor, and shows in every mapping
// at once. File does not know which pages are in use: who writes a page knows that nobody can reach it.
type File struct {
	// constant
	f           vfs.File
	name        string // base name, for errors
	pageSize    int
	shift       uint8
	reservation int64 // bytes of the first mapping, at least
	limit       int64 // bytes of the file beyond which no space is reserved ahead; 0: none
	reserve     bool  // mappings may reach past the end of the file

	marks marks
	dirty dirty

	pages   atomic.Uint32 // pages that the file has and that cur maps
	cur     atomic.Pointer[Map]
	growing sync.Mutex // held by who changes the size or the mapping

	failed atomic.Pointer[error]     // the first error of a sync
	tells  atomic.Bool               // see View.Tells
	short  atomic.Pointer[time.Time] // when memory was found to be short; nil: never
	around atomic.Int64              // how many are reading what lies around a page
}

// Option changes what NewFile does.
type Option func(*File)

// Reserve sets how many bytes of address space the first mapping takes at least. Without it that is 1 GiB, on 32-bit
// systems 16 MiB. A mapping that is too small is extended or replaced, so the number decides how often.
func Reserve(n int64) Option { return func(f *File) { f.reservation = n } }

// MaxSize bounds, in bytes, the space that Grow reserves ahead of need.
func MaxSize(n int64) Option { return func(f *File) { f.limit = n } }

// NewFile maps f as a file of pages of the given size. Bytes behind the last whole page are not used. The File uses f
// until it is closed, but leaves closing f to the caller.
func NewFile(f vfs.File, pageSize int, opt ...Option) (*File, error) {
	if !ValidSize(pageSize) {
		return nil, fmt.Errorf("page: page size %d is not a power of two in %d to %d", pageSize, MinPageSize, MaxPageSize)
	}
	p := &File{
		f:           f,
		name:        filepath.Base(f.Name()),
		pageSize:    pageSize,
		shift:       uint8(bits.TrailingZeros(uint(pageSize))),
		reservation: firstReservation,
		reserve:     vfs.CanReserve,
	}
	for _, o := range opt {
		o(p)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p.growing.Lock()
	defer p.growing.Unlock()
	if err := p.mapLocked(info.Size); err != nil {
		return nil, err
	}
	p.pages.Store(uint32(p.pagesIn(info.Size)))
	return p, nil
}

// firstReservation is 1 GiB of address space, of which a 64-bit system has plenty, or 16 MiB.
const firstReservation = 1 << (24 + 6*(^uint(0)>>63))

// PageSize returns the size of a page in bytes.
func (f *File) PageSize() int { return f.pageSize }

// Pages returns the number of pages that the file has room for. All are mapped by what Map returns afterwards.
func (f *File) Pages() ID { return ID(f.pages.Load()) }

// Map returns the current mapping, held for the caller.
func (f *File) Map() *Map {
	for {
		if m := f.cur.Load(); m.tryRetain() {
			return m
		}
	}
}

// Close lets go of the mapping: it is unmapped when the last who holds it releases it. Only Map.Release may be
// called afterwards.
func (f *File) Close() error {
	f.growing.Lock()
	defer f.growing.Unlock()
	if m := f.cur.Load(); m != nil {
		f.cur.Store(nil)
		m.Release()
	}
	return nil
}

// pagesIn returns the number of whole pages in n bytes, which is at most what an ID can count.
func (f *File) pagesIn(n int64) ID { return ID(min(uint64(n)>>f.shift, math.MaxUint32)) }

// bytes returns the length of so many pages.
func (f *File) bytes(pages ID) int64 { return int64(pages) << f.shift }

// Growth of the file in bytes: by an eighth of its size, but never by less or more than these. A fresh store stays small,
// and a large one is not extended, which costs a journal commit, at every turn.
const (
	minGrowth = 64 << 10
	maxGrowth = 64 << 20
)

// Grow makes the file at least so many pages long, with space reserved for them, and maps them. Readers of older
// mappings are not disturbed. When the disk is full, which is syscall.ENOSPC under errors.Is, or the address
// space is, nothing has changed and the File is as good as before.
func (f *File) Grow(pages ID) error {
	if pages <= f.Pages() {
		return nil
	}
	f.growing.Lock()
	defer f.growing.Unlock()
	if pages <= f.Pages() {
		return nil
	}
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	size := info.Size
	if f.pagesIn(size) < pages {
		if size, err = f.allocate(size, f.bytes(pages)); err != nil {
			return err
		}
	}
	if err = f.coverLocked(size); err != nil {
		f.giveBack(info.Size)
	}
	return err
}

// allocate makes the file at least need bytes long, more if there is space, and returns its new size.
func (f *File) allocate(size, need int64) (int64, error) {
	ahead := size + min(max(size/8, minGrowth), maxGrowth)
	if f.limit > 0 {
		ahead = min(ahead, f.limit)
	}
	ahead = max(ahead&^int64(f.pageSize-1), need)
	err := f.f.Allocate(size, ahead-size)
	if err != nil && ahead > need {
		f.giveBack(size)
		ahead, err = need, f.f.Allocate(size, need-size)
	}
	if err != nil {
		f.giveBack(size)
		return size, err
	}
	return ahead, nil
}

// giveBack cuts what growth that failed may have gained, since on a full disk the log needs it more. If that fails too,
// the file is longer than it need be, and the next one to grow it finds out.
func (f *File) giveBack(size int64) { _ = f.f.Truncate(size) }

// Cover maps at least so many pages, which another process has made the file long enough for. It does not change the
// file; a file that is too short is a *CorruptError.
func (f *File) Cover(pages ID) error {
	if pages <= f.Pages() {
		return nil
	}
	f.growing.Lock()
	defer f.growing.Unlock()
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	if have := f.pagesIn(info.Size); have < pages {
		return &CorruptError{File: f.name, Page: have, Offset: -1, Invariant: 1,
			Reason: fmt.Sprintf("file ends after %d of %d pages", have, pages)}
	}
	return f.coverLocked(info.Size)
}

// coverLocked takes note of the file's size once all of it is mapped. growing is held.
func (f *File) coverLocked(size int64) error {
	pages := f.pagesIn(size)
	if pages > f.cur.Load().extent.Load().pages {
		if err := f.mapLocked(size); err != nil {
			return err
		}
	}
	f.pages.Store(uint32(pages))
	return nil
}

// mapLocked sees to it that the current mapping holds size bytes: it is extended in place if it can be, replaced
// otherwise. growing is held.
func (f *File) mapLocked(size int64) error {
	old := f.cur.Load()
	var have int64
	if old != nil && old.mapping != nil {
		have = int64(len(old.mapping.Bytes()))
	}
	var err error
	for _, length := range f.lengths(size, have) {
		if have > 0 && old.mapping.Extend(length) {
			old.measure()
			return nil
		}
		var m vfs.Mapping
		if length > 0 {
			if m, err = f.f.Map(length); err != nil {
				continue // too much address space, perhaps; try less
			}
		}
		f.cur.Store(newMap(f, m))
		if old != nil {
			old.Release()
		}
		return nil
	}
	return err
}

// lengths returns the bytes to map for a file of the given size, in the order of preference: the reservation
// doubled until it suffices, in large address spaces until it is twice the size; if that cannot be had, less.
func (f *File) lengths(size, have int64) []int64 {
	if !f.reserve {
		return []int64{f.bytes(f.pagesIn(size))}
	}
	want, n := size, max(f.reservation, have, 1)
	if math.MaxInt > math.MaxInt32 && have == 0 {
		want = 2 * size
	}
	for n < want && n <= math.MaxInt64/2 {
		n *= 2
	}
	size = max(size, int64(f.pageSize))
	return []int64{n, max(size+size/8, f.reservation), size}
}

// Truncate cuts the file to so many pages. Nobody may read or write pages behind the cut, which is durable with the
// next Sync. Where a mapped file cannot be cut, the file stays as it is, and that is no error.
func (f *File) Truncate(pages ID) error {
	f.growing.Lock()
	defer f.growing.Unlock()
	if !f.reserve || pages >= f.Pages() {
		return nil
	}
	if err := f.f.Truncate(f.bytes(pages)); err != nil {
		return err
	}
	f.pages.Store(uint32(pages))
	return nil
}

// Out is a page to be written, or a run: Buf is one or more whole pages.
type Out struct {
	ID  ID
	Buf []byte
}

// Write writes p, one or more whole pages, to the pages from id on. They are not trusted, see Trust.
func (f *File) Write(id ID, p []byte) error { return f.writeBufs(id, len(p), p) }

// WriteRun writes the run that begins with page id: the concatenation of parts, and zeros to the end of the last page.
func (f *File) WriteRun(id ID, parts ...[]byte) error {
	bufs := make([][]byte, 0, len(parts)+1)
	n := 0
	for _, p := range parts {
		bufs, n = append(bufs, p), n+len(p)
	}
	if slack := -n & (f.pageSize - 1); slack > 0 {
		bufs, n = append(bufs, slackOf(slack)), n+slack
	}
	return f.writeBufs(id, n, bufs...)
}

// slackOf returns n zeros, less than a page, that nobody writes to.
func slackOf(n int) []byte { return slackZeros[:n] }

var slackZeros [MaxPageSize]byte

// runPages is how many pages go into one call. Longer runs gained nothing.
const runPages = 256

type gather struct{ bufs [runPages][]byte }

var gathers = sync.Pool{New: func() any { return new(gather) }}

// WriteRuns writes pages, those that lie side by side with one call. It puts the slice in the order of ids, and neither
// changes nor keeps the buffers. After an error any of them may have been written.
func (f *File) WriteRuns(pages []Out) error {
	slices.SortFunc(pages, func(a, b Out) int { return cmp.Compare(a.ID, b.ID) })
	g := gathers.Get().(*gather)
	defer gathers.Put(g)
	for len(pages) > 0 {
		k, size := f.side(pages)
		for i := range k {
			g.bufs[i] = pages[i].Buf
		}
		err := f.writeBufs(pages[0].ID, size, g.bufs[:k]...)
		clear(g.bufs[:k])
		if err != nil {
			return err
		}
		pages = pages[k:]
	}
	return nil
}

// WriteOut has the disk begin to take pages that WriteRuns has just written, and put in order. An error is that of a sync: see vfs.File.WriteOut.
func (f *File) WriteOut(pages []Out) error {
	for len(pages) > 0 {
		id, size := pages[0].ID, 0
		for len(pages) > 0 && uint64(pages[0].ID) == uint64(id)+uint64(size)>>f.shift {
			size += len(pages[0].Buf)
			pages = pages[1:]
		}
		if err := f.f.WriteOut(f.bytes(id), int64(size), false); err != nil {
			return fmt.Errorf("page: write out %d bytes at page %d: %w", size, id, err)
		}
	}
	return nil
}

// side returns how many of the first pages go into one call, because they lie side by side, and their length together.
func (f *File) side(pages []Out) (k, size int) {
	for k < len(pages) && k < runPages {
		next := uint64(pages[0].ID) + uint64(size)>>f.shift
		if k > 0 && (uint64(pages[k].ID) != next || size+len(pages[k].Buf) > runPages<<f.shift) {
			break
		}
		size += len(pages[k].Buf)
		k++
	}
	return k, size
}

// writeBufs writes buffers of n bytes together to the pages from id on. Marks go first: what is about to lie there is
// not what was validated.
func (f *File) writeBufs(id ID, n int, bufs ...[]byte) error {
	pages := uint64(n) >> f.shift
	if n&(f.pageSize-1) != 0 || uint64(id)+pages > uint64(f.Pages()) {
		return fmt.Errorf("page: write of %d bytes at page %d of %d", n, id, f.Pages())
	}
	f.marks.clear(id, int(pages))
	off := f.bytes(id)
	f.dirty.add(off, int64(n))
	var err error
	if len(bufs) == 1 {
		_, err = f.f.WriteAt(bufs[0], off)
	} else {
		err = f.f.WriteV(bufs, off)
	}
	if err != nil {
		return fmt.Errorf("page: write of %d pages at page %d: %w", pages, id, err)
	}
	return nil
}

// Trust marks node page p as validated, because this process has just written it, and it is sound.
func (f *File) Trust(p []byte) { f.marks.set(IDOf(p), markOf(p)) }

// TrustRun marks the run of n bytes as validated, because this process has just written it.
func (f *File) TrustRun(r Ref, n int) { f.marks.set(r.ID, uint64(runMark(r, n))) }

// ReadMeta reads the page of a meta slot, 0 or 1, past the mapping: it may be in the middle of being written, and only
// its checksum can tell. A file that ends within the page is read as far as it goes, and zeros follow.
func (f *File) ReadMeta(slot int) ([]byte, error) {
	p := make([]byte, f.pageSize)
	if _, err := f.f.ReadAt(p, f.bytes(ID(slot))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// WriteMeta writes a meta slot, 0 or 1. It is durable with the next Sync. After a failed sync no meta is written, since
// what it would name may be lost; and none that DecodeMeta would refuse, which is a *CorruptError.
func (f *File) WriteMeta(slot int, m *Meta) error {
	if err := f.poisoned(); err != nil {
		return err
	}
	if err := m.Check(slot); err != nil {
		return err
	}
	p := make([]byte, f.pageSize)
	m.Encode(p, slot)
	return f.Write(ID(slot), p)
}

// poisoned returns the first error of a sync.
func (f *File) poisoned() error {
	if p := f.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Sync makes everything written durable, and the size. The error of the first one that fails is what every later one
// returns: the kernel forgets what it could not write, so a second success would mean nothing.
//
// First the mapping is synced where pages were written, in slices, because one sync of all would hold up the log's for
// as long as it takes. Then the descriptor is: it carries the size, and nothing depends on the mapping alone.
//
// Others who sync meanwhile would have to wait until the disk has taken a whole slice. So busy, unless it is nil, is asked whether there are any. It may wait
// for them, and while it says so the disk is given a piece at a time.
func (f *File) Sync(busy func() bool) error {
	if err := f.poisoned(); err != nil {
		return err
	}
	err := f.syncMapping(busy)
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("page: sync of %s: %w", f.name, err)
		f.failed.CompareAndSwap(nil, &err)
		return f.poisoned()
	}
	return nil
}

func (f *File) syncMapping(busy func() bool) error {
	m := f.Map()
	defer m.Release()
	if m.mapping == nil {
		return nil
	}
	end := f.bytes(min(f.Pages(), m.extent.Load().pages))
	dirty := f.dirty.take()
	for off, n := range dirty.slices() {
		if n = min(n, end-off); n <= 0 {
			break
		}
		if busy != nil {
			if err := f.writeOutPieces(dirty, off, n, busy); err != nil {
				return err
			}
		}
		if err := m.mapping.Sync(off, n); err != nil {
			return err
		}
	}
	return nil
}

// writeOutPieces has the disk take what was written within [off, off+n), piece by piece, as far as others are busy. The sync that follows does the rest.
func (f *File) writeOutPieces(w written, off, n int64, busy func() bool) error {
	const piece = 1 << pieceBits
	slow := busy()
	from, end, given := off, off, int64(0) // what has not been written out, and how much of it was written
	out := func() error {
		if given == 0 || !slow {
			return nil
		}
		return f.f.WriteOut(from, end-from, true)
	}
	for at, n := range w.within(off, n) {
		if given == 0 {
			from = at
		}
		end = at + piece
		if given += n; given < piece {
			continue
		}
		if err := out(); err != nil {
			return err
		}
		slow, given = busy(), 0
	}
	return out()
}
