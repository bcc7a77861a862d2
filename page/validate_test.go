package page

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// samples returns valid pages of every make, numbered 7.
func samples(t testing.TB) [][]byte {
	t.Helper()
	c := &bytesChooser{bytes.Repeat([]byte("\x03\x00\x51\x02\x90\x0b\x07\xa1\x01\x33"), 4000)}
	var pages [][]byte
	for range 5 {
		l := newLeafModel(t, c, MinPageSize)
		b := newBranchModel(t, c, MinPageSize)
		SetID(b.branch, 7)
		for range 12 {
			l.step()
			b.step()
		}
		pages = append(pages, l.leaf)
		if len(b.children) > 0 {
			pages = append(pages, b.branch)
		}
		c.n(1 << 16)
	}
	for _, p := range pages {
		Seal(p)
		if err := Validate(p, 7); err != nil {
			t.Fatal(err)
		}
	}
	return pages
}

// exercise calls everything on a page that Validate has passed, whatever is in it.
func exercise(t testing.TB, p []byte) {
	if err := Dump(io.Discard, p); err != nil {
		t.Fatal(err)
	}
	if KindOf(p) == KindLeaf {
		exerciseLeaf(t, p)
		exerciseLeafEdits(t, p)
	} else {
		exerciseBranch(t, p)
		exerciseBranchEdits(t, p)
	}
}

func exerciseLeaf(t testing.TB, l Leaf) {
	var keys [][]byte
	for i := range l.Count() {
		key, value, bucket, form := l.Item(i)
		e := l.Entry(i)
		if !bytes.Equal(key, l.Key(i)) || e.KeyLen != l.KeyLen(i) || e.ValLen != l.ValLen(i) || bucket != l.IsBucket(i) || form != l.Form(i) {
			t.Fatalf("accessors do not agree about entry %d", i)
		}
		keys = append(keys, key)
		if form != Inline {
			if l.Ref(i) != e.Ref || l.RunLen(i) == 0 {
				t.Fatalf("run of entry %d", i)
			}
		} else if bucket {
			if _, image := DecodeBucket(value); image != nil {
				exerciseLeaf(t, image)
			}
		} else if !bytes.Equal(value, l.Value(i)) {
			t.Fatalf("value of entry %d", i)
		}
	}
	for _, k := range keys {
		for _, key := range probes(k) {
			exerciseSearch(t, l, keys, key)
		}
	}
}

func exerciseSearch(t testing.TB, l Leaf, keys [][]byte, key []byte) {
	t.Helper()
	if l.hasFlag(FlagLong) {
		for _, c := range []int{-1, 0, 1} {
			if i, _, _ := l.SearchLong(key, func(int) (int, error) { return c, nil }); i < 0 || i > len(keys) {
				t.Fatalf("search for %q gives %d", key, i)
			}
		}
		return
	}
	want, has := slices.BinarySearchFunc(keys, key, bytes.Compare)
	if i, found := l.Search(key); i != want || found != has {
		t.Fatalf("search for %q: %d %v, want %d %v", key, i, found, want, has)
	}
	if !has {
		want = -1
	}
	if i := l.Find(key); i != want {
		t.Fatalf("find %q: %d, want %d", key, i, want)
	}
}

func mustValidate(t testing.TB, p []byte) {
	t.Helper()
	Seal(p)
	if err := Validate(p, IDOf(p)); err != nil {
		t.Fatal(err)
	}
}

func exerciseLeafEdits(t testing.TB, page Leaf) {
	n := page.Count()
	l := Leaf(make([]byte, len(page)))
	page.CompactInto(l)
	mustValidate(t, l)
	if l.Live() != page.Live() || l.Free() != Capacity(len(l))-l.Live() {
		t.Fatalf("%d bytes live, %d after compaction", page.Live(), l.Live())
	}
	if _, ok := l.ImageSize(); ok && n > 0 {
		image := Leaf(l.AppendImage(nil))
		value := append(encodeBucket(BucketHeader{Items: uint64(n)}), image...)
		if err := ValidateBucket(value, len(l)); err != nil {
			t.Fatal(err)
		}
		exerciseLeaf(t, image)
	}
	l = Leaf(bytes.Clone(page))
	l[offTrend] = page[offTrend]
	key := []byte("middle")
	if i, _, _ := l.SearchLong(key, func(int) (int, error) { return 1, nil }); !l.hasFlag(FlagLong) {
		e := Entry{Key: key, KeyLen: len(key), Value: key, ValLen: len(key)}
		if n > 0 {
			if k := l.SplitPoint(i, e); k < 1 || k > n {
				t.Fatalf("split at %d of %d", k, n+1)
			}
		}
		if j := l.Find(key); j >= 0 {
			l.Replace(j, e)
		} else {
			l.Insert(i, e)
		}
		mustValidate(t, l)
	}
	other := InitLeaf(make([]byte, len(page)), 8, BornOf(page))
	if !l.Move(other, l.Count()/2, l.Count()) {
		t.Fatal("half a leaf does not fit a leaf")
	}
	mustValidate(t, other)
	mustValidate(t, l)
	for l.Count() > 0 {
		l.Remove(l.Count() / 2)
		mustValidate(t, l)
	}
}

