package folio

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// A bulk transaction that goes on and on in random order comes to a tree that is much larger than what it collects. Done at once, each operation of a buffer would find a
// leaf of its own there, which is copied, hashed and written for it alone. So the operations are sorted and put in a stash: runs in the data file that no tree refers to. When
// the transaction looks, or commits, all that is in the stash is merged, and goes to the tree in the order of keys. It is the merge sort of any
// data base that loads, for instance in Knuth, The Art of Computer Programming, volume 3, 5.4.

// stash is what a bulk transaction has collected, but neither the tree has nor ops. It goes with the transaction: its pages are the transaction's own.
type stash struct {
	rows    []stashRow // in the order in which the operations were made
	paths   []wal.Path // of the buckets; numbers are the same in all rows
	ops     uint64
	window  int     // the most operations of a part, of all rows together: what the merge may have in sight at once
	room    page.ID // own pages that are kept free for the merge: see keepRoom
	roomFor int     // how many there are
	scratch []byte
}

// stashRow is operations in the order of keys.
type stashRow []stashPart

// stashPart is some of them, in one run.
type stashPart struct {
	ref    page.Ref
	n      int // bytes
	ops    int
	bucket uint32 // of the last operation
	last   int    // where that begins
}

// stashTimes bounds what is put by before it is merged: so many times the items of the tree among which the operations lie. If keys come again and again the file would grow by all
// operations else, though the tree does not. A tree that grows is written anew each time that it has grown five times.
const stashTimes = 4

// stashPartSize is how long a part should be: long enough to be written at once, and so short that a merge takes no more than the transaction collects.
func (db *DB) stashPartSize() int { return max(directRun, min(4*directRun, int(db.bulkLimit()/64))) }

// behind reports whether the tree lacks operations of the transaction.
func (tx *Tx) behind() bool { return tx.postponed > 0 || tx.stash != nil }

// putBy puts what has been collected in the stash, or does it at once if the stash is empty and that is as good. It reports whether it has; if not the stash is full or the
// disk, and nothing has changed. After an error the tree lacks what it should have.
func (tx *Tx) putBy() (done bool, err error) {
	defer func() {
		if err != nil {
			tx.lost = true
		}
	}()
	db := tx.db
	s := &db.sorter
	defer s.reset()
	st := tx.stash
	if st == nil {
		st = &stash{}
	}
	s.expect(st.paths)
	if err := s.add(tx.ops[tx.caught:]); err != nil {
		return false, err
	}
	s.sort()
	among, err := s.among(tx)
	if err != nil {
		return false, err
	}
	switch n := uint64(len(s.changes)); {
	case len(st.rows) == 0 && among < n && db.opts.stashes == 0:
		// A leaf that is written holds no more than was done to it, and to put by costs as much. With four times as many items for an operation, or
		// half as many, loads of a million records were slower.
		tx.lost = true
		if err := s.applySorted(tx); err != nil {
			return false, err
		}
		tx.lost = false
		tx.putAway()
		return true, nil
	case len(st.rows) > 0 && (db.opts.stashes == 0 && st.ops+n > stashTimes*among || st.window > tx.stashWindow()):
		return false, nil
	}
	row, err := tx.writeRow(s, st)
	if err == nil {
		err = tx.keepRoom(st, len(st.rows)+1)
	}
	if err != nil {
		for _, part := range row {
			db.pager.dropRun(part.ref, part.n)
		}
		if isFull(err) {
			err = nil
		}
		return false, err
	}
	for _, p := range s.paths[len(st.paths):] {
		st.paths = append(st.paths, bytes.Clone(p))
	}
	st.rows = append(st.rows, row)
	most := 0
	for i := range row {
		st.ops += uint64(row[i].ops)
		most = max(most, row[i].ops)
	}
	st.window += most
	tx.stash = st
	tx.putAway()
	return true, nil
}

// putAway empties what a bulk transaction collects in.
func (tx *Tx) putAway() { tx.ops, tx.selected, tx.postponed, tx.caught = tx.ops[:0], nil, 0, 0 }

// stashWindow is how many operations the merge may have in sight, roughly: as many as are collected.
func (tx *Tx) stashWindow() int { return int(tx.db.bulkLimit() / 2 / opCost) }

// among returns how many items of the tree the changes, which are sorted, lie among.
func (s *sorter) among(tx *Tx) (uint64, error) {
	among := uint64(0)
	for rest := s.changes; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].bucket == rest[0].bucket {
			n++
		}
		b, err := tx.walk(s.paths[rest[0].bucket])
		if err != nil {
			return 0, err
		}
		from, err := b.tree.Rank(s.op(&rest[0]).Key)
		if err != nil {
			return 0, err
		}
		to, err := b.tree.Rank(s.op(&rest[n-1]).Key)
		if err != nil {
			return 0, err
		}
		among += to - min(from, to)
		rest = rest[n:]
	}
	return among, nil
}

