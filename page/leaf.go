package page

// Leaf is a page of keys with their values.
type Leaf []byte

// InitLeaf makes p an empty leaf. Only the header is written.
func InitLeaf(p []byte, id ID, born TxID) Leaf {
	initNode(p, id, born, KindLeaf, 0)
	return Leaf(p)
}

// Form tells how an entry of a leaf is kept. The lengths of key and value decide it alone.
type Form uint8

// The forms of an entry.
const (
	Inline   Form = iota // key and value lie in the leaf
	RunValue             // the key lies in the leaf, the value in a run
	LongKey              // the first StubSize bytes of the key lie in the leaf; a run holds the key, then the value
)

// StubSize is the number of bytes of a long key that lie in the page.
const StubSize = 32

// FormOf returns the form of an entry in a page of the given size.
func FormOf(pageSize, keyLen, valLen int) Form { panic("not built yet") }

// EntrySize returns the bytes that an entry takes in a leaf, slot included: what Live grows by and what Insert needs
// Free to be.
func EntrySize(pageSize, keyLen, valLen int) int { panic("not built yet") }

// Entry is what Insert and Replace put into a leaf. The lengths decide the form.
type Entry struct {
	Key    []byte // the whole key; in the form LongKey at least its first StubSize bytes
	KeyLen int    // length of the whole key
	Value  []byte // the value in the form Inline, ignored otherwise
	ValLen int    // length of the value; of an Inline entry len(Value)
	Bucket bool   // the value is that of a bucket
	Ref    Ref    // in the forms RunValue and LongKey
}

// Count returns the number of entries.
func (l Leaf) Count() int { return CountOf(l) }

// Key returns the key of entry i, of a long one its first StubSize bytes. The slice has no spare capacity.
func (l Leaf) Key(i int) []byte { panic("not built yet") }

// KeyLen returns the length of the whole key of entry i.
func (l Leaf) KeyLen(i int) int { panic("not built yet") }

// ValLen returns the length of the value of entry i.
func (l Leaf) ValLen(i int) int { panic("not built yet") }

// IsBucket reports whether entry i is a bucket.
func (l Leaf) IsBucket(i int) bool { panic("not built yet") }

// Form returns the form of entry i.
func (l Leaf) Form(i int) Form { panic("not built yet") }

// Value returns the value of entry i, which is Inline. The slice has no spare capacity, and is not nil.
func (l Leaf) Value(i int) []byte { panic("not built yet") }

// Ref returns the run of entry i, which is not Inline.
func (l Leaf) Ref(i int) Ref { panic("not built yet") }

// RunLen returns the number of bytes in the run of entry i: the value's, and before them a long key's. 0: no run.
func (l Leaf) RunLen(i int) uint64 { panic("not built yet") }

// Item returns what a cursor wants of entry i in one look at its slot: the key (of a long one the stub), the value if
// it is Inline, and what kind of entry it is.
func (l Leaf) Item(i int) (key, value []byte, bucket bool, form Form) { panic("not built yet") }

// Entry returns entry i in the form in which Insert takes it, sharing the page's bytes.
func (l Leaf) Entry(i int) Entry { panic("not built yet") }

// SizeOf returns the bytes that the entries from from up to to take: the sum of their EntrySize.
func (l Leaf) SizeOf(from, to int) int { panic("not built yet") }

// Free returns the bytes of the gap between slots and heap: the room for Insert and Replace.
func (l Leaf) Free() int { panic("not built yet") }

// Live returns the bytes that the entries take, garbage and header excluded: SizeOf all of them. After CompactInto the
// gap has Capacity - Live bytes.
func (l Leaf) Live() int { panic("not built yet") }

// Search returns the index of the first entry whose key is not below key, Count if there is none, and whether its key
// equals key. For pages without FlagLong.
func (l Leaf) Search(key []byte) (i int, found bool) { panic("not built yet") }

// Find returns the index of the entry with this key, or -1. For pages without FlagLong.
func (l Leaf) Find(key []byte) int { panic("not built yet") }

// SearchLong is Search for pages with or without FlagLong. Where a stub does not decide, long is asked how the whole key
// of entry i compares to key (negative: it is below); an error of long ends the search and is returned.
func (l Leaf) SearchLong(key []byte, long func(i int) (int, error)) (i int, found bool, err error) {
	panic("not built yet")
}

// Insert puts e before entry i. It writes only to the gap and to the arrays, never to bytes that Key or Value have
// handed out. It returns false, and changes nothing, if the gap is too small.
func (l Leaf) Insert(i int, e Entry) bool { panic("not built yet") }

// Replace makes e the entry i; the key is the same. It needs room in the gap for all of e but the slot, and returns
// false, having changed nothing, if there is none. The old bytes stay as they are, as garbage.
func (l Leaf) Replace(i int, e Entry) bool { panic("not built yet") }

// Remove takes entry i out. Its bytes stay as they are, as garbage.
func (l Leaf) Remove(i int) { panic("not built yet") }

// RemoveRange takes the entries from from up to to out.
func (l Leaf) RemoveRange(from, to int) { panic("not built yet") }

// CompactInto makes dst, another buffer of the same size, a leaf of the same entries without garbage. Id, born and
// trend are taken over.
func (l Leaf) CompactInto(dst []byte) { panic("not built yet") }

// CopyRange puts copies of the entries from from up to to into dst, another leaf, before its entry at. It returns false,
// and changes nothing, if the gap of dst is too small. l may be an inline image.
func (l Leaf) CopyRange(dst Leaf, at, from, to int) bool { panic("not built yet") }

// Move moves the entries from from up to to behind the last one of dst. It returns false, and changes nothing, if they
// do not fit the gap of dst.
func (l Leaf) Move(dst Leaf, from, to int) bool { panic("not built yet") }

// MoveFront moves the entries from from up to to before the first one of dst, otherwise as Move.
func (l Leaf) MoveFront(dst Leaf, from, to int) bool { panic("not built yet") }

// SplitPoint tells where to split a leaf into which e is to be inserted before entry i. The entries, e among them, are
// numbered 0 to Count; those below the result belong left. Both halves fit a page; near the middle by bytes the
// shortest separator decides. For pages without FlagLong or with it.
func (l Leaf) SplitPoint(i int, e Entry) int { panic("not built yet") }
