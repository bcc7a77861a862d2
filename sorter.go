package folio

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/wal"
)

// change is where one operation on an item lies.
type change struct {
	head   uint64 // the key's first eight bytes, as a big-endian number
	part   uint32 // of sorter.parts. Parts and places are in the order in which the operations were made
	at     uint32
	bucket uint32 // of sorter.paths
}

// keepChanges bounds for how many changes a sorter keeps room while there are commits: a merge of what a large transaction has put by
// sorts hundreds of thousands again and again.
const keepChanges = 1 << 19

// sorter puts operations in the order of the tree. It may be used again, and then allocates little; close it in the end.
type sorter struct {
	parts   [][]byte
	paths   []wal.Path
	numbers map[string]uint32 // of paths
	changes []change
	memory  []byte // of changes: see reserve
	ahead   []btree.Change
	fetched byte // keeps the compiler from leaving out what fetch reads
}

// addGroups takes all operations of groups.
func (s *sorter) addGroups(due []*group) error {
	n := 0
	for _, g := range due {
		n += g.lateOps
	}
	s.expectMore(n)
	for _, g := range due {
		for _, ops := range g.late {
			if err := s.add(ops); err != nil {
				s.reset()
				return err
			}
		}
	}
	return nil
}

// add takes the operations of a deferred transaction, or of several behind each other. They share the bytes of ops.
func (s *sorter) add(ops wal.Ops) error {
	bucket, part := uint32(0), uint32(len(s.parts))
	s.parts = append(s.parts, ops)
	return wal.Decode(ops, func(op *wal.Op) error {
		switch op.Kind {
		case wal.OpBucket:
			bucket = s.bucket(op.Path)
		case wal.OpPut, wal.OpDelete:
			s.push(change{head: keyHead(op.Key), part: part, at: uint32(op.At), bucket: bucket})
		default:
			return errors.New("folio: a deferred transaction holds more than puts and deletions")
		}
		return nil
	})
}

// push puts c behind the other changes.
func (s *sorter) push(c change) {
	if len(s.changes) == cap(s.changes) {
		s.expectMore(1)
	}
	s.changes = append(s.changes, c)
}

// expectMore makes room for n changes more.
func (s *sorter) expectMore(n int) { s.changes = reserve(s.changes, &s.memory, n) }

// close gives back what a sorter keeps.
func (s *sorter) close() { s.changes = forget(s.changes, &s.memory, 0) }

// expect gives numbers to buckets, from 0 on.
func (s *sorter) expect(paths []wal.Path) {
	for _, p := range paths {
		s.bucket(p)
	}
}

func (s *sorter) bucket(path wal.Path) uint32 {
	if i := len(s.paths) - 1; i >= 0 && bytes.Equal(s.paths[i], path) {
		return uint32(i)
	}
	i, ok := s.numbers[string(path)]
	if !ok {
		if s.numbers == nil {
			s.numbers = make(map[string]uint32)
		}
		i = uint32(len(s.paths))
		s.numbers[string(path)] = i
		s.paths = append(s.paths, path)
	}
	return i
}

func keyHead(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var p [8]byte
	copy(p[:], key)
	return binary.BigEndian.Uint64(p[:])
}

func (s *sorter) op(c *change) wal.Op { return wal.DecodeAt(s.parts[c.part], int(c.at)) }

// compare orders by bucket and key, and what is done to one key by time.
func (s *sorter) compare(a, b change) int {
	if c := s.compareKeys(&a, &b); c != 0 {
		return c
	}
	return byTime(a, b)
}

// compareKeys orders by bucket and key. Heads are those of the whole key.
func (s *sorter) compareKeys(a, b *change) int {
	switch {
	case a.bucket != b.bucket:
		return cmp.Compare(a.bucket, b.bucket)
	case a.head != b.head:
		return cmp.Compare(a.head, b.head)
	}
	return bytes.Compare(s.op(a).Key, s.op(b).Key)
}

