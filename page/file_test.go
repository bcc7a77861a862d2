package page

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// fakeFile is a real file that notes the calls that change it, and fails the ones it is told to.
type fakeFile struct {
	vfs.File
	mu       sync.Mutex
	calls    []string
	fail     func(call string) error
	maps     int  // open mappings
	resident bool // its mappings may say what is in memory
	late     int  // pages that are asked for by themselves are said to be missing so many times
	limit    int64
}

// note writes down a call with its arguments, and returns the error it is to have.
func (f *fakeFile) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, call)
	if f.fail != nil {
		return f.fail(call)
	}
	return nil
}

// take returns the calls since the last time, one a line.
func (f *fakeFile) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := strings.Join(f.calls, "\n")
	f.calls = nil
	return s
}

func (f *fakeFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.note("write %d@%d", len(p), off); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *fakeFile) WriteV(bufs [][]byte, off int64) error {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	if err := f.note("writev %d buffers %d@%d", len(bufs), n, off); err != nil {
		return err
	}
	return f.File.WriteV(bufs, off)
}

func (f *fakeFile) Window(int64, int64) (vfs.Window, error) { return vfs.PlainWindow(f), nil }

func (f *fakeFile) Allocate(off, n int64) error {
	err := f.note("allocate %d@%d", n, off)
	if err == nil && f.limit > 0 && off+n > f.limit {
		// As ext4 does: a part of it stays.
		_ = f.File.Allocate(off, f.limit-off)
		err = syscall.ENOSPC
	}
	if err != nil {
		return err
	}
	return f.File.Allocate(off, n)
}

func (f *fakeFile) Truncate(size int64) error {
	if err := f.note("truncate %d", size); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *fakeFile) Sync() error {
	if err := f.note("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *fakeFile) WriteOut(off, n int64, wait bool) error {
	if err := f.note("write out %d@%d, wait: %v", n, off, wait); err != nil {
		return err
	}
	return f.File.WriteOut(off, n, wait)
}

func (f *fakeFile) Map(length int64) (vfs.Mapping, error) {
	if err := f.note("map %d", length); err != nil {
		return nil, err
	}
	m, err := f.File.Map(length)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maps++
	return &fakeMapping{m, f}, nil
}

func (f *fakeFile) openMaps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.maps
}

type fakeMapping struct {
	vfs.Mapping
	f *fakeFile
}

func (m *fakeMapping) Extend(length int64) bool {
	return m.f.note("extend %d", length) == nil && m.Mapping.Extend(length)
}

func (m *fakeMapping) Sync(off, n int64) error {
	if err := m.f.note("msync %d@%d", n, off); err != nil {
		return err
	}
	return m.Mapping.Sync(off, n)
}

func (m *fakeMapping) Populate(off, n int64) error {
	if err := m.f.note("populate %d@%d", n, off); err != nil {
		return err
	}
	return m.Mapping.Populate(off, n)
}

func (m *fakeMapping) Resident(off, n int64) bool {
	if !m.f.resident {
		return false
	}
	m.f.note("resident %d@%d", n, off)
	if n == ps && m.f.late > 0 {
		m.f.late--
		return false
	}
	return m.Mapping.Resident(off, n)
}

// WillNeed does nothing, so that what is in memory afterwards does not hang on the disk.
func (m *fakeMapping) WillNeed(off, n int64) { m.f.note("willneed %d@%d", n, off) }

func (m *fakeMapping) Close() error {
	m.f.mu.Lock()
	m.f.maps--
	m.f.mu.Unlock()
	return m.Mapping.Close()
}

const ps = 4096 // page size of these tests; other sizes say so

