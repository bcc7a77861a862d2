package page

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/foliodb/folio/internal/vfs"
)

// viewOf returns a view of all pages, valid to the end of the test.
func viewOf(t testing.TB, f *File) *View {
	t.Helper()
	m := f.Map()
	t.Cleanup(m.Release)
	v := m.View(f.Pages())
	return &v
}

func wantCorrupt(t *testing.T, what string, err error, id ID, reason string) {
	t.Helper()
	var c *CorruptError
	if !errors.As(err, &c) || c.File != "app.db" || c.Page != id || !strings.Contains(c.Reason, reason) {
		t.Errorf("%s: %v; want damage of page %d in app.db with %q", what, err, id, reason)
	}
}

// A page is brought in by a system call and validated once; after that it is only looked at.
func TestPageIsValidatedOnce(t *testing.T) {
	f, fake := newTestFile(t, 8)
	must(t, f.Write(3, leafPage(3, 5)))
	v := viewOf(t, f)
	fake.take()
	p, err := v.Page(3)
	must(t, err)
	if len(p) != ps || cap(p) != ps || IDOf(p) != 3 {
		t.Errorf("page of %d bytes, capacity %d, id %d", len(p), cap(p), IDOf(p))
	}
	wantCalls(t, fake, "first touch", "willneed 32768@0", "populate 4096@12288")

	// Damage behind our back shows that nobody looks again.
	_, err = fake.File.WriteAt([]byte{0xff}, 3*ps+ps-1)
	must(t, err)
	again, err := v.Page(3)
	must(t, err)
	if &again[0] != &p[0] {
		t.Error("second touch returned another slice")
	}
	wantCalls(t, fake, "second touch")

	other := viewOf(t, f)
	_, err = other.Page(3)
	must(t, err)
	wantCalls(t, fake, "touch through another view")
}

// A mark says which page was validated, not which id: what is born under the id later is validated anew.
// Case D9 of RELIABILITY.md.
func TestMarkEndsWithRebirth(t *testing.T) {
	f, fake := newTestFile(t, 8)
	v := viewOf(t, f)
	must(t, f.Write(3, leafPage(3, 5)))
	_, err := v.Page(3)
	must(t, err)

	// Another process writes, so this one's marks are not taken back.
	reborn := leafPage(3, 6)
	_, err = fake.File.WriteAt(reborn, 3*ps)
	must(t, err)
	fake.take()
	_, err = v.Page(3)
	must(t, err)
	wantCalls(t, fake, "reborn", "willneed 4096@12288", "populate 4096@12288")

	reborn = leafPage(3, 7)
	reborn[ps-1] ^= 1
	_, err = fake.File.WriteAt(reborn, 3*ps)
	must(t, err)
	_, err = v.Page(3)
	wantCorrupt(t, "damaged when reborn", err, 3, "checksum")
	_, err = v.Page(3)
	wantCorrupt(t, "again", err, 3, "checksum")

	must(t, f.Write(3, leafPage(3, 8)))
	_, err = v.Page(3)
	must(t, err)
}

// What this process writes is not believed before it says so.
func TestTrust(t *testing.T) {
	f, fake := newTestFile(t, 8)
	v := viewOf(t, f)
	for _, born := range []TxID{5, 1<<31 + 5, 1<<32 + 6, 1 << 33} {
		must(t, f.Write(3, leafPage(3, born)))
		f.Trust(leafPage(3, born))
		fake.take()
		_, err := v.Page(3)
		must(t, err)
		wantCalls(t, fake, "trusted page")
	}

	must(t, f.Write(3, leafPage(3, 9)))
	f.Trust(leafPage(3, 9))
	must(t, f.Write(3, leafPage(4, 9))) // the wrong page, born alike
	_, err := v.Page(3)
	wantCorrupt(t, "written over after Trust", err, 3, "page 4")
}

