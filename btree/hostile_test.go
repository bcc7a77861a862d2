package btree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foliodb/folio/page"
)

var stem = bytes.Repeat([]byte("stem"), 150)

// victim is a tree of a few dozen pages in three levels with everything in it: runs, buckets, long keys and separators. It is
// the same each time.
func victim(tb testing.TB) (*memory, *Tree) {
	m := newMemory(4096)
	t := new(Tree)
	t.Init(page.BucketHeader{}, nil, nil, m)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range 260 {
		key := append([]byte{byte(r.IntN(16))}, stem[:430+i%3*60]...)
		key = binary.BigEndian.AppendUint32(key, r.Uint32N(1<<16))
		value := make([]byte, r.IntN(100))
		bucket := false
		switch i % 20 {
		case 3:
			value = make([]byte, 3000+i)
		case 7:
			key = append(key, stem[:100]...)
		case 11:
			value, bucket = make([]byte, page.BucketHeaderSize), true
		case 13:
			key = key[:3+i%5]
		}
		if _, err := t.Put(key, value, bucket); err != nil && err != ErrKind {
			tb.Fatal(err)
		}
	}
	m.commit()
	m.verify(tb, t)
	return m, t
}

// allKeys returns copies of the keys in a sound tree.
func allKeys(t *Tree) (keys [][]byte) {
	var c Cursor
	c.Init(t)
	for k, _, _, _ := c.First(); k != nil; k, _, _, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// damage changes relations between pages, and bytes, as the source says. What does not make a sound page
// is an error for whoever reads it.
func damage(s source, m *memory) {
	ids := make([]page.ID, 0, len(m.pages))
	for id := range m.pages {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	runs := make([]page.ID, 0, len(m.runs))
	for id := range m.runs {
		runs = append(runs, id)
	}
	slices.Sort(runs)
	for range 1 + s.intn(6) {
		id := ids[s.intn(len(ids))]
		mp := m.pages[id]
		p := mp.buf
		b := page.Branch(p)
		branch := page.LevelOf(p) > 0 && page.CountOf(p) > 0 && page.Validate(p, id) == nil
		switch how := s.intn(9); {
		case how == 8:
			page.InitLeaf(p, id, 1)
		case how == 0:
			p[s.intn(len(p))] = byte(s.intn(256))
		case how == 1:
			p[8+s.intn(64)] = byte(s.intn(256))
		case how == 2:
			copy(p[12:], m.pages[ids[s.intn(len(ids))]].buf[12:])
		case how == 3 && len(runs) > 0:
			data := m.runs[runs[s.intn(len(runs))]].data
			data[s.intn(len(data))] ^= byte(s.intn(256))
		case how == 4 && branch:
			b.SetItems(s.intn(b.Count()), []uint64{0, 1, 2, 1000, maxItems, maxItems - 1}[s.intn(6)])
		case how == 5 && branch:
			b.SetRefs(s.intn(b.Count()), s.intn(2) == 0)
		case branch:
			b.SetChild(s.intn(b.Count()), ids[s.intn(len(ids))])
		default:
			page.SetBorn(p, page.TxID(s.intn(4)))
		}
		page.Seal(p)
		mp.damaged, mp.sum = true, page.Sum(p)
	}
	m.strict = false
}

// hostile runs operations on a damaged tree. They may fail or return anything, but not panic, and not go on for ever.
// keys are some that were there.
func hostile(tb testing.TB, s source, m *memory, t *Tree, keys [][]byte) {
	const most = 100_000
	limited := func(what string, f func() error) error {
		m.calls = 0
		err := f()
		if m.calls > most {
			tb.Fatalf("%s looked at pages %d times", what, m.calls)
		}
		m.doomed = m.doomed || err != nil && err != ErrKind
		m.endOperation()
		m.report(tb)
		return err
	}
	key := func() []byte {
		if s.intn(4) > 0 {
			return keys[s.intn(len(keys))]
		}
		k := append([]byte{byte(s.intn(17))}, stem[:430+s.intn(3)*60]...)
		return append(k, byte(s.intn(256)), byte(s.intn(256)))
	}
	var c Cursor
	c.Init(t)
	limited("check", func() error {
		seen := map[page.ID]bool{}
		t.Check(Checker{Found: func(*page.CorruptError) {}, Page: func(id page.ID, _ int, _ Place) bool {
			was := seen[id]
			seen[id] = true
			return !was
		}})
		return nil
	})
	limited("dump", func() error { return t.Dump(io.Discard, true) })
	for _, back := range []bool{false, true} {
		limited("scan", func() error { return scanOnce(tb, &c, back) })
	}
	m.doomed = false
	for !s.done() {
		var err error
		switch s.intn(13) {
		case 0, 1, 2:
			value := make([]byte, []int{0, 10, 400, 1500, 3000}[s.intn(5)])
			err = limited("put", func() error { _, err := t.Put(key(), value, false); return err })
		case 3, 4:
			err = limited("delete", func() error { _, err := t.Delete(key(), s.intn(4) == 0); return err })
		case 5:
			from, to := key(), key()
			if s.intn(3) == 0 {
				from = nil
			}
			if s.intn(3) == 0 {
				to = nil
			}
			err = limited("delete range", func() error {
				_, err := t.DeleteRange(from, to, func(_, _ []byte) error { return nil })
				return err
			})
		case 6:
			limited("get", func() error { _, _, _, err := t.Get(key()); return err })
		case 7:
			limited("count", func() error { _, err := t.Count(key(), key()); return err })
			limited("at", func() error { _, _, _, _, err := t.At(uint64(s.intn(300))); return err })
		case 8:
			limited("seek", func() error { _, _, _, err := c.Seek(key()); return err })
		case 9:
			limited("next", func() error { _, _, _, err := c.Next(); return err })
			limited("prev", func() error { _, _, _, err := c.Prev(); return err })
		case 10:
			limited("scan", func() error { return scanOnce(tb, &c, s.intn(2) == 0) })
		case 11:
			limited("inline", func() error { _, _, err := t.Inline(nil); return err })
		case 12:
			r := &Relocation{Limit: page.ID(s.intn(200)), Moves: s.intn(100), Visits: 1000}
			r.Bucket = func(_, _ []byte) error { return nil }
			err = limited("relocate", func() error {
				if err := t.Relocate(r); err != ErrNoRoom {
					return err
				}
				return nil
			})
		}
		if err != nil && err != ErrKind {
			return // the transaction is doomed
		}
	}
	limited("drop", func() error { return t.Drop(nil) })
}

// hostileView reads a damaged tree through a mapping.
func hostileView(tb testing.TB, m *memory, h page.BucketHeader) {
	v := m.publish(tb)
	t := new(Tree)
	t.Init(h, nil, &v, nil)
	var c Cursor
	c.Init(t)
	scanOnce(tb, &c, false)
	scanOnce(tb, &c, true)
	for i := range 64 {
		key := append([]byte{byte(i / 4)}, stem[:430+i%3*60]...)
		_, _, _, _ = t.Get(key)
		_, _ = t.Rank(key)
		_, _, _, _, _ = t.At(uint64(i * 4))
	}
	for k, _, _, _ := c.First(); k != nil; k, _, _, _ = c.Next() {
		_, _, _, _ = t.Get(bytes.Clone(k))
	}
}

// scanOnce walks through everything. Keys must ascend, or descend.
func scanOnce(tb testing.TB, c *Cursor, back bool) error {
	first, next, sign := c.First, c.Next, 1
	if back {
		first, next, sign = c.Last, c.Prev, -1
	}
	var last []byte
	k, _, _, err := first()
	for ; k != nil && err == nil; k, _, _, err = next() {
		if last != nil && bytes.Compare(k, last)*sign <= 0 {
			tb.Fatalf("%s after %s", abridged(k), abridged(last))
		}
		last = k
	}
	if err == nil {
		return nil
	}
	for range 3 {
		if k, _, _, again := next(); k != nil || again != err {
			tb.Fatalf("%s and %v after %v", abridged(k), again, err)
		}
	}
	return err
}

// FuzzHostile damages a tree and works on it. All pages that it meets have the right checksum.
func FuzzHostile(f *testing.F) {
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, 100)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	base, tree := victim(f)
	h, keys := tree.Header(), allKeys(tree)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1024 {
			return
		}
		m, tree := base.copy(), new(Tree)
		tree.Init(h, nil, nil, m)
		s := &input{b}
		damage(s, m)
		hostile(t, s, m, tree, keys)
	})
}

