package folio

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/foliodb/folio/internal/vfs"
)

// A state that a crash test found wanting is kept as text: the files, and what they must hold. The line of a log that it
// was built from would be of no use as soon as the code makes other calls; the files stay what they are.
// What lies in testdata/crash is judged again by every run.

// savedState writes a state and what it must keep as a test of its own.
func savedState(w *crashWork, s *vfs.State, p crashPromise) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state work=%s lo=%d hi=%d line=%s salt=%d", strings.ReplaceAll(w.name, " ", "_"), p.lo, p.hi, p.line.text(), crashHash(s))
	for _, c := range p.copies {
		fmt.Fprintf(&b, " copy=%d:%v", c.k, c.acked)
	}
	b.WriteString("\n")
	files := s.Files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "%s %d\n", name, len(files[name]))
		var packed bytes.Buffer
		f, err := flate.NewWriter(&packed, flate.BestCompression)
		if err == nil {
			_, err = f.Write(files[name])
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err.Error()
		}
		for text := base64.StdEncoding.EncodeToString(packed.Bytes()); text != ""; text = text[min(len(text), 120):] {
			fmt.Fprintf(&b, "  %s\n", text[:min(len(text), 120)])
		}
	}
	b.WriteString("----\nok\n")
	return b.String()
}

// text is the timeline as from:seed+still+still for each line from the first on, with slashes between.
func (l *crashLine) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := fmt.Sprintf("%d:%d", l.from, l.seed)
	for _, k := range slices.Sorted(maps.Keys(l.still)) {
		if l.still[k] {
			text += fmt.Sprintf("+%d", k)
		}
	}
	if l.base != nil {
		text = l.base.text() + "/" + text
	}
	return text
}

// parseCrashLine is the inverse of text.
func parseCrashLine(text string) (l, first *crashLine, err error) {
	number := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 10, 64)
		err = errors.Join(err, e)
		return n
	}
	for part := range strings.SplitSeq(text, "/") {
		from, rest, _ := strings.Cut(part, ":")
		still := strings.Split(rest, "+")
		next := &crashLine{seed: number(still[0])}
		if l != nil {
			next = l.fork(number(from), next.seed)
		} else {
			first = next
		}
		for _, k := range still[1:] {
			next.hold(number(k), true)
		}
		l = next
	}
	return l, first, err
}

// savedWork finds a workload by name.
func savedWork(t *testing.T, name string, first *crashLine) *crashWork {
	if steps, ok := strings.CutPrefix(name, "small-"); ok {
		return smallPlanned(parseSmall(t, steps), first.still)
	}
	for i := range crashWorks {
		if strings.ReplaceAll(crashWorks[i].name, " ", "_") == name {
			return &crashWorks[i]
		}
	}
	t.Fatalf("no workload is called %s", name)
	return nil
}

// keep saves a state for testdata/crash and says where.
func (c *crashHunt) keep(s *vfs.State, p crashPromise) string {
	f, err := os.CreateTemp("", "folio-crash-*.txt")
	if err != nil {
		return err.Error()
	}
	_, err = f.WriteString(savedState(c.w, s, p))
	if err = errors.Join(err, f.Close()); err != nil {
		return err.Error()
	}
	return "kept as " + f.Name() + ": a regression test, once it is in testdata/crash"
}

// settledState is what a directory holds, with nothing in doubt.
func settledState(dir string) (*vfs.State, error) {
	rec := vfs.NewRecorder(vfs.OS)
	if err := rec.SyncDir(dir); err != nil { // the first call: what is there becomes the start of the log
		return nil, err
	}
	h := vfs.NewHistory(rec.Log())
	return h.State(h.Events(), vfs.KeepAll), nil
}

// TestCrashSaved judges the states that were found wanting once, as a hunt judges one; with either meta slot damaged; and in the
// hands of a process that dies in its turn.
func TestCrashSaved(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "crash"), func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var name, line string
			var p crashPromise
			var salt uint64
			d.ScanArgs(t, "work", &name)
			d.ScanArgs(t, "line", &line)
			d.ScanArgs(t, "lo", &p.lo)
			d.ScanArgs(t, "hi", &p.hi)
			d.ScanArgs(t, "salt", &salt)
			for _, arg := range d.CmdArgs {
				if arg.Key == "copy" {
					k, acked, _ := strings.Cut(arg.Vals[0], ":")
					n, err := strconv.ParseUint(k, 10, 64)
					must(t, err)
					p.copies = append(p.copies, copyPromise{n, acked == "true"})
				}
			}
			l, first, err := parseCrashLine(line)
			must(t, err)
			w := savedWork(t, name, first)
			p.line, first.profile = l, w.profile
			c := newCrashHunt(t, w, "")
			dir := filepath.Join(c.dir, "saved")
			must(t, writeSaved(dir, d.Input))
			if _, err := c.copies(vfs.OS, dir, p); err != nil {
				return err.Error()
			}
			s, err := settledState(dir)
			must(t, err)
			if _, err := c.lives(vfs.OS, filepath.Join(dir, "app.db"), p, salt); err != nil {
				return err.Error()
			}
			c.both = true
			if err := c.oneSlot(s, p, salt); err != nil {
				return err.Error()
			}
			if err := c.restart(s, p, 2, 40); err != nil {
				return err.Error()
			}
			return "ok"
		})
	})
}

// writeSaved writes the files of a saved state.
func writeSaved(dir, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var name, size string
	var packed strings.Builder
	flush := func() error {
		if name == "" {
			return nil
		}
		raw, err := base64.StdEncoding.DecodeString(packed.String())
		if err != nil {
			return err
		}
		data, err := io.ReadAll(flate.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return err
		}
		if strconv.Itoa(len(data)) != size {
			return fmt.Errorf("%s has %d bytes, and should have %s", name, len(data), size)
		}
		packed.Reset()
		return os.WriteFile(filepath.Join(dir, name), data, 0o600)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if part, ok := strings.CutPrefix(line, "  "); ok {
			packed.WriteString(part)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		name, size, _ = strings.Cut(line, " ")
	}
	return flush()
}
