package btree

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// publish writes everything to a file and returns a view of it.
func (m *memory) publish(tb testing.TB) page.View {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "tree.db")
	raw, err := vfs.OS.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := page.NewFile(raw, m.ps, page.Reserve(64<<20))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Close()
		raw.Close()
	})
	if err := f.Grow(m.next); err != nil {
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
	return held.View(m.next)
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
