package vfs

import (
	"math"
	"math/rand/v2"
)

// Plan says which states of a moment Enumerate yields. The same plan on the
// same log yields the same states in the same order.
type Plan struct {
	Budget  int    // states at most
	Seed    uint64 // of what is chosen at random
	Torture bool   // sectors may also be torn, mixed or garbage within what was written

	// Whole asks for all cases of every family, and for nothing at random: Budget,
	// Seed and Torture do not matter then. Tears of large writes have a bound: see maxTornSectors.
	Whole bool

	// Count, if set, is told of each family how many cases it has and how many were
	// tried, those included that gave a content which was there before.
	Count func(family string, cases, tried int)

	// Seen, if set, is asked for each new state's hash, and true skips the
	// state at no cost to the budget. It serves to leave out states that an
	// earlier moment had, where nothing more is asked of them now.
	Seen func(hash uint64) bool
}

const (
	maxSubsetUnits = 12 // up to so many units all subsets are tried,
	maxSubsetOps   = 10 // else up to so many operations all subsets of these

	// The whole has a bound in one place: a write of more than maxTornSectors, 64 KiB, is torn only where a page of
	// pageSectors, 4 KiB, of its file begins. A write of a megabyte has thousands of tears at each moment, and with
	// each of them a large store has to be opened. These are a family of their own, so that they are counted apart.
	maxTornSectors = 128
	pageSectors    = 8
)

// Enumerate yields states that a crash at a moment can leave, each content once,
// the cheap and telling first:
// everything; only what was synced; names, sizes and data without each
// other; single files; one operation missing; one operation alone; the operations up to
// one and from one on; each sector prefix and suffix of the last write to a
// file; all subsets if there are few enough; then random ones. When the budget does
// not suffice for all that, it takes a sample of each, unless the plan asks for the whole. It
// stops when yield returns false.
func (h *History) Enumerate(at int, plan Plan, yield func(*State) bool) {
	p := h.plan(at)
	e := enumerator{
		plan: p, want: plan, left: plan.Budget, yield: yield,
		rng:   rand.New(rand.NewPCG(plan.Seed, uint64(at))),
		fates: make([]Fate, len(p.units)),
		sums:  make([]uint64, len(p.files)),
		seen:  map[uint64]struct{}{},
	}
	e.group()
	e.run()
}

// Enumerate yields states that a crash at a moment can leave, without
// torture: see History.Enumerate.
func Enumerate(log []Op, at, budget int, seed uint64, yield func(*State) bool) {
	NewHistory(log).Enumerate(at, Plan{Budget: budget, Seed: seed}, yield)
}

// enumerator makes the states of one plan. Each family of states is a number
// of cases and a function that sets fates for one.
type enumerator struct {
	plan  *plan
	want  Plan
	left  int // of the budget; below 0 once yield said stop
	yield func(*State) bool
	rng   *rand.Rand
	fates []Fate
	sums  []uint64
	seen  map[uint64]struct{}
	ops   []opUnits
	last  []opUnits // the last write of each file: its sectors
}

// opUnits is the units [from, to) of one operation.
type opUnits struct {
	from, to int
	names    bool // a change of names
}

type family struct {
	name  string
	cases int
	set   func(i int)
}

// group finds the operations, and the last write of each file.
func (e *enumerator) group() {
	u := e.plan.units
	last := make([]opUnits, len(e.plan.files))
	for i := 0; i < len(u); {
		g := opUnits{from: i, names: u[i].move != nil}
		for i < len(u) && u[i].Op == u[g.from].Op {
			i++
		}
		g.to = i
		e.ops = append(e.ops, g)
		if u[g.to-1].isData() {
			if !u[g.from].isData() {
				g.from++ // the size
			}
			last[u[g.from].file] = g
		}
	}
	for _, g := range last {
		if g.to > 0 {
			e.last = append(e.last, g)
		}
	}
}

func (e *enumerator) run() {
	if e.want.Whole {
		e.left = math.MaxInt
	}
	e.family(e.outlines(), e.left)
	rest := []family{e.without(), e.alone(), e.upTo()}
	if e.want.Whole {
		large := func(g opUnits) bool { return g.to-g.from > maxTornSectors }
		rest = append(rest, e.tears("tears", func(g opUnits, _ int) bool { return !large(g) }),
			e.tears("tears at pages of writes over 64 KiB", func(g opUnits, i int) bool {
				return large(g) && e.plan.units[i].sector()%pageSectors == 0
			}))
	} else {
		rest = append(rest, e.tears("tears", func(opUnits, int) bool { return true }))
	}
	rest = append(rest, e.subsets())
	total := 0
	for _, f := range rest {
		total += f.cases
	}
	share := e.left
	if total > e.left {
		share = max(e.left/(len(rest)+1), 1)
	}
	for _, f := range rest {
		e.family(f, share)
	}
	if e.want.Whole {
		return
	}
	if e.want.Torture || total > e.left || len(e.plan.units) > maxSubsetUnits {
		e.random()
	}
}

// family tries the cases of f, or a sample if there are more than share.
func (e *enumerator) family(f family, share int) {
	n, start, tried := min(f.cases, max(share, 0)), 0, 0
	if n < f.cases && n > 0 {
		start = e.rng.IntN(f.cases)
	}
	for ; tried < n && e.left > 0; tried++ {
		f.set((start + int(int64(tried)*int64(f.cases)/int64(n))) % f.cases)
		e.try()
	}
	if e.want.Count != nil {
		e.want.Count(f.name, f.cases, tried)
	}
}

