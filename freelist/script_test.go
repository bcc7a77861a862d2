package freelist

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/foliodb/folio/page"
)

// script is what the files under testdata act on.
type script struct {
	l      *List
	freed  []string // told by OnFree since the last command
	busy   []page.ID
	disk   page.ID // pages that the disk has room for
	file   page.ID
	open   *Snapshot
	stored []byte // the last checkpoint's set,
	own    Extent // where it lies,
	count  page.ID
	before Extent // and where the one before lies
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.freed = nil
			out, err := s.do(t, d)
			if len(s.freed) > 0 {
				out += "freed " + strings.Join(s.freed, " ") + "\n"
			}
			if err != nil {
				out += fmt.Sprintf("error: %v\n", err)
			}
			return out
		})
	})
}

// do runs a command. Those that change the list print what they were given, and the
// figures as they are then.
func (s *script) do(t *testing.T, d *datadriven.TestData) (string, error) {
	if d.Cmd == "new" { // new end=20 free=(2-5,9) disk=30: a file in which all else is in use
		return s.begin(t, d)
	}
	num := func(name string, value int) int {
		d.MaybeScanArgs(t, name, &value)
		return value
	}
	l := s.l
	switch d.Cmd {
	case "alloc": // alloc n=2 times=3
		var got []string
		for range num("times", 1) {
			n := num("n", 1)
			id, ok := l.Alloc(n)
			if !ok {
				got = append(got, "none")
				break
			}
			got = append(got, Extent{id, page.ID(n)}.String())
		}
		return s.figures(strings.Join(got, " ")), nil
	case "extend": // extend n=2
		n := num("n", 1)
		id, err := l.Extend(n, math.MaxUint32)
		if err != nil {
			return "", err
		}
		return s.figures(Extent{id, page.ID(n)}.String()), nil
	case "give": // give id=4 n=2: FreeOwn
		err := l.FreeOwn(page.ID(num("id", 0)), num("n", 1))
		return s.figures(""), err
	case "commit": // commit tx=6 pins=(3,5), and a line for each dead run: 7-9 born 2
		err := l.Commit(page.TxID(num("tx", 0)), dead(t, d), pins(t, d))
		return s.figures(""), err
	case "rollback":
		l.Rollback()
		return s.figures(""), nil
	case "release": // release pins=(3,5onward): what is not among them any more is let go
		l.Reclaim(pins(t, d))
		return s.figures(""), nil
	case "busy": // busy ids=(4,5): OnFree refuses these
		s.busy = nil
		for _, e := range extents(t, d, "ids") {
			s.busy = append(s.busy, e.Start)
		}
		return "", nil
	case "append-only": // append-only from=20
		l.AppendOnly(page.ID(num("from", 0)))
		return s.figures(""), nil
	case "confine": // confine below=20: 0 ends it
		l.Confine(page.ID(num("below", 0)))
		return s.figures(""), nil
	case "disk": // disk room=40: how many pages fit
		s.disk = page.ID(num("room", 0))
		return "", nil
	case "dump":
		var b strings.Builder
		l.Dump(&b)
		return b.String(), nil
	case "stats":
		return fmt.Sprintf("%+v\n", l.Stats()), nil
	}
	return s.checkpoint(t, d, num)
}

// checkpoint runs the commands about free sets.
func (s *script) checkpoint(t *testing.T, d *datadriven.TestData, num func(string, int) int) (out string, err error) {
	l := s.l
	switch d.Cmd {
	case "snapshot": // snapshot pin=5 shrink=4
		s.open, err = l.Snapshot(page.TxID(num("pin", 0)), num("shrink", 0))
		return s.taken(), err
	case "bulk": // bulk tx=6 shrink=4, and dead runs as for commit
		s.open, err = l.SnapshotBulk(page.TxID(num("tx", 0)), dead(t, d), num("shrink", 0))
		return s.taken(), err
	case "encode":
		return s.encoded(s.open.Encode(), s.open.End), nil
	case "ensure":
		err := l.Ensure(s.open)
		return fmt.Sprintf("file %d\n", s.file), err
	case "finish": // finish keep: the checkpoint is durable; cut the file unless told to keep it
		s.before = s.own
		s.stored, s.own, s.count = s.open.Encode(), s.open.Own, s.open.End
		truncate := func(end page.ID) error {
			s.file = end
			return nil
		}
		if d.HasArg("keep") {
			truncate = nil
		}
		cut, err := l.Cut(s.open, truncate)
		return s.figures(fmt.Sprintf("cut %v, file %d, count %d", cut, s.file, s.count)), err
	case "trim": // trim shrink=4
		cut, err := l.Trim(num("shrink", 0), func(end page.ID) error {
			s.file = end
			return nil
		})
		return s.figures(fmt.Sprintf("cut %v, file %d", cut, s.file)), err
	case "abandon":
		l.Abandon(s.open)
		return s.figures(""), nil
	case "unfix": // the free set of the checkpoint before the last is not named by a slot any more
		l.Release(s.before)
		return s.figures(fmt.Sprintf("set at %v", s.before)), nil
	case "reload": // start again from the last finished checkpoint
		s.l = New(s.count, l.pageSize)
		s.connect()
		err := s.l.Load(s.stored, s.own)
		return s.figures(""), err
	case "load": // load own=4 and hex, with comments
		var text strings.Builder
		for line := range strings.Lines(d.Input) {
			line, _, _ = strings.Cut(line, "#")
			text.WriteString(strings.Join(strings.Fields(line), ""))
		}
		set, err := hex.DecodeString(text.String())
		if err != nil {
			t.Fatal(err)
		}
		err = l.Load(set, extents(t, d, "own")[0])
		return s.encoded(set, l.end) + s.figures(""), err
	}
	t.Fatalf("unknown command %q", d.Cmd)
	return "", nil
}

