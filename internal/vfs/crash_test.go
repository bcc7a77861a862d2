package vfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// storeLog records what a small store does: a data file of pages written in
// runs, a log written in groups, syncs now and then.
func storeLog(t testing.TB, pages, commits int) []Op {
	t.Helper()
	dir := fastDir(t)
	r := NewRecorder(OS)
	open := func(name string) File {
		f, err := r.Open(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	data, log := open("data"), open("data-wal")
	rng := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(data.Allocate(0, int64(pages)*chunkSize))
	_, err := data.WriteAt(noise(pages*chunkSize), 0)
	check(err)
	check(data.Sync())
	check(r.SyncDir(dir))
	for i := range commits {
		r.Mark("begin", uint64(i))
		_, err := log.WriteAt(noise(1024), int64(i)*1024)
		check(err)
		check(log.Sync())
		r.Mark("ack", uint64(i))
		_, err = data.WriteAt(noise((1+i%3)*chunkSize), rng.Int64N(int64(pages-3))*chunkSize)
		check(err)
		if i%16 == 15 {
			check(data.Sync())
		}
	}
	check(r.Verify())
	return r.Log()
}

// TestEnumerate holds Enumerate to its promises: within the budget, each
// content once, the same every time, whatever comes of Seen and of stopping.
func TestEnumerate(t *testing.T) {
	h := NewHistory(storeLog(t, 32, 20))
	at := h.Events() - 3
	list := func(p Plan) (texts []string, hashes []uint64) {
		h.Enumerate(at, p, func(s *State) bool {
			texts = append(texts, s.String())
			hashes = append(hashes, s.Hash())
			return true
		})
		return texts, hashes
	}
	for _, torture := range []bool{false, true} {
		for _, budget := range []int{0, 1, 2, 7, 20, 60, 300, 2000} {
			p := Plan{Budget: budget, Seed: 5, Torture: torture}
			texts, hashes := list(p)
			if len(texts) != budget {
				t.Errorf("budget %d: %d states", budget, len(texts))
			}
			if again, _ := list(p); !slices.Equal(texts, again) {
				t.Errorf("budget %d: not the same a second time", budget)
			}
			slices.Sort(hashes)
			if len(slices.Compact(hashes)) != len(texts) {
				t.Errorf("budget %d: a content came twice", budget)
			}
			if budget > 1 && texts[0] != fmt.Sprintf("at=%d keep", at) {
				t.Errorf("budget %d: begins with %s", budget, texts[0])
			}
			p.Seed++
			if other, _ := list(p); budget == 300 && slices.Equal(texts, other) {
				t.Errorf("budget %d: another seed makes no difference", budget)
			}
		}
	}
	_, all := list(Plan{Budget: 50})
	seen := func(hash uint64) bool { return slices.Contains(all, hash) }
	_, rest := list(Plan{Budget: 50, Seen: seen})
	if len(rest) != 50 || slices.ContainsFunc(rest, seen) {
		t.Errorf("Seen: %d states, or one that was seen", len(rest))
	}
	if _, none := list(Plan{Budget: 50, Seen: func(uint64) bool { return true }}); len(none) != 0 {
		t.Errorf("Seen says yes to all: %d states", len(none))
	}
	torn := 0
	first := slices.IndexFunc(h.log, func(op Op) bool { return op.Name == "data-wal" && op.Kind == KindWrite })
	one := h.log[first].End
	h.Enumerate(one, Plan{Budget: 40, Torture: true}, func(s *State) bool {
		if slices.ContainsFunc(s.fates, func(f Fate) bool { return f > Keep }) {
			torn++
		}
		return true
	})
	if torn < 20 {
		t.Errorf("only %d of 40 states are torn where there is one write of two sectors: %s", torn,
			h.State(one, KeepAll).Describe())
	}
	n := 0
	Enumerate(h.log, at, 50, 1, func(*State) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("stopped after %d states, not 3", n)
	}
}

// TestWhole looks for each case that is easily named among the states of a whole enumeration, and that it counts them.
func TestWhole(t *testing.T) {
	h := NewHistory(storeLog(t, 40, 5)) // its first write, of 160 KiB, is one of those that are not torn everywhere
	large, few := 0, 0
	for _, at := range h.Points() {
		found := map[uint64]bool{}
		var order []uint64
		cases := map[string]int{}
		plan := Plan{Whole: true, Count: func(family string, n, tried int) {
			if cases[family] += n; tried != n {
				t.Errorf("at=%d: %s: %d of %d", at, family, tried, n)
			}
		}}
		h.Enumerate(at, plan, func(s *State) bool {
			found[s.Hash()] = true
			order = append(order, s.Hash())
			return true
		})
		look := func(what string, choose Chooser) {
			if s := h.State(at, choose); !found[s.Hash()] {
				t.Errorf("%s is missing: %s", what, s)
			}
		}
		look("everything", KeepAll)
		look("only what was synced", DropAll)
		ops, last := map[int]bool{}, map[int]Unit{} // by file: the last sector of its last write
		for _, u := range h.plan(at).units {
			if ops[u.Op] = true; u.isData() {
				last[u.Ino] = u.Unit
			}
		}
		for op := range ops {
			look("all but one", func(u Unit) Fate { return fate(u.Op != op) })
		}
		tears := 0
		for ino, end := range last {
			first := int(h.log[end.Op].Off / sectorSize)
			for k := 1; k <= end.Part; k++ {
				if end.Part >= maxTornSectors && (first+k)%pageSectors != 0 {
					continue
				}
				torn := func(u Unit) bool { return u.Ino == ino && u.Op == end.Op && u.Part >= 0 }
				look("a beginning", func(u Unit) Fate { return fate(!torn(u) || u.Part < k) })
				look("an end", func(u Unit) Fate { return fate(!torn(u) || u.Part >= k) })
				tears += 2
			}
		}
		n := cases["tears at pages of writes over 64 KiB"]
		if large += n; n+cases["tears"] != tears {
			t.Errorf("at=%d: %v, and there are %d tears", at, cases, tears)
		}
		if len(h.plan(at).units) <= maxSubsetUnits {
			few++
			for i := range 1 << len(h.plan(at).units) {
				k := -1
				look("a subset", func(Unit) Fate { k++; return fate(i>>k&1 != 0) })
			}
		}
		var again []uint64
		plan.Seed, plan.Torture, plan.Budget = 7, true, 1
		h.Enumerate(at, plan, func(s *State) bool {
			again = append(again, s.Hash())
			return true
		})
		if !slices.Equal(order, again) {
			t.Errorf("at=%d: another seed or budget makes a difference", at)
		}
	}
	if large == 0 || few == 0 {
		t.Errorf("%d tears of large writes, all subsets at %d moments", large, few)
	}
}

func fate(kept bool) Fate {
	if kept {
		return Keep
	}
	return Drop
}

// Moments differ only at Points: between two of them no state is new and no
// bound moves.
func TestPoints(t *testing.T) {
	h := NewHistory(storeLog(t, 8, 6))
	points := h.Points()
	for at := 1; at <= h.Events(); at++ {
		if slices.Contains(points, at) {
			continue
		}
		if h.plan(at).snap != h.plan(at-1).snap {
			t.Errorf("moment %d is no point", at)
		}
		for _, kind := range []string{"begin", "ack"} {
			now, _ := h.Mark(at, kind)
			if before, _ := h.Mark(at-1, kind); now != before {
				t.Errorf("mark %s at moment %d is no point", kind, at)
			}
		}
	}
	if _, ok := h.Mark(h.Events(), "none"); ok {
		t.Error("a mark that was never made")
	}
}

// The hash depends on what is there alone, so it must be that of the same
// bytes recorded in another way.
func TestStateHash(t *testing.T) {
	h := NewHistory(storeLog(t, 16, 12))
	byHash := map[uint64][32]byte{}
	digest := func(s *State) [32]byte {
		sum := sha256.New()
		for _, name := range s.Names() {
			p, _ := s.ReadFile(name, nil)
			fmt.Fprintf(sum, "%s %d ", name, len(p))
			sum.Write(p)
		}
		return [32]byte(sum.Sum(nil))
	}
	for _, at := range h.Points() {
		h.Enumerate(at, Plan{Budget: 40, Seed: uint64(at), Torture: at%2 == 0}, func(s *State) bool {
			text := digest(s)
			if other, ok := byHash[s.Hash()]; ok && other != text {
				t.Errorf("%s has the hash of another content", s)
			}
			byHash[s.Hash()] = text
			if cut := s.Cut(); cut.Hash() != s.Hash() || digest(cut) != text {
				t.Errorf("%s: its Cut differs", s)
			}
			return true
		})
	}
	texts := map[[32]byte]bool{}
	for _, text := range byHash {
		texts[text] = true
	}
	if len(texts) != len(byHash) {
		t.Errorf("%d hashes of %d contents", len(byHash), len(texts))
	}
}

// Materialise makes the files that Files tells of, with holes, links and
// permissions.
func TestMaterialise(t *testing.T) {
	dir := fastDir(t)
	r := NewRecorder(OS)
	f, err := r.Open(filepath.Join(dir, "big"), os.O_RDWR|os.O_CREATE, 0o640)
	must(t, err)
	defer f.Close()
	mustOpen(t, r, filepath.Join(dir, "empty"), os.O_RDWR|os.O_CREATE)
	must(t, f.Allocate(0, 5<<20))
	for _, off := range []int64{0, 1<<20 - 700, 3<<20 + 5, 5<<20 - 512} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(off>>10) | 1}, 1400), off); err != nil {
			t.Fatal(err)
		}
	}
	must(t, r.Link(filepath.Join(dir, "big"), filepath.Join(dir, "too")))
	must(t, f.Truncate(4<<20+100))
	if _, err := f.WriteAt([]byte("end"), 4<<20+200); err != nil {
		t.Fatal(err)
	}
	h := NewHistory(r.Log())
	n := 0
	h.Enumerate(h.Events(), Plan{Budget: 60, Torture: true}, func(s *State) bool {
		to := filepath.Join(fastDir(t), "s")
		must(t, s.Materialise(to))
		entries, err := os.ReadDir(to)
		must(t, err)
		files := s.Files()
		if len(entries) != len(files) {
			t.Errorf("%s: %d files, not %d", s, len(entries), len(files))
		}
		for name, want := range files {
			got, err := os.ReadFile(filepath.Join(to, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s differs: %v", s, name, err)
			}
		}
		if a, b := files["big"], files["too"]; a != nil && b != nil {
			n++
			infoA, err := OS.Stat(filepath.Join(to, "big"))
			must(t, err)
			infoB, err := OS.Stat(filepath.Join(to, "too"))
			must(t, err)
			if infoA.Ino != infoB.Ino || infoA.Links != 2 {
				t.Errorf("%s: no hard link", s)
			}
		}
		must(t, os.RemoveAll(to))
		return !t.Failed()
	})
	if n == 0 {
		t.Error("no state with both names")
	}
}

