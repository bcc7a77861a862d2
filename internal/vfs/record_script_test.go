package vfs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestRecorderScripts runs testdata/record: what a few operations leave in
// the log, and every state that a crash can leave, each judged by hand.
func TestRecorderScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("errors have other texts")
	}
	datadriven.Walk(t, "testdata/record", func(t *testing.T, path string) {
		s := newScript(t, NewFailer(OS), nil)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.command(t, d)
		})
	})
}

// script is a Recorder that a test drives by text.
type script struct {
	t      *testing.T
	failer *Failer
	rec    *Recorder
	dir    string
	files  map[string]File
	maps   map[string]Mapping
}

// newScript begins in an empty directory, or with the state from.
func newScript(t *testing.T, failer *Failer, from *State) *script {
	t.Helper()
	s := &script{t: t, failer: failer, dir: fastDir(t), files: map[string]File{}, maps: map[string]Mapping{}}
	s.rec = NewRecorder(failer)
	if from != nil {
		rec, err := NewRecorderFrom(failer, from, s.dir)
		if err != nil {
			t.Fatal(err)
		}
		s.rec = rec
	}
	t.Cleanup(s.close)
	return s
}

func (s *script) close() {
	for _, m := range s.maps {
		m.Close()
	}
	for _, f := range s.files {
		f.Close()
	}
}

func (s *script) path(name string) string { return filepath.Join(s.dir, name) }

// file opens a file once.
func (s *script) file(name string, flag int) (File, error) {
	if f := s.files[name]; f != nil && flag&os.O_EXCL == 0 {
		return f, nil
	}
	f, err := s.rec.Open(s.path(name), os.O_RDWR|flag, 0o600)
	if err == nil {
		s.files[name] = f
	}
	return f, err
}

