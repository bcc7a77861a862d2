package folio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"go/constant"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// FORMAT.md tells people what the packages page, freelist and wal tell the machine. These tests
// read its tables and its examples, and hold both to the bytes that the code writes, so that neither
// can be changed alone.

// The examples of FORMAT.md are of one store.
const exampleSize = 4096

var exampleID = [16]byte([]byte("\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf"))

func exampleSet() []byte {
	return freelist.EncodeSet(20, func(id page.ID) bool { return id >= 5 && id <= 7 || id == 9 })
}

func exampleMeta() page.Meta {
	set := exampleSet()
	return page.Meta{
		PageSize: exampleSize, StoreID: exampleID, Checkpoint: 8, Tx: 70, Pages: 20,
		Root: page.BucketHeader{Sequence: 1, Items: 300, Root: 4, Level: 1},
		Free: page.Ref{ID: 12, Born: 70, Sum: page.Sum(set)}, FreeLen: uint64(len(set)),
		LogLSN: 10240, LogOffset: 8192, LogEpoch: 0x1111111111111111, LogChain: 0x2222222222222222,
	}
}

func exampleLeaf(t *testing.T) []byte {
	l := page.InitLeaf(make([]byte, exampleSize), 7, 70)
	if !l.Insert(0, inlineEntry("ka", "1")) || !l.Insert(1, runEntry("kb", make([]byte, 5000))) {
		t.Fatal("no room")
	}
	page.Seal(l)
	return l
}

func inlineEntry(k, v string) page.Entry {
	return page.Entry{Key: []byte(k), KeyLen: len(k), Value: []byte(v), ValLen: len(v)}
}

// runEntry is an entry whose value, or key and value, lie in a run at page 9.
func runEntry(k string, v []byte) page.Entry {
	return page.Entry{Key: []byte(k), KeyLen: len(k), ValLen: len(v), Ref: page.Ref{ID: 9, Born: 70, Sum: page.Sum(v)}}
}

func exampleBranch(t *testing.T) []byte {
	b := page.InitBranch(make([]byte, exampleSize), 8, 70, 1)
	ok := b.Insert(0, page.Sep{}, 4, 9, false) &&
		b.Insert(1, page.Sep{Key: []byte("kb"), Len: 2}, 5, 10, true) &&
		b.Insert(2, page.Sep{Key: []byte("kcdefg"), Len: 6}, 6, 11, false)
	if !ok {
		t.Fatal("no room")
	}
	page.Seal(b)
	return b
}

// exampleBucket is the value of the entry of a bucket that lies inside it.
func exampleBucket(t *testing.T) []byte {
	l := page.InitLeaf(make([]byte, exampleSize), 7, 70)
	if !l.Insert(0, inlineEntry("ka", "1")) || !l.Insert(1, inlineEntry("kb", "22")) {
		t.Fatal("no room")
	}
	value := make([]byte, page.BucketHeaderSize)
	page.BucketHeader{Sequence: 3, Items: 2}.Encode(value)
	return l.AppendImage(value)
}

// TestFormatMeta holds the tables and examples of what is not a node.
func TestFormatMeta(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	m := exampleMeta()
	p := make([]byte, exampleSize)
	m.Encode(p, 1)
	doc.shows(t, "meta", p)
	m.Clean = true
	m.Encode(p, 1)
	doc.holds(t, "Meta slot", p[:page.MetaSize], nil, fields{
		"magic": []byte("FOLIO\x00\x1a\n"), "version": uint64(page.FormatVersion), "page size": uint64(exampleSize),
		"features": uint64(0), "slot": uint64(1), "store id": exampleID[:], "checkpoint": m.Checkpoint,
		"transaction": uint64(m.Tx), "flags": uint64(1), "page count": uint64(m.Pages),
		"root": encodeHeader(m.Root), "free set": encodeRef(m.Free), "free set length": m.FreeLen,
		"log LSN": m.LogLSN, "log offset": uint64(m.LogOffset), "log epoch": m.LogEpoch, "log chain": m.LogChain,
		"checksum": xxhash.Sum64(p[:504]),
	})
	if got, err := page.DecodeMeta(p, 1); err != nil || got != m {
		t.Errorf("DecodeMeta: %+v, %v", got, err)
	}

	h := page.BucketHeader{Sequence: 1 << 60, Items: 1 << 40, Root: 7, Level: 3}
	doc.holds(t, "Bucket header", encodeHeader(h), nil, fields{
		"sequence": h.Sequence, "items": h.Items, "root": uint64(h.Root), "level": uint64(h.Level),
	})
	doc.holds(t, "Runs", encodeRef(m.Free), nil, fields{
		"page": uint64(m.Free.ID), "born": uint64(m.Free.Born), "sum": m.Free.Sum,
	})
	doc.shows(t, "set", exampleSet())
	doc.shows(t, "bucket", exampleBucket(t))
	if err := page.ValidateBucket(exampleBucket(t), exampleSize); err != nil {
		t.Error(err)
	}
}