// What overlaps a sync or another change, by hand: each log runs on from a
// durable "f" of one sector of "s".
// Case F9 of RELIABILITY.md.
func TestOverlap(t *testing.T) {
	const running = -1
	op := func(kind Kind, off, n int64, letter string, begin, end int) Op {
		o := Op{Kind: kind, Ino: 1, Name: "f", Off: off * sectorSize, N: n * sectorSize, Begin: 10 + begin, End: 10 + end}
		if end == running {
			o.End = Never
		}
		if kind == KindWrite {
			o.Data = bytes.Repeat([]byte(letter), int(o.N))
		}
		return o
	}
	for _, c := range []struct {
		name string
		log  []Op
		want []string
	}{
		{"a sync under way has done nothing for certain",
			[]Op{op(KindWrite, 0, 1, "a", 0, 1), op(KindSync, 0, 0, "", 2, running)}, []string{"f=a", "f=s"}},
		{"a sync covers what ended before it began",
			[]Op{op(KindWrite, 0, 1, "a", 0, 1), op(KindSync, 0, 0, "", 2, 3)}, []string{"f=a"}},
		{"a write that ends within the sync is in doubt",
			[]Op{op(KindWrite, 0, 1, "a", 0, 2), op(KindSync, 0, 0, "", 1, 3)}, []string{"f=a", "f=s"}},
		{"a write that begins within the sync is in doubt",
			[]Op{op(KindSync, 0, 0, "", 0, 3), op(KindWrite, 0, 1, "a", 1, 2)}, []string{"f=a", "f=s"}},
		{"the next sync covers both",
			[]Op{op(KindSync, 0, 0, "", 0, 3), op(KindWrite, 0, 1, "a", 1, 2), op(KindSync, 0, 0, "", 4, 5)}, []string{"f=a"}},
		{"a long write does not take back a newer one that was synced",
			[]Op{op(KindWrite, 0, 2, "a", 0, 9), op(KindWrite, 0, 1, "b", 1, 2), op(KindSync, 0, 0, "", 3, 4)},
			[]string{"f=b", "f=b.", "f=ba"}},
		{"nor does a long write that ends after a truncate was synced move the size",
			[]Op{op(KindWrite, 1, 1, "a", 0, 5), op(KindTruncate, 1, 0, "", 1, 2), op(KindSync, 0, 0, "", 3, 4), op(KindSync, 0, 0, "", 6, 7)},
			[]string{"f=s"}},
		{"a write within what an unsynced Allocate gained needs that size",
			[]Op{op(KindAllocate, 0, 3, "", 0, 9), op(KindWrite, 1, 1, "a", 1, 2), op(KindSync, 0, 0, "", 3, 4)},
			[]string{"f=sa", "f=sa."}},
	} {
		log := append([]Op{
			{Kind: KindCreate, Ino: 1, Name: "f", Begin: 0, End: 1}, op(KindWrite, 0, 1, "s", -8, -7),
			{Kind: KindSync, Ino: 1, Name: "f", Begin: 4, End: 5}, {Kind: KindSyncDir, Name: ".", Begin: 6, End: 7},
		}, c.log...)
		renumberOps(log)
		h := NewHistory(log)
		if got := allStates(t, h, h.Events()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A state keeps its data although the log goes on.
func TestStateStays(t *testing.T) {
	s := newScript(t, NewFailer(OS), nil)
	must(t, s.line([]string{"create", "f"}))
	must(t, s.line([]string{"write", "f", "a", "0", "2"}))
	h := NewHistory(s.rec.Log())
	state := h.State(h.Events(), KeepAll)
	files := state.Files()
	files["f"][0] = 'x' // the caller's own
	must(t, s.line([]string{"write", "f", "b", "0", "2"}))
	must(t, s.line([]string{"sync", "f"}))
	if got := shownState(state); got != "f=aa" {
		t.Errorf("the state became %s", got)
	}
	if p, ok := state.ReadFile("f", []byte("head")); !ok || string(p[:5]) != "heada" || len(p) != 4+2*sectorSize {
		t.Errorf("ReadFile appends %d bytes, %v", len(p)-4, ok)
	}
	if _, ok := state.ReadFile("g", nil); ok {
		t.Error("a file that is not there")
	}
}

func FuzzParseState(f *testing.F) {
	log := randomLog(rand.New(rand.NewPCG(3, 0)), 14)
	h := NewHistory(log)
	f.Add(h.Events(), "at=99 keep")
	f.Add(9, "at=9 drop keep=2.0-1,4 garbage=6:7")
	f.Add(5, "at=-1 drop keep=2.size,2.name torn=1.0:9")
	h.Enumerate(h.Events(), Plan{Budget: 20, Torture: true}, func(s *State) bool {
		f.Add(s.At(), s.String())
		return true
	})
	f.Fuzz(func(t *testing.T, at int, text string) {
		s, err := ParseState(log, text)
		if err != nil {
			return
		}
		again, err := ParseState(log, s.String())
		if err != nil {
			t.Fatalf("%q became %q: %v", text, s, err)
		}
		if again.Hash() != s.Hash() || again.String() != s.String() {
			t.Fatalf("%q became %q", s, again)
		}
	})
}

func BenchmarkEnumerate(b *testing.B) {
	h := NewHistory(storeLog(b, 64, 40))
	at := h.Events() - 20
	b.ReportAllocs()
	for n := 0; n < b.N; {
		h.Enumerate(at, Plan{Budget: min(1000, b.N-n), Seed: uint64(n)}, func(*State) bool { n++; return true })
	}
}

func BenchmarkMaterialise(b *testing.B) {
	for _, pages := range []int{16, 64} {
		b.Run(fmt.Sprintf("%dKiB", pages*4), func(b *testing.B) {
			h := NewHistory(storeLog(b, pages, 40))
			dir := fastDir(b)
			for n := 0; n < b.N; {
				h.Enumerate(h.Events()-20, Plan{Budget: min(1000, b.N-n), Seed: uint64(n)}, func(s *State) bool {
					n++
					to := filepath.Join(dir, "s")
					if err := s.Materialise(to); err != nil {
						b.Fatal(err)
					}
					for _, name := range s.Names() {
						os.Remove(filepath.Join(to, name))
					}
					return true
				})
			}
		})
	}
}

func BenchmarkNewHistory(b *testing.B) {
	log := storeLog(b, 64, 400)
	b.ReportAllocs()
	for b.Loop() {
		NewHistory(log)
	}
}
