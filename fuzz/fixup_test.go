package fuzz

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// The damage of FuzzOpen would go no further than the checksums, so they are put
// right afterwards: those of pages, meta slots and log records, and those of runs,
// which lie in what refers to them, an entry, a separator or a meta slot. This file
// knows where the checksums lie, and what it takes to find them; TestFixups holds it
// to the store.
const (
	imagePageSize = 4096

	pageSum = 0   // in a node page, of the bytes from 8 to its end
	metaSum = 504 // in a meta slot, of the bytes before it
	metaSet = 88  // in a meta slot, reference to the free set; behind it the set's length

	pageKind  = 12
	pageCount = 24
	pageHead  = 32 // bytes before the arrays

	refSum  = 12 // in a reference, of the run's bytes
	refSize = 20
	stub    = 32 // bytes of a long key that lie in the page

	logSum   = 56  // in the log's header, of the bytes before it; the first record is chained to it
	logLSN   = 48  // in the log's header, of the first record
	logBlock = 512 // records begin on a multiple of it
	logFirst = 4096

	recordMagic   = "OWAL" // as it lies in the file
	recordRun     = 3      // kind of a record that has tails behind it
	recordLength  = 8
	recordLSN     = 32
	recordChain   = 64
	recordPayload = 72 // checksum of the payload
	recordSum     = 80 // of the bytes before it

	tailLength = 16
	tailCheck  = 20
	tailHead   = 24
	recordHead = 88
)

var le = binary.LittleEndian

// fixPages puts the checksums of a data file right: first those in references, then
// those of the pages in which the references lie. Pages of runs have none and must be
// left alone: isNode tells by page number. A run that lies over the page that refers to
// it keeps a wrong one.
func fixPages(data []byte, isNode func(id int) bool) {
	fixRef := func(sum []byte, from, n int) { le.PutUint64(sum, xxhash.Sum64(data[from:][:n])) }
	eachPage(data, func(id int, p []byte) {
		if id >= 2 && isNode(id) {
			eachRef(data, p, fixRef)
		}
	})
	eachPage(data, func(id int, p []byte) {
		if id >= 2 && isNode(id) {
			le.PutUint64(p[pageSum:], xxhash.Sum64(p[8:]))
		}
	})
	eachPage(data, func(id int, p []byte) {
		if id < 2 {
			eachSet(data, p, fixRef)
			le.PutUint64(p[metaSum:], xxhash.Sum64(p[:metaSum]))
		}
	})
}

func eachPage(data []byte, fn func(id int, p []byte)) {
	for id := 0; (id+1)*imagePageSize <= len(data); id++ {
		fn(id, data[id*imagePageSize:][:imagePageSize])
	}
}

// eachSet calls fn with the checksum of the free set that meta slot p names, and where
// the set lies.
func eachSet(data, p []byte, fn func(sum []byte, from, n int)) {
	if n := le.Uint64(p[metaSet+refSize:]); n > 0 {
		eachRun(data, p, metaSet, n, fn)
	}
}

// eachEntryRef calls fn with the place of each reference in a leaf, behind which lies the length of the value, and with how many bytes of the run are a
// key. The page may hold anything: what is not within it is passed over.
func eachEntryRef(p []byte, fn func(at int, key uint64)) {
	n := int(le.Uint16(p[pageCount:]))
	for i := range n {
		slot := pageHead + 4*n + 6*i
		if p[pageKind] != 1 || slot+6 > len(p) {
			return
		}
		if le.Uint16(p[slot+4:])&0x7fff != 0x7fff { // the highest bit is that of a bucket
			continue // the value lies in the page
		}
		at, key := int(le.Uint16(p[slot:])), uint64(le.Uint16(p[slot+2:]))+1
		if key > imagePageSize/8 {
			at += stub
		} else {
			at, key = at+int(key), 0
		}
		if at+refSize+4 <= len(p) {
			fn(at, key)
		}
	}
}

// eachRef calls fn with each checksum of a run in a node page, and where the run lies. The
// page may hold anything: what is not within page and file is passed over.
func eachRef(data, p []byte, fn func(sum []byte, from, n int)) {
	eachEntryRef(p, func(at int, key uint64) { eachRun(data, p, at, key+uint64(le.Uint32(p[at+refSize:])), fn) })
	n := int(le.Uint16(p[pageCount:]))
	for i := range n {
		offset := pageHead + 8*n + 2*i
		if p[pageKind] != 2 || offset+2 > len(p) {
			return
		}
		// A separator in a run: a mark of two bytes, its length, the reference.
		if at := int(le.Uint16(p[offset:])); at > 4 && at+4 <= len(p) && le.Uint16(p[at:]) == 0xffff {
			eachRun(data, p, at+4, uint64(le.Uint16(p[at+2:])), fn)
		}
	}
}

// eachRun calls fn with the checksum in the reference at an offset of p, and the place of
// the n bytes that it refers to.
func eachRun(data, p []byte, at int, n uint64, fn func(sum []byte, from, n int)) {
	if at+refSize > len(p) {
		return
	}
	from := uint64(le.Uint32(p[at:])) * imagePageSize
	if from >= 2*imagePageSize && n <= uint64(len(data)) && from+n <= uint64(len(data)) {
		fn(p[at+refSum:][:8], int(from), int(n))
	}
}

