package folio

import (
	"iter"
	"runtime/debug"

	"github.com/foliodb/folio/btree"
)

// Cursor moves through a bucket in key order. It keeps its place by key: after any change in its
// transaction Next gives the smallest key above the place, Prev the largest below.
// After Next or Prev has returned nil it stands on the last item it gave, as bbolt's does: behind a loop of Next to the end Prev gives the
// last item but one, and Delete removes the last. After a Seek that found nothing it stands at the key that was sought: Prev gives
// the item before that, and Delete does nothing. A cursor that was never placed gives nil.
// A nested bucket shows as its name with a nil value. Slices are valid and unchanged
// until the transaction ends.
type Cursor struct {
	b *Bucket
	c btree.Cursor
}

// Cursor returns a cursor over the bucket, not yet placed.
func (b *Bucket) Cursor() *Cursor {
	c := new(Cursor)
	c.init(b)
	return c
}

// init is Cursor without an allocation, which took as long as a short walk.
func (c *Cursor) init(b *Bucket) {
	b.use("Cursor")
	c.b = b
	c.c.Init(b.tree)
}

// Bucket returns the cursor's bucket.
func (c *Cursor) Bucket() *Bucket { return c.b }

// First goes to the first item and returns it; nil: the bucket is empty.
func (c *Cursor) First() (k, v []byte) { return c.jump(firstItem, nil) }

// Last goes to the last item and returns it; nil: the bucket is empty.
func (c *Cursor) Last() (k, v []byte) { return c.jump(lastItem, nil) }

// Seek goes to the first item whose key is not below key and returns it; nil: there is none.
func (c *Cursor) Seek(key []byte) (k, v []byte) { return c.jump(seekItem, key) }

// Next goes to the next item and returns it; nil: there is none.
func (c *Cursor) Next() (k, v []byte) {
	if !c.b.tx.done.Load() && (c.b.nesting == nil || !c.b.dead && !c.b.tx.behind() && !c.b.tx.lost) {
		if !c.b.tx.managed {
			if k, v, done := c.step(nextItem); done {
				return k, v
			}
		} else if k, v := c.c.Step(); k != nil {
			return k, v
		}
	}
	return c.jump(nextItem, nil)
}

// Prev goes to the previous item and returns it; nil: there is none.
func (c *Cursor) Prev() (k, v []byte) {
	if !c.b.tx.done.Load() && (c.b.nesting == nil || !c.b.dead && !c.b.tx.behind() && !c.b.tx.lost) {
		if !c.b.tx.managed {
			if k, v, done := c.step(prevItem); done {
				return k, v
			}
		} else if k, v := c.c.StepBack(); k != nil {
			return k, v
		}
	}
	return c.jump(prevItem, nil)
}

// step is Step or StepBack with a guard: a page that was touched before can be gone from memory again, and not come back from a disk that fails, or from a
// file that was cut. done: that is what Next or Prev returns.
func (c *Cursor) step(m move) (k, v []byte, done bool) {
	defer c.b.tx.catch(debug.SetPanicOnFault(true))
	done = true // of a fault too, which leaves the cursor where it was
	if m == nextItem {
		k, v = c.c.Step()
	} else {
		k, v = c.c.StepBack()
	}
	return k, v, k != nil
}

// move says where a cursor goes.
type move uint8

const (
	firstItem move = iota
	lastItem
	seekItem
	nextItem
	prevItem
)

func (m move) String() string {
	return [...]string{"Cursor.First", "Cursor.Last", "Cursor.Seek", "Cursor.Next", "Cursor.Prev"}[m]
}

// jump is any move that may touch a page for the first time.
func (c *Cursor) jump(m move, key []byte) (k, v []byte) {
	c.b.use(m.String())
	if c.b.tx.writing != nil && c.b.tx.lost {
		return nil, nil
	}
	if c.b.tx.managed {
		return c.move(m, key)
	}
	return c.guarded(m, key)
}

func (c *Cursor) guarded(m move, key []byte) (k, v []byte) {
	defer c.b.tx.catch(debug.SetPanicOnFault(true))
	return c.move(m, key)
}

func (c *Cursor) move(m move, key []byte) (k, v []byte) {
	var bucket bool
	var err error
	switch m {
	case firstItem:
		k, v, bucket, err = c.c.First()
	case lastItem:
		k, v, bucket, err = c.c.Last()
	case seekItem:
		k, v, bucket, err = c.c.Seek(key)
	case nextItem:
		k, v, bucket, err = c.c.Next()
	case prevItem:
		k, v, bucket, err = c.c.Prev()
	}
	if err != nil {
		c.b.tx.spoil(err)
		return nil, nil
	}
	if bucket {
		v = nil
	}
	return k, v
}

// Delete removes the item that the cursor stands on; if it is gone already, nothing happens. ErrIncompatibleValue when it is
// a nested bucket, ErrTxNotWritable. Next gives the item behind it then, and Prev the one before.
func (c *Cursor) Delete() error {
	if err := c.b.usable(); err != nil {
		return err
	}
	if c.b.tx.writing == nil {
		return ErrTxNotWritable
	}
	key := c.c.Key()
	if key == nil {
		return nil
	}
	return c.b.Delete(key)
}

// All iterates over the items in order. Like every iterator here it survives changes of the bucket as a cursor does, a
// nested bucket shows as its name with a nil value, and slices are valid until the transaction ends.
func (b *Bucket) All() iter.Seq2[[]byte, []byte] { return b.Range(nil, nil) }

// Backward iterates over the items from the last to the first.
func (b *Bucket) Backward() iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var c Cursor
		c.init(b)
		for k, v := c.Last(); k != nil && yield(k, v); k, v = c.Prev() {
		}
	}
}

// Range iterates over the items from the key from up to, and without, the key to; nil is no bound. The keys are looked at, and
// copied, when the iteration begins.
func (b *Bucket) Range(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var c Cursor
		c.init(b)
		var short [64]byte // so that most copies cost no allocation
		end := append(short[:0], to...)
		bounded := to != nil
		k, v := c.start(from)
		for ; k != nil && (!bounded || c.below(k, end)); k, v = c.Next() {
			if !yield(k, v) {
				return
			}
		}
	}
}

// below reports whether k, a key in the mapping, is below end. A fault is the transaction's error, and says no.
func (c *Cursor) below(k, end []byte) bool {
	if c.b.tx.managed {
		return string(k) < string(end)
	}
	return c.belowGuarded(k, end)
}

func (c *Cursor) belowGuarded(k, end []byte) bool {
	defer c.b.tx.catch(debug.SetPanicOnFault(true))
	return string(k) < string(end)
}

// start goes to the first item from the key from on; nil: to the first of all.
func (c *Cursor) start(from []byte) (k, v []byte) {
	if from == nil {
		return c.First()
	}
	return c.Seek(from)
}

// Prefix iterates over the items whose keys begin with p, which is looked at, and copied, when the iteration begins.
func (b *Bucket) Prefix(p []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) { b.Range(p, successor(p))(yield) }
}

// successor returns the smallest key above every key that begins with p; nil: there is none.
func successor(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] < 0xff {
			s := append([]byte(nil), p[:i+1]...)
			s[i]++
			return s
		}
	}
	return nil
}
