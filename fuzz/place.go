package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/foliodb/folio"
)

// A place is a cursor with its model, which keeps a place by key.
type place struct {
	c     *folio.Cursor
	m     *bucket
	stand stand
	key   string // where it stands, when it does
}

// A stand tells where a cursor is.
type stand int

const (
	nowhere  stand = iota // never placed: Next and Prev give nothing
	onKey                 // on a key, which may have been deleted since
	anywhere              // a search found nothing, after which the place is open
)

// A pull is an iterator that is read while other ops run.
type pull struct {
	m        *bucket
	next     func() ([]byte, []byte, bool)
	stop     func()
	from, to []byte // bounds
	backward bool
	last     []byte // last key given
	done     bool
}

// applyToPlace runs the ops of cursors and iterators.
func (t *txn) applyToPlace(o op) error {
	switch o.kind {
	case kCursor, kIter:
		b, m, err := t.bucket(o.b)
		if err != nil || b == nil || m.dead {
			return err
		}
		if o.kind == kCursor {
			t.cursors[o.n] = &place{c: b.Cursor(), m: m}
			return nil
		}
		t.openIter(o, b, m)
		return nil
	case kPull:
		if it := t.iters[o.n]; it != nil {
			return t.pull(it)
		}
		return nil
	}
	p := t.cursors[o.n]
	if p == nil {
		return nil
	}
	if p.m.dead {
		return deadCursor(p.c)
	}
	if o.kind == kCursorDelete {
		return t.cursorDelete(p)
	}
	return t.moveCursor(o, p)
}

// deadCursor uses the cursor of a deleted bucket: it gives nothing, or panics
// with a text of the store's own.
func deadCursor(c *folio.Cursor) (err error) {
	defer func() {
		if r, ok := recover().(runtime.Error); ok {
			err = fmt.Errorf("cursor of a deleted bucket: %w", r)
		}
	}()
	if k, _ := c.First(); k != nil {
		return fmt.Errorf("cursor of a deleted bucket gave key %s", quote(k))
	}
	return nil
}

func (t *txn) moveCursor(o op, p *place) error {
	var k, v []byte
	want := -1
	switch o.kind {
	case kFirst:
		k, v = p.c.First()
		want = 0
	case kLast:
		k, v = p.c.Last()
		want = len(p.m.items) - 1
	case kSeek:
		k, v = p.c.Seek(o.k)
		want = p.m.rank(o.k)
	case kNext:
		k, v = p.c.Next()
		want = p.m.above([]byte(p.key))
	case kPrev:
		k, v = p.c.Prev()
		want = p.m.rank([]byte(p.key)) - 1
	}
	t.keep(k, "a cursor")
	t.keep(v, "a cursor")
	if o.kind == kNext || o.kind == kPrev {
		switch p.stand {
		case nowhere:
			return sameItem(k, v, nil)
		case anywhere:
			return p.adopt(k, v)
		}
	}
	if want < 0 || want >= len(p.m.items) {
		if o.kind != kNext && o.kind != kPrev {
			p.stand = anywhere
		}
		return sameItem(k, v, nil)
	}
	p.stand, p.key = onKey, p.m.items[want].key
	return sameItem(k, v, &p.m.items[want])
}

// adopt accepts whatever item a cursor gave, if it is one.
func (p *place) adopt(k, v []byte) error {
	if k == nil {
		return sameItem(k, v, nil)
	}
	it := p.m.find(k)
	if it == nil {
		return fmt.Errorf("key %s, which is not there", quote(k))
	}
	p.stand, p.key = onKey, it.key
	return sameItem(k, v, it)
}

func (t *txn) cursorDelete(p *place) error {
	if p.stand == anywhere {
		return nil
	}
	err := p.c.Delete()
	switch it := p.m.find([]byte(p.key)); {
	case !t.writable:
		if !errors.Is(err, folio.ErrTxNotWritable) {
			return fmt.Errorf("error %v, want %v", err, folio.ErrTxNotWritable)
		}
	case p.stand == nowhere || it == nil: // whether that is an error is open
	case it.bucket:
		return wantError(err, []error{folio.ErrIncompatibleValue})
	default:
		return t.did(err, nil, func() {
			i := p.m.rank([]byte(p.key))
			p.m.cut(i, i+1)
		})
	}
	return nil
}

func (t *txn) openIter(o op, b *folio.Bucket, m *bucket) {
	slot := max(o.n, -o.n)
	if old := t.iters[slot]; old != nil {
		old.stop()
	}
	it := &pull{m: m, from: bytes.Clone(o.k), to: bytes.Clone(o.l), backward: o.n < 0}
	seq := b.Range(it.from, it.to)
	if it.backward {
		it.from, it.to = nil, nil
		seq = b.Backward()
	}
	it.next, it.stop = iter.Pull2(seq)
	t.iters[slot] = it
}

// pull takes the next item of an iterator, which keeps its place by key as a
// cursor does, and is over once it has ended.
func (t *txn) pull(it *pull) error {
	if it.m.dead {
		it.stop()
		it.done = true
		return nil
	}
	k, v, ok := it.next()
	want := it.expect()
	if it.done || want == nil {
		it.done = true
		if ok {
			return fmt.Errorf("key %s behind the end", quote(k))
		}
		return nil
	}
	t.keep(k, "an iterator")
	t.keep(v, "an iterator")
	it.last = []byte(want.key)
	return sameItem(k, v, want)
}

// expect returns the item that the iterator gives next, nil for the end.
func (it *pull) expect() *item {
	lo, hi := it.m.span(it.from, it.to)
	if it.last != nil {
		if it.backward {
			hi = it.m.rank(it.last)
		} else {
			lo = it.m.above(it.last)
		}
	}
	if lo >= hi {
		return nil
	}
	if it.backward {
		return &it.m.items[hi-1]
	}
	return &it.m.items[lo]
}
