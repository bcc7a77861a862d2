package fuzz

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/foliodb/folio"
)

// A source makes the choices of a generator.
type source interface {
	intn(n int) int // from 0 to n-1
	more() bool     // whether there is anything left to choose by
}

// seeded is a source without end.
type seeded struct{ *rand.Rand }

func newSeeded(seed uint64) seeded { return seeded{rand.New(rand.NewPCG(seed, 0x666f6c696f))} }

func (s seeded) intn(n int) int { return s.IntN(n) }
func (s seeded) more() bool     { return true }

// chosen is a source that takes its choices from bytes; behind their end every
// choice is 0.
type chosen struct{ rest []byte }

func (c *chosen) intn(n int) int {
	x := 0
	for reach := 1; reach < n && len(c.rest) > 0; reach <<= 8 {
		x = x<<8 | int(c.rest[0])
		c.rest = c.rest[1:]
	}
	return x % n
}

func (c *chosen) more() bool { return len(c.rest) > 0 }

// A generator chooses operations that are likely to mean something: it looks at
// the model for keys that are there. Its weights are drawn once, so that one
// episode is all small keys and another all deletes.
type generator struct {
	source
	pageSize int
	txLength int // mean number of ops between begin and commit
	space    int // number of different small keys
	maxItems int // deletes win over puts above that
	shapes   [6]int
	large    int // values over a page: one in so many
	heavy    int // reopen, crash, copies and the like: one in so many
}

func newGenerator(s source, cfg config) *generator {
	g := &generator{
		source:   s,
		pageSize: cfg.pageSize,
		txLength: []int{4, 25, 25, 400}[s.intn(4)],
		space:    []int{20, 300, 5000}[s.intn(3)],
		maxItems: []int{200, 2000, 6000}[s.intn(3)],
		large:    []int{20, 100, 1000}[s.intn(3)],
		heavy:    150,
	}
	for i := range g.shapes {
		g.shapes[i] = 1 + s.intn(10)*s.intn(2)
	}
	return g
}

// A choice is a kind with its weight.
type choice struct {
	kind   kind
	weight int
}

// The operations of a generator, by where it stands. Weights count within a list.
var (
	heavyOps = []choice{{kReopen, 4}, {kReadOnly, 1}, {kCrash, 4}, {kCheckpoint, 6}, {kSync, 4}, {kCheck, 3},
		{kCompact, 1}, {kBackup, 2}, {kStats, 2}, {kTxCheck, 2}, {kCopyFile, 2}}
	updateOps  = []choice{{kUpdate, 8}, {kFailedUpdate, 1}, {kPanickingUpdate, 1}}
	limitedOps = []choice{{kRelaxed, 2}, {kOnCommit, 1}}
	writeOps   = []choice{{kPut, 60}, {kDelete, 25}, {kDeleteRange, 3}, {kFill, 2}, {kCreateBucket, 3}, {kEnsureBucket, 3},
		{kDeleteBucket, 2}, {kMoveBucket, 4}, {kSetSequence, 1}, {kNextSequence, 2}}
	shrinkOps = []choice{{kDelete, 40}, {kDeleteRange, 10}, {kDeleteBucket, 4}}
	readOps   = []choice{{kGet, 30}, {kLen, 3}, {kCount, 6}, {kRank, 6}, {kAt, 6}, {kAll, 1}, {kBackward, 1}, {kRange, 2},
		{kPrefix, 2}, {kForEach, 1}, {kForEachBucket, 1}, {kBucketStats, 1}, {kSequence, 2}, {kHold, 4}, {kVerify, 1}}
	placeOps = []choice{{kCursor, 4}, {kFirst, 3}, {kLast, 3}, {kSeek, 8}, {kNext, 30}, {kPrev, 20}, {kCursorDelete, 6},
		{kIter, 4}, {kPull, 20}}
)

