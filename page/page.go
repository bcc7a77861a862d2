package page

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// ID is the number of a page: its offset in the file divided by the page size. 0 and 1 are the meta slots,
// so 0 stands for "none" wherever a node or a run is named.
type ID uint32

// TxID names a committed write transaction, and the snapshot that ends with it. The first one is 1.
type TxID uint64

// Limits of the format.
const (
	MinPageSize = 4096
	MaxPageSize = 65536

	// HeaderSize is the number of bytes before the arrays of a node page.
	HeaderSize = 32

	// MaxLevel bounds the height of a tree: every level is below it.
	MaxLevel = 24

	// FirstID is the lowest page number that is not a meta slot.
	FirstID ID = 2

	MaxKeyLen   = 32768     // bytes in the longest key
	MaxValueLen = 1<<31 - 2 // bytes in the longest value
)

// Kind tells what a node page holds.
type Kind uint8

// The kinds of node pages.
const (
	KindLeaf   Kind = 1
	KindBranch Kind = 2
)

// Flags of a node page.
const (
	// FlagLong: a long key or separator lies in this page, so that order within it cannot be told from
	// the page alone. Search and Find must not be used, SearchLong must. FlagLong implies a prefix of at
	// most 28 bytes, so that every head lies within the stub of a long key.
	FlagLong uint8 = 1 << 0

	// FlagRefs: an entry of this page, or of a page below, has a run or is a bucket. Where it is clear, a
	// subtree can be dropped without reading its leaves.
	FlagRefs uint8 = 1 << 1

	allFlags = FlagLong | FlagRefs
)

// The header of a node page.
//
//	 0 u64 checksum  xxhash64 of the bytes from 8 to the page's end
//	 8 u32 id        lies under the checksum, so that a page in a wrong place is found
//	12 u8  kind      1 leaf, 2 branch
//	13 u8  level     0 in a leaf; in a branch its children's level + 1
//	14 u8  flags
//	15 u8  trend     see Trend
//	16 u64 born      the transaction that wrote the page
//	24 u16 count     entries
//	26 u16 prefix    length of the prefix that all keys or separators here have in common
//	28 u16 heap      bytes of the heap at the page's end, garbage included
//	30 u16 garbage   bytes of the heap that no entry refers to
const (
	offChecksum = 0
	offID       = 8
	offKind     = 12
	offLevel    = 13
	offFlags    = 14
	offTrend    = 15
	offBorn     = 16
	offCount    = 24
	offPrefix   = 26
	offHeap     = 28
	offGarbage  = 30
)

var le = binary.LittleEndian

// ValidSize reports whether n is a page size: a power of two from MinPageSize to MaxPageSize.
func ValidSize(n int) bool {
	return n >= MinPageSize && n <= MaxPageSize && n&(n-1) == 0
}

// MaxKey is the length in bytes of the longest key that a page of the given size holds whole. A longer one is a
// long key: its first StubSize bytes lie in the page, all of it in a run.
func MaxKey(pageSize int) int { return pageSize / 8 }

// MaxEntry is the number of bytes, slot included, that the largest entry of a leaf takes: two always fit.
func MaxEntry(pageSize int) int { return (pageSize - HeaderSize) / 2 }

// Capacity is the number of bytes that entries can take in a page.
func Capacity(pageSize int) int { return pageSize - HeaderSize }

// IDOf returns the page number in the header of p.
func IDOf(p []byte) ID { return ID(le.Uint32(p[offID:])) }

// KindOf returns the kind in the header of p.
func KindOf(p []byte) Kind { return Kind(p[offKind]) }

// LevelOf returns the level in the header of p: 0 for a leaf.
func LevelOf(p []byte) int { return int(p[offLevel]) }

// FlagsOf returns the flags in the header of p.
func FlagsOf(p []byte) uint8 { return p[offFlags] }

// BornOf returns the transaction in the header of p, the one that wrote the page.
func BornOf(p []byte) TxID { return TxID(le.Uint64(p[offBorn:])) }

// CountOf returns the number of entries in the header of p.
func CountOf(p []byte) int { return int(le.Uint16(p[offCount:])) }

// SetID changes the page number in the header of p.
func SetID(p []byte, id ID) { le.PutUint32(p[offID:], uint32(id)) }

// SetBorn changes the transaction in the header of p.
func SetBorn(p []byte, born TxID) { le.PutUint64(p[offBorn:], uint64(born)) }

// Seal stores the checksum of p in its header. It comes last before the page is written.
func Seal(p []byte) { le.PutUint64(p[offChecksum:], checksum(p)) }

func checksum(p []byte) uint64 { return xxhash.Sum64(p[offID:]) }

// Trend tells where the last inserts into p went: n > 0 for n in a row at the end, n < 0 for -n in a row at the
// front, 0 for none. It saturates at 127. A loader that goes up or down is recognised by it.
func Trend(p []byte) int {
	t := int(p[offTrend])
	if t > 127 {
		return 128 - t
	}
	return t
}

func prefixOf(p []byte) int  { return int(le.Uint16(p[offPrefix:])) }
func heapOf(p []byte) int    { return int(le.Uint16(p[offHeap:])) }
func garbageOf(p []byte) int { return int(le.Uint16(p[offGarbage:])) }

func setCount(p []byte, n int)   { le.PutUint16(p[offCount:], uint16(n)) }
func setPrefix(p []byte, n int)  { le.PutUint16(p[offPrefix:], uint16(n)) }
func setHeap(p []byte, n int)    { le.PutUint16(p[offHeap:], uint16(n)) }
func setGarbage(p []byte, n int) { le.PutUint16(p[offGarbage:], uint16(n)) }

// initNode writes a header with nothing in it; the rest of p stays as it is.
func initNode(p []byte, id ID, born TxID, kind Kind, level int) {
	clear(p[:HeaderSize])
	SetID(p, id)
	SetBorn(p, born)
	p[offKind] = byte(kind)
	p[offLevel] = byte(level)
}

// loading is the trend from which on a branch is split for a load that goes one way.
const loading = 3

// noteInsert brings the trend up to date: an entry came to lie at i among n others.
func noteInsert(p []byte, i, n int) {
	t := Trend(p)
	switch {
	case n > 0 && i == n:
		p[offTrend] = byte(min(max(t, 0)+1, 127))
	case n > 0 && i == 0:
		p[offTrend] = byte(128 - max(min(t, 0)-1, -127))
	default:
		p[offTrend] = 0
	}
}
