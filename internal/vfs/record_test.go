package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func mustOpen(t *testing.T, fsys FS, name string, flag int) File {
	t.Helper()
	f, err := fsys.Open(name, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Writers and syncs run side by side; the log still makes the real bytes, and
// no crash takes away what a writer had synced after its last write.
func TestRecorderConcurrent(t *testing.T) {
	dir := fastDir(t)
	r := NewRecorder(OS)
	f := mustOpen(t, r, filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE)
	must(t, f.Allocate(0, 16*chunkSize))
	must(t, r.SyncDir(dir))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				p := bytes.Repeat([]byte{byte(g*20 + i + 1)}, chunkSize)
				off := int64(g*4+i%4) * chunkSize
				if _, err := f.WriteAt(p, off); err != nil {
					t.Error(err)
				}
				if i%5 == 4 {
					if err := f.Sync(); err != nil {
						t.Error(err)
					}
					r.Mark("synced", uint64(g*20+i))
				}
			}
		})
	}
	wg.Wait()
	must(t, r.Verify())
	log := r.Log()
	h := NewHistory(log)
	h.Enumerate(h.Events(), Plan{Budget: 1000}, func(s *State) bool {
		p, _ := s.ReadFile("f", nil)
		for g := range 4 {
			for k := range 4 {
				want := byte(g*20 + 16 + k + 1)
				if got := p[(g*4+k)*chunkSize]; got != want {
					t.Errorf("%s: chunk %d holds %d, want %d", s, g*4+k, got, want)
				}
			}
		}
		return true
	})
}

