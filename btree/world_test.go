package btree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/foliodb/folio/page"
)

// source is where a world's choices come from: a seeded generator, or the bytes of a fuzz input.
type source interface {
	intn(n int) int // 0 <= x < n
	done() bool
}

type seeded struct {
	r    *rand.Rand
	left int
}

func (s *seeded) intn(n int) int { return s.r.IntN(n) }
func (s *seeded) done() bool     { s.left--; return s.left < 0 }

// input takes one byte for a choice among up to 256, two for one among more.
type input struct{ b []byte }

func (s *input) intn(n int) int {
	v := 0
	for range 1 + min((n-1)>>8, 1) {
		v <<= 8
		if len(s.b) > 0 {
			v |= int(s.b[0])
			s.b = s.b[1:]
		}
	}
	return v % n
}
func (s *input) done() bool { return len(s.b) == 0 }

// record is an item of the model.
type record struct {
	key, value []byte
	bucket     bool
}

// model is what a tree should hold: records in key order.
type model []record

// search returns the number of records below key, and whether key is there.
func (m model) search(key []byte) (int, bool) {
	i := sort.Search(len(m), func(i int) bool { return bytes.Compare(m[i].key, key) >= 0 })
	return i, i < len(m) && bytes.Equal(m[i].key, key)
}

// span returns the records from key from up to to as a pair of indices.
func (m model) span(from, to []byte) (lo, hi int) {
	hi = len(m)
	if from != nil {
		lo, _ = m.search(from)
	}
	if to != nil {
		hi, _ = m.search(to)
	}
	return lo, max(lo, hi)
}

// shown is a slice that the tree handed out, and what it held then.
type shown struct{ slice, copied []byte }

// place is a cursor with what the model knows about it.
type place struct {
	c   Cursor
	key []byte // nil: nowhere
}

// world runs operations against a tree and a model.
type world struct {
	appended int // keys put by Append

	t       testing.TB
	s       source
	m       *memory
	tree    Tree
	model   model
	shared  []byte // what keys have in common
	stems   []int  // lengths of it that keys begin with
	serial  uint64
	places  [3]place
	shown   []shown
	spreads int // changes that were made ahead
	trace   func(format string, args ...any)
}

// stemSets are lengths of what keys have in common. Where the first is negative, that comes behind a byte in which the keys
// of one page differ: then separators are long, prefixes are not, and trees grow high with few keys.
var stemSets = [][]int{
	{0}, {0}, {0, 3}, {5, 40}, {100, 101, 130}, {480, 500, 508, 512}, {505, 510, 513, 516, 600},
	{0, 20, 600, 1000, 1100}, {8000, 8190, 8192, 9000}, {0, 4, 510, 3000, 20000, 32700},
	{-1, 200}, {-1, 350, 400}, {-1, 505, 600}, {-1, 480}, {-1, 480},
}

func newWorld(t testing.TB, s source) *world {
	w := &world{t: t, s: s, trace: func(string, ...any) {}}
	w.m = newMemory([]int{4096, 4096, 4096, 8192, 65536}[s.intn(5)])
	w.stems = stemSets[s.intn(len(stemSets))]
	w.shared = make([]byte, page.MaxKeyLen)
	for i := range w.shared {
		w.shared[i] = byte(i*i>>3) | 1
	}
	if s.intn(2) == 0 {
		w.m.rnd = rand.New(rand.NewPCG(1, 2))
	}
	w.reopen()
	return w
}

// reopen makes the tree one that a new transaction sees.
func (w *world) reopen() {
	w.tree.Init(w.tree.Header(), w.tree.image, nil, w.m)
	for i := range w.places {
		w.places[i] = place{}
		w.places[i].c.Init(&w.tree)
	}
}

