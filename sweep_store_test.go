package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/page"
)

// A sweepStore is what TestDamageSweep damages: the files of a small store, and what they must give.
type sweepStore struct {
	name      string
	data, log []byte        // log: nil if the store was closed
	states    []*sweepTree  // after each commit that only the log has; the first is that of the data file
	records   []sweepRecord // one for each of these commits
}

// A sweepTree is the content of a bucket.
type sweepTree struct {
	sequence uint64
	items    []sweepItem
}

type sweepItem struct {
	key, value []byte
	kid        *sweepTree // of a nested bucket; nil: an item
}

// A sweepRecord is a group in the log: one commit, with a sync of its own.
type sweepRecord struct {
	offset, end int // of head and payload in the file
	lsn, claim  uint64
}

const (
	sweepPage    = 4096
	sweepPages   = 16
	sweepBlock   = 512
	sweepHead    = 88 // bytes of a record's head
	sweepBefore  = 2  // commits with a checkpoint each, which leave pages of the past
	sweepCommits = 8  // commits in the log
	sweepTails   = 3  // of them lie close behind another one
)

// newSweepStore makes a store of 16 pages: a tree with a branch, nested buckets, inline and empty ones, a value in
// a run, a long key, free pages with a free set. Closed, or with commits that only the log has.
func newSweepStore(t testing.TB, closed bool) *sweepStore {
	t.Helper()
	s := &sweepStore{name: "killed"}
	path := filepath.Join(crashDir(t), "live.db")
	db, err := Open(path, &Options{PageSize: sweepPage, minCut: 1 << 20})
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	check(db.Update(func(tx *Tx) error {
		plain, err := tx.CreateBucket([]byte("plain"))
		check(err)
		for i := range 36 {
			check(plain.Put(fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "%0100d", i)))
		}
		nest, err := tx.CreateBucket([]byte("nest"))
		check(err)
		check(nest.SetSequence(7))
		for i := range 4 {
			sub, err := nest.CreateBucket(fmt.Appendf(nil, "sub%d", i))
			check(err)
			check(sub.SetSequence(uint64(i)))
			check(sub.Put([]byte("inline"), bytes.Repeat([]byte{'x'}, i*20)))
		}
		deep, err := nest.CreateBucket([]byte("deep"))
		check(err)
		for i := range 12 {
			check(deep.Put(fmt.Appendf(nil, "d%d", i), fmt.Appendf(nil, "%0100d", i)))
		}
		_, err = nest.CreateBucket([]byte("empty"))
		check(err)
		check(tx.Root().Put([]byte("run"), bytes.Repeat([]byte("run"), 1500)))
		check(tx.Root().Put(bytes.Repeat([]byte("K"), 700), []byte("long")))
		return tx.Root().SetSequence(42)
	}))
	check(db.Checkpoint())
	for i := range sweepBefore {
		check(sweepChange(db, i))
		check(db.Checkpoint())
	}
	read := func() {
		state := &sweepTree{}
		check(db.View(func(tx *Tx) error { state.of(tx.Root()); return nil }))
		s.states = append(s.states, state)
	}
	read()
	if closed {
		s.name = "closed"
		check(db.Close())
		s.data, _ = storeFiles(t, path)
	} else {
		for i := range sweepCommits {
			check(sweepChange(db, sweepBefore+i))
			read()
		}
		s.data, s.log = storeFiles(t, path)
		check(db.Close())
	}
	m, err := page.DecodeMeta(s.data, 0)
	check(err)
	switch {
	case m.Pages > sweepPages || len(s.data) < sweepPages*sweepPage && !closed || m.FreeLen == 0:
		t.Fatalf("%d pages, %d bytes, free set of %d bytes", m.Pages, len(s.data), m.FreeLen)
	case closed: // space that was reserved ahead, and has been cut off
		s.data = append(s.data, make([]byte, sweepPages*sweepPage-len(s.data))...)
	default:
		s.data = s.data[:sweepPages*sweepPage]
		s.findRecords(t, int(m.LogOffset))
	}
	return s
}

// sweepChange makes commit i: of one block in the log, or of some.
func sweepChange(db *DB, i int) error {
	return db.Update(func(tx *Tx) error {
		if n := i - sweepBefore; n >= 2 && n < 2+sweepTails+1 {
			tx.SetDurability(Relaxed)
		}
		plain := tx.Bucket([]byte("plain"))
		err := errors.Join(
			plain.Put(fmt.Appendf(nil, "k%03d", i*7%25), fmt.Appendf(nil, "new %d", i)),
			plain.Delete(fmt.Appendf(nil, "k%03d", 35-i)))
		if i >= sweepBefore {
			deep := tx.Bucket([]byte("nest")).Bucket([]byte("deep"))
			err = errors.Join(err, deep.Put(fmt.Appendf(nil, "log%d", i), bytes.Repeat([]byte{byte('a' + i)}, i%3*350)))
		}
		if i%4 == 1 {
			_, made := tx.CreateBucket(fmt.Appendf(nil, "made%d", i))
			err = errors.Join(err, made)
		}
		return err
	})
}

