package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// newFieldStore makes a store with every kind of field: branches with short and long separators, leaves with entries of each
// form, runs, buckets inline and with a tree, and a free set.
func newFieldStore(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(path, &Options{PageSize: sweepPage, minCut: 1 << 20})
	must(t, err)
	must(t, db.Update(func(tx *Tx) error {
		plain, err := tx.CreateBucket([]byte("plain"))
		must(t, err)
		for i := range 100 {
			must(t, plain.Put(fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "%0100d", i)))
		}
		long, err := tx.CreateBucket([]byte("long"))
		must(t, err)
		for i := range 70 { // more than a leaf has, so that a separator is long too
			must(t, long.Put(longFieldKey(i), []byte{byte(i)}))
		}
		small, err := tx.CreateBucket([]byte("small"))
		must(t, err)
		must(t, small.Put([]byte("a"), []byte("1")))
		must(t, tx.Root().Put([]byte("run1"), bytes.Repeat([]byte("1"), 5000)))
		return tx.Root().Put([]byte("run2"), bytes.Repeat([]byte("2"), 5000))
	}))
	must(t, db.Checkpoint())
	must(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("plain")).Put([]byte("k007"), []byte("new")) }))
	must(t, db.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// longFieldKey is a key that differs from its neighbours far behind what a page keeps of it.
func longFieldKey(i int) []byte { return fmt.Appendf(nil, "%0700d", i) }

// A fieldDamage is a store of which one field is to be damaged. What offsets are of is said in FORMAT.md.
type fieldDamage struct {
	*checkedStore
	b []byte // the data file
}

func (d *fieldDamage) page(id page.ID) []byte { return d.checkedStore.page(d.b, id) }

// set writes a number of so many bytes into a page.
func (d *fieldDamage) set(id page.ID, offset, size int, value uint64) {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], value)
	copy(d.page(id)[offset:offset+size], word[:size])
}

// metas writes a number into both meta slots.
func (d *fieldDamage) metas(offset, size int, value uint64) {
	d.set(0, offset, size, value)
	d.set(1, offset, size, value)
}

// nodes calls fn with each node that the sound store reaches, until it returns true.
func (d *fieldDamage) nodes(fn func(id page.ID, p []byte) bool) {
	for id := page.FirstID; int(id) < len(d.b)/sweepPage; id++ {
		if d.used.has(id) && d.runs[id] == 0 && fn(id, d.page(id)) {
			return
		}
	}
	d.t.Fatal("there is no such node")
}

// entry returns the leaf and the index of an entry: the last one whose key begins so, as far as a page has it.
func (d *fieldDamage) entry(key string) (id page.ID, l page.Leaf, i int) {
	d.nodes(func(at page.ID, p []byte) bool {
		if page.KindOf(p) != page.KindLeaf {
			return false
		}
		id, l = at, p
		for i = l.Count() - 1; i >= 0; i-- {
			if bytes.HasPrefix(l.Key(i), []byte(key)) {
				return true
			}
		}
		return false
	})
	return id, l, i
}

// above returns the branch above a page, and which child that is.
func (d *fieldDamage) above(child page.ID) (id page.ID, b page.Branch, i int) {
	d.nodes(func(at page.ID, p []byte) bool {
		if page.KindOf(p) != page.KindBranch {
			return false
		}
		id, b = at, p
		for i = range b.Count() {
			if b.Child(i) == child {
				return true
			}
		}
		return false
	})
	return id, b, i
}

// separator returns a branch and the index of a separator in it: of the bucket of long keys, or of the plain one.
func (d *fieldDamage) separator(long bool) (page.ID, page.Branch, int) {
	key := "k05"
	if long {
		key = "000"
	}
	leaf, _, _ := d.entry(key)
	id, b, _ := d.above(leaf)
	for i := 1; i < b.Count(); i++ {
		if b.IsLong(i) == long {
			return id, b, i
		}
	}
	d.t.Fatal("there is no such separator")
	return 0, nil, 0
}

