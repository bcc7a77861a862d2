package btree

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// publish writes everything to a file and returns a view of it.
func (m *memory) publish(tb testing.TB) page.View {
	tb.Helper()
	return m.publishOn(tb, func(f vfs.File) vfs.File { return f })
}

// publishOn is publish with something between the pages and the file.
func (m *memory) publishOn(tb testing.TB, between func(vfs.File) vfs.File) page.View {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "tree.db")
	raw, err := vfs.OS.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := page.NewFile(between(raw), m.ps, page.Reserve(64<<20))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Close()
		raw.Close()
	})
	end := page.FirstID
	for id := range m.pages {
		end = max(end, id+1)
	}
	for id, r := range m.runs {
		end = max(end, id+page.ID(page.RunPages(uint64(len(r.data)), m.ps)))
	}
	if err := f.Grow(end); err != nil {
		tb.Fatal(err)
	}
	for id, p := range m.pages {
		if err := f.Write(id, p.buf); err != nil {
			tb.Fatal(err)
		}
	}
	for id, r := range m.runs {
		if err := f.WriteRun(id, r.data); err != nil {
			tb.Fatal(err)
		}
	}
	held := f.Map()
	tb.Cleanup(held.Release)
	return held.View(end)
}

// numbered is key i of a load in key order.
func numbered(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// TestReadsDoNotAllocate: a Get and a step of a cursor are made of nothing but the mapping's bytes.
func TestReadsDoNotAllocate(t *testing.T) {
	m := newMemory(4096)
	var tree Tree
	tree.Init(page.BucketHeader{}, nil, nil, m)
	for i := range 20000 {
		if _, err := tree.Put(numbered(i*7919%20000), make([]byte, 100), false); err != nil {
			t.Fatal(err)
		}
	}
	if h := tree.Header(); h.Level < 2 {
		t.Fatalf("tree of level %d", h.Level)
	}
	m.commit()
	m.verify(t, &tree)
	v := m.publish(t)
	tree.Init(tree.Header(), nil, &v, nil)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		var key [8]byte
		binary.BigEndian.PutUint64(key[:], uint64(i%20000))
		i += 37
		if _, _, found, err := tree.Get(key[:]); !found || err != nil {
			t.Fatal(found, err)
		}
		if n, err := tree.Rank(key[:]); n != binary.BigEndian.Uint64(key[:]) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a Get and a Rank", n)
	}
	var c Cursor
	c.Init(&tree)
	if _, _, _, err := c.First(); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(5000, func() {
		if k, _, _, err := c.Next(); k == nil || err != nil {
			t.Fatal(k, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a Next", n)
	}
	var key [8]byte
	if n := testing.AllocsPerRun(1000, func() {
		i += 37
		binary.BigEndian.PutUint64(key[:], uint64(i%20000))
		if k, _, _, err := c.Seek(key[:]); k == nil || err != nil {
			t.Fatal(k, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a Seek", n)
	}
}

// TestGetChecksRelations: every step down a mapping makes sure that the page is where it belongs.
func TestGetChecksRelations(t *testing.T) {
	for name, damage := range map[string]func(leaf, root []byte){
		"level": func(leaf, root []byte) { page.Branch(root).SetChild(0, page.IDOf(leaf)) },
		"born":  func(leaf, root []byte) { page.SetBorn(leaf, 5) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(4096)
			add := func(build func(id page.ID, p []byte)) []byte {
				id, p, _ := m.Alloc()
				build(id, p)
				return p
			}
			leaf := add(func(id page.ID, p []byte) {
				page.InitLeaf(p, id, 1).Insert(0, page.Entry{Key: []byte("k"), KeyLen: 1, Value: []byte("v"), ValLen: 1})
			})
			lower := add(func(id page.ID, p []byte) {
				page.InitBranch(p, id, 1, 1).Insert(0, page.Sep{}, page.IDOf(leaf), 1, false)
			})
			root := add(func(id page.ID, p []byte) {
				page.InitBranch(p, id, 1, 2).Insert(0, page.Sep{}, page.IDOf(lower), 1, false)
			})
			read := func() error {
				for _, p := range [][]byte{leaf, lower, root} {
					page.Seal(p)
				}
				v := m.publish(t)
				var tree Tree
				tree.Init(page.BucketHeader{Items: 1, Root: page.IDOf(root), Level: 2}, nil, &v, nil)
				_, _, _, err := tree.Get([]byte("k"))
				return err
			}
			if err := read(); err != nil {
				t.Fatal(err)
			}
			damage(leaf, root)
			if err := read(); !errors.Is(err, page.ErrCorrupt) || !strings.Contains(err.Error(), ": "+name+" ") {
				t.Errorf("a wrong %s gives %v", name, err)
			}
		})
	}
}

// TestPutDoesNotAllocate: nor do puts, where no page is split, and the keys of callers may live on the stack.
func TestPutDoesNotAllocate(t *testing.T) {
	h, tree := benchTree(t, 4096, 20000)
	h.spare = append(h.spare, make([]byte, h.ps), make([]byte, h.ps)) // for compaction
	i, value := uint64(0), make([]byte, 150)
	if n := testing.AllocsPerRun(1000, func() {
		var key [24]byte
		i += 37
		mixed(key[:], i%20000)
		if added, err := tree.Put(key[:], value, false); added || err != nil {
			t.Fatal(added, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a Put", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		var key [24]byte
		i += 37
		mixed(key[:], i%20000)
		if _, err := tree.Delete(key[:], false); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a Delete", n)
	}
}
