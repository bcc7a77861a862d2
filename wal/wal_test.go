package wal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs the scripts in testdata. What each command does stands at its
// case, the scripts show examples.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{epochs: counter(0xe0)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			if err := s.run(t, d); err != nil {
				fmt.Fprintf(&s.out, "error: %v\n", err)
			}
			return s.out.String()
		})
	})
}

// script is the state of one script: a log, and the positions it has named.
type script struct {
	out    strings.Builder
	fsys   *memFS
	file   *memFile
	log    *Log
	opt    Options
	epochs func() uint64
	marks  map[string]Position
	nextTx uint64
}

func (s *script) run(t *testing.T, d *datadriven.TestData) error {
	switch d.Cmd {
	case "create": // create [limit=] [initial=] [lsn=]: a new log, marked as start
		return s.create(t, d)
	case "append": // append [n=] [size=] [unawaited]: a group; a transaction for each line of input, operations behind each other
		return s.append(t, d)
	case "sync":
		return s.log.Sync()
	case "mark": // mark name: names the end as a position
		s.marks[d.CmdArgs[0].Key] = s.log.End()
	case "release": // release [to=name]: everything before the position, or the end, may be written over
		return s.release(s.position(t, d, "to", s.log.End()))
	case "reserve": // reserve n=
		var n int64
		d.ScanArgs(t, "n", &n)
		return s.log.Reserve(n)
	case "state": // where the log stands, and its segments
		s.state()
	case "flip": // flip offset= [bits=]
		off, bits := int64(0), 0xff
		d.ScanArgs(t, "offset", &off)
		d.MaybeScanArgs(t, "bits", &bits)
		s.file.data[off] ^= byte(bits)
	case "zero": // zero offset= [n=]
		off, n := int64(0), int64(block)
		d.ScanArgs(t, "offset", &off)
		d.MaybeScanArgs(t, "n", &n)
		clear(s.file.data[off : off+n])
	case "truncate": // truncate at=
		var at int64
		d.ScanArgs(t, "at", &at)
		s.file.data = s.file.data[:at]
	case "crash": // crash keep=synced|all|(offsets...): what was not synced is lost but for the blocks named
		s.crash(d)
	case "fail": // fail op= [n=] [once]: the n-th call of the kind fails, and those after it
		s.fail(t, d)
	case "space": // space bytes=: the disk has room for that large a file
		d.ScanArgs(t, "bytes", &s.file.space)
	case "read": // read [from=name]: what recovery makes of it
		_, err := s.read(s.position(t, d, "from", s.marks["start"]))
		return err
	case "reopen": // reopen [from=name] [next=tx]: recovers and goes on
		return s.reopen(t, d)
	case "describe": // describe [from=name]: Dump
		return Dump(&s.out, s.file, testID, s.position(t, d, "from", s.marks["start"]))
	case "io": // file operations since the last io
		for _, op := range s.file.fsys.trace {
			fmt.Fprintln(&s.out, op)
		}
		s.file.fsys.trace, s.file.fsys.tracing = nil, true
	default:
		d.Fatalf(t, "unknown command")
	}
	return nil
}

func (s *script) position(t *testing.T, d *datadriven.TestData, arg string, otherwise Position) Position {
	var name string
	if d.MaybeScanArgs(t, arg, &name); name == "" {
		return otherwise
	}
	p, ok := s.marks[name]
	if !ok {
		d.Fatalf(t, "no position %q", name)
	}
	return p
}

func (s *script) create(t *testing.T, d *datadriven.TestData) (err error) {
	var start uint64
	s.opt = Options{Rand: s.epochs, Replace: d.HasArg("replace")}
	d.MaybeScanArgs(t, "limit", &s.opt.Limit)
	d.MaybeScanArgs(t, "initial", &s.opt.Initial)
	d.MaybeScanArgs(t, "lsn", &start)
	if s.fsys == nil {
		s.fsys = newMemFS()
	}
	s.fsys.tracing = true
	if s.log, err = Create(s.fsys, "app.db-wal", 0o600, testID, 7, LSN(start), s.opt); err != nil {
		return err
	}
	s.file, s.nextTx = s.fsys.files["app.db-wal"], 1
	if s.marks == nil {
		s.marks = map[string]Position{}
	}
	s.marks["start"] = s.log.End()
	return nil
}

func (s *script) append(t *testing.T, d *datadriven.TestData) error {
	n, size := 1, int64(0)
	d.MaybeScanArgs(t, "n", &n)
	d.MaybeScanArgs(t, "size", &size)
	for range n {
		g := &Group{}
		if size != 0 {
			g = sized(s.nextTx, size, '.')
		}
		for line := range strings.Lines(d.Input) {
			ops, err := parseOps(strings.TrimSpace(line))
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			g.Add(s.nextTx+uint64(g.Len()), ops)
		}
		g.Unawaited = d.HasArg("unawaited")
		before, segs := s.log.End(), len(s.log.space.segs)
		end, err := s.log.Append(g)
		if err != nil {
			return err
		}
		s.nextTx += uint64(g.Len())
		size := g.Size()
		if g.Unawaited {
			size = paddedTail(int64(len(g.buf)))
			if t := g.tail(); end.Offset == before.Offset+t.size() {
				size = t.size()
			}
		}
		fmt.Fprintf(&s.out, "%d bytes at %d", size, end.Offset-size)
		if len(s.log.space.segs) > segs {
			fmt.Fprintf(&s.out, ", link at %d", padded(before.Offset))
		}
		fmt.Fprintln(&s.out)
	}
	return nil
}