// lastOfSeparator returns where the last byte of a separator lies that is short enough for its head: a big-endian number, stored
// with its lowest byte first.
func (d *fieldDamage) lastOfSeparator(b page.Branch, i int) int {
	n := int(binary.LittleEndian.Uint16(b[b.SeparatorAt(i):]))
	if n < 1 || n > 4 {
		d.t.Fatalf("separator %d does not lie in its head", i)
	}
	return 32 + 8*i + 4 - n
}

// header returns where the header of a bucket in the root lies.
func (d *fieldDamage) header(name string) (page.ID, int) {
	id, l, i := d.entry(name)
	return id, l.RefAt(i)
}

// seal puts all checksums right: of nodes, of the free set, of meta slots.
func (d *fieldDamage) seal() {
	le := binary.LittleEndian
	for id := page.FirstID; int(id) < len(d.b)/sweepPage; id++ {
		if d.used.has(id) && d.runs[id] == 0 {
			page.Seal(d.page(id))
		}
	}
	for slot := range page.ID(2) {
		p := d.page(slot)
		if at, n := int(le.Uint32(p[88:]))*sweepPage, int(le.Uint64(p[108:])); at+n <= len(d.b) {
			le.PutUint64(p[100:], xxhash.Sum64(d.b[at:at+n]))
		}
		le.PutUint64(p[504:], xxhash.Sum64(p[:504]))
	}
}

// leafField damages a field of the header of a leaf, and wants it named.
func leafField(offset, size int, value uint64) func(d *fieldDamage) (page.ID, int, int) {
	return func(d *fieldDamage) (page.ID, int, int) {
		id, _, _ := d.entry("k05")
		d.set(id, offset, size, value)
		return id, offset, 2
	}
}

