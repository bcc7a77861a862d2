package page

import "testing"

func TestRef(t *testing.T) {
	r := Ref{ID: 0x01020304, Born: 0x05060708090a0b0c, Sum: 0xf00d}
	var b [RefSize]byte
	r.Encode(b[:])
	if got := DecodeRef(b[:]); got != r {
		t.Errorf("%v, want %v", got, r)
	}
	if b[0] != 4 || b[4] != 0x0c || b[12] != 0x0d {
		t.Errorf("not little-endian: %x", b)
	}
	if s := r.String(); s != "run 16909060 (born 361984551142689548, sum 000000000000f00d)" {
		t.Error(s)
	}
}

func TestRunPages(t *testing.T) {
	for n, want := range map[uint64]uint64{0: 0, 1: 1, 4095: 1, 4096: 1, 4097: 2, 1<<64 - 1: 1 << 52} {
		if got := RunPages(n, 4096); got != want {
			t.Errorf("%d bytes take %d pages, want %d", n, got, want)
		}
	}
}

func TestSum(t *testing.T) {
	whole := []byte("a long key and the value behind it, together more than 32 bytes")
	for i := range whole {
		if Sum(whole[:i], whole[i:]) != Sum(whole) {
			t.Fatalf("the sum of two parts differs at %d", i)
		}
	}
	if Sum() != Sum(nil) {
		t.Error("the sum of no parts is not that of nothing")
	}
	if n := testing.AllocsPerRun(100, func() { Sum(whole[:5], whole[5:]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