func encodeHeader(h page.BucketHeader) []byte {
	b := make([]byte, page.BucketHeaderSize)
	h.Encode(b)
	return b
}

func encodeRef(r page.Ref) []byte {
	b := make([]byte, page.RefSize)
	r.Encode(b)
	return b
}

// TestFormatLeaf holds the node header and what a leaf has behind it.
func TestFormatLeaf(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	p := exampleLeaf(t)
	doc.shows(t, "leaf", p)
	if err := page.Validate(p, 7); err != nil {
		t.Error(err)
	}

	bucket := page.Entry{Key: []byte("app/b"), KeyLen: 5, Value: make([]byte, page.BucketHeaderSize), ValLen: page.BucketHeaderSize, Bucket: true}
	l := page.InitLeaf(make([]byte, exampleSize), 7, 1<<40)
	for i, e := range []page.Entry{inlineEntry("app/a", "xyz"), bucket, inlineEntry("app/cdefg", "4")} {
		if !l.Insert(i, e) {
			t.Fatal("no room")
		}
	}
	if !l.Replace(0, inlineEntry("app/a", "new")) {
		t.Fatal("no room")
	}
	page.Seal(l)
	heap := "app/a" + "new" + "app/cdefg4" + "app/b" + string(bucket.Value) + "app/a" + "xyz"
	h := len(heap)
	doc.holds(t, "Node header", l[:page.HeaderSize], nil, fields{
		"checksum": xxhash.Sum64(l[8:]), "id": uint64(7), "kind": uint64(1), "level": uint64(0), "flags": uint64(2),
		"trend": uint64(2), "born": uint64(1 << 40), "count": uint64(3), "prefix": uint64(4), "heap": uint64(h),
		"garbage": uint64(len("app/axyz")),
	})
	slot := func(off, keyLen int, valLen uint16) []byte {
		b := binary.LittleEndian.AppendUint16(nil, uint16(off))
		b = binary.LittleEndian.AppendUint16(b, uint16(keyLen-1))
		return binary.LittleEndian.AppendUint16(b, valLen)
	}
	start := exampleSize - h
	doc.holds(t, "Leaf", l, vars{"s": exampleSize, "n": 3, "h": h}, fields{
		"header": []byte(l[:32]), "heads": []byte("\x00\x00\x00a\x00\x00\x00bfedc"),
		"slots": slices.Concat(slot(start, 5, 3), slot(start+18, 5, 1<<15|page.BucketHeaderSize), slot(start+8, 9, 1)),
		"gap":   make([]byte, start-32-10*3),
		"heap":  []byte(heap),
	})
	doc.holds(t, "Slot of a leaf", l[32+4*3+6:][:6], nil, fields{
		"offset": uint64(start + 18), "key length": uint64(5 - 1), "value length": uint64(1<<15 | page.BucketHeaderSize),
	})
}