// What was in the directory before is the start of the log: settled, with
// hard links being links.
func TestRecorderScan(t *testing.T) {
	dir := fastDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("x"), 700), 0o640))
	must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	must(t, os.WriteFile(filepath.Join(dir, "c"), nil, 0o600))
	link := filepath.Join(fastDir(t), "link")
	if err := os.Symlink(dir, link); err != nil {
		link = dir
	}
	r := NewRecorder(OS)
	f := mustOpen(t, r, filepath.Join(link, "b"), os.O_RDWR)
	if _, err := f.WriteAt(bytes.Repeat([]byte("y"), 512), 0); err != nil {
		t.Fatal(err)
	}
	must(t, r.Remove(filepath.Join(dir, "c")))
	must(t, r.Verify())
	got := strings.Join(allStates(t, NewHistory(r.Log()), 99), "\n")
	want := "a=x(x188)  b=>a\na=x(x188)  b=>a  c=-\na=y(x188)  b=>a\na=y(x188)  b=>a  c=-"
	if got != want {
		t.Errorf("states:\n%s\nwant:\n%s", got, want)
	}
	if text := r.Text(0); text != "write b 512@0\nremove c\n" {
		t.Errorf("text: %q", text)
	}
	if n := len(allStates(t, NewHistory(r.Log()), 0)); n != 1 {
		t.Errorf("%d states before the start", n)
	}

	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("z"), 0o600))
	if err := r.Verify(); err == nil || !strings.Contains(err.Error(), "bytes, the log makes it") {
		t.Errorf("a write past the recorder: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("y"), 700), 0o600))
	if err := r.Verify(); err == nil || !strings.Contains(err.Error(), "differs from the log at byte 512") {
		t.Errorf("a write past the recorder: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "a"), append(bytes.Repeat([]byte("y"), 512), bytes.Repeat([]byte("x"), 188)...), 0o600))
	must(t, r.Verify())
	must(t, os.WriteFile(filepath.Join(dir, "d"), nil, 0o600))
	if err := r.Verify(); err == nil || !strings.Contains(err.Error(), "d is not in the log") {
		t.Errorf("a file made past the recorder: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "a")))
	if err := r.Verify(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file removed past the recorder: %v", err)
	}
}

func TestRecorderOpen(t *testing.T) {
	dir, other := fastDir(t), fastDir(t)
	must(t, os.WriteFile(filepath.Join(other, "x"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	r := NewRecorder(OS)
	if err := NewRecorder(OS).Verify(); err != nil {
		t.Errorf("a recorder that did nothing: %v", err)
	}
	if _, err := r.Open(filepath.Join(dir, "a"), os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	f := mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if _, err := r.Open(filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("file that is there: %v", err)
	}
	if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	mustOpen(t, r, filepath.Join(dir, "sub", "b"), os.O_RDWR|os.O_CREATE)
	must(t, r.SyncDir(filepath.Join(dir, "sub")))
	if got := strings.Join(allStates(t, NewHistory(r.Log()), r.clock), "\n"); got != "a=(.5)  sub/b=-\na=(h1e1l2o1)  sub/b=-\na=-  sub/b=-\nsub/b=-" {
		t.Errorf("states after the sync of one directory:\n%s", got)
	}
	must(t, r.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "sub", "c")))
	if text := r.Text(0); text != "create a\nwrite a 5@0\ntruncate a 0\ncreate b\nsyncdir sub\nrename a c\n" {
		t.Errorf("text:\n%s", text)
	}
	must(t, r.Verify())
	// A rename of one name of a file to another does nothing, says POSIX.
	must(t, r.Link(filepath.Join(dir, "sub", "c"), filepath.Join(dir, "d")))
	must(t, r.Link(filepath.Join(dir, "d"), filepath.Join(dir, "e")))
	must(t, r.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "e")))
	must(t, r.Verify())
	must(t, r.Remove(filepath.Join(dir, "d")))
	must(t, r.Remove(filepath.Join(dir, "e")))
	must(t, r.SyncDir(dir))
	must(t, r.Verify())
	// A rename between directories is two changes; that of the first is durable.
	h := NewHistory(r.Log())
	names := map[string]bool{}
	h.Enumerate(h.Events(), Plan{Budget: 1000}, func(s *State) bool {
		names[strings.Join(s.Names(), " ")] = true
		return true
	})
	for _, n := range []string{"sub/b", "sub/b sub/c"} {
		if !names[n] {
			t.Errorf("no state with %q; %v", n, names)
		}
	}
	s := h.State(h.Events(), KeepAll)
	to := filepath.Join(fastDir(t), "new")
	must(t, s.Materialise(to))
	if _, err := os.Stat(filepath.Join(to, "sub", "c")); err != nil {
		t.Error(err)
	}
	if err := s.Materialise(to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("materialised twice: %v", err)
	}

	// A file elsewhere can be read, but is none of the recorder's.
	mustOpen(t, r, filepath.Join(other, "x"), os.O_RDONLY)
	if _, err := r.Open(filepath.Join(other, "x"), os.O_RDWR, 0); err == nil {
		t.Error("a file that the recorder does not know was opened for writing")
	}
	mustOpen(t, r, filepath.Join(other, "y"), os.O_RDWR|os.O_CREATE)
	h = NewHistory(r.Log())
	if err := h.State(h.Events(), KeepAll).Materialise(fastDir(t)); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a file outside of the directory was materialised: %v", err)
	}
}

// The log has its own copy of what was written.
func TestRecorderCopies(t *testing.T) {
	r := NewRecorder(OS)
	f := mustOpen(t, r, filepath.Join(fastDir(t), "f"), os.O_RDWR|os.O_CREATE)
	p := []byte("before")
	if _, err := f.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	must(t, f.WriteV([][]byte{p}, 6))
	copy(p, "after!")
	must(t, r.Verify())
}

// Every call gets through, and those that change something are in the log.
func TestRecorderPasses(t *testing.T) {
	dir := fastDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "x-lock"), nil, 0o600))
	r := NewRecorder(NewFailer(OS))
	r.Ignore = func(name string) bool { return strings.HasSuffix(name, "-lock") }
	if text := everyCall(r, dir); text != "" {
		t.Errorf("calls fail:\n%s", text)
	}
	want := `create a.db
allocate a.db 4096@0
truncate a.db 2048
write a.db 1000@0
write a.db 7@1000
sync a.db
dropcache a.db
msync a.db 2048@0
link a.db b.db
rename a.db c.wal
syncdir
remove c.wal
`
	if got := r.Text(0); got != want {
		t.Errorf("the log:\n%s", got)
	}
	f := mustOpen(t, r, filepath.Join(dir, "a-lock"), os.O_RDWR|os.O_CREATE)
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	must(t, r.Rename(filepath.Join(dir, "a-lock"), filepath.Join(dir, "b-lock")))
	must(t, r.Remove(filepath.Join(dir, "b-lock")))
	must(t, r.Verify())
	if got := r.Text(0); got != want {
		t.Errorf("the log has what is ignored:\n%s", got)
	}
	if names := Crash(r.Log(), Never, KeepAll).Names(); !slices.Equal(names, []string{"b.db"}) {
		t.Errorf("names: %v", names)
	}
}

// renamingFS has no hard links.
type renamingFS struct{ FS }

func (r renamingFS) Link(oldname, newname string) error { return r.FS.Rename(oldname, newname) }

// brokenFS fails in the middle of a WriteV, as a full disk does.
type brokenFS struct{ FS }

type brokenFile struct{ File }

func (b brokenFS) Open(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := b.FS.Open(name, flag, perm)
	return brokenFile{f}, err
}

func (b brokenFile) WriteV(bufs [][]byte, off int64) error {
	b.WriteAt(bytes.Join(bufs, nil)[:700], off)
	return fs.ErrPermission
}

func TestRecorderUnder(t *testing.T) {
	dir := fastDir(t)
	r := NewRecorder(renamingFS{OS})
	mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE)
	must(t, r.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	must(t, r.Verify())
	if text := r.Text(1); text != "create a\nrename a b\n" {
		t.Errorf("a link that was a rename: %q", text)
	}

	dir = fastDir(t)
	r = NewRecorder(brokenFS{OS})
	f := mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE)
	if err := f.WriteV([][]byte{bytes.Repeat([]byte("a"), 512), bytes.Repeat([]byte("b"), 512)}, 100); err == nil {
		t.Error("no error")
	}
	must(t, r.Verify())
	if text := r.Text(2); text != "write a 1024@100: permission denied (700 written)\n" {
		t.Errorf("a write that failed half way: %q", text)
	}
}