// soundPage reports whether a page carries its own checksum, as nodes do.
func soundPage(p []byte) bool { return le.Uint64(p[pageSum:]) == xxhash.Sum64(p[8:]) }

// fixLog gives the log's header and records their checksums, and chains each record
// to the one before it.
func fixLog(log []byte, tails []int) {
	if len(log) < logFirst {
		return
	}
	chain, nextLSN := xxhash.Sum64(log[:logSum]), le.Uint64(log[logLSN:])
	le.PutUint64(log[logSum:], chain)
	for at := logFirst; at+logBlock <= len(log); at += logBlock {
		r := log[at:]
		if string(r[:4]) != recordMagic {
			continue
		}
		length := uint64(le.Uint32(r[recordLength:]))
		if recordHead+length > uint64(len(r)) {
			continue
		}
		le.PutUint64(r[recordPayload:], xxhash.Sum64(r[recordHead:recordHead+length]))
		if lsn := le.Uint64(r[recordLSN:]); lsn == nextLSN {
			le.PutUint64(r[recordChain:], chain)
		}
		chain = xxhash.Sum64(r[:recordSum])
		le.PutUint64(r[recordSum:], chain)
		size := int(recordHead + length)
		for r[4] == recordRun {
			tail := (size + 7) &^ 7
			if _, found := slices.BinarySearch(tails, at+tail); !found || tail+tailHead > len(r) {
				break
			}
			p := r[tail:]
			n := int64(le.Uint32(p[tailLength:]))
			if n > int64(len(p)-tailHead) {
				break
			}
			le.PutUint32(p[tailCheck:], uint32(seededSum(p[8:tailCheck], chain)))
			chain = seededSum(p[8:tailHead+n], chain)
			le.PutUint64(p, chain)
			size = tail + tailHead + int(n)
		}
		nextLSN = le.Uint64(r[recordLSN:]) + uint64(size+logBlock-1)/logBlock*logBlock
	}
}

// tailsOf returns where the tails in a sound log begin.
func tailsOf(log []byte) (tails []int) {
	for at := logFirst; at+logBlock <= len(log); at += logBlock {
		r := log[at:]
		if string(r[:4]) != recordMagic || r[4] != recordRun || xxhash.Sum64(r[:recordSum]) != le.Uint64(r[recordSum:]) {
			continue
		}
		chain := le.Uint64(r[recordSum:])
		for end := recordHead + int(le.Uint32(r[recordLength:])); ; {
			end = (end + 7) &^ 7
			if end+tailHead > len(r) || le.Uint32(r[end+tailCheck:]) != uint32(seededSum(r[end+8:end+tailCheck], chain)) {
				break
			}
			n := tailHead + int(le.Uint32(r[end+tailLength:]))
			tails = append(tails, at+end)
			chain = seededSum(r[end+8:end+n], chain)
			end += n
		}
	}
	return tails
}

func seededSum(p []byte, seed uint64) uint64 {
	sum := xxhash.NewWithSeed(seed)
	sum.Write(p)
	return sum.Sum64()
}

// TestFixups checks that putting the checksums of sound files right changes nothing, and
// that those of runs are put right when they are not:
// else FuzzOpen would fuzz the checksums only, and nobody would know.
func TestFixups(t *testing.T) {
	for _, im := range buildImages(t) {
		fixed := im.clone()
		fixed.fix(im)
		if string(fixed.data) != string(im.data) {
			t.Errorf("%s: fixPages changes the data file", im.name)
		}
		if string(fixed.log) != string(im.log) {
			t.Errorf("%s: fixLog changes the log", im.name)
		}
		runs, sets := breakRefs(fixed.data, im.isNode)
		fixed.fix(im)
		if string(fixed.data) != string(im.data) {
			t.Errorf("%s: fixPages does not put the checksums of runs right", im.name)
		}
		if runs < im.runs || sets < im.sets {
			t.Errorf("%s: %d runs and %d free sets found, want at least %d and %d", im.name, runs, sets, im.runs, im.sets)
		}
		nodes, records, tails := 0, 0, 0
		for id := 2; (id+1)*imagePageSize <= len(im.data); id++ {
			if soundPage(im.data[id*imagePageSize:][:imagePageSize]) {
				nodes++
			}
		}
		for at := logFirst; at < len(im.log); at += logBlock {
			if string(im.log[at:at+4]) == recordMagic {
				records++
			}
		}
		for _, at := range im.tailsAt {
			tails++
			fixed.log[at] ^= 1
			fixed.log[at+tailCheck] ^= 1
		}
		if nodes < im.nodes || records < im.records || tails < im.tails {
			t.Errorf("%s: %d nodes, %d records and %d tails found, want at least %d, %d and %d",
				im.name, nodes, records, tails, im.nodes, im.records, im.tails)
		}
		if fixed.fix(im); string(fixed.log) != string(im.log) {
			t.Errorf("%s: fixLog does not put the checksums of tails right", im.name)
		}
	}
}

// breakRefs changes every checksum of a run in a data file, and counts those in nodes and in meta slots.
func breakRefs(data []byte, isNode func(id int) bool) (runs, sets int) {
	eachPage(data, func(id int, p []byte) {
		if id < 2 {
			eachSet(data, p, func(sum []byte, _, _ int) { sum[0] ^= 1; sets++ })
		} else if isNode(id) {
			eachRef(data, p, func(sum []byte, _, _ int) { sum[0] ^= 1; runs++ })
		}
	})
	return runs, sets
}