// key draws a key that is more likely than not to be new.
func (w *world) key() []byte {
	stem := w.stems[w.s.intn(len(w.stems))]
	var tail []byte
	switch w.s.intn(8) {
	case 0:
		tail = []byte{byte(w.s.intn(256))}
	case 1:
		tail = make([]byte, w.s.intn(60))
	case 2:
		tail = make([]byte, w.s.intn(2000))
	default:
		tail = binary.BigEndian.AppendUint16(nil, uint16(w.s.intn(1<<16)))
	}
	for i := range tail {
		if tail[i] == 0 && w.s.intn(4) > 0 {
			tail[i] = byte(w.s.intn(256))
		}
	}
	k := append(w.stem(stem), tail...)
	if len(k) == 0 {
		k = []byte{0}
	}
	return k[:min(len(k), page.MaxKeyLen)]
}

// stem returns what keys have in common: n bytes, or one that not all of them have, and n bytes.
func (w *world) stem(n int) []byte {
	if w.stems[0] >= 0 {
		return bytes.Clone(w.shared[:n])
	}
	return append([]byte{byte(w.s.intn(64))}, w.shared[:max(n, 0)]...)
}

// known draws a key that is there, where there is one.
func (w *world) known() []byte {
	if len(w.model) == 0 || w.s.intn(8) == 0 {
		return w.key()
	}
	return bytes.Clone(w.model[w.s.intn(len(w.model))].key)
}

func (w *world) bound() []byte {
	switch w.s.intn(8) {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return append(w.known(), 0)
	case 3:
		return w.key()
	}
	return w.known()
}

// value draws a value for the key: most are small, some about the size at which entries change their form.
func (w *world) value(key []byte) []byte {
	n := 0
	switch w.s.intn(10) {
	case 0:
	case 1:
		n = max(0, page.MaxEntry(w.m.ps)-10-len(key)-3+w.s.intn(6))
	case 2:
		n = w.s.intn(3 * w.m.ps)
	case 3, 4:
		n = w.s.intn(w.m.ps / 3)
	default:
		n = w.s.intn(200)
	}
	w.serial++
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(w.serial) + byte(i)
	}
	return v
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf(format, args...)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.m.report(w.t)
}

// show notes that slices were handed out.
func (w *world) show(slices ...[]byte) {
	for _, s := range slices {
		if cap(s) > len(s) {
			w.failf("slice of %d bytes has room for %d", len(s), cap(s))
		}
		w.shown = append(w.shown, shown{s, bytes.Clone(s)})
	}
}

func (w *world) checkShown() {
	w.t.Helper()
	for _, s := range w.shown {
		if !bytes.Equal(s.slice, s.copied) {
			w.failf("bytes handed out have changed: %q, were %q", brief(s.slice), brief(s.copied))
		}
	}
	w.shown = w.shown[:0]
}

func brief(b []byte) string { return abridged(b) }

// run performs operations until the source is exhausted.
func (w *world) run() {
	for !w.s.done() {
		w.step()
		w.m.endOperation()
		w.m.report(w.t)
	}
	w.commit()
}

func (w *world) step() {
	w.t.Helper()
	switch w.s.intn(17) {
	case 0, 1, 2, 3:
		w.put(w.key(), w.s.intn(16) == 0)
	case 4:
		w.put(w.known(), w.s.intn(8) == 0)
	case 5, 6:
		w.delete(w.known(), w.s.intn(8) == 0)
	case 7:
		w.get(w.known())
	case 8:
		w.numbers()
	case 9:
		w.deleteRange(w.bound(), w.bound())
	case 10, 11, 12:
		w.cursor(&w.places[w.s.intn(len(w.places))])
	case 13:
		w.load()
	case 14:
		w.inline()
	case 15:
		if w.s.intn(4) == 0 {
			w.commit()
		} else {
			w.scan()
		}
	case 16:
		w.relocate()
	}
}

