package fuzz

import (
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// The damage of FuzzOpen would go no further than the checksums, so they are put
// right afterwards, as far as the formats allow: a run's checksum lies in the entry
// that refers to it, and stays wrong. This file knows where the checksums lie, and
// nothing else of the formats; TestFixups holds it to the store.
const (
	imagePageSize = 4096

	pageSum  = 0   // in a node page, of the bytes from 8 to its end
	metaSum  = 504 // in a meta slot, of the bytes before it
	logSum   = 56  // in the log's header, of the bytes before it; the first record is chained to it
	logLSN   = 48  // in the log's header, of the first record
	logBlock = 512 // records begin on a multiple of it
	logFirst = 4096

	recordMagic   = "OWAL" // as it lies in the file
	recordLength  = 8
	recordLSN     = 32
	recordChain   = 64
	recordPayload = 72 // checksum of the payload
	recordSum     = 80 // of the bytes before it
	recordHead    = 88
)

var le = binary.LittleEndian

// fixPages gives every page of a data file the checksum of its content. Pages of runs
// have none and must be left alone: isNode tells by page number.
func fixPages(data []byte, isNode func(id int) bool) {
	for id := 0; (id+1)*imagePageSize <= len(data); id++ {
		p := data[id*imagePageSize:][:imagePageSize]
		switch {
		case id < 2:
			le.PutUint64(p[metaSum:], xxhash.Sum64(p[:metaSum]))
		case isNode(id):
			le.PutUint64(p[pageSum:], xxhash.Sum64(p[8:]))
		}
	}
}

// soundPage reports whether a page carries its own checksum, as nodes do.
func soundPage(p []byte) bool { return le.Uint64(p[pageSum:]) == xxhash.Sum64(p[8:]) }

// fixLog gives the log's header and records their checksums, and chains each record
// to the one before it.
func fixLog(log []byte) {
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
		nextLSN = le.Uint64(r[recordLSN:]) + (recordHead+length+logBlock-1)/logBlock*logBlock
	}
}

// TestFixups checks that putting the checksums of sound files right changes nothing:
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
		nodes, records := 0, 0
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
		if nodes < im.nodes || records < im.records {
			t.Errorf("%s: %d nodes and %d records found, want at least %d and %d", im.name, nodes, records, im.nodes, im.records)
		}
	}
}
