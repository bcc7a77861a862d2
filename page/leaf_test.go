package page

import (
	"bytes"
	"io"
	"math"
	"slices"
	"sort"
	"testing"
)

// item is an entry of the model: whole keys, and for runs whatever they are to hold.
type item struct {
	key    []byte
	value  []byte
	valLen int
	bucket bool
	ref    Ref
}

func (m *item) entry() Entry {
	return Entry{Key: m.key, KeyLen: len(m.key), Value: m.value, ValLen: m.valLen, Bucket: m.bucket, Ref: m.ref}
}

// leafModel is a leaf beside a sorted slice of what it should hold.
type leafModel struct {
	t     testing.TB
	c     chooser
	leaf  Leaf
	items []item
}

const testBorn = 9

func newLeafModel(t testing.TB, c chooser, pageSize int) *leafModel {
	return &leafModel{t: t, c: c, leaf: InitLeaf(make([]byte, pageSize), 7, testBorn)}
}

func chooseItem(c chooser, key []byte, pageSize int) item {
	m := item{key: key}
	switch c.n(8) {
	case 0:
		m.valLen = 0
	case 1:
		m.valLen = c.n(MaxEntry(pageSize) + 20)
	case 2:
		m.valLen = max(0, MaxEntry(pageSize)-len(key)-leafSize-2+c.n(5))
	case 3:
		m.valLen = MaxValueLen - c.n(3)
	case 4:
		m.bucket = true
		m.value = chooseBucket(c, pageSize)
		m.valLen = len(m.value)
	default:
		m.valLen = c.n(40)
	}
	if FormOf(pageSize, len(key), m.valLen) == Inline && !m.bucket {
		m.value = bytes.Repeat([]byte{byte('0' + c.n(10))}, m.valLen)
	}
	if FormOf(pageSize, len(key), m.valLen) != Inline {
		m.value = nil
		m.ref = Ref{ID: FirstID + ID(c.n(1000)), Born: TxID(1 + c.n(testBorn)), Sum: uint64(c.n(1 << 20))}
	}
	return m
}

// chooseBucket returns the value of a bucket: empty, with a root, or with an image.
func chooseBucket(c chooser, pageSize int) []byte {
	h := BucketHeader{Sequence: uint64(c.n(100))}
	switch c.n(3) {
	case 0:
		h.Root, h.Level, h.Items = FirstID+ID(c.n(100)), uint8(c.n(MaxLevel)), uint64(c.n(1000))
	case 1:
		sub := InitLeaf(make([]byte, pageSize), 3, 1)
		var keys [][]byte
		for range 1 + c.n(6) {
			keys = append(keys, chooseKey(c, pageSize))
		}
		slices.SortFunc(keys, bytes.Compare)
		for _, k := range slices.CompactFunc(keys, bytes.Equal) {
			sub.Insert(sub.Count(), Entry{Key: k, KeyLen: len(k), Value: k[:1], ValLen: 1})
		}
		if _, ok := sub.ImageSize(); ok {
			h.Items = uint64(sub.Count())
			return sub.AppendImage(encodeBucket(h))
		}
	}
	return encodeBucket(h)
}

func encodeBucket(h BucketHeader) []byte {
	b := make([]byte, BucketHeaderSize)
	h.Encode(b)
	return b
}

// find is the naive search: the first item not below key.
func find(items []item, key []byte) (int, bool) {
	i := sort.Search(len(items), func(i int) bool { return bytes.Compare(items[i].key, key) >= 0 })
	return i, i < len(items) && bytes.Equal(items[i].key, key)
}

// step does one operation on both.
func (m *leafModel) step() {
	heap := bytes.Clone(m.leaf[m.leaf.heapStart():])
	before := m.leaf
	switch op := m.c.n(17); {
	case op == 16:
		m.setRef()
		return // it is the one that writes over bytes of the heap
	case op < 9:
		m.put()
	case op < 12:
		m.remove()
	case op < 13:
		from, to := m.bounds()
		m.leaf.RemoveRange(from, to)
		m.items = slices.Delete(m.items, from, to)
	case op < 14:
		m.compact()
	default:
		m.divide()
	}
	if &before[0] == &m.leaf[0] && !bytes.HasSuffix(m.leaf, heap) {
		m.t.Fatal("bytes of the heap were overwritten")
	}
}