// TestFormatForms holds the table that tells how an entry is kept.
func TestFormatForms(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	rows := doc.table(t, "Forms of entries")
	for _, s := range []int{page.MinPageSize, 16384, page.MaxPageSize} {
		longest, largest := page.MaxKey(s), page.MaxEntry(s)-10
		for _, k := range []int{1, 2, longest - 1, longest, longest + 1, page.MaxKeyLen} {
			for _, v := range []int{0, 1, largest - k - 1, largest - k, largest - k + 1, 3 * s} {
				if v < 0 {
					continue
				}
				vs := vars{"s": s, "k": k, "v": v}
				i := slices.IndexFunc(rows, func(r []string) bool { return r[1] == "else" || constant.BoolVal(eval(t, r[1], vs)) })
				form := page.FormOf(s, k, v)
				if i < 0 || rows[i][0] != form.String() {
					t.Fatalf("key %d, value %d, page %d: row %d, the code says %v", k, v, s, i, form)
				}
				if n := int(evalInt(t, rows[i][3], vs)); n != page.EntrySize(s, k, v)-10 {
					t.Fatalf("%v: the table says %d bytes in the heap, the code %d", form, n, page.EntrySize(s, k, v)-10)
				}
				l := page.InitLeaf(make([]byte, s), 7, 70)
				e := page.Entry{Key: bytes.Repeat([]byte("k"), k), KeyLen: k, Value: make([]byte, v), ValLen: v, Ref: page.Ref{ID: 9, Born: 70}}
				if !l.Insert(0, e) || l.RunLen(0) != uint64(evalInt(t, rows[i][5], vs)) {
					t.Fatalf("%v: run of %d bytes, the table says %s", form, l.RunLen(0), rows[i][5])
				}
			}
		}
	}
}

// TestFormatBranch holds the tables of a branch.
func TestFormatBranch(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	p := exampleBranch(t)
	doc.shows(t, "branch", p)
	if err := page.Validate(p, 8); err != nil {
		t.Error(err)
	}

	long := page.Sep{Key: bytes.Repeat([]byte("z"), 600), Len: 600, Ref: page.Ref{ID: 9, Born: 3, Sum: 0xfeed}}
	b := page.InitBranch(make([]byte, exampleSize), 8, 70, 1)
	ok := b.Insert(0, page.Sep{}, 4, 9, false) && b.Insert(1, page.Sep{Key: []byte("kb"), Len: 2}, 5, 1<<46, true) &&
		b.Insert(2, page.Sep{Key: []byte("kcdefg"), Len: 6}, 6, 11, false) && b.Insert(3, long, 10, 12, false)
	if !ok {
		t.Fatal("no room")
	}
	page.Seal(b)
	stub := append(binary.LittleEndian.AppendUint16(nil, 0xffff), 600&0xff, 600>>8)
	stub = append(append(stub, encodeRef(long.Ref)...), long.Key[:page.StubSize]...)
	heap := string(stub) + "\x06\x00fg"
	h := len(heap)
	le := binary.LittleEndian
	offs := le.AppendUint16(le.AppendUint16(le.AppendUint16(make([]byte, 2), 2), uint16(exampleSize-4)), uint16(exampleSize-h))
	counts := []byte{9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40 | 0x80, 11, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0}
	doc.holds(t, "Branch", b, vars{"s": exampleSize, "n": 4, "h": h}, fields{
		"header": []byte(b[:32]),
		"slots": slices.Concat([]byte{0, 0, 0, 0, 4, 0, 0, 0}, []byte{0, 0, 'b', 'k', 5, 0, 0, 0},
			[]byte{'e', 'd', 'c', 'k', 6, 0, 0, 0}, []byte{'z', 'z', 'z', 'z', 10, 0, 0, 0}),
		"offsets": offs, "counts": counts, "gap": make([]byte, exampleSize-h-32-16*4), "heap": []byte(heap),
	})
	doc.holds(t, "Slot of a branch", b[32+8:][:8], nil, fields{"head": uint64('k'<<24 | 'b'<<16), "child": uint64(5)})
	doc.holds(t, "Count of a branch", b[32+10*4+6:][:6], nil, fields{"items": uint64(1<<46 | 1<<47)})
	doc.holds(t, "Separators", []byte("\x06\x00fg"), vars{"n": 6}, fields{"length": uint64(6), "suffix": []byte("fg")})
	doc.holds(t, "Long separators", stub, nil, fields{
		"mark": uint64(0xffff), "length": uint64(600), "ref": encodeRef(long.Ref), "stub": long.Key[:page.StubSize],
	})
}

