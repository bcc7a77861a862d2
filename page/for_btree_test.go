package page

import (
	"bytes"
	"encoding/binary"
	"testing"
)

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
		Seal(left)
		Seal(right)
		if err := Validate(left, 2); err != nil {
			t.Error(err)
		}
		if err := Validate(right, 3); err != nil {
			t.Error(err)
		}
	}
}
