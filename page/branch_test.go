package page

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// child is an entry of the model.
type child struct {
	sep   []byte // whole; of the first child nil
	ref   Ref    // of a long one
	id    ID
	items uint64
	refs  bool
}

func (m *child) asSep() Sep { return Sep{Key: m.sep, Len: len(m.sep), Ref: m.ref} }

// branchModel is a branch beside a sorted slice of what it should hold.
type branchModel struct {
	t        testing.TB
	c        chooser
	branch   Branch
	children []child
}

func newBranchModel(t testing.TB, c chooser, pageSize int) *branchModel {
	return &branchModel{t: t, c: c, branch: InitBranch(make([]byte, pageSize), 1<<20, testBorn, 3)}
}

func chooseChild(c chooser, sep []byte, pageSize int) child {
	m := child{sep: sep, id: FirstID + ID(c.n(1<<16)), items: uint64(c.n(1000)), refs: c.n(8) == 0}
	if c.n(8) == 0 {
		m.items += maxItems - 1000
	}
	if len(sep) > MaxKey(pageSize) {
		m.ref = Ref{ID: FirstID + ID(c.n(1000)), Born: TxID(1 + c.n(testBorn)), Sum: uint64(c.n(1 << 20))}
	}
	return m
}

// findChild is the naive search.
func findChild(children []child, key []byte) int {
	i := 0
	for j := 1; j < len(children); j++ {
		if bytes.Compare(children[j].sep, key) <= 0 {
			i = j
		}
	}
	return i
}

func (m *branchModel) step() {
	b, c, n := m.branch, m.c, len(m.children)
	switch op := c.n(16); {
	case n == 0:
		first := chooseChild(c, nil, len(b))
		b.Insert(0, Sep{}, first.id, first.items, first.refs)
		m.children = append(m.children, first)
	case op < 8:
		m.insert()
	case op < 10:
		i := c.n(n)
		b.Remove(i)
		m.drop(i, i+1)
	case op < 11:
		from := c.n(n + 1)
		to := from + c.n(n-from+1)
		b.RemoveRange(from, to)
		m.drop(from, to)
	case op < 13:
		m.set(c.n(n))
	case op < 14 && n > 1:
		m.replaceSep(1 + c.n(n-1))
	case op < 15:
		fresh := make([]byte, len(b))
		b.CompactInto(fresh)
		m.branch = fresh
		if garbageOf(fresh) != 0 || b.Live() < m.branch.Live()-4 || Trend(fresh) != Trend(b) {
			m.t.Fatalf("compacted %d bytes to %d with %d garbage", b.Live(), m.branch.Live(), garbageOf(fresh))
		}
	default:
		m.divide()
	}
}

// drop takes children out of the model.
func (m *branchModel) drop(from, to int) {
	m.children = slices.Delete(m.children, from, to)
	if len(m.children) > 0 {
		m.children[0].sep, m.children[0].ref = nil, Ref{}
	}
}

func (m *branchModel) insert() {
	sep := chooseKey(m.c, len(m.branch))
	i := findChild(m.children, sep)
	if bytes.Equal(m.children[i].sep, sep) {
		return
	}
	one := chooseChild(m.c, sep, len(m.branch))
	after := slices.Insert(slices.Clone(m.children), i+1, one)
	before := bytes.Clone(m.branch)
	switch {
	case m.branch.Insert(i+1, one.asSep(), one.id, one.items, one.refs):
		m.children = after
	case !bytes.Equal(before, m.branch):
		m.t.Fatal("an insert that did not fit changed the branch")
	case m.branch.Live()+branchSize+sepHeap(len(sep), len(sep) > MaxKey(len(before)), 0) < Capacity(len(before))/2:
		m.t.Fatalf("no room for a separator of %d bytes beside %d", len(sep), m.branch.Live())
	default:
		m.split(i+1, one, after)
	}
}