// writeRow writes the changes, which are sorted, of those on one key the last. On an error it returns what has been written.
func (tx *Tx) writeRow(s *sorter, st *stash) (row stashRow, err error) {
	p := &tx.db.pager
	size := tx.db.stashPartSize()
	ops := wal.Ops(slices.Grow(st.scratch[:0], size+tx.db.pageSize))
	defer func() { st.scratch = ops[:0] }()
	part := stashPart{}
	put := func() error {
		part.n = len(ops)
		if part.ref, err = p.PutRun(ops); err != nil {
			return err
		}
		row = append(row, part)
		part.ops, ops = 0, ops[:0]
		return p.relieve()
	}
	for i := range s.changes {
		if i%fetchAhead == 0 {
			s.fetch(s.changes[i:min(i+fetchAhead, len(s.changes))])
		}
		c := &s.changes[i]
		op := s.op(c)
		if i+1 < len(s.changes) && s.isLater(c, &s.changes[i+1], op.Key) {
			continue
		}
		if len(ops) == 0 || c.bucket != part.bucket {
			ops.Select(s.paths[c.bucket])
		}
		part.bucket, part.last = c.bucket, len(ops)
		part.ops++
		if op.Kind == wal.OpPut {
			ops.Put(op.Key, op.Value)
		} else {
			ops.Delete(op.Key)
		}
		if len(ops) >= size {
			if err := put(); err != nil {
				return row, err
			}
		}
	}
	if len(ops) > 0 {
		err = put()
	}
	return row, err
}

// keepRoom sees to it that there is room to merge so many rows: before the first part of each has been taken, none gives its pages back. Without that a full disk
// would be met in the merge, where nothing can be done about it, and not by who puts by, who can do without. The pages stay the transaction's own until then, since a
// checkpoint may cut free ones off.
func (tx *Tx) keepRoom(st *stash, rows int) error {
	n := 2 * rows * pagesOf(tx.db.stashPartSize(), tx.db.pageSize)
	id, err := tx.db.pager.allocate(n)
	if err != nil {
		return err
	}
	tx.giveRoom(st)
	st.room, st.roomFor = id, n
	return nil
}

// giveRoom gives back what keepRoom has kept.
func (tx *Tx) giveRoom(st *stash) {
	if st.roomFor > 0 {
		tx.db.pager.giveBack(st.room, st.roomFor)
		st.roomFor = 0
	}
}

// merging is a row that is being taken from the stash.
type merging struct {
	rest   stashRow // the first is the one of ops
	ops    []byte   // nil: not looked at yet
	at     int
	bucket uint32 // that the operation at that place is about
}

// clearStash does in the tree what is in the stash. The parts that are next in their rows are taken together, up to where the first of them ends: behind that, others could
// come before. When it fails the tree has some of it, and the transaction is lost.
func (tx *Tx) clearStash() error {
	db := tx.db
	tx.lost = true
	st, s, p := tx.stash, &db.sorter, &db.pager
	defer s.reset()
	tx.giveRoom(st)
	rows := make([]merging, len(st.rows))
	for i := range rows {
		rows[i].rest = st.rows[i]
	}
	for {
		if err := p.relieve(); err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(m merging) bool { return len(m.rest) == 0 })
		if len(rows) == 0 {
			break
		}
		s.expect(st.paths)
		s.expectMore(st.window)
		var end *change // of what is taken
		for i := range rows {
			m := &rows[i]
			if m.ops == nil {
				var err error
				if m.ops, err = p.Run(m.rest[0].ref, m.rest[0].n); err != nil {
					return err
				}
				if len(m.ops) <= db.pageSize { // it may be on the heap, in a buffer that is used again when it has been written out
					m.ops = bytes.Clone(m.ops)
				}
				m.at = 0
			}
			s.parts = append(s.parts, m.ops)
			if len(m.rest) > 1 {
				last := &change{part: uint32(i), at: uint32(m.rest[0].last), bucket: m.rest[0].bucket}
				last.head = keyHead(s.op(last).Key)
				if end == nil || s.compareKeys(last, end) < 0 {
					end = last
				}
			}
		}
		for i := range rows {
			if err := s.take(&rows[i], uint32(i), end); err != nil {
				return err
			}
		}
		if err := s.apply(tx); err != nil {
			return err
		}
		for i := range rows {
			if m := &rows[i]; m.at == len(m.ops) {
				p.dropRun(m.rest[0].ref, m.rest[0].n)
				m.rest, m.ops = m.rest[1:], nil
			}
		}
	}
	tx.stash = nil
	tx.lost = false
	return nil
}

// take adds the operations of a row up to the end given, which is among them or behind; nil: all.
func (s *sorter) take(m *merging, part uint32, end *change) error {
	for m.at < len(m.ops) {
		op, next, err := wal.DecodeNext(m.ops, m.at)
		if err != nil {
			return err
		}
		switch op.Kind {
		case wal.OpBucket:
			m.bucket = s.bucket(op.Path)
		case wal.OpPut, wal.OpDelete:
			c := change{head: keyHead(op.Key), part: part, at: uint32(m.at), bucket: m.bucket}
			if end != nil && s.compareKeys(&c, end) > 0 {
				return nil
			}
			s.push(c)
		default:
			return fmt.Errorf("folio: a %s in a transaction's stash", op.Kind)
		}
		m.at = next
	}
	return nil
}

// unstash empties the stash, after it has taken what has been collected last, if that is much.
func (tx *Tx) unstash() error {
	if int64(len(tx.ops)) > tx.db.bulkLimit()/2 {
		if _, err := tx.putBy(); err != nil {
			return err
		}
	}
	return tx.clearStash()
}
