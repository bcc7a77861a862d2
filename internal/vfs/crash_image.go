package vfs

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

const (
	sectorSize = 512  // what a device writes by itself; the unit of a crash
	chunkSize  = 4096 // what images share among each other
)

// image is what lies on the disk for one file, of whatever size. It never
// changes, so that all states of a log share one copy of the data: an editor
// makes the next image from it.
type image struct {
	chunks []chunk
	sum    uint64 // of the sectors of all chunks
}

// chunk is chunkSize bytes of an image; its data may lie in the log. Nil data
// is zeros.
type chunk struct {
	data []byte
	sum  uint64
}

// read fills p with the bytes at off.
func (m *image) read(p []byte, off int64) {
	for len(p) > 0 {
		n := min(len(p), chunkSize-int(off%chunkSize))
		if c := m.chunk(off / chunkSize); c != nil {
			copy(p[:n], c[off%chunkSize:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// chunk returns the data of chunk i, nil for zeros.
func (m *image) chunk(i int64) []byte {
	if i >= int64(len(m.chunks)) {
		return nil
	}
	return m.chunks[i].data
}

// sector returns the bytes of sector i, nil for zeros.
func (m *image) sector(i int64) []byte {
	c := m.chunk(i * sectorSize / chunkSize)
	if c == nil {
		return nil
	}
	off := i * sectorSize % chunkSize
	return c[off : off+sectorSize]
}

// sectors is the number of sectors that may hold something else than zeros.
func (m *image) sectors() int64 {
	return int64(len(m.chunks)) * (chunkSize / sectorSize)
}

// newImage makes an image of a file's bytes, which it keeps and may share.
func newImage(p []byte) image {
	e := (&image{}).edit()
	e.write(p, 0)
	return e.image()
}

// editor makes one image from another. Chunks are copied when first changed.
type editor struct {
	old     *image
	chunks  []chunk
	touched []bool // the chunk's data is the editor's own, its sum is stale
}

func (m *image) edit() editor { return editor{old: m} }

// write puts p at off. It keeps p where it fills whole chunks.
func (e *editor) write(p []byte, off int64) {
	for len(p) > 0 {
		at := off % chunkSize
		n := min(len(p), int(chunkSize-at))
		if n == chunkSize {
			e.reach(off / chunkSize)
			i := off / chunkSize
			e.chunks[i] = newChunk(p[:n:n], i)
			e.touched[i] = false
		} else {
			copy(e.own(off / chunkSize)[at:], p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// zero clears [from, to).
func (e *editor) zero(from, to int64) {
	if e.chunks == nil {
		e.reach(-1)
	}
	to = min(to, int64(len(e.chunks))*chunkSize)
	for from < to {
		at := from % chunkSize
		n := min(to-from, chunkSize-at)
		i := from / chunkSize
		switch {
		case n == chunkSize:
			e.chunks[i], e.touched[i] = chunk{}, false
		case e.chunks[i].data != nil:
			clear(e.own(i)[at : at+n])
		}
		from += n
	}
}

// own returns chunk i for writing.
func (e *editor) own(i int64) []byte {
	e.reach(i)
	if !e.touched[i] {
		data := make([]byte, chunkSize)
		copy(data, e.chunks[i].data)
		e.chunks[i].data, e.touched[i] = data, true
	}
	return e.chunks[i].data
}

// reach makes room for chunk i.
func (e *editor) reach(i int64) {
	if e.chunks == nil {
		n := max(len(e.old.chunks), int(i+1))
		e.chunks = append(make([]chunk, 0, n), e.old.chunks...)
		e.touched = make([]bool, len(e.old.chunks), n)
	}
	if n := int(i+1) - len(e.chunks); n > 0 {
		e.chunks = append(e.chunks, make([]chunk, n)...)
		e.touched = append(e.touched, make([]bool, n)...)
	}
}

// image ends the edit. The editor must not be used afterwards.
func (e *editor) image() image {
	if e.chunks == nil {
		return *e.old
	}
	m := image{chunks: slices.Clip(e.chunks)}
	for i := range m.chunks {
		if e.touched[i] {
			m.chunks[i] = newChunk(m.chunks[i].data, int64(i))
		}
		m.sum += m.chunks[i].sum
	}
	return m
}

func newChunk(data []byte, i int64) chunk {
	c := chunk{data: data}
	for k := range int64(chunkSize / sectorSize) {
		c.sum += sectorSum(i*(chunkSize/sectorSize)+k, data[k*sectorSize:(k+1)*sectorSize])
	}
	if c.sum == 0 && isZero(data) {
		c.data = nil
	}
	return c
}

// sectorSum is what sector i with content p adds to the sum of an image. Zeros
// add nothing, so that the sum does not depend on how far an image reaches.
func sectorSum(i int64, p []byte) uint64 {
	if isZero(p) {
		return 0
	}
	return mix(xxhash.Sum64(p) + uint64(i)*0x9e3779b97f4a7c15)
}

// isZero tells whether p, of at most a chunk, holds only zeros. The first word
// decides nearly always.
func isZero(p []byte) bool {
	if len(p) >= 8 && binary.LittleEndian.Uint64(p) != 0 {
		return false
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// mix spreads x over all bits (the finisher of splitmix64), so that sums of
// mixed values do not cancel each other.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
