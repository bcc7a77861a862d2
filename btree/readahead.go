package btree

import (
	"math"

	"github.com/foliodb/folio/page"
)

// readahead is how a cursor that goes from leaf to leaf has the next ones read meanwhile, where they are not in memory: see page.View.Prefetch. What is ahead is found
// in the branches, for the leaves' numbers need not follow each other.
//
// It begins at the second leaf that this process does not know, so that a short look around costs nothing, or where it is noticed that the system has taken leaves out of
// memory; and looks twice as far ahead each time. It ends when everything is found in memory.
type readahead struct {
	dir   int
	most  int     // how many leaves to look ahead
	lead  int     // how many leaves the cursor is behind that
	idle  int     // how often in a row everything was in memory
	pages page.ID // how many are asked for together: a group, or, where memory is short, one

	// What was asked for (false), and what is in memory (true), by the first page. The older ones are forgotten.
	seen, older map[page.ID]bool

	branch  page.ID // where to go on looking: above leaves
	i       int     // behind this child
	top     page.ID // the branch above; 0: there is none
	parent  int     // which child of it branch is
	through bool    // nothing more is to be had below it
}

const (
	firstAhead = 8         // leaves
	mostAhead  = 512 << 10 // bytes of leaves
	idleLooks  = 3

	// A cursor that believes all leaves to be in memory makes sure of some: of each 8th that the process has not touched, and each 256th of the others. It is a system call, which
	// takes as long as three leaves; with each 32nd scans took a tenth longer.
	sampleKnown, sampleNew = 256, 8
)

// leavesAhead is how many leaves are asked for ahead at most.
func leavesAhead(v *page.View) int { return max(mostAhead/v.PageSize(), firstAhead) }

// ahead is called when the cursor is about to look at leaf id, to which its path leads: while it reads ahead, at some others, and at those that the process does not know.
func (c *Cursor) ahead(id page.ID, dir int) {
	v, r := c.t.v, c.reading
	taken := (v.Known(id) && c.turns%sampleKnown == 0 || v.Was(id) && c.turns%sampleNew == 0) && v.Tells() && !v.Here(id, 1)
	if taken {
		v.SetShort()
	}
	if r == nil {
		if !taken {
			if v.Known(id) || v.Was(id) {
				return
			}
			if c.unknown++; c.unknown < 2 {
				return
			}
		}
		r = &readahead{pages: page.GroupPages, through: true}
		c.reading = r
	}
	if r.dir != dir || r.pages > 1 && v.Short() {
		if r.dir, r.most, r.lead, r.through = dir, 0, 0, true; v.Short() {
			r.pages = 1
		}
		r.seen, r.older = make(map[page.ID]bool), nil
	}
	if at := r.unit(id); r.asked(at) {
		v.Bring(at, r.pages)
		r.note(at, true)
	}
	if r.lead--; r.lead > r.most/2 {
		return
	}
	if r.look(c); r.idle == idleLooks {
		c.reading, c.unknown = nil, 0
	}
}

// unit returns the first of the pages that are asked for together with page id.
func (r *readahead) unit(id page.ID) page.ID {
	if r.pages == 1 {
		return id
	}
	return page.GroupOf(id)
}

func (r *readahead) lookup(at page.ID) (here, met bool) {
	if here, met = r.seen[at]; !met {
		here, met = r.older[at]
	}
	return here, met
}

// asked reports whether a unit was asked for, and has not been waited for.
func (r *readahead) asked(at page.ID) bool {
	here, met := r.lookup(at)
	return met && !here
}

func (r *readahead) note(at page.ID, here bool) {
	const most = 512
	if len(r.seen) >= most {
		r.seen, r.older = make(map[page.ID]bool, most), r.seen
	}
	r.seen[at] = here
}

// look asks for what lies ahead. What is wrong with a branch is left to the cursor.
func (r *readahead) look(c *Cursor) {
	if r.through {
		if r.lead > 0 {
			return
		}
		r.start(c)
	}
	v := c.t.v
	r.most = min(max(2*r.most, firstAhead), leavesAhead(v))
	var units []page.ID
	for r.lead < r.most {
		id := r.next(c)
		if id == 0 {
			r.through = true
			break
		}
		r.lead++
		at := r.unit(id)
		if r.pages > 1 && (v.Known(id) || v.Was(id)) {
			continue
		}
		if _, met := r.lookup(at); met {
			continue
		}
		if v.Here(at, r.pages) {
			r.note(at, true)
			continue
		}
		r.note(at, false)
		units = append(units, at)
	}
	v.Prefetch(units, r.pages)
	if r.idle++; len(units) > 0 {
		r.idle = 0
	}
}

// start begins to look at the cursor's place.
func (r *readahead) start(c *Cursor) {
	r.lead, r.through = 0, false
	r.branch, r.i = c.path[1].id, int(c.path[1].i)
	if r.top = 0; c.t.level > 1 {
		r.top, r.parent = c.path[2].id, int(c.path[2].i)
	}
}

// next returns the leaf behind the last one; 0: there is none below the same branch of level 2.
func (r *readahead) next(c *Cursor) page.ID {
	for {
		p, err := c.t.load(r.branch, 1, math.MaxUint64)
		if err != nil {
			return 0
		}
		b := page.Branch(p)
		if r.i += r.dir; uint(r.i) < uint(b.Count()) {
			return b.Child(r.i)
		}
		if r.top == 0 {
			return 0
		}
		if p, err = c.t.load(r.top, 2, math.MaxUint64); err != nil {
			return 0
		}
		b = page.Branch(p)
		if r.parent += r.dir; uint(r.parent) >= uint(b.Count()) {
			return 0
		}
		r.branch, r.i = b.Child(r.parent), -1
		if v := c.t.v; !v.Here(r.branch, 1) && !v.Bring(r.branch, 1) {
			return 0 // to touch it would be a fault, and the cursor may never come so far
		}
		if behind := r.parent + r.dir; uint(behind) < uint(b.Count()) {
			if id := b.Child(behind); !c.t.v.Here(id, 1) {
				c.t.v.Prefetch([]page.ID{id}, 1) // read by the time that the leaves of this one have been looked at
			}
		}
		if r.dir < 0 {
			if p, err = c.t.load(r.branch, 1, math.MaxUint64); err != nil {
				return 0
			}
			r.i = page.Branch(p).Count()
		}
	}
}
