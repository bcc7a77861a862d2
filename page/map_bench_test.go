package page

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// benchView returns a view of n sealed leaves, all marked.
func benchView(b *testing.B, n ID) View {
	f, err := vfs.OS.Open(filepath.Join(b.TempDir(), "bench.db"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	d, err := NewFile(f, 4096)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	if err := d.Grow(n); err != nil {
		b.Fatal(err)
	}
	for id := FirstID; id < n; id++ {
		p := make([]byte, 4096)
		InitLeaf(p, id, TxID(id))
		Seal(p)
		if err := d.Write(id, p); err != nil {
			b.Fatal(err)
		}
		d.Trust(p)
	}
	m := d.Map()
	b.Cleanup(m.Release)
	return m.View(n)
}

var sink byte

// BenchmarkPageHot reads a few pages that stay in the processor's caches.
func BenchmarkPageHot(b *testing.B) {
	v := benchView(b, 64)
	var sum byte
	for i := 0; b.Loop(); i++ {
		p, err := v.Page(FirstID + ID(i)&31)
		if err != nil {
			b.Fatal(err)
		}
		sum += p[offKind]
	}
	sink = sum
}

// BenchmarkPageChase reads pages in an order in which each depends on the one before, as a descent does, from more of them
// than the caches hold.
func BenchmarkPageChase(b *testing.B) {
	const n = 1 << 15
	v := benchView(b, n)
	next := rand.New(rand.NewPCG(1, 2)).Perm(n)
	id := FirstID
	for b.Loop() {
		p, err := v.Page(id)
		if err != nil {
			b.Fatal(err)
		}
		id = max(FirstID, ID(next[IDOf(p)]))
	}
}