// fieldDamages are damages that a checksum does not tell. Each says what Check has to name: page, offset, invariant.
var fieldDamages = []struct {
	name   string
	damage func(d *fieldDamage) (id page.ID, offset, invariant int)
}{
	{"number of a page", leafField(8, 4, 3000)},
	{"kind", leafField(12, 1, 7)},
	{"level of a leaf", leafField(13, 1, 1)},
	{"unknown flag", leafField(14, 1, 0x80)},
	{"flag without a cause", leafField(14, 1, uint64(page.FlagRefs))},
	{"born in no transaction", leafField(16, 8, 0)},
	{"born after its parent", leafField(16, 8, 1000)},
	{"count", leafField(24, 2, 0xffff)},
	{"prefix", leafField(26, 2, 200)},
	{"heap", leafField(28, 2, 0xffff)},
	{"garbage", leafField(30, 2, 1)},
	{"flag of runs missing", func(d *fieldDamage) (page.ID, int, int) {
		id, _, _ := d.entry("run1")
		d.set(id, 14, 1, 0)
		return id, 14, 2
	}},
	{"head", func(d *fieldDamage) (page.ID, int, int) {
		id, _, i := d.entry("k05")
		d.page(id)[32+4*i] ^= 1
		return id, 32 + 4*i, 2
	}},
	{"entry outside the heap", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("k05")
		at := 32 + 4*l.Count() + 6*i
		d.set(id, at, 2, 33)
		return id, at, 2
	}},
	{"entry past the page", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("k05")
		at := 32 + 4*l.Count() + 6*i
		d.set(id, at, 2, sweepPage-1)
		return id, at, 2
	}},
	{"length of a key", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("k05")
		at := 32 + 4*l.Count() + 6*i + 2
		d.set(id, at, 2, 0xffff)
		return id, at, 2
	}},
	{"length of a value", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("k05")
		at := 32 + 4*l.Count() + 6*i + 4
		d.set(id, at, 2, 1<<15-2)
		return id, at, 2
	}},
	{"length of a value in a run", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.set(id, l.RefAt(i)+page.RefSize, 4, 1<<31-1)
		return id, l.RefAt(i) + page.RefSize, 2
	}},
	{"length of a value that needs no run", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.set(id, l.RefAt(i)+page.RefSize, 4, 1)
		return id, l.RefAt(i) + page.RefSize, 2
	}},
	{"order of keys", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("k05")
		copy(l[l.KeyAt(i):], l.Key(i-1))
		copy(l[32+4*i:][:4], l[32+4*(i-1):])
		return id, l.KeyAt(i), 3
	}},
	{"key below its separator", func(d *fieldDamage) (page.ID, int, int) {
		_, b, i := d.separator(false)
		b[d.lastOfSeparator(b, i)]++
		leaf := b.Child(i)
		return leaf, page.Leaf(d.page(leaf)).KeyAt(0), 3
	}},
	{"key not below the next separator", func(d *fieldDamage) (page.ID, int, int) {
		_, b, i := d.separator(false)
		b[d.lastOfSeparator(b, i)]--
		leaf := b.Child(i - 1)
		l, passed := page.Leaf(d.page(leaf)), 0
		for bytes.Compare(l.Key(passed), b.Separator(i, nil)) < 0 {
			passed++
		}
		return leaf, l.KeyAt(passed), 3
	}},

	{"reference to a meta slot", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.set(id, l.RefAt(i), 4, 1)
		return id, l.RefAt(i), 2
	}},
	{"reference past the file", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.set(id, l.RefAt(i), 4, 5000)
		return id, l.RefAt(i), 1
	}},
	{"reference to another run", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run2") // the second to be looked at
		copy(l[l.RefAt(i):][:20], l[l.RefAt(i-1):])
		return id, l.RefAt(i), 1
	}},
	{"reference born in no transaction", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.set(id, l.RefAt(i)+4, 8, 0)
		return id, l.RefAt(i) + 4, 2
	}},
	{"checksum in a reference", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("run1")
		d.page(id)[l.RefAt(i)+12] ^= 1
		return l.Ref(i).ID, 0, 2
	}},
	{"long key not that of its run", func(d *fieldDamage) (page.ID, int, int) {
		_, l, i := d.entry("000")
		run := d.b[int(l.Ref(i).ID)*sweepPage:][:l.RunLen(i)]
		run[0] = 'x'
		binary.LittleEndian.PutUint64(l[l.RefAt(i)+12:], xxhash.Sum64(run))
		return l.Ref(i).ID, 0, 3
	}},
	{"order of long keys", func(d *fieldDamage) (page.ID, int, int) {
		id, l, i := d.entry("000")
		run := d.b[int(l.Ref(i).ID)*sweepPage:][:l.RunLen(i)]
		copy(run[600:], bytes.Repeat([]byte("0"), 100))
		binary.LittleEndian.PutUint64(l[l.RefAt(i)+12:], xxhash.Sum64(run))
		return id, l.KeyAt(i), 3
	}},

	{"level of a branch", func(d *fieldDamage) (page.ID, int, int) {
		id, _, _ := d.separator(false)
		d.set(id, 13, 1, 2)
		return id, 13, 2
	}},
	{"child that is the branch itself", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		d.set(id, b.ChildAt(1), 4, uint64(id))
		return id, b.ChildAt(1), 2
	}},
	{"child past the file", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		d.set(id, b.ChildAt(1), 4, 1<<30)
		return id, b.ChildAt(1), 1
	}},
	{"child that is another's", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		d.set(id, b.ChildAt(1), 4, uint64(b.Child(0)))
		return id, b.ChildAt(1), 1
	}},
	{"children in each other's place", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		first, second := b.Child(0), b.Child(1)
		d.set(id, b.ChildAt(0), 4, uint64(second))
		d.set(id, b.ChildAt(1), 4, uint64(first))
		return second, page.Leaf(d.page(second)).KeyAt(0), 3
	}},
	{"items below a child", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		d.page(id)[b.CountAt(1)]++
		return id, b.CountAt(1), 3
	}},
	{"child of another level", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		other, _, _ := d.separator(true)
		d.set(id, b.ChildAt(1), 4, uint64(other)) // buckets are looked at from the last to the first
		return other, 13, 2
	}},
	{"place of a separator", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		d.set(id, b.SeparatorAt(1), 2, 40)
		return id, b.SeparatorAt(1), 2
	}},
	{"order of separators", func(d *fieldDamage) (page.ID, int, int) {
		id, b, _ := d.separator(false)
		copy(b[32+8*2:][:4], b[32+8:])
		copy(b[b.SeparatorAt(2):][:2], b[b.SeparatorAt(1):])
		return id, b.SeparatorAt(2), 3
	}},
	{"reference of a separator", func(d *fieldDamage) (page.ID, int, int) {
		id, b, i := d.separator(true)
		d.set(id, b.SepRefAt(i), 4, 5000)
		return id, b.SepRefAt(i), 1
	}},
	{"checksum in a separator's reference", func(d *fieldDamage) (page.ID, int, int) {
		id, b, i := d.separator(true)
		d.page(id)[b.SepRefAt(i)+12] ^= 1
		return b.SepRef(i).ID, 0, 2
	}},

	{"items of a bucket", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("plain")
		d.page(id)[at+8]++
		return id, at + 8, 3
	}},
	{"root of a bucket", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("plain")
		d.set(id, at+16, 4, 5000)
		return id, at + 16, 1
	}},
	{"level of a bucket", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("plain")
		d.set(id, at+20, 1, 30)
		return id, at + 20, 2
	}},
	{"zeros of a bucket header", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("plain")
		d.set(id, at+22, 1, 1)
		return id, at + 21, 2
	}},
	{"items of an inline bucket", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("small")
		d.page(id)[at+8]++
		return id, at + 8, 2
	}},
	{"kind of an image", func(d *fieldDamage) (page.ID, int, int) {
		id, at := d.header("small")
		d.set(id, at+24+12, 1, 2)
		return id, at + 24 + 12, 2
	}},

	{"items of the root", func(d *fieldDamage) (page.ID, int, int) {
		d.metas(72, 8, 999)
		return 0, 72, 3
	}},
	{"root that is a leaf of another bucket", func(d *fieldDamage) (page.ID, int, int) {
		leaf, _, _ := d.entry("k05")
		d.metas(80, 4, uint64(leaf))
		d.metas(72, 8, uint64(page.CountOf(d.page(leaf))))
		root, _, _ := d.entry("run1")
		return root, -1, 1
	}},
	{"root outside the pages", func(d *fieldDamage) (page.ID, int, int) {
		d.metas(80, 4, 5000)
		return 0, 80, 5
	}},
	{"page count past the file", func(d *fieldDamage) (page.ID, int, int) {
		d.metas(60, 4, 5000)
		return 0, 60, 5
	}},
	{"place of the free set", func(d *fieldDamage) (page.ID, int, int) {
		d.metas(88, 4, 1)
		return 0, 88, 5
	}},
	{"free set that is not a set", func(d *fieldDamage) (page.ID, int, int) {
		id := d.freeSet(0xff, 0xff, 0xff)
		return id, 0, 1
	}},
	{"free set whose pages do not add up", func(d *fieldDamage) (page.ID, int, int) {
		id := d.freeSet(1, 2, 0, 0)
		return id, 4, 1
	}},
	{"free set past the page count", func(d *fieldDamage) (page.ID, int, int) {
		id := d.freeSet(1, 1, 0xff, 0x7f, 0)
		return id, 2, 1
	}},
	{"free set that has itself", func(d *fieldDamage) (page.ID, int, int) {
		own := page.ID(binary.LittleEndian.Uint32(d.b[88:]))
		id := d.freeSet(binary.AppendUvarint([]byte{1, 1}, uint64(own-2))...)
		return id, 2, 1
	}},
	{"a page neither reached nor free", func(d *fieldDamage) (page.ID, int, int) {
		free := page.FirstID
		for d.used.has(free) {
			free++
		}
		leaf, _, _ := d.entry("k05")
		d.freeSet(binary.AppendUvarint([]byte{1, 1}, uint64(leaf-2))...)
		return free, -1, 1
	}},
	{"a page both reached and free", func(d *fieldDamage) (page.ID, int, int) {
		leaf, _, _ := d.entry("k05")
		d.freeSet(binary.AppendUvarint([]byte{1, 1}, uint64(leaf-2))...)
		return leaf, -1, 1
	}},
}

