package freelist

import (
	"iter"

	"github.com/foliodb/folio/page"
)

// life is a run of dead pages that is kept.
type life struct {
	id, n      page.ID
	born, died page.TxID
}

// pile is a bag of lives. It grows by blocks, since with one slice that is copied as it grows
// the copying took most of a commit's time; and blocks can be used again, while a slice that
// once was long is no use to the small piles that come and go with each published snapshot.
type pile struct {
	top   *block
	pages uint64 // of all lives
}

type block struct {
	next  *block
	n     int
	lives [170]life // 4 KiB in all
}

// blockPool keeps blocks for reuse, but not the many that are left when a long-lived pin
// goes.
type blockPool struct {
	top *block
	n   int
}

const maxPooledBlocks = 256

func (p *blockPool) get() *block {
	b := p.top
	if b == nil {
		return new(block)
	}
	p.top, b.next = b.next, nil
	p.n--
	return b
}

func (p *blockPool) put(b *block) {
	if p.n < maxPooledBlocks {
		b.n, b.next = 0, p.top
		p.top = b
		p.n++
	}
}

// push adds a life.
func (l *pile) push(p *blockPool, f life) {
	if l.top == nil || l.top.n == len(l.top.lives) {
		b := p.get()
		b.next = l.top
		l.top = b
	}
	l.top.lives[l.top.n] = f
	l.top.n++
	l.pages += uint64(f.n)
}

// empty calls fn for each life, and leaves the pile with none. fn may push to other piles.
func (l *pile) empty(p *blockPool, fn func(life)) {
	for b := l.top; b != nil; {
		for _, f := range b.lives[:b.n] {
			fn(f)
		}
		next := b.next
		p.put(b)
		b = next
	}
	*l = pile{}
}

// all iterates over the lives, in no order that matters.
func (l *pile) all() iter.Seq[life] {
	return func(yield func(life) bool) {
		for b := l.top; b != nil; b = b.next {
			for _, f := range b.lives[:b.n] {
				if !yield(f) {
					return
				}
			}
		}
	}
}