func TestPageOutOfRange(t *testing.T) {
	f, _ := newTestFile(t, 8)
	v := viewOf(t, f)
	m := f.Map()
	defer m.Release()
	short := m.View(5)
	for _, id := range []ID{0, 1, 8, 9, 1 << 20, 1<<32 - 1} {
		_, err := v.Page(id)
		wantCorrupt(t, "page", err, id, "page number is not in 2 to 7")
		_, err = v.Run(Ref{ID: id}, 10)
		wantCorrupt(t, "run", err, id, "is not in pages 2 to 7")
	}
	_, err := short.Page(5)
	wantCorrupt(t, "page", err, 5, "page number is not in 2 to 4")
	var none View
	if _, err := none.Page(2); !errors.Is(err, ErrCorrupt) {
		t.Errorf("zero view: %v", err)
	}
	if _, err := none.Run(Ref{ID: 2}, 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("zero view: %v", err)
	}
	none.Prefetch([]ID{0, 16}, 1)
	none.Bring(16, 1)
	v.Prefetch([]ID{1<<32 - 1, 16}, GroupPages)
	v.Bring(1<<32-1, 1)
	if none.Here(0, 1) || v.Here(1<<32-1, 1) || none.Was(0) {
		t.Error("pages that do not exist are in memory")
	}
}

func TestRun(t *testing.T) {
	f, fake := newTestFile(t, 3000)
	v := viewOf(t, f)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, ps - 1, ps, ps + 1, 3*ps + 7, runSlice, runSlice + 5, 2*runSlice + 1} {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(rng.Uint32())
		}
		r := Ref{ID: 5, Born: 9, Sum: Sum(content)}
		must(t, f.WriteRun(5, content))
		got, err := v.Run(r, n)
		if err != nil || !bytes.Equal(got, content) || cap(got) != n {
			t.Fatalf("run of %d bytes: %v, capacity %d", n, err, cap(got))
		}
		fake.take()
		_, err = v.Run(r, n)
		must(t, err)
		wantCalls(t, fake, "second touch")

		// A reference that differs in anything is another run.
		wrong := []Ref{{5, 9, r.Sum ^ 1}, {5, 9, r.Sum ^ 1<<63}, {6, 9, r.Sum}}
		for _, w := range wrong {
			_, err := v.Run(w, n)
			wantCorrupt(t, "wrong reference", err, w.ID, "checksum of a run")
		}
		_, err = v.Run(r, n+1)
		wantCorrupt(t, "longer", err, 5, "checksum of a run")

		must(t, f.WriteRun(5, content))
		_, err = fake.File.WriteAt([]byte{content[n-1] ^ 0x10}, 5*ps+int64(n)-1)
		must(t, err)
		_, err = v.Run(r, n)
		wantCorrupt(t, "damaged in the last byte", err, 5, "checksum of a run")
		f.TrustRun(r, n)
		if _, err = v.Run(r, n); err != nil {
			t.Errorf("trusted: %v", err)
		}
	}
	_, err := v.Run(Ref{ID: 2990}, 10*ps+1)
	wantCorrupt(t, "over the end", err, 2990, "is not in pages")
	_, err = v.Run(Ref{ID: 2990}, -1)
	wantCorrupt(t, "negative length", err, 2990, "is not in pages")
	_, err = v.Run(Ref{ID: 2}, 1<<31-1)
	wantCorrupt(t, "huge", err, 2, "is not in pages")
	if b, err := v.Run(Ref{ID: 2, Sum: Sum(nil)}, 0); err != nil || len(b) != 0 {
		t.Errorf("empty run: %v", err)
	}
}

// A run may hold the image of a page, made by who knows the marks. It must not pass for a page.
func TestRunIsNoPage(t *testing.T) {
	f, _ := newTestFile(t, 8)
	v := viewOf(t, f)
	content := bytes.Repeat([]byte{0xff}, ps)
	for born := range TxID(300) {
		SetBorn(content, born)
		r := Ref{ID: 3, Born: born, Sum: Sum(content)}
		must(t, f.WriteRun(3, content))
		_, err := v.Run(r, ps)
		must(t, err)
		SetBorn(content, TxID(runMark(r, ps)>>1))
		_, err = f.f.WriteAt(content, 3*ps)
		must(t, err)
		if _, err := v.Page(3); err == nil {
			t.Fatalf("born %d: a run passed for a page", born)
		}
	}
}