// TestHostile is FuzzHostile with random inputs.
func TestHostile(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 50
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	} else {
		n = 1
	}
	hostileSeeds(t, seed, n)
}

// A long key between two others hid that these were not in order: of it the page knows the stub only. When it was deleted they became
// neighbours, in a page that the transaction then wrote, and that nobody could read.
func TestHostileNeighbours(t *testing.T) { hostileSeeds(t, 9717057337514864331, 1) }

func hostileSeeds(t *testing.T, seed uint64, n int) {
	base, tree := victim(t)
	h, keys := tree.Header(), allKeys(tree)
	for i := range n {
		s := seed + uint64(i)
		t.Run("", func(t *testing.T) {
			defer func() {
				if r := recover(); r != nil || t.Failed() {
					t.Logf("replay: go test ./btree -run TestHostile -seed=%d", s)
					if r != nil {
						panic(r)
					}
				}
			}()
			src := &seeded{rand.New(rand.NewPCG(s, 3)), 60}
			m, tree := base.copy(), new(Tree)
			tree.Init(h, nil, nil, m)
			damage(src, m)
			if i%10 == 0 {
				hostileView(t, m, h)
			}
			hostile(t, src, m, tree, keys)
		})
	}
}

// TestNumbersThatLie: branches whose numbers of items add up, and are false all the same, over pages that are
// named again and again. A tree of a few pages then claims more items than could be counted in a lifetime.
func TestNumbersThatLie(t *testing.T) {
	m := newMemory(4096)
	m.strict = false
	add := func(build func(p []byte, id page.ID)) page.ID {
		id, p, _ := m.Alloc()
		build(p, id)
		return id
	}
	id := add(func(p []byte, id page.ID) {
		page.InitLeaf(p, id, 1).Insert(0, page.Entry{Key: []byte("k"), KeyLen: 1, Value: []byte{}, Bucket: false})
	})
	items, level := uint64(1), 0
	for items < maxItems/200 {
		level++
		child, below := id, items
		id = add(func(p []byte, id page.ID) {
			b := page.InitBranch(p, id, 1, level)
			for i := 0; b.Insert(i, page.Sep{Key: numbered(i), Len: 8}, child, below, true) && i < 150; i++ {
			}
			items = b.Total()
		})
	}
	m.commit()
	var tree Tree
	open := func() { tree.Init(page.BucketHeader{Items: items, Root: id, Level: uint8(level)}, nil, nil, m) }
	for what, f := range map[string]func() error{
		"drop":  func() error { return tree.Drop(nil) },
		"range": func() error { _, err := tree.DeleteRange([]byte{0, 0, 0, 0, 0, 0, 0, 1}, nil, nil); return err },
		"scan":  func() error { var c Cursor; c.Init(&tree); return scanOnce(t, &c, false) },
		"at":    func() error { _, _, _, _, err := tree.At(items - 1); return err },
	} {
		open()
		m.calls = 0
		err := f()
		if err == nil && what != "at" || m.calls > 10000 {
			t.Errorf("%s: %v after %d looks at pages", what, err, m.calls)
		}
	}
	tree.Init(page.BucketHeader{Items: math.MaxUint64, Root: id, Level: 30}, nil, nil, m)
	n := 0
	tree.Check(Checker{Found: func(*page.CorruptError) { n++ }})
	if n == 0 {
		t.Error("a level of 30 passes")
	}
}

