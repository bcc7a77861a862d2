package wal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// read recovers from a position and returns the TxIDs read.
func read(f *memFile, from Position) (txs []uint64, res Result, err error) {
	res, err = Recover(f, testID, from, func(r Record) error {
		for tx := range r.All() {
			txs = append(txs, tx)
		}
		return nil
	})
	return txs, res, err
}

// must fails the test for a failed append, and returns the end.
func must(t testing.TB) func(p Position, err error) Position {
	return func(p Position, err error) Position {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// TestFlips flips every byte of a log whose groups were synced one by one and
// which has wrapped. Each flip is seen, or harmless, or lost the last group, behind
// which nothing was written.
// Case C3 of RELIABILITY.md.
func TestFlips(t *testing.T) {
	l, f := createMem(t, Options{Limit: 16 << 10, Initial: 16 << 10})
	var from Position
	tx := uint64(1)
	for l.End().LSN < 30<<10 {
		p := must(t)(l.Append(group(tx, put("key", []byte("old")), put("a", nil))))
		tx += 2
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if l.Live() > 6<<10 {
			from = p
			l.Release(p)
		}
	}
	want, _, err := read(f, from)
	if err != nil || len(want) < 10 {
		t.Fatalf("read %d, %v", len(want), err)
	}
	var seen, harmless, last int
	for off := range f.data {
		for _, bit := range []byte{0x01, 0x80, 0xff} {
			f.data[off] ^= bit
			got, _, err := read(f, from)
			switch {
			case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion):
				seen++
			case err != nil:
				t.Fatalf("byte %d: %v", off, err)
			case len(got) == len(want):
				harmless++
			case len(got) == len(want)-2:
				last++
			default:
				t.Fatalf("byte %d: read %d of %d transactions and no error", off, len(got), len(want))
			}
			f.data[off] ^= bit
		}
	}
	t.Logf("%d seen, %d harmless, %d lost the last group", seen, harmless, last)
	if n := 3 * (headSize + len(group(1, put("key", []byte("old")), put("a", nil)).buf) - headSize); last != n {
		t.Errorf("%d flips lost the last group, want %d: each of its bytes", last, n)
	}
}

// TestCuts cuts a synced log at every length: short of the live part that is an
// error, for no crash does it.
func TestCuts(t *testing.T) {
	l, f := createMem(t, Options{Initial: 16 << 10})
	from := l.End()
	for tx := range uint64(8) {
		must(t)(l.Append(sized(tx+1, 2*block, 1)))
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	end := l.End().Offset
	whole := f.data
	for size := range len(whole) {
		f.data = whole[:size]
		got, _, err := read(f, from)
		if enough := int64(size) >= end+block; enough && (err != nil || len(got) != 8) {
			t.Fatalf("cut to %d: %d transactions, %v", size, len(got), err)
		} else if !enough && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d, the log ends at %d: %d transactions, %v", size, end, len(got), err)
		}
	}
}

// TestOldCopy puts back older copies of a log, and zeros, behind checkpoints:
// a log that does not reach the position is damage.
func TestOldCopy(t *testing.T) {
	l, f := createMem(t, Options{Limit: 16 << 10, Initial: 16 << 10})
	var copies [][]byte
	var checkpoints []Position
	for tx := uint64(1); tx < 60; tx++ {
		copies = append(copies, bytes.Clone(f.data))
		p := must(t)(l.Append(sized(tx, block*int64(1+tx%4), byte(tx))))
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		l.Release(p)
		checkpoints = append(checkpoints, p)
		if _, _, err := read(f, p); err != nil {
			t.Fatalf("tx %d: the log itself: %v", tx, err)
		}
	}
	blank := bytes.Clone(f.data)
	clear(blank[recordsAt:])
	for i, p := range checkpoints {
		for j, data := range append(copies[:i+1:i+1], blank) {
			f.data = data
			if got, _, err := read(f, p); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("checkpoint %d with copy %d: %d transactions, %v", i, j, len(got), err)
			}
		}
	}
}

