package page

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

func TestPrefetch(t *testing.T) {
	f, fake := newTestFile(t, 150)
	v := viewOf(t, f)
	fake.take()
	v.Prefetch([]ID{0, 16, 32, 64, 112, 96, 128, 144, 160, 1<<32 - 16}, GroupPages)
	wantCalls(t, fake, "groups", "willneed 131072@0", "willneed 65536@131072", "willneed 65536@262144", "willneed 65536@458752", "willneed 65536@393216", "willneed 90112@524288")
	v.Prefetch([]ID{7, 8, 10, 9, 149, 150}, 1)
	wantCalls(t, fake, "pages", "willneed 8192@28672", "willneed 4096@40960", "willneed 4096@36864", "willneed 4096@610304")
}

// The pages of a group that was brought make no calls of their own; but they are looked at as ever.
func TestBring(t *testing.T) {
	f, fake := newTestFile(t, 48)
	v := viewOf(t, f)
	for id := ID(2); id < 48; id++ {
		must(t, f.Write(id, leafPage(id, 1)))
	}
	damaged := leafPage(18, 1)
	damaged[100] ^= 1
	must(t, f.Write(18, damaged))
	fake.take()
	v.Bring(16, GroupPages)
	v.Bring(32, GroupPages)
	wantCalls(t, fake, "bring", "populate 65536@65536", "populate 65536@131072")
	for id := ID(16); id < 48; id++ {
		_, err := v.Page(id)
		if id == 18 {
			wantCorrupt(t, "page", err, id, "checksum")
		} else if err != nil {
			t.Errorf("page %d: %v", id, err)
		}
	}
	wantCalls(t, fake, "pages")
	v.Bring(15, 1)
	_, err := v.Page(15)
	must(t, err)
	wantCalls(t, fake, "page 15, which came without its group", "populate 4096@61440", "willneed 131072@0", "willneed 65536@131072", "populate 4096@61440")
	fake.fail = func(call string) error {
		if strings.HasPrefix(call, "populate") {
			return vfs.ErrFault
		}
		return nil
	}
	v.Bring(0, GroupPages)
	if v.Was(3) {
		t.Error("a group that could not be read passes for one that is in memory")
	}
}

// What lies around a page is asked for once, not at all where memory is short, and by two at a time. A page of which the
// surroundings are not asked for is asked for itself, or the system would read what lies around it: with 8 MiB of that, and a large file, 16 goroutines
// got 3 thousand pages a second of a disk that gives 20 thousand.
func TestAround(t *testing.T) {
	f, fake := newTestFile(t, 200)
	v := viewOf(t, f)
	for id := ID(2); id < 200; id++ {
		must(t, f.Write(id, leafPage(id, 1)))
	}
	fake.take()
	for _, id := range []ID{70, 71, 199} {
		_, err := v.Page(id)
		must(t, err)
	}
	wantCalls(t, fake, "three pages", "willneed 131072@262144", "willneed 131072@393216", "populate 4096@286720", "willneed 4096@290816", "populate 4096@290816", "willneed 32768@786432", "populate 4096@815104")
	v.SetShort()
	if !v.Short() {
		t.Error("memory is not short")
	}
	_, err := v.Page(3)
	must(t, err)
	wantCalls(t, fake, "a page while memory is short", "willneed 4096@12288", "populate 4096@12288")
	past := time.Now().Add(-shortFor)
	f.short.Store(&past)
	if v.Short() {
		t.Error("memory is short for ever")
	}
	f.around.Store(fewAround)
	_, err = v.Page(4)
	must(t, err)
	wantCalls(t, fake, "a page while two are busy", "willneed 4096@16384", "populate 4096@16384")
	f.around.Store(fewAround - 1)
	_, err = v.Page(5)
	must(t, err)
	wantCalls(t, fake, "a page while one is busy", "willneed 131072@0", "willneed 131072@131072", "populate 4096@20480")
	if n := f.around.Load(); n != fewAround-1 {
		t.Errorf("%d are busy", n)
	}
}

// A page that is not in memory is asked for, and looked for while others run, and waited for in the system only where it takes long. 16 goroutines that waited there
// had two fifths of the pages a second, and left a goroutine that computed a quarter of its rate. Where nobody can tell what is in memory nobody lets others run in vain.
func TestFetchLooksBeforeItWaits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("says what is in memory on Linux only")
	}
	f, fake := newTestFile(t, 64)
	for id := ID(2); id < 20; id++ { // the rest of the file is in no memory
		must(t, f.Write(id, leafPage(id, 1)))
	}
	v := viewOf(t, f)
	v.SetShort()
	read := func(id ID) {
		t.Helper()
		fake.take()
		_, err := v.Page(id)
		must(t, err)
	}
	read(16)
	if v.Tells() {
		t.Error("somebody can tell")
	}
	wantCalls(t, fake, "nobody can tell", "willneed 4096@65536", "populate 4096@65536")

	fake.resident = true
	fake.late = 1
	read(17)
	wantCalls(t, fake, "nobody could tell until then, and cannot of this one", "resident 65536@65536", "willneed 4096@69632", "populate 4096@69632", "resident 4096@69632")
	if v.Tells() {
		t.Error("somebody can tell")
	}
	v.Here(17, 1)
	if !v.Tells() {
		t.Fatal("nobody can tell")
	}

	fake.late = 3
	read(18)
	wantCalls(t, fake, "the page comes", "resident 65536@65536", "resident 4096@73728", "willneed 4096@73728", "resident 4096@73728", "resident 4096@73728", "resident 4096@73728")
	fake.late = 1000
	read(19)
	want := []string{"resident 65536@65536", "resident 4096@77824", "willneed 4096@77824"}
	want = append(want, slices.Repeat([]string{"resident 4096@77824"}, polls)...)
	wantCalls(t, fake, "the page does not come", append(want, "populate 4096@77824")...)
}

// With one processor, and without a call that waits, others run while a page comes only if they are let.
func TestFetchLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f, fake := newTestFile(t, 64)
	must(t, f.Write(18, leafPage(18, 1)))
	v := viewOf(t, f)
	v.SetShort()
	fake.resident, fake.late = true, 3
	f.tells.Store(true)
	other := make(chan struct{})
	go close(other)
	_, err := v.Page(18)
	must(t, err)
	select {
	case <-other:
	default:
		t.Error("no other goroutine has run")
	}
}
