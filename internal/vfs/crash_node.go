package vfs

import (
	"io/fs"
	"math"
	"slices"
)

// span is the bytes [from, to) of a file.
type span struct{ from, to int64 }

// node is a file at one moment of a log, in two parts: what is settled, that
// is durable whatever happens, and the changes in doubt on top of it, oldest
// first. A node is not changed once it is part of a snap.
type node struct {
	mode  fs.FileMode
	base  image // what is settled; may reach past size when a msync did
	size  int64 // the settled size
	now   int64 // the size that the running process sees
	doubt []change
}

// change is a write or a change of size that a crash may still take back, in
// whole or in part.
//
// Of several changes to one byte the newest that survives counts. So
// a settled change takes its bytes away from all older ones in doubt: that is
// what "superseded" means for writes that a failed sync has lost.
type change struct {
	num   int    // the operation in the log; negative: from before its start
	begin int    // event; -1 from before the log's start
	ended int    // event
	data  []byte // of a write, what it wrote from off on; nil for a change of size alone
	off   int64
	spans []span // the bytes in doubt: of data, or zeroed by a Truncate. Sorted, disjoint
	size  int64  // the size of the file after it, -1 when it leaves the size alone
	end   int64  // of a write or Allocate: once it is settled, the size cannot be less
	lost  bool   // a failed sync covered it: later syncs do not
}

// resizes tells whether the change's effect on the size is in doubt.
func (c *change) resizes() bool { return c.size >= 0 }

// added returns n with the change that op makes, or n when it makes none.
func (n *node) added(op *Op) *node {
	c := change{num: op.Seq, begin: op.Begin, ended: op.End, size: -1}
	size := n.now
	switch op.Kind {
	case KindWrite:
		if len(op.Data) == 0 {
			return n
		}
		c.data, c.off, c.end = op.Data, op.Off, op.Off+int64(len(op.Data))
		c.spans = []span{{c.off, c.end}}
		size = max(size, c.end)
	case KindTruncate:
		size = op.Off
	case KindAllocate:
		c.end = op.Off + op.N
		size = max(size, c.end)
	}
	if op.Err != nil && op.Kind != KindWrite {
		if !op.resized {
			return n
		}
		size, c.end = op.size, 0
	}
	if size != n.now {
		c.size = size
	}
	if size < n.now {
		c.spans = []span{{size, n.now}}
	}
	if c.spans == nil && !c.resizes() && c.end == 0 {
		return n
	}
	next := *n
	next.now = size
	next.doubt = append(n.doubt, c) // shares: a log has one future
	return &next
}

// synced returns n after a sync that began at event begin and succeeded.
func (n *node) synced(begin int) *node {
	return n.rest(func(s *settler, c change) {
		if c.lost || c.ended >= begin {
			s.keep(c)
			return
		}
		s.settle(&c)
	})
}

// msynced returns n after a successful msync of area: it covers the data that
// lies there and no change of size.
func (n *node) msynced(begin int, area span) *node {
	return n.rest(func(s *settler, c change) {
		if !c.lost && c.ended < begin && c.data != nil {
			hit := intersect(c.spans, area)
			s.put(&c, hit)
			c.spans = subtract(c.spans, hit)
		}
		s.keep(c)
	})
}

// failed returns n after a failed sync: what it covered is lost, which means
// that it may or may not be there after a crash, and that no later sync changes
// that. A msync that failed has lost all of each write that reaches into its area.
func (n *node) failed(begin int, area *span) *node {
	return n.rest(func(s *settler, c change) {
		covered := area == nil || c.off < area.to && area.from < c.off+int64(len(c.data))
		if c.ended < begin && covered {
			c.lost = true
		}
		s.keep(c)
	})
}

// droppedArea is the area that DropCache(n) is about.
func droppedArea(n int64) span {
	if n == 0 {
		n = math.MaxInt64
	}
	return span{0, n}
}

// dropped returns n after the cached pages of an area were dropped: for each lost sector
// there the disk has shown one content, which is settled by that. Lost sizes stay in
// doubt, since the kernel keeps them.
func (n *node) dropped(fates []Fate, dropped span) *node {
	return n.rest(func(s *settler, c change) {
		if c.lost && c.data != nil {
			gone := intersect(c.spans, dropped)
			for _, area := range sectorsOf(gone) {
				fate := Drop
				if len(fates) > 0 {
					fate, fates = fates[0], fates[1:]
				}
				hit := intersect(gone, area)
				if fate != Drop {
					s.putTorn(&c, area.from/sectorSize, hit, fate)
				}
			}
			c.spans = subtract(c.spans, gone)
		}
		s.keep(c)
	})
}

