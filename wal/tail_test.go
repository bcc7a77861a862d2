package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
)

// A tail had a constant by which it was found, and its length was believed before anything was verified. Then a block that was torn within the length, or a
// user's value that lay there before, was a tail that reached behind the end of the file, which is damage: a sound log was refused.
func TestTornTailIsNoDamage(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 17))
		l, f := createMem(t, Options{Initial: 64 << 10, Limit: 64 << 10})
		tx := uint64(0)
		add := func() Position {
			v := make([]byte, 20+rng.IntN(80))
			for i := range v {
				v[i] = byte(rng.IntN(256) * rng.IntN(2))
			}
			tx++
			g := group(tx, put("k", v))
			g.Unawaited = true
			return must(t)(l.Append(g))
		}
		until := LSN(64<<10 + rng.IntN(120<<10))
		p := l.End()
		for l.End().LSN < until {
			if p = add(); l.Live() > 8<<10 {
				must(t)(p, l.Sync())
				l.Release(p)
			}
		}
		must(t)(p, l.Sync())
		l.Release(p)
		for range 5 + rng.IntN(40) {
			add()
		}
		torn, i := rng.IntN(f.blocksPending()), 0
		c := f.crash(func(off int64, n int) int {
			if i++; i-1 == torn {
				return -1
			}
			return n
		}, func(s []int64) int64 { return s[len(s)-1] }, rng)
		if _, _, err := read(c, p); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Values of the user that look like the beginning of a tail lie where the log comes round to.
func TestValueIsNoTail(t *testing.T) {
	for shift := range tailUnit {
		var word [8]byte
		binary.LittleEndian.PutUint32(word[:], runMost)
		copy(word[4:], "TAIL")
		value := append(make([]byte, shift), bytes.Repeat(word[:], 400)...)
		l, f := createMem(t, Options{Initial: 64 << 10, Limit: 64 << 10})
		var p Position
		for tx := uint64(1); tx <= 60; tx++ {
			if tx == 60 {
				value = []byte("x")
			}
			g := group(tx, put("k", value))
			g.Unawaited = true
			p = must(t)(l.Append(g))
			must(t)(p, l.Sync())
			l.Release(p)
		}
		if _, _, err := read(f, p); err != nil {
			t.Errorf("shift %d: %v", shift, err)
		}
	}
}

// All heads of a hostile file have the same checksum, and end where a chain of tails begins, which steps over the position that is asked for. Each of them was
// followed to the end of the file: four times as long for a file of twice the size, an hour for one of 64 MiB.
func TestTailsAreToldOfOnce(t *testing.T) {
	const size, sum = 512 << 10, 0x1234567890abcdef
	l, f := createMem(t, Options{Initial: size, Limit: size})
	l.Close()
	x := int64(size / 2)
	for _, far := range []int64{x, recordsAt + 300*block} {
		lsn := func(off int64) LSN { return LSN(1<<20 + off) }
		for off := int64(recordsAt); off+block <= far; off += block {
			h := head{kind: kindRun, length: uint32(far - off - headSize), count: 1, id: testID, lsn: lsn(off), tx: 1}
			p := f.data[off:]
			h.encode(p)
			binary.LittleEndian.PutUint64(p[72:], invert(p, sum))
			binary.LittleEndian.PutUint64(p[headSum:], xxhash.Sum64(p[:headSum]))
		}
		chain := uint64(sum)
		for off := far; off+tailSize <= size; off += tailSize {
			tl := tail{tx: 2}
			tl.encode(f.data[off:], chain)
			chain = tl.sum
		}
		c := &countingFile{File: f}
		told := 0
		r, err := newRecovery(c, testID, Position{LSN: lsn(far) + 8, Offset: far + 8, Epoch: 1, Chain: 2})
		if err == nil {
			err = r.read(visitor{})
		}
		if err == nil {
			r.judge(func(*head, int64) { told++ })
		}
		if told > size/tailSize || c.read > 8*size {
			t.Errorf("told %d times, %d KiB read of a file of %d", told, c.read>>10, size>>10)
		}
	}
}

// countingFile counts the bytes that are read.
type countingFile struct {
	vfs.File
	read int64
}

func (f *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.read += int64(n)
	return n, err
}

// invert returns the last eight bytes with which the first 80 of p have a checksum.
func invert(p []byte, want uint64) uint64 {
	var p1, p2, p3, p4 uint64 = 11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579
	inv := func(x uint64) uint64 {
		y := x
		for range 6 {
			y *= 2 - x*y
		}
		return y
	}
	round := func(acc, in uint64) uint64 { return bits.RotateLeft64(acc+in*p2, 31) * p1 }
	merge := func(acc, v uint64) uint64 { return (acc^round(0, v))*p1 + p4 }
	v1, v2, v3, v4 := p1+p2, p2, uint64(0), -p1
	for i := 0; i < 64; i += 32 {
		v1, v2 = round(v1, binary.LittleEndian.Uint64(p[i:])), round(v2, binary.LittleEndian.Uint64(p[i+8:]))
		v3, v4 = round(v3, binary.LittleEndian.Uint64(p[i+16:])), round(v4, binary.LittleEndian.Uint64(p[i+24:]))
	}
	h := bits.RotateLeft64(v1, 1) + bits.RotateLeft64(v2, 7) + bits.RotateLeft64(v3, 12) + bits.RotateLeft64(v4, 18)
	h = merge(merge(merge(merge(h, v1), v2), v3), v4) + 80
	h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(p[64:])), 27)*p1 + p4
	w := want
	w ^= w >> 32
	w *= inv(p3)
	w ^= w>>29 ^ w>>58
	w *= inv(p2)
	w ^= w >> 33
	k := bits.RotateLeft64((w-p4)*inv(p1), -27) ^ h
	return bits.RotateLeft64(k*inv(p1), -31) * inv(p2)
}

// A tail that was cut off with the end of the file is noticed.
func TestCutTail(t *testing.T) {
	l, f := createMem(t, Options{Initial: 64 << 10, Limit: 64 << 10})
	from := l.End()
	var last Position
	for tx := uint64(1); tx <= 6; tx++ {
		g := group(tx, put("k", bytes.Repeat([]byte{byte(tx)}, 700)))
		g.Unawaited = true
		last = must(t)(l.Append(g))
	}
	for size := from.Offset; size < last.Offset+block; size++ {
		cut := &memFile{fsys: newMemFS(), name: f.name, data: bytes.Clone(f.data[:size])}
		if _, err := Recover(cut, testID, from, nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d of %d: %v", size, last.Offset, err)
		}
	}
}