// TestFormatLimits holds the table of limits. What is not a constant is tried out.
func TestFormatLimits(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	log := writeExampleLog(t)
	rows := doc.table(t, "Limits")
	for _, s := range []int{page.MinPageSize, page.MaxPageSize} {
		want := map[string]int64{
			"smallest page": page.MinPageSize, "largest page": page.MaxPageSize, "node header": page.HeaderSize,
			"first page behind the meta slots": int64(page.FirstID), "levels of a tree": page.MaxLevel,
			"longest key": page.MaxKeyLen, "longest value": page.MaxValueLen,
			"longest key kept whole in a page": int64(page.MaxKey(s)), "largest entry of a leaf, slot included": int64(page.MaxEntry(s)),
			"stub of a long key": page.StubSize, "longest inline image": int64(page.MaxImage(s)),
			"longest prefix beside a long key": longestPrefix(s), "items below a child, or in a bucket": mostItems(),
			"checkpoint, transaction and LSN of a meta slot": mostNumber(),
			"pages of a run of r bytes":                      int64(page.RunPages(10001, s)),
			"alignment of records":                           log.second - log.first, "first record": log.first,
		}
		for _, row := range rows {
			n, ok := want[row[0]]
			if !ok {
				t.Errorf("limit %q is not known to the test", row[0])
			} else if got := evalInt(t, row[1], vars{"s": s, "r": 10001}); got != n {
				t.Errorf("limit %q is %d in FORMAT.md, %d in the code", row[0], got, n)
			}
			delete(want, row[0])
		}
		for name := range want {
			t.Errorf("limit %q is not in FORMAT.md", name)
		}
	}
}

// longestPrefix puts two long keys that differ late into a leaf and looks what prefix it takes.
func longestPrefix(pageSize int) int64 {
	l := page.InitLeaf(make([]byte, pageSize), 7, 70)
	for i, last := range []string{"a", "b"} {
		l.Insert(i, runEntry(strings.Repeat("k", page.MaxKey(pageSize))+last, nil))
	}
	return int64(binary.LittleEndian.Uint16(l[26:]))
}

// mostNumber finds the largest number of each kind that a meta slot may have; 0 if they differ.
func mostNumber() int64 {
	var most [3]int64
	for i := range most {
		for bit := int64(1) << 62; bit > 0; bit /= 2 {
			m := page.Meta{PageSize: page.MinPageSize, Pages: page.FirstID}
			*[]*uint64{&m.Checkpoint, (*uint64)(&m.Tx), &m.LogLSN}[i] = uint64(most[i] | bit)
			p := make([]byte, page.MetaSize)
			m.Encode(p, 0)
			if _, err := page.DecodeMeta(p, 0); err == nil {
				most[i] |= bit
			}
		}
	}
	if most[0] != most[1] || most[1] != most[2] {
		return 0
	}
	return most[0]
}

// mostItems finds the largest count that a bucket's header may have.
func mostItems() int64 {
	n := int64(0)
	for bit := int64(1) << 62; bit > 0; bit /= 2 {
		h := page.BucketHeader{Items: uint64(n | bit), Root: 9}
		if page.ValidateBucket(encodeHeader(h), page.MinPageSize) == nil {
			n |= bit
		}
	}
	return n
}

// exampleLog is a log as bytes, and where its records lie: two groups and a link.
type exampleLog struct {
	bytes         []byte
	first, second int64
	third, link   int64
	target        int64
}

