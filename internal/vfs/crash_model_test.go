package vfs

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
)

var (
	seedFlag = flag.Uint64("vfs.seed", 0, "seed of a random log to replay; 0: many")
	logsFlag = flag.Int("vfs.logs", 100, "number of random logs")
)

// seeds calls fn with the seed to replay or with many, and says how to replay
// the first that fails.
func seeds(t *testing.T, fn func(seed uint64)) {
	t.Helper()
	from, to := uint64(1), uint64(*logsFlag)
	if *seedFlag != 0 {
		from, to = *seedFlag, *seedFlag
	}
	for seed := from; seed <= to; seed++ {
		fn(seed)
		if t.Failed() {
			t.Fatalf("replay: go test ./internal/vfs -run '^%s$' -vfs.seed=%d", t.Name(), seed)
		}
	}
}

// TestCrashModel compares the states of small random logs, with operations
// that overlap and syncs that fail, to those of the definition.
func TestCrashModel(t *testing.T) {
	states, moments := 0, 0
	seeds(t, func(seed uint64) {
		log := randomLog(rand.New(rand.NewPCG(seed, 0)), 9)
		h := NewHistory(log)
		for at := 0; at <= h.Events(); at++ {
			if len(h.plan(at).units) > maxSubsetUnits {
				continue
			}
			got := allStates(t, h, at)
			want := slices.Sorted(maps.Keys(definedStates(log, at)))
			if !slices.Equal(got, want) {
				t.Errorf("crash at %d of\n%sgives %d states:\n%s\nthe definition gives %d:\n%s", at, timeline(log),
					len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
				return
			}
			states += len(got)
			moments++
		}
	})
	t.Logf("%d states of %d moments", states, moments)
}

// TestKillModel cuts random logs in two: a recorder that starts from the
// state of a killed process has the states that one log of all would have.
func TestKillModel(t *testing.T) {
	moments := 0
	seeds(t, func(seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := randomLog(rng, 9)
		h := NewHistory(log)
		kill := rng.IntN(h.Events() + 1)
		// What was under way has happened or not, and has ended then. The
		// log goes on as if names had been made.
		happened := func(op *Op) bool { return op.Seq%2 == 0 || op.Kind == KindCreate }
		one := []Op(nil)
		for _, op := range log {
			switch {
			case op.Begin < kill && op.End < kill:
			case op.Begin < kill && (isSync(op.Kind) || !happened(&op)):
				continue
			case op.Begin < kill:
				op.End = kill - 1
			}
			one = append(one, op)
		}
		state := h.State(kill, func(u Unit) Fate {
			if u.Op >= 0 && log[u.Op].End >= kill && !happened(&log[u.Op]) {
				return Drop
			}
			return Keep
		})
		two := []Op{{Kind: KindStart, start: state.Kill().plan.snap}}
		for _, op := range log {
			if op.Begin >= kill {
				op.Seq = len(two)
				two = append(two, op)
			}
		}
		renumberOps(one)
		hOne, hTwo := NewHistory(one), NewHistory(two)
		for at := kill + 1; at <= h.Events(); at++ {
			if len(hOne.plan(at).units) > maxSubsetUnits {
				continue
			}
			want, got := allStates(t, hOne, at), allStates(t, hTwo, at)
			if !slices.Equal(got, want) {
				t.Errorf("killed at %d, crash at %d of\n%sgives %d states:\n%s\nwithout the kill %d:\n%s", kill, at, timeline(log),
					len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
				return
			}
			moments++
		}
	})
	t.Logf("%d moments", moments)
}

// TestTorture holds states with torn and mixed sectors to what they must be:
// bytes that nothing in doubt has written to are those of some state without torture.
func TestTorture(t *testing.T) {
	states, damaged := 0, 0
	seeds(t, func(seed uint64) {
		log := randomLog(rand.New(rand.NewPCG(seed, 2)), 9)
		h := NewHistory(log)
		at := h.Events()
		if len(h.plan(at).units) > maxSubsetUnits {
			return
		}
		allowed := map[string]bool{}
		for text := range definedStates(log, at) {
			allowed[text] = true
		}
		h.Enumerate(at, Plan{Budget: 300, Seed: seed, Torture: true}, func(s *State) bool {
			states++
			again, err := h.Parse(s.String())
			if err != nil || again.Hash() != s.Hash() || shownState(again) != shownState(s) {
				t.Errorf("%q does not make the state again: %v", s, err)
			}
			// Take the torn sectors back to their untorn likes: then it is
			// one of the defined states, equal but where the torn ones wrote.
			plain := slices.Clone(s.fates)
			for i, f := range plain {
				if f > Keep {
					plain[i] = Keep
				}
			}
			like := s.plan.state(plain)
			if like.Hash() != s.Hash() {
				damaged++
			}
			if !allowed[shownState(like)] {
				t.Errorf("%s: not a state: %s", s, shownState(like))
			}
			for name, p := range s.Files() {
				q := like.Files()[name]
				if len(p) != len(q) {
					t.Errorf("%s: size of %s differs", s, name)
					continue
				}
				for i := range p {
					if p[i] != q[i] && !tornAt(s, name, int64(i)) {
						t.Errorf("%s: %s differs at byte %d, where nothing was torn", s, name, i)
					}
				}
			}
			return !t.Failed()
		})
	})
	t.Logf("%d states, %d of them torn", states, damaged)
	if *seedFlag == 0 && damaged < states/4 {
		t.Errorf("only %d of %d states are torn", damaged, states)
	}
}

// Torn and mixed sectors hold old and new bytes only, garbage anything, and
// all of them only where the operation wrote.
func TestFates(t *testing.T) {
	c := &change{off: 100, data: bytes.Repeat([]byte("n"), 300)}
	spans := []span{{110, 150}, {200, 300}}
	for _, f := range []Fate{Drop, Keep, Torn(0), Torn(60), Torn(500), Mixed(1), Mixed(7), Garbage(1)} {
		buf := bytes.Repeat([]byte("o"), sectorSize)
		f.apply(buf, 0, c, spans)
		fresh := map[byte]int{}
		for i, b := range buf {
			inside := i >= 110 && i < 150 || i >= 200 && i < 300
			if !inside && b != 'o' {
				t.Errorf("%v: byte %d was not written", f, i)
			}
			if inside {
				fresh[b]++
			}
		}
		kind, n := f.split()
		var ok bool
		switch kind {
		case Drop:
			ok = fresh['o'] == 140
		case Keep:
			ok = fresh['n'] == 140
		case torn:
			n = min(n, 140)
			ok = fresh['n'] == n && fresh['o'] == 140-n && (n == 0 || buf[110] == 'n')
		case mixed:
			ok = fresh['n']+fresh['o'] == 140 && fresh['n'] > 30 && fresh['o'] > 30
		case garbage:
			ok = len(fresh) > 50
		}
		if !ok {
			t.Errorf("%v: the range holds %v", f, fresh)
		}
	}
}

// tornAt tells whether an operation that the state tears wrote byte i.
func tornAt(s *State, name string, i int64) bool {
	f := s.find(name)
	for k := range s.plan.units {
		u := &s.plan.units[k]
		if s.fates[k] > Keep && u.isData() && s.plan.files[u.file].ino == f.ino &&
			slices.ContainsFunc(u.spans, func(a span) bool { return a.from <= i && i < a.to }) {
			return true
		}
	}
	return false
}

func isSync(k Kind) bool { return k == KindSync || k == KindMsync || k == KindSyncDir }

func renumberOps(log []Op) {
	for i := range log {
		log[i].Seq = i
	}
}

// timeline prints a log with its events.
func timeline(log []Op) string {
	var b strings.Builder
	for i := range log {
		end := "..."
		if log[i].End != Never {
			end = fmt.Sprint(log[i].End)
		}
		data := ""
		if len(log[i].Data) > 0 {
			data = " " + string(log[i].Data[:1])
		}
		fmt.Fprintf(&b, "%d [%d %s] %s%s\n", i, log[i].Begin, end, log[i].String(), data)
	}
	return b.String()
}

// randomLog makes a log of n operations on two files and a few names. Syncs
// and writes may overlap; nothing is under way when a Truncate or Allocate begins.
func randomLog(rng *rand.Rand, n int) []Op {
	g := generator{rng: rng, names: map[string]int{}}
	g.do(Op{Kind: KindCreate, Ino: 1, Name: "f"}, 0)
	g.names["f"] = 1
	for len(g.log) < n {
		g.step()
	}
	for _, i := range g.open {
		if g.rng.IntN(2) == 0 {
			g.end(i)
		}
	}
	return g.log
}

// generator builds a random log.
type generator struct {
	rng    *rand.Rand
	log    []Op
	clock  int
	open   []int // operations that have not ended
	names  map[string]int
	second bool // the second file was made
}

// do begins an operation, and ends it at once or, with some luck, later.
func (g *generator) do(op Op, later float64) {
	op.Seq, op.Begin, op.End = len(g.log), g.clock, Never
	g.clock++
	g.log = append(g.log, op)
	if g.rng.Float64() < later {
		g.open = append(g.open, op.Seq)
		return
	}
	g.end(op.Seq)
}

func (g *generator) end(i int) {
	g.log[i].End = g.clock
	g.clock++
}

func (g *generator) step() {
	if len(g.open) > 0 && g.rng.IntN(2) == 0 {
		i := g.rng.IntN(len(g.open))
		g.end(g.open[i])
		g.open = slices.Delete(g.open, i, i+1)
		return
	}
	ino := 1
	if g.second && g.rng.IntN(3) == 0 {
		ino = 2
	}
	op := Op{Ino: ino, Name: "f"}
	if g.rng.IntN(6) == 0 {
		op.Err = ErrFault // any error
	}
	switch k := g.rng.IntN(20); {
	case k < 7:
		op.Kind, op.Err = KindWrite, nil
		op.Off, op.N = g.rng.Int64N(4)*sectorSize, (1+g.rng.Int64N(2))*sectorSize
		if g.rng.IntN(4) == 0 {
			op.Off, op.N = g.rng.Int64N(1200), 1+g.rng.Int64N(600)
		}
		op.Data = slices.Repeat([]byte{byte('a' + len(g.log))}, int(op.N))
		g.do(op, 0.3)
	case k < 9 && len(g.open) == 0:
		op.Kind, op.Err, op.N = KindAllocate, nil, g.rng.Int64N(5)*sectorSize
		g.do(op, 0.2)
	case k < 10 && len(g.open) == 0:
		op.Kind, op.Err, op.Off = KindTruncate, nil, g.rng.Int64N(4)*sectorSize
		g.do(op, 0)
	case k < 14:
		op.Kind = KindSync
		g.do(op, 0.3)
	case k < 15:
		op.Kind, op.Off, op.N = KindMsync, g.rng.Int64N(3)*sectorSize, g.rng.Int64N(3)*sectorSize
		g.do(op, 0.3)
	case k < 17:
		g.do(Op{Kind: KindSyncDir, Name: ".", Err: op.Err}, 0.3)
	default:
		g.stepName()
	}
}

func (g *generator) stepName() {
	all := slices.Sorted(maps.Keys(g.names))
	name := all[g.rng.IntN(len(all))]
	to := []string{"f", "g", "h"}[g.rng.IntN(3)]
	ino := g.names[name]
	switch g.rng.IntN(4) {
	case 0:
		if g.names["g"] == 0 && !g.second {
			g.second = true
			g.do(Op{Kind: KindCreate, Ino: 2, Name: "g"}, 0)
			g.names["g"] = 2
		}
	case 1:
		if g.names[to] == 0 {
			g.do(Op{Kind: KindLink, Ino: ino, Name: name, To: to}, 0.2)
			g.names[to] = ino
		}
	case 2:
		if g.names[to] != ino {
			g.do(Op{Kind: KindRename, Ino: ino, Name: name, To: to}, 0.2)
			delete(g.names, name)
			g.names[to] = ino
		}
	case 3:
		if len(g.names) > 1 {
			g.do(Op{Kind: KindRemove, Ino: ino, Name: name}, 0.2)
			delete(g.names, name)
		}
	}
}

// definedStates is the fault model once more, as slowly and plainly as it can
// be said: for each choice of what survives, replay the whole log.
func definedStates(log []Op, at int) map[string]bool {
	states := map[string]bool{}
	var doubt, sure []int // operations on names
	for i := range log {
		switch log[i].Kind {
		case KindCreate, KindLink, KindRename, KindRemove:
			if log[i].Begin < at && covered(log, i, at, 0, 0) {
				sure = append(sure, i)
			} else if log[i].Begin < at {
				doubt = append(doubt, i)
			}
		}
	}
	contents := map[int][]string{}
	for choice := range 1 << len(doubt) {
		names := map[string]int{}
		for i := range log {
			k := slices.Index(doubt, i)
			if !slices.Contains(sure, i) && (k < 0 || choice>>k&1 == 0) {
				continue
			}
			if log[i].Kind == KindRename || log[i].Kind == KindRemove {
				delete(names, log[i].Name)
			}
			if log[i].Kind == KindCreate {
				names[log[i].Name] = log[i].Ino
			} else if log[i].Kind != KindRemove {
				names[log[i].To] = log[i].Ino
			}
		}
		combine(names, contents, log, at, states)
	}
	return states
}

// combine adds the states with these names and any contents of their files.
func combine(names map[string]int, contents map[int][]string, log []Op, at int, states map[string]bool) {
	inos := slices.Sorted(maps.Values(names))
	inos = slices.Compact(inos)
	var rec func(i int, chosen map[int]string)
	rec = func(i int, chosen map[int]string) {
		if i == len(inos) {
			files := map[string][]byte{}
			for name, ino := range names {
				files[name] = []byte(chosen[ino])
			}
			states[shown(files, names)] = true
			return
		}
		if contents[inos[i]] == nil {
			contents[inos[i]] = definedContents(log, at, inos[i])
		}
		for _, c := range contents[inos[i]] {
			chosen[inos[i]] = c
			rec(i+1, chosen)
		}
	}
	rec(0, map[int]string{})
}

// covered tells whether bytes [from, to) of operation i, or the operation as
// a whole when they are 0, are durable: a sync that covers it succeeded, and none that
// covers it had failed before.
func covered(log []Op, i, at int, from, to int64) bool {
	covers := func(s *Op) bool {
		if s.End >= at || log[i].End >= s.Begin {
			return false
		}
		switch log[i].Kind {
		case KindWrite, KindTruncate, KindAllocate:
			if s.Kind == KindMsync && log[i].Kind == KindWrite && s.Ino == log[i].Ino {
				if s.Err != nil {
					return s.Off < log[i].Off+log[i].N && log[i].Off < s.Off+s.N && s.N > 0
				}
				return to > 0 && s.Off <= from && to <= s.Off+s.N
			}
			return s.Kind == KindSync && s.Ino == log[i].Ino
		}
		return s.Kind == KindSyncDir && path.Dir(log[i].Name) == s.Name
	}
	for k := range log {
		s := &log[k]
		if s.Err != nil || !covers(s) {
			continue
		}
		lost := slices.ContainsFunc(log, func(f Op) bool { return f.Err != nil && f.End < s.End && covers(&f) })
		if !lost {
			return true
		}
	}
	return false
}

// definedContents are the contents that one file can have after the crash.
func definedContents(log []Op, at, ino int) []string {
	type unit struct {
		op     int
		sector int64
	}
	var ops, sizeOps []int
	var units []unit
	sizes := map[int]int64{} // after a change of size
	now, sure := int64(0), -1
	for i := range log {
		op := &log[i]
		if op.Ino != ino || op.Begin >= at {
			continue
		}
		size := now
		switch op.Kind {
		case KindWrite:
			size = max(size, op.Off+op.N)
		case KindAllocate:
			size = max(size, op.Off+op.N)
		case KindTruncate:
			size = op.Off
		default:
			continue
		}
		ops = append(ops, i)
		if size != now {
			sizeOps = append(sizeOps, i)
			sizes[i] = size
			if covered(log, i, at, 0, 0) {
				sure = i
			}
		}
		now = size
		if op.Kind == KindWrite && !covered(log, i, at, 0, 0) {
			for s := op.Off / sectorSize; s*sectorSize < op.Off+op.N; s++ {
				units = append(units, unit{i, s})
			}
		}
	}
	versions := []int{sure}
	for _, i := range sizeOps {
		if i > sure && !covered(log, i, at, 0, 0) {
			versions = append(versions, i)
		}
	}
	durable := map[int][]bool{} // by operation and byte
	for _, i := range ops {
		op := &log[i]
		for b := op.Off; op.Kind == KindWrite && b < op.Off+op.N; b++ {
			durable[i] = append(durable[i], covered(log, i, at, b, b+1))
		}
	}
	contents := map[string]bool{}
	disk := make([]byte, 8*sectorSize)
	for _, version := range versions {
		size := int64(0)
		if version >= 0 {
			size = sizes[version]
		}
		for _, i := range ops {
			if _, resizes := sizes[i]; !resizes && log[i].Kind != KindTruncate && i > version && covered(log, i, at, 0, 0) {
				size = max(size, log[i].Off+log[i].N)
			}
		}
		for choice := range 1 << len(units) {
			clear(disk)
			for _, i := range ops {
				op := &log[i]
				if _, resizes := sizes[i]; op.Kind == KindTruncate && resizes && i <= version {
					clear(disk[op.Off:])
				}
				for b := op.Off; op.Kind == KindWrite && b < op.Off+op.N; b++ {
					k := slices.Index(units, unit{i, b / sectorSize})
					if k < 0 || choice>>k&1 != 0 || durable[i][b-op.Off] {
						disk[b] = op.Data[b-op.Off]
					}
				}
			}
			contents[string(disk[:size])] = true
		}
	}
	return slices.Sorted(maps.Keys(contents))
}
