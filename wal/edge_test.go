package wal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	res.space.anchor = interval{res.End.Offset, res.End.Offset + block}
	if _, err := Open(f, testID, &res, 2, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	// The link that Open needs does not fit into the file, nor on the disk.
	res.space.anchor = interval{}
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
	parts, h := group(1, nil).seal(kindGroup)
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

// What is written beside a sync may not be a tail of what that covers, and what is written behind it says in a head that the log is synced: else damage in
// what was synced would pass for the log's end.
func TestTailsBesideSync(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	tx := uint64(0)
	add := func() Position {
		tx++
		g := group(tx, put("k", nil))
		g.Unawaited = true
		return must(t)(l.Append(g))
	}
	add()
	covered := add()
	var beside Position
	f.during = func() {
		beside = add()
		add()
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	add()
	type place struct {
		tail   bool
		synced LSN
	}
	var got []place
	if _, err := Recover(f, testID, from, func(r Record) error {
		if r.Tail == (r.Offset%block == 0) {
			t.Errorf("tail %v at %d", r.Tail, r.Offset)
		}
		got = append(got, place{r.Tail, r.Synced})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []place{{false, 0}, {true, 0}, {false, 0}, {true, 0}, {false, covered.LSN}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if beside.Offset < padded(covered.Offset)+headSize {
		t.Errorf("written up to %d beside a sync up to %d", beside.Offset, covered.Offset)
	}
	f.data[from.Offset+headSize] ^= 1
	if _, err := Recover(f, testID, from, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damage in what was synced: %v", err)
	}
}

// A tail that was not there when a life began has come to light when the next one does: the disk had lost it for a while, as it may after a
// failed sync. It must not be taken for what follows the record that both continue.
func TestTailComesToLight(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	add := func(tx uint64, value string) Position {
		g := group(tx, put("k", []byte(value)))
		g.Unawaited = true
		return must(t)(l.Append(g))
	}
	at := add(1, "kept")
	end := add(2, "lost")
	lost := bytes.Clone(f.data[at.Offset:end.Offset])
	clear(f.data[at.Offset:end.Offset])
	_, res, err := read(f, from)
	if err != nil || res.Groups != 1 {
		t.Fatal(res, err)
	}
	if l, err = Open(f, testID, &res, 2, Options{Rand: counter(0x100)}); err != nil {
		t.Fatal(err)
	}
	add(2, "new")
	add(3, "newer")
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	copy(f.data[at.Offset:], lost)
	var values []string
	res, err = Recover(f, testID, from, func(r Record) error {
		for _, ops := range r.All() {
			return Decode(ops, func(op *Op) error { values = append(values, string(op.Value)); return nil })
		}
		return nil
	})
	if err != nil || res.End != l.End() || !slices.Equal(values, []string{"kept", "new", "newer"}) {
		t.Errorf("%q, %+v, %v", values, res, err)
	}

	// Nothing was shown of a life whose link is not whole.
	f.data[res.space.segs[0].end-block+headSize] ^= 1
	values = nil
	_, res, err = read(f, from)
	if err != nil || res.Groups != 2 || res.NextTx != 3 {
		t.Errorf("without the link: %+v, %v", res, err)
	}
}

// A sound head may name more than any record has: on 32 bits no slice is as long, and on others memory for it was allocated for a file that had
// nothing there. A file that is longer than any log was believed too. Found by a reviewer.
func TestHugeLengths(t *testing.T) {
	name := filepath.Join(t.TempDir(), "l")
	id := [16]byte{1}
	l, err := Create(vfs.OS, name, 0o600, id, 1, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	from := l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.OS.Open(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, block)
	h := head{kind: kindGroup, length: 2500 << 20, count: 1, id: id, lsn: from.LSN, epoch: from.Epoch, tx: 1, chain: from.Chain}
	h.encode(p)
	if _, err := f.WriteAt(p, from.Offset); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{3 << 30, maxSize + block, 1 << 61} {
		if err := f.Truncate(size); err != nil {
			t.Log(err) // more than the file system has
			continue
		}
		var corrupt *CorruptError
		if _, err := Recover(f, id, from, func(Record) error { return nil }); !errors.As(err, &corrupt) {
			t.Errorf("file of %d bytes: %v", size, err)
		}
	}
}