func newFakeFile(t testing.TB) *fakeFile {
	t.Helper()
	f, err := vfs.OS.Open(filepath.Join(t.TempDir(), "app.db"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeFile{File: f}
	t.Cleanup(func() { f.Close() })
	return fake
}

// newTestFile returns a File of so many pages over a file whose calls are noted.
func newTestFile(t testing.TB, pages ID, opt ...Option) (*File, *fakeFile) {
	t.Helper()
	fake := newFakeFile(t)
	if err := fake.File.Allocate(0, max(int64(pages)*ps, 1)); err != nil {
		t.Fatal(err)
	}
	if err := fake.File.Truncate(int64(pages) * ps); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(fake, ps, opt...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if n := fake.openMaps(); n != 0 {
			t.Errorf("%d mappings are left after Close", n)
		}
	})
	fake.take()
	return f, fake
}

// leafPage returns an empty leaf, sealed.
func leafPage(id ID, born TxID) []byte {
	p := make([]byte, ps)
	InitLeaf(p, id, born)
	Seal(p)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mappedPages returns how many pages a view can have at most.
func mappedPages(f *File) ID {
	m := f.Map()
	defer m.Release()
	v := m.View(1<<32 - 1)
	return v.Count()
}

func wantCalls(t *testing.T, fake *fakeFile, what string, want ...string) {
	t.Helper()
	if got := fake.take(); got != strings.Join(want, "\n") {
		t.Errorf("%s: calls\n%s\nwant\n%s", what, got, strings.Join(want, "\n"))
	}
}

func TestNewFileRefusesPageSize(t *testing.T) {
	for _, n := range []int{0, -4096, 2048, 4095, 5000, 131072} {
		if _, err := NewFile(newFakeFile(t), n); err == nil {
			t.Errorf("page size %d: no error", n)
		}
	}
}

// A fresh store grows in small steps, a larger one by an eighth.
func TestGrowSteps(t *testing.T) {
	f, fake := newTestFile(t, 0)
	must(t, f.Grow(3))
	wantCalls(t, fake, "first", "allocate 65536@0")
	must(t, f.Grow(16))
	wantCalls(t, fake, "room is there")
	must(t, f.Grow(17))
	wantCalls(t, fake, "second", "allocate 65536@65536")
	must(t, f.Grow(1000))
	wantCalls(t, fake, "more than a step", fmt.Sprintf("allocate %d@131072", 1000*ps-131072))
	must(t, f.Grow(1001))
	wantCalls(t, fake, "an eighth", fmt.Sprintf("allocate %d@%d", 1000*ps/8, 1000*ps))
	if f.Pages() != 1125 {
		t.Errorf("%d pages; want 1125", f.Pages())
	}
}

func TestGrowStopsAheadAtMaxSize(t *testing.T) {
	f, fake := newTestFile(t, 0, MaxSize(10*ps))
	must(t, f.Grow(2))
	wantCalls(t, fake, "ahead to the limit", "allocate 40960@0")
	must(t, f.Grow(12))
	wantCalls(t, fake, "beyond it only what was asked for", "allocate 8192@40960")
}

// When the disk is full, exactly what is needed is tried; when that fails too, nothing has changed.
func TestGrowFullDisk(t *testing.T) {
	f, fake := newTestFile(t, 4)
	fake.limit = 10 * ps
	must(t, f.Grow(9))
	wantCalls(t, fake, "with room for the need", "allocate 65536@16384", "truncate 16384", "allocate 20480@16384")
	err := f.Grow(11)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("grow on a full disk: %v", err)
	}
	info, err := fake.Stat()
	must(t, err)
	if info.Size != 9*ps || f.Pages() != 9 {
		t.Errorf("after a failure: %d bytes, %d pages; want 9 pages", info.Size, f.Pages())
	}
	fake.limit = 0
	must(t, f.Grow(11))
	if f.Pages() < 11 {
		t.Errorf("%d pages once there is space", f.Pages())
	}
}

// When the address space is used up, less than the reservation is tried; when not even the file fits it, it is as long as
// it was.
func TestGrowNoAddressSpace(t *testing.T) {
	f, fake := newTestFile(t, 4, Reserve(4*ps))
	fake.fail = func(call string) error {
		var n int64
		if c, _ := fmt.Sscanf(call, "map %d", &n); c == 1 && n > 30*ps {
			return syscall.ENOMEM
		}
		if strings.HasPrefix(call, "extend") {
			return errors.New("no")
		}
		return nil
	}
	must(t, f.Grow(20))
	if n := mappedPages(f); n != 20 {
		t.Errorf("%d pages mapped; want 20", n)
	}
	if err := f.Grow(40); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("grow: %v", err)
	}
	if info, _ := fake.Stat(); f.Pages() != 20 || info.Size != 20*ps {
		t.Errorf("after a failure: %d pages, %d bytes", f.Pages(), info.Size)
	}
}