// split divides a full branch and goes on with a half.
func (m *branchModel) split(i int, one child, after []child) {
	right := newBranchModel(m.t, m.c, len(m.branch))
	up := m.branch.Split(right.branch, i, one.asSep(), one.id, one.items, one.refs, []byte("x"))
	k := m.branch.Count()
	if k < 2 || len(after)-k < 2 {
		m.t.Fatalf("split at %d of %d", k, len(after))
	}
	m.checkSep(up, &after[k])
	m.children, right.children = after[:k:k], slices.Clone(after[k:])
	right.children[0].sep, right.children[0].ref = nil, Ref{}
	m.check()
	if m.c.n(2) == 0 {
		*m = *right
	}
}

func (m *branchModel) checkSep(s Sep, want *child) {
	m.t.Helper()
	have := want.sep
	if len(have) > MaxKey(len(m.branch)) {
		have = have[:StubSize]
		s.Key = s.Key[:StubSize]
	}
	if !bytes.Equal(s.Key, have) || s.Len != len(want.sep) || s.Ref != want.ref {
		m.t.Fatalf("separator %q of %d in %v, want %q of %d in %v", s.Key, s.Len, s.Ref, have, len(want.sep), want.ref)
	}
}

func (m *branchModel) set(i int) {
	fresh := chooseChild(m.c, m.children[i].sep, len(m.branch))
	fresh.ref = m.children[i].ref
	m.branch.SetChild(i, fresh.id)
	m.branch.SetItems(i, fresh.items)
	m.branch.SetRefs(i, fresh.refs)
	m.children[i] = fresh
}

func (m *branchModel) replaceSep(i int) {
	sep := chooseKey(m.c, len(m.branch))
	if i > 1 && bytes.Compare(sep, m.children[i-1].sep) <= 0 || i+1 < len(m.children) && bytes.Compare(sep, m.children[i+1].sep) >= 0 {
		sep = append(bytes.Clone(m.children[i].sep), 0) // no key lies between
		if i+1 < len(m.children) && bytes.Equal(sep, m.children[i+1].sep) || len(sep) > MaxKeyLen {
			return
		}
	}
	fresh := chooseChild(m.c, sep, len(m.branch))
	before := bytes.Clone(m.branch)
	if !m.branch.ReplaceSep(i, fresh.asSep()) {
		if !bytes.Equal(before, m.branch) {
			m.t.Fatal("a separator that did not fit changed the branch")
		}
		return
	}
	if m.c.n(4) == 0 { // what was there always fits again
		if !m.branch.ReplaceSep(i, m.children[i].asSep()) {
			m.t.Fatal("the old separator does not fit any more")
		}
		return
	}
	m.children[i].sep, m.children[i].ref = fresh.sep, fresh.ref
}

// divide moves a part of the children to another branch and, sometimes, back.
func (m *branchModel) divide() {
	n := len(m.children)
	other := newBranchModel(m.t, m.c, len(m.branch))
	k := m.c.n(n)
	size := m.branch.SizeOf(k, n)
	between := m.children[k]
	if k > 0 {
		m.checkSep(m.branch.Sep(k, nil), &between)
	}
	if !m.branch.Move(other.branch, k, n, Sep{}) {
		m.t.Fatal("children do not fit an empty branch")
	}
	other.children = slices.Clone(m.children[k:])
	other.children[0].sep, other.children[0].ref = nil, Ref{}
	m.children = m.children[:k:k]
	if other.branch.Live() != size {
		m.t.Fatalf("moved %d bytes, SizeOf said %d", other.branch.Live(), size)
	}
	m.check()
	other.check()
	if k == 0 {
		*m = *other
		return
	}
	m.rejoin(other, between)
}

