package wal

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// Bits in the unused byte 5 of a head that steer fixUp.
const (
	keepSums  = 1 // leave its checksums alone
	keepPlace = 2 // leave id, LSN, epoch and chain alone
)

// fixUp makes data a log file whose header and heads have right checksums, and
// chains the records to each other from the start, so that the fuzzer gets behind those checks.
func fixUp(data []byte) (file []byte, from Position) {
	size := max(len(data)&^(block-1), recordsAt+2*block)
	file = make([]byte, size)
	copy(file, data)
	h := Header{Version: Version, ID: testID, Epoch: 1}
	clear(file[:headerSize])
	h.encode(file)
	for off := recordsAt; off < size; off += block {
		fixHead(file[off:], nil)
	}
	from = h.Start()
	run := false
	for at, n := from, 0; n < size/tailSize; n++ {
		if at.Offset < recordsAt || at.Offset%tailUnit != 0 || at.Offset+tailSize > int64(size) {
			break
		}
		if run && fixTail(file[at.Offset:], &at) {
			continue
		}
		if at = at.aligned(); at.Offset+block > int64(size) {
			break
		}
		p := file[at.Offset:]
		if !fixHead(p, &at) {
			break
		}
		var r head
		r.decode(p)
		at, run = at.after(&r), r.kind == kindRun
		if r.kind == kindLink && r.length == linkPayload {
			target, epoch, _ := parseLink(p[headSize:headSize+linkPayload], int64(size))
			at.Offset, at.Epoch = target, epoch
		}
	}
	return file, from
}

// fixHead gives the head at the start of p right checksums, and the place at.
func fixHead(p []byte, at *Position) bool {
	if !hasMagic(p) {
		return false
	}
	flags := p[5]
	var h head
	h.decode(p)
	h.length = min(h.length, uint32(len(p)-headSize))
	if at != nil && flags&keepPlace == 0 {
		h.id, h.lsn, h.epoch, h.chain = testID, at.LSN, at.Epoch, at.Chain
	}
	if flags&keepSums == 0 {
		h.payload = xxhash.Sum64(p[headSize : headSize+int(h.length)])
		h.encode(p)
		p[5] = flags
		h.sum = xxhash.Sum64(p[:headSum])
		putSum(p, h.sum)
	}
	return true
}

// fixTail gives the tail at the start of p the checksum that it has behind at, which it moves on, and reports whether there is one.
func fixTail(p []byte, at *Position) bool {
	var t tail
	if len(p) < tailSize {
		return false
	}
	t.decode(p, at.Chain)
	if t.tx == 0 || t.length == 0 || t.length > runMost || t.size() > int64(len(p)) {
		return false
	}
	if p[15]&keepSums == 0 { // of the number of a transaction
		t.encode(p, at.Chain)
	}
	*at = at.behind(&t)
	return true
}

func putSum(p []byte, sum uint64) {
	for i := range 8 {
		p[headSum+i] = byte(sum >> (8 * i))
	}
}

// recoverRoom is what Recover may allocate above the size of the file: the buffer that it reads through, and little.
const recoverRoom = 4 * readAhead

// allocatedBytes is what has ever been allocated on the heap. The cheaper way by runtime/metrics lags behind by
// megabytes, when objects are small.
func allocatedBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// FuzzRecover reads arbitrary files with their checksums fixed up. Whatever they
// hold, the answer is an error of this package or a log that can be gone on with.
func FuzzRecover(f *testing.F) {
	for _, image := range seedImages(f) {
		f.Add(image)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		image, from := fixUp(data)
		file := &memFile{fsys: newMemFS(), name: "app.db-wal", data: image}
		allocated := allocatedBytes()
		_, _ = Recover(file, testID, from, func(Record) error { return nil })
		if n := allocatedBytes() - allocated; n > uint64(len(image))+recoverRoom {
			t.Fatalf("%d bytes were allocated for a file of %d", n, len(image))
		}
		var before []Record
		res, err := Recover(file, testID, from, keep(&before))
		if dumped := Dump(&bytes.Buffer{}, file, testID, from); dumped != nil {
			t.Fatalf("dump: %v", dumped)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if res.NextTx > 1<<62 {
			return
		}
		goOn(t, file, from, res, before)
	})
}

