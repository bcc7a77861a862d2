package page

import (
	"bytes"
	"fmt"
)

// Invariants of ARCHITECTURE.md that one page can break.
const (
	invariantPage  = 2 // checksum, id, kind, level, born and all that the header says are right
	invariantOrder = 3 // keys ascend
	invariantMeta  = 5 // a meta slot says what was durable before it
)

// Validate checks everything in a node page that can be told from the page alone: checksum, number, kind, level, counts,
// offsets, lengths, order of keys, heads and prefix, flags, images of inline buckets. What it has passed may be trusted:
// no method of Leaf or Branch panics on it when called with indices in range (Search and Find only without FlagLong). The
// error is a *CorruptError.
func Validate(p []byte, id ID) error {
	v := validator{p: p, id: id}
	if !ValidSize(len(p)) {
		return v.bad(-1, invariantPage, "%d bytes are not a page", len(p))
	}
	if sum := checksum(p); sum != le.Uint64(p[offChecksum:]) {
		return v.bad(offChecksum, invariantPage, "checksum is %016x, the page says %016x", sum, le.Uint64(p[offChecksum:]))
	}
	if got := IDOf(p); got != id {
		return v.bad(offID, invariantPage, "page says that it is page %d", got)
	}
	if BornOf(p) == 0 {
		return v.bad(offBorn, invariantPage, "page was born in no transaction")
	}
	if FlagsOf(p)&^allFlags != 0 {
		return v.bad(offFlags, invariantPage, "unknown flags %#x", FlagsOf(p))
	}
	switch level := LevelOf(p); KindOf(p) {
	case KindLeaf:
		if level != 0 {
			return v.bad(offLevel, invariantPage, "leaf has level %d", level)
		}
		return v.leaf(len(p))
	case KindBranch:
		if level == 0 || level >= MaxLevel {
			return v.bad(offLevel, invariantPage, "branch has level %d", level)
		}
		return v.branch()
	default:
		return v.bad(offKind, invariantPage, "kind %d is neither leaf nor branch", KindOf(p))
	}
}

// ValidateBucket checks the value of a bucket's entry, image included, for a page of the given size. The error is a
// *CorruptError without a page number, whose offset is within the value.
func ValidateBucket(value []byte, pageSize int) error {
	v := validator{}
	return v.bucket(value, pageSize)
}

// validator is one page, or one image in it, that is being validated.
type validator struct {
	p    []byte
	id   ID
	base int // offset of p in the page
}

func (v *validator) bad(off, invariant int, reason string, args ...any) error {
	if off >= 0 {
		off += v.base
	}
	return &CorruptError{Page: v.id, Offset: off, Invariant: invariant, Reason: fmt.Sprintf(reason, args...)}
}

// sizes checks what the header says about room, for entries of size bytes in the arrays.
func (v *validator) sizes(size int) error {
	p := v.p
	n, heap, garbage := CountOf(p), heapOf(p), garbageOf(p)
	if heap > len(p)-HeaderSize {
		return v.bad(offHeap, invariantPage, "heap of %d bytes does not fit", heap)
	}
	if n*size > len(p)-HeaderSize-heap {
		return v.bad(offCount, invariantPage, "slot count %d does not fit", n)
	}
	if garbage > heap {
		return v.bad(offGarbage, invariantPage, "%d bytes of garbage in a heap of %d", garbage, heap)
	}
	return nil
}

// used checks that header and entries agree on the flags and on the bytes in use. Overlapping entries are harmless to
// who reads; it is by this sum that they cannot outgrow a page when they are copied.
func (v *validator) used(live int, flags uint8) error {
	p := v.p
	if heap := heapOf(p); live+garbageOf(p) != heap {
		return v.bad(offGarbage, invariantPage, "entries take %d bytes of a heap of %d with %d bytes of garbage", live, heap, garbageOf(p))
	}
	if flags != FlagsOf(p) {
		return v.bad(offFlags, invariantPage, "flags are %#x, entries ask for %#x", FlagsOf(p), flags)
	}
	return nil
}

