package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
)

// Version is the version of the log's format that this package writes and reads.
const Version = 2

const (
	headerMagic = "FOLIOWAL"
	headerLSN   = 48
	headerSum   = 56 // where the header's checksum lies
	headerSize  = 64
)

// HeaderID is where the store's id lies in a header, for those who say that it is another one's.
const HeaderID = 16

// A Header is the first block of a log file. It is written once, when the file
// is created, so a bad one is damage and never a torn write.
//
//	offset size
//	     0    8  magic "FOLIOWAL"
//	     8    4  version
//	    12    4  zero
//	    16   16  store id
//	    32    8  checkpoint number
//	    40    8  epoch of the first record
//	    48    8  LSN of the first record
//	    56    8  xxhash64 of bytes [0, 56)
//	    64       zeros to 4096, where the first record lies
//
// All numbers are little-endian.
type Header struct {
	Version    uint32
	ID         [16]byte // of the store
	Checkpoint uint64   // number of the checkpoint that the log was created behind
	Epoch      uint64   // of the first record
	LSN        LSN      // of the first record
	sum        uint64
}

// Start returns the position of the first record of a new log.
func (h *Header) Start() Position {
	return Position{LSN: h.LSN, Offset: recordsAt, Epoch: h.Epoch, Chain: h.sum}
}

// encode fills p, at least headerSize zero bytes, and sets the checksum.
func (h *Header) encode(p []byte) {
	copy(p, headerMagic)
	binary.LittleEndian.PutUint32(p[8:], h.Version)
	copy(p[HeaderID:HeaderID+16], h.ID[:])
	binary.LittleEndian.PutUint64(p[32:], h.Checkpoint)
	binary.LittleEndian.PutUint64(p[40:], h.Epoch)
	binary.LittleEndian.PutUint64(p[headerLSN:], uint64(h.LSN))
	h.sum = xxhash.Sum64(p[:headerSum])
	binary.LittleEndian.PutUint64(p[headerSum:], h.sum)
}

// ReadHeader reads and verifies the header of a log file. Errors: *CorruptError
// when it is damaged or not a log's, ErrVersion, or what reading gave.
func ReadHeader(f vfs.File) (Header, error) {
	var p [headerSize]byte
	if _, err := f.ReadAt(p[:], 0); errors.Is(err, io.EOF) {
		return Header{}, corrupt(f, 0, 0, InvariantPrefix, "file is too short for a header")
	} else if err != nil {
		return Header{}, fmt.Errorf("wal: read header: %w", err)
	}
	h := Header{
		Version:    binary.LittleEndian.Uint32(p[8:]),
		ID:         [16]byte(p[HeaderID : HeaderID+16]),
		Checkpoint: binary.LittleEndian.Uint64(p[32:]),
		Epoch:      binary.LittleEndian.Uint64(p[40:]),
		LSN:        LSN(binary.LittleEndian.Uint64(p[headerLSN:])),
		sum:        binary.LittleEndian.Uint64(p[headerSum:]),
	}
	switch {
	case string(p[:8]) != headerMagic:
		return Header{}, corrupt(f, 0, 0, InvariantPrefix, "header has no magic: not a log")
	case xxhash.Sum64(p[:headerSum]) != h.sum:
		return Header{}, corrupt(f, headerSum, 0, InvariantPrefix, "header checksum does not match")
	case h.Version != Version:
		return Header{}, fmt.Errorf("%w: %s has version %d, this program reads version %d",
			ErrVersion, base(f), h.Version, Version)
	case h.LSN > maxLSN:
		return Header{}, corrupt(f, headerLSN, h.LSN, InvariantPrefix, "header names an impossible lsn")
	}
	return h, nil
}

func base(f vfs.File) string { return filepath.Base(f.Name()) }

func corrupt(f vfs.File, off int64, lsn LSN, invariant int, format string, args ...any) *CorruptError {
	return &CorruptError{File: base(f), Offset: off, LSN: lsn, Invariant: invariant, Reason: fmt.Sprintf(format, args...)}
}