// rejoin moves children between two branches that between divides, and goes on with one that got some.
func (m *branchModel) rejoin(other *branchModel, between child) {
	if m.c.n(2) == 0 { // between may be any that fits there, a shorter one for example
		last := m.children[len(m.children)-1].sep
		if s := Shortest(last, between.sep); bytes.Compare(s, last) > 0 {
			between = chooseChild(m.c, s, len(m.branch))
		}
	}
	all := MergeSize(m.branch, other.branch, between.asSep())
	switch m.c.n(3) {
	case 0:
		j := 1 + m.c.n(len(other.children))
		ok := other.branch.Move(m.branch, 0, j, between.asSep())
		if !ok && all <= Capacity(len(m.branch)) {
			m.t.Fatal("move does not agree with MergeSize")
		} else if ok {
			other.children[0].sep, other.children[0].ref = between.sep, between.ref
			m.children = append(m.children, other.children[:j]...)
			if j == len(other.children) && m.branch.Live() != all {
				m.t.Fatalf("merged to %d bytes, MergeSize said %d", m.branch.Live(), all)
			}
		}
	case 1:
		j := m.c.n(len(m.children))
		ok := m.branch.MoveFront(other.branch, j, len(m.children), between.asSep())
		if !ok && all <= Capacity(len(m.branch)) {
			m.t.Fatal("move does not agree with MergeSize")
		} else if ok {
			other.children[0].sep, other.children[0].ref = between.sep, between.ref
			other.children = slices.Insert(other.children, 0, m.children[j:]...)
			other.children[0].sep, other.children[0].ref = nil, Ref{}
			*m = *other
		}
	}
}

// check compares the branch with the model in every respect.
func (m *branchModel) check() {
	t, b := m.t, m.branch
	t.Helper()
	if b.Count() != len(m.children) {
		t.Fatalf("%d children, want %d", b.Count(), len(m.children))
	}
	if b.Count() == 0 {
		return // exists only until the first child is put in
	}
	Seal(b)
	if err := Validate(b, IDOf(b)); err != nil {
		var text bytes.Buffer
		Dump(&text, b)
		t.Fatalf("%v\n%s", err, text.String())
	}
	var total uint64
	for i := range m.children {
		want := &m.children[i]
		if b.Child(i) != want.id || b.Items(i) != want.items || b.Refs(i) != want.refs || b.ItemsBefore(i) != total {
			t.Fatalf("child %d is %d with %d items, refs %v, %d before", i, b.Child(i), b.Items(i), b.Refs(i), b.ItemsBefore(i))
		}
		if want.items > 0 {
			for _, n := range []uint64{0, want.items / 2, want.items - 1} {
				if j, rest := b.Locate(total + n); j != i || rest != n {
					t.Fatalf("item %d is number %d of child %d, want %d of %d", total+n, rest, j, n, i)
				}
			}
		}
		total += want.items
		if i > 0 {
			m.checkSep(b.Sep(i, []byte("x")), want)
			if !bytes.HasPrefix(want.sep, b.Separator(i, nil)) || b.SepLen(i) != len(want.sep) || b.IsLong(i) != (len(want.sep) > MaxKey(len(b))) {
				t.Fatalf("separator %d is %q of %d", i, b.Separator(i, nil), b.SepLen(i))
			}
		}
	}
	if b.Total() != total {
		t.Fatalf("%d items, want %d", b.Total(), total)
	}
	m.checkSearch()
}

func (m *branchModel) checkSearch() {
	b := m.branch
	keys := [][]byte{chooseKey(m.c, len(b)), {0}, {0xff, 0xff, 0xff, 0xff, 0xff}, {}}
	for i := 1; i < len(m.children); i += 1 + m.c.n(4) {
		keys = append(keys, probes(m.children[i].sep)...)
	}
	for _, key := range keys {
		want := findChild(m.children, key)
		i, err := b.SearchLong(key, func(i int) (int, error) { return bytes.Compare(m.children[i].sep, key), nil })
		if i != want || err != nil {
			m.t.Fatalf("long search for %q: %d %v, want %d", key, i, err, want)
		}
		if b.hasFlag(FlagLong) {
			continue
		}
		if i := b.Search(key); i != want {
			m.t.Fatalf("search for %q: %d, want %d", key, i, want)
		}
	}
}

func runBranchModel(t testing.TB, c chooser, pageSize int) {
	m := newBranchModel(t, c, pageSize)
	for c.more() {
		m.step()
		m.check()
	}
}