// freeSet replaces the free set by bytes, filled up with a zero: the length of the one extent. It returns the set's page.
func (d *fieldDamage) freeSet(set ...byte) page.ID {
	own := page.ID(binary.LittleEndian.Uint32(d.b[88:]))
	p := d.page(own)
	clear(p)
	n := copy(p, set)
	if n < 5 && set[n-1] != 0 && set[0] == 1 {
		n++
	}
	d.metas(108, 8, uint64(n))
	return own
}

// TestCheckNamesFields damages one field at a time and puts the checksums right, so that nothing but the field tells. Check
// names its page, its offset, and the invariant that it breaks.
func TestCheckNamesFields(t *testing.T) {
	c := newCheckedStore(t, newFieldStore(t))
	for _, f := range fieldDamages {
		t.Run(f.name, func(t *testing.T) {
			d := &fieldDamage{c, slices.Clone(c.data)}
			id, offset, invariant := f.damage(d)
			if bytes.Equal(d.b, c.data) {
				t.Fatal("nothing is damaged")
			}
			d.seal()
			c.mem.put("/a.db", d.b)
			_, err := CheckFile("/a.db", &Options{reservation: sweepFile, fs: c.mem})
			found := false
			for _, e := range leaves(err) {
				var ce *CorruptError
				found = found || errors.As(e, &ce) && ce.File == "a.db" && ce.Page == id && ce.Offset == offset && ce.Invariant == invariant
			}
			if !found {
				t.Errorf("no finding about page %d, offset %d, invariant %d, but:\n%.1000s", id, offset, invariant, fmt.Sprint(err))
			}
		})
	}
}

