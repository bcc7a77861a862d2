package page

import "bytes"

// Leaf is a page of keys with their values, in ascending order of the keys.
//
//	32       u32 heads[count]   the numeric value of the head (see heads.go)
//	         slots[count]       6 bytes each:
//	             0 u16 offset of the entry in the heap
//	             2 u16 length of the whole key, less one
//	             4 u16 bits 0 to 14: length of the value, 0x7fff: it has a run. bit 15: the entry is a bucket
//	         gap
//	         heap               to the page's end, filled downwards
//
// Entries in the heap begin with the key, which is there whole, prefix included, because slices of it are handed out.
// The lengths alone decide what follows (Form). For example, after 32 bytes of header, the entries a=1 and b=22 in a
// page of 4096 bytes:
//
//	  32  00 00 00 61  00 00 00 62              heads of a and b, prefix 0
//	  40  fe 0f 00 00 01 00  fb 0f 00 00 02 00  at 4094 and 4091, keys of 1, values of 1 and 2
//	4091  62 32 32  61 31                       b 22, a 1
//
// A leaf need not be a page: an image, a small bucket inside its parent's leaf, is one that is as long as it has to be.
// All its entries are Inline.
type Leaf []byte

// Form tells how an entry of a leaf is kept. The lengths of key and value decide it alone.
type Form uint8

// The forms of an entry.
const (
	Inline   Form = iota // heap: key, value
	RunValue             // heap: key, Ref, u32 length of the value; the run holds the value
	LongKey              // heap: the first StubSize bytes of the key, Ref, u32 length of the value; the run holds the key, then the value
)

// String returns the form in words.
func (f Form) String() string { return [...]string{"inline", "run", "long key"}[f] }

// StubSize is the number of bytes of a long key that lie in the page.
const StubSize = 32

// longPrefix is the longest prefix in a page with FlagLong: prefix and head lie within the stub.
const longPrefix = StubSize - 4

const (
	slotSize = 6
	leafSize = 4 + slotSize // of head and slot

	// hasRun stands in a slot for the length of a value that has a run. Those of others are shorter: at most half a page, less
	// head, slot and a byte of key.
	hasRun = 1<<15 - 1

	tailSize = RefSize + 4 // of what follows the key, or its stub, where there is a run: the Ref and the value's length
)

// InitLeaf makes p an empty leaf. Only the header is written.
func InitLeaf(p []byte, id ID, born TxID) Leaf {
	initNode(p, id, born, KindLeaf, 0)
	return Leaf(p)
}

// FormOf returns the form of an entry in a page of the given size.
func FormOf(pageSize, keyLen, valLen int) Form {
	switch {
	case keyLen > MaxKey(pageSize):
		return LongKey
	case uint(leafSize+keyLen)+uint(valLen) > uint(MaxEntry(pageSize)):
		return RunValue
	}
	return Inline
}

// EntrySize returns the bytes that an entry takes in a leaf, slot included: what Live grows by and what Insert needs
// Free to be.
func EntrySize(pageSize, keyLen, valLen int) int {
	return leafSize + heapSize(FormOf(pageSize, keyLen, valLen), keyLen, valLen)
}

func heapSize(f Form, keyLen, valLen int) int {
	switch f {
	case Inline:
		return keyLen + valLen
	case RunValue:
		return keyLen + tailSize
	default:
		return StubSize + tailSize
	}
}

// Entry is what Insert and Replace put into a leaf. The lengths decide the form.
type Entry struct {
	Key    []byte // the whole key; in the form LongKey at least its first StubSize bytes
	KeyLen int    // length of the whole key
	Value  []byte // the value in the form Inline, ignored otherwise
	ValLen int    // length of the value; of an Inline entry len(Value)
	Bucket bool   // the value is that of a bucket
	Ref    Ref    // in the forms RunValue and LongKey
}

// slot is a slot as one number of 48 bits.
type slot uint64

func makeSlot(off int, form Form, e *Entry) slot {
	n := hasRun
	if form == Inline {
		n = e.ValLen
	}
	s := slot(off) | slot(e.KeyLen-1)<<16 | slot(n)<<32
	if e.Bucket {
		s |= 1 << 47
	}
	return s
}

// loadSlot reads the slot that b has behind its first two bytes. There always are two, of a head or another slot: reading them along, and six bytes as
// one number, makes a scan a tenth faster than reading four and two.
func loadSlot(b []byte) slot { return slot(le.Uint64(b) >> 16) }

func (s slot) off() int     { return int(s & 0xffff) }
func (s slot) keyLen() int  { return int(s>>16&0xffff) + 1 }
func (s slot) inline() int  { return int(s >> 32 & hasRun) } // length of an Inline value; hasRun: it is not Inline
func (s slot) bucket() bool { return s>>47 != 0 }