// A reader that holds an old mapping sees its pages, while the file outgrows one mapping after the other.
func TestGrowBesideReader(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		f, fake := newTestFile(t, 4, Reserve(8*ps))
		if !inPlace {
			fake.fail = func(call string) error {
				if strings.HasPrefix(call, "extend") {
					return errors.New("no")
				}
				return nil
			}
		}
		must(t, f.Write(2, leafPage(2, 5)))
		old := f.Map()
		view := old.View(4)
		held, err := view.Page(2)
		must(t, err)
		for n := ID(5); n < 3000; n += 100 {
			must(t, f.Grow(n))
			must(t, f.Write(n-1, leafPage(n-1, 6)))
			m := f.Map()
			v := m.View(n)
			if _, err := v.Page(n - 1); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Page(2); err != nil {
				t.Fatal(err)
			}
			m.Release()
		}
		if p, err := view.Page(2); err != nil || &p[0] != &held[0] || BornOf(held) != 5 {
			t.Errorf("in place %v: old view: %v, born %d", inPlace, err, BornOf(held))
		}
		if _, err := view.Page(4); !errors.Is(err, ErrCorrupt) {
			t.Errorf("in place %v: old view sees a page behind its count: %v", inPlace, err)
		}
		if v := old.View(3000); !inPlace && v.Count() != 8 {
			t.Errorf("old mapping has %d pages; want 8", v.Count())
		}
		if n := fake.openMaps(); n > 2 {
			t.Errorf("in place %v: %d mappings are open; want the reader's and the current one", inPlace, n)
		}
		old.Release()
		if n := fake.openMaps(); n != 1 {
			t.Errorf("in place %v: %d mappings are open after the reader ended", inPlace, n)
		}
	}
}

// Where mappings end with the file, each growth makes a new one, and an empty file has none.
func TestGrowWithoutReservations(t *testing.T) {
	f, fake := newTestFile(t, 0, func(f *File) { f.reserve = false })
	if n := mappedPages(f); n != 0 {
		t.Errorf("an empty file has %d pages", n)
	}
	fake.fail = func(call string) error {
		if strings.HasPrefix(call, "extend") {
			return errors.New("no")
		}
		return nil
	}
	must(t, f.Grow(3))
	wantCalls(t, fake, "grow", "allocate 65536@0", "map 65536")
	must(t, f.Write(2, leafPage(2, 1)))
	must(t, f.Sync(nil))
	m := f.Map()
	v := m.View(16)
	_, err := v.Page(2)
	must(t, err)
	must(t, f.Truncate(4))
	if f.Pages() != 16 {
		t.Error("a mapped file was cut")
	}
	must(t, f.Grow(17))
	_, err = v.Page(2)
	must(t, err)
	m.Release()
}

func TestTruncate(t *testing.T) {
	f, fake := newTestFile(t, 20)
	must(t, f.Write(10, leafPage(10, 3)))
	f.Trust(leafPage(10, 3))
	must(t, f.Truncate(10))
	must(t, f.Truncate(15))
	wantCalls(t, fake, "truncate", "write 4096@40960", "truncate 40960")
	if f.Pages() != 10 {
		t.Errorf("%d pages", f.Pages())
	}
	m := f.Map()
	defer m.Release()
	v := m.View(20)
	if v.Count() != 10 {
		t.Errorf("a view of %d pages of a file of 10", v.Count())
	}
	if err := f.Write(10, leafPage(10, 4)); err == nil {
		t.Error("write behind the end: no error")
	}
	must(t, f.Grow(11))
	v = m.View(11)
	if _, err := v.Page(10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a page that was cut off and came back as zeros: %v", err)
	}
	must(t, f.Sync(nil))
}

// A reading process follows the file that another one makes longer.
func TestCover(t *testing.T) {
	f, fake := newTestFile(t, 4, Reserve(4*ps))
	if err := f.Cover(9); !errors.Is(err, ErrCorrupt) {
		t.Errorf("file too short: %v", err)
	}
	must(t, fake.File.Allocate(4*ps, 6*ps))
	_, err := fake.File.WriteAt(leafPage(9, 7), 9*ps)
	must(t, err)
	must(t, f.Cover(10))
	if strings.Contains(fake.take(), "allocate") {
		t.Error("Cover changed the file")
	}
	m := f.Map()
	defer m.Release()
	v := m.View(10)
	_, err = v.Page(9)
	must(t, err)
}