// leaf checks a leaf, or an image within a page of pageSize bytes.
func (v *validator) leaf(pageSize int) error {
	if err := v.sizes(leafSize); err != nil {
		return err
	}
	l := Leaf(v.p)
	n, pre := CountOf(l), prefixOf(l)
	if n == 0 && pre != 0 {
		return v.bad(offPrefix, invariantPage, "prefix of %d bytes of no keys", pre)
	}
	if pre > longPrefix && l.hasFlag(FlagLong) {
		return v.bad(offPrefix, invariantPage, "prefix of %d bytes beside a long key", pre)
	}
	var flags uint8
	live := 0
	heads, slots := l.heads(), l[l.slotAt(0)-2:]
	start, inline, longest := l.heapStart(), MaxEntry(pageSize)-leafSize, MaxKey(pageSize)
	var prefix []byte
	last := int64(-1) // head before
	for i := range n {
		// Most entries are plain and in order, and this is enough to see it. The rest is looked at with care.
		s := loadSlot(slots[slotSize*i:])
		off, keyLen := s.off(), s.keyLen()
		size := keyLen + s.inline() // more than can be inline where there is a run
		if s.bucket() || keyLen > longest || uint(size) > uint(inline) || off < start || off+size > len(l) {
			f, err := v.entry(i, pageSize)
			if err != nil {
				return err
			}
			flags |= f
			size, keyLen = s.heapSize(l), s.keyIn(l)
		}
		live += size
		key := l[off : off+keyLen]
		if i == 0 {
			prefix = key[:min(pre, keyLen)]
		}
		head := int64(le.Uint32(heads[4*i:]))
		if keyLen < pre || string(key[:pre]) != string(prefix) || int64(headOf(key[pre:])) != head || head <= last {
			if err := v.key(i); err != nil {
				return err
			}
		}
		last = head
	}
	return v.used(live, flags)
}

// entry checks the slot of entry i and what is not the key, and returns the flags that it asks for.
func (v *validator) entry(i, pageSize int) (flags uint8, err error) {
	l := Leaf(v.p)
	s, at := l.slot(i), l.slotAt(i)
	form := Inline
	if s.inline() == hasRun {
		form = FormOf(pageSize, s.keyLen(), pageSize) // the value's length decides no more
	}
	flags = entryFlags(form, s.bucket())
	switch {
	case s.keyLen() > MaxKeyLen:
		return 0, v.bad(at+2, invariantPage, "key of %d bytes", s.keyLen())
	case form == Inline && FormOf(pageSize, s.keyLen(), s.inline()) != Inline:
		return 0, v.bad(at+4, invariantPage, "key of %d bytes and value of %d have no run", s.keyLen(), s.inline())
	case flags&^FlagsOf(l) != 0: // from here on the leaf's own methods know the form
		return 0, v.bad(offFlags, invariantPage, "flags are %#x, entry %d asks for %#x", FlagsOf(l), i, flags)
	case s.off() < l.heapStart():
		return 0, v.bad(at, invariantPage, "entry at %d lies before the heap", s.off())
	case s.off()+s.heapSize(l) > len(l):
		return 0, v.bad(at, invariantPage, "entry at %d ends behind the page", s.off())
	}
	if form != Inline {
		at := s.off() + s.keyIn(l)
		switch n := s.valLen(l); {
		case uint(n) > MaxValueLen: // of 32 bits it may be below zero
			return 0, v.bad(at+RefSize, invariantPage, "value of %d bytes", uint(n))
		case FormOf(pageSize, s.keyLen(), n) != form:
			return 0, v.bad(at+RefSize, invariantPage, "key of %d bytes and value of %d have a run", s.keyLen(), n)
		}
		if err := v.ref(at, l.Ref(i), l.RunLen(i), pageSize); err != nil {
			return 0, err
		}
	}
	if s.bucket() {
		return flags, v.bucketEntry(i, form, pageSize)
	}
	return flags, nil
}

func (v *validator) bucketEntry(i int, form Form, pageSize int) error {
	s := Leaf(v.p).slot(i)
	if form == Inline {
		off := s.off() + s.keyLen()
		sub := validator{id: v.id, base: v.base + off}
		return sub.bucket(v.p[off:off+s.inline()], pageSize)
	}
	// The value of a bucket never needs a run, so this is a long key, behind which the value lies unseen.
	l := Leaf(v.p)
	if n := s.valLen(l); n < BucketHeaderSize || n > BucketHeaderSize+MaxImage(pageSize) {
		return v.bad(s.off()+s.keyIn(l)+RefSize, invariantPage, "bucket has a value of %d bytes", n)
	}
	return nil
}