// apply does the operations in the tree, of those on one key the last, and forgets them.
func (s *sorter) apply(tx *Tx) error {
	s.sort()
	return s.applySorted(tx)
}

// applySorted is apply for who has sorted them. That cannot be done twice: heads are not those of whole keys any more.
func (s *sorter) applySorted(tx *Tx) (err error) {
	defer s.reset()
	defer s.send(tx.db)()
	p := &tx.db.pager
	p.sorted = true
	defer func() {
		if lerr := p.endFlights(); err == nil {
			err = lerr
		}
	}()
	for i := 0; i < len(s.changes); {
		b, err := tx.walk(s.paths[s.changes[i].bucket])
		if err != nil {
			return err
		}
		if i, err = s.changeBucket(b, i); err != nil {
			return err
		}
	}
	return nil
}

// changeBucket does the changes to one bucket, which begin with number i, and returns the number behind the last.
func (s *sorter) changeBucket(b *Bucket, i int) (int, error) {
	bucket := s.changes[i].bucket
	ahead := s.ahead[:0]
	defer func() { s.ahead = ahead }()
	for {
		for ; len(ahead) < lookAhead && i < len(s.changes) && s.changes[i].bucket == bucket; i++ {
			if i%fetchAhead == 0 {
				s.fetch(s.changes[i:min(i+fetchAhead, len(s.changes))])
			}
			c := &s.changes[i]
			op := s.op(c)
			if i+1 < len(s.changes) && s.isLater(c, &s.changes[i+1], op.Key) {
				continue
			}
			ahead = append(ahead, btree.Change{Key: op.Key, Value: op.Value, Delete: op.Kind == wal.OpDelete})
		}
		if len(ahead) == 0 {
			return i, nil
		}
		done, enough := 0, 0
		if len(ahead) == lookAhead {
			enough = lookAhead / 2
		}
		for len(ahead)-done > enough {
			n, err := b.change(ahead[done:])
			if err != nil {
				return i, err
			}
			done += n
		}
		ahead = ahead[:copy(ahead, ahead[done:])]
	}
}

// lookAhead is how many changes the tree may look at, at most; half as many at least while there are more.
const lookAhead = 1 << 10

// fetchAhead is how many operations are fetched from memory at once.
const fetchAhead = 16

// fetch reads the beginnings of operations that are about to be done. In the order of keys each lies where no processor guesses it,
// and waiting for one after the other took a tenth of the time; these reads do not depend on each other, so that
// they wait together.
func (s *sorter) fetch(next []change) {
	const line = 64
	for i := range next {
		b := s.parts[next[i].part][next[i].at:]
		for at := 0; at < min(len(b), 4*line); at += line {
			s.fetched += b[at]
		}
	}
}

// isLater reports whether next is about the same item as c, of the key given.
func (s *sorter) isLater(c, next *change, key []byte) bool {
	return next.head == c.head && next.bucket == c.bucket && bytes.Equal(s.op(next).Key, key)
}

func (s *sorter) reset() {
	clear(s.parts)
	clear(s.paths)
	clear(s.numbers)
	clear(s.ahead[:cap(s.ahead)])
	s.parts, s.paths = s.parts[:0], s.paths[:0]
	s.changes = forget(s.changes, &s.memory, keepChanges)
}

// change does the first of some changes in the tree, and as many behind it as the tree likes. It returns how many.
func (b *Bucket) change(ahead []btree.Change) (n int, err error) {
	if err := b.tx.db.pager.relieve(); err != nil {
		return 0, err
	}
	if c := &ahead[0]; c.Delete {
		_, err = b.tree.Delete(c.Key, false)
	} else {
		n, err = b.tree.PutAhead(c.Key, c.Value, ahead[1:])
	}
	b.dirty, b.tx.changed = true, true
	if errors.Is(err, btree.ErrKind) {
		err = ErrIncompatibleValue
	}
	return n + 1, err
}
