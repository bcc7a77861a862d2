package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestFailerScripts runs testdata/fail: rules, and what becomes of calls.
func TestFailerScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("errors have other texts")
	}
	datadriven.Walk(t, "testdata/fail", func(t *testing.T, path string) {
		dir := fastDir(t)
		failer := NewFailer(OS)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "rules": // the rules from now on
				var rules []Rule
				for line := range strings.Lines(d.Input) {
					r, err := ParseRule(strings.TrimSpace(line))
					if err != nil {
						return "error: " + err.Error()
					}
					rules = append(rules, r)
				}
				failer.Set(rules...)
				return ""
			case "all": // every call of the interface once; prints those that fail
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				before, failed := failer.Calls(), failer.Failed()
				text := everyCall(failer, dir)
				return fmt.Sprintf("%s%d calls, %d failed", text, failer.Calls()-before, failer.Failed()-failed)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// everyCall makes every call once, but Lock and Unlock on the second file only,
// and goes on after failures. It returns a line for each.
func everyCall(fsys FS, dir string) string {
	var b strings.Builder
	report := func(call string, err error) {
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", call, shownError(err))
		}
	}
	name := filepath.Join(dir, "a.db")
	f, err := fsys.Open(name, os.O_RDWR|os.O_CREATE, 0o600)
	if report("create", err); err != nil {
		return b.String()
	}
	report("allocate", f.Allocate(0, 4096))
	report("truncate", f.Truncate(2048))
	n, err := f.WriteAt(make([]byte, 1000), 0)
	report(fmt.Sprintf("write %d", n), err)
	report("writev", f.WriteV([][]byte{[]byte("abc"), []byte("defg")}, 1000))
	n, err = f.ReadAt(make([]byte, 1000), 1000)
	report(fmt.Sprintf("read %d", n), err)
	_, err = f.Stat()
	report("stat", err)
	report("sync", f.Sync())
	report("dropcache", f.DropCache(0))
	m, err := f.Map(2048)
	report("map", err)
	if err == nil {
		m.WillNeed(0, 2048)
		report("msync", m.Sync(0, 2048))
		report("populate", m.Populate(0, 2048))
		if !m.Extend(int64(len(m.Bytes()))) {
			report("extend", errors.New("no"))
		}
		report("unmap", m.Close())
	}
	report("close", f.Close())
	report("link", fsys.Link(name, filepath.Join(dir, "b.db")))
	report("rename", fsys.Rename(name, filepath.Join(dir, "c.wal")))
	report("syncdir", fsys.SyncDir(dir))
	_, err = fsys.Stat(filepath.Join(dir, "c.wal"))
	report("stat c.wal", err)
	f, err = fsys.Open(filepath.Join(dir, "c.wal"), os.O_RDONLY, 0)
	if report("open", err); err == nil {
		report("lock", f.Lock(0, false))
		report("unlock", f.Unlock(0))
		report("close "+filepath.Base(f.Name()), f.Close())
	}
	report("remove", fsys.Remove(filepath.Join(dir, "c.wal")))
	return b.String()
}

// Calls are counted by the line that makes them, and whether it has failed.
func TestFailerSites(t *testing.T) {
	failer := NewFailer(NewRecorder(OS), Rule{Kinds: []Kind{KindSync}, Nth: 2})
	f := mustOpen(t, NewRecorder(failer), filepath.Join(fastDir(t), "a"), os.O_RDWR|os.O_CREATE)
	for range 3 {
		f.Sync()
	}
	f.Sync()
	sites := failer.Sites()
	var texts []string
	for _, s := range sites {
		texts = append(texts, fmt.Sprintf("%s %s %s %d %d", s.Kind, s.File, s.Func, s.Calls, s.Failed))
		if !strings.HasPrefix(s.String(), fmt.Sprintf("%s vfs/%s:%d vfs.", s.Kind, filepath.Base(s.File), s.Line)) {
			t.Errorf("printed as %s", s)
		}
	}
	want := []string{
		"sync vfs/fail_test.go vfs.TestFailerSites 3 1",
		"sync vfs/fail_test.go vfs.TestFailerSites 1 0",
		"create vfs/record_test.go vfs.mustOpen 1 0",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("sites:\n%s", strings.Join(texts, "\n"))
	}
	if n := failer.Calls(KindSync, KindCreate); n != 5 || failer.Calls() != 5 || failer.Failed() != 1 {
		t.Errorf("%d calls of %d, %d failed", n, failer.Calls(), failer.Failed())
	}
}

// Of calls made side by side exactly one is the nth.
func TestFailerConcurrent(t *testing.T) {
	failer := NewFailer(OS, Rule{Kinds: []Kind{KindWrite}, Nth: 50, Err: syscall.ENOSPC})
	f := mustOpen(t, failer, filepath.Join(fastDir(t), "a"), os.O_RDWR|os.O_CREATE)
	var mu sync.Mutex
	failed := 0
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 25 {
				if _, err := f.WriteAt([]byte{1}, int64(g*25+i)); errors.Is(err, syscall.ENOSPC) {
					mu.Lock()
					failed++
					mu.Unlock()
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if failed != 1 {
		t.Errorf("%d calls failed", failed)
	}
}

// A late failure has done its work; an early one has not.
func TestFailerLate(t *testing.T) {
	dir := fastDir(t)
	name := filepath.Join(dir, "a")
	failer := NewFailer(OS, Rule{Kinds: []Kind{KindCreate}, Late: true}, Rule{Kinds: []Kind{KindWrite}, Late: true},
		Rule{Kinds: []Kind{KindWrite}, Nth: 2, Short: 2}, Rule{Kinds: []Kind{KindRemove}})
	if _, err := failer.Open(name, os.O_RDWR|os.O_CREATE, 0o600); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	f := mustOpen(t, failer, name, os.O_RDWR)
	if n, err := f.WriteAt([]byte("late"), 0); n != 4 || !errors.Is(err, syscall.EIO) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("short"), 4); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("%d, %v", n, err)
	}
	p := make([]byte, 9)
	if n, err := f.ReadAt(p, 0); n != 6 || err != io.EOF || string(p[:n]) != "latesh" {
		t.Errorf("%d %q %v", n, p, err)
	}
	if err := failer.Remove(name); err == nil {
		t.Error("removed")
	}
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
	failer.Set()
	if err := failer.Remove(name); err != nil {
		t.Error(err)
	}
}

// A window fails like the mapping that it is. Once a Failer gave windows that write by WriteAt, so that nothing showed what becomes of one that
// cannot be opened, and a failed store had the error of a write.
func TestFailerWindow(t *testing.T) {
	failer := NewFailer(OS)
	f := mustOpen(t, failer, filepath.Join(fastDir(t), "a"), os.O_RDWR|os.O_CREATE)
	must(t, f.Allocate(0, 4096))
	w, err := f.Window(0, 4096)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the system has no windows")
	}
	must(t, err)
	must(t, w.Write([]byte("whole"), 0))
	known := fmt.Errorf("known: %w", syscall.ENOSPC)
	failer.Set(Rule{Kinds: []Kind{KindMap}, Err: syscall.ENOMEM}, Rule{Kinds: []Kind{KindWrite}, Short: 2, Err: known},
		Rule{Kinds: []Kind{KindWrite}, Nth: 2}, Rule{Kinds: []Kind{KindClose}})
	if w, err := f.Window(0, 4096); w != nil || !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("opened: %v, %v", w, err)
	}
	if err := w.Write([]byte("short"), 5); !errors.Is(err, ErrFault) || !errors.Is(err, known) || errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a short store: %v", err)
	}
	if err := w.Write([]byte("none"), 7); !errors.Is(err, ErrFault) || errors.Is(err, syscall.EIO) {
		t.Errorf("a failed store: %v", err)
	}
	if err := w.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("closed: %v", err)
	}
	if err := w.Write([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a window of which Close has failed is open: %v", err)
	}
	p := make([]byte, 9)
	if _, err := f.ReadAt(p, 0); err != nil || string(p) != "wholesh\x00\x00" {
		t.Errorf("%q, %v", p, err)
	}
	var kinds []Kind
	for _, s := range failer.Sites() {
		if s.Func != "vfs.TestFailerWindow" && s.Func != "vfs.mustOpen" {
			t.Errorf("not the caller's line: %s", s)
		}
		kinds = append(kinds, s.Kind)
	}
	if want := []Kind{KindAllocate, KindMap, KindWrite, KindMap, KindWrite, KindWrite, KindClose, KindWrite, KindRead, KindCreate}; !slices.Equal(kinds, want) {
		t.Errorf("calls of %v", kinds)
	}
}

// FuzzParseRule: any text is a rule or an error.
func FuzzParseRule(f *testing.F) {
	f.Add("write,allocate name=.db n=2 forever error=ENOSPC")
	f.Add("any short=9 late")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRule(text); err == nil {
			r.matches(KindSync, []string{"a"})
			r.strikes(1)
		}
	})
}
