package page

import (
	"errors"
	"fmt"
	"testing"
)

func TestImage(t *testing.T) {
	l := InitLeaf(make([]byte, MinPageSize), 7, 5)
	if n, ok := l.ImageSize(); n != 0 || !ok || len(l.AppendImage(nil)) != 0 {
		t.Errorf("an empty leaf has an image of %d bytes, %v", n, ok)
	}
	header := encodeBucket(BucketHeader{Sequence: 9})
	if h, image := DecodeBucket(header); image != nil || h != (BucketHeader{Sequence: 9}) {
		t.Errorf("%+v with an image of %d bytes", h, len(image))
	}
	for i := 0; ; i++ {
		k := fmt.Appendf(nil, "key%04d", i)
		l.Insert(i, Entry{Key: k, KeyLen: len(k), Value: k, ValLen: len(k)})
		n, ok := l.ImageSize()
		if n != HeaderSize+(i+1)*EntrySize(MinPageSize, 7, 7) || ok != (n <= MaxImage(MinPageSize)) {
			t.Fatalf("image of %d entries takes %d bytes, %v", i+1, n, ok)
		}
		if !ok {
			break
		}
		value := l.AppendImage(encodeBucket(BucketHeader{Items: uint64(i + 1)}))
		if len(value) != BucketHeaderSize+n {
			t.Fatalf("image has %d bytes, not %d", len(value)-BucketHeaderSize, n)
		}
		if err := ValidateBucket(value, MinPageSize); err != nil {
			t.Fatal(err)
		}
		h, image := DecodeBucket(value)
		back := InitLeaf(make([]byte, MinPageSize), 8, 6)
		if h.Items != uint64(i+1) || !image.CopyRange(back, 0, 0, image.Count()) || back.Live() != l.Live() {
			t.Fatalf("%d of %d bytes came back out of the image", back.Live(), l.Live())
		}
		mustValidate(t, back)
		exerciseLeaf(t, image)
	}
	defer func() {
		if recover() == nil {
			t.Error("a leaf that is too large became an image")
		}
	}()
	l.AppendImage(nil)
}

// TestImageHoldsNoRefs: what would need a run, or is a bucket, keeps a leaf from becoming an image; as an image it is
// damage.
func TestImageHoldsNoRefs(t *testing.T) {
	for _, line := range []string{"a=bucket", "a=x*3000", "k*600=1"} {
		l := InitLeaf(make([]byte, MinPageSize), 7, 5)
		e := parseEntry(t, line)
		l.Insert(0, e)
		if _, ok := l.ImageSize(); ok {
			t.Errorf("%s fits an image", line)
		}
	}
	// A key that is long for a page, in an image that a larger page could hold.
	l := InitLeaf(make([]byte, 8192), 7, 5)
	l.Insert(0, parseEntry(t, "k*600=1"))
	value := l.AppendImage(encodeBucket(BucketHeader{Items: 1}))
	if err := ValidateBucket(value, 8192); err != nil {
		t.Error(err)
	}
	if err := ValidateBucket(value, 4096); !errors.Is(err, ErrCorrupt) {
		t.Errorf("long key in an image: %v", err)
	}
	if err := ValidateBucket(value[:BucketHeaderSize+10], 8192); !errors.Is(err, ErrCorrupt) {
		t.Errorf("image cut short: %v", err)
	}
	if err := ValidateBucket(value[:10], 8192); !errors.Is(err, ErrCorrupt) {
		t.Errorf("bucket cut short: %v", err)
	}
}
