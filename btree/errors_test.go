package btree

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/foliodb/folio/page"
)

var errInjected = errors.New("injected")

// failing is a memory of which one call fails.
type failing struct {
	*memory
	left int // calls up to the one that fails
}

func (f *failing) fails() bool {
	f.left--
	return f.left == 0
}

func (f *failing) Page(id page.ID) ([]byte, error) {
	if f.fails() {
		return nil, errInjected
	}
	return f.memory.Page(id)
}

func (f *failing) Run(r page.Ref, n int) ([]byte, error) {
	if f.fails() {
		return nil, errInjected
	}
	return f.memory.Run(r, n)
}

func (f *failing) Touch(id page.ID) (page.ID, []byte, error) {
	if f.fails() {
		return 0, nil, errInjected
	}
	return f.memory.Touch(id)
}

func (f *failing) Alloc() (page.ID, []byte, error) {
	if f.fails() {
		return 0, nil, errInjected
	}
	return f.memory.Alloc()
}

func (f *failing) Renew(id page.ID) (old, fresh []byte, err error) {
	if f.fails() {
		return nil, nil, errInjected
	}
	return f.memory.Renew(id)
}

func (f *failing) PutRun(parts ...[]byte) (page.Ref, error) {
	if f.fails() {
		return page.Ref{}, errInjected
	}
	return f.memory.PutRun(parts...)
}

// copy returns a memory with the same pages. Numbers of new ones are far from those that damage may name: a page that names
// itself cannot be told from a good one before it has that number.
func (m *memory) copy() *memory {
	c := newMemory(m.ps)
	c.tx, c.next, c.strict = m.tx, 1<<28, false
	for id, p := range m.pages {
		c.pages[id] = &memPage{buf: bytes.Clone(p.buf), born: p.born, sum: p.sum}
	}
	for id, r := range m.runs {
		c.runs[id] = &memRun{data: bytes.Clone(r.data), born: r.born, sum: r.sum}
	}
	return c
}

// TestErrorsAreReported lets every call of the Writer fail once, in operations of all kinds. The operation has to return that
// error, whatever is left of the tree.
func TestErrorsAreReported(t *testing.T) {
	base, tree := victim(t)
	h := tree.Header()
	keys := allKeys(tree)
	all := func(f func(t *Tree, key []byte) error) func(t *Tree) error {
		return func(t *Tree) error {
			for _, k := range keys {
				if err := f(t, k); err != nil && err != ErrKind {
					return err
				}
			}
			return nil
		}
	}
	scan := func(start, move func(c *Cursor) ([]byte, []byte, bool, error)) func(t *Tree) error {
		return func(t *Tree) error {
			var c Cursor
			c.Init(t)
			k, _, _, err := start(&c)
			for ; k != nil && err == nil; k, _, _, err = move(&c) {
			}
			return err
		}
	}
	for name, op := range map[string]func(t *Tree) error{
		"get":  all(func(t *Tree, k []byte) error { _, _, _, err := t.Get(k); return err }),
		"grow": all(func(t *Tree, k []byte) error { _, err := t.Put(k, make([]byte, 1200), false); return err }),
		"put": all(func(t *Tree, k []byte) error {
			_, err := t.Put(append(bytes.Clone(k), k...), make([]byte, 300), false)
			return err
		}),
		"delete": all(func(t *Tree, k []byte) error { _, err := t.Delete(k, false); return err }),
		"put ahead": func(t *Tree) error {
			var batch []Change
			for _, k := range keys {
				batch = append(batch, Change{Key: append(bytes.Clone(k), 1), Value: make([]byte, 300)}, Change{Key: append(bytes.Clone(k), 2), Value: make([]byte, 300)})
			}
			for i := 0; i < len(batch); i++ {
				done, err := t.PutAhead(batch[i].Key, batch[i].Value, batch[i+1:])
				if err != nil {
					return err
				}
				i += done
			}
			return nil
		},
		"delete from the end": func(t *Tree) error {
			for i := range keys {
				if _, err := t.Delete(keys[len(keys)-1-i], false); err != nil && err != ErrKind {
					return err
				}
			}
			return nil
		},
		"range": func(t *Tree) error {
			_, err := t.DeleteRange(keys[20], keys[200], func(_, _ []byte) error { return nil })
			return err
		},
		"narrow range": func(t *Tree) error {
			_, err := t.DeleteRange(keys[20], keys[24], func(_, _ []byte) error { return nil })
			return err
		},
		"relocate": func(t *Tree) error { return t.Relocate(&Relocation{Moves: 1000, Visits: 1000}) },
		"drop":     func(t *Tree) error { return t.Drop(func(_, _ []byte) error { return nil }) },
		"next":     scan((*Cursor).First, (*Cursor).Next),
		"prev":     scan((*Cursor).Last, (*Cursor).Prev),
		"seek":     all(func(t *Tree, k []byte) error { var c Cursor; c.Init(t); _, _, _, err := c.Seek(k); return err }),
		"rank":     all(func(t *Tree, k []byte) error { _, err := t.Rank(k); return err }),
		"count":    func(t *Tree) error { _, err := t.Count(keys[3], keys[100]); return err },
		"at":       func(t *Tree) error { _, _, _, _, err := t.At(7); return err },
		"inline": func(t *Tree) error {
			if _, err := t.DeleteRange(keys[2], nil, nil); err != nil {
				return err
			}
			_, _, err := t.Inline(nil)
			return err
		},
		"check": func(t *Tree) (err error) {
			t.Check(Checker{Found: func(e *page.CorruptError) {
				if errors.Is(e, errInjected) {
					err = errInjected
				}
			}})
			return err
		},
		"dump": func(t *Tree) error {
			var b bytes.Buffer
			err := t.Dump(io.Writer(&b), true)
			if bytes.Contains(b.Bytes(), []byte(errInjected.Error())) {
				err = errInjected
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n += 1 + n/50 {
				f := &failing{base.copy(), n}
				var tree Tree
				tree.Init(h, nil, nil, f)
				err := op(&tree)
				if f.left > 0 {
					if err != nil {
						t.Fatalf("without a failing call: %v", err)
					}
					break
				}
				if !errors.Is(err, errInjected) {
					t.Fatalf("call %d failed, and the operation returned %v", n, err)
				}
			}
		})
	}
}