// Marks survive the file's growth, for old views as well as for new ones.
func TestMarksAcrossGrowth(t *testing.T) {
	f, fake := newTestFile(t, 8, Reserve(8*ps))
	old := viewOf(t, f)
	must(t, f.Write(3, leafPage(3, 5)))
	must(t, f.Write(4, leafPage(4, 5)))
	_, err := old.Page(3)
	must(t, err)
	const far = 2<<chunkBits + 5
	must(t, f.Grow(far+1))
	must(t, f.Write(far, leafPage(far, 6)))
	v := viewOf(t, f)
	fake.take()
	_, err = v.Page(3)
	must(t, err)
	wantCalls(t, fake, "marked through the old view")
	_, err = v.Page(far)
	must(t, err)
	_, err = v.Page(4)
	must(t, err)
	fake.take()
	_, err = old.Page(4)
	must(t, err)
	wantCalls(t, fake, "marked through the new view")
	if n := len(*f.marks.dir.Load()); n != 4 { // 65536 pages are mapped
		t.Errorf("directory of %d chunks; want 4", n)
	}
	if c := (*f.marks.dir.Load())[1].Load(); c != &noMarks {
		t.Error("a chunk was made where no page was touched")
	}
	f.Trust(leafPage(1<<32-1, 5)) // beyond every directory: nothing happens
	for i := range noMarks.marks {
		if noMarks.marks[i].Load() != 0 {
			t.Fatal("the chunk of no marks was written to")
		}
	}
}

// Where the page cache has pages they are asked about sixteen at a time, and touched without a call for each. Where one of them is missing, each is brought in.
func TestWarmPagesAreAskedForTogether(t *testing.T) {
	f, fake := newTestFile(t, 64)
	fake.resident = true
	for id := ID(2); id < 64; id++ {
		must(t, f.Write(id, leafPage(id, 5)))
	}
	must(t, f.Write(0, make([]byte, ps)))
	must(t, f.Write(1, make([]byte, ps)))
	v := viewOf(t, f)
	fake.take()
	for _, id := range []ID{2, 15, 3, 40, 33} {
		p, err := v.Page(id)
		must(t, err)
		if IDOf(p) != id {
			t.Errorf("page %d: id %d", id, IDOf(p))
		}
	}
	if runtime.GOOS == "linux" {
		wantCalls(t, fake, "sixteen pages at a time", "resident 65536@0", "resident 65536@131072")
	}
	must(t, f.Grow(80)) // nothing has been written there
	must(t, f.Write(70, leafPage(70, 5)))
	must(t, f.Write(71, leafPage(71, 5)))
	v = viewOf(t, f)
	fake.take()
	for id := ID(70); id < 72; id++ {
		_, err := v.Page(id)
		must(t, err)
	}
	if runtime.GOOS == "linux" {
		wantCalls(t, fake, "not all are in memory", "resident 65536@262144", "resident 4096@286720", "resident 65536@262144", "resident 4096@290816")
	}
	bad := leafPage(5, 6)
	bad[ps-1] ^= 1
	_, err := fake.File.WriteAt(bad, 5*ps)
	must(t, err)
	_, err = v.Page(5)
	wantCorrupt(t, "damage in a page that is asked for by nobody", err, 5, "checksum")
}

// A view whose directory is older than a chunk of marks takes it over with the first page it reads there.
func TestOldViewFindsNewChunk(t *testing.T) {
	f, fake := newTestFile(t, 8, Reserve(8*ps))
	must(t, f.Write(3, leafPage(3, 5)))
	old := viewOf(t, f)
	must(t, f.Grow(2<<chunkBits))
	_, err := viewOf(t, f).Page(3)
	must(t, err)
	fake.take()
	_, err = old.Page(3)
	must(t, err)
	wantCalls(t, fake, "first", "willneed 4096@12288", "populate 4096@12288")
	_, err = old.Page(3)
	must(t, err)
	wantCalls(t, fake, "second")
}