// release turns the panic of a mistake into an error.
func (s *script) release(p Position) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	s.log.Release(p)
	return nil
}

// parseOps reads operations as words: put k v, del k, range a b, bucket a b,
// create n, drop n, move n to a b, seq 5; separated by semicolons.
func parseOps(line string) (o Ops, err error) {
	for one := range strings.SplitSeq(line, ";") {
		w := strings.Fields(one)
		if len(w) == 0 {
			continue
		}
		args := make([][]byte, len(w))
		for i, a := range w {
			if args[i] = []byte(a); a == "-" {
				args[i] = nil
			}
		}
		switch args = args[1:]; w[0] {
		case "put":
			o.Put(args[0], args[1])
		case "del":
			o.Delete(args[0])
		case "range":
			o.DeleteRange(args[0], args[1])
		case "bucket":
			o.Bucket(args)
		case "create":
			o.CreateBucket(args[0])
		case "drop":
			o.DeleteBucket(args[0])
		case "move":
			o.MoveBucket(args[0], args[2:])
		case "seq":
			n, err := strconv.ParseUint(w[1], 10, 64)
			if err != nil {
				return nil, err
			}
			o.SetSequence(n)
		case "raw": // bytes that are no operation
			o = append(o, w[1]...)
		default:
			return nil, fmt.Errorf("no operation %q", w[0])
		}
	}
	return o, nil
}

func (s *script) state() {
	l := s.log
	fmt.Fprintf(&s.out, "end offset %d, lsn %d; synced %d; live %d of %d bytes; capacity %d\n",
		l.next.Offset, l.next.LSN, l.synced, l.Live(), l.Size(), l.Capacity())
	for _, seg := range l.space.segs {
		fmt.Fprintf(&s.out, "segment %d to %d, lsn %d\n", seg.off, seg.end, seg.lsn)
	}
	fmt.Fprintf(&s.out, "free up to %d", l.space.limit)
	if l.space.anchored() {
		fmt.Fprintf(&s.out, "; anchor %d", l.space.anchor.from)
		if n := l.space.anchor.to - l.space.anchor.from; n != block {
			fmt.Fprintf(&s.out, ", %d bytes", n)
		}
	}
	fmt.Fprintln(&s.out)
}

func (s *script) crash(d *datadriven.TestData) {
	choose := func(int64, int) int { return 0 }
	size := func(sizes []int64) int64 { return sizes[len(sizes)-1] }
	arg := d.CmdArgs[0]
	switch {
	case arg.Vals[0] == "all":
		choose = func(_ int64, n int) int { return n }
	case arg.Vals[0] == "synced":
		size = func(sizes []int64) int64 { return sizes[0] }
	default:
		choose = func(off int64, n int) int {
			if slices.Contains(arg.Vals, strconv.FormatInt(off, 10)) {
				return n
			}
			return 0
		}
	}
	trace := s.file.fsys.trace
	s.file = s.file.crash(choose, size, nil)
	s.file.fsys.trace, s.file.fsys.tracing = trace, true
	s.log = nil
}

func (s *script) fail(t *testing.T, d *datadriven.TestData) {
	var op string
	n := 1
	d.ScanArgs(t, "op", &op)
	d.MaybeScanArgs(t, "n", &n)
	fsys := s.fsys
	if s.file != nil {
		fsys = s.file.fsys
	}
	once := d.HasArg("once")
	fsys.fail = func(got string) error {
		if got != op {
			return nil
		}
		if n--; n > 0 || once && n < 0 {
			return nil
		}
		return errors.New("input/output error")
	}
}

func (s *script) read(from Position) (Result, error) {
	res, err := Recover(s.file, testID, from, func(r Record) error {
		fmt.Fprintf(&s.out, "%d: tx %d to %d\n", r.Offset, r.FirstTx, r.LastTx())
		return nil
	})
	if err == nil {
		how := "clean"
		if res.Torn {
			how = "torn"
		}
		fmt.Fprintf(&s.out, "end: %s at %d, lsn %d: %s\n", how, res.End.Offset, res.End.LSN, res.Stop)
	}
	return res, err
}

func (s *script) reopen(t *testing.T, d *datadriven.TestData) error {
	from := s.position(t, d, "from", s.marks["start"])
	res, err := s.read(from)
	if err != nil {
		return err
	}
	s.nextTx = max(res.NextTx, 1)
	d.MaybeScanArgs(t, "next", &s.nextTx)
	s.log, err = Open(s.file, testID, &res, s.nextTx, s.opt)
	return err
}