// ref checks the reference at off to a run of n bytes.
func (v *validator) ref(off int, r Ref, n uint64, pageSize int) error {
	switch {
	case r.ID < FirstID:
		return v.bad(off, invariantPage, "run lies in meta slot %d", r.ID)
	case uint64(r.ID)+RunPages(n, pageSize) > 1<<32:
		return v.bad(off, invariantPage, "run of %d bytes at page %d ends behind the last page number", n, r.ID)
	case r.Born == 0 || r.Born > BornOf(v.p):
		return v.bad(off+4, invariantPage, "run is of transaction %d, its page of %d", r.Born, BornOf(v.p))
	}
	return nil
}

// key checks key i: that it has the prefix and the head that it should, and comes after key i-1.
func (v *validator) key(i int) error {
	l := Leaf(v.p)
	k, pre := l.Key(i), prefixOf(l)
	if i == 0 && len(k) < pre {
		return v.bad(offPrefix, invariantPage, "prefix of %d bytes, the first key has %d", pre, len(k))
	}
	if len(k) < pre || string(k[:pre]) != string(l.Key(0)[:pre]) {
		return v.bad(l.slot(i).off(), invariantPage, "key %d has not the prefix of %d bytes", i, pre)
	}
	h := headOf(k[pre:])
	if h != l.head(i) {
		return v.bad(HeaderSize+4*i, invariantPage, "head of key %d is %08x, should be %08x", i, l.head(i), h)
	}
	if i == 0 || h > l.head(i-1) {
		return nil
	}
	if h < l.head(i-1) || !ascend(l.Key(i-1), l.Form(i-1) == LongKey, k, l.Form(i) == LongKey) {
		return v.bad(l.slot(i).off(), invariantOrder, "key %d is not above the one before", i)
	}
	return nil
}

// ascend reports whether a can be below b, as far as is known of long ones, which are stubs here.
func ascend(a []byte, aLong bool, b []byte, bLong bool) bool {
	switch {
	case aLong && bLong:
		return bytes.Compare(a, b) <= 0
	case aLong:
		c, known := compareKnown(a, true, b)
		return !known || c < 0
	case bLong:
		c, known := compareKnown(b, true, a)
		return !known || c > 0
	}
	return bytes.Compare(a, b) < 0
}

// bucket checks the value of a bucket's entry; v.base is its offset.
func (v *validator) bucket(value []byte, pageSize int) error {
	if len(value) < BucketHeaderSize {
		return v.bad(0, invariantPage, "bucket has a value of %d bytes", len(value))
	}
	if off, reason := impossibleBucket(value); reason != "" {
		return v.bad(off, invariantPage, "%s", reason)
	}
	h, image := DecodeBucket(value)
	if image == nil {
		if h.Root == 0 && h.Items != 0 {
			return v.bad(8, invariantPage, "bucket of %d items has neither root nor image", h.Items)
		}
		return nil
	}
	if h.Root != 0 {
		return v.bad(BucketHeaderSize, invariantPage, "bucket has both root and image")
	}
	if len(image) <= HeaderSize || len(image) > MaxImage(pageSize) {
		return v.bad(BucketHeaderSize, invariantPage, "image of %d bytes", len(image))
	}
	if n := CountOf(image); n == 0 || h.Items != uint64(n) {
		return v.bad(8, invariantPage, "bucket of %d items has an image of %d", h.Items, n)
	}
	sub := validator{p: image, id: v.id, base: v.base + BucketHeaderSize}
	return sub.image(pageSize)
}

// image checks an image. That its flags are zero keeps runs and buckets out.
func (v *validator) image(pageSize int) error {
	l := Leaf(v.p)
	n := CountOf(l)
	var want [HeaderSize]byte
	InitLeaf(want[:], 0, 0)
	setCount(want[:], n)
	setPrefix(want[:], prefixOf(l))
	setHeap(want[:], max(len(l)-HeaderSize-leafSize*n, 0))
	if off := CommonLen(want[:], l); off < HeaderSize {
		return v.bad(off, invariantPage, "header of the image is not that of an image")
	}
	return v.leaf(pageSize)
}