// A hostile file whose branches lead to the same two leaves again and again: x says only the first four bytes of its key
// by its head (prefix 0), y all eight (prefix 4).
func TestLeadsOfLeavesWithOtherPrefixes(t *testing.T) {
	for _, dir := range []int{+1, -1} {
		m := newMemory(4096)
		leaf := func(keys ...string) []byte {
			id, p, _ := m.Alloc()
			l := page.InitLeaf(p, id, 1)
			for i, k := range keys {
				l.Insert(i, page.Entry{Key: []byte(k), KeyLen: len(k), Value: []byte("v"), ValLen: 1})
			}
			return p
		}
		x := leaf("A", "abcdzzzz")
		page.Leaf(x).Remove(0)
		y := leaf("abcdaaaa", "abcdbbbb")
		pages := [][]byte{x, y}
		branch := func(level int, a, b []byte) []byte {
			id, p, _ := m.Alloc()
			br := page.InitBranch(p, id, 1, level)
			br.Insert(0, page.Sep{}, page.IDOf(a), 2, false)
			br.Insert(1, page.Sep{Key: []byte("b"), Len: 1}, page.IDOf(b), 2, false)
			pages = append(pages, p)
			return p
		}
		top := branch(1, x, y)
		for level := 2; level < 23; level++ {
			top = branch(level, top, top)
		}
		for _, p := range pages {
			page.Seal(p)
		}
		v := m.publish(t)
		var tree Tree
		tree.Init(page.BucketHeader{Items: 4, Root: page.IDOf(top), Level: uint8(page.LevelOf(top))}, nil, &v, nil)
		var c Cursor
		c.Init(&tree)
		move := c.Next
		k, _, _, err := c.First()
		if dir < 0 {
			move = c.Prev
			k, _, _, err = c.Last()
		}
		n, wrong := 0, 0
		for k != nil && n < 100_000 {
			was := string(k)
			if k, _, _, err = move(); k != nil {
				if n++; (string(k) > was) != (dir > 0) {
					wrong++
				}
			}
		}
		if wrong > 0 || !errors.Is(err, page.ErrCorrupt) {
			t.Errorf("direction %d: %d steps, %d against the order, error %v", dir, n, wrong, err)
		}
	}
}
