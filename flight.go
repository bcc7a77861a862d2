package folio

import (
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
	frames []*frame
	out    []page.Out
	done   chan error
}

// flightBytes is how much sets off at once: enough that pages side by side go into one call, and so little that they are still in the
// processor's cache.
const flightBytes = 1 << 20

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
	if fl.done == nil {
		fl.done = make(chan error, 1)
	}
	if p.db.opts.alone {
		fl.done <- p.fly()
		return nil
	}
	go func() { fl.done <- p.fly() }()
	return nil
}

// fly seals the pages and writes them.
func (p *pager) fly() error {
	for _, f := range p.flight.frames {
		f.seal()
	}
	return p.db.data.WriteRuns(p.flight.out)
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
