package vfs

import (
	"path"
	"slices"
	"strings"
)

// entry says that a name leads to a file; ino 0: that there is no such name.
type entry struct {
	name string
	ino  int
}

// move is a change of names in one directory that a crash may still take back.
// Its entries change together or not at all.
type move struct {
	num   int     // the operation in the log; negative: from before its start
	part  int     // 1 for the second directory of a rename from one to another
	begin int     // event; -1 from before the log's start
	ended int     // event
	sets  []entry // what it makes of which names
	lost  bool    // a failed SyncDir covered it
}

// snap is everything a crash at one moment depends on. It is never changed;
// apply makes the next one, which shares with it what stays.
type snap struct {
	files []*node // by inode; nil: the file is gone, or the number is not in use
	names []entry // settled, by name
	moves []move  // in doubt, oldest first
}

// apply returns the snap after an operation has begun (end false) or ended.
// What changes something counts from its beginning on, a sync from its end on.
func (s *snap) apply(op *Op, end bool) *snap {
	if end {
		return s.applyEnd(op)
	}
	switch op.Kind {
	case KindStart:
		if op.start != nil {
			return op.start
		}
	case KindCreate:
		if op.Err == nil {
			next := s.withFile(op.Ino, &node{mode: 0o600})
			return next.withMove(op, entry{op.Name, op.Ino})
		}
	case KindWrite, KindTruncate, KindAllocate:
		if n := s.file(op.Ino); n != nil {
			return s.withFile(op.Ino, n.added(op))
		}
	case KindLink:
		if op.Err == nil {
			return s.withMove(op, entry{op.To, op.Ino})
		}
	case KindRename:
		if op.Err == nil {
			return s.withMove(op, entry{op.Name, 0}, entry{op.To, op.Ino})
		}
	case KindRemove:
		if op.Err == nil {
			return s.withMove(op, entry{op.Name, 0})
		}
	}
	return s
}

func (s *snap) applyEnd(op *Op) *snap {
	if op.Kind == KindSyncDir {
		return s.syncedDir(op)
	}
	n := s.file(op.Ino)
	if n == nil {
		return s
	}
	area := span{op.Off, op.Off + op.N}
	switch {
	case op.Kind == KindSync && op.Err == nil:
		n = n.synced(op.Begin)
	case op.Kind == KindSync:
		n = n.failed(op.Begin, nil)
	case op.Kind == KindMsync && op.N <= 0:
	case op.Kind == KindMsync && op.Err == nil:
		n = n.msynced(op.Begin, area)
	case op.Kind == KindMsync && op.Err != ErrReadOnlyMapping:
		n = n.failed(op.Begin, &area)
	case op.Kind == KindDrop && op.fates != nil:
		n = n.dropped(op.fates, droppedArea(op.N))
	}
	return s.withFile(op.Ino, n)
}

// file returns the node of an inode, nil when there is none.
func (s *snap) file(ino int) *node {
	if ino >= len(s.files) {
		return nil
	}
	return s.files[ino]
}

func (s *snap) withFile(ino int, n *node) *snap {
	if n == s.file(ino) {
		return s
	}
	next := *s
	next.files = append(make([]*node, 0, max(len(s.files), ino+1)), s.files...)
	next.files = next.files[:cap(next.files)]
	next.files[ino] = n
	return &next
}

// withMove adds a change of names; each directory's entries make a part.
func (s *snap) withMove(op *Op, sets ...entry) *snap {
	next := *s
	m := move{num: op.Seq, begin: op.Begin, ended: op.End, sets: sets}
	if len(sets) == 2 && path.Dir(sets[0].name) != path.Dir(sets[1].name) {
		m.sets = sets[:1]
		next.moves = append(next.moves, m)
		m.part, m.sets = 1, sets[1:]
	}
	next.moves = append(next.moves, m)
	return &next
}

// syncedDir settles the entries of a directory, or loses them.
func (s *snap) syncedDir(op *Op) *snap {
	next := *s
	next.moves = make([]move, 0, len(s.moves))
	names := slices.Clone(s.names)
	for _, m := range s.moves {
		covered := !m.lost && m.ended < op.Begin && path.Dir(m.sets[0].name) == op.Name
		if !covered || op.Err != nil {
			m.lost = m.lost || covered
			next.moves = append(next.moves, m)
			continue
		}
		for _, set := range m.sets {
			names = withEntry(names, set)
			next.supersede(set.name)
		}
	}
	next.moves = slices.Clip(slices.DeleteFunc(next.moves, func(m move) bool { return len(m.sets) == 0 }))
	next.names = names
	next.forget()
	return &next
}

// supersede takes a name away from all moves in doubt, which are older than
// the one that was settled.
func (s *snap) supersede(name string) {
	for i := range s.moves {
		m := &s.moves[i]
		if slices.ContainsFunc(m.sets, func(e entry) bool { return e.name == name }) {
			m.sets = slices.DeleteFunc(slices.Clone(m.sets), func(e entry) bool { return e.name == name })
		}
	}
}

// forget drops the files that no name can lead to any more.
func (s *snap) forget() {
	files := make([]*node, len(s.files))
	for ino := range files {
		if s.named(ino) {
			files[ino] = s.files[ino]
		}
	}
	s.files = files
}

// named tells whether a name may lead to a file after a crash.
func (s *snap) named(ino int) bool {
	leads := func(e entry) bool { return e.ino == ino }
	return slices.ContainsFunc(s.names, leads) ||
		slices.ContainsFunc(s.moves, func(m move) bool { return slices.ContainsFunc(m.sets, leads) })
}

// withEntry sets e in sorted names, in place where it can.
func withEntry(names []entry, e entry) []entry {
	i, found := slices.BinarySearchFunc(names, e.name, func(x entry, name string) int {
		return strings.Compare(x.name, name)
	})
	switch {
	case found && e.ino == 0:
		return slices.Delete(names, i, i+1)
	case found:
		names[i] = e
	case e.ino != 0:
		return slices.Insert(names, i, e)
	}
	return names
}