// form needs the length of a page only where there is a run, which is never in an image, whose length says nothing.
func (s slot) form(l Leaf) Form {
	switch {
	case s.inline() != hasRun:
		return Inline
	case s.keyLen() > MaxKey(len(l)):
		return LongKey
	}
	return RunValue
}

func (s slot) heapSize(l Leaf) int { return heapSize(s.form(l), s.keyLen(), s.inline()) }

// keyIn returns the length of what of the key lies in the page.
func (s slot) keyIn(l Leaf) int {
	if l[offFlags]&FlagLong != 0 && s.form(l) == LongKey {
		return StubSize
	}
	return s.keyLen()
}

// valLen returns the length of the value, wherever that is.
func (s slot) valLen(l Leaf) int {
	if n := s.inline(); n != hasRun {
		return n
	}
	return int(le.Uint32(l[s.off()+s.keyIn(l)+RefSize:]))
}

func (l Leaf) slotAt(i int) int     { return HeaderSize + 4*CountOf(l) + slotSize*i }
func (l Leaf) slot(i int) slot      { return loadSlot(l[l.slotAt(i)-2:]) }
func (l Leaf) head(i int) uint32    { return le.Uint32(l[HeaderSize+4*i:]) }
func (l Leaf) heads() []byte        { return l[HeaderSize : HeaderSize+4*CountOf(l)] }
func (l Leaf) heapStart() int       { return len(l) - heapOf(l) }
func (l Leaf) hasFlag(f uint8) bool { return l[offFlags]&f != 0 }

// KeyAt returns where in the page key i lies, or the stub of it, for reports of damage.
func (l Leaf) KeyAt(i int) int { return l.slot(i).off() }

// RefAt returns where in the page what follows the key of entry i lies, or the stub of it: the reference to a run, or the value.
func (l Leaf) RefAt(i int) int {
	s := l.slot(i)
	return s.off() + s.keyIn(l)
}

// Count returns the number of entries.
func (l Leaf) Count() int { return CountOf(l) }

// Key returns the key of entry i, of a long one its first StubSize bytes. The slice has no spare capacity.
func (l Leaf) Key(i int) []byte {
	s := l.slot(i)
	off := s.off()
	end := off + s.keyIn(l)
	return l[off:end:end]
}

// KeyLen returns the length of the whole key of entry i.
func (l Leaf) KeyLen(i int) int { return l.slot(i).keyLen() }

// ValLen returns the length of the value of entry i.
func (l Leaf) ValLen(i int) int { return l.slot(i).valLen(l) }

// IsBucket reports whether entry i is a bucket.
func (l Leaf) IsBucket(i int) bool { return l.slot(i).bucket() }

// Form returns the form of entry i.
func (l Leaf) Form(i int) Form { return l.slot(i).form(l) }

// Value returns the value of entry i, which is Inline. The slice has no spare capacity, and is not nil.
func (l Leaf) Value(i int) []byte {
	s := l.slot(i)
	off := s.off() + s.keyLen()
	end := off + s.inline()
	return l[off:end:end]
}

// Ref returns the run of entry i, which is not Inline.
func (l Leaf) Ref(i int) Ref {
	s := l.slot(i)
	return DecodeRef(l[s.off()+s.keyIn(l):])
}

// RunLen returns the number of bytes in the run of entry i: the value's, and before them a long key's. 0: no run.
func (l Leaf) RunLen(i int) uint64 {
	s := l.slot(i)
	switch s.form(l) {
	case Inline:
		return 0
	case RunValue:
		return uint64(s.valLen(l))
	default:
		return uint64(s.keyLen()) + uint64(s.valLen(l))
	}
}

// Item returns what a cursor wants of entry i in one look at its slot: the key (of a long one the stub), the value if
// it is Inline, otherwise nil, and what kind of entry it is. The slices have no spare capacity.
func (l Leaf) Item(i int) (key, value []byte, bucket bool, form Form) {
	s := l.slot(i)
	off := s.off()
	if form = s.form(l); form == Inline {
		mid := off + s.keyLen()
		end := mid + s.inline()
		return l[off:mid:mid], l[mid:end:end], s.bucket(), Inline
	}
	end := off + s.keyIn(l)
	return l[off:end:end], nil, s.bucket(), form
}

// Entry returns entry i in the form in which Insert takes it, sharing the page's bytes.
func (l Leaf) Entry(i int) Entry {
	s := l.slot(i)
	key, value, bucket, form := l.Item(i)
	e := Entry{Key: key, KeyLen: s.keyLen(), Value: value, ValLen: s.valLen(l), Bucket: bucket}
	if form != Inline {
		e.Ref = l.Ref(i)
	}
	return e
}

