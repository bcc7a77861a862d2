package folio

import (
	"runtime"
	"slices"

	"github.com/foliodb/folio/page"
)

// flight is a batch of the running transaction's own leaves and runs that a goroutine writes to the data file while the
// transaction goes on. Only who applies operations in the order of keys sends pages off so, since he does not come back to a leaf that
// he has left, but for one now and then that a neighbour shares items with; and he waits for the last batch before he does
// anything else (sorter.apply). Sealing and writing pages took a quarter of his time.
//
// A page in flight is read from its frame. It is not changed any more: like any page that has been written out it moves to a new id
// when it is touched. Its old one is given back when it has landed, and not before: what is free may be used again, and written over, or
// be cut off by a checkpoint, and a write behind the end of the file fails, or makes the file longer again.
type flight struct {
	frames  []*frame
	out     []page.Out
	early   bool   // the disk is to take them at once: they are not superseded before the commit
	ordered []byte // what leaves are written from whose entries lie out of order in their frames; at most twice as long as a flight should be
	done    chan error
}

// flightBytes is how much sets off at once: enough that pages side by side go into one call, and so little that they are still in the
// processor's cache.
const flightBytes = 1 << 20

// flightProcessors is how many processors there have to be more than, so that a flight has one while commits wait for syncs. With two of them both computed, and
// whoever the disk had answered waited for some milliseconds until one was taken from them: one of a hundred durable puts did.
const flightProcessors = 2

// flightPages is how many pages set off at least. The leaf that is being filled flies too, and has to move for the next operation: with a
// page at a time each operation copied, hashed and wrote one.
const flightPages = 8

// flightSize is how many bytes set off at once: with a small MemoryLimit less than flightBytes.
func (p *pager) flightSize() int64 {
	return max(min(flightBytes, p.most/4), flightPages*int64(p.db.pageSize))
}

// launch sends off the own leaves and runs, once those before have landed.
func (p *pager) launch() error {
	if err := p.land(); err != nil {
		return err
	}
	p.fresh = 0
	fl := &p.flight
	for _, f := range p.own {
		if f.buf != nil && (f.run || page.LevelOf(f.buf) == 0) {
			f.flying = true
			fl.frames = append(fl.frames, f)
			fl.out = append(fl.out, page.Out{ID: f.id, Buf: f.buf})
		}
	}
	if len(fl.frames) == 0 {
		return nil
	}
	if err := p.beforeSpill(); err != nil {
		p.ground()
		return err
	}
	p.spilled = true
	fl.early = p.appending
	if fl.done == nil {
		fl.done = make(chan error, 1)
	}
	if p.db.opts.alone || runtime.GOMAXPROCS(0) <= flightProcessors && p.db.committing() {
		fl.done <- p.fly()
		return nil
	}
	go func() { fl.done <- p.fly() }()
	return nil
}

// fly seals the pages and writes them, the entries of leaves in order: who reads every byte of a store goes forward through memory then, which is up to
// three times as fast. The frames stay as they are, since they may be read.
func (p *pager) fly() error {
	fl := &p.flight
	room := int(2 * p.flightSize()) // what was on the heap before the first flight may be far more, and goes as it is
	if cap(fl.ordered) < room {
		fl.ordered = make([]byte, 0, room)
	}
	fl.ordered = fl.ordered[:0]
	for i, f := range fl.frames {
		if f.run || len(fl.ordered)+p.db.pageSize > room || page.Leaf(f.buf).Ordered() {
			f.seal()
			continue
		}
		from := len(fl.ordered)
		fl.ordered = fl.ordered[:from+p.db.pageSize]
		buf := fl.ordered[from:]
		clear(buf)
		page.Leaf(f.buf).CompactInto(buf)
		page.Seal(buf)
		fl.out[i].Buf = buf
	}
	if err := p.db.data.WriteRuns(fl.out); err != nil || !fl.early {
		return err
	}
	if err := p.db.data.WriteOut(fl.out); err != nil {
		return p.db.poison(err) // nobody is told of it again
	}
	return nil
}

// land waits for the flight, if there is one, and drops its frames. After an error they stay.
func (p *pager) land() error {
	if len(p.flight.frames) == 0 {
		return nil
	}
	err := <-p.flight.done
	for _, f := range p.flight.frames {
		switch {
		case f.left:
			p.giveBack(f.id, len(f.buf)/p.db.pageSize)
			p.discard(f)
			f.buf = nil
		case err == nil:
			p.evict(f)
		}
	}
	p.own = slices.DeleteFunc(p.own, func(f *frame) bool { return f.buf == nil })
	p.ground()
	return err
}

// endFlights lands the last flight, sends none off from then on, and puts the leaves that stay on the heap in order, as those that have flown, but for those
// of which the user has slices.
func (p *pager) endFlights() error {
	p.sorted = false
	if err := p.land(); err != nil {
		return err
	}
	var ordered []byte
	for _, f := range p.own {
		if f.buf == nil || f.run || f.exposed || page.KindOf(f.buf) != page.KindLeaf || page.Leaf(f.buf).Ordered() {
			continue
		}
		if ordered == nil {
			ordered = p.db.buffers.get()
			defer p.db.buffers.put(ordered)
		}
		clear(ordered)
		page.Leaf(f.buf).CompactInto(ordered)
		copy(f.buf, ordered)
	}
	return nil
}

// ground ends the flight.
func (p *pager) ground() {
	fl := &p.flight
	for _, f := range fl.frames {
		f.flying = false
	}
	clear(fl.frames)
	clear(fl.out)
	fl.frames, fl.out = fl.frames[:0], fl.out[:0]
}
