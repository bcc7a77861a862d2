package page

// BucketHeaderSize is the length of an encoded BucketHeader.
const BucketHeaderSize = 24

// BucketHeader is how the value of a bucket's entry begins.
//
//	 0 u64 sequence
//	 8 u64 items
//	16 u32 root      0: the bucket is empty, or an image of its only leaf follows
//	20 u8  level     of the root
//	21     3 bytes of zero
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
	le.PutUint64(b[8:], h.Items)
	le.PutUint32(b[16:], uint32(h.Root))
	le.PutUint32(b[20:], uint32(h.Level))
}

// MaxImage is the length of the longest inline image in a page of the given size.
func MaxImage(pageSize int) int { return pageSize / 4 }

// DecodeBucket takes the value of a bucket's entry apart. The image, nil if there is none, shares its bytes. Values that
// Validate has passed need no check; those that come out of a run do: ValidateBucket.
func DecodeBucket(value []byte) (h BucketHeader, image Leaf) { panic("not built yet") }

// ValidateBucket checks the value of a bucket's entry, image included, for a page of the given size. The error is a
// *CorruptError without a page number.
func ValidateBucket(value []byte, pageSize int) error { panic("not built yet") }

// ImageSize returns the length of the image that AppendImage would make of the leaf, 0 for an empty one, and whether
// a bucket may be kept so in a page of the given size.
func (l Leaf) ImageSize(pageSize int) (int, bool) { panic("not built yet") }

// AppendImage appends an image of the leaf: a leaf that is just as long as it needs to be. An image is read with the
// methods of Leaf, is never changed, and becomes a page again by CopyRange.
func (l Leaf) AppendImage(buf []byte) []byte { panic("not built yet") }