// SizeOf returns the bytes that the entries from from up to to take: the sum of their EntrySize.
func (l Leaf) SizeOf(from, to int) int {
	n := leafSize * (to - from)
	for i := from; i < to; i++ {
		n += l.slot(i).heapSize(l)
	}
	return n
}

// Free returns the bytes of the gap between slots and heap: the room for Insert and Replace.
func (l Leaf) Free() int { return l.heapStart() - HeaderSize - leafSize*CountOf(l) }

// Live returns the bytes that the entries take, garbage and header excluded: SizeOf all of them. After CompactInto the
// gap has Capacity - Live bytes.
func (l Leaf) Live() int { return leafSize*CountOf(l) + heapOf(l) - garbageOf(l) }

// Find returns the index of the entry with this key, or -1. For pages without FlagLong.
//
// It does not compare the prefix: whoever has the same head is compared whole.
func (l Leaf) Find(key []byte) int {
	pre := prefixOf(l)
	if len(key) < pre {
		return -1
	}
	h := headOf(key[pre:])
	heads := l.heads()
	i := countBelow(heads, h)
	if 4*i >= len(heads) || le.Uint32(heads[4*i:]) != h {
		return -1
	}
	s := loadSlot(l[HeaderSize+len(heads)+slotSize*i-2:])
	if off := s.off(); string(l[off:off+s.keyLen()]) == string(key) {
		return i
	}
	if 4*i+4 < len(heads) && le.Uint32(heads[4*i+4:]) == h {
		if i, found := l.searchEqual(i+1, key, h); found {
			return i
		}
	}
	return -1
}

// Search returns the index of the first entry whose key is not below key, Count if there is none, and whether its key
// equals key. For pages without FlagLong.
func (l Leaf) Search(key []byte) (i int, found bool) {
	n := CountOf(l)
	if n == 0 {
		return 0, false
	}
	pre := prefixOf(l)
	rest := key[min(pre, len(key)):]
	h := headOf(rest)
	i = countBelow(l.heads(), h)
	if pre > 0 { // which any entry has; this one will be looked at anyway, by us or by the caller
		have := l.Key(min(i, n-1))[:pre]
		if len(key) < pre || string(key[:pre]) != string(have) {
			if bytes.Compare(key, have) < 0 {
				return 0, false
			}
			return n, false
		}
	}
	if i == n || l.head(i) != h {
		return i, false
	}
	if c := bytes.Compare(l.Key(i)[pre:], rest); c >= 0 {
		return i, c == 0
	}
	return l.searchEqual(i+1, key, h)
}

// searchEqual ends a search whose result is i or above, and not beyond the entries of head h.
func (l Leaf) searchEqual(i int, key []byte, h uint32) (int, bool) {
	end := CountOf(l)
	if h < 1<<32-1 {
		end = countBelow(l.heads(), h+1)
	}
	for lo, hi := i, end; ; {
		if lo == hi {
			return lo, false
		}
		m := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(l.Key(m), key); {
		case c == 0:
			return m, true
		case c < 0:
			lo = m + 1
		default:
			hi = m
		}
	}
}

// SearchLong is Search for pages with or without FlagLong. Where a stub does not decide, long is asked how the whole key
// of entry i compares to key (negative: it is below); an error of long ends the search and is returned.
func (l Leaf) SearchLong(key []byte, long func(i int) (int, error)) (i int, found bool, err error) {
	if !l.hasFlag(FlagLong) {
		i, found = l.Search(key)
		return i, found, nil
	}
	lo, hi := 0, CountOf(l)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		s := l.slot(m)
		c, known := compareKnown(l.Key(m), s.form(l) == LongKey, key)
		if !known {
			if c, err = long(m); err != nil {
				return 0, false, err
			}
		}
		switch {
		case c == 0:
			return m, true, nil
		case c < 0:
			lo = m + 1
		default:
			hi = m
		}
	}
	return lo, false, nil
}

// compareKnown compares what lies in a page of a key, all of it or the stub of a long one, to a whole key. known is
// false where the stub does not decide.
func compareKnown(have []byte, stub bool, key []byte) (c int, known bool) {
	if !stub {
		return bytes.Compare(have, key), true
	}
	if c = bytes.Compare(have, key[:min(len(key), len(have))]); c != 0 {
		return c, true // also when key is a true prefix of the stub
	}
	if len(key) <= len(have) {
		return 1, true // the long key goes on
	}
	return 0, false
}