// TestAppendDuringSync appends while a sync is under way: the sync does not
// cover that record, so nothing claims it, and losing it is no damage.
func TestAppendDuringSync(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	first := must(t)(l.Append(group(1, put("a", nil))))
	f.fsys.fail = func(op string) error {
		if op == "sync" {
			f.fsys.fail = nil
			f.mu.Unlock() // the sync has begun; the write may miss it
			must(t)(l.Append(group(2, put("b", nil))))
			f.mu.Lock()
		}
		return nil
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := l.Synced(); got != first.LSN {
		t.Fatalf("synced %d, want %d", got, first.LSN)
	}
	must(t)(l.Append(group(3, put("c", nil))))
	clear(f.data[first.Offset:][:block]) // transaction 2 missed the sync
	txs, res, err := read(f, from)
	if err != nil || len(txs) != 1 || res.End != first {
		t.Fatalf("read %v, end %+v, %v", txs, res.End, err)
	}
}

// TestLostTimeline loses a record in the middle and keeps what is behind it, in
// many ways, and writes something else there: the old tail never comes back.
// Case C2 of RELIABILITY.md.
func TestLostTimeline(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		l, f := createMem(t, Options{Rand: rng.Uint64})
		from := l.End()
		want := []uint64{1}
		must(t)(l.Append(sized(1, block, 1)))
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		for tx := range uint64(6) {
			must(t)(l.Append(sized(2+tx, block, 2)))
		}
		for life := range 4 {
			f = f.crashAny(rng)
			txs, res, err := read(f, from)
			if err != nil || len(txs) < len(want) {
				t.Fatalf("seed %d, life %d: read %v, want %v at least, %v", seed, life, txs, want, err)
			}
			for i, tx := range want {
				if txs[i] != tx {
					t.Fatalf("seed %d, life %d: read %v, want %v", seed, life, txs, want)
				}
			}
			for _, tx := range txs[len(want):] {
				if tx/100 != uint64(life) {
					t.Fatalf("seed %d, life %d: %d of a lost life is back", seed, life, tx)
				}
			}
			next := uint64(life+1) * 100
			if l, err = Open(f, testID, &res, next, Options{Rand: rng.Uint64}); err != nil {
				t.Fatal(err)
			}
			if want = txs; rng.IntN(2) == 0 {
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			for i := range uint64(1 + rng.IntN(4)) {
				must(t)(l.Append(sized(next+i, block, byte(next))))
			}
		}
	}
}

// TestSameLink opens twice at the same end, for the same next transaction. Of the
// first life only a group landed, not the link before it. Had the second life's
// link the same content, that group would be back.
func TestSameLink(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	must(t)(l.Append(sized(1, block, 1)))
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	epochs := counter(0x100)
	open := func() *Log {
		_, res, err := read(f, from)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(f, testID, &res, 2, Options{Rand: epochs})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l = open()
	lost := l.End().Offset
	must(t)(l.Append(sized(2, block, 2)))
	onlyLost := func(off int64, _ int) int {
		if off == lost {
			return 1
		}
		return 0
	}
	f = f.crash(onlyLost, func(s []int64) int64 { return s[0] }, nil)
	l = open()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if l.End().Offset != lost {
		t.Fatal("the lives put their groups in different places")
	}
	if txs, _, err := read(f, from); err != nil || len(txs) != 1 {
		t.Fatalf("read %v, %v", txs, err)
	}
}

// TestEverySubset tries all subsets of the blocks that a crash may lose, after
// each call of a short life that wraps: link, groups of two blocks, unsynced tail.
func TestEverySubset(t *testing.T) {
	l, f := createMem(t, Options{Limit: 16 << 10, Initial: 16 << 10})
	tx := uint64(0)
	add := func(n int64) {
		tx++
		must(t)(l.Append(sized(tx, n, byte(tx))))
	}
	for l.End().Offset < 14<<10 {
		add(2 * block)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	from := l.End()
	l.Release(from)
	synced := tx
	states := 0
	check := func() {
		n := f.blocksPending()
		for set := range 1 << n {
			i := 0
			choose := func(int64, int) int { i++; return set >> (i - 1) & 1 }
			after := f.crash(choose, func(s []int64) int64 { return s[0] }, nil)
			txs, res, err := read(after, from)
			if err != nil {
				t.Fatalf("subset %b of %d: %v", set, n, err)
			}
			if last := synced + uint64(len(txs)); last > tx || len(txs) > 0 && (txs[0] != synced+1 || txs[len(txs)-1] != last) {
				t.Fatalf("subset %b of %d: read %v behind %d", set, n, txs, synced)
			}
			if _, err := Open(after, testID, &res, tx+1, Options{Rand: counter(0x100)}); err != nil {
				t.Fatal(err)
			}
			states++
		}
	}
	for range 3 {
		add(block)
		check()
		add(3 * block) // links to the start
		check()
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		from, synced = l.End(), tx
		l.Release(from)
		check()
		add(2 * block)
		add(2 * block)
		add(block)
		check()
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		from, synced = l.End(), tx
		l.Release(from)
	}
	t.Logf("%d states", states)
}

// TestReadErrors fails each read: that is neither damage nor the log's end.
func TestReadErrors(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	for tx := range uint64(4) {
		must(t)(l.Append(sized(tx+1, 400*block, 1)))
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	bad := errors.New("input/output error")
	for n := 0; ; n++ {
		reads := 0
		f.fsys.fail = func(op string) error {
			if reads++; reads == n+1 {
				return bad
			}
			return nil
		}
		txs, _, err := read(f, from)
		if err == nil {
			if n < 5 || len(txs) != 4 {
				t.Fatalf("%d reads, %d transactions", n, len(txs))
			}
			return
		}
		if !errors.Is(err, bad) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("read %d failed: %v", n, err)
		}
	}
}

// TestRecoverStops ends reading early: what the reader said is returned, and
// the result says how far it got.
func TestRecoverStops(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	second := must(t)(l.Append(group(1, put("a", nil))))
	must(t)(l.Append(group(2, put("b", nil))))
	res, err := Recover(f, testID, from, func(r Record) error {
		if r.FirstTx == 2 {
			return io.ErrClosedPipe
		}
		return nil
	})
	if !errors.Is(err, io.ErrClosedPipe) || res.End != second || res.Groups != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestForgedRecords writes records with right checksums and impossible content:
// no crash makes those, so each is an error, not the log's end.
// Case B1 of RELIABILITY.md.
func TestForgedRecords(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(h *head, p []byte) []byte
	}{
		{"unknown kind", func(h *head, p []byte) []byte { h.kind = 9; return p }},
		{"claim past itself", func(h *head, p []byte) []byte { h.claim = h.lsn + 1; return p }},
		{"no transactions", func(h *head, p []byte) []byte { h.count = 0; return nil }},
		{"count too high", func(h *head, p []byte) []byte { h.count++; return p }},
		{"count too low", func(h *head, p []byte) []byte { h.count--; return p }},
		{"bytes behind", func(h *head, p []byte) []byte { return append(p, 7) }},
		{"gap", func(h *head, p []byte) []byte { h.tx++; return p }},
		{"back", func(h *head, p []byte) []byte { h.tx--; return p }},
		{"txid overflow", func(h *head, p []byte) []byte { h.tx = 1<<64 - 1; return p }},
		{"too long", func(h *head, p []byte) []byte { h.length = 1 << 30; return p }},
		{"short link", func(h *head, p []byte) []byte { h.kind = kindLink; return p[:3] }},
		{"link past the end", forgeLink(1 << 40)},
		{"link into the header", forgeLink(block)},
		{"link between blocks", forgeLink(recordsAt + 8*block + 1)},
		{"link back", func(h *head, p []byte) []byte {
			h.tx = 1
			return forgeLink(recordsAt+8*block)(h, p)
		}},
	} {
		l, f := createMem(t, Options{})
		from := l.End()
		must(t)(l.Append(group(1, put("a", nil))))
		at := must(t)(l.Append(group(2, put("b", nil))))
		g := group(3, put("c", []byte("c")), put("d", nil))
		_, h := g.seal(kindGroup)
		h.id, h.lsn, h.epoch, h.chain = testID, at.LSN, at.Epoch, at.Chain
		forge(f, at.Offset, h, c.edit)
		if txs, _, err := read(f, from); !errors.Is(err, ErrCorrupt) || len(txs) != 2 {
			t.Errorf("%s: read %v, %v", c.name, txs, err)
		}
	}
}

func forgeLink(target int64) func(h *head, p []byte) []byte {
	return func(h *head, p []byte) []byte {
		link := linkHead(p[:linkPayload], target, 1)
		h.kind, h.length, h.payload = kindLink, linkPayload, link.payload
		return p[:linkPayload]
	}
}

// TestOverlap reads a record that lies over one read before. The chain makes that
// hard to forge, so the test only pretends that the place was read.
func TestOverlap(t *testing.T) {
	l, f := createMem(t, Options{})
	from := l.End()
	at := must(t)(l.Append(group(1, put("a", nil))))
	must(t)(l.Append(sized(2, 3*block, 1)))
	r, err := newRecovery(f, testID, from)
	if err != nil {
		t.Fatal(err)
	}
	r.seen.add(at.Offset + 2*block)
	if err := r.read(visitor{}); !errors.Is(err, ErrCorrupt) || r.res.Groups != 1 {
		t.Fatalf("%d groups, %v", r.res.Groups, err)
	}
}
