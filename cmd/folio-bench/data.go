package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// keySize is the length of every key.
const keySize = 24

// mix is a bijection of 64-bit numbers that looks random: the finisher of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// putKey writes key i. Its first eight bytes differ for each i, so no two keys are equal. In random order they say
// nothing about i; in ascending order they rise with i in even steps, as random keys do once they are sorted.
func (s state) putKey(key *[keySize]byte, i uint64) []byte {
	first := mix(i)
	if s.Stride > 0 {
		first = (i + 1) * s.Stride
	}
	binary.BigEndian.PutUint64(key[0:], first)
	binary.BigEndian.PutUint64(key[8:], mix(^i))
	binary.BigEndian.PutUint64(key[16:], mix(i^0x5555555555555555))
	return key[:]
}

// A value begins with the record's number and a stamp, which say what must follow: a piece of random bytes, which no
// engine can compress. So each value can be verified by itself, whoever wrote it last.
type values struct {
	pool []byte // random bytes
	buf  []byte
}

const (
	stampSize = 16
	shifts    = 4096 // number of places in the pool at which a value can begin
)

func newValues(size int) *values {
	v := &values{pool: make([]byte, shifts+size), buf: make([]byte, size)}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(v.pool) // never fails
	return v
}

// of returns the value of record i with a stamp. It is valid until the next call.
func (v *values) of(i, stamp uint64) []byte {
	binary.LittleEndian.PutUint64(v.buf[0:], i)
	binary.LittleEndian.PutUint64(v.buf[8:], stamp)
	copy(v.buf[stampSize:], v.pool[mix(i^stamp)%shifts:])
	return v.buf
}

// check says what is wrong with a value, and otherwise which record it belongs to.
func (v *values) check(value []byte) (i, stamp uint64, err error) {
	if len(value) != len(v.buf) {
		return 0, 0, fmt.Errorf("a value has %d bytes, not %d", len(value), len(v.buf))
	}
	i, stamp = binary.LittleEndian.Uint64(value), binary.LittleEndian.Uint64(value[8:])
	if string(v.of(i, stamp)) != string(value) {
		return 0, 0, fmt.Errorf("the value of record %d is damaged", i)
	}
	return i, stamp, nil
}

// A state says what a store holds: the records with numbers from First up to End. It goes from one process to the next
// with the store.
type state struct {
	First, End uint64
	Size       int    // of a value
	Round      uint64 // upper half of every stamp: which overwriting of all records was the last
	Stride     uint64 // between the keys of an ascending load; 0: keys are in random order
}

func (s state) count() uint64 { return s.End - s.First }

// payload is the number of bytes in keys and values.
func (s state) payload() int64 { return int64(s.count()) * int64(keySize+s.Size) }

// verify reads the whole store and holds it to the state: each record once, in the order of keys, with a sound value of
// the current round; forward, backward and by key.
func (s state) verify(st store) error {
	v := newValues(s.Size)
	return st.View(func(r reader) error {
		for _, back := range []bool{false, true} {
			if err := s.verifyScan(r, v, back); err != nil {
				return err
			}
		}
		var key [keySize]byte
		for n := uint64(0); n < min(s.count(), 1000); n++ {
			i := s.First + mix(n)%s.count()
			value, err := r.Get(s.putKey(&key, i))
			if err != nil {
				return err
			}
			if at, _, err := v.check(value); err != nil || at != i {
				return fmt.Errorf("get of record %d gives record %d: %v", i, at, err)
			}
		}
		return nil
	})
}

func (s state) verifyScan(r reader, v *values, back bool) error {
	var failed error
	var last []byte
	var want [keySize]byte
	n := uint64(0)
	look := func(key, value []byte) bool {
		i, stamp, err := v.check(value)
		switch {
		case err != nil:
			failed = err
		case i < s.First || i >= s.End:
			failed = fmt.Errorf("record %d should not be there", i)
		case stamp>>32 != s.Round:
			failed = fmt.Errorf("record %d is of round %d, not %d", i, stamp>>32, s.Round)
		case string(s.putKey(&want, i)) != string(key):
			failed = fmt.Errorf("record %d has another key", i)
		case last != nil && (string(last) >= string(key)) != back:
			failed = fmt.Errorf("record %d is out of order", i)
		}
		last = append(last[:0], key...)
		n++
		return failed == nil
	}
	scan := func() error { return r.Scan(nil, look) }
	if back {
		scan = func() error { return r.ScanBack(look) }
	}
	if err := scan(); err != nil || failed != nil {
		return fmt.Errorf("scan (backward: %t): %v%v", back, err, failed)
	}
	if n != s.count() {
		return fmt.Errorf("scan (backward: %t) gives %d records, not %d", back, n, s.count())
	}
	return nil
}