func (g *generator) pick(from []choice) kind {
	total := 0
	for _, c := range from {
		total += c.weight
	}
	n := g.intn(total)
	for _, c := range from {
		if n -= c.weight; n < 0 {
			return c.kind
		}
	}
	panic("unreachable")
}

// op chooses the next operation for the state that w is in.
func (g *generator) op(w *world) op {
	if g.intn(g.heavy) == 0 {
		return g.heavyOp(w)
	}
	writer := w.txs[0]
	switch {
	case writer == nil && g.intn(3) == 0:
		return op{kind: kBegin}
	case writer == nil && g.intn(12) == 0:
		o := g.withBucket(op{kind: g.pick(updateOps)}, w.state)
		o.n = g.intn(20)
		return o
	case writer != nil && g.intn(g.txLength) == 0:
		return op{kind: []kind{kCommit, kCommit, kCommit, kCommit, kRollback}[g.intn(5)]}
	case writer != nil && g.intn(60) == 0:
		return op{kind: g.pick(limitedOps), n: g.intn(2)}
	case g.intn(40) == 0:
		return op{kind: kView, tx: 1 + g.intn(maxViews)}
	case g.intn(150) == 0:
		return op{kind: kEnd, tx: 1 + g.intn(maxViews)}
	}
	return g.inTransaction(w)
}

func (g *generator) heavyOp(w *world) op {
	o := op{kind: g.pick(heavyOps), n: g.intn(256)}
	if o.kind == kTxCheck || o.kind == kCopyFile {
		o.tx = g.live(w)
	}
	return o
}

// live chooses a live transaction, mostly the writer; a view is given if there is
// none at all.
func (g *generator) live(w *world) int {
	if w.txs[0] != nil && g.intn(4) > 0 {
		return 0
	}
	var views []int
	for i, t := range w.txs {
		if t != nil && i > 0 {
			views = append(views, i)
		}
	}
	if len(views) == 0 {
		return 1
	}
	return views[g.intn(len(views))]
}

func (g *generator) inTransaction(w *world) op {
	o := op{tx: g.live(w)}
	t := w.txs[o.tx]
	if t == nil {
		o.kind = kView
		return o
	}
	list := readOps
	switch n := g.intn(10); {
	case n < 2:
		list = placeOps
	case n < 4:
	case !t.writable && g.intn(50) > 0: // a write in a view is an error, seldom tried
	case t.root.size() > g.maxItems && g.intn(3) > 0:
		list = shrinkOps
	default:
		list = writeOps
	}
	o.kind = g.pick(list)
	return g.withSlot(g.withBucket(o, t.root), t)
}

// withBucket chooses the bucket of o below root, and the operands that go with it.
func (g *generator) withBucket(o op, root *bucket) op {
	buckets := root.all()
	m := buckets[g.intn(len(buckets))]
	o.b = ref{path: m.path()}
	o.k, o.v = g.key(m), g.value()
	switch o.kind {
	case kDeleteRange, kCount, kRange, kIter:
		o.k, o.l = g.bound(m), g.bound(m)
		if o.kind == kDeleteRange && o.k == nil && o.l == nil && g.intn(4) > 0 {
			o.k = g.key(m)
		}
	case kPrefix:
		o.k = o.k[:min(len(o.k), g.intn(4))]
	case kAt:
		o.n = g.intn(len(m.items)+2) - 1
	case kSetSequence:
		o.n = g.intn(1 << 20)
	case kCreateBucket, kEnsureBucket, kDeleteBucket, kMoveBucket:
		o.k = g.name(m, o.kind)
		o.to = buckets[g.intn(len(buckets))].path()
	case kFill, kUpdate, kFailedUpdate, kPanickingUpdate:
		o.k = o.k[:min(len(o.k), g.intn(12))]
		o.n = []int{3, 30, 300, 1500}[min(g.intn(4), g.intn(4))]
		o.v.n = min(o.v.n, 400_000/o.n)
	}
	return o
}

