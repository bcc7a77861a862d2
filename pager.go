package folio

import (
	"errors"
	"math"
	"slices"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

// pager is the running write transaction's view of pages: its own on the heap, those of
// earlier transactions that are not yet in the data file, and the mapping. It is the
// btree.Writer of every tree that the transaction changes. Guarded by the writer lock.
//
// A page's id is changed only by the transaction that allocated it. So a page is the
// transaction's own exactly when it was born in it; any other is copied under a
// new id when it is touched, and dies at the commit.
type pager struct {
	db   *DB
	tx   page.TxID
	view page.View
	maps []*page.Map // held until the transaction ends: slices of them were handed out

	own        []*frame        // made by this transaction, dropped ones included (buf nil)
	heap       int64           // bytes of own frames
	most       int64           // how many there may be before some are written out
	died       []freelist.Dead // pages of earlier transactions that this one superseded
	dead       []*frame        // the frames among them
	diedMemory []byte          // of died: see reserve

	spilled  bool       // own pages were written out, and are found through the mapping
	shown    bool       // bytes of a spilled page were handed out: none is reused before the end
	private  bool       // nothing may be written: everything stays on the heap
	confined bool       // pages are being moved down: the file does not grow for them
	putting  bool       // the transaction puts: it leaves spare pages
	given    uint64     // own pages that it has given back: holes, as those are that died
	err      error      // damage found where no error can be returned; dooms the transaction
	retired  [][]byte   // buffers discarded by the operation under way
	outgoing []page.Out // scratch of spill

	appending bool  // puts go behind all keys there are
	sorted    bool  // operations come in the order of keys: pages are sent off
	fresh     int64 // bytes of frames made since the last flight
	flight    flight
}

// begin readies the pager for transaction tx.
func (p *pager) begin(tx page.TxID) {
	p.tx = tx
	p.spilled, p.shown, p.appending, p.putting, p.heap, p.fresh, p.err = false, false, false, false, 0, 0, nil
	p.most = p.db.opts.MemoryLimit
	p.remap()
}

// remap takes the current mapping, up to the current end.
func (p *pager) remap() {
	m := p.db.data.Map()
	if n := len(p.maps); n > 0 && p.maps[n-1] == m {
		m.Release()
	} else {
		p.maps = append(p.maps, m)
	}
	p.view = m.View(p.db.free.End())
}

// keepDied bounds for how many superseded pages room is kept: what is on the heap.
const keepDied = heapRoom / int(unsafe.Sizeof(freelist.Dead{}))

// close gives back what a transaction has left that did not come to its end.
func (p *pager) close() { p.died = forget(p.died, &p.diedMemory, 0) }

// reset forgets everything but what can be used again.
func (p *pager) reset() {
	p.recycle()
	for _, m := range p.maps {
		m.Release()
	}
	clear(p.own)
	clear(p.dead)
	p.own, p.dead = p.own[:0], p.dead[:0]
	p.died = forget(p.died, &p.diedMemory, keepDied)
	p.maps = p.maps[:0]
	p.view = page.View{}
	p.given = 0
}

// Page returns a page that the transaction can reach.
func (p *pager) Page(id page.ID) ([]byte, error) {
	if f := p.db.frames.get(id); f != nil {
		return f.node()
	}
	return p.mapped(id)
}

// node returns the buffer of a frame that holds a node page. A damaged file can name a run where a
// page belongs.
func (f *frame) node() ([]byte, error) {
	if f.run {
		return nil, &CorruptError{Page: f.id, Offset: -1, Invariant: 2, Reason: "is part of a run, not a page of a tree"}
	}
	return f.buf, nil
}

func (p *pager) mapped(id page.ID) ([]byte, error) {
	if id >= p.view.Count() {
		p.remap()
	}
	return p.view.Page(id)
}

// Run returns the content of a run.
func (p *pager) Run(r page.Ref, n int) ([]byte, error) {
	if f := p.db.frames.get(r.ID); f != nil && f.run && len(f.buf) >= n {
		return f.buf[:n:n], nil
	}
	if uint64(r.ID)+uint64(pagesOf(n, p.db.pageSize)) > uint64(p.view.Count()) {
		p.remap()
	}
	return p.view.Run(r, n)
}

// TxID is the transaction that pages are born in.
func (p *pager) TxID() page.TxID { return p.tx }

// Touch makes a page the transaction's own.
func (p *pager) Touch(id page.ID) (page.ID, []byte, error) {
	f := p.db.frames.get(id)
	if f != nil && f.born == p.tx && !f.run && !f.flying {
		return id, f.buf, nil
	}
	var old []byte
	if f != nil {
		var err error
		if old, err = f.node(); err != nil {
			return 0, nil, err
		}
	} else {
		var err error
		if old, err = p.mapped(id); err != nil {
			return 0, nil, err
		}
	}
	to, err := p.allocate(1)
	if err != nil {
		return 0, nil, err
	}
	buf := p.db.buffers.get()
	if page.KindOf(old) == page.KindLeaf {
		// So leaves stay in order but for what a transaction puts into them: who reads every byte of all of them goes forward through memory, which is a
		// quarter faster, and a copy as it is was not faster to make.
		clear(buf)
		page.Leaf(old).CompactInto(buf)
	} else {
		copy(buf[8:], old[8:]) // not the checksum: see frame
	}
	page.SetID(buf, to)
	page.SetBorn(buf, p.tx)
	p.add(&frame{id: to, born: p.tx, buf: buf})
	p.supersede(id, 1, page.BornOf(old), f)
	return to, buf, nil
}

// Own returns the buffer of a page that is the transaction's own and on the heap; nil: it is not.
func (p *pager) Own(id page.ID) []byte {
	if f := p.db.frames.get(id); f != nil && f.born == p.tx && !f.run && !f.flying {
		return f.buf
	}
	return nil
}

// Alloc makes a new page.
func (p *pager) Alloc() (page.ID, []byte, error) {
	id, err := p.allocate(1)
	if err != nil {
		return 0, nil, err
	}
	buf := p.db.buffers.get()
	clear(buf)
	p.add(&frame{id: id, born: p.tx, buf: buf})
	return id, buf, nil
}

func (p *pager) add(f *frame) {
	p.db.frames.put(f)
	p.own = append(p.own, f)
	p.heap += int64(len(f.buf))
	p.fresh += int64(len(f.buf))
}

// Renew gives an own page a fresh buffer.
func (p *pager) Renew(id page.ID) (old, fresh []byte, err error) {
	f := p.db.frames.get(id)
	if f == nil || f.born != p.tx || f.run || f.flying {
		return nil, nil, errors.New("folio: page to be renewed is not the transaction's own")
	}
	old, fresh = f.buf, p.db.buffers.get()
	clear(fresh)
	p.discard(f)
	f.buf, f.exposed = fresh, false
	return old, fresh, nil
}

// discard lets go of an own frame's buffer. Bytes that were handed out keep theirs alive
// through the collector; any other goes back to the pool at the next operation, since
// the caller may still read it in this one.
func (p *pager) discard(f *frame) {
	if !f.exposed {
		p.retired = append(p.retired, f.buf)
	}
}

// recycle returns the buffers that operations up to now have discarded.
func (p *pager) recycle() {
	for i, b := range p.retired {
		p.db.buffers.put(b)
		p.retired[i] = nil
	}
	p.retired = p.retired[:0]
}

// Free takes a page out of the transaction's tree.
func (p *pager) Free(id page.ID, born page.TxID) {
	f := p.db.frames.get(id)
	if f == nil && born == 0 && p.spilled {
		// A leaf that was cut off unread may be a spilled page of our own.
		if b, err := p.mapped(id); err == nil {
			born = page.BornOf(b)
		}
	}
	p.supersede(id, 1, born, f)
}

// FreeRun takes a run out of the transaction's tree.
func (p *pager) FreeRun(r page.Ref, n int) {
	p.supersede(r.ID, pagesOf(n, p.db.pageSize), r.Born, p.db.frames.get(r.ID))
}

// dropRun gives back a run of the transaction's own of which nobody outside has been shown anything.
func (p *pager) dropRun(r page.Ref, n int) {
	if f := p.db.frames.get(r.ID); f != nil {
		p.supersede(r.ID, pagesOf(n, p.db.pageSize), r.Born, f)
		return
	}
	p.giveBack(r.ID, pagesOf(n, p.db.pageSize))
}

// supersede ends the life of pages within this transaction: at once when they are its
// own, at its commit otherwise. f is their frame, if they have one.
func (p *pager) supersede(id page.ID, n int, born page.TxID, f *frame) {
	switch {
	case f != nil && f.born == p.tx:
		p.db.frames.remove(id)
		p.heap -= int64(len(f.buf))
		if f.flying {
			f.left = true // land gives the pages back: until then they are written to
			return
		}
		p.discard(f)
		f.buf = nil
		p.giveBack(id, n)
	case f != nil:
		p.die(freelist.Dead{ID: id, N: page.ID(n), Born: f.born})
		p.dead = append(p.dead, f)
	case born == p.tx && !p.shown:
		p.giveBack(id, n)
	default:
		p.die(freelist.Dead{ID: id, N: page.ID(n), Born: born})
	}
}

// die notes pages that die at the commit.
func (p *pager) die(d freelist.Dead) {
	if len(p.died) == cap(p.died) {
		p.died = reserve(p.died, &p.diedMemory, 1)
	}
	p.died = append(p.died, d)
}

// giveBack makes own pages free for this transaction. That they are not its own shows a damaged file,
// in which a page is reached twice.
func (p *pager) giveBack(id page.ID, n int) {
	p.given += uint64(n)
	if err := p.db.free.FreeOwn(id, n); err != nil && p.err == nil {
		p.err = err
	}
}

// Expose says that bytes of a page go to the user.
func (p *pager) Expose(id page.ID) {
	if f := p.db.frames.get(id); f != nil {
		f.exposed = true
	} else if p.spilled {
		p.shown = true
	}
}

// directRun is the size in bytes from which a run is written to the data file at once
// instead of being copied to the heap.
const directRun = 64 << 10

// PutRun stores the concatenation of the parts as a run.
func (p *pager) PutRun(parts ...[]byte) (page.Ref, error) {
	var n int
	var sum xxhash.Digest
	sum.Reset()
	for _, b := range parts {
		n += len(b)
		sum.Write(b)
	}
	pages := pagesOf(n, p.db.pageSize)
	id, err := p.allocate(pages)
	if err != nil {
		return page.Ref{}, err
	}
	r := page.Ref{ID: id, Born: p.tx, Sum: sum.Sum64()}
	if n >= directRun && !p.private && !p.db.recovering {
		p.spilled = true
		if err := p.db.data.WriteRun(id, parts...); err != nil {
			p.giveBack(id, pages)
			return page.Ref{}, err
		}
		p.db.data.TrustRun(r, n)
		return r, nil
	}
	buf := make([]byte, pages*p.db.pageSize)
	at := buf
	for _, b := range parts {
		at = at[copy(at, b):]
	}
	p.add(&frame{id: id, run: true, born: p.tx, buf: buf})
	return r, nil
}

// allocate returns n contiguous pages, growing the file when no free space fits. A transaction that puts leaves spare pages: see spare.
func (p *pager) allocate(n int) (page.ID, error) {
	most := page.ID(math.MaxUint32)
	if !p.private && !p.db.recovering && !p.db.applying.Load() { // what was acknowledged has a right to space
		most = p.db.mostPages()
		if err := p.spare(n, most); err != nil {
			return 0, err
		}
	}
	if id, ok := p.db.free.Alloc(n); ok {
		return id, nil
	}
	if p.confined {
		return 0, btree.ErrNoRoom
	}
	id, err := p.db.free.Extend(n, most)
	if err != nil && p.db.appending && isFull(err) { // then those that are free
		if err := p.db.leaveAppending(); err != nil {
			return 0, err
		}
		return p.allocate(n)
	}
	return id, p.db.tight(err, most)
}

// spare sees to it that a transaction that puts leaves pages for those that only delete, where the file cannot grow: a delete, too, takes a new page for each
// from the leaf to the root. The error is one of a full disk, or ErrMaxSizeReached.
func (p *pager) spare(n int, most page.ID) error {
	if !p.putting || p.confined || most == math.MaxUint32 && !p.db.full.Load() {
		return nil
	}
	return p.db.tight(p.db.free.Provide(uint64(n)+p.db.sparePages(), most), most)
}

// sparePages is how many pages are kept for transactions that only delete: enough for some levels of some buckets, and for what is superseded until a
// checkpoint frees it.
func (db *DB) sparePages() uint64 {
	all := uint64(db.mostPages())
	if db.opts.MaxSize == 0 {
		all = db.free.Alive()
	}
	return min(max(all/16, 4), 64)
}

// tight notes that space has run out, and names MaxSize where it is the reason.
func (db *DB) tight(err error, most page.ID) error {
	if err == nil || !isFull(err) {
		return err
	}
	db.short.Store(true)
	if most < math.MaxUint32 && errors.Is(err, freelist.ErrFull) {
		return ErrMaxSizeReached
	}
	return err
}

// growFile is how the free list makes the data file longer: it returns the pages that
// the file has room for. MaxSize is none of its business: it does not know for whom the file grows.
func (db *DB) growFile(end page.ID) (page.ID, error) {
	if db.pager.private {
		return end, nil // pages stay on the heap
	}
	if err := db.data.Grow(end); err != nil {
		if isFull(err) {
			db.full.Store(true)
		}
		return 0, err
	}
	db.full.Store(false)
	return db.data.Pages(), nil
}

func pagesOf(n, pageSize int) int { return int((int64(n) + int64(pageSize) - 1) / int64(pageSize)) }

// relieve keeps the transaction's heap bounded: between two operations it writes own leaves
// and runs, and branches when these alone are too many, to their own pages. Nothing
// reaches those before the commit, so it does not matter when the kernel writes
// them. A spilled page that is touched again moves to a new id, as any page not on the heap.
func (p *pager) relieve() error {
	p.recycle()
	if p.err != nil {
		return p.err
	}
	if p.private {
		if p.heap > privateLimit {
			return ErrLogRequired
		}
		return nil
	}
	if p.sorted && p.fresh >= p.flightSize() {
		if err := p.launch(); err != nil {
			return err
		}
	}
	if p.heap <= p.most {
		return nil
	}
	if err := p.land(); err != nil {
		return err
	}
	if err := p.spill(func(f *frame) bool { return f.run || page.LevelOf(f.buf) == 0 }); err != nil {
		return err
	}
	if p.heap <= p.most/2 {
		return nil
	}
	return p.spill(func(*frame) bool { return true })
}

// privateLimit bounds the heap of a replay that must not write, in bytes.
const privateLimit = 1 << 29

// spill writes out the own frames that are chosen, and drops them.
func (p *pager) spill(chosen func(*frame) bool) error {
	out := p.outgoing[:0]
	for _, f := range p.own {
		if f.buf != nil && chosen(f) {
			f.seal()
			out = append(out, page.Out{ID: f.id, Buf: f.buf})
		}
	}
	p.outgoing = out
	if len(out) == 0 {
		return nil
	}
	if err := p.beforeSpill(); err != nil {
		return err
	}
	if err := p.db.data.WriteRuns(out); err != nil {
		return err
	}
	p.own = slices.DeleteFunc(p.own, func(f *frame) bool {
		if f.buf == nil {
			return true
		}
		if !chosen(f) {
			return false
		}
		p.evict(f)
		return true
	})
	clear(p.outgoing)
	p.spilled = true
	return nil
}

// keepsOff reports whether only pages are taken that neither meta slot knows.
func (db *DB) keepsOff() bool { return db.appending || db.share.aside.Load() }

// beforeSpill comes before pages are written that the meta slots may call free.
func (p *pager) beforeSpill() error {
	if db := p.db; !db.recovering || db.volatile || !db.doubtful && db.keepsOff() {
		return nil
	}
	return p.db.equalise() // the lower slot may need what is written over
}

// evict drops an own frame that has been written out.
func (p *pager) evict(f *frame) {
	p.db.frames.remove(f.id)
	p.heap -= int64(len(f.buf))
	if !f.run {
		p.db.data.Trust(f.buf)
	}
	if !f.exposed {
		p.db.buffers.put(f.buf)
	}
	f.buf = nil
}

// seal fills in the checksum.
func (f *frame) seal() {
	if !f.run {
		page.Seal(f.buf)
	}
}

// rollback gives back what the transaction allocated.
func (p *pager) rollback() {
	if p.private {
		return
	}
	p.sorted = false
	_ = p.land() // what could not be written is not needed
	for _, f := range p.own {
		if f.buf != nil {
			p.db.frames.remove(f.id)
			p.discard(f)
			f.buf = nil
		}
	}
	p.db.free.Rollback()
	p.reset()
}