// writeExampleLog makes a log of three groups, synced after the first, and opens it again, which adds a link.
func writeExampleLog(t *testing.T) exampleLog {
	t.Helper()
	name := filepath.Join(t.TempDir(), logName("app.db"))
	n := uint64(0)
	opt := wal.Options{Rand: func() uint64 { n++; return n * 0x1111111111111111 }}
	log, err := wal.Create(vfs.OS, name, 0o600, exampleID, 9, 10240, opt)
	if err != nil {
		t.Fatal(err)
	}
	start := log.End()
	var at []int64
	for tx, value := range []string{"1815", "1852", "1843"} {
		var g wal.Group
		var ops wal.Ops
		ops.Bucket([][]byte{[]byte("users")})
		ops.Put([]byte("ada"), []byte(value))
		g.Add(uint64(71+tx), ops)
		at = append(at, log.End().Offset)
		if _, err := log.Append(&g); err != nil {
			t.Fatal(err)
		}
		if tx == 0 {
			if err := log.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	link, target := openExampleLog(t, name, start, opt)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return exampleLog{bytes: b, first: at[0], second: at[1], third: at[2], link: link, target: target}
}

// openExampleLog reads the log from its start and opens it, and returns where it went on.
func openExampleLog(t *testing.T, name string, start wal.Position, opt wal.Options) (link, target int64) {
	t.Helper()
	f, err := vfs.OS.Open(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	res, err := wal.Recover(f, exampleID, start, func(wal.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open(f, exampleID, &res, 90, opt)
	if err != nil {
		t.Fatal(err)
	}
	target = log.End().Offset
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return res.End.Offset, target
}

// TestFormatLog holds the tables and examples of the log.
func TestFormatLog(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	log := writeExampleLog(t)
	b := log.bytes
	sum := func(at int64, n int64) uint64 { return xxhash.Sum64(b[at:][:n]) }

	doc.shows(t, "log header", b[:log.first])
	doc.shows(t, "log record", b[log.first:log.second])
	doc.shows(t, "log link", b[log.link:log.target])
	doc.holds(t, "Log header", b[:log.first], nil, fields{
		"magic": []byte("FOLIOWAL"), "version": uint64(wal.Version), "store id": exampleID[:], "checkpoint": uint64(9),
		"epoch": uint64(0x1111111111111111), "LSN": uint64(10240), "checksum": sum(0, 56),
	})
	payload := []byte("\x12\x01\x01\x05users\x02\x03ada\x041843")
	record := fields{
		"magic": []byte("OWAL"), "kind": uint64(1), "payload length": uint64(len(payload)), "transactions": uint64(1),
		"store id": exampleID[:], "LSN": uint64(10240 + 2*512), "epoch": uint64(0x1111111111111111),
		"first transaction": uint64(73), "claim": uint64(10240 + 512), "chain": sum(log.second, 80),
		"payload checksum": xxhash.Sum64(payload), "checksum": sum(log.third, 80), "payload": payload,
		"padding": make([]byte, 512-88-len(payload)),
	}
	doc.holds(t, "Record", b[log.third:log.link], vars{"p": len(payload), "e": 512}, record)
	if want := sum(0, 56); binary.LittleEndian.Uint64(b[log.first+64:]) != want {
		t.Error("the chain of the first record is not the header's checksum")
	}

	next := binary.LittleEndian.AppendUint64(nil, uint64(log.target))
	next = binary.LittleEndian.AppendUint64(next, 0x2222222222222222)
	maps.Copy(record, fields{
		"kind": uint64(2), "payload length": uint64(16), "transactions": uint64(0), "LSN": uint64(10240 + 3*512),
		"first transaction": uint64(90), "claim": uint64(10240), "chain": sum(log.third, 80),
		"payload checksum": xxhash.Sum64(next), "checksum": sum(log.link, 80), "payload": next,
		"padding": make([]byte, 512-88-16),
	})
	doc.holds(t, "Record", b[log.link:log.target], vars{"p": 16, "e": 512}, record)
	doc.holds(t, "Link", next, nil, fields{"offset": uint64(log.target), "epoch": uint64(0x2222222222222222)})
}

// TestFormatTail holds the table and the example of a run.
func TestFormatTail(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	name := filepath.Join(t.TempDir(), logName("app.db"))
	log, err := wal.Create(vfs.OS, name, 0o600, exampleID, 9, 10240, wal.Options{Rand: func() uint64 { return 0x1111111111111111 }})
	if err != nil {
		t.Fatal(err)
	}
	at := []int64{log.End().Offset}
	for tx, item := range []string{"ada1815", "bob1852"} {
		g := wal.Group{Unawaited: true}
		var ops wal.Ops
		ops.Put([]byte(item[:3]), []byte(item[3:]))
		g.Add(uint64(71+tx), ops)
		end, err := log.Append(&g)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, end.Offset)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc.shows(t, "log tail", b[at[0]:at[2]])
	payload := []byte("\x0a\x02\x03bob\x041852")
	sum := xxhash.NewWithSeed(xxhash.Sum64(b[at[0]:][:80]))
	sum.Write(b[at[1]+8 : at[1]+24+int64(len(payload))])
	check := xxhash.NewWithSeed(xxhash.Sum64(b[at[0]:][:80]))
	check.Write(b[at[1]+8 : at[1]+20])
	doc.holds(t, "Tail", b[at[1]:at[2]], vars{"p": len(payload), "e": int(at[2] - at[1])}, fields{
		"checksum": sum.Sum64(), "first transaction": uint64(72), "payload length": uint64(len(payload)), "check": check.Sum64() & math.MaxUint32,
		"payload": payload, "padding": make([]byte, at[2]-at[1]-24-int64(len(payload))),
	})
}

// TestFormatOps holds the table of operations, each with an example.
func TestFormatOps(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	users := [][]byte{[]byte("users")}
	examples := map[string]func(o *wal.Ops){
		"bucket":       func(o *wal.Ops) { o.Bucket(users) },
		"put":          func(o *wal.Ops) { o.Put([]byte("k"), []byte("vw")) },
		"delete":       func(o *wal.Ops) { o.Delete([]byte("k")) },
		"deleterange":  func(o *wal.Ops) { o.DeleteRange([]byte("a"), []byte("c")) },
		"createbucket": func(o *wal.Ops) { o.CreateBucket([]byte("b")) },
		"deletebucket": func(o *wal.Ops) { o.DeleteBucket([]byte("b")) },
		"movebucket":   func(o *wal.Ops) { o.MoveBucket([]byte("b"), users) },
		"setsequence":  func(o *wal.Ops) { o.SetSequence(300) },
	}
	rows := doc.table(t, "Operations")
	for i, row := range rows {
		kind := wal.Kind(evalInt(t, row[0], nil))
		if int(kind) != i+1 || kind.String() != row[1] || examples[row[1]] == nil {
			t.Fatalf("row %d: operation %d is %v, the table says %s", i+1, kind, kind, row[1])
		}
		var o wal.Ops
		examples[row[1]](&o)
		if got := fmt.Sprintf("% x", []byte(o)); got != row[4] {
			t.Errorf("%s: the table says %q, the code writes %q", row[1], row[4], got)
		}
	}
	if next := wal.Kind(len(rows) + 1); next.String() != fmt.Sprintf("kind %d", next) {
		t.Errorf("%v is not in the table", next)
	}
}

// TestFormatFiles holds the names, the places of the meta slots in a file, and the bytes that are locked.
func TestFormatFiles(t *testing.T) {
	doc := readPaper(t, "FORMAT.md")
	if name := "`" + logName("app.db") + "`"; !strings.Contains(doc.text, name) {
		t.Errorf("FORMAT.md does not name the log %s", name)
	}
	if v := fmt.Sprintf("version %d", page.FormatVersion); !strings.Contains(doc.text, v) || page.FormatVersion != wal.Version {
		t.Errorf("FORMAT.md does not speak of %s", v)
	}
	const size = 8192
	name := filepath.Join(t.TempDir(), "app.db")
	db, err := Open(name, &Options{PageSize: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range doc.table(t, "Data file") {
		off := evalInt(t, row[0], vars{"s": size})
		if i > 1 {
			if off != int64(page.FirstID)*size {
				t.Errorf("pages begin at %d", off)
			}
		} else if m, err := page.DecodeMeta(b[off:][:evalInt(t, row[1], vars{"s": size})], i); err != nil || m.Tx != 1 {
			t.Errorf("slot %d at %d: %+v, %v", i, off, m, err)
		}
	}

	want := map[string]int64{"writer": lockWriter, "readers": lockReaders}
	for _, row := range doc.table(t, "Locks") {
		if at, ok := want[row[1]]; ok && evalInt(t, row[0], nil) != at {
			t.Errorf("lock %s: byte %s is not %d", row[1], row[0], at)
		}
		delete(want, row[1])
	}
	for name := range want {
		t.Errorf("lock %s is not in FORMAT.md", name)
	}
}
