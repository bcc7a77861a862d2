package page

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func sealMeta(p []byte) { le.PutUint64(p[metaChecksum:], xxhash.Sum64(p[:metaChecksum])) }

func testMeta() Meta {
	return Meta{
		PageSize: 8192, StoreID: [16]byte{9, 8, 7}, Checkpoint: 1 << 40, Tx: 1 << 41, Clean: true, Pages: 1000,
		Root: BucketHeader{Sequence: 1 << 50, Items: 1 << 46, Root: 999, Level: 23},
		Free: Ref{ID: 998, Born: 1 << 39, Sum: 1 << 63}, FreeLen: 2 * 8192,
		LogLSN: 1<<62 - 1, LogOffset: 1 << 33, LogEpoch: 1<<64 - 1, LogChain: 1<<64 - 2,
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for _, m := range []Meta{testMeta(), {PageSize: 4096, Pages: 2}} {
		for slot := range 2 {
			p := bytes.Repeat([]byte{0xee}, m.PageSize)
			m.Encode(p, slot)
			if got, err := DecodeMeta(p, slot); err != nil || got != m {
				t.Errorf("slot %d: %+v, %v, want %+v", slot, got, err, m)
			}
			if _, err := DecodeMeta(p[:MetaSize], slot); err != nil {
				t.Error(err)
			}
			if _, err := DecodeMeta(p, 1-slot); !errors.Is(err, ErrCorrupt) {
				t.Errorf("slot %d passes for the other: %v", slot, err)
			}
			if !zero(p[MetaSize:]) {
				t.Error("the rest of the page is not zero")
			}
		}
	}
}

// TestMetaDamage: any changed byte is noticed, as what it is.
func TestMetaDamage(t *testing.T) {
	m := testMeta()
	p := make([]byte, MetaSize)
	m.Encode(p, 1)
	for i := range p {
		for _, x := range []byte{1, 0x80, 0xff} {
			p[i] ^= x
			want := ErrCorrupt
			if i < len(magic) {
				want = ErrInvalid
			}
			if _, err := DecodeMeta(p, 1); !errors.Is(err, want) {
				t.Errorf("byte %d ^ %#x: %v, want %v", i, x, err, want)
			}
			p[i] ^= x
		}
	}
	for n := range MetaSize {
		if _, err := DecodeMeta(p[:n], 1); err == nil {
			t.Errorf("%d bytes pass for a slot", n)
		}
	}
}

// FuzzMeta: what decodes encodes to the same bytes, and obeys the bounds that the rest of the store relies on.
func FuzzMeta(f *testing.F) {
	m := testMeta()
	p := make([]byte, MetaSize)
	m.Encode(p, 0)
	f.Add(p, false)
	f.Add(p, true)
	f.Add([]byte(magic), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= MetaSize {
			b = bytes.Clone(b[:MetaSize])
			copy(b, magic)
			sealMeta(b)
		}
		m, err := DecodeMeta(b, 0)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrVersionMismatch) && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !ValidSize(m.PageSize) || m.Root.Root >= m.Pages || m.Root.Level >= MaxLevel || m.LogOffset < 0 {
			t.Fatalf("impossible: %+v", m)
		}
		if end := uint64(m.Free.ID) + RunPages(m.FreeLen, m.PageSize); m.FreeLen > 0 && (m.Free.ID < FirstID || end > uint64(m.Pages)) {
			t.Fatalf("free set out of bounds: %+v", m)
		}
		again := make([]byte, MetaSize)
		m.Encode(again, 0)
		if !bytes.Equal(again, b[:MetaSize]) {
			t.Fatalf("%x encodes to %x", b[:MetaSize], again)
		}
	})
}
