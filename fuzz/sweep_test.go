package fuzz

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

var (
	damageFlag     = flag.Bool("folio.damage", false, "run the whole of TestFixedDamage, not a sample")
	damageCaseFlag = flag.String("folio.damagecase", "", "a case that TestFixedDamage printed: only this is run")
)

// openRoom is what all that openDamaged does with a damaged store may allocate above what it allocates for the sound one and
// the size of its files: what is damaged may be read and copied more often. A length that a damaged file tells and that
// is believed is seen here if it is larger than this.
const openRoom = 1 << 20

// bounded calls fn and returns an error if it allocated more than size and room, or took longer than any case can.
func bounded(what string, size, room int, fn func() error) (over int, err error) {
	watchdog := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic("fuzz: a damaged store hangs: " + what)
	})
	defer watchdog.Stop()
	before := allocatedBytes()
	err = fn()
	over = int(allocatedBytes()-before) - size
	if err == nil && over > room {
		err = fmt.Errorf("%d bytes were allocated for files of %d", over+size, size)
	}
	return max(over, 0), err
}

// allocatedBytes is what has ever been allocated on the heap, exactly: package runtime/metrics counts some of it later.
func allocatedBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// measure notes what all that openDamaged does allocates for the sound image, with whatever is kept for later collected before.
func (im *image) measure(t testing.TB, path string) {
	for _, detectable := range []bool{false, true} {
		runtime.GC()
		runtime.GC()
		before := allocatedBytes()
		if err := openDamaged(fmt.Sprintf("%s.%v", path, detectable), im.clone(), detectable); err != nil {
			t.Fatalf("%s: %v", im.name, err)
		}
		im.cost = max(im.cost, int(allocatedBytes()-before))
	}
}

// TestFixedDamage changes every field of page headers, slots, meta slots, free sets, runs, log header and log records in turn and puts all
// checksums right again, so that nothing but the store's own suspicion is left. What is read may be wrong then. It
// must not end in a panic, a fault, a loop, an error of no type, or an allocation of what the file says; and
// where Check finds nothing, every way of reading must say the same.
//
//	go test ./fuzz -run TestFixedDamage -folio.damage -v -timeout 3h
func TestFixedDamage(t *testing.T) {
	f := &fixedSweep{t: t, dir: scratch(t), s: newSeeded(firstSeed())}
	began := time.Now()
	for _, im := range buildImages(t) {
		if im.name != "closed" && im.name != "killed" {
			continue
		}
		f.image = im
		f.metas()
		f.freeSet()
		for id := 2; (id+1)*imagePageSize <= len(im.data); id++ {
			if p := im.data[id*imagePageSize:][:imagePageSize]; soundPage(p) {
				f.node(id, p)
				f.runs(p)
			}
		}
		f.log()
	}
	if f.cases == 0 {
		t.Error("no case")
	}
	t.Logf("%d cases, panics 0, hangs 0, at most %d KiB allocated beyond the files and what the sound store takes; %.0f/s", f.cases, f.most>>10, float64(f.cases)/time.Since(began).Seconds())
}

// A fixedSweep is one run of TestFixedDamage.
type fixedSweep struct {
	t     *testing.T
	dir   string
	s     seeded
	image *image
	cases int
	most  int // bytes allocated
}

// try changes a number of some bytes at an offset of a file, in one place or in several, and opens the result.
func (f *fixedSweep) try(file string, oneIn int, word []byte, at ...int) {
	f.change(fmt.Sprintf("%s %v: %x", file, at, word), oneIn, func(im *image) {
		to := im.data
		if file == "log" {
			to = im.log
		}
		for _, at := range at {
			copy(to[at:], word)
		}
	})
}

// change makes a change to the files, or to one in so many of a sample, and opens the result.
func (f *fixedSweep) change(name string, oneIn int, fn func(im *image)) {
	name = f.image.name + " " + name
	if only := *damageCaseFlag; only != "" && only != name || only == "" && !*damageFlag && f.s.intn(oneIn) > 0 {
		return
	}
	im := f.image.clone()
	fn(im)
	im.fix(f.image)
	f.cases++
	path := filepath.Join(f.dir, "app.db")
	for _, suffix := range []string{"", "-wal", ".backup", ".compact", ".backup-wal", ".compact-wal"} {
		_ = os.Remove(path + suffix) // of the case before
	}
	over, err := bounded(name, len(im.data)+len(im.log), im.cost+openRoom, func() error {
		return openDamaged(path, im, false)
	})
	f.most = max(f.most, over-im.cost)
	if err != nil {
		f.t.Errorf("%s: %v\n\tgo test ./fuzz -run '^TestFixedDamage$' -folio.damagecase '%s'", name, err, name)
	}
	if f.t.Failed() && f.cases%100 == 0 {
		f.t.FailNow()
	}
}

// bytes tries values for each byte of a range, and more of them for a field.
func (f *fixedSweep) bytes(file string, oneIn int, b []byte, from, to int, field bool) {
	for at := from; at < to; at++ {
		v := b[at]
		values := []byte{0, 0xff, v + 1}
		if field {
			values = append(values, 1, 0x7f, 0x80, ^v, v^1, v-1)
		}
		for i, w := range values {
			if w != v && !slices.Contains(values[:i], w) {
				f.try(file, oneIn, []byte{w}, at)
			}
		}
	}
}

// numbers tries values for a number of so many bytes, in one place or in several.
func (f *fixedSweep) numbers(file string, oneIn int, b []byte, size int, at ...int) {
	var word [8]byte
	copy(word[:size], b[at[0]:])
	v := le.Uint64(word[:])
	for _, w := range []uint64{0, 1, 2, 3, v + 1, v - 1, v + 4096, v * 2, 1 << 12, 1 << 15, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 47, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		le.PutUint64(word[:], w)
		f.try(file, oneIn, word[:size], at...)
	}
}