// An msync through a descriptor for reading is an error and does nothing,
// neither good nor bad.
func TestRecorderReadOnlyMapping(t *testing.T) {
	dir := fastDir(t)
	r := NewRecorder(OS)
	f := mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDWR|os.O_CREATE)
	must(t, f.Allocate(0, 512))
	must(t, f.Sync())
	must(t, r.SyncDir(dir))
	if _, err := f.WriteAt(bytes.Repeat([]byte("a"), 512), 0); err != nil {
		t.Fatal(err)
	}
	m, err := mustOpen(t, r, filepath.Join(dir, "a"), os.O_RDONLY).Map(512)
	must(t, err)
	defer m.Close()
	if err := m.Sync(0, 512); !errors.Is(err, ErrReadOnlyMapping) {
		t.Fatal(err)
	}
	h := NewHistory(r.Log())
	if n := len(allStates(t, h, h.Events())); n != 2 {
		t.Errorf("%d states after the msync", n)
	}
	must(t, f.Sync())
	h = NewHistory(r.Log())
	if n := len(allStates(t, h, h.Events())); n != 1 {
		t.Errorf("%d states after the sync", n)
	}
}

// LostAtDrop decides what the disk shows of a lost write.
func TestRecorderLostAtDrop(t *testing.T) {
	for _, c := range []struct {
		choose Chooser
		want   string
	}{
		{nil, "aa"},
		{DropAll, "aa"},
		{KeepAll, "bb"},
		{func(u Unit) Fate { return Fate(u.Part) }, "ab"},
		{func(u Unit) Fate { return Torn(100 * (1 + u.Part)) }, "(b100a412)(b200a312)"},
	} {
		failer := NewFailer(OS)
		s := newScript(t, failer, nil)
		s.rec.LostAtDrop = c.choose
		for _, line := range []string{"create f", "write f a 0 2", "sync f", "syncdir", "write f b 0 2"} {
			must(t, s.line(strings.Fields(line)))
		}
		failer.Set(Rule{Kinds: []Kind{KindSync}})
		for _, line := range []string{"sync f", "sync f", "drop f"} {
			must(t, s.line(strings.Fields(line)))
		}
		must(t, s.rec.Verify())
		h := NewHistory(s.rec.Log())
		if got := allStates(t, h, h.Events()); !slices.Equal(got, []string{"f=" + c.want}) {
			t.Errorf("got %v, want %s", got, c.want)
		}
	}
}

// A recorder that starts where another was killed has a log that stands by
// itself, and so on.
func TestRecorderChain(t *testing.T) {
	s := newScript(t, NewFailer(OS), nil)
	for _, line := range []string{"create f", "write f a 0 2", "sync f", "syncdir", "write f b 0 1", "create g"} {
		must(t, s.line(strings.Fields(line)))
	}
	for range 3 {
		h := NewHistory(s.rec.Log())
		s = newScript(t, s.failer, h.State(h.Events(), DropAll))
		must(t, s.rec.Verify())
		h = NewHistory(s.rec.Log())
		got := strings.Join(allStates(t, h, h.Events()), "\n")
		if got != "f=aa\nf=aa  g=-\nf=ba\nf=ba  g=-" {
			t.Errorf("states:\n%s", got)
		}
		if text := h.State(h.Events(), DropAll).Describe(); text != "-2 from before the log: drop\n-1 from before the log: drop\n" {
			t.Errorf("described as:\n%s", text)
		}
	}
}

// A name whose SyncDir has failed is lost until it is made again: a later SyncDir says nothing about it.
func TestLostName(t *testing.T) {
	failer := NewFailer(OS)
	s := newScript(t, failer, nil)
	lost := func(name string) bool {
		h := NewHistory(s.rec.Log())
		return h.State(h.Events(), KeepAll).LostName(name)
	}
	for _, line := range []string{"create f", "syncdir", "create g"} {
		must(t, s.line(strings.Fields(line)))
	}
	if lost("f") || lost("g") || lost("h") {
		t.Error("nothing has failed")
	}
	failer.Set(Rule{Kinds: []Kind{KindSyncDir}})
	for _, line := range []string{"syncdir", "syncdir"} {
		must(t, s.line(strings.Fields(line)))
	}
	if lost("f") || !lost("g") {
		t.Error("g is lost, and f is not")
	}
	must(t, s.line(strings.Fields("remove g")))
	if lost("g") {
		t.Error("what is not there is not lost")
	}
}