// TestCheckNamesLog damages the log and a page too. Both are named: the log with place and invariant, and the page as in a store
// whose log is sound.
func TestCheckNamesLog(t *testing.T) {
	s := newSweepStore(t, false)
	first := s.records[0].offset
	mem := newMemFS(sweepFile)
	for _, c := range []struct {
		name      string
		log       func(log []byte) []byte
		offset    int64
		invariant int
	}{
		{"header", func(log []byte) []byte { log[40] ^= 1; return log }, 56, wal.InvariantPrefix},
		{"no log's header", func(log []byte) []byte { log[0] ^= 1; return log }, 0, wal.InvariantPrefix},
		{"record", func(log []byte) []byte { log[first+sweepHead] ^= 1; return log }, int64(first), wal.InvariantPrefix},
		{"cut", func(log []byte) []byte { return log[:first] }, int64(first), wal.InvariantKept},
		{"another store's", func(log []byte) []byte {
			log[16] ^= 1
			binary.LittleEndian.PutUint64(log[56:], xxhash.Sum64(log[:56]))
			return log
		}, 16, wal.InvariantKept},
		{"gone", func([]byte) []byte { return nil }, -1, wal.InvariantKept},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, damaged := range []bool{false, true} {
				data := slices.Clone(s.data)
				leaf := page.FirstID
				for page.Validate(data[int(leaf)*sweepPage:][:sweepPage], leaf) != nil {
					leaf++
				}
				if damaged {
					for id := leaf; int(id) < len(data)/sweepPage; id++ {
						data[int(id)*sweepPage+100] ^= 1
					}
				}
				mem.put("/a.db", data)
				_ = mem.Remove("/a.db-wal") // it may not be there
				if log := c.log(slices.Clone(s.log)); log != nil {
					mem.put("/a.db-wal", log)
				}
				pages, err := CheckFile("/a.db", &Options{reservation: sweepFile, fs: mem})
				var log *wal.CorruptError
				if !errors.Is(err, ErrLogCorrupt) || !errors.As(err, &log) || log.Offset != c.offset || log.Invariant != c.invariant || pages == 0 {
					t.Errorf("%d pages, %v; want offset %d of the log, invariant %d", pages, err, c.offset, c.invariant)
				}
				var found *CorruptError
				if is := errors.As(err, &found); is != damaged || is && (found.Offset != 0 || found.Invariant != 2) {
					t.Errorf("page damaged: %v; found: %v", damaged, err)
				}
			}
		})
	}
}