func (s *script) command(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	switch d.Cmd {
	case "run": // operations, a line each; prints the log of them, then what Verify finds
		from := s.rec.Len()
		for line := range strings.Lines(d.Input) {
			if err := s.line(strings.Fields(line)); err != nil {
				d.Fatalf(t, "%s: %v", line, err)
			}
		}
		if err := s.rec.Verify(); err != nil {
			return s.rec.Text(from) + "verify: " + err.Error()
		}
		return s.rec.Text(from)
	case "fail": // rules for the file system below the recorder
		var rules []Rule
		for line := range strings.Lines(d.Input) {
			r, err := ParseRule(line)
			if err != nil {
				return "error: " + err.Error()
			}
			rules = append(rules, r)
		}
		s.failer.Set(rules...)
		return ""
	case "states": // every state that a crash now can leave; "back=n": n events ago
		back := 0
		d.MaybeScanArgs(t, "back", &back)
		h := NewHistory(s.rec.Log())
		return strings.Join(allStates(t, h, h.Events()-back), "\n")
	case "show": // what the files hold, read through the recorder
		files := map[string][]byte{}
		for name, ino := range s.rec.names {
			if ino != 0 {
				p, err := os.ReadFile(s.path(name))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				files[name] = p
			}
		}
		return shown(files, s.rec.names)
	case "kill", "cut": // starts again from the state that is given; shows the files
		log := s.rec.Log()
		state, err := ParseState(log, d.Input)
		if err != nil {
			return "error: " + err.Error()
		}
		if d.Cmd == "cut" {
			state = state.Cut()
		}
		next := newScript(t, s.failer, state)
		s.close()
		*s = *next
		return shownState(state.Kill())
	case "state": // the files of a state that is given as text
		state, err := ParseState(s.rec.Log(), d.Input)
		if err != nil {
			return "error: " + err.Error()
		}
		return shownState(state) + "\n" + state.String() + "\n" + state.Describe()
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

// line runs one operation. Errors of the operations themselves are in the log.
// Offsets and lengths are in sectors, or in bytes with a "b" behind.
func (s *script) line(w []string) error {
	arg := func(i int) int64 {
		if i >= len(w) {
			s.t.Fatalf("%v: too few words", w)
		}
		unit := int64(sectorSize)
		if strings.HasSuffix(w[i], "b") {
			unit = 1
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(w[i], "b"), 10, 64)
		if err != nil {
			s.t.Fatalf("%v: %v", w, err)
		}
		return n * unit
	}
	switch w[0] {
	case "create": // name
		_, err := s.file(w[1], os.O_CREATE|os.O_EXCL)
		if err != nil && s.failer.Failed() == 0 {
			return err
		}
		return nil
	case "link": // old new
		s.rec.Link(s.path(w[1]), s.path(w[2]))
		return nil
	case "rename": // old new
		s.rec.Rename(s.path(w[1]), s.path(w[2]))
		return nil
	case "remove": // name
		s.rec.Remove(s.path(w[1]))
		return nil
	case "syncdir": // [directory]
		s.rec.SyncDir(s.path(strings.Join(w[1:], "")))
		return nil
	case "mark": // kind n
		s.rec.Mark(w[1], uint64(arg(2)/sectorSize))
		return nil
	}
	f, err := s.file(w[1], 0)
	if err != nil {
		return err
	}
	switch w[0] {
	case "write": // name letter offset length
		f.WriteAt(slices.Repeat([]byte(w[2]), int(arg(4))), arg(3))
	case "writev": // name letters offset length: a buffer for each letter
		var bufs [][]byte
		for _, c := range w[2] {
			bufs = append(bufs, slices.Repeat([]byte(string(c)), int(arg(4))))
		}
		f.WriteV(bufs, arg(3))
	case "truncate": // name size
		f.Truncate(arg(2))
	case "allocate": // name offset length
		f.Allocate(arg(2), arg(3))
	case "sync": // name
		f.Sync()
	case "map": // name length
		s.maps[w[1]], err = f.Map(arg(2))
		return err
	case "unmap": // name
		m := s.maps[w[1]]
		delete(s.maps, w[1])
		return m.Close()
	case "msync": // name offset length
		s.maps[w[1]].Sync(arg(2), arg(3))
	case "drop": // name, and how much
		if len(w) > 2 {
			return f.DropCache(arg(2))
		}
		return f.DropCache(0)
	default:
		return fmt.Errorf("unknown operation")
	}
	return nil
}

// allStates enumerates everything and prints each state once, sorted. It also
// holds every state to what states must be.
func allStates(t *testing.T, h *History, at int) []string {
	t.Helper()
	set := map[string]uint64{}
	h.Enumerate(at, Plan{Budget: 1 << 20}, func(s *State) bool {
		text := shownState(s)
		if _, ok := set[text]; ok {
			t.Errorf("yielded twice: %s", text)
		}
		set[text] = s.Hash()
		again, err := h.Parse(s.String())
		if err != nil || again.Hash() != s.Hash() || shownState(again) != text {
			t.Errorf("%q does not make the state again: %v", s, err)
		}
		return true
	})
	return slices.Sorted(maps.Keys(set))
}

// shownState prints the files of a state.
func shownState(s *State) string {
	inos := map[string]int{}
	for _, name := range s.Names() {
		inos[name] = s.find(name).ino
	}
	return shown(s.Files(), inos)
}

// shown prints files: a letter a sector, "." for zeros, "-" for none at all,
// and runs of bytes where a sector is not of one kind. Another name of a file that was shown
// is followed by that.
func shown(files map[string][]byte, inos map[string]int) string {
	if len(files) == 0 {
		return "nothing"
	}
	var b strings.Builder
	first := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if b.Len() > 0 {
			b.WriteString("  ")
		}
		if other := first[inos[name]]; other != "" {
			b.WriteString(name + "=>" + other)
			continue
		}
		first[inos[name]] = name
		b.WriteString(name + "=")
		p := files[name]
		if len(p) == 0 {
			b.WriteString("-")
		}
		for len(p) > 0 {
			n := min(len(p), sectorSize)
			b.WriteString(shownSector(p[:n]))
			p = p[n:]
		}
	}
	return b.String()
}

func shownSector(p []byte) string {
	letter := func(c byte) string {
		if c == 0 {
			return "."
		}
		return string(c)
	}
	if len(p) == sectorSize && len(slices.Compact(slices.Clone(p))) == 1 {
		return letter(p[0])
	}
	var b strings.Builder
	for i := 0; i < len(p); {
		n := 1
		for i+n < len(p) && p[i+n] == p[i] {
			n++
		}
		fmt.Fprintf(&b, "%s%d", letter(p[i]), n)
		i += n
	}
	return "(" + b.String() + ")"
}