// goOn opens what was recovered, appends, and reads it all again.
func goOn(t *testing.T, file *memFile, from Position, res Result, before []Record) {
	l, err := Open(file, testID, &res, res.NextTx, Options{Rand: counter(0x1000)})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		return
	}
	for tx := range uint64(3) {
		must(t)(l.Append(sized(res.NextTx+tx, 3*block, 'x')))
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	var after []Record
	again, err := Recover(file, testID, from, keep(&after))
	if err != nil || again.End != l.End() || len(after) != len(before)+3 {
		t.Fatalf("%d records, then 3 more, then %d: %v", len(before), len(after), err)
	}
	for i, r := range before {
		if a := after[i]; a.LSN != r.LSN || a.FirstTx != r.FirstTx || !bytes.Equal(a.Payload, r.Payload) {
			t.Fatalf("record %d at lsn %d changed", i, r.LSN)
		}
	}
}

// keep collects records and looks at all of each.
func keep(to *[]Record) func(Record) error {
	return func(r Record) error {
		n := 0
		for _, ops := range r.All() {
			n++
			_ = Decode(ops, func(op *Op) error { _ = op.String(); return nil })
		}
		if n != r.Count {
			return errors.New("count is wrong")
		}
		r.Payload = bytes.Clone(r.Payload)
		*to = append(*to, r)
		return nil
	}
}

// seedImages are files of logs that wrapped, grew and lived twice.
func seedImages(t testing.TB) (images [][]byte) {
	l, f := createMem(t, Options{Limit: 16 << 10, Initial: 8 << 10})
	from := l.End()
	tx := uint64(0)
	for range 11 {
		tx++
		p := must(t)(l.Append(sized(tx, block*int64(1+tx%3), byte(tx))))
		for tx%2 == 0 && tx%3 > 0 {
			tx++
			g := group(tx, put("t", []byte{byte(tx)}))
			g.Unawaited = true
			p = must(t)(l.Append(g))
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if tx%4 == 0 {
			from = p
			l.Release(p)
		}
		images = append(images, bytes.Clone(f.data))
	}
	_, res, err := read(f, from)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = Open(f, testID, &res, 40, Options{Rand: counter(0x200)}); err != nil {
		t.Fatal(err)
	}
	must(t)(l.Append(sized(40, block, 1)))
	for tx := range uint64(4) {
		g := group(41+tx, put("t", make([]byte, 100*tx)))
		g.Unawaited = true
		must(t)(l.Append(g))
	}
	return append(images, bytes.Clone(f.data))
}

// FuzzOps decodes arbitrary bytes. What decodes is written again and decodes to
// the same.
func FuzzOps(f *testing.F) {
	for _, line := range []string{
		"put a b; del c; seq 300",
		"range a b; range - b; range a -; range - -",
		"bucket a b c; bucket; create n; drop n; move n to a b; move n to",
	} {
		ops, err := parseOps(line)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(ops))
	}
	f.Add([]byte{byte(OpPut), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{byte(OpBucket), 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var again Ops
		var lines []string
		err := Decode(data, func(op *Op) error {
			lines = append(lines, op.String())
			again.add(op)
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		var twice []string
		err = Decode(again, func(op *Op) error {
			twice = append(twice, op.String())
			return nil
		})
		if err != nil || !slices.Equal(lines, twice) {
			t.Fatalf("%q, written again %q: %v", lines, twice, err)
		}
	})
}

// add appends a decoded operation.
func (o *Ops) add(op *Op) {
	var path [][]byte
	for name := range op.Path.All() {
		path = append(path, name)
	}
	if len(path) != op.Path.Len() {
		panic("path yields another number of names than it has")
	}
	switch op.Kind {
	case OpBucket:
		o.Bucket(path)
	case OpPut:
		o.Put(op.Key, op.Value)
	case OpDelete:
		o.Delete(op.Key)
	case OpDeleteRange:
		o.DeleteRange(op.From, op.To)
	case OpCreateBucket:
		o.CreateBucket(op.Key)
	case OpDeleteBucket:
		o.DeleteBucket(op.Key)
	case OpMoveBucket:
		o.MoveBucket(op.Key, path)
	case OpSetSequence:
		o.SetSequence(op.Sequence)
	}
}