// branch checks a branch.
func (v *validator) branch() error {
	if err := v.sizes(branchSize); err != nil {
		return err
	}
	b := Branch(v.p)
	n, pre := CountOf(b), prefixOf(b)
	switch {
	case n == 0:
		return v.bad(offCount, invariantPage, "branch has no children")
	case pre > heapOf(b) || n == 1 && pre > 0:
		return v.bad(offPrefix, invariantPage, "prefix of %d bytes does not fit", pre)
	case pre > longPrefix && b.hasFlag(FlagLong):
		return v.bad(offPrefix, invariantPage, "prefix of %d bytes beside a long separator", pre)
	case b.head(0) != 0 || b.off(0) != 0:
		return v.bad(HeaderSize, invariantPage, "first child has a separator")
	}
	var flags uint8
	live := pre
	for i := range n {
		if c := b.Child(i); c < FirstID || c == v.id {
			return v.bad(HeaderSize+childSize*i+4, invariantPage, "child %d is page %d", i, c)
		}
		if b.Refs(i) {
			flags |= FlagRefs
		}
		if i == 0 {
			continue
		}
		f, err := v.separator(i)
		if err != nil {
			return err
		}
		flags |= f
		live += b.sepHeap(i)
	}
	return v.used(live, flags)
}

// separator checks separator i, and that it comes after the one before. It returns the flag that it asks for.
func (v *validator) separator(i int) (flags uint8, err error) {
	b := Branch(v.p)
	off, pre, end := b.off(i), prefixOf(b), len(b)-prefixOf(b)
	if off <= 4 {
		if b.head(i)<<(8*off) != 0 {
			return 0, v.bad(HeaderSize+childSize*i, invariantPage, "head %08x of separator %d has more than %d bytes", b.head(i), i, off)
		}
		if pre+off == 0 || pre+off > MaxKey(len(b)) {
			return 0, v.bad(b.offAt(i), invariantPage, "separator %d has %d bytes", i, pre+off)
		}
		return 0, v.sepOrder(i)
	}
	if off < b.heapStart() || off+2 > end {
		return 0, v.bad(b.offAt(i), invariantPage, "separator at %d does not lie in the heap", off)
	}
	n := int(le.Uint16(b[off:]))
	if n == longSepMark {
		if err := v.longSep(i, off, end); err != nil {
			return 0, err
		}
		return FlagLong, v.sepOrder(i)
	}
	if n < 5 || pre+n > MaxKey(len(b)) || off+2+n-4 > end {
		return 0, v.bad(off, invariantPage, "separator %d has %d bytes behind the prefix", i, n)
	}
	return 0, v.sepOrder(i)
}

// longSep checks a long separator at off of a heap that ends before end.
func (v *validator) longSep(i, off, end int) error {
	b := Branch(v.p)
	if !b.hasFlag(FlagLong) {
		return v.bad(offFlags, invariantPage, "separator %d is a long one, the flags say there is none", i)
	}
	if off+longSepSize > end {
		return v.bad(off, invariantPage, "separator at %d ends behind the heap", off)
	}
	n := b.SepLen(i)
	if n <= MaxKey(len(b)) || n > MaxKeyLen {
		return v.bad(off+2, invariantPage, "long separator has %d bytes", n)
	}
	if err := v.ref(off+4, b.SepRef(i), uint64(n), len(b)); err != nil {
		return err
	}
	stub, pre := b.stub(i), prefixOf(b)
	if string(stub[:pre]) != string(b.prefix()) {
		return v.bad(off+4+RefSize, invariantPage, "separator %d has not the prefix of %d bytes", i, pre)
	}
	if h := headOf(stub[pre:]); h != b.head(i) {
		return v.bad(HeaderSize+childSize*i, invariantPage, "head of separator %d is %08x, should be %08x", i, b.head(i), h)
	}
	return nil
}

// sepOrder checks that separator i comes after the one before. Both have been checked otherwise.
func (v *validator) sepOrder(i int) error {
	b := Branch(v.p)
	if i == 1 || b.head(i) > b.head(i-1) {
		return nil
	}
	if b.head(i) == b.head(i-1) {
		var x, y [64]byte
		prev, sep := b.Separator(i-1, x[:0]), b.Separator(i, y[:0])
		if ascend(prev, b.IsLong(i-1), sep, b.IsLong(i)) {
			return nil
		}
	}
	return v.bad(b.offAt(i), invariantOrder, "separator %d is not above the one before", i)
}