func TestWriteRuns(t *testing.T) {
	f, fake := newTestFile(t, 1200)
	page := func(n int, c byte) []byte { return bytes.Repeat([]byte{c}, n*ps) }
	out := []Out{{9, page(1, 'i')}, {2, page(1, 'b')}, {4, page(3, 'd')}, {3, page(1, 'c')}, {11, page(1, 'k')}, {7, page(1, 'g')}}
	must(t, f.WriteRuns(out))
	wantCalls(t, fake, "runs",
		fmt.Sprintf("writev 4 buffers %d@%d", 6*ps, 2*ps),
		fmt.Sprintf("write %d@%d", ps, 9*ps),
		fmt.Sprintf("write %d@%d", ps, 11*ps))
	want := make([]byte, 12*ps)
	for _, o := range out {
		copy(want[int(o.ID)*ps:], o.Buf)
	}
	got := make([]byte, 12*ps)
	_, err := fake.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the file differs")
	}

	out = nil
	for id := ID(1100); id >= 100; id-- {
		out = append(out, Out{id, page(1, byte(id))})
	}
	must(t, f.WriteRuns(out))
	wantCalls(t, fake, "long run",
		fmt.Sprintf("writev 256 buffers %d@%d", 256*ps, 100*ps),
		fmt.Sprintf("writev 256 buffers %d@%d", 256*ps, 356*ps),
		fmt.Sprintf("writev 256 buffers %d@%d", 256*ps, 612*ps),
		fmt.Sprintf("writev 233 buffers %d@%d", 233*ps, 868*ps))
	must(t, f.WriteRuns([]Out{{600, page(300, 'x')}, {900, page(1, 'y')}}))
	wantCalls(t, fake, "a buffer longer than a run",
		fmt.Sprintf("write %d@%d", 300*ps, 600*ps), fmt.Sprintf("write %d@%d", ps, 900*ps))
	must(t, f.WriteRuns(nil))

	fake.fail = func(call string) error {
		if strings.HasSuffix(call, fmt.Sprint("@", 5*ps)) {
			return syscall.EIO
		}
		return nil
	}
	err = f.WriteRuns([]Out{{3, page(1, 'c')}, {5, page(1, 'e')}, {7, page(1, 'g')}})
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "page 5") {
		t.Errorf("a failing write: %v", err)
	}
	for _, o := range []Out{{1199, page(2, 0)}, {1200, page(1, 0)}, {1<<32 - 1, page(1, 0)}, {5, make([]byte, 100)}} {
		if f.Write(o.ID, o.Buf) == nil {
			t.Errorf("write of %d bytes at page %d: no error", len(o.Buf), o.ID)
		}
	}
}

func TestWriteRunFillsUp(t *testing.T) {
	f, fake := newTestFile(t, 8)
	must(t, f.Write(3, bytes.Repeat([]byte{0xff}, 3*ps)))
	must(t, f.WriteRun(3, []byte("key"), bytes.Repeat([]byte("v"), ps)))
	got := make([]byte, 3*ps)
	_, err := fake.ReadAt(got, 3*ps)
	must(t, err)
	want := slices.Concat([]byte("key"), bytes.Repeat([]byte("v"), ps), make([]byte, ps-3), bytes.Repeat([]byte{0xff}, ps))
	if !bytes.Equal(got, want) {
		t.Error("the file differs")
	}
	fake.take()
	must(t, f.WriteRun(3, make([]byte, ps)))
	wantCalls(t, fake, "whole page", "write 4096@12288")
}

// Only what was written to is synced, in slices, and then the descriptor.
func TestSync(t *testing.T) {
	const segment = 4 << 20 / ps
	f, fake := newTestFile(t, 20*segment+3)
	must(t, f.Sync(nil))
	wantCalls(t, fake, "nothing written", "sync")
	p := make([]byte, ps)
	for _, id := range []ID{segment * 5, 2, segment*5 - 1, 20*segment + 2} {
		must(t, f.Write(id, p))
	}
	fake.take()
	must(t, f.Sync(nil))
	wantCalls(t, fake, "three places", "msync 4194304@0", fmt.Sprintf("msync %d@%d", 8<<20, 16<<20), fmt.Sprintf("msync %d@%d", 3*ps, 80<<20), "sync")
	must(t, f.Sync(nil))
	wantCalls(t, fake, "nothing since", "sync")
	must(t, f.Write(0, make([]byte, 6*segment*ps)))
	fake.take()
	must(t, f.Sync(nil))
	wantCalls(t, fake, "slices", "msync 16777216@0", "msync 8388608@16777216", "sync")
	must(t, f.Write(20*segment, p))
	must(t, f.Truncate(20*segment))
	fake.take()
	must(t, f.Sync(nil))
	wantCalls(t, fake, "what was cut off", "sync")
}