// findRecords finds the records behind the checkpoint.
func (s *sweepStore) findRecords(t testing.TB, at int) {
	le := binary.LittleEndian
	tails, chain := 0, uint64(0)
	for range sweepCommits {
		if h := s.log[at:]; uint32(sweepSeeded(h[8:20], chain)) == le.Uint32(h[20:]) {
			before := s.records[len(s.records)-1]
			n := 24 + int(le.Uint32(h[16:]))
			chain = sweepSeeded(h[8:n], chain)
			// It claims nothing.
			s.records = append(s.records, sweepRecord{offset: at, end: at + n, lsn: before.lsn + uint64(at-before.offset)})
			at += (n + 7) &^ 7
			tails++
			continue
		}
		at = (at + sweepBlock - 1) / sweepBlock * sweepBlock
		h := s.log[at:]
		if string(h[:4]) != "OWAL" || h[4] != 1 && h[4] != 3 || le.Uint32(h[12:]) != 1 {
			t.Fatalf("no group of one transaction at offset %d of the log", at)
		}
		n := sweepHead + int(le.Uint32(h[8:]))
		s.records = append(s.records, sweepRecord{at, at + n, le.Uint64(h[32:]), le.Uint64(h[56:])})
		chain = le.Uint64(h[80:])
		at += (n + 7) &^ 7
	}
	at = (at + sweepBlock - 1) / sweepBlock * sweepBlock
	if string(s.log[at:at+4]) == "OWAL" {
		t.Fatalf("another record at offset %d of the log", at)
	}
	if tails != sweepTails {
		t.Fatalf("%d tails, not %d", tails, sweepTails)
	}
}

func sweepSeeded(p []byte, seed uint64) uint64 {
	sum := xxhash.NewWithSeed(seed)
	sum.Write(p)
	return sum.Sum64()
}

// allowed returns how many commits a damaged log may give without an error, by the rule of the wal package: the
// commits before the first record that is not as it was, if nothing is left that tells of a sync behind them. The result
// is -1 if every answer but an error is wrong. A log that was cut is always noticed.
func (s *sweepStore) allowed(log []byte) int {
	n := 0
	for ; n < len(s.records); n++ {
		r := s.records[n]
		if r.end > len(log) || !bytes.Equal(log[r.offset:r.end], s.log[r.offset:r.end]) {
			break
		}
	}
	if n == len(s.records) {
		return n
	}
	if len(log) < len(s.log) {
		return -1
	}
	for _, r := range s.records[n+1:] {
		if r.claim <= s.records[n].lsn {
			continue
		}
		for at := 0; at+sweepHead <= len(log); at += sweepBlock {
			if bytes.Equal(log[at:at+sweepHead], s.log[r.offset:r.offset+sweepHead]) {
				return -1
			}
		}
	}
	return n
}

// of reads a bucket that is sound.
func (n *sweepTree) of(b *Bucket) {
	n.sequence = b.Sequence()
	for k, v := range b.All() {
		it := sweepItem{key: bytes.Clone(k), value: bytes.Clone(v)}
		if v == nil {
			it.kid = &sweepTree{}
			it.kid.of(b.Bucket(k))
		}
		n.items = append(n.items, it)
	}
}

// errSweepWrong is for content that was given without an error, and is wrong.
var errSweepWrong = errors.New("wrong content")

// compare reads a bucket in every way. What it yields before damage ends it must be right too.
func (n *sweepTree) compare(b *Bucket) error {
	if b.Sequence() != n.sequence {
		return fmt.Errorf("%w: sequence %d, not %d", errSweepWrong, b.Sequence(), n.sequence)
	}
	c := b.Cursor()
	i := 0
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if i == len(n.items) || !n.items[i].is(k, v) {
			return fmt.Errorf("%w: item %d is %.40q = %.20q", errSweepWrong, i, k, v)
		}
		i++
	}
	if i < len(n.items) {
		return fmt.Errorf("%w: %d items forwards, not %d", errSweepWrong, i, len(n.items))
	}
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		if i--; i < 0 || !n.items[i].is(k, v) {
			return fmt.Errorf("%w: item %d from the end is %.40q = %.20q", errSweepWrong, i, k, v)
		}
	}
	if i > 0 {
		return fmt.Errorf("%w: backwards %d items are missing", errSweepWrong, i)
	}
	for i := range n.items {
		if err := n.items[i].get(b); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether a cursor gave the item.
func (it *sweepItem) is(k, v []byte) bool {
	return bytes.Equal(k, it.key) && bytes.Equal(v, it.value) && (v == nil) == (it.kid != nil)
}

// get reads the item of a bucket by its key.
func (it *sweepItem) get(b *Bucket) error {
	if it.kid == nil {
		if v := b.Get(it.key); v == nil || !bytes.Equal(v, it.value) {
			return fmt.Errorf("%w: %.40q = %.20q", errSweepWrong, it.key, v)
		}
		return nil
	}
	kid := b.Bucket(it.key)
	if kid == nil {
		return fmt.Errorf("%w: bucket %.40q is not there", errSweepWrong, it.key)
	}
	return it.kid.compare(kid)
}

// with returns the tree with one more item in a bucket of the root, which lies behind all others there.
func (n *sweepTree) with(bucket, key, value []byte) *sweepTree {
	c := *n
	c.items = append([]sweepItem{}, n.items...)
	for i := range c.items {
		if bytes.Equal(c.items[i].key, bucket) {
			kid := *c.items[i].kid
			kid.items = append(kid.items[:len(kid.items):len(kid.items)], sweepItem{key: key, value: value})
			c.items[i].kid = &kid
		}
	}
	return &c
}
