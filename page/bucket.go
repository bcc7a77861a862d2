package page

import "fmt"

// BucketHeaderSize is the length of an encoded BucketHeader.
const BucketHeaderSize = 24

// Fields of a bucket header, as offsets.
const (
	BucketItems = 8
	BucketRoot  = 16
	BucketLevel = 20
)

// BucketHeader is how the value of a bucket's entry begins.
//
//	 0 u64 sequence
//	 8 u64 items     below 1<<47
//	16 u32 root      0: the bucket is empty, or an image of its only leaf follows
//	20 u8  level     of the root
//	21     3 bytes of zero
//
// An image is a Leaf that is as long as it has to be: checksum, id, born, flags, trend and garbage are zero, heap and
// slots meet. So small a bucket holds no runs and no buckets.
type BucketHeader struct {
	Sequence uint64 // what NextSequence gave last
	Items    uint64 // items in the bucket's tree, a nested bucket being one
	Root     ID
	Level    uint8
}

// Encode writes h to the first BucketHeaderSize bytes of b.
func (h BucketHeader) Encode(b []byte) {
	_ = b[BucketHeaderSize-1]
	le.PutUint64(b, h.Sequence)
	le.PutUint64(b[BucketItems:], h.Items)
	le.PutUint32(b[BucketRoot:], uint32(h.Root))
	le.PutUint32(b[BucketLevel:], uint32(h.Level))
}

// MaxImage is the length of the longest inline image in a page of the given size.
func MaxImage(pageSize int) int { return pageSize / 4 }

func decodeBucketHeader(b []byte) BucketHeader {
	_ = b[BucketHeaderSize-1]
	return BucketHeader{Sequence: le.Uint64(b), Items: le.Uint64(b[BucketItems:]), Root: ID(le.Uint32(b[BucketRoot:])), Level: b[BucketLevel]}
}

// impossibleBucket returns the offset of the first field of an encoded header that cannot be as it is, and why.
func impossibleBucket(b []byte) (off int, reason string) {
	switch h := decodeBucketHeader(b); {
	case h.Items > maxItems:
		return BucketItems, fmt.Sprintf("bucket of %d items", h.Items)
	case h.Root != 0 && h.Root < FirstID:
		return BucketRoot, fmt.Sprintf("bucket has its root in meta slot %d", h.Root)
	case h.Level >= MaxLevel:
		return BucketLevel, fmt.Sprintf("bucket has its root at level %d", h.Level)
	case h.Root == 0 && h.Level != 0:
		return BucketLevel, fmt.Sprintf("bucket has level %d without a root", h.Level)
	case b[21]|b[22]|b[23] != 0:
		return 21, "bucket header does not end in zeros"
	}
	return 0, ""
}

// DecodeBucket takes the value of a bucket's entry apart. The image, nil if there is none, shares its bytes. Values that
// Validate has passed need no check; those that come out of a run do: ValidateBucket.
func DecodeBucket(value []byte) (h BucketHeader, image Leaf) {
	h = decodeBucketHeader(value)
	if len(value) > BucketHeaderSize {
		image = Leaf(value[BucketHeaderSize:len(value):len(value)])
	}
	return h, image
}

// ImageSize returns the length of the image that AppendImage would make of the leaf, 0 for an empty one, and whether
// a bucket may be kept so in a page of the leaf's size.
func (l Leaf) ImageSize() (n int, ok bool) {
	if CountOf(l) == 0 {
		return 0, true
	}
	n = HeaderSize + l.Live()
	return n, n <= MaxImage(len(l)) && !l.hasFlag(FlagRefs)
}

// AppendImage appends an image of the leaf, for which ImageSize has said yes; of an empty one nothing. An image is read
// with the methods of Leaf, is never changed, and becomes a page again by CopyRange.
func (l Leaf) AppendImage(buf []byte) []byte {
	n, ok := l.ImageSize()
	if !ok {
		panic("page: leaf cannot be an image")
	}
	if n == 0 {
		return buf
	}
	at := len(buf)
	for range n / HeaderSize {
		buf = append(buf, zeros[:]...)
	}
	buf = append(buf, zeros[:n%HeaderSize]...)
	image := InitLeaf(buf[at:], 0, 0)
	if !l.CopyRange(image, 0, 0, CountOf(l)) {
		panic("page: leaf does not fit its image")
	}
	return buf
}

var zeros [HeaderSize]byte
