package btree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/foliodb/folio/page"
)

// spreadRuns runs f with n seeds, or the one that is given, and says how to run one that fails again.
func spreadRuns(t *testing.T, n int, f func(rng *rand.Rand) (complaint string)) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		n = 1
	}
	if testing.Short() {
		n = max(n/10, 1)
	}
	for i := range n {
		s := seed + uint64(i)
		complaint := ""
		func() {
			defer func() {
				if r := recover(); r != nil {
					complaint = fmt.Sprintf("panic: %v", r)
				}
			}()
			complaint = f(rand.New(rand.NewPCG(s, 3)))
		}()
		if complaint != "" {
			t.Fatalf("%s\nreplay: go test ./btree -run '^%s$' -seed=%d", complaint, t.Name(), s)
		}
	}
}

// A batch that deletes whole leaves behind one that overflows leaves several children of the branch without a page for a while. Their separators stayed until
// the end, and one of the new ones was above them: the branch's prefix was taken from separators out of order, and keys were lost
// that had been acknowledged, or the branch could not be read any more. Batches of single deletions never came there.
func TestSpreadSweeps(t *testing.T) {
	ahead := 0
	spreadRuns(t, 120, func(rng *rand.Rand) string {
		return sweep(rng, &ahead)
	})
	if *seedFlag == 0 && !testing.Short() && ahead < 10_000 {
		t.Errorf("%d changes were made ahead", ahead)
	}
}