func (s *script) begin(t *testing.T, d *datadriven.TestData) (string, error) {
	var end, disk int
	size := 16
	d.ScanArgs(t, "end", &end)
	d.MaybeScanArgs(t, "size", &size)
	d.MaybeScanArgs(t, "disk", &disk)
	*s = script{l: New(page.ID(end), size), disk: page.ID(disk), file: page.ID(end)}
	s.connect()
	for _, e := range extents(t, d, "free") {
		s.l.release(e.Start, e.N)
	}
	return "", nil
}

func (s *script) connect() {
	s.l.OnFree = func(id page.ID, n int) bool {
		if slices.Contains(s.busy, id) {
			return false
		}
		s.freed = append(s.freed, Extent{id, page.ID(n)}.String())
		return true
	}
	s.l.Grow = func(end page.ID) (page.ID, error) {
		if s.disk > 0 && end > s.disk {
			return 0, errors.New("disk is full")
		}
		s.file = max(s.file, end)
		return s.file, nil
	}
}

func (s *script) figures(first string) string {
	if first != "" {
		first += "\n"
	}
	f := s.l.Stats()
	first += fmt.Sprintf("end=%d free=%d own=%d pending=%d", f.End, f.Free, f.Own, f.Retained+f.Busy)
	for _, p := range s.l.Retained() {
		first += fmt.Sprintf(" (%s: %d)", pinName(p.Pin), p.Pages)
	}
	return first + "\n"
}

func (s *script) taken() string {
	if s.open == nil {
		return ""
	}
	return fmt.Sprintf("count %d, set at %v\n", s.open.End, s.open.Own) + s.figures("")
}

func (s *script) encoded(set []byte, end page.ID) string {
	var b strings.Builder
	DumpSet(&b, set, end)
	return fmt.Sprintf("% x\n%s", set, b.String())
}

// extents reads (2-5,9).
func extents(t *testing.T, d *datadriven.TestData, name string) []Extent {
	var all []Extent
	for _, arg := range d.CmdArgs {
		if arg.Key != name {
			continue
		}
		for _, v := range arg.Vals {
			all = append(all, extent(t, v))
		}
	}
	return all
}

func extent(t *testing.T, text string) Extent {
	var first, last page.ID
	if _, err := fmt.Sscanf(text, "%d-%d", &first, &last); err == nil {
		return Extent{first, last - first + 1}
	}
	if _, err := fmt.Sscanf(text, "%d", &first); err != nil {
		t.Fatalf("not an extent: %q", text)
	}
	return Extent{first, 1}
}

// pins reads (3,5,7onward).
func pins(t *testing.T, d *datadriven.TestData) []page.TxID {
	var all []page.TxID
	for _, arg := range d.CmdArgs {
		if arg.Key != "pins" {
			continue
		}
		for _, v := range arg.Vals {
			var p page.TxID
			number, onward := strings.CutSuffix(v, "onward")
			if _, err := fmt.Sscan(number, &p); err != nil {
				t.Fatalf("not a pin: %q", v)
			}
			if onward {
				p |= Onward
			}
			all = append(all, p)
		}
	}
	return all
}

// dead reads lines such as "7-9 born 2"; without born it is not known.
func dead(t *testing.T, d *datadriven.TestData) []Dead {
	var all []Dead
	for line := range strings.Lines(d.Input) {
		pages, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		e := extent(t, pages)
		var born page.TxID
		if _, err := fmt.Sscanf(rest, "born %d", &born); rest != "" && err != nil {
			t.Fatalf("not a life: %q", line)
		}
		all = append(all, Dead{e.Start, e.N, born})
	}
	return all
}