// Ahead is a hint to the processor: it makes no call, whatever it is asked for, and touches no page.
func TestAhead(t *testing.T) {
	f, fake := newTestFile(t, 20)
	v := viewOf(t, f)
	fake.take()
	var none View
	for _, id := range []ID{0, 1, 2, 19, 20, 1 << 20, 1<<32 - 1} {
		v.Ahead(id)
		none.Ahead(id)
	}
	wantCalls(t, fake, "ahead")
	if v.Known(2) {
		t.Error("page 2 passes for one that was touched")
	}
}

// An unreadable page is an error where the system can tell, and else a fault that names the page.
func TestUnreadable(t *testing.T) {
	f, fake := newTestFile(t, 20*16)
	v := viewOf(t, f)
	must(t, fake.File.Truncate(10*16*ps)) // behind our back
	_, err := v.Page(300)
	if _, err := v.Run(Ref{ID: 159}, 2*ps); !errors.Is(err, vfs.ErrFault) {
		t.Skip("system has no call that says so:", err)
	}
	wantCorrupt(t, "page", err, 300, "cannot be read")
	if !errors.Is(err, vfs.ErrFault) {
		t.Errorf("cause is lost: %v", err)
	}

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	f.Trust(leafPage(301, 1))
	defer func() {
		fault, ok := recover().(interface{ Addr() uintptr })
		if !ok {
			t.Fatal("no fault")
		}
		if id, ok := v.m.Contains(fault.Addr()); !ok || id != 301 {
			t.Errorf("fault in page %d, %v; want 301", id, ok)
		}
	}()
	_, _ = v.Page(2) // brings the chunk of marks into the view
	_, _ = v.Page(301)
	sink = v.at(301)[16]
}

func TestContains(t *testing.T) {
	f, _ := newTestFile(t, 8, Reserve(16*ps))
	m := f.Map()
	defer m.Release()
	base := uintptr(unsafe.Pointer(unsafe.SliceData(m.mapping.Bytes())))
	for _, c := range []struct {
		addr uintptr
		id   ID
		ok   bool
	}{{base, 0, true}, {base + ps - 1, 0, true}, {base + 5*ps + 17, 5, true}, {base + 16*ps - 1, 15, true}, {base + 16*ps, 0, false}, {base - 1, 0, false}, {0, 0, false}} {
		if id, ok := m.Contains(c.addr); id != c.id || ok != c.ok {
			t.Errorf("address at %d: %d, %v", int64(c.addr)-int64(base), id, ok)
		}
	}
}

func TestReleaseTooOften(t *testing.T) {
	f, _ := newTestFile(t, 4)
	m := f.Map()
	must(t, f.Close())
	m.Release()
	if m.tryRetain() {
		t.Error("a mapping that is gone was retained")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	m.Release()
}

// Readers, a writer that publishes pages, and a file that outgrows its mappings, at once. Run it with -race.
func TestReadersBesideGrowth(t *testing.T) {
	f, _ := newTestFile(t, 4, Reserve(4*ps))
	must(t, f.Write(2, leafPage(2, 1)))
	must(t, f.Write(3, leafPage(3, 1)))
	var shown atomic.Uint32 // pages below may be read
	shown.Store(4)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			for shown.Load() < 2000 {
				count := ID(shown.Load())
				m := f.Map()
				v := m.View(count)
				for range 20 {
					id := FirstID + ID(rng.Uint32N(uint32(count-FirstID)))
					if p, err := v.Page(id); err != nil || IDOf(p) != id {
						t.Errorf("page %d of %d: %v", id, count, err)
					}
				}
				m.Release()
			}
		})
	}
	for id := ID(4); id < 2000; id++ {
		must(t, f.Grow(id+1))
		must(t, f.WriteRuns([]Out{{id, leafPage(id, 1)}}))
		if id%3 == 0 {
			f.Trust(leafPage(id, 1))
		}
		if id%500 == 0 {
			must(t, f.Sync(nil))
		}
		shown.Store(uint32(id) + 1)
	}
	wg.Wait()
}