// sweep makes batches with many deletions side by side in a tree and in a model. It counts what was done ahead.
func sweep(rng *rand.Rand, ahead *int) (complaint string) {
	const ps = 4096
	m := newMemory(ps)
	if rng.IntN(2) == 0 {
		m.rnd = rand.New(rand.NewPCG(rng.Uint64(), 2))
	}
	var tree Tree
	tree.Init(page.BucketHeader{}, nil, nil, m)
	maxKey := page.MaxKey(ps)
	stemLen := []int{0, 5, 20, 100, 300, 480}[rng.IntN(6)]
	groups := 1 + rng.IntN(6)
	mk := func(g, x int) []byte {
		k := append([]byte{byte('a' + g)}, bytes.Repeat([]byte{byte('m' + g)}, stemLen)...)
		if rng.IntN(8) == 0 && x%7 == 0 {
			k = k[:1+min(stemLen, x%30)]
		}
		k = fmt.Appendf(k, "%06d", x)
		return k[:min(len(k), maxKey)]
	}
	vs := []int{0, 30, 300, 900, 1500}[rng.IntN(5)]
	val := func(k []byte) []byte {
		n := rng.IntN(vs + 1)
		if rng.IntN(10) == 0 {
			n = page.MaxEntry(ps) - 10 - len(k) - rng.IntN(2)
		}
		return bytes.Repeat([]byte{byte(rng.IntN(256))}, min(n, page.MaxEntry(ps)-10-len(k)))
	}
	model := map[string][]byte{}
	run := func(batch []Change) string {
		batch = inOrder(batch)
		for i := 0; i < len(batch); i++ {
			c := batch[i]
			var done int
			var err error
			if c.Delete {
				_, err = tree.Delete(c.Key, false)
			} else {
				done, err = tree.PutAhead(c.Key, c.Value, batch[i+1:])
			}
			if err != nil {
				return err.Error()
			}
			for _, c := range batch[i : i+1+done] {
				if c.Delete {
					delete(model, string(c.Key))
				} else {
					model[string(c.Key)] = c.Value
				}
			}
			i += done
			*ahead += done
			m.endOperation()
			if len(m.fails) > 0 {
				return fmt.Sprint(m.fails)
			}
		}
		for _, err := range m.findings(&tree) {
			return err.Error()
		}
		if tree.Header().Items != uint64(len(model)) {
			return "items"
		}
		n := 0
		for k, w := range model {
			if n++; n > 300 {
				break
			}
			v, _, ok, err := tree.Get([]byte(k))
			if !ok || err != nil || !bytes.Equal(v, w) {
				return fmt.Sprintf("get %.20q: %v %v", k, ok, err)
			}
		}
		return ""
	}
	var first []Change
	total := 50 + rng.IntN(600)
	for range total {
		k := mk(rng.IntN(groups), rng.IntN(100000))
		first = append(first, Change{Key: k, Value: val(k)})
	}
	if msg := run(first); msg != "" {
		return "first: " + msg
	}
	for range 6 {
		if rng.IntN(2) == 0 {
			m.commit()
			tree.Init(tree.Header(), tree.image, nil, m)
		}
		var keys []string
		for k := range model {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if len(keys) < 10 {
			break
		}
		var batch []Change
		for range 1 + rng.IntN(4) { // sweeps
			lo := rng.IntN(len(keys))
			hi := min(len(keys), lo+5+rng.IntN(200))
			keep := []int{1, 20, 200}[rng.IntN(3)]
			for _, k := range keys[lo:hi] {
				if rng.IntN(keep+1) > 0 || keep == 1 {
					batch = append(batch, Change{Key: []byte(k), Delete: true})
				}
			}
			for j := range 1 + rng.IntN(3) {
				k := []byte(keys[min(hi-1, lo+j)] + "5")
				k = k[:min(len(k), maxKey)]
				batch = append(batch, Change{Key: k, Value: bytes.Repeat([]byte{7}, page.MaxEntry(ps)-10-len(k)-rng.IntN(1000)%(page.MaxEntry(ps)-10-len(k)))})
			}
			g := min(25, max(0, int(keys[hi-1][0]-'a')+rng.IntN(2)))
			x := rng.IntN(100000)
			for range rng.IntN(120) {
				k := mk(g, x+rng.IntN(500))
				batch = append(batch, Change{Key: k, Value: val(k)})
			}
		}
		if msg := run(batch); msg != "" {
			return msg
		}
	}
	m.commit()
	for _, err := range m.findings(&tree) {
		return err.Error()
	}
	return ""
}

// Trees of sound pages that contradict each other, with nothing but plain items: separators and children in the wrong place. Spreading made branches of
// them that were wrong in themselves, and went on in a branch where the new leaf was not. What it does now may fail, but every page that it makes is sound.
func TestSpreadDamaged(t *testing.T) {
	// three levels, all plain
	build := func(stem int) (*memory, *Tree, [][]byte) {
		base := newMemory(4096)
		tree := new(Tree)
		tree.Init(page.BucketHeader{}, nil, nil, base)
		rng := rand.New(rand.NewPCG(1, 1))
		var keys [][]byte
		for range 700 {
			k := append([]byte{byte('a' + rng.IntN(20))}, bytes.Repeat([]byte{'m'}, stem)...)
			k = fmt.Appendf(k, "%06d", rng.IntN(100000))
			keys = append(keys, k)
			if _, err := tree.Put(k, make([]byte, rng.IntN(200)), false); err != nil {
				t.Fatal(err)
			}
			base.endOperation()
		}
		base.commit()
		base.verify(t, tree)
		return base, tree, keys
	}
	type victim struct {
		m    *memory
		t    *Tree
		keys [][]byte
	}
	var victims []victim
	for _, st := range []int{20, 300, 470} {
		m, tr, k := build(st)
		victims = append(victims, victim{m, tr, k})
	}
	spreadRuns(t, 1500, func(rng *rand.Rand) string {
		v := victims[rng.IntN(len(victims))]
		m := v.m.copy()
		tree := new(Tree)
		tree.Init(v.t.Header(), nil, nil, m)
		m.strict = false
		byLevel := map[int][]page.ID{}
		for id, p := range m.pages {
			byLevel[page.LevelOf(p.buf)] = append(byLevel[page.LevelOf(p.buf)], id)
		}
		for _, ids := range byLevel {
			slices.Sort(ids)
		}
		for range 1 + rng.IntN(3) {
			lvl := 1 + rng.IntN(int(tree.level))
			ids := byLevel[lvl]
			p := m.pages[ids[rng.IntN(len(ids))]]
			b := page.Branch(p.buf)
			i := rng.IntN(b.Count())
			switch rng.IntN(4) {
			case 0: // swap with a neighbour
				j := rng.IntN(b.Count())
				x, y := b.Child(i), b.Child(j)
				b.SetChild(i, y)
				b.SetChild(j, x)
			case 1:
				below := byLevel[lvl-1]
				b.SetChild(i, below[rng.IntN(len(below))])
			case 2:
				b.SetItems(i, []uint64{0, 1, 1000}[rng.IntN(3)])
			case 3: // another separator
				if i > 0 {
					lo, hi := []byte{}, []byte{255}
					if i > 1 {
						lo = b.Separator(i-1, nil)
					}
					if i+1 < b.Count() {
						hi = b.Separator(i+1, nil)
					}
					k := v.keys[rng.IntN(len(v.keys))]
					if bytes.Compare(k, lo) > 0 && bytes.Compare(k, hi) < 0 {
						b.ReplaceSep(i, page.Sep{Key: k, Len: len(k)})
					}
				}
			}
			page.Seal(p.buf)
			p.damaged, p.sum = true, page.Sum(p.buf)
		}
		var batch []Change
		for range 1 + rng.IntN(3) {
			g := rng.IntN(20)
			st := len(v.keys[0]) - 7
			for range rng.IntN(200) {
				k := append([]byte{byte('a' + g + rng.IntN(2))}, bytes.Repeat([]byte{'m'}, st)...)
				k = fmt.Appendf(k, "%06d", rng.IntN(100000))
				batch = append(batch, Change{Key: k, Value: make([]byte, rng.IntN(300)), Delete: rng.IntN(5) == 0})
			}
		}
		batch = inOrder(batch)
		for i := 0; i < len(batch); i++ {
			c := batch[i]
			var done int
			var err error
			m.calls = 0
			if c.Delete {
				_, err = tree.Delete(c.Key, false)
			} else {
				done, err = tree.PutAhead(c.Key, c.Value, batch[i+1:])
			}
			m.doomed = err != nil && err != ErrKind
			m.endOperation()
			if len(m.fails) > 0 {
				return fmt.Sprint(m.fails)
			}
			if m.doomed {
				break
			}
			if m.calls > 100_000 {
				return fmt.Sprintf("pages were looked at %d times", m.calls)
			}
			i += done
		}
		return ""
	})
}

// One operation makes a bounded number of leaves, however many changes belong in one, and large entries fill leaves as well as they do without a look
// ahead: with a target of 92 in a hundred, of entries of nearly half a page one went to a leaf.
func TestSpreadBounds(t *testing.T) {
	for _, ps := range []int{4096, 65536} {
		m := newMemory(ps)
		var tree Tree
		tree.Init(page.BucketHeader{}, nil, nil, m)
		for i := range 200 {
			if _, err := tree.Put(binary.BigEndian.AppendUint32(nil, uint32(i)<<16), make([]byte, 1500), false); err != nil {
				t.Fatal(err)
			}
			m.endOperation()
		}
		m.commit()
		tree.Init(tree.Header(), nil, nil, m)
		var batch []Change
		for i := range 1024 {
			batch = append(batch, Change{Key: binary.BigEndian.AppendUint64(nil, uint64(60<<16+i*2)<<32), Value: make([]byte, page.MaxEntry(ps)-10-8)})
		}
		for i := 0; i < len(batch); i++ {
			before := len(m.allocs)
			done, err := tree.PutAhead(batch[i].Key, batch[i].Value, batch[i+1:])
			if err != nil {
				t.Fatal(err)
			}
			if made := len(m.allocs) - before; made > 2*spreadPages+4 {
				t.Fatalf("pages of %d: one operation made %d", ps, made)
			}
			i += done
			m.endOperation()
			m.report(t)
		}
	}
	for _, size := range []int{150, 640, 970, 985, 1300, 1900, 1985} {
		var leaves [2]int
		for j, ahead := range []bool{false, true} {
			h := newHeap(4096)
			var tree Tree
			tree.Init(page.BucketHeader{}, nil, nil, h)
			rng := rand.New(rand.NewPCG(4, 4))
			for range 10 {
				var batch []Change
				for range 1000 {
					batch = append(batch, Change{Key: binary.BigEndian.AppendUint64(nil, rng.Uint64()), Value: make([]byte, size)})
				}
				putAll(t, &tree, inOrder(batch), ahead)
			}
			leaves[j], _ = h.leaves(tree.Header().Root)
		}
		if float64(leaves[1]) > 1.03*float64(leaves[0]) {
			t.Errorf("values of %d: %d leaves, without a look ahead %d", size, leaves[1], leaves[0])
		}
	}
}
