package weave

import (
	"math/rand/v2"
	"slices"
)

// Plan decides who goes on. Who is ready stands in s.ready; rule is who would go on without a plan.
type Plan interface {
	choose(s *session, n, rule int) int
	sites() bool // it wants to know where the running task is
}

// rule is the plan that changes nothing.
type rule struct{}

func (rule) choose(_ *session, _, rule int) int { return rule }
func (rule) sites() bool                        { return false }

// Follow returns the plan that deviates from the rule in these turns, in the order of N, and nowhere else.
func Follow(turns []Turn) Plan { return &follow{turns: turns} }

type follow struct{ turns []Turn }

func (f *follow) sites() bool { return false }

func (f *follow) choose(s *session, n, rule int) int {
	for len(f.turns) > 0 && f.turns[0].N < n {
		f.turns = f.turns[1:]
	}
	if len(f.turns) > 0 && f.turns[0].N == n && s.isReady(f.turns[0].To) {
		return f.turns[0].To
	}
	return rule
}

func (s *session) isReady(id int) bool { return slices.Contains(s.ready, id) }

// another returns one who is ready, but not the rule's.
func (s *session) another(rng *rand.Rand, rule int) int {
	i := rng.IntN(len(s.ready) - 1)
	if s.ready[i] == rule {
		i = len(s.ready) - 1
	}
	return s.ready[i]
}

// Walk returns the plan that deviates at each choice with probability 1 in every, at random.
func Walk(rng *rand.Rand, every int) Plan { return &walk{rng, every} }

type walk struct {
	rng   *rand.Rand
	every int
}

func (w *walk) sites() bool { return false }

func (w *walk) choose(s *session, _, rule int) int {
	if w.rng.IntN(w.every) > 0 {
		return rule
	}
	return s.another(w.rng, rule)
}

// Jump returns the plan that deviates at so many of the first points choices, at random.
func Jump(rng *rand.Rand, times, points int) Plan {
	at := map[int]bool{}
	for range times {
		at[rng.IntN(max(points, 1))] = true
	}
	return &jump{rng, at}
}

type jump struct {
	rng *rand.Rand
	at  map[int]bool
}

func (j *jump) sites() bool { return false }

func (j *jump) choose(s *session, n, rule int) int {
	if !j.at[n] {
		return rule
	}
	return s.another(j.rng, rule)
}

// Spot is the nth time, from 1, that a task comes to a site where it could be interrupted.
type Spot struct {
	Site uintptr
	Nth  int
}

// Halt returns the plan that interrupts at these spots. Most points of a run lie in few places of the source; spots drawn
// place by place come to the rare ones as often.
func Halt(rng *rand.Rand, spots []Spot) Plan {
	return &halt{rng, spots, map[uintptr]int{}}
}

type halt struct {
	rng   *rand.Rand
	spots []Spot
	met   map[uintptr]int
}

func (h *halt) sites() bool { return true }

func (h *halt) choose(s *session, _, rule int) int {
	if h.here(s.site) {
		return s.another(h.rng, rule)
	}
	return rule
}

// here counts a visit, and reports whether it is one of the spots.
func (h *halt) here(site uintptr) bool {
	if site == 0 {
		return false
	}
	h.met[site]++
	return slices.Contains(h.spots, Spot{site, h.met[site]})
}

// Ranks returns the plan of probabilistic concurrency testing (Burckhardt and others, ASPLOS 2010): tasks have ranks by
// chance and the highest that is ready goes on; at changes of the first points choices, at random, whoever would
// go on falls below all others. It finds a race that takes d events in a certain order among n tasks and k points with a
// probability of at least 1 in n*k^(d-1), with d-1 changes.
func Ranks(rng *rand.Rand, changes, points int) Plan {
	at := map[int]bool{}
	for range changes {
		at[rng.IntN(max(points, 1))] = true
	}
	return &ranks{rng: rng, at: at, of: map[int]int{}}
}

// RanksAt is Ranks with changes at spots.
func RanksAt(rng *rand.Rand, spots []Spot) Plan {
	return &ranks{rng: rng, spots: &halt{rng, spots, map[uintptr]int{}}, of: map[int]int{}}
}

type ranks struct {
	rng   *rand.Rand
	at    map[int]bool
	spots *halt // nil: at counts
	of    map[int]int
	low   int
}

func (r *ranks) sites() bool { return r.spots != nil }

func (r *ranks) choose(s *session, n, _ int) int {
	best := r.best(s)
	if r.at[n] || r.spots != nil && r.spots.here(s.site) {
		r.lower(best)
		best = r.best(s)
	}
	if best == clock {
		r.lower(clock) // else who looks again from time to time would keep all others from going on
	}
	return best
}

func (r *ranks) lower(id int) {
	r.low--
	r.of[id] = r.low
}

func (r *ranks) best(s *session) int {
	best := -1
	for _, id := range s.ready {
		if _, ok := r.of[id]; !ok {
			r.of[id] = r.rng.IntN(1 << 20)
		}
		if best < 0 || r.of[id] > r.of[best] {
			best = id
		}
	}
	return best
}