// Pages smaller than those of the system, and larger ones.
func TestPageSizes(t *testing.T) {
	for size := MinPageSize; size <= MaxPageSize; size *= 2 {
		fake := newFakeFile(t)
		f, err := NewFile(fake, size)
		must(t, err)
		must(t, f.Grow(7))
		for id := FirstID; id < 7; id++ {
			p := make([]byte, size)
			InitLeaf(p, id, 3)
			Seal(p)
			must(t, f.Write(id, p))
		}
		v := viewOf(t, f)
		for id := FirstID; id < 7; id++ {
			for range 2 {
				if p, err := v.Page(id); err != nil || len(p) != size || cap(p) != size || IDOf(p) != id {
					t.Errorf("size %d, page %d: %v", size, id, err)
				}
			}
		}
		must(t, f.Sync(nil))
		must(t, f.Close())
	}
}

func TestDirty(t *testing.T) {
	type span struct{ off, n int64 }
	const s, piece = 1 << segmentBits, 1 << pieceBits
	for _, c := range []struct{ add, want []span }{
		{nil, nil},
		{[]span{{0, 1}}, []span{{0, s}}},
		{[]span{{s - 1, 2}}, []span{{0, 2 * s}}},
		{[]span{{s - 1, 1}, {2 * s, 1}}, []span{{0, s}, {2 * s, s}}},
		{[]span{{0, 9 * s}}, []span{{0, 4 * s}, {4 * s, 4 * s}, {8 * s, s}}},
		{[]span{{63 * s, 2 * s}, {200 * s, 1}}, []span{{63 * s, 2 * s}, {200 * s, s}}},
	} {
		var d dirty
		for _, a := range c.add {
			d.add(a.off, a.n)
		}
		var got, pieces []span
		w := d.take()
		for off, n := range w.slices() {
			got = append(got, span{off, n})
			for off, n := range w.within(off, n) {
				pieces = append(pieces, span{off, n})
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v; want %v", c.add, got, c.want)
		}
		want := 0
		for _, a := range c.add {
			for off := a.off; off < a.off+a.n; off = (off/piece + 1) * piece {
				n := min((off/piece+1)*piece, a.off+a.n) - off
				if at := off / piece * piece; want == len(pieces) || pieces[want] != (span{at, n}) {
					t.Fatalf("%v: pieces %v; want %d bytes at %d as number %d", c.add, pieces, n, at, want)
				}
				want++
			}
		}
		if want != len(pieces) {
			t.Errorf("%v: pieces %v; want %d", c.add, pieces, want)
		}
		for range d.take().slices() {
			t.Error("taken twice")
		}
	}
}

// What is written twice is not counted twice, as far as it matters: a piece holds no more than it is long.
func TestDirtyPieceIsFull(t *testing.T) {
	var d dirty
	for range 3 {
		d.add(1<<pieceBits, 1<<pieceBits-1)
	}
	for off, n := range d.take().within(0, 1<<segmentBits) {
		if off != 1<<pieceBits || n != 1<<pieceBits {
			t.Errorf("%d bytes at %d", n, off)
		}
	}
}

func TestPageDoesNotAllocate(t *testing.T) {
	f, _ := newTestFile(t, 8)
	must(t, f.Write(3, leafPage(3, 5)))
	must(t, f.WriteRun(4, []byte("content")))
	r := Ref{ID: 4, Born: 5, Sum: Sum([]byte("content"))}
	v := viewOf(t, f)
	if n := testing.AllocsPerRun(100, func() {
		_, err := v.Page(3)
		must(t, err)
		_, err = v.Run(r, 7)
		must(t, err)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
