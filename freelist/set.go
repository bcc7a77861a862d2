package freelist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/foliodb/folio/page"
)

// The free set in the file is a sequence of unsigned varints, each as short as it can
// be:
//
//	extents  how many extents follow
//	pages    how many pages they have together
//	then for each extent, ascending:
//	gap      pages between the end of the one before (page 2 for the first) and its start;
//	         less 1 but for the first, since extents that touch are one
//	length   its pages, less 1
//
// So extents that overlap or are out of order cannot be written down. Pages 5, 6, 7 and 9 are 02 04 03 02 00 00.
// Zeros may follow: room is reserved before the set is known, and where it turns out to take less, they fill the pages that are
// left, since the length has to tell which pages are the set's own.
//
// The length in bytes, and a checksum, are kept by the meta that names the set.

// maxSetSize bounds the bytes of a set with the given number of extents, all below end.
func maxSetSize(extents, end uint64) uint64 {
	numbers := 2 * extents
	size := 2*binary.MaxVarintLen32 + numbers
	// The numbers add up to at most end, so no more than end>>k of them have more than k bits.
	for k := 7; k < 32; k += 7 {
		size += min(numbers, end>>k)
	}
	return size
}

// encode returns the members of set as bytes.
func encode(set *bitmap) []byte {
	extents := set.starts()
	b := make([]byte, 0, maxSetSize(extents, uint64(len(set.chunks))<<chunkShift))
	b = binary.AppendUvarint(b, extents)
	b = binary.AppendUvarint(b, set.n)
	least := page.FirstID // where an extent may start
	for id, n := set.next(0); n > 0; id, n = set.next(id + n) {
		b = binary.AppendUvarint(b, uint64(id-least))
		b = binary.AppendUvarint(b, uint64(n-1))
		least = id + n + 1
	}
	return b
}

// setReader reads varints; offset is where the next one begins.
type setReader struct {
	set    []byte
	offset int
}

func (r *setReader) damaged(reason string) *page.CorruptError {
	return &page.CorruptError{Offset: r.offset, Invariant: 1, Reason: "free set: " + reason}
}

func (r *setReader) number() (uint64, error) {
	v, n := binary.Uvarint(r.set[r.offset:])
	switch {
	case n <= 0:
		return 0, r.damaged("number is cut off or too large")
	case n > 1 && r.set[r.offset+n-1] == 0:
		return 0, r.damaged("number is longer than it needs to be")
	case v > math.MaxUint32:
		return 0, r.damaged("number is too large")
	}
	r.offset += n
	return v, nil
}

// extent reads an extent that starts at least at the given page and ends before end.
func (r *setReader) extent(least uint64, end page.ID) (Extent, error) {
	begin := r.offset
	gap, err := r.number()
	if err != nil {
		return Extent{}, err
	}
	length, err := r.number()
	if err != nil {
		return Extent{}, err
	}
	start, n := least+gap, length+1
	if start+n > uint64(end) {
		r.offset = begin
		return Extent{}, r.damaged("extent reaches past the page count")
	}
	return Extent{page.ID(start), page.ID(n)}, nil
}

// Extents iterates over a free set as it is stored, in a file with the given page count, in
// ascending order. Damage ends it with a *page.CorruptError whose Offset is the byte in
// the set; its Page is not set, since the caller knows where the set lies. Extents that came before
// are sound in themselves.
func Extents(set []byte, end page.ID) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		if err := eachExtent(set, end, func(e Extent, _ int) error {
			if !yield(e, nil) {
				return errStop
			}
			return nil
		}); err != nil && err != errStop {
			yield(Extent{}, err)
		}
	}
}

// errStop ends eachExtent.
var errStop = errors.New("stop")

// EachExtent calls fn with each extent of a set that is stored in own, pages of the given size, unless the extent has pages of
// the set itself, until fn returns a reason why it cannot be free. The error is a *page.CorruptError with the page and the
// offset in it.
func EachExtent(set []byte, own Extent, end page.ID, pageSize int, fn func(Extent) (reason string)) error {
	err := eachExtent(set, end, func(e Extent, offset int) error {
		reason := "are its own"
		if !e.Overlaps(own) {
			reason = fn(e)
		}
		if reason == "" {
			return nil
		}
		return &page.CorruptError{Offset: offset, Invariant: 1, Reason: fmt.Sprintf("free set: pages %v %s", e, reason)}
	})
	if c, ok := err.(*page.CorruptError); ok {
		c.Page, c.Offset = own.Start+page.ID(c.Offset/pageSize), c.Offset%pageSize
	}
	return err
}

// eachExtent calls fn with each extent and the offset of its first byte in the set, until fn returns an error.
func eachExtent(set []byte, end page.ID, fn func(e Extent, offset int) error) error {
	r := setReader{set: set}
	extents, err := r.number()
	if err != nil {
		return err
	}
	pages, err := r.number()
	if err != nil {
		return err
	}
	least, sum := uint64(page.FirstID), uint64(0)
	for range extents {
		offset := r.offset
		e, err := r.extent(least, end)
		if err != nil {
			return err
		}
		if err := fn(e, offset); err != nil {
			return err
		}
		sum += uint64(e.N)
		least = uint64(e.Start) + uint64(e.N) + 1
	}
	switch {
	case sum != pages:
		return r.damaged("pages do not add up")
	case slices.ContainsFunc(set[r.offset:], func(b byte) bool { return b != 0 }):
		return r.damaged("bytes behind the last extent")
	}
	return nil
}

// Load makes the pages of a stored set free; own is where it is stored, and stays taken until
// Release. It comes once, before the first allocation; AppendOnly may come before it. The
// error is a *page.CorruptError, whose page and offset tell the byte in the file, and then nothing has
// changed.
func (l *List) Load(set []byte, own Extent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkSet(set, own); err != nil {
		return err
	}
	l.held.add(own.Start, own.N)
	l.fixed = append(l.fixed, own)
	return eachExtent(set, l.end, func(e Extent, _ int) error {
		l.release(e.Start, e.N)
		return nil
	})
}

// checkSet returns what is wrong with a stored set.
func (l *List) checkSet(set []byte, own Extent) error {
	if own.N == 0 || !l.inFile(own.Start, own.N) || l.taken(own) {
		return damaged(own.Start, "free set: lies outside the pages in use")
	}
	return EachExtent(set, own, l.end, l.pageSize, func(e Extent) string {
		if l.taken(e) {
			return "are not in use"
		}
		return ""
	})
}

// Overlaps reports whether two extents have a page in common.
func (e Extent) Overlaps(o Extent) bool { return e.Start < o.end() && o.Start < e.end() }

// taken reports whether one of the pages is known to be anything but in use.
func (l *List) taken(e Extent) bool {
	return l.free.any(e.Start, e.N) || l.aside.any(e.Start, e.N) || l.own.any(e.Start, e.N) || l.held.any(e.Start, e.N)
}