func (m *leafModel) bounds() (from, to int) {
	from = m.c.n(len(m.items) + 1)
	return from, from + m.c.n(len(m.items)-from+1)
}

func (m *leafModel) put() {
	key := chooseKey(m.c, len(m.leaf))
	it := chooseItem(m.c, key, len(m.leaf))
	i, found := find(m.items, key)
	room, live := m.leaf.Free(), m.leaf.Live()
	need := EntrySize(len(m.leaf), len(key), it.valLen)
	if found {
		old := EntrySize(len(m.leaf), len(m.items[i].key), m.items[i].valLen)
		if ok := m.leaf.Replace(i, it.entry()); ok != (need-leafSize <= room) {
			m.t.Fatalf("replace of %d bytes with %d free: %v", need, room, ok)
		} else if ok {
			m.items[i] = it
			live += need - old
		}
	} else if ok := m.leaf.Insert(i, it.entry()); ok != (need <= room) {
		m.t.Fatalf("insert of %d bytes with %d free: %v", need, room, ok)
	} else if ok {
		m.items = slices.Insert(m.items, i, it)
		live += need
	} else if live+need <= Capacity(len(m.leaf)) {
		m.compact()
	} else {
		m.split(i, it)
		return
	}
	if m.leaf.Live() != live {
		m.t.Fatalf("%d bytes live, want %d", m.leaf.Live(), live)
	}
}

func (m *leafModel) remove() {
	if len(m.items) == 0 {
		return
	}
	i := m.c.n(len(m.items))
	m.leaf.Remove(i)
	m.items = slices.Delete(m.items, i, i+1)
}

