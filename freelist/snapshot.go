package freelist

import (
	"fmt"
	"math"

	"github.com/foliodb/folio/page"
)

// Snapshot is what a checkpoint needs of the list: the free set of the state that it
// writes, and room for that set in the file. It ends with Cut, once the checkpoint is durable in
// both slots, or with Abandon; there is one at a time.
type Snapshot struct {
	// End is the page count for the checkpoint's meta.
	End page.ID

	// Own is where the set is to be stored. It is the checkpoint's until Release. N is 0
	// if the set is empty: then nothing is to be stored.
	Own Extent

	set      bitmap
	before   page.ID // the page count before Own was reserved
	shrink   page.ID // least number of pages that the file is cut by
	cuts     bool    // a tail was withdrawn
	pageSize int
}

// Snapshot takes the free set of the newest commit, which is pin: it holds all pages below
// Snapshot.End but those that pin reaches, the meta slots and Own. That is, what is free, what
// is dead and kept for others, and what the running transaction has allocated. To be called
// under the lock that commits are made under. Own comes out of the free space, or lies at the end; then
// Ensure has to make the file long enough.
//
// If shrink is positive and that many pages or more are free at the end of the file, they are
// withdrawn, and the snapshot ends before them. The error is ErrFull.
func (l *List) Snapshot(pin page.TxID, shrink int) (*Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pin < l.last {
		panic(fmt.Sprintf("freelist: snapshot of %d after commit %d", pin, l.last))
	}
	set := l.newSet()
	l.own.copyTo(&set)
	return l.snapshot(set, shrink)
}

// SnapshotBulk is Snapshot for the running transaction itself: the state that it is about
// to commit as tx, in which its own pages are in use and those in died are not. The
// transaction allocates nothing more. Commit, with the same pages, follows once the
// checkpoint is durable; or Abandon and Rollback, as if it had never been. The error is ErrFull, or
// a *page.CorruptError as Commit would give; the list is unchanged then.
func (l *List) SnapshotBulk(tx page.TxID, died []Dead, shrink int) (*Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if tx <= l.last {
		panic(fmt.Sprintf("freelist: snapshot of %d after commit %d", tx, l.last))
	}
	set := l.newSet()
	for _, d := range died {
		if err := l.dies(d, tx); err != nil {
			return nil, err
		}
		if set.any(d.ID, d.N) {
			return nil, damaged(d.ID, "superseded twice")
		}
		set.add(d.ID, d.N)
	}
	return l.snapshot(set, shrink)
}

// newSet returns what is neither in use nor own.
func (l *List) newSet() bitmap {
	set := bitmap{pool: new(pool)}
	l.free.copyTo(&set)
	l.aside.copyTo(&set)
	l.held.copyTo(&set)
	return set
}

// copyTo adds the members of b to set, which has none of them.
func (b *bitmap) copyTo(set *bitmap) {
	for ci, c := range b.chunks {
		if c != nil {
			set.merge(uint32(ci), c)
		}
	}
}

// snapshot reserves before it counts: the room for the set is bounded from above, taken, and
// then missing in the set, which only makes that smaller.
func (l *List) snapshot(set bitmap, shrink int) (*Snapshot, error) {
	if l.open != nil {
		panic("freelist: two checkpoints at a time")
	}
	s := &Snapshot{set: set, before: l.end, pageSize: l.pageSize}
	if set.n > 0 {
		if err := l.reserve(s, maxSetSize(set.starts()+1, uint64(l.end))); err != nil {
			return nil, err
		}
	}
	s.End = l.end
	if shrink > 0 && l.bound == 0 {
		l.withdrawTail(s, page.ID(min(uint64(shrink), math.MaxUint32)))
	}
	l.open = s
	return s, nil
}

// reserve takes contiguous pages for the set itself, of size bytes, with some to spare for the one after the next: this run is kept for that.
func (l *List) reserve(s *Snapshot, size uint64) error {
	if size/uint64(l.pageSize) > math.MaxUint32/2 {
		return ErrFull
	}
	n := max(page.ID(page.RunPages(size, l.pageSize)), page.ID(l.LeastSet))
	roomy := n
	if n > 1 {
		roomy = max(n, page.ID(page.RunPages(size+size/4, l.pageSize)))
	}
	if l.kept.N > 2*roomy {
		l.giveBackKept()
	}
	id, ok := l.runs.find(roomy)
	switch {
	case ok:
		n = roomy
	case l.kept.N >= n:
		id, n = l.kept.Start, min(l.kept.N, roomy)
		l.giveBackKept()
	default:
		if id, ok = l.runs.find(n); ok {
			break
		}
		n = roomy
		used := l.free.tail(l.end)
		if n > used && n-used > math.MaxUint32-l.end {
			return ErrFull
		}
		id = l.end - min(used, n)
	}
	s.Own = Extent{id, n}
	if id < l.end {
		s.set.remove(id, min(s.Own.N, l.end-id)) // all of these are free
	}
	l.occupy(id, s.Own.N)
	l.held.add(id, s.Own.N)
	l.fixed = append(l.fixed, s.Own)
	return nil
}

// keep keeps free pages of an old set for the next one, if they are more than what is kept: on a full disk, where what is free lies scattered, a
// set of more than a page would find no place, no checkpoint could be made, and what the last one retains would never be free. So two runs take turns.
func (l *List) keep(own Extent) bool {
	if own.N < 2 || own.N < l.kept.N || own.N == l.kept.N && own.Start > l.kept.Start || l.bound != 0 {
		return false
	}
	l.giveBackKept()
	l.kept = own
	l.aside.add(own.Start, own.N)
	return true
}

