package btree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/foliodb/folio/page"
)

var benchItems = flag.Int("items", 200_000, "items in the trees of the benchmarks")

// heap is a Writer that is as fast as one can be: every page lies on the heap for ever. Pages of earlier transactions are
// copied when they are touched.
type heap struct {
	ps    int
	tx    page.TxID
	pages [][]byte // by id; nil: none
	free  []page.ID
	spare [][]byte
}

func newHeap(pageSize int) *heap {
	return &heap{ps: pageSize, tx: 1, pages: make([][]byte, page.FirstID)}
}

var errNoPage = errors.New("no such page")

func (h *heap) Page(id page.ID) ([]byte, error) {
	if int(id) >= len(h.pages) || h.pages[id] == nil {
		return nil, errNoPage
	}
	return h.pages[id], nil
}

func (h *heap) TxID() page.TxID { return h.tx }

func (h *heap) buffer() []byte {
	if n := len(h.spare); n > 0 {
		b := h.spare[n-1]
		h.spare = h.spare[:n-1]
		return b
	}
	return make([]byte, h.ps)
}

func (h *heap) add(b []byte) page.ID {
	if n := len(h.free); n > 0 {
		id := h.free[n-1]
		h.free = h.free[:n-1]
		h.pages[id] = b
		return id
	}
	h.pages = append(h.pages, b)
	return page.ID(len(h.pages) - 1)
}

func (h *heap) Touch(id page.ID) (page.ID, []byte, error) {
	p := h.pages[id]
	if page.BornOf(p) == h.tx {
		return id, p, nil
	}
	b := h.buffer()
	copy(b, p)
	to := h.add(b)
	page.SetID(b, to)
	page.SetBorn(b, h.tx)
	h.Free(id, 0)
	return to, b, nil
}

func (h *heap) Own(id page.ID) []byte {
	if p := h.pages[id]; p != nil && page.BornOf(p) == h.tx {
		return p
	}
	return nil
}

func (h *heap) Alloc() (page.ID, []byte, error) {
	b := h.buffer()
	return h.add(b), b, nil
}

func (h *heap) Renew(id page.ID) (old, fresh []byte, err error) {
	old, fresh = h.pages[id], h.buffer()
	h.pages[id] = fresh
	h.spare = append(h.spare, old)
	return old, fresh, nil
}

func (h *heap) Free(id page.ID, _ page.TxID) {
	h.spare = append(h.spare, h.pages[id])
	h.pages[id] = nil
	h.free = append(h.free, id)
}

func (h *heap) Expose(page.ID)                     {}
func (h *heap) FreeRun(page.Ref, int)              {}
func (h *heap) Run(page.Ref, int) ([]byte, error)  { return nil, errNoPage }
func (h *heap) PutRun(...[]byte) (page.Ref, error) { return page.Ref{}, errNoPage }

// leaves returns the number of leaves below a page, and the bytes that their entries take.
func (h *heap) leaves(id page.ID) (n, live int) {
	p := h.pages[id]
	if page.LevelOf(p) == 0 {
		return 1, page.Leaf(p).Live()
	}
	b := page.Branch(p)
	for i := range b.Count() {
		m, l := h.leaves(b.Child(i))
		n, live = n+m, live+l
	}
	return n, live
}

// mixed spreads 0, 1, 2 and so on over all keys of 24 bytes.
func mixed(key []byte, i uint64) {
	x := i*0x9E3779B97F4A7C15 + 1
	x ^= x >> 29
	binary.BigEndian.PutUint64(key, x*0xBF58476D1CE4E5B9)
	binary.BigEndian.PutUint64(key[8:], i)
	binary.BigEndian.PutUint64(key[16:], i)
}

// benchTree returns a tree of items of 24+150 bytes, and the heap that it lies in.
func benchTree(tb testing.TB, pageSize, n int) (*heap, *Tree) {
	h := newHeap(pageSize)
	t := new(Tree)
	t.Init(page.BucketHeader{}, nil, nil, h)
	key, value := make([]byte, 24), make([]byte, 150)
	for i := range n {
		mixed(key, uint64(i))
		if _, err := t.Put(key, value, false); err != nil {
			tb.Fatal(err)
		}
	}
	return h, t
}

// viewOf writes a tree to a file and returns it as one that is read through a view.
func viewOf(tb testing.TB, h *heap, t *Tree) *Tree {
	m := newMemory(h.ps)
	m.next = page.ID(len(h.pages))
	for id, p := range h.pages {
		if p != nil {
			page.Seal(p)
			m.pages[page.ID(id)] = &memPage{buf: p}
		}
	}
	v := m.publish(tb)
	read := new(Tree)
	read.Init(t.Header(), nil, &v, nil)
	return read
}