// metas changes the fields of one slot, and of both.
func (f *fixedSweep) metas() {
	d := f.image.data
	f.bytes("data", 100, d, 8, 148, true)
	f.bytes("data", 200, d, imagePageSize+8, imagePageSize+148, true)
	for _, field := range []struct{ at, size int }{
		{8, 4}, {12, 4}, {16, 4}, {20, 4}, {24, 8}, {32, 8}, {40, 8}, {48, 8}, {56, 4}, {60, 4}, {64, 8}, {72, 8}, {80, 4}, {84, 4},
		{88, 4}, {92, 8}, {100, 8}, {108, 8}, {116, 8}, {124, 8}, {132, 8}, {140, 8}, {148, 8},
	} {
		f.numbers("data", 10, d, field.size, field.at, imagePageSize+field.at)
		f.numbers("data", 20, d, field.size, field.at)
	}
	for page := range len(d)/imagePageSize + 1 { // any page for the root, and for the free set
		for _, at := range []int{80, 88} {
			f.try("data", 10, le.AppendUint32(nil, uint32(page)), at, imagePageSize+at)
		}
	}
}

// freeSet changes the free set that the newer slot names: its bytes, and all of it.
func (f *fixedSweep) freeSet() {
	d := f.image.data
	at, n := int(le.Uint32(d[metaSet:]))*imagePageSize, int(le.Uint64(d[metaSet+refSize:]))
	f.bytes("data", 20, d, at, at+n, true)
	pages := uint64(le.Uint32(d[60:]))
	for start := uint64(2); start <= pages; start++ {
		for _, length := range []uint64{1, 2, pages - start, pages, 1 << 31} {
			if length == 0 {
				continue
			}
			set := []byte{1}
			for _, x := range []uint64{length, start - 2, length - 1} {
				set = binary.AppendUvarint(set, x)
			}
			f.change(fmt.Sprintf("set of %d pages from %d", length, start), 40, func(im *image) {
				copy(im.data[at:], set)
				for slot := range 2 {
					le.PutUint64(im.data[slot*imagePageSize+metaSet+refSize:], uint64(len(set)))
				}
			})
		}
	}
}

// runs changes what a page's runs begin with, and where the first bytes of a value lie that follows a long key.
func (f *fixedSweep) runs(p []byte) {
	eachRef(f.image.data, p, func(_ []byte, from, n int) {
		f.bytes("data", 100, f.image.data, from, from+min(n, 40), false)
		f.bytes("data", 100, f.image.data, from+min(n, 700), from+min(n, 740), false)
	})
}

// node changes a page: header, the arrays of slots, and what refers to other pages.
func (f *fixedSweep) node(id int, p []byte) {
	base := id * imagePageSize
	n, heap := int(le.Uint16(p[24:])), int(le.Uint16(p[28:]))
	arrays := 32 + 10*n
	if p[12] == 2 {
		arrays = 32 + 16*n
	}
	f.bytes("data", 1000, f.image.data, base+8, base+32, true)
	for _, at := range []int{24, 26, 28, 30} {
		f.numbers("data", 100, f.image.data, 2, base+at)
	}
	f.numbers("data", 100, f.image.data, 8, base+16)
	f.bytes("data", 1000, f.image.data, base+32, base+arrays, false)
	eachEntryRef(p, func(at int, _ uint64) {
		f.numbers("data", 20, f.image.data, 4, base+at+refSize)
		f.try("data", 20, le.AppendUint32(nil, imagePageSize/2-uint32(at)%64), base+at+refSize) // about as long as a value in the page may be
	})
	pages := len(f.image.data) / imagePageSize
	for at := 32; at+4 <= len(p); at++ {
		if at == arrays {
			at = len(p) - heap
		}
		if target := int(le.Uint32(p[at:])); target >= 2 && target < pages {
			for _, other := range []int{id, 0, f.s.intn(pages), pages} {
				f.try("data", 300, le.AppendUint32(nil, uint32(other)), base+at)
			}
		}
		if at > arrays && at%11 == 0 {
			f.try("data", 1000, []byte{^p[at]}, base+at)
		}
	}
}

// log changes the log's header, and heads and payloads of records.
func (f *fixedSweep) log() {
	l := f.image.log
	if l == nil {
		return
	}
	f.bytes("log", 50, l, 8, 56, true)
	from, records := int(le.Uint64(f.image.data[124:])), 0
	for at := logFirst; at+logBlock <= len(l); at += logBlock {
		if string(l[at:at+4]) != recordMagic {
			continue
		}
		if records++; at < from && records%16 != 0 { // before the checkpoint: only what it claims counts
			continue
		}
		f.bytes("log", 500, l, at+4, at+72, true)
		for _, field := range []struct{ at, size int }{{8, 4}, {12, 4}, {32, 8}, {40, 8}, {48, 8}, {56, 8}} {
			f.numbers("log", 100, l, field.size, at+field.at)
		}
		end := at + recordHead + int(le.Uint32(l[at+recordLength:]))
		f.bytes("log", 500, l, at+recordHead, min(end, at+recordHead+400), false)
	}
	for i, tail := range f.image.tailsAt {
		if i%4 == 0 && tail >= from-logBlock {
			f.bytes("log", 500, l, tail+8, tail+tailHead, true)
			f.numbers("log", 100, l, 8, tail+8)
			f.numbers("log", 100, l, 4, tail+tailLength)
			f.bytes("log", 500, l, tail+tailHead, tail+tailHead+int(min(le.Uint32(l[tail+tailLength:]), 100)), false)
		}
	}
}
