package weave

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Explorer proposes schedules of one scenario, one after the other. First nobody is interrupted, in each order of the
// tasks. Then come those with one interruption, by chance until all have been; mixed with ones with two, as far as they
// are known from the former; and with ones drawn by chance in several ways. The same seed and the same
// scenario make the same proposals.
type Explorer struct {
	PairsOnly bool // nothing is drawn by chance

	rng    *rand.Rand
	runs   int
	points int     // most choices of a schedule so far
	orders [][]int // of the tasks
	once   []proposal
	twice  []proposal
	limit  int // of twice
	cut    bool
	spots  map[uintptr]int // choices met at each site in one schedule, at most
	places []uintptr       // its keys in the order in which they came up
	last   proposal        // the one that runs, if its followers are wanted
	Stats  ExplorerStats
}

// proposal is a schedule with few turns.
type proposal struct {
	order uint16
	n     uint8 // turns
	turns [2]shortTurn
}

type shortTurn struct {
	n  uint16
	to uint8
}

func (p *proposal) follow() Plan {
	var turns []Turn
	for _, t := range p.turns[:p.n] {
		turns = append(turns, Turn{int(t.n), int(t.to)})
	}
	return Follow(turns)
}

// ExplorerStats count schedules by how they were made.
type ExplorerStats struct{ Once, Twice, Chance int }

// NewExplorer returns an explorer of a scenario with so many tasks; pairs is how many schedules with two interruptions it
// keeps in mind, of those there are.
func NewExplorer(seed uint64, tasks, pairs int) *Explorer {
	e := &Explorer{rng: rand.New(rand.NewPCG(seed, 5)), limit: pairs, spots: map[uintptr]int{}}
	e.permute(make([]int, 0, tasks), tasks)
	return e
}

// permute makes all orders.
func (e *Explorer) permute(head []int, tasks int) {
	if len(head) == tasks {
		e.orders = append(e.orders, slices.Clone(head))
		return
	}
	for i := 1; i <= tasks; i++ {
		if !slices.Contains(head, i) {
			e.permute(append(head, i), tasks)
		}
	}
}

// Left returns how many schedules with at most two interruptions are known and have not been proposed, and whether that is
// all there are.
func (e *Explorer) Left() (n int, all bool) {
	return max(len(e.orders)-e.runs, 0) + len(e.once) + len(e.twice), !e.cut
}

// Next returns how to run the next schedule. Learn must be told of its result.
func (e *Explorer) Next() Config {
	e.runs++
	c := Config{Seed: e.rng.Uint64()}
	var p proposal
	switch {
	case e.runs <= len(e.orders):
		p.order = uint16(e.runs - 1)
		c.Record = true
	case len(e.once) > 0 && (e.PairsOnly || e.runs%2 == 0):
		p, e.once = e.draw(e.once)
		e.Stats.Once++
		c.Record = true
	case len(e.twice) > 0 && (e.PairsOnly || e.runs%2 == 0 || e.runs%8 == 1):
		p, e.twice = e.draw(e.twice)
		e.Stats.Twice++
	default:
		e.Stats.Chance++
		c.Order = e.orders[e.rng.IntN(len(e.orders))]
		c.Plan = e.byChance()
		return c
	}
	e.last = p
	c.Order, c.Plan = e.orders[p.order], p.follow()
	return c
}

// draw takes one out by chance.
func (e *Explorer) draw(from []proposal) (proposal, []proposal) {
	i, n := e.rng.IntN(len(from)), len(from)-1
	p := from[i]
	from[i] = from[n]
	return p, from[:n]
}

func (e *Explorer) byChance() Plan {
	rng := rand.New(rand.NewPCG(e.rng.Uint64(), 6))
	kind := rng.IntN(8)
	switch {
	case kind == 0:
		return Walk(rng, 2<<rng.IntN(7))
	case kind == 1:
		return Jump(rng, 2+rng.IntN(3), e.points)
	case kind == 2 || len(e.places) == 0:
		return Ranks(rng, 1+rng.IntN(4), e.points)
	}
	spots := make([]Spot, 1+rng.IntN(4))
	for i := range spots {
		at := e.places[rng.IntN(len(e.places))]
		spots[i] = Spot{at, 1 + rng.IntN(e.spots[at])}
	}
	if kind < 6 {
		return RanksAt(rng, spots)
	}
	return Halt(rng, spots)
}

// Learn takes note of what the last schedule was like.
func (e *Explorer) Learn(r *Result) {
	e.points = max(e.points, r.Points)
	if r.Choices == nil {
		return
	}
	met := map[uintptr]int{}
	for n, c := range r.Choices {
		if c.Site != 0 {
			if met[c.Site]++; met[c.Site] == 1 && e.spots[c.Site] == 0 {
				e.places = append(e.places, c.Site)
			}
		}
		if n > math.MaxUint16 || e.last.n > 0 && n <= int(e.last.turns[0].n) {
			continue
		}
		for id := range 64 {
			if c.Ready>>id&1 == 0 || id == int(c.Rule) {
				continue
			}
			p := e.last
			p.turns[p.n] = shortTurn{uint16(n), uint8(id)}
			p.n++
			e.add(p)
		}
	}
	for site, n := range met {
		e.spots[site] = max(e.spots[site], n)
	}
}

// add keeps a proposal; of pairs, a sample.
func (e *Explorer) add(p proposal) {
	switch {
	case p.n == 1:
		e.once = append(e.once, p)
	case len(e.twice) < e.limit:
		e.twice = append(e.twice, p)
	default:
		e.cut = true
		if e.limit > 0 && e.rng.IntN(4) == 0 {
			e.twice[e.rng.IntN(len(e.twice))] = p
		}
	}
}

// Shorten takes turns out of a list as long as fails says that what is left still fails.
func Shorten(turns []Turn, fails func([]Turn) bool) []Turn {
	for size := (len(turns) + 1) / 2; size > 0; {
		before := len(turns)
		for i := 0; i < len(turns); {
			less := slices.Concat(turns[:i], turns[min(i+size, len(turns)):])
			if fails(less) {
				turns = less
			} else {
				i += size
			}
		}
		if size > 1 || len(turns) == before {
			size /= 2
		}
	}
	return turns
}