// withSlot chooses a slot for the ops that need one, and now and then a handle
// in place of a path.
func (g *generator) withSlot(o op, t *txn) op {
	switch o.kind {
	case kHold, kCursor, kFirst, kLast, kSeek, kNext, kPrev, kCursorDelete, kPull:
		o.n = 1 + g.intn(maxSlots)
	case kIter:
		o.n = (1 + g.intn(maxSlots)) * (1 - 2*g.intn(2))
	}
	if slot := 1 + g.intn(maxSlots); t.held[slot].m != nil && g.intn(4) == 0 {
		o.b = ref{slot: slot}
	}
	return o
}

// name chooses a bucket name: one of few, so that they meet, or one that is there.
func (g *generator) name(m *bucket, k kind) []byte {
	if k != kCreateBucket && k != kEnsureBucket && len(m.kids) > 0 && g.intn(8) > 0 {
		kids := m.all()[1:]
		for range 4 {
			if kid := kids[g.intn(len(kids))]; kid.parent == m {
				return []byte(kid.name)
			}
		}
	}
	if g.intn(8) == 0 || len(m.path()) > 4 {
		return g.key(m)
	}
	return []byte{"abcdef"[g.intn(6)]}
}

// bound chooses a bound of a range, nil for none.
func (g *generator) bound(m *bucket) []byte {
	if g.intn(4) == 0 {
		return nil
	}
	return g.key(m)
}

// key chooses a key: one that is in the bucket, one beside it, or a fresh one.
func (g *generator) key(m *bucket) []byte {
	choice := g.intn(10)
	if len(m.items) == 0 || choice < 4 {
		return g.freshKey()
	}
	key := []byte(m.items[g.intn(len(m.items))].key)
	switch {
	case choice < 8:
		return key
	case g.intn(2) == 0:
		return append(key, byte(g.intn(3)))
	default:
		return key[:len(key)-1]
	}
}

func (g *generator) freshKey() []byte {
	var shapes []choice
	for shape, weight := range g.shapes {
		shapes = append(shapes, choice{kind(shape), weight * 10})
	}
	id := g.intn(g.space)
	switch g.pick(shapes) {
	case 0:
		return fmt.Appendf(nil, "k%04d", id)
	case 1: // shorter than a head, with bytes at both ends of the order
		key := make([]byte, 1+g.intn(3))
		for i := range key {
			key[i] = "\x00\x01ab\xfe\xff"[g.intn(6)]
		}
		return key
	case 2: // a long common prefix
		return fmt.Appendf(bytes.Repeat([]byte{'p'}, 40), "%04d", id)
	case 3: // scattered
		return binary.BigEndian.AppendUint64(nil, uint64(id+1)*0x9e3779b97f4a7c15)
	case 4: // around the longest key that a node keeps whole
		return g.longKey(g.pageSize/8-2+g.intn(5), id)
	}
	if g.intn(20) == 0 { // what is no key at all
		return make([]byte, (folio.MaxKeySize+1)*g.intn(2))
	}
	return g.longKey([]int{1000, 3000, 9000, folio.MaxKeySize}[g.intn(4)], id)
}

// longKey makes a key of n bytes that differs from others of its length at the
// beginning or, as often, at the end only.
func (g *generator) longKey(n, id int) []byte {
	key := bytes.Repeat([]byte{'L'}, n)
	mark := fmt.Appendf(nil, "%04d", id)
	if id&1 == 0 {
		copy(key, mark)
	} else {
		copy(key[n-len(mark):], mark)
	}
	return key
}

func (g *generator) value() value {
	v := value{seed: uint32(g.intn(1 << 16))}
	switch {
	case g.intn(g.large) == 0:
		v.n = g.intn(6 * g.pageSize)
		if g.intn(20) == 0 {
			v.n = g.intn(400_000)
		}
	case g.intn(12) == 0: // around the largest value that stays in its leaf
		v.n = max(0, g.pageSize/2-70+g.intn(60))
	case g.intn(6) == 0:
		v.n = g.intn(g.pageSize / 4)
	default:
		v.n = g.intn(60)
	}
	return v
}