// While others are busy the disk is given what was written as soon as that is as much as a piece holds, and then they are asked for.
func TestSyncBesideOthers(t *testing.T) {
	const piece = 1 << pieceBits
	f, fake := newTestFile(t, 16<<20/ps)
	write := func() {
		must(t, f.Write(2, make([]byte, piece/2)))                   // half a piece
		must(t, f.Write(3*piece/ps, make([]byte, piece+piece/2+ps))) // and over: two pieces, of which one is whole
		must(t, f.Write(ID(8<<20/ps), make([]byte, 2*piece)))        // in another slice
		fake.take()
	}
	asked, busyUntil := 0, 0
	busy := func() bool {
		asked++
		return asked <= busyUntil
	}
	for _, c := range []struct {
		until, asked int
		want         []string
	}{
		{100, 5, []string{
			"write out 1048576@0, wait: true", "write out 262144@1048576, wait: true", "msync 4194304@0",
			"write out 262144@8388608, wait: true", "write out 262144@8650752, wait: true", "msync 4194304@8388608", "sync",
		}},
		{1, 5, []string{"write out 1048576@0, wait: true", "msync 4194304@0", "msync 4194304@8388608", "sync"}},
		{0, 5, []string{"msync 4194304@0", "msync 4194304@8388608", "sync"}},
	} {
		write()
		asked, busyUntil = 0, c.until
		must(t, f.Sync(busy))
		wantCalls(t, fake, fmt.Sprintf("busy until asked %d times", c.until), c.want...)
		if asked != c.asked {
			t.Errorf("busy until asked %d times: asked %d times, want %d", c.until, asked, c.asked)
		}
	}
}

// The first failure is the answer for ever: the kernel has forgotten what it could not write.
func TestSyncFailureStays(t *testing.T) {
	for _, call := range []string{"write out", "msync", "sync"} {
		f, fake := newTestFile(t, 4)
		must(t, f.Write(2, make([]byte, ps)))
		fake.fail = func(c string) error {
			if strings.HasPrefix(c, call) {
				return syscall.EIO
			}
			return nil
		}
		first := f.Sync(func() bool { return true })
		if !errors.Is(first, syscall.EIO) {
			t.Fatalf("failing %s: %v", call, first)
		}
		fake.fail = nil
		fake.take()
		if err := f.Sync(nil); err != first {
			t.Errorf("second sync after a failing %s: %v", call, err)
		}
		if err := f.WriteMeta(0, &Meta{PageSize: ps}); err != first {
			t.Errorf("meta after a failing %s: %v", call, err)
		}
		wantCalls(t, fake, "after a failure")
		must(t, f.Write(3, make([]byte, ps))) // pages may still be shown to readers
	}
}

func TestReadMeta(t *testing.T) {
	f, fake := newTestFile(t, 2)
	must(t, f.Write(0, bytes.Repeat([]byte{1}, ps)))
	must(t, f.Write(1, bytes.Repeat([]byte{2}, ps)))
	must(t, fake.File.Truncate(ps+100))
	for slot, n := range []int{ps, 100} {
		p, err := f.ReadMeta(slot)
		must(t, err)
		want := append(bytes.Repeat([]byte{byte(slot + 1)}, n), make([]byte, ps-n)...)
		if !bytes.Equal(p, want) {
			t.Errorf("slot %d differs", slot)
		}
	}
}

// Case F4 of RELIABILITY.md. While one slice of the mapping is being synced, the file outgrows the mapping, which is replaced and
// has no reader. The sync goes on with the one that it has, which must stay until then, and within its length; what came
// after is the next sync's, by the new mapping.
func TestSyncOfRetiredMapping(t *testing.T) {
	const segment = 4 << 20 / ps
	f, fake := newTestFile(t, 20*segment+3, func(f *File) { f.reserve = false })
	late := 20*segment + ID(10)
	var grown error
	fake.fail = func(call string) error {
		switch {
		case strings.HasPrefix(call, "extend"):
			return errors.New("no")
		case call == "msync 4194304@0":
			fake.mu.Unlock() // note has it
			defer fake.mu.Lock()
			if grown = f.Grow(late + 1); grown == nil {
				grown = f.Write(late, leafPage(late, 2))
			}
		}
		return nil
	}
	for _, id := range []ID{2, 8 * segment, 20*segment + 2} {
		must(t, f.Write(id, leafPage(id, 1)))
	}
	syncs := func(what string, want ...string) {
		t.Helper()
		fake.take()
		if err := f.Sync(nil); err != nil || grown != nil {
			t.Errorf("%s: %v; growth: %v", what, err, grown)
		}
		got := slices.DeleteFunc(strings.Split(fake.take(), "\n"), func(call string) bool { return !strings.Contains(call, "sync") })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q", what, got, want)
		}
	}
	syncs("while the file grows", "msync 4194304@0", "msync 4194304@33554432", "msync 12288@83886080", "sync")
	if n := fake.openMaps(); n != 1 {
		t.Errorf("%d mappings are open after the sync", n)
	}
	syncs("afterwards", fmt.Sprintf("msync %d@83886080", min(int64(f.Pages()-20*segment)*ps, 4<<20)), "sync")
}
