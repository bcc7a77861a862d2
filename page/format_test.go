package page

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestFormat runs the scripts in testdata/format. They work on one page, "the page", and sometimes on a second one.
func TestFormat(t *testing.T) {
	datadriven.Walk(t, "testdata/format", func(t *testing.T, path string) {
		f := &formatScript{t: t}
		datadriven.RunTest(t, path, f.run)
	})
}

type formatScript struct {
	t           *testing.T
	page, other []byte
}

func (f *formatScript) run(t *testing.T, d *datadriven.TestData) string {
	f.t = t
	switch d.Cmd {
	case "leaf": // leaf id=7: a new leaf; lines of key=value are put in
		f.page = InitLeaf(make([]byte, MinPageSize), f.id(d), 5)
		return f.put(d)
	case "branch": // branch id=7: a new branch of level 1; lines are as for child
		f.page = InitBranch(make([]byte, MinPageSize), f.id(d), 5, 1)
		return f.child(d)
	case "meta": // meta slot=1: a meta slot, with what the arguments say
		return f.meta(d)
	case "put": // lines of key=value; value may be "bucket", or "bucket" and the entries of its image
		return f.put(d)
	case "child": // lines of [separator] page items [refs], put in where they belong
		return f.child(d)
	case "del": // del i=2 [to=4]: takes entries out
		return f.del(d)
	case "search": // lines of keys: where a leaf has them, or to which child a branch sends them
		return f.search(d)
	case "compact": // into a fresh page, which becomes the page
		fresh := make([]byte, len(f.page))
		if KindOf(f.page) == KindLeaf {
			Leaf(f.page).CompactInto(fresh)
		} else {
			Branch(f.page).CompactInto(fresh)
		}
		f.page = fresh
		return f.dump(f.page)
	case "split": // split key=value: where a leaf would be divided
		e := parseEntry(t, d.Input)
		i, _ := Leaf(f.page).Search(e.Key)
		return fmt.Sprintf("%d of %d stay left", Leaf(f.page).SplitPoint(i, e), CountOf(f.page)+1)
	case "move": // move at=2: the entries from 2 on go to a new page; both are shown
		return f.move(d)
	case "corrupt": // corrupt offset=10 hex=ff [stale]: overwrites bytes; the checksum follows unless stale
		return f.corrupt(d)
	case "verify": // what Validate or DecodeMeta finds; always done before "ok"
		return f.verify()
	case "dump":
		return f.dump(f.page)
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

func (f *formatScript) id(d *datadriven.TestData) ID {
	id := 7
	d.MaybeScanArgs(f.t, "id", &id)
	return ID(id)
}

func (f *formatScript) dump(p []byte) string {
	if !IsMeta(p) && KindOf(p) != 0 {
		Seal(p)
	}
	var b strings.Builder
	if err := Dump(&b, p); err != nil {
		f.t.Fatal(err)
	}
	return b.String()
}

// text returns the bytes that an operand stands for: escaped, and repeated n times behind "*n".
func text(t *testing.T, s string) []byte {
	t.Helper()
	s, times, _ := strings.Cut(s, "*")
	b, err := Unescape(s)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(times); err == nil {
		b = bytes.Repeat(b, n)
	}
	return b
}

var scriptRef = Ref{ID: 90, Born: 3, Sum: 0xabcdef}

// parseEntry reads key=value. What belongs into a run is said to be in scriptRef.
func parseEntry(t *testing.T, line string) Entry {
	t.Helper()
	k, v, _ := strings.Cut(line, "=")
	e := Entry{Key: text(t, k), Ref: scriptRef}
	if rest, ok := strings.CutPrefix(v, "bucket"); ok {
		e.Bucket = true
		e.Value = scriptBucket(t, rest)
	} else {
		e.Value = text(t, v)
	}
	e.KeyLen, e.ValLen = len(e.Key), len(e.Value)
	return e
}

// scriptBucket returns the value of a bucket: " @30" has its root at page 30, " a=1 b=2" an image of these entries.
func scriptBucket(t *testing.T, s string) []byte {
	h := BucketHeader{Sequence: 4}
	if root, ok := strings.CutPrefix(s, " @"); ok {
		n, _ := strconv.Atoi(root)
		h.Root, h.Level, h.Items = ID(n), 1, 500
		return encodeBucket(h)
	}
	l := InitLeaf(make([]byte, MinPageSize), 8, 5)
	for _, kv := range strings.Fields(s) {
		l.Insert(l.Count(), parseEntry(t, kv))
		h.Items++
	}
	return l.AppendImage(encodeBucket(h))
}

func (f *formatScript) put(d *datadriven.TestData) string {
	l := Leaf(f.page)
	for line := range strings.Lines(d.Input) {
		e := parseEntry(f.t, strings.TrimSpace(line))
		i, found := l.Search(e.Key)
		if put := l.Insert; found && !l.Replace(i, e) || !found && !put(i, e) {
			return fmt.Sprintf("no room for %s: %d bytes free, %d needed\n", Escape(e.Key), l.Free(), EntrySize(len(l), e.KeyLen, e.ValLen))
		}
	}
	return f.dump(f.page)
}

func (f *formatScript) child(d *datadriven.TestData) string {
	b := Branch(f.page)
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		var sep Sep
		i := 0
		if b.Count() > 0 {
			sep.Key, words = text(f.t, words[0]), words[1:]
			sep.Len, sep.Ref = len(sep.Key), scriptRef
			i = 1 + b.Search(sep.Key)
		}
		id, _ := strconv.Atoi(words[0])
		items, _ := strconv.ParseUint(words[1], 10, 64)
		if !b.Insert(i, sep, ID(id), items, len(words) > 2) {
			return "no room\n"
		}
	}
	return f.dump(f.page)
}

func (f *formatScript) del(d *datadriven.TestData) string {
	var i int
	d.ScanArgs(f.t, "i", &i)
	to := i + 1
	ranged := d.MaybeScanArgs(f.t, "to", &to)
	type node interface {
		Remove(i int)
		RemoveRange(from, to int)
	}
	var n node = Leaf(f.page)
	if KindOf(f.page) == KindBranch {
		n = Branch(f.page)
	}
	if ranged {
		n.RemoveRange(i, to)
	} else {
		n.Remove(i)
	}
	return f.dump(f.page)
}

func (f *formatScript) search(d *datadriven.TestData) string {
	var b strings.Builder
	for line := range strings.Lines(d.Input) {
		key := text(f.t, strings.TrimSpace(line))
		if KindOf(f.page) == KindBranch {
			fmt.Fprintf(&b, "%s: child %d\n", Escape(key), Branch(f.page).Search(key))
			continue
		}
		i, found := Leaf(f.page).Search(key)
		fmt.Fprintf(&b, "%s: %d %v\n", Escape(key), i, found)
	}
	return b.String()
}

func (f *formatScript) move(d *datadriven.TestData) string {
	var at int
	d.ScanArgs(f.t, "at", &at)
	f.other = make([]byte, len(f.page))
	n := CountOf(f.page)
	if KindOf(f.page) == KindLeaf {
		Leaf(f.page).Move(InitLeaf(f.other, 8, 5), at, n)
	} else {
		Branch(f.page).Move(InitBranch(f.other, 8, 5, 1), at, n, Sep{})
	}
	return f.dump(f.page) + f.dump(f.other)
}

func (f *formatScript) meta(d *datadriven.TestData) string {
	m := Meta{PageSize: MinPageSize, StoreID: [16]byte{1, 2, 3}, Checkpoint: 8, Tx: 70, Pages: 20}
	m.Root = BucketHeader{Sequence: 1, Items: 300, Root: 5, Level: 1}
	m.Free, m.FreeLen = Ref{ID: 9, Born: 69, Sum: 0xfeed}, 5000
	m.LogLSN, m.LogOffset, m.LogEpoch, m.LogChain = 10240, 8192, 0xe, 0xc
	slot := 0
	d.MaybeScanArgs(f.t, "slot", &slot)
	m.Clean = d.HasArg("clean")
	f.page = make([]byte, MinPageSize)
	m.Encode(f.page, slot)
	return f.dump(f.page)
}

func (f *formatScript) corrupt(d *datadriven.TestData) string {
	var off int
	var digits string
	d.ScanArgs(f.t, "offset", &off)
	d.ScanArgs(f.t, "hex", &digits)
	b, err := hex.DecodeString(digits)
	if err != nil {
		f.t.Fatal(err)
	}
	if off < 0 {
		off += len(f.page)
	}
	before := bytes.Clone(f.page)
	copy(f.page[off:], b)
	switch {
	case d.HasArg("stale"):
	case off < MetaSize && IsMeta(before):
		sealMeta(f.page)
	default:
		Seal(f.page)
	}
	text := f.verify()
	if d.HasArg("keep") {
		return text
	}
	f.page = before // the next command finds the page whole again
	return text
}

func (f *formatScript) verify() string {
	var err error
	if IsMeta(f.page) || KindOf(f.page) == 0 {
		_, err = DecodeMeta(f.page, int(le.Uint32(f.page[metaSlot:])&1))
	} else {
		err = Validate(f.page, 7)
	}
	if err != nil {
		return fmt.Sprintf("error: %v\n", err)
	}
	return "ok\n"
}