// giveBackKept lets the pages that are kept for a set be allocated.
func (l *List) giveBackKept() {
	k := l.kept
	if k.N == 0 {
		return
	}
	l.kept = Extent{}
	l.aside.remove(k.Start, k.N)
	l.release(k.Start, k.N)
}

// withdrawTail puts the free pages at the end aside, if they are enough.
func (l *List) withdrawTail(s *Snapshot, shrink page.ID) {
	n := l.freeTail()
	if n < shrink {
		return
	}
	if n > l.free.tail(l.end) {
		l.giveBackKept() // nothing else is in the way
	}
	s.End, s.shrink, s.cuts = l.end-n, shrink, true
	s.set.remove(s.End, n)
	l.claim(s.End, n)
	l.aside.add(s.End, n)
	l.tail = Extent{s.End, n}
}

// giveBackTail lets the withdrawn tail, if there is one, be allocated again.
func (l *List) giveBackTail() {
	t := l.tail
	if t.N == 0 {
		return
	}
	l.tail = Extent{}
	l.aside.remove(t.Start, t.N)
	l.release(t.Start, t.N)
}

// Pages returns the number of pages in the set.
func (s *Snapshot) Pages() uint64 { return s.set.n }

// Encode returns the set as bytes; they fit into Own. It is nil if Own is empty. It may
// run beside anything that the list does.
func (s *Snapshot) Encode() []byte {
	if s.Own.N == 0 {
		return nil
	}
	b := encode(&s.set)
	if uint64(len(b)) > uint64(s.Own.N)*uint64(s.pageSize) {
		panic("freelist: set is larger than was reserved")
	}
	return b
}

// Ensure makes the file hold the snapshot's page count. It comes before the meta is written; if
// it fails, with the error of Grow, the checkpoint has failed.
func (l *List) Ensure(s *Snapshot) error {
	l.size.Lock()
	defer l.size.Unlock()
	if l.hasRoom(s.End) {
		return nil
	}
	return l.grow(s.End)
}

func (l *List) hasRoom(end page.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return end <= l.room
}

// Cut ends a checkpoint that is durable in both slots. If the snapshot has withdrawn a
// tail, and enough of the file's end is free still, it lowers End and has the file cut to that many
// pages; true tells that it did. End is then Snapshot.End, or higher if pages behind it
// were needed in the meantime. With truncate nil the file is not cut, and the tail is
// only given back. An error is truncate's: the file is longer than it had to be.
func (l *List) Cut(s *Snapshot, truncate func(end page.ID) error) (bool, error) {
	l.size.Lock()
	defer l.size.Unlock()
	end, ok := l.lowerEnd(s, truncate != nil)
	if !ok {
		return false, nil
	}
	return true, truncate(end)
}

// lowerEnd closes the snapshot, and lowers the end to what the file can be cut to.
func (l *List) lowerEnd(s *Snapshot, cut bool) (page.ID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close(s)
	if s.End > l.room {
		panic("freelist: checkpoint without Ensure")
	}
	if !cut || !s.cuts || l.bound != 0 {
		return 0, false
	}
	n := l.spare(min(l.free.tail(l.end), l.end-s.End))
	if n < s.shrink {
		return 0, false
	}
	l.forget(n)
	return l.end, true
}

// forget lowers the end by n free pages.
func (l *List) forget(n page.ID) {
	l.claim(l.end-n, n)
	l.end -= n
	l.room = l.end
}

// Trim cuts the file as Cut does, but without a checkpoint: for a file that no meta slot
// speaks of. It does so if shrink pages or more are free at the end, and no checkpoint is
// under way. Below AppendOnly's bound it cuts nothing.
func (l *List) Trim(shrink int, truncate func(end page.ID) error) (bool, error) {
	l.size.Lock()
	defer l.size.Unlock()
	l.mu.Lock()
	n := l.free.tail(l.end)
	if n == 0 || uint64(n) < uint64(max(shrink, 0)) || l.open != nil {
		l.mu.Unlock()
		return false, nil
	}
	l.forget(n)
	end := l.end
	l.mu.Unlock()
	return true, truncate(end)
}

// close ends the checkpoint under way and gives the tail back.
func (l *List) close(s *Snapshot) {
	if s == nil || l.open != s {
		panic("freelist: not the checkpoint under way")
	}
	l.open = nil
	l.giveBackTail()
}

// Abandon ends a checkpoint that failed before a slot could name its free set: Own is free
// again, and so is the tail.
func (l *List) Abandon(s *Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close(s)
	if s.Own.end() > l.room {
		// The file never grew for it, and nobody has been given a page behind it, since
		// the file would have grown then. The end does not fall below a bound that AppendOnly has set meanwhile.
		l.drop(s.Own)
		l.held.remove(s.Own.Start, s.Own.N)
		l.end = max(s.before, l.bound)
		l.release(s.Own.Start, l.end-s.Own.Start)
		return
	}
	l.unfix(s.Own)
}

// Release frees the pages of a free set: of one that Load or a finished checkpoint has left, when
// no slot that can be chosen names it any more.
func (l *List) Release(own Extent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil && own.N > 0 && l.open.Own == own {
		panic("freelist: free set released during its checkpoint")
	}
	l.unfix(own)
}

// unfix frees the pages of a free set, or keeps them for the next one.
func (l *List) unfix(own Extent) {
	if own.N == 0 {
		return
	}
	l.drop(own)
	l.held.remove(own.Start, own.N)
	if !l.keep(own) {
		l.release(own.Start, own.N)
	}
}

// drop takes a free set off the list of those that are kept.
func (l *List) drop(own Extent) {
	for i, e := range l.fixed {
		if e == own {
			l.fixed = append(l.fixed[:i], l.fixed[i+1:]...)
			return
		}
	}
	panic(fmt.Sprintf("freelist: no free set lies at %v", own))
}