// rest rebuilds n by passing each of its changes in doubt to fn, oldest first.
func (n *node) rest(fn func(*settler, change)) *node {
	if len(n.doubt) == 0 {
		return n
	}
	next := *n
	s := settler{base: n.base.edit(), size: n.size}
	s.doubt = make([]change, 0, len(n.doubt))
	for _, c := range n.doubt {
		fn(&s, c)
	}
	next.base, next.size = s.base.image(), s.size
	next.doubt = slices.Clip(slices.DeleteFunc(s.doubt, func(c change) bool {
		return len(c.spans) == 0 && !c.resizes() && (c.lost || c.end == 0)
	}))
	return &next
}

// settler sorts a node's changes, oldest first, into settled and in doubt.
type settler struct {
	base  editor
	size  int64
	doubt []change
}

// keep leaves c in doubt.
func (s *settler) keep(c change) { s.doubt = append(s.doubt, c) }

// settle makes c durable: its bytes and its size.
func (s *settler) settle(c *change) {
	switch {
	case c.resizes():
		// The size of a file is one number, so older changes of it are done
		// with, and the zeroing that came with them has happened.
		for i := range s.doubt {
			old := &s.doubt[i]
			if old.resizes() && old.data == nil {
				s.trim(s.doubt[:i], old.spans)
				s.zero(old.spans)
				old.spans = nil
			}
			old.size, old.end = -1, 0
		}
		s.size = c.size
	case c.end > 0:
		s.size = max(s.size, c.end)
		for i := range s.doubt {
			if old := &s.doubt[i]; old.resizes() {
				old.size = max(old.size, c.end)
			}
		}
	}
	s.put(c, c.spans)
}

// put settles the bytes of c in spans.
func (s *settler) put(c *change, spans []span) {
	if c.data == nil {
		s.zero(spans)
	} else {
		for _, a := range spans {
			s.base.write(c.data[a.from-c.off:a.to-c.off:a.to-c.off], a.from)
		}
	}
	s.trim(s.doubt, spans)
}

// putTorn settles what fate leaves of c in one sector.
func (s *settler) putTorn(c *change, sector int64, spans []span, fate Fate) {
	var buf [sectorSize]byte
	if own := sector * sectorSize / chunkSize; s.base.chunks == nil || own >= int64(len(s.base.chunks)) {
		copy(buf[:], s.base.old.sector(sector))
	} else if data := s.base.chunks[own].data; data != nil {
		copy(buf[:], data[sector*sectorSize%chunkSize:])
	}
	fate.apply(buf[:], sector*sectorSize, c, spans)
	s.base.write(buf[:], sector*sectorSize)
	s.trim(s.doubt, spans)
}

func (s *settler) zero(spans []span) {
	for _, a := range spans {
		s.base.zero(a.from, a.to)
	}
}

// trim takes spans away from changes, all older than what was settled there.
func (s *settler) trim(changes []change, spans []span) {
	if len(spans) == 0 {
		return
	}
	for i := range changes {
		changes[i].spans = subtract(changes[i].spans, spans)
	}
}

// intersect returns the parts of spans within area.
func intersect(spans []span, area span) []span {
	var hit []span
	for _, a := range spans {
		if a = (span{max(a.from, area.from), min(a.to, area.to)}); a.from < a.to {
			hit = append(hit, a)
		}
	}
	return hit
}

// subtract returns what is left of spans without those of away; spans itself
// stays as it is.
func subtract(spans, away []span) []span {
	for _, x := range away {
		if !slices.ContainsFunc(spans, func(a span) bool { return a.from < x.to && x.from < a.to }) {
			continue
		}
		var left []span
		for _, a := range spans {
			if b := (span{a.from, min(a.to, x.from)}); b.from < b.to {
				left = append(left, b)
			}
			if b := (span{max(a.from, x.to), a.to}); b.from < b.to {
				left = append(left, b)
			}
		}
		spans = left
	}
	return spans
}

// sectorsOf returns the sectors that spans touch, each once, as spans.
func sectorsOf(spans []span) []span {
	var sectors []span
	last := int64(-1)
	for _, a := range spans {
		for i := max(a.from/sectorSize, last+1); i*sectorSize < a.to; i++ {
			sectors = append(sectors, span{i * sectorSize, (i + 1) * sectorSize})
			last = i
		}
	}
	return sectors
}
