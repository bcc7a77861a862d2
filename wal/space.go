package wal

import (
	"cmp"
	"slices"
)

// A segment is a part of the live log that lies in one piece: records behind
// each other, the last one a link unless the segment is the last.
type segment struct {
	lsn      LSN   // of its start
	off, end int64 // in the file; within a block where tails are
}

// An interval is a piece of the file.
type interval struct{ from, to int64 }

// space knows which parts of the file are live, and finds room in the rest. It
// does no I/O and has no lock. Rules R1 to R3 of the package comment are kept
// here: what place and fits answer is free, and has a block in reserve behind it.
type space struct {
	size   int64     // bytes of the file that may be used (R3)
	limit  int64     // first offset behind the end of the last segment that is not free
	segs   []segment // the live part in the order of LSNs; never empty
	anchor interval  // what is kept of the record before the live part; empty: there is none to keep
	starts blocks    // where records start that are no tails; exact inside the live part and the anchor
	runs   blocks    // those of them that tails may follow
	busy   []interval
}

// clone returns a copy that shares nothing.
func (s *space) clone() space {
	c := *s
	c.segs, c.starts, c.runs, c.busy = slices.Clone(s.segs), slices.Clone(s.starts), slices.Clone(s.runs), nil
	return c
}

// last returns the segment that the log is written to.
func (s *space) last() *segment { return &s.segs[len(s.segs)-1] }

// end returns the LSN behind the live part.
func (s *space) end() LSN {
	seg := s.last()
	return seg.lsn + LSN(seg.end-seg.off)
}

// live returns the bytes in the live part.
func (s *space) live() int64 { return int64(s.end() - s.segs[0].lsn) }

// fits reports whether a record of n bytes that is no tail may be written behind the end, leaving a reserve.
func (s *space) fits(n int64) bool { return padded(padded(s.last().end)+n)+block <= s.limit }

// fitsTail reports whether a tail of n bytes may.
func (s *space) fitsTail(n int64) bool { return padded(s.last().end+n)+block <= s.limit }

// anchored reports whether there is an anchor.
func (s *space) anchored() bool { return s.anchor.to > 0 }

// occupied returns what must not be written over, sorted: the segments with
// the last one's reserve, and the anchor. Valid until the next call.
func (s *space) occupied() []interval {
	s.busy = s.busy[:0]
	for _, seg := range s.segs {
		s.busy = append(s.busy, interval{floored(seg.off), padded(seg.end)})
	}
	s.busy[len(s.busy)-1].to += block
	if s.anchored() {
		s.busy = append(s.busy, s.anchor)
	}
	slices.SortFunc(s.busy, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	return s.busy
}

// place returns the lowest offset where n bytes with a reserve behind them
// fit elsewhere, for a link to lead there.
func (s *space) place(n int64) (off int64, ok bool) {
	free := int64(recordsAt)
	for _, b := range s.occupied() {
		if b.from-free >= n+block {
			return free, true
		}
		free = max(free, b.to)
	}
	return free, s.size-free >= n+block
}

// room reports whether n bytes fit, here or elsewhere.
func (s *space) room(n int64) bool {
	if s.fits(n) {
		return true
	}
	_, ok := s.place(n)
	return ok
}

// need returns the size that the file must have for n bytes to fit at its end.
func (s *space) need(n int64) int64 {
	top := s.top()
	if end := padded(s.last().end); top == end+block {
		top = end // no link is needed to get there
	}
	return top + n + block
}

// top returns the end of what is written, reserve included.
func (s *space) top() int64 {
	top := int64(recordsAt)
	for _, b := range s.occupied() {
		top = max(top, b.to)
	}
	return top
}

// wrote says that a record of n bytes was written at the beginning of the block behind the end, and whether tails may follow it.
func (s *space) wrote(n int64, run bool) {
	seg := s.last()
	seg.end = padded(seg.end)
	s.starts.removeRange(seg.end, n)
	s.starts.add(seg.end)
	s.runs.removeRange(seg.end, n)
	if run {
		s.runs.add(seg.end)
	}
	seg.end += n
}

// wroteTail says that a tail of n bytes was written at the end.
func (s *space) wroteTail(n int64) {
	seg := s.last()
	fresh := padded(seg.end)
	seg.end += n
	s.starts.removeRange(fresh, seg.end-fresh)
	s.runs.removeRange(fresh, seg.end-fresh)
}

// jump says that the last record written was a link to off. The limit is stale
// until relimit: finding it for each link of a long log would be quadratic.
func (s *space) jump(off int64) {
	s.segs = append(s.segs, segment{lsn: s.end(), off: off, end: off})
}

// relimit finds how far the last segment may go.
func (s *space) relimit() {
	end := s.last().end
	s.limit = s.size
	for _, seg := range s.segs[:len(s.segs)-1] {
		if off := floored(seg.off); off >= end {
			s.limit = min(s.limit, off)
		}
	}
	if s.anchored() && s.anchor.from >= end {
		s.limit = min(s.limit, s.anchor.from)
	}
}

// grow says that the file may be used up to size.
func (s *space) grow(size int64) {
	s.size = size
	s.starts, s.runs = s.starts.grown(size), s.runs.grown(size)
	s.relimit()
}

// release makes p the start of the live part and reports whether it can be: the start of a live record, or behind one. The limit only rises: what is
// kept now, the new anchor too, was live before, or the anchor.
func (s *space) release(p Position) bool {
	i := len(s.segs) - 1
	for i > 0 && s.segs[i].lsn > p.LSN {
		i--
	}
	seg := &s.segs[i]
	if p.LSN < seg.lsn || p.Offset-seg.off != int64(p.LSN-seg.lsn) || p.Offset > seg.end {
		return false
	}
	if p.Offset == seg.off {
		if i == 0 {
			return true // released already
		}
		link := s.segs[i-1].end - block // the one that leads here
		s.anchor = interval{link, link + block}
	} else {
		next := padded(p.Offset) // where a record lies that is no tail
		before := s.starts.last(floored(seg.off), next)
		switch {
		case p.Offset%tailUnit != 0:
			return false
		case before >= 0 && s.runs.has(before):
			s.anchor = interval{before, next}
		case before >= 0:
			if p.Offset != next || next < seg.end && !s.starts.has(next) {
				return false
			}
			s.anchor = interval{before, before + block}
		case i > 0:
			return false
		default: // nothing but tails since the last release: of the run that has the anchor, if that was found
			if !s.anchored() {
				s.anchor.from = floored(seg.off)
			}
			s.anchor.to = next
		}
	}
	seg.lsn, seg.off = p.LSN, p.Offset
	s.segs = slices.Delete(s.segs, 0, i)
	s.relimit()
	return true
}