func (w *world) put(key []byte, bucket bool) {
	value := w.value(key)
	if bucket {
		value = make([]byte, page.BucketHeaderSize)
		h := page.BucketHeader{Sequence: w.serial}
		if w.serial%2 == 0 { // some with pages of their own, which nobody looks at
			h.Root = page.FirstID + page.ID(w.serial)
		}
		h.Encode(value)
	}
	w.trace("put %s (%d) value %d bucket %v", brief(key), len(key), len(value), bucket)
	i, there := w.model.search(key)
	wrong := there && w.model[i].bucket != bucket
	if !bucket && w.serial%2 == 0 {
		done, err := w.tree.Append(key, value)
		w.must(err)
		if done {
			w.appended++
			if i < len(w.model) {
				w.failf("appended, and %d keys are not below", len(w.model)-i)
			}
			w.model = append(w.model, record{key, value, false})
			return
		}
	}
	added, err := w.tree.Put(key, value, bucket)
	if wrong {
		if err != ErrKind {
			w.failf("put over an entry of the other kind: %v", err)
		}
		return
	}
	w.must(err)
	if added == there {
		w.failf("put: added is %v", added)
	}
	r := record{key, value, bucket}
	if there {
		w.model[i] = r
	} else {
		w.model = slices.Insert(w.model, i, r)
	}
}

func (w *world) delete(key []byte, bucket bool) {
	w.trace("delete %s (%d) bucket %v", brief(key), len(key), bucket)
	i, there := w.model.search(key)
	wrong := there && w.model[i].bucket != bucket
	n := len(w.m.allocs) + len(w.m.frees)
	found, err := w.tree.Delete(key, bucket)
	if !there || wrong {
		if len(w.m.allocs)+len(w.m.frees) != n {
			w.failf("pages touched for an entry that is not there")
		}
	}
	if wrong {
		if err != ErrKind {
			w.failf("delete of an entry of the other kind: %v", err)
		}
		return
	}
	w.must(err)
	if found != there {
		w.failf("delete: found is %v", found)
	}
	if there {
		w.model = slices.Delete(w.model, i, i+1)
	}
}

func (w *world) get(key []byte) {
	w.t.Helper()
	value, bucket, found, err := w.tree.Get(key)
	w.must(err)
	i, there := w.model.search(key)
	if found != there {
		w.failf("get %s: found is %v", brief(key), found)
	}
	if there && (!bytes.Equal(value, w.model[i].value) || bucket != w.model[i].bucket || value == nil) {
		w.failf("get %s: %s, should be %s", brief(key), brief(value), brief(w.model[i].value))
	}
	if found {
		w.show(value)
	}
	peeked, _, _, err := w.tree.Peek(key)
	w.must(err)
	if !bytes.Equal(peeked, value) {
		w.failf("peek %s: %s, get gave %s", brief(key), brief(peeked), brief(value))
	}
}

func (w *world) numbers() {
	w.t.Helper()
	if n := w.tree.Len(); n != uint64(len(w.model)) {
		w.failf("%d items, should be %d", n, len(w.model))
	}
	key := w.bound()
	n, err := w.tree.Rank(key)
	w.must(err)
	if i, _ := w.model.search(key); n != uint64(i) {
		w.failf("rank of %s is %d, should be %d", brief(key), n, i)
	}
	from, to := w.bound(), w.bound()
	n, err = w.tree.Count(from, to)
	w.must(err)
	if lo, hi := w.model.span(from, to); n != uint64(hi-lo) {
		w.failf("%d items from %s to %s, should be %d", n, brief(from), brief(to), hi-lo)
	}
	i := w.s.intn(len(w.model) + 2)
	k, v, bucket, found, err := w.tree.At(uint64(i))
	w.must(err)
	if found != (i < len(w.model)) {
		w.failf("at %d of %d: found is %v", i, len(w.model), found)
	}
	if found {
		w.same("at", w.model[i], k, v, bucket)
		w.show(k, v)
	}
}