// TestFill asserts how full loads leave the leaves.
func TestFill(t *testing.T) {
	const n = 100_000
	for _, ps := range []int{4096, 8192, 65536} {
		for _, load := range []struct {
			name string
			at   func(i int) uint64
			most float64 // leaf bytes for a byte of payload
		}{
			{"ascending", func(i int) uint64 { return uint64(i) }, 1.08},
			{"descending", func(i int) uint64 { return uint64(n - i) }, 1.08},
			{"random", func(i int) uint64 { return rand.New(rand.NewPCG(uint64(i), 1)).Uint64() }, 1.5},
		} {
			t.Run(fmt.Sprint(load.name, ps), func(t *testing.T) {
				h := newHeap(ps)
				var tree Tree
				tree.Init(page.BucketHeader{}, nil, nil, h)
				key := make([]byte, 24)
				for i := range n {
					binary.BigEndian.PutUint64(key, load.at(i))
					if _, err := tree.Put(key, make([]byte, 150), false); err != nil {
						t.Fatal(err)
					}
				}
				leaves, live := h.leaves(tree.Header().Root)
				fill := float64(live) / float64(leaves*(ps-page.HeaderSize))
				ratio := float64(leaves*ps) / (n * 174)
				t.Logf("%d leaves, %.1f %% full, %.3f bytes for a byte of payload", leaves, 100*fill, ratio)
				if ratio > load.most {
					t.Errorf("%.3f bytes for a byte of payload", ratio)
				}
				if load.name != "random" && fill <= 0.9 {
					t.Errorf("%.1f %% full", 100*fill)
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	h, t := benchTree(b, 4096, *benchItems)
	v := viewOf(b, h, t)
	for name, t := range map[string]*Tree{"view": v, "writer": t} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			key := make([]byte, 24)
			r := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				mixed(key, r.Uint64N(uint64(*benchItems)))
				if value, _, found, err := t.Get(key); !found || err != nil || len(value) != 150 {
					b.Fatal(found, err)
				}
			}
		})
	}
	b.Run("absent", func(b *testing.B) {
		key := make([]byte, 24)
		r := rand.New(rand.NewPCG(1, 1))
		for b.Loop() {
			mixed(key, r.Uint64N(1<<40)+1<<40)
			if _, _, found, err := v.Get(key); found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}

func BenchmarkCursor(b *testing.B) {
	h, t := benchTree(b, 4096, *benchItems)
	v := viewOf(b, h, t)
	for name, move := range map[string]func(c *Cursor) ([]byte, []byte, bool, error){
		"next": (*Cursor).Next,
		"prev": (*Cursor).Prev,
	} {
		b.Run(name, func(b *testing.B) {
			var c Cursor
			c.Init(v)
			for b.Loop() {
				k, _, _, err := move(&c)
				if k == nil {
					if name == "next" {
						c.First()
					} else {
						c.Last()
					}
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("step", func(b *testing.B) {
		var c Cursor
		c.Init(v)
		for b.Loop() {
			if k, _ := c.Step(); k == nil {
				if k, _, _, _ := c.Next(); k == nil {
					c.First()
				}
			}
		}
	})
	b.Run("seek", func(b *testing.B) {
		var c Cursor
		c.Init(v)
		key := make([]byte, 24)
		r := rand.New(rand.NewPCG(1, 1))
		for b.Loop() {
			mixed(key, r.Uint64N(uint64(*benchItems)))
			if k, _, _, err := c.Seek(key); !bytes.Equal(k, key) || err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRank(b *testing.B) {
	h, t := benchTree(b, 4096, *benchItems)
	v := viewOf(b, h, t)
	r := rand.New(rand.NewPCG(1, 1))
	b.Run("rank", func(b *testing.B) {
		key := make([]byte, 24)
		for b.Loop() {
			mixed(key, r.Uint64N(uint64(*benchItems)))
			v.Rank(key)
		}
	})
	b.Run("at", func(b *testing.B) {
		for b.Loop() {
			v.At(r.Uint64N(uint64(*benchItems)))
		}
	})
}

// BenchmarkPut puts into a tree that is there; a new transaction, which copies the pages that it touches, begins with every
// thousand. An ascending load begins with nothing.
func BenchmarkPut(b *testing.B) {
	key, value := make([]byte, 24), make([]byte, 150)
	for _, order := range []string{"random", "replace", "ascending"} {
		b.Run(order, func(b *testing.B) {
			h, t := newHeap(4096), new(Tree)
			if order == "ascending" {
				t.Init(page.BucketHeader{}, nil, nil, h)
			} else {
				h, t = benchTree(b, 4096, *benchItems)
			}
			b.ReportAllocs()
			r := rand.New(rand.NewPCG(1, 1))
			i := 0
			for b.Loop() {
				switch order {
				case "random":
					mixed(key, uint64(*benchItems+i))
				case "replace":
					mixed(key, r.Uint64N(uint64(*benchItems)))
				default:
					binary.BigEndian.PutUint64(key, uint64(i))
				}
				if _, err := t.Put(key, value, false); err != nil {
					b.Fatal(err)
				}
				if i++; i%1000 == 0 {
					h.tx++
				}
			}
		})
	}
}

func BenchmarkDelete(b *testing.B) {
	h, t := benchTree(b, 4096, *benchItems)
	key := make([]byte, 24)
	i := 0
	for b.Loop() {
		if i == *benchItems {
			b.StopTimer()
			h, t = benchTree(b, 4096, *benchItems)
			i = 0
			b.StartTimer()
		}
		mixed(key, uint64(i))
		if found, err := t.Delete(key, false); !found || err != nil {
			b.Fatal(found, err)
		}
		if i++; i%1000 == 0 {
			h.tx++
		}
	}
}