// setRef gives an entry another run. Keys and values that were handed out must not notice, and nothing else must change.
func (m *leafModel) setRef() {
	var at []int
	var given, were [][]byte
	for i := range m.items {
		key, value, _, form := m.leaf.Item(i)
		given = append(given, key, value)
		were = append(were, bytes.Clone(key), bytes.Clone(value))
		if form != Inline {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return
	}
	i := at[m.c.n(len(at))]
	before, old := bytes.Clone(m.leaf), m.items[i].ref
	ref := Ref{ID: FirstID + ID(m.c.n(1000)), Born: TxID(1 + m.c.n(testBorn)), Sum: uint64(m.c.n(1 << 20))}
	m.leaf.SetRef(i, ref)
	m.items[i].ref = ref
	for k := range given {
		if !bytes.Equal(given[k], were[k]) {
			m.t.Fatalf("bytes handed out have changed: %q, were %q", given[k], were[k])
		}
	}
	m.check()
	m.leaf.SetRef(i, old)
	Seal(before)
	Seal(m.leaf)
	if !bytes.Equal(before, m.leaf) {
		m.t.Fatal("a ref and back again leaves something changed")
	}
	m.leaf.SetRef(i, ref)
}

func (m *leafModel) compact() {
	fresh := make([]byte, len(m.leaf))
	m.leaf.CompactInto(fresh)
	if Leaf(fresh).Free() != Capacity(len(fresh))-m.leaf.Live() || Trend(fresh) != Trend(m.leaf) {
		m.t.Fatalf("compacted leaf has %d bytes free, live were %d", Leaf(fresh).Free(), m.leaf.Live())
	}
	m.leaf = fresh
}

// split divides a full leaf where SplitPoint says, puts the entry that did not fit into its half, and goes on with one.
func (m *leafModel) split(i int, it item) {
	k := m.leaf.SplitPoint(i, it.entry())
	all := slices.Insert(slices.Clone(m.items), i, it)
	half := len(m.leaf) / 2
	for side, part := range [2][]item{all[:k], all[k:]} {
		l := InitLeaf(make([]byte, len(m.leaf)), 7, testBorn)
		for j := range part {
			if !l.Insert(j, part[j].entry()) {
				m.t.Fatalf("split at %d of %d: half %d does not fit", k, len(all), side)
			}
		}
		if len(part) == 0 || l.Live() < half/4 {
			m.t.Fatalf("split at %d of %d: half %d has %d bytes", k, len(all), side, l.Live())
		}
		if side == m.c.n(2) {
			m.leaf, m.items = l, slices.Clone(part)
			return
		}
	}
}

// divide moves a part of the entries to another leaf and, sometimes, back.
func (m *leafModel) divide() {
	other := newLeafModel(m.t, m.c, len(m.leaf))
	k := m.c.n(len(m.items) + 1)
	size := m.leaf.SizeOf(k, len(m.items))
	if !m.leaf.Move(other.leaf, k, len(m.items)) {
		m.t.Fatal("entries do not fit an empty leaf")
	}
	other.items = slices.Clone(m.items[k:])
	m.items = m.items[:k:k]
	if other.leaf.Live() != size {
		m.t.Fatalf("moved %d bytes, SizeOf said %d", other.leaf.Live(), size)
	}
	m.check()
	other.check()
	switch m.c.n(3) {
	case 0: // back, behind
		j := m.c.n(len(other.items) + 1)
		if fits := other.leaf.SizeOf(0, j) <= m.leaf.Free(); other.leaf.Move(m.leaf, 0, j) != fits {
			m.t.Fatal("move does not agree with the room there is")
		} else if fits {
			m.items = append(m.items, other.items[:j]...)
		}
	case 1: // the rest before them
		j := m.c.n(len(m.items) + 1)
		if fits := m.leaf.SizeOf(j, len(m.items)) <= other.leaf.Free(); m.leaf.MoveFront(other.leaf, j, len(m.items)) != fits {
			m.t.Fatal("move does not agree with the room there is")
		} else if fits {
			other.items = slices.Insert(other.items, 0, m.items[j:]...)
		}
		*m = *other
	}
}

// check compares the leaf with the model in every respect.
func (m *leafModel) check() {
	t, l := m.t, m.leaf
	t.Helper()
	Seal(l)
	if err := Validate(l, IDOf(l)); err != nil {
		var b bytes.Buffer
		Dump(&b, l)
		t.Fatalf("%v\n%s", err, b.String())
	}
	if l.Count() != len(m.items) {
		t.Fatalf("%d entries, want %d", l.Count(), len(m.items))
	}
	for i := range m.items {
		m.checkItem(i)
	}
	m.checkSearch()
}

func (m *leafModel) checkItem(i int) {
	t, l, it := m.t, m.leaf, &m.items[i]
	t.Helper()
	form := FormOf(len(l), len(it.key), it.valLen)
	key, value, bucket, f := l.Item(i)
	want := it.key
	if form == LongKey {
		want = want[:StubSize]
	}
	if !bytes.Equal(key, want) || bucket != it.bucket || f != form || f != l.Form(i) || bucket != l.IsBucket(i) || cap(key) != len(key) {
		t.Fatalf("entry %d is %q %v %v, want %q %v %v", i, key, bucket, f, want, it.bucket, form)
	}
	if l.KeyLen(i) != len(it.key) || l.ValLen(i) != it.valLen || !bytes.Equal(l.Key(i), want) || cap(l.Key(i)) != len(want) {
		t.Fatalf("entry %d has lengths %d and %d, want %d and %d", i, l.KeyLen(i), l.ValLen(i), len(it.key), it.valLen)
	}
	switch form {
	case Inline:
		if value == nil || !bytes.Equal(value, it.value) || !bytes.Equal(l.Value(i), it.value) || cap(value) != len(value) || cap(l.Value(i)) != len(value) || l.RunLen(i) != 0 {
			t.Fatalf("entry %d has value %q, want %q", i, value, it.value)
		}
	case RunValue:
		if value != nil || l.Ref(i) != it.ref || l.RunLen(i) != uint64(it.valLen) {
			t.Fatalf("entry %d has %v of %d", i, l.Ref(i), l.RunLen(i))
		}
	case LongKey:
		if value != nil || l.Ref(i) != it.ref || l.RunLen(i) != uint64(it.valLen)+uint64(len(it.key)) {
			t.Fatalf("entry %d has %v of %d", i, l.Ref(i), l.RunLen(i))
		}
	}
}

// checkSearch looks for keys that are there and keys near them.
func (m *leafModel) checkSearch() {
	l := m.leaf
	keys := [][]byte{chooseKey(m.c, len(l)), {0}, {0xff, 0xff, 0xff, 0xff, 0xff}}
	for i := 0; i < len(m.items); i += 1 + m.c.n(4) {
		keys = append(keys, probes(m.items[i].key)...)
	}
	for _, key := range keys {
		want, has := find(m.items, key)
		i, found, err := l.SearchLong(key, func(i int) (int, error) { return bytes.Compare(m.items[i].key, key), nil })
		if i != want || found != has || err != nil {
			m.t.Fatalf("long search for %q: %d %v %v, want %d %v", key, i, found, err, want, has)
		}
		if l.hasFlag(FlagLong) {
			continue
		}
		if i, found := l.Search(key); i != want || found != has {
			m.t.Fatalf("search for %q: %d %v, want %d %v", key, i, found, want, has)
		}
		if !has {
			want = -1
		}
		if i := l.Find(key); i != want {
			m.t.Fatalf("find %q: %d, want %d", key, i, want)
		}
	}
}

func runLeafModel(t testing.TB, c chooser, pageSize int) {
	m := newLeafModel(t, c, pageSize)
	for c.more() {
		m.step()
		m.check()
	}
}

func TestLeafModel(t *testing.T) {
	c := newSeeded(t, 0)
	for _, size := range []int{4096, 8192, 65536} {
		for range 40 * 4096 / size {
			c.left = 150
			runLeafModel(t, c, size)
		}
	}
}

func FuzzLeafOps(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07"))
	f.Add(bytes.Repeat([]byte("\x00\x02\x03\x01\x02\x02\x00\x07\x09"), 40))
	f.Fuzz(func(t *testing.T, b []byte) { runLeafModel(t, &bytesChooser{b[:min(len(b), 2000)]}, 4096) })
}

// TestSetRef: in each form of entry that has a run, in a leaf with long keys and in one without, SetRef changes the run and nothing
// else.
func TestSetRef(t *testing.T) {
	long := bytes.Repeat([]byte("k"), MaxKey(MinPageSize)+1)
	entries := []Entry{
		{Key: []byte("a"), KeyLen: 1, Value: []byte("inline"), ValLen: 6},
		{Key: []byte("b"), KeyLen: 1, ValLen: 70000, Ref: Ref{10, 3, 77}},
		{Key: bytes.Repeat([]byte("c"), StubSize+9), KeyLen: StubSize + 9, ValLen: 4000, Ref: Ref{11, 4, 78}},
		{Key: long, KeyLen: len(long), ValLen: 5, Ref: Ref{12, 5, 79}},
		{Key: append(bytes.Clone(long[1:]), 'l'), KeyLen: len(long), ValLen: BucketHeaderSize, Bucket: true, Ref: Ref{13, 5, 80}},
	}
	for _, n := range []int{3, len(entries)} { // without long keys, and with
		l := InitLeaf(make([]byte, MinPageSize), 7, testBorn)
		for i, e := range entries[:n] {
			if !l.Insert(i, e) {
				t.Fatalf("entry %d does not fit", i)
			}
		}
		for i := 1; i < n; i++ {
			flags, live, free := FlagsOf(l), l.Live(), l.Free()
			want := Ref{ID: math.MaxUint32 - 20, Born: testBorn, Sum: math.MaxUint64 - uint64(i)}
			l.SetRef(i, want)
			for j, e := range entries[:n] {
				switch e.Ref = l.Entry(j).Ref; {
				case j > 0 && j <= i && e.Ref != (Ref{ID: math.MaxUint32 - 20, Born: testBorn, Sum: math.MaxUint64 - uint64(j)}):
					t.Errorf("entry %d of %d has %v", j, n, e.Ref)
				case j > i && e.Ref != entries[j].Ref:
					t.Errorf("entry %d of %d has %v after a change of entry %d", j, n, e.Ref, i)
				}
				if !bytes.HasPrefix(e.Key, l.Key(j)) || l.KeyLen(j) != e.KeyLen || l.ValLen(j) != e.ValLen || l.IsBucket(j) != e.Bucket {
					t.Errorf("entry %d of %d is another after a change of entry %d", j, n, i)
				}
			}
			if FlagsOf(l) != flags || l.Live() != live || l.Free() != free {
				t.Errorf("entry %d of %d: the leaf's numbers have changed", i, n)
			}
			Seal(l)
			if err := Validate(l, 7); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestLeafAllocations: no operation of a leaf allocates.
func TestLeafAllocations(t *testing.T) {
	l := InitLeaf(make([]byte, MinPageSize), 7, 5)
	other := InitLeaf(make([]byte, MinPageSize), 8, 5)
	long := func(int) (int, error) { return 0, nil }
	e := Entry{Key: []byte("key1"), KeyLen: 4, Value: []byte("value"), ValLen: 5}
	n := testing.AllocsPerRun(100, func() {
		InitLeaf(l, 7, 5)
		l.Insert(0, e)
		l.Replace(0, e)
		l.Search(e.Key)
		l.Find(e.Key)
		l.SearchLong(e.Key, long)
		l.SplitPoint(1, e)
		l.Insert(1, Entry{Key: []byte("key2"), KeyLen: 4})
		l.Move(other, 1, 2)
		l.CompactInto(other)
		l.Remove(0)
		Seal(l)
		if Validate(l, 7) != nil {
			t.Fatal("invalid")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSearchLongError: an error ends the search.
func TestSearchLongError(t *testing.T) {
	l := InitLeaf(make([]byte, MinPageSize), 7, 5)
	key := bytes.Repeat([]byte("k"), 600)
	l.Insert(0, Entry{Key: key, KeyLen: 600, Ref: scriptRef})
	b := InitBranch(make([]byte, MinPageSize), 7, 5, 1)
	b.Insert(0, Sep{}, 10, 1, false)
	b.Insert(1, Sep{Key: key, Len: 600, Ref: scriptRef}, 11, 1, false)
	fail := func(int) (int, error) { return 0, io.EOF }
	if _, _, err := l.SearchLong(key, fail); err != io.EOF {
		t.Errorf("leaf: %v", err)
	}
	if _, err := b.SearchLong(key, fail); err != io.EOF {
		t.Errorf("branch: %v", err)
	}
	for _, other := range []string{"a", "kk", "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkl", "l"} { // decided by the stub
		if _, found, err := l.SearchLong([]byte(other), fail); found || (err != nil) != (len(other) > StubSize) {
			t.Errorf("leaf, %q: %v %v", other, found, err)
		}
		if _, err := b.SearchLong([]byte(other), fail); (err != nil) != (len(other) > StubSize) {
			t.Errorf("branch, %q: %v", other, err)
		}
	}
}

// TestTrend: the trend counts inserts at one end, and forgets them with the first one elsewhere.
func TestTrend(t *testing.T) {
	l := InitLeaf(make([]byte, MaxPageSize), 7, 5)
	at := func(i int) int {
		l.Insert(i, Entry{Key: []byte("k"), KeyLen: 1})
		return Trend(l)
	}
	at(0)
	for n := 1; n < 300; n++ {
		if got := at(n); got != min(n, 127) {
			t.Fatalf("%d after %d inserts at the end", got, n)
		}
	}
	for n := 1; n < 300; n++ {
		if got := at(0); got != -min(n, 127) {
			t.Fatalf("%d after %d inserts at the front", got, n)
		}
	}
	if got := at(5); got != 0 {
		t.Errorf("%d after an insert in the middle", got)
	}
	at(0)
	if l.Remove(3); Trend(l) != 0 {
		t.Errorf("%d after a removal", Trend(l))
	}
}

// TestLastByte: every way to put an entry in works to the last byte of the gap, and not beyond.
func TestLastByte(t *testing.T) {
	for _, more := range []int{0, 1} {
		entry := func(k string, n int) Entry {
			return Entry{Key: []byte(k), KeyLen: 1, Value: make([]byte, n), ValLen: n}
		}
		l := InitLeaf(make([]byte, MinPageSize), 7, 5)
		l.Insert(0, entry("a", 2000))
		l.Insert(1, entry("b", 100))
		page := bytes.Clone(l)
		from := InitLeaf(make([]byte, MinPageSize), 8, 5)
		last := entry("c", l.Free()-leafSize-1+more)
		from.Insert(0, last)
		for name, put := range map[string]func() bool{
			"insert":  func() bool { return l.Insert(2, last) },
			"copy":    func() bool { return from.CopyRange(l, 2, 0, 1) },
			"replace": func() bool { return l.Replace(1, entry("b", l.Free()-1+more)) },
		} {
			copy(l, page)
			if put() != (more == 0) {
				t.Errorf("%s with %d bytes more than fit: %v", name, more, more != 0)
			}
			if more == 0 && l.Free() != 0 {
				t.Errorf("%s left %d bytes", name, l.Free())
			}
			mustValidate(t, l)
		}
	}
}