func (w *world) same(what string, r record, key, value []byte, bucket bool) {
	w.t.Helper()
	if !bytes.Equal(r.key, key) || !bytes.Equal(r.value, value) || r.bucket != bucket {
		w.failf("%s: %s=%s, should be %s=%s", what, brief(key), brief(value), brief(r.key), brief(r.value))
	}
}

func (w *world) deleteRange(from, to []byte) {
	w.t.Helper()
	lo, hi := w.model.span(from, to)
	if hi-lo > 200 && w.s.intn(4) > 0 {
		hi = lo + 100
		to = bytes.Clone(w.model[hi].key)
	}
	w.trace("delete range %s to %s: %d of %d", brief(from), brief(to), hi-lo, len(w.model))
	var want, got []string
	for _, r := range w.model[lo:hi] {
		if r.bucket {
			want = append(want, string(r.key)+string(r.value))
		}
	}
	n, err := w.tree.DeleteRange(from, to, func(name, value []byte) error {
		got = append(got, string(name)+string(value))
		return nil
	})
	w.must(err)
	if n != uint64(hi-lo) {
		w.failf("%d items deleted from %s to %s, should be %d", n, brief(from), brief(to), hi-lo)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.failf("buckets %q went, should be %q", got, want)
	}
	w.model = slices.Delete(w.model, lo, hi)
}

// cursor moves a cursor some steps.
func (w *world) cursor(p *place) {
	w.t.Helper()
	for range 1 + w.s.intn(6) {
		w.move(p, w.s.intn(10))
	}
}

func (w *world) move(p *place, how int) {
	w.t.Helper()
	var k, v []byte
	var bucket bool
	var err error
	at, here := w.model.search(p.key)
	what := ""
	switch how {
	case 0:
		what, at = "first", 0
		k, v, bucket, err = p.c.First()
	case 1:
		what, at = "last", len(w.model)-1
		k, v, bucket, err = p.c.Last()
	case 2:
		key := w.bound()
		what = "seek"
		at, _ = w.model.search(key)
		if at == len(w.model) {
			p.key = append([]byte{}, key...)
		}
		k, v, bucket, err = p.c.Seek(key)
	case 3, 4, 5, 6:
		what = "next"
		if here {
			at++
		}
		k, v, bucket, err = p.c.Next()
	default:
		what = "prev"
		at--
		k, v, bucket, err = p.c.Prev()
	}
	w.must(err)
	nowhere := p.key == nil && how > 2
	if how < 2 {
		p.key = nil
	}
	if nowhere || at < 0 || at >= len(w.model) {
		if k != nil || v != nil {
			w.failf("%s: %s, should be nothing", what, brief(k))
		}
		return
	}
	w.same(what, w.model[at], k, v, bucket)
	w.show(k, v)
	p.key = bytes.Clone(k)
	if !bytes.Equal(p.c.Key(), k) {
		w.failf("%s: place is %s after %s", what, brief(p.c.Key()), brief(k))
	}
}

// load puts a row of ascending or descending keys.
func (w *world) load() {
	w.t.Helper()
	stem := w.stem(min(w.stems[w.s.intn(len(w.stems))], page.MaxKeyLen-8))
	n, up, at := 1+w.s.intn(100), w.s.intn(2) == 0, w.s.intn(1<<16)<<16
	size := w.s.intn(400)
	w.trace("load %d, up %v, from %x, values of %d, behind %d bytes", n, up, at, size, len(stem))
	for i := range n {
		if !up {
			i = -i
		}
		key := binary.BigEndian.AppendUint64(bytes.Clone(stem), uint64(at+i))
		w.serial++
		value := bytes.Repeat([]byte{byte(w.serial)}, size)
		j, there := w.model.search(key)
		if there && w.model[j].bucket {
			continue
		}
		added, err := w.tree.Put(key, value, false)
		w.must(err)
		if added == there {
			w.failf("load: added is %v", added)
		}
		if there {
			w.model[j] = record{key, value, false}
		} else {
			w.model = slices.Insert(w.model, j, record{key, value, false})
		}
		w.m.endOperation()
	}
}

