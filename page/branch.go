package page

// Branch is a page of child pages and the separators between them: all keys in child i are at or above separator i and
// below separator i+1. Entry 0 has no separator.
type Branch []byte

// Sep is a separator to be stored.
type Sep struct {
	Key []byte // the whole separator; of a long one (Len > MaxKey) at least its first StubSize bytes
	Len int    // length of the whole separator
	Ref Ref    // of a long one: the run that holds it
}

// InitBranch makes p an empty branch. Only the header is written.
func InitBranch(p []byte, id ID, born TxID, level int) Branch {
	initNode(p, id, born, KindBranch, level)
	return Branch(p)
}

// Count returns the number of children.
func (b Branch) Count() int { return CountOf(b) }

// Child returns the page number of child i.
func (b Branch) Child(i int) ID { panic("not built yet") }

// SetChild changes the page number of child i.
func (b Branch) SetChild(i int, id ID) { panic("not built yet") }

// Items returns the number of items below child i.
func (b Branch) Items(i int) uint64 { panic("not built yet") }

// SetItems changes the number of items below child i.
func (b Branch) SetItems(i int, n uint64) { panic("not built yet") }

// Refs reports whether child i has FlagRefs.
func (b Branch) Refs(i int) bool { panic("not built yet") }

// SetRefs notes whether child i has FlagRefs, and keeps the branch's own flag right.
func (b Branch) SetRefs(i int, refs bool) { panic("not built yet") }

// Total returns the number of items below the branch.
func (b Branch) Total() uint64 { panic("not built yet") }

// ItemsBefore returns the number of items below the children before i.
func (b Branch) ItemsBefore(i int) uint64 { panic("not built yet") }

// Locate returns the child under which item n of the branch lies, and its number there. n is below Total.
func (b Branch) Locate(n uint64) (i int, rest uint64) { panic("not built yet") }

// Search returns the index of the child in which key belongs. For pages without FlagLong.
func (b Branch) Search(key []byte) int { panic("not built yet") }

// SearchLong is Search for pages with or without FlagLong. Where a stub does not decide, long is asked how the whole
// separator i compares to key (negative: it is below); an error of long ends the search and is returned.
func (b Branch) SearchLong(key []byte, long func(i int) (int, error)) (int, error) {
	panic("not built yet")
}

// IsLong reports whether separator i is a long one.
func (b Branch) IsLong(i int) bool { panic("not built yet") }

// SepLen returns the length of separator i. i > 0.
func (b Branch) SepLen(i int) int { panic("not built yet") }

// SepRef returns the run of separator i, a long one.
func (b Branch) SepRef(i int) Ref { panic("not built yet") }

// Separator appends separator i to buf, of a long one its first StubSize bytes, and returns the result. i > 0.
func (b Branch) Separator(i int, buf []byte) []byte { panic("not built yet") }

// Sep returns separator i as Insert takes it. Its Key is appended to buf and does not share the page's bytes. i > 0.
func (b Branch) Sep(i int, buf []byte) Sep { panic("not built yet") }

// Insert puts a child before entry i, with the separator at its left. The first child of an empty branch goes to 0 and
// its separator is ignored; after that i > 0. A branch hands out no bytes, so garbage is collected in place when the
// gap is too small. It returns false, and changes nothing, if the entry does not fit even then.
func (b Branch) Insert(i int, sep Sep, child ID, items uint64, refs bool) bool {
	panic("not built yet")
}

// ReplaceSep makes sep the separator i. i > 0. It returns false, and changes nothing, if it does not fit.
func (b Branch) ReplaceSep(i int, sep Sep) bool { panic("not built yet") }

// Remove takes child i out, with the separator at its left; of entry 0 with the one at its right.
func (b Branch) Remove(i int) { panic("not built yet") }

// RemoveRange takes the children from from up to to out; from 0, separator to goes too.
func (b Branch) RemoveRange(from, to int) { panic("not built yet") }

// SizeOf returns the bytes, slots included, that the children from from up to to would take in a page of their own, where
// the first has no separator and the prefix is as long as can be.
func (b Branch) SizeOf(from, to int) int { panic("not built yet") }

// Live returns the bytes that the entries take as they are stored, garbage and header excluded.
func (b Branch) Live() int { panic("not built yet") }

// Free returns the bytes of the gap between the arrays and the heap.
func (b Branch) Free() int { panic("not built yet") }

// MergeSize returns the bytes that the children of left and right take in one page, with sep between them.
func MergeSize(left, right Branch, sep Sep) int { panic("not built yet") }

// CompactInto makes dst, another buffer of the same size, a branch of the same entries without garbage and with the best
// prefix. Id, born, level and trend are taken over.
func (b Branch) CompactInto(dst []byte) { panic("not built yet") }

// Move moves the children from from up to to behind the last one of dst, another branch of the same level. sep is
// the separator between that one and child from: where from > 0 it is the branch's own, and is not looked at; nor is it
// if dst is empty. It returns false, and changes nothing, if they do not fit. The separator that now divides the two
// pages is what separator to of b was (or from, if to is Count): ask for it before.
func (b Branch) Move(dst Branch, from, to int, sep Sep) bool { panic("not built yet") }

// MoveFront moves the children from from up to to before the first one of dst. sep is the separator between the last of
// them and that one. Otherwise as Move.
func (b Branch) MoveFront(dst Branch, from, to int, sep Sep) bool { panic("not built yet") }

// Split divides the children of b, and a further one that Insert would have put before entry i, between b and right, an
// empty branch of the same level. Both halves get two children at least. It returns the separator between them, its
// Key appended to buf.
//
// The middle by bytes is taken; at the end of a rising load (Trend) right gets as little as can be, at the front of a
// falling one the left.
func (b Branch) Split(right Branch, i int, sep Sep, child ID, items uint64, refs bool, buf []byte) Sep {
	panic("not built yet")
}

// Shortest returns the shortest prefix of right that is above left. left is below right; the result shares right's bytes.
func Shortest(left, right []byte) []byte { panic("not built yet") }
