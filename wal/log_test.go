package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// TestOnDisk takes a log in a real file through two lives.
func TestOnDisk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "app.db-wal")
	opt := Options{Initial: 8 << 10, Limit: 1 << 20}
	l, err := Create(vfs.OS, name, 0o600, testID, 3, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	from := l.End()
	const n = 200
	for tx := range uint64(n) {
		must(t)(l.Append(sized(tx+1, block*int64(1+tx%5), byte(tx))))
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.OS.Open(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var seen uint64
	count := func(r Record) error {
		for tx, ops := range r.All() {
			if seen++; tx != seen || len(ops) == 0 {
				t.Errorf("transaction %d is %d, %d bytes", seen, tx, len(ops))
			}
		}
		return nil
	}
	res, err := Recover(f, testID, from, count)
	if err != nil || seen != n || res.NextTx != n+1 {
		t.Fatalf("read %d: %+v, %v", seen, res, err)
	}
	if l, err = Open(f, testID, &res, n+1, opt); err != nil {
		t.Fatal(err)
	}
	must(t)(l.Append(sized(n+1, block, 1)))
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	seen = 0
	if _, err := Recover(f, testID, from, count); err != nil || seen != n+1 {
		t.Fatalf("read %d, %v", seen, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(vfs.OS, name, 0o600, testID, 3, 0, opt); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("create over a log: %v", err)
	}
}

// TestClose verifies what a closed log answers.
func TestClose(t *testing.T) {
	l, _ := createMem(t, Options{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("close again: %v", err)
	}
	if _, err := l.Append(sized(1, block, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if err := l.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if err := l.Reserve(1 << 40); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reserve: %v", err)
	}
}

// TestConcurrent appends, syncs, reserves and releases from several goroutines
// and reads back what was appended.
func TestConcurrent(t *testing.T) {
	l, f := createMem(t, Options{Limit: 256 << 10, Initial: 16 << 10})
	const n = 1000
	var wg sync.WaitGroup
	done := make(chan struct{})
	released := l.End()
	background := func(step func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	background(l.Sync)
	background(func() error { l.Live(); l.Size(); l.Synced(); return nil })
	background(func() error {
		if err := l.Reserve(4 << 10); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
		return nil
	})
	var mu sync.Mutex
	background(func() error {
		p := l.End()
		if err := l.Sync(); err != nil {
			return err
		}
		if l.Live() > 100<<10 {
			l.Release(p)
			mu.Lock()
			released = p
			mu.Unlock()
		}
		return nil
	})
	for tx := uint64(1); tx <= n; {
		_, err := l.Append(sized(tx, block*int64(1+tx%4), byte(tx)))
		if err == nil {
			tx++
		} else if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	want := uint64(n + 1)
	if released.LSN == l.End().LSN {
		want = 0 // the last transaction was let go of, too: nothing is left to tell what comes next
	}
	txs, res, err := read(f, released)
	if err != nil || res.NextTx != want {
		t.Fatalf("read %d, %+v, %v", len(txs), res, err)
	}
}

// TestSyncsDoNotOverlap verifies that a sync for growth and one for a commit never
// run at once: the kernel would tell one of them of a failure, and the other nothing.
func TestSyncsDoNotOverlap(t *testing.T) {
	l, f := createMem(t, Options{Initial: 8 << 10})
	running, most := 0, 0
	grown := make(chan error)
	f.fsys.fail = func(op string) error {
		if op != "sync" {
			return nil
		}
		if running++; running > most {
			most = running
		}
		if most == 1 && grown != nil {
			reserved := grown
			grown = nil
			go func() { reserved <- l.Reserve(1 << 20) }()
			f.mu.Unlock()
			time.Sleep(20 * time.Millisecond) // growing gets as far as its sync
			f.mu.Lock()
		}
		running--
		return nil
	}
	done := grown
	must(t)(l.Append(sized(1, block, 1)))
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if most != 1 || l.Size() < 1<<20 {
		t.Errorf("%d syncs at once, size %d", most, l.Size())
	}
}

// TestWriteOut verifies that a log that has been given to the disk is not taken for durable, that a failure of that is the log's end, and that nobody waits
// for a sync under way to do it.
func TestWriteOut(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	must(t)(l.Append(sized(1, block, 1)))
	asked := 0
	var fail error
	f.fsys.fail = func(op string) error {
		if op != "write out" {
			return nil
		}
		asked++
		return fail
	}
	l.WriteOut()
	if l.Synced() != from.LSN || len(f.pending) == 0 || asked != 1 {
		t.Errorf("synced up to %d, %d writes not on the disk, asked %d times", l.Synced(), len(f.pending), asked)
	}
	f.during = l.WriteOut
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if l.Synced() != l.End().LSN || asked != 1 {
		t.Errorf("synced up to %d of %d, asked %d times", l.Synced(), l.End().LSN, asked)
	}
	must(t)(l.Append(sized(2, block, 2)))
	relaxed := group(3, put("k", nil))
	relaxed.Unawaited = true
	must(t)(l.Append(relaxed))
	l.WriteOut()
	before := l.End()
	relaxed = group(4, put("k", nil))
	relaxed.Unawaited = true
	if behind := must(t)(l.Append(relaxed)); int64(behind.LSN-before.LSN) < block-before.Offset%block {
		t.Errorf("a tail goes from %d to %d, in a block that has been given to the disk", before.LSN, behind.LSN)
	}
	asked = 1
	fail = errPower
	l.WriteOut()
	fail = nil
	l.WriteOut()
	if err := l.Sync(); !errors.Is(err, errPower) || asked != 2 {
		t.Errorf("sync behind a failed write-out: %v, asked %d times", err, asked)
	}
	if _, err := l.Append(sized(5, block, 3)); !errors.Is(err, errPower) {
		t.Errorf("append behind a failed write-out: %v", err)
	}
}

// TestAppendAllocates verifies that the steady state, wrapping included, leaves
// nothing to the collector.
func TestAppendAllocates(t *testing.T) {
	l, f := createMem(t, Options{Limit: 64 << 10, Initial: 64 << 10})
	l.file = &sink{memFile: f}
	var g Group
	tx, ops := uint64(1), put("key", make([]byte, 700))
	step := func() {
		g.Reset()
		g.Add(tx, ops)
		p, err := l.Append(&g)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if tx++; tx%7 == 0 {
			l.Release(p)
		}
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations an append", n)
	}
}

// sink is a file that forgets what is written.
type sink struct{ *memFile }

func (s *sink) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (s *sink) Sync() error                            { return nil }

// TestTxSize verifies that transactions reserved one by one fit however they are
// grouped.
func TestTxSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var g Group
		var reserved int64
		for tx := range uint64(1 + rng.IntN(20)) {
			n := rng.IntN(1 << rng.IntN(16))
			g.Add(tx, make(Ops, n))
			reserved += TxSize(n)
			if one := group(1, make(Ops, n)); one.Size() != TxSize(n) {
				t.Fatalf("%d bytes: size %d, TxSize %d", n, one.Size(), TxSize(n))
			}
		}
		if g.Size() > reserved {
			t.Fatalf("group of %d takes %d bytes, reserved %d", g.Len(), g.Size(), reserved)
		}
	}
}

// TestGroup verifies that a group is reusable, and that padding holds nothing of
// what the buffer held before.
func TestGroup(t *testing.T) {
	var g Group
	g.Add(7, put("k", bytes.Repeat([]byte{'s'}, 3000)))
	g.Reset()
	if g.Len() != 0 || g.FirstTx() != 0 || g.LastTx() != 0 || g.Size() != 0 {
		t.Errorf("reset: %d, %d to %d, size %d", g.Len(), g.FirstTx(), g.LastTx(), g.Size())
	}
	g.Add(8, nil)
	g.Add(9, put("a", nil))
	parts, h := g.seal(kindGroup)
	record := parts[0]
	if bytes.IndexByte(record, 's') >= 0 || len(parts) != 1 || len(record) != block || h.size() != block || h.count != 2 {
		t.Errorf("record of %d bytes, %d transactions: %q", len(record), h.count, record)
	}
	g.Add(10, nil)
	if again, h := g.seal(kindGroup); len(again[0]) != block || h.count != 3 || g.LastTx() != 10 {
		t.Errorf("after one more: %d bytes, %d transactions", len(again[0]), h.count)
	}
	defer func() {
		if recover() == nil {
			t.Error("a gap in the transactions was taken")
		}
	}()
	g.Add(12, nil)
}

// TestRelease verifies what Release refuses.
func TestRelease(t *testing.T) {
	l, _ := createMem(t, Options{})
	start := l.End()
	first := must(t)(l.Append(sized(1, 2*block, 1)))
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	ahead := must(t)(l.Append(sized(2, block, 1)))
	inside := first
	inside.LSN, inside.Offset = inside.LSN-block, inside.Offset-block
	for name, p := range map[string]Position{
		"not synced": ahead, "inside a record": inside, "elsewhere": {LSN: first.LSN, Offset: first.Offset + block},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: released", name)
				}
			}()
			l.Release(p)
		}()
	}
	l.Release(first)
	l.Release(first)
	l.Release(start) // behind already: nothing
	if l.Live() != block {
		t.Errorf("live %d", l.Live())
	}
}

// TestLarge takes records larger than the read buffer.
func TestLarge(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	var want []uint64
	for tx := uint64(1); tx < 20; tx++ {
		must(t)(l.Append(sized(tx, int64(tx)*73*block, byte(tx))))
		want = append(want, tx)
	}
	if err := l.Reserve(l.Capacity()); err != nil {
		t.Fatal(err)
	}
	txs, _, err := read(f, from)
	if err != nil || len(txs) != len(want) {
		t.Fatalf("read %v, %v", txs, err)
	}
	huge := &Group{buf: make([]byte, 0, 16), first: 1, count: 1}
	huge.Reset()
	if huge.Add(1, make(Ops, 30<<20)); huge.Size() <= l.Capacity() {
		t.Fatal("not huge")
	}
	for range 2 {
		_, err = l.Append(huge)
		if err == nil {
			continue
		}
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("append of more than the limit: %v", err)
	}
}

// TestOpenFailures fails each call of Open: no log comes of it, and the file can
// be recovered again.
func TestOpenFailures(t *testing.T) {
	for n := 1; ; n++ {
		l, f := createMem(t, Options{Limit: 16 << 10, Initial: 8 << 10})
		from := l.End()
		for tx := uint64(1); l.Reserve(block) == nil; tx++ {
			must(t)(l.Append(sized(tx, block, 1)))
		}
		want, res, err := read(f, from)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		f.fsys.fail = func(op string) error {
			if calls++; calls == n {
				return fs.ErrPermission
			}
			return nil
		}
		_, err = Open(f, testID, &res, 0, Options{Limit: 16 << 10, Rand: counter(1)})
		f.fsys.fail = nil
		if got, _, again := read(f, from); again != nil || len(got) != len(want) {
			t.Fatalf("call %d failed: then %d of %d transactions, %v", n, len(got), len(want), again)
		}
		if calls < n {
			if err != nil || n < 5 {
				t.Fatalf("%d calls, %v", calls, err)
			}
			return
		}
		if err == nil && n != 1 { // reserving holes may fail
			t.Errorf("call %d failed and Open did not", n)
		}
	}
}

// TestVersion reads a log of a version to come.
func TestVersion(t *testing.T) {
	l, f := createMem(t, Options{})
	h := Header{Version: Version + 1, ID: testID}
	h.encode(f.data)
	if _, _, err := read(f, l.End()); !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Dump(&out, f, testID, l.End()); err != nil || !bytes.Contains(out.Bytes(), []byte("version "+strconv.Itoa(Version+1))) {
		t.Fatalf("%q, %v", out.Bytes(), err)
	}
}

// TestForeign reads a log with another store's id, and positions no log has.
func TestForeign(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	if _, err := Recover(f, [16]byte{1}, from, nil); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	for _, edit := range []func(p *Position){
		func(p *Position) { p.Offset = -block },
		func(p *Position) { p.Offset = 0 },
		func(p *Position) { p.Offset++ },
		func(p *Position) { p.Offset = 1 << 50 },
		func(p *Position) { p.Offset += block },
		func(p *Position) { p.LSN = 1<<64 - 1 },
		func(p *Position) { p.LSN += block },
		func(p *Position) { p.Epoch++ },
		func(p *Position) { p.Chain++ },
	} {
		p := from
		edit(&p)
		if _, err := Recover(f, testID, p, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("from %+v: %v", p, err)
		}
	}
}