func exerciseBranch(t testing.TB, b Branch) {
	n := b.Count()
	var seps [][]byte
	var total uint64
	for i := range n {
		if b.ItemsBefore(i) != total || b.Child(i) < FirstID {
			t.Fatalf("%d items before child %d, want %d", b.ItemsBefore(i), i, total)
		}
		total += b.Items(i)
		if i == 0 {
			continue
		}
		sep := b.Separator(i, nil)
		if s := b.Sep(i, nil); !bytes.Equal(s.Key, sep) || s.Len != b.SepLen(i) || s.Len < len(sep) {
			t.Fatalf("separator %d is %q of %d, or %q of %d", i, sep, b.SepLen(i), s.Key, s.Len)
		}
		seps = append(seps, sep)
	}
	if b.Total() != total {
		t.Fatalf("%d items, want %d", b.Total(), total)
	}
	if i, _ := b.Locate(total); i != n-1 && total > 0 {
		t.Fatalf("item behind the last is in child %d", i)
	}
	for _, s := range seps {
		for _, key := range probes(s) {
			want, has := slices.BinarySearchFunc(seps, key, bytes.Compare)
			if has {
				want++
			}
			if !b.hasFlag(FlagLong) && b.Search(key) != want {
				t.Fatalf("search for %q: %d, want %d", key, b.Search(key), want)
			}
			for _, c := range []int{-1, 0, 1} {
				if i, _ := b.SearchLong(key, func(int) (int, error) { return c, nil }); i < 0 || i >= n {
					t.Fatalf("search for %q gives %d", key, i)
				}
			}
		}
	}
}

func exerciseBranchEdits(t testing.TB, page Branch) {
	n := page.Count()
	b := Branch(make([]byte, len(page)))
	page.CompactInto(b)
	mustValidate(t, b)
	exerciseBranch(t, b)
	b = Branch(bytes.Clone(page))
	b.SetRefs(0, !b.Refs(0))
	mustValidate(t, b)
	other := InitBranch(make([]byte, len(page)), 8, BornOf(page), LevelOf(page))
	sep := Sep{Key: []byte("middle"), Len: 6}
	if i, err := b.SearchLong(sep.Key, func(int) (int, error) { return 0, io.EOF }); err == nil && (i == 0 || b.SepLen(i) != 6 || string(b.Separator(i, nil)) != "middle") {
		if !b.Insert(i+1, sep, FirstID, 1, false) && n > 3 {
			b.Split(other, i+1, sep, FirstID, 1, false, nil)
			mustValidate(t, other)
		}
		mustValidate(t, b)
	}
	other = InitBranch(make([]byte, len(page)), 8, BornOf(page), LevelOf(page))
	half := b.Count() / 2
	if !b.Move(other, half, b.Count(), Sep{}) {
		t.Fatal("half a branch does not fit a branch")
	}
	mustValidate(t, other)
	exerciseBranch(t, other)
	for b.Count() > 1 {
		b.Remove(b.Count() / 2)
		mustValidate(t, b)
	}
}

// FuzzValidate: whatever Validate passes can be used without a panic, and searches find what a look at every key finds.
// The page begins with front and ends with back; kind, number and checksum are put right.
func FuzzValidate(f *testing.F) {
	for _, p := range samples(f) {
		size := leafSize
		if KindOf(p) == KindBranch {
			size = branchSize
		}
		f.Add(p[:HeaderSize+size*CountOf(p)], p[len(p)-heapOf(p):])
	}
	f.Fuzz(func(t *testing.T, front, back []byte) {
		p := make([]byte, MinPageSize)
		copy(p[max(0, len(p)-len(back)):], back)
		copy(p, front)
		SetID(p, 7)
		Seal(p)
		if err := Validate(p, 7); err == nil {
			exercise(t, p)
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("untyped error %v", err)
		} else if err := Dump(io.Discard, p); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamage changes every byte of pages in several ways. As it is, Validate must see it; with the checksum put right, it
// must see it or the page must still be fit for use.
func TestDamage(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 13
	}
	passed, seen := 0, 0
	for _, p := range samples(t) {
		used := HeaderSize + branchSize*CountOf(p)
		for i := 0; i < len(p); i += step {
			if i > used && i < len(p)-heapOf(p) && i%97 != 0 {
				continue // the gap
			}
			for _, to := range []byte{0, 0xff, p[i] ^ 1, p[i] + 1, p[i] ^ 0x80} {
				if to == p[i] {
					continue
				}
				q := bytes.Clone(p)
				q[i] = to
				if err := Validate(q, 7); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("byte %d changed from %#x to %#x unseen", i, p[i], to)
				}
				Seal(q)
				if err := Validate(q, 7); err != nil {
					seen++
				} else {
					passed++
					exercise(t, q)
				}
			}
		}
	}
	if seen == 0 || passed == 0 {
		t.Errorf("%d seen, %d passed", seen, passed)
	}
}

func TestValidateSizes(t *testing.T) {
	for _, n := range []int{0, 1, HeaderSize, 4095, 4097, 12288, 131072} {
		if err := Validate(make([]byte, n), 7); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for n := MinPageSize; n <= MaxPageSize; n *= 2 {
		l := InitLeaf(make([]byte, n), 7, 1)
		mustValidate(t, l)
		if l.Free() != Capacity(n) || Validate(l, 8) == nil {
			t.Errorf("page of %d bytes: %d free", n, l.Free())
		}
	}
}

func TestDumpTakesAnything(t *testing.T) {
	for _, p := range [][]byte{nil, {1}, make([]byte, HeaderSize-1), make([]byte, HeaderSize), []byte(magic), bytes.Repeat([]byte{0xff}, 5000)} {
		var b bytes.Buffer
		if err := Dump(&b, p); err != nil || b.Len() == 0 {
			t.Errorf("%d bytes: %q, %v", len(p), b.String(), err)
		}
	}
}