func TestBranchModel(t *testing.T) {
	c := newSeeded(t, 0)
	for _, size := range []int{4096, 8192, 65536} {
		for range 40 * 4096 / size {
			c.left = 300
			runBranchModel(t, c, size)
		}
	}
}

func FuzzBranchOps(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07"))
	f.Add(bytes.Repeat([]byte("\x00\x02\x03\x01\x02\x02\x00\x07\x09"), 40))
	f.Fuzz(func(t *testing.T, b []byte) { runBranchModel(t, &bytesChooser{b[:min(len(b), 2000)]}, 4096) })
}

// TestSplitAtLongSeparator: a long separator that comes in the middle of a branch with a long prefix shortens the prefix
// to 28 bytes, in whichever half it lies. The only way out is that the new separator itself goes up: then
// neither half has it. (Found by package btree's model test: neither the middle, nor 2, nor n-1 fits.)
func TestSplitAtLongSeparator(t *testing.T) {
	const size = 4096
	stem := bytes.Repeat([]byte{'x'}, 500)
	key := func(i int) []byte { return binary.BigEndian.AppendUint32(bytes.Clone(stem), uint32(i)) }
	b := InitBranch(make([]byte, size), 2, 1, 1)
	b.Insert(0, Sep{}, 100, 1, false)
	n := 1
	for ; b.Insert(n, Sep{Key: key(n), Len: 504}, ID(100+n), 1, false); n++ {
	}
	for _, i := range []int{1, 2, n / 2, n - 1, n} {
		left := Branch(bytes.Clone(b))
		right := InitBranch(make([]byte, size), 3, 1, 1)
		long := append(key(i-1), bytes.Repeat([]byte{'y'}, 200)...)
		up := left.Split(right, i, Sep{Key: long, Len: len(long), Ref: Ref{ID: 9, Born: 1}}, 99, 1, false, nil)
		if left.Count()+right.Count() != n+1 || left.Count() < 2 || right.Count() < 2 || up.Len == 0 {
			t.Errorf("at %d: %d and %d of %d children", i, left.Count(), right.Count(), n+1)
		}
		for _, half := range []Branch{left, right} {
			Seal(half)
			if err := Validate(half, IDOf(half)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSplitFollowsLoad: rising and falling loads leave full branches behind.
func TestSplitFollowsLoad(t *testing.T) {
	for _, rising := range []bool{true, false} {
		b := InitBranch(make([]byte, 4096), 2, 1, 1)
		b.Insert(0, Sep{}, 100, 1, false)
		i, sep := 0, Sep{}
		for n := 1; ; n++ {
			v := n
			if i = n; !rising {
				i, v = 1, 100000-n
			}
			sep = Sep{Key: binary.BigEndian.AppendUint32(nil, uint32(v)), Len: 4}
			if !b.Insert(i, sep, 100, 1, false) {
				break
			}
		}
		n := b.Count()
		right := InitBranch(make([]byte, 4096), 3, 1, 1)
		b.Split(right, i, sep, 100, 1, false, nil)
		if small := min(b.Count(), right.Count()); small != 2 || b.Count()+right.Count() != n+1 || (right.Count() == 2) != rising {
			t.Errorf("rising %v: split into %d and %d", rising, b.Count(), right.Count())
		}
	}
}

// TestBranchAllocations: no operation of a branch allocates, one that changes the prefix neither.
func TestBranchAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool forgets at random")
	}
	b := InitBranch(make([]byte, MinPageSize), 7, 5, 1)
	other := InitBranch(make([]byte, MinPageSize), 8, 5, 1)
	long := func(int) (int, error) { return 0, nil }
	buf := make([]byte, 0, 100)
	sep := func(s string) Sep { return Sep{Key: append(buf, s...), Len: len(s)} }
	n := testing.AllocsPerRun(100, func() {
		InitBranch(b, 7, 5, 1)
		InitBranch(other, 8, 5, 1)
		b.Insert(0, Sep{}, 10, 1, false)
		b.Insert(1, sep("user/1"), 11, 1, true)
		b.Insert(2, sep("user/2345678"), 12, 1, true)
		b.Insert(3, sep("uses"), 13, 1, false)
		b.ReplaceSep(1, sep("user"))
		b.Search(buf[:4])
		b.SearchLong(buf[:4], long)
		b.Sep(2, buf)
		b.SizeOf(0, 2)
		b.Split(other, 4, sep("v"), 14, 1, false, buf)
		other.Move(b, 0, 1, sep("uses"))
		MergeSize(b, other, sep("v"))
		b.CompactInto(other)
		b.Remove(0)
		Seal(b)
		if err := Validate(b, 7); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMoveWithoutRoom: what does not fit is not moved, and nothing has changed.
func TestMoveWithoutRoom(t *testing.T) {
	var leaves [2]Leaf
	var branches [2]Branch
	for i := range leaves {
		l := InitLeaf(make([]byte, MinPageSize), ID(7+i), 5)
		for j := 0; ; j++ {
			k := []byte{byte(i), byte(j)}
			if !l.Insert(j, Entry{Key: k, KeyLen: 2, Value: make([]byte, 50), ValLen: 50}) {
				break
			}
		}
		b := InitBranch(make([]byte, MinPageSize), ID(7+i), 5, 1)
		for j := 0; ; j++ {
			k := []byte{byte(i), byte(j >> 8), byte(j)}
			if !b.Insert(j, Sep{Key: k, Len: 3}, 10, 1, false) {
				break
			}
		}
		leaves[i], branches[i] = l, b
	}
	sep := Sep{Key: []byte{1}, Len: 1}
	for name, move := range map[string]func() bool{
		"leaf":         func() bool { return leaves[1].Move(leaves[0], 0, 1) },
		"leaf front":   func() bool { return leaves[0].MoveFront(leaves[1], 3, leaves[0].Count()) },
		"branch":       func() bool { return branches[1].Move(branches[0], 0, 3, sep) },
		"branch front": func() bool { return branches[0].MoveFront(branches[1], 3, branches[0].Count(), sep) },
	} {
		before := [][]byte{bytes.Clone(leaves[0]), bytes.Clone(leaves[1]), bytes.Clone(branches[0]), bytes.Clone(branches[1])}
		if move() {
			t.Errorf("%s: moved into a full page", name)
		}
		for i, p := range [][]byte{leaves[0], leaves[1], branches[0], branches[1]} {
			if !bytes.Equal(p, before[i]) {
				t.Errorf("%s: page %d has changed", name, i)
			}
		}
	}
}

// TestPrefixThatCosts: the best prefix of short separators takes bytes and saves none. A branch that is full without it
// must do without it.
func TestPrefixThatCosts(t *testing.T) {
	b := InitBranch(make([]byte, MinPageSize), 7, 5, 1)
	b.Insert(0, Sep{}, 10, 1, false)
	b.Insert(1, Sep{Key: []byte("a"), Len: 1}, 10, 1, false)
	for i := 2; b.Free() > 0; i++ {
		if !b.Insert(i, Sep{Key: []byte{'b', 'b', 'b', byte(i)}, Len: 4}, 10, 1, false) {
			t.Fatalf("child %d does not fit %d bytes", i, b.Free())
		}
	}
	if !b.ReplaceSep(1, Sep{Key: []byte("bbb"), Len: 3}) || b.Free() != 0 {
		t.Fatalf("the separator does not fit, or leaves %d bytes", b.Free())
	}
	fresh := make([]byte, len(b))
	b.CompactInto(fresh)
	mustValidate(t, fresh)
	if !b.ReplaceSep(1, Sep{Key: []byte("bb"), Len: 2}) {
		t.Error("a separator of no bytes in the heap does not fit")
	}
	mustValidate(t, b)
	b.RemoveRange(5, 10)
	mustValidate(t, b)
	if prefixOf(b) != 2 {
		t.Errorf("prefix of %d bytes where there is room", prefixOf(b))
	}
}