// try yields the state of fates unless it is known. It tells whether it was new.
func (e *enumerator) try() bool {
	sum := e.plan.sum(e.fates, e.sums)
	if _, ok := e.seen[sum]; ok {
		return false
	}
	e.seen[sum] = struct{}{}
	if e.want.Seen != nil && e.want.Seen(sum) {
		return true
	}
	e.left--
	if !e.yield(&State{plan: e.plan, fates: append([]Fate(nil), e.fates...), sum: sum}) {
		e.left = -1
	}
	return true
}

// all sets the fates of names, of sizes and of data.
func (e *enumerator) all(names, sizes, data Fate) {
	for i := range e.fates {
		switch u := &e.plan.units[i]; {
		case u.move != nil:
			e.fates[i] = names
		case u.isData():
			e.fates[i] = data
		default:
			e.fates[i] = sizes
		}
	}
}

func (e *enumerator) set(g opUnits, f Fate) {
	for i := g.from; i < g.to; i++ {
		e.fates[i] = f
	}
}

// outlines are the states that tell most: each sort of thing kept or dropped
// as a whole, each file kept or dropped as a whole.
func (e *enumerator) outlines() family {
	sorts := [][3]Fate{ // names, sizes, data
		{Keep, Keep, Keep}, {Keep, Drop, Drop}, {Drop, Drop, Drop}, {Drop, Keep, Keep},
		{Keep, Keep, Drop}, {Keep, Drop, Keep},
	}
	return family{"outlines", len(sorts) + 2*len(e.plan.files), func(i int) {
		if i < len(sorts) {
			e.all(sorts[i][0], sorts[i][1], sorts[i][2])
			return
		}
		i -= len(sorts)
		rest, own := Keep, Drop
		if i%2 == 1 {
			rest, own = Drop, Keep
		}
		e.all(Keep, rest, rest)
		for k := range e.fates {
			if e.plan.units[k].file == i/2 {
				e.fates[k] = own
			}
		}
	}}
}

// without are the states in which one operation is missing.
func (e *enumerator) without() family {
	return family{"drop-one", len(e.ops), func(i int) {
		e.all(Keep, Keep, Keep)
		e.set(e.ops[i], Drop)
	}}
}

// alone are the states in which only one operation survived, with the names
// it needs; or, of names, only this one.
func (e *enumerator) alone() family {
	return family{"keep-one", len(e.ops), func(i int) {
		if e.ops[i].names {
			e.all(Drop, Keep, Keep)
		} else {
			e.all(Keep, Drop, Drop)
		}
		e.set(e.ops[i], Keep)
	}}
}

// upTo are the states in which the disk kept the order, up to or from one
// operation on.
func (e *enumerator) upTo() family {
	n := max(len(e.ops)-1, 0)
	return family{"up-to", 2 * n, func(i int) {
		first, second := Keep, Drop
		if i >= n {
			i, first, second = i-n, second, first
		}
		for k, g := range e.ops {
			if k <= i {
				e.set(g, first)
			} else {
				e.set(g, second)
			}
		}
	}}
}

// tears are the states in which only the first or the last sectors of a
// file's last write survived, those before unit i of it or those from it on. at chooses the units.
func (e *enumerator) tears(name string, at func(g opUnits, i int) bool) family {
	var lost []opUnits
	for _, g := range e.last {
		for i := g.from + 1; i < g.to; i++ {
			if at(g, i) {
				lost = append(lost, opUnits{from: i, to: g.to})
			}
		}
		for i := g.from + 1; i < g.to; i++ {
			if at(g, i) {
				lost = append(lost, opUnits{from: g.from, to: i})
			}
		}
	}
	return family{name, len(lost), func(i int) {
		e.all(Keep, Keep, Keep)
		e.set(lost[i], Drop)
	}}
}

// subsets are all subsets of the units, or of the operations.
func (e *enumerator) subsets() family {
	pick := func(i, bit int) Fate { return Fate(i >> bit & 1) }
	switch {
	case len(e.plan.units) <= maxSubsetUnits:
		return family{"subsets", 1 << len(e.plan.units), func(i int) {
			for k := range e.fates {
				e.fates[k] = pick(i, k)
			}
		}}
	case len(e.ops) <= maxSubsetOps:
		return family{"subsets", 1 << len(e.ops), func(i int) {
			for k, g := range e.ops {
				e.set(g, pick(i, k))
			}
		}}
	}
	return family{name: "subsets"}
}

// random tries states until the budget is used up or nothing new turns up:
// with few and many survivors, by operation and by unit.
func (e *enumerator) random() {
	chances := [...]float64{0.5, 0.1, 0.9}
	tries := 1000 + 8*e.want.Budget // Seen may skip everything
	for k, stale := 0, 0; e.left > 0 && stale < 100 && k < tries; k++ {
		p := chances[k%len(chances)]
		for _, g := range e.ops {
			kept := e.rng.Float64() < p
			torn := k/len(chances)%2 == 0 || e.rng.IntN(4) == 0
			for i := g.from; i < g.to; i++ {
				if torn {
					kept = e.rng.Float64() < p
				}
				e.fates[i] = e.pick(i, kept)
			}
		}
		stale++
		if e.try() {
			stale = 0
		}
	}
}

// pick is the fate of unit i, kept or not; under torture it can be worse.
func (e *enumerator) pick(i int, kept bool) Fate {
	if e.want.Torture && e.plan.units[i].isData() {
		switch n := e.rng.IntN(1 << 20); e.rng.IntN(12) {
		case 0:
			return Torn(n % sectorSize)
		case 1:
			return Mixed(n)
		case 2:
			return Garbage(n)
		}
	}
	if kept {
		return Keep
	}
	return Drop
}
