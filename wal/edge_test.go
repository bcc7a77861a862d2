package wal

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// TestCreateFailures fails each call of Create: no file is left, and the error is
// what the call gave.
func TestCreateFailures(t *testing.T) {
	bad := errors.New("input/output error")
	for n := 1; ; n++ {
		m := newMemFS()
		opt := Options{Replace: true}
		if _, err := Create(m, "app.db-wal", 0o600, testID, 1, 0, opt); err != nil {
			t.Fatal(err)
		}
		calls := 0
		m.fail = func(string) error {
			if calls++; calls == n {
				return bad
			}
			return nil
		}
		_, err := Create(m, "app.db-wal", 0o600, testID, 1, 0, opt)
		if calls < n {
			if err != nil || n < 7 {
				t.Fatalf("%d calls, %v", calls, err)
			}
			return
		}
		if !errors.Is(err, bad) {
			t.Fatalf("call %d: %v", n, err)
		}
		if n > 2 && len(m.files) != 0 {
			t.Fatalf("call %d: a file is left", n)
		}
	}
}

// statless is a file that cannot be described.
type statless struct{ *memFile }

func (s statless) Stat() (vfs.Info, error) { return vfs.Info{}, io.ErrNoProgress }

// shrunk is a file that is shorter than it says.
type shrunk struct{ *memFile }

func (s shrunk) ReadAt(p []byte, off int64) (int, error) {
	if off >= recordsAt {
		return 0, io.EOF
	}
	return s.memFile.ReadAt(p, off)
}

// TestFileErrors verifies that what the file answers is passed on, and is not
// taken for damage or for the end.
func TestFileErrors(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	res, err := Recover(f, testID, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(statless{f}, testID, from, nil); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	if _, err := Open(statless{f}, testID, &res, 1, Options{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	if _, err := Recover(shrunk{f}, testID, from, nil); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if err := Dump(io.Discard, shrunk{f}, testID, from); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	// The search behind the end fails.
	reads := 0
	f.fsys.fail = func(op string) error {
		if reads++; reads > 3 {
			return io.ErrNoProgress
		}
		return nil
	}
	f.data = append(f.data, make([]byte, 2*readAhead)...)
	if _, err := Recover(f, testID, from, nil); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// TestOpenWithoutRoom opens a log whose end is held by something live at once: no
// log leaves itself like that.
func TestOpenWithoutRoom(t *testing.T) {
	l, f := createMem(t, Options{})
	must(t)(l.Append(group(1, nil)))
	_, res, err := read(f, Position{LSN: 0, Offset: recordsAt, Epoch: l.next.Epoch, Chain: mustHeader(t, f).sum})
	if err != nil {
		t.Fatal(err)
	}
	res.space.anchor = res.End.Offset
	if _, err := Open(f, testID, &res, 2, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	// The link that Open needs does not fit into the file, nor on the disk.
	res.space.anchor = 0
	f.data = f.data[:res.End.Offset+block]
	f.space = int64(len(f.data))
	if _, err := Open(f, testID, &res, 2, Options{}); err == nil || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func mustHeader(t *testing.T, f vfs.File) Header {
	h, err := ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestImpossibleHeader reads a header with a right checksum and an LSN that none
// can reach.
func TestImpossibleHeader(t *testing.T) {
	l, f := createMem(t, Options{})
	h := Header{Version: Version, ID: testID, LSN: maxLSN + 1}
	h.encode(f.data)
	if _, err := Recover(f, testID, l.End(), nil); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// TestForeignRecord finds a record of another store where the next one would be.
func TestForeignRecord(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	parts, _, h := group(1, nil).seal()
	data := parts[0]
	h.id, h.epoch, h.chain = [16]byte{9}, from.Epoch, from.Chain
	h.encode(data)
	f.WriteAt(data, from.Offset)
	if txs, res, err := read(f, from); err != nil || len(txs) != 0 || res.Stop != "a record of another store" {
		t.Errorf("%v, %+v, %v", txs, res, err)
	}
}

// TestGroupBuffer verifies that a group does not hold on to the room of a large
// transaction, and does to that of a small one.
func TestGroupBuffer(t *testing.T) {
	var g Group
	g.Add(1, make(Ops, keepBuffer-1))
	if g.Reset(); g.buf != nil {
		t.Error("large buffer kept")
	}
	g.Add(1, make(Ops, 100))
	if g.Reset(); g.buf == nil {
		t.Error("small buffer dropped")
	}
}

// TestOpsText shows each operation in its one-line form, cut short, and that a
// loop over names or transactions may break.
func TestOpsText(t *testing.T) {
	ops, err := parseOps("bucket a b; range - c")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	err = Decode(ops, func(op *Op) error {
		for name := range op.Path.All() {
			if string(name) != "a" {
				t.Errorf("first name %q", name)
			}
			break
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	for _, bad := range [][]byte{
		{byte(OpDeleteRange)}, {byte(OpDeleteRange), 4}, {byte(OpDeleteRange), hasTo, 5},
		{byte(OpBucket), 2, 1, 'a', 7}, {byte(OpMoveBucket), 1, 'a'}, {byte(OpSetSequence)}, {0}, {99},
	} {
		if err := Decode(bad, func(*Op) error { return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	g := group(4, ops, nil)
	rec := Record{FirstTx: 4, Count: 2, Payload: g.buf[headSize:]}
	for tx := range rec.All() {
		if tx != 4 {
			t.Errorf("first is %d", tx)
		}
		break
	}
}

// TestDumpUnknown lists a sound head of a kind to come.
func TestDumpUnknown(t *testing.T) {
	l, f := createMem(t, Options{})
	h := head{kind: 7, id: testID}
	p := make([]byte, block)
	h.encode(p)
	f.WriteAt(p, recordsAt+10*block)
	var out bytes.Buffer
	if err := Dump(&out, f, testID, l.End()); err != nil || !strings.Contains(out.String(), "not live: kind 7") {
		t.Errorf("%s%v", out.String(), err)
	}
}