// inline puts the tree into an image and goes on from that, if it is small enough.
func (w *world) inline() {
	w.t.Helper()
	image, ok, err := w.tree.Inline([]byte("before"))
	w.must(err)
	if !ok {
		return
	}
	if ok != (w.tree.Header().Level == 0) || !bytes.HasPrefix(image, []byte("before")) {
		w.failf("image of %d bytes of a tree of level %d", len(image), w.tree.Header().Level)
	}
	image = image[len("before"):]
	w.trace("inline %d items in %d bytes", len(w.model), len(image))
	if len(image) > page.MaxImage(w.m.ps) {
		w.failf("image of %d bytes", len(image))
	}
	h := w.tree.Header()
	w.must(w.tree.Drop(nil))
	h.Root, h.Level = 0, 0
	value := make([]byte, page.BucketHeaderSize)
	h.Encode(value)
	value = append(value, image...)
	if err := page.ValidateBucket(value, w.m.ps); err != nil {
		w.failf("%v", err)
	}
	h, leaf := page.DecodeBucket(value)
	w.tree.Init(h, leaf, nil, w.m)
	for i := range w.places {
		w.places[i] = place{}
		w.places[i].c.Init(&w.tree)
	}
}

// scan compares everything, in both directions.
func (w *world) scan() {
	w.t.Helper()
	var c Cursor
	c.Init(&w.tree)
	i := 0
	for k, v, bucket, err := c.First(); ; k, v, bucket, err = c.Next() {
		w.must(err)
		if k == nil {
			break
		}
		if i == len(w.model) {
			w.failf("next: %s behind the last one", brief(k))
		}
		w.same("next", w.model[i], k, v, bucket)
		i++
	}
	if i != len(w.model) {
		w.failf("next: ends after %d of %d", i, len(w.model))
	}
	for k, v, bucket, err := c.Last(); ; k, v, bucket, err = c.Prev() {
		w.must(err)
		if k == nil {
			break
		}
		if i--; i < 0 {
			w.failf("prev: %s before the first one", brief(k))
		}
		w.same("prev", w.model[i], k, v, bucket)
	}
	if i != 0 {
		w.failf("prev: ends before %d", i)
	}
}

// commit verifies everything and begins another transaction.
func (w *world) commit() {
	w.t.Helper()
	w.trace("commit")
	w.m.verify(w.t, &w.tree)
	w.scan()
	w.checkShown()
	for range 20 {
		w.get(w.known())
		w.numbers()
	}
	w.checkShown()
	w.m.commit()
	w.m.report(w.t)
	if _, ok := w.s.(*seeded); ok && w.s.intn(4) == 0 {
		w.published()
	}
	w.reopen()
}

// published reads everything again, through a mapping of a file.
func (w *world) published() {
	w.t.Helper()
	v := w.m.publish(w.t)
	saved := w.tree
	w.tree.Init(saved.Header(), saved.image, &v, nil)
	for _, r := range w.model {
		w.get(r.key)
	}
	for range 20 {
		w.get(w.key())
		w.numbers()
	}
	w.scan()
	var c Cursor
	c.Init(&w.tree)
	for i := 1; i < len(w.model); i++ {
		if i == 1 {
			if _, _, _, err := c.First(); err != nil {
				w.t.Fatal(err)
			}
		}
		if k, v := c.Step(); k != nil {
			w.same("step", w.model[i], k, v, false)
			k, v = c.StepBack()
			w.same("step back", w.model[i-1], k, v, w.model[i-1].bucket)
		}
		k, v, bucket, err := c.Next()
		w.must(err)
		w.same("next", w.model[i], k, v, bucket)
	}
	w.checkShown()
	w.tree = saved
}

// tracer prints what a world does.
func (w *world) tracer() {
	w.trace = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
}
