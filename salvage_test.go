package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/page"
)

// contents are the items of a store by path: names are escaped and end in a slash, whose value is the sequence.
type contents map[string]string

func (c contents) of(b *Bucket, path string) {
	c[path+"/"] = fmt.Sprint(b.Sequence())
	for k, v := range b.All() {
		name := path + "/" + page.Escape(k)
		if v == nil {
			c.of(b.Bucket(k), name)
		} else {
			c[name] = string(v)
		}
	}
}

// contentsAt reads a whole store, which must be sound.
func contentsAt(t testing.TB, path string) contents {
	t.Helper()
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Check(); err != nil {
		t.Fatal(err)
	}
	c := contents{}
	if err := db.View(func(tx *Tx) error { c.of(tx.Root(), ""); return tx.Err() }); err != nil {
		t.Fatal(err)
	}
	return c
}

// placed are those outside lost+found.
func (c contents) placed() contents {
	p := maps.Clone(c)
	maps.DeleteFunc(p, func(k, _ string) bool { return strings.HasPrefix(k, "/lost+found") })
	return p
}

// diff tells what is lost and what is wrong: there, but not so in want.
func (c contents) diff(want contents) (lost, wrong []string) {
	for k, v := range want {
		if got, ok := c[k]; !ok {
			lost = append(lost, k)
		} else if got != v && !strings.HasSuffix(k, "/") {
			wrong = append(wrong, k)
		}
	}
	for k := range c {
		if _, ok := want[k]; !ok {
			wrong = append(wrong, k)
		}
	}
	slices.Sort(lost)
	slices.Sort(wrong)
	return lost, wrong
}

// salvageStore makes the store that the tests damage: trees of two levels, nested, inline and empty buckets, runs, long
// keys, pages of the past. logged is how many commits only the log has; 0: the store is closed.
func salvageStore(t testing.TB, logged int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "live.db")
	db, err := Open(path, &Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(db.Update(func(tx *Tx) error {
		plain, _ := tx.CreateBucket([]byte("plain"))
		for i := range 80 {
			check(plain.Put(fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "%0150d", i)))
		}
		nest, _ := tx.CreateBucket([]byte("nest"))
		check(nest.SetSequence(7))
		for i := range 12 {
			sub, err := nest.CreateBucket(fmt.Appendf(nil, "sub%02d", i))
			check(err)
			check(sub.SetSequence(uint64(i)))
			check(sub.Put([]byte("inline"), bytes.Repeat([]byte{'x'}, i*20)))
		}
		deep, err := nest.CreateBucket([]byte("deep"))
		check(err)
		for i := range 20 {
			check(deep.Put(fmt.Appendf(nil, "d%d", i), fmt.Appendf(nil, "%0100d", i)))
		}
		_, err = nest.CreateBucket([]byte("empty"))
		check(err)
		check(tx.Root().Put([]byte("run"), bytes.Repeat([]byte("run"), 2000)))
		check(tx.Root().Put(bytes.Repeat([]byte("K"), 700), []byte("long")))
		check(tx.Root().Put(append(bytes.Repeat([]byte("K"), 700), 'L'), bytes.Repeat([]byte("v"), 5000)))
		return tx.Root().SetSequence(42)
	}))
	check(db.Checkpoint())
	change := func(i int) error {
		return db.Update(func(tx *Tx) error {
			plain := tx.Bucket([]byte("plain"))
			check(plain.Put(fmt.Appendf(nil, "k%03d", i*7%80), fmt.Appendf(nil, "new %d", i)))
			check(plain.Delete(fmt.Appendf(nil, "k%03d", 79-i)))
			return tx.Bucket([]byte("nest")).Bucket([]byte("deep")).Put(fmt.Appendf(nil, "log%02d", i), []byte("there"))
		})
	}
	for i := range 6 {
		check(change(i))
	}
	check(db.Checkpoint())
	for i := range logged {
		check(change(6 + i))
	}
	if logged == 0 {
		check(db.Close())
		return path
	}
	left := filepath.Join(t.TempDir(), "left.db")
	for _, ext := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + ext)
		check(err)
		check(os.WriteFile(left+ext, b, 0o600))
	}
	check(db.Close())
	return left
}

// salvaged runs Salvage on files with this content.
func salvaged(t testing.TB, data, log []byte) (contents, *SalvageReport, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "salvage")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	src, dst := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	write := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	write(src, data)
	if log != nil {
		write(src+"-wal", log)
	}
	r, err := Salvage(src, dst, nil)
	if r == nil {
		t.Fatal("no report")
	}
	for name, b := range map[string][]byte{src: data, src + "-wal": log} {
		if is, err := os.ReadFile(name); err == nil && !bytes.Equal(is, b) || err != nil && b != nil {
			t.Errorf("%s was changed (%v)", name, err)
		}
	}
	files, _ := os.ReadDir(dir)
	want := 1
	if log != nil {
		want++
	}
	if err == nil {
		want++
	}
	if len(files) != want {
		t.Errorf("%d files are there, want %d", len(files), want)
	}
	if err != nil {
		return nil, r, err
	}
	return contentsAt(t, dst), r, nil
}

// storeFiles reads the files of a store.
func storeFiles(t testing.TB, path string) (data, log []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if log, err = os.ReadFile(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data, log
}

// A sound store is saved as it is.
func TestSalvageSound(t *testing.T) {
	for _, logged := range []int{0, 9} {
		path := salvageStore(t, logged)
		data, log := storeFiles(t, path)
		got, r, err := salvaged(t, data, log)
		must(t, err)
		want := contentsAt(t, path)
		if lost, wrong := got.diff(want); len(lost)+len(wrong) > 0 || !maps.Equal(got, want) {
			t.Errorf("lost %q, wrong %q", lost, wrong)
		}
		if !r.Complete() || len(r.Findings) > 0 || r.Replayed != logged || r.Tx != TxID(7+logged) {
			t.Errorf("report: %+v", r)
		}
	}
}

// nodesOf returns the pages that the state in the meta slots reaches, in order: those of a kind.
func nodesOf(t testing.TB, data []byte, kind page.Kind) (ids []page.ID) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &salvage{rep: &SalvageReport{}}
	o, _ := (&Options{ReadOnly: true}).withDefaults()
	s.src = newDB(path, o)
	if err := s.src.openFile(path); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.findState(); err != nil {
		t.Fatal(err)
	}
	s.bucket(s.meta.Root, nil, 0)
	for id := page.FirstID; id < s.view.Count(); id++ {
		if p, err := s.view.Page(id); err == nil && s.used.has(id) && page.KindOf(p) == kind {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestSalvageKinds damages a store in each way and tells what must be left of it.
func TestSalvageKinds(t *testing.T) {
	closed, killed := salvageStore(t, 0), salvageStore(t, 9)
	type files struct{ data, log []byte }
	cut := func(id page.ID, n int) func(*files) {
		return func(f *files) { clear(f.data[int(id)*4096:][:n]) }
	}
	closedData, _ := storeFiles(t, closed)
	var branch page.ID
	for _, id := range nodesOf(t, closedData, page.KindBranch) {
		branch = id
	}
	if branch == 0 {
		t.Fatal("the store has no branch")
	}
	var plainLeaf page.ID
	for _, id := range nodesOf(t, closedData, page.KindLeaf) {
		if l := page.Leaf(closedData[int(id)*4096:][:4096]); string(l.Key(0)[:1]) == "k" {
			plainLeaf = id
		}
	}
	run := page.ID(bytes.Index(closedData, bytes.Repeat([]byte("run"), 1000)) / 4096)
	wipeSlots := func(f *files) { clear(f.data[:16]); clear(f.data[4096:][:16]) }
	for _, c := range []struct {
		name     string
		path     string
		damage   func(*files)
		complete bool
		lost     func(key string) bool // what may be lost; nil: nothing
		say      string                // in the findings
	}{
		{"slot 0", closed, cut(0, 512), true, nil, "slot"},
		{"slot 1", closed, cut(1, 512), true, nil, "slot"},
		{"slot 0 of a killed store", killed, cut(0, 512), true, nil, "slot"},
		{"both slots", closed, wipeSlots, false, nil, "taken for the root"},
		{"both slots, a byte each", killed, func(f *files) { f.data[100] ^= 1; f.data[4196] ^= 1 }, false, nil, "taken for the root"},
		{"a branch", closed, cut(branch, 4096), true, nil, "found by a look"},
		{"a branch and the free set", closed, func(f *files) {
			m, _ := page.DecodeMeta(f.data, 0)
			cut(branch, 4096)(f)
			cut(m.Free.ID, 4)(f)
		}, false, func(k string) bool { return strings.HasPrefix(k, "/plain/") }, "keys"},
		{"a leaf", closed, cut(plainLeaf, 1), false, func(k string) bool { return strings.HasPrefix(k, "/plain/k0") }, "bucket /plain"},
		{"a branch and a leaf below it", closed, func(f *files) { cut(branch, 99)(f); cut(plainLeaf, 99)(f) }, false,
			func(k string) bool { return strings.HasPrefix(k, "/plain/") }, "bucket /plain"},
		{"a run", closed, cut(run, 10), false, func(k string) bool { return k == "/run" }, `key "run"`},
		{"log missing", killed, func(f *files) { f.log = nil }, false, nil, "is missing"},
		{"log header", killed, func(f *files) { clear(f.log[:4096]) }, true, nil, "read all the same"},
		{"log foreign", killed, func(f *files) { _, f.log = storeFiles(t, salvageStore(t, 9)) }, false, nil, "belongs to"},
		{"log damaged in the middle", killed, func(f *files) { f.log[middleOf(f.log)] ^= 1 }, false, nil, "are lost: beyond the damage"},
		{"file cut", closed, func(f *files) { f.data = f.data[:len(f.data)-4096] }, false, func(string) bool { return true }, "it was cut"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, log := storeFiles(t, c.path)
			f := &files{data, log}
			c.damage(f)
			got, r, err := salvaged(t, f.data, f.log)
			if err != nil {
				t.Fatal(err)
			}
			want := contentsAt(t, closed)
			if c.path == killed && r.Tx != 7 {
				want = contentsAt(t, salvageStore(t, int(r.Tx)-7))
			}
			lost, wrong := got.placed().diff(want)
			lost = slices.DeleteFunc(lost, func(k string) bool { return c.lost != nil && c.lost(k) })
			if len(lost)+len(wrong) > 0 {
				t.Errorf("lost %q, wrong %q", lost, wrong)
			}
			if r.Complete() != c.complete && c.name != "file cut" {
				t.Errorf("complete: %v", r.Complete())
			}
			if c.name == "both slots, a byte each" && r.Replayed != 9 {
				t.Errorf("%d transactions of the log were applied, want 9", r.Replayed)
			}
			text := fmt.Sprint(r.Findings)
			if !strings.Contains(text, c.say) {
				t.Errorf("does not say %q", c.say)
			}
			for _, f := range r.Findings {
				t.Log(f)
			}
			t.Logf("items %d, replayed %d, tx %d, lost %d, lost+found %s %d", r.Items, r.Replayed, r.Tx, r.LostItems, r.LostFound, r.LostFoundItems)
		})
	}
}

// middleOf is the offset of a byte in the eleventh record of a log.
func middleOf(log []byte) int {
	n := 0
	for at := 4096; at < len(log); at += 512 {
		if binary.LittleEndian.Uint32(log[at:]) == 0x4c41574f {
			if n++; n == 11 {
				return at + 90
			}
		}
	}
	return 4096
}

var salvageAll = flag.Bool("folio.salvageall", false, "flip every byte, not just some of each page")

// reach tells what hangs on each page of a store: paths of items, and of buckets with all in them.
type reach struct {
	s  *salvage
	of map[page.ID][]string
}

func (r *reach) tree(t testing.TB, id page.ID, path string) {
	p, err := r.s.view.Page(id)
	if err != nil {
		t.Fatal(err)
	}
	if page.KindOf(p) == page.KindBranch {
		r.of[id] = nil
		for i := range page.CountOf(p) {
			r.tree(t, page.Branch(p).Child(i), path)
		}
		return
	}
	l := page.Leaf(p)
	for i := range l.Count() {
		key, err := r.s.key(l, i)
		if err != nil {
			t.Fatal(err)
		}
		name := path + "/" + page.Escape(key)
		r.of[id] = append(r.of[id], name)
		if l.Form(i) != page.Inline {
			for n := range page.RunPages(l.RunLen(i), len(l)) {
				run := l.Ref(i).ID + page.ID(n)
				r.of[run] = append(r.of[run], name)
			}
		} else if l.IsBucket(i) {
			if h, _ := page.DecodeBucket(l.Value(i)); h.Root != 0 {
				r.tree(t, h.Root, name)
			}
		}
	}
}

// saveOpen runs the part of Salvage between opening files, into memory, and reads what was saved.
func saveOpen(t testing.TB, path string) (c contents, rep *SalvageReport, err error) {
	o, err := (&Options{ReadOnly: true}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := &salvage{rep: &SalvageReport{}, src: newDB(path, o)}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.src.openFile(path); err != nil {
		return nil, s.rep, err
	}
	if err := s.findState(); err != nil {
		return nil, s.rep, err
	}
	dst, err := OpenMemory(&Options{PageSize: s.size})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := s.save(dst); err != nil {
		return nil, s.rep, err
	}
	c = contents{}
	return c, s.rep, dst.View(func(tx *Tx) error { c.of(tx.Root(), ""); return tx.Err() })
}

// flipBytes calls fn with every byte of a file flipped in turn, or with some in each page.
func flipBytes(t *testing.T, name string, limit, stride int, fn func(at int)) (n int) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	data, err := os.ReadFile(name)
	must(t, err)
	if *salvageAll {
		stride = 1
	}
	for at := range min(len(data), limit) {
		if at%512 >= 32 && at%stride != 0 {
			continue
		}
		_, err := f.WriteAt([]byte{^data[at]}, int64(at))
		must(t, err)
		fn(at)
		_, err = f.WriteAt(data[at:at+1], int64(at))
		must(t, err)
		if n++; t.Failed() {
			break
		}
	}
	return n
}

// One byte of the data file that is wrong costs at most what hangs on its page, and never gives a wrong value.
func TestSalvageEachByte(t *testing.T) {
	path := salvageStore(t, 0)
	want := contentsAt(t, path)
	data, _ := storeFiles(t, path)
	o, err := (&Options{ReadOnly: true}).withDefaults()
	must(t, err)
	s := &salvage{rep: &SalvageReport{}, src: newDB(path, o)}
	must(t, s.src.openFile(path))
	must(t, s.findState())
	r := &reach{s, map[page.ID][]string{}}
	r.tree(t, s.meta.Root.Root, "")
	must(t, s.close())
	n := flipBytes(t, path, len(data), 97, func(at int) {
		got, rep, err := saveOpen(t, path)
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		lost, wrong := got.placed().diff(want)
		on := r.of[page.ID(at/4096)]
		outside := slices.DeleteFunc(slices.Clone(lost), func(k string) bool {
			return slices.ContainsFunc(on, func(p string) bool { return k == p || strings.HasPrefix(k, p+"/") })
		})
		switch {
		case len(wrong)+len(outside) > 0:
			t.Errorf("byte %d: wrong %q, lost outside of the page %q", at, wrong, outside)
		case rep.Complete() != (len(lost) == 0):
			t.Errorf("byte %d: %d are lost, and the report says complete: %v: %v", at, len(lost), rep.Complete(), rep.Findings)
		case len(lost) > 0 && len(lost) < len(on): // none: the padding of a run
			t.Errorf("byte %d: %d are lost, of %d on the page", at, len(lost), len(on))
		}
	})
	t.Logf("%d bytes of %d", n, len(data))
}

// FuzzSalvage found that a leaf of a nested bucket was put into another bucket: the branch that it was put below was
// damaged, and so were the page that named the nested bucket and leaves below the branch, which had just as many
// items. Here every set of nodes is damaged.
func TestSalvageAnyPages(t *testing.T) {
	path := salvageStore(t, 0)
	want := contentsAt(t, path)
	data, _ := storeFiles(t, salvageStore(t, 3)) // without its log: the same state, and pages of later ones
	nodes := append(nodesOf(t, data, page.KindBranch), nodesOf(t, data, page.KindLeaf)...)
	for set := range 1 << len(nodes) {
		d := bytes.Clone(data)
		for i, id := range nodes {
			d[int(id)*4096] ^= byte(set >> i & 1)
		}
		got, rep, err := salvaged(t, d, nil)
		must(t, err)
		if lost, wrong := got.placed().diff(want); len(wrong) > 0 {
			t.Fatalf("set %b of %v is damaged: wrong %q, %d lost: %v", set, nodes, wrong, len(lost), rep.Findings)
		}
	}
	t.Logf("%d sets of %d nodes", 1<<len(nodes), len(nodes))
}

// One byte of the log that is wrong costs the commits from there on, and no other.
func TestSalvageEachLogByte(t *testing.T) {
	const commits = 9
	path := salvageStore(t, commits)
	var after [commits + 1]contents
	for n := range after {
		after[n] = contentsAt(t, salvageStore(t, n))
	}
	last := -1
	n := flipBytes(t, path+"-wal", 16<<10, 97, func(at int) {
		got, rep, err := saveOpen(t, path)
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if rep.Replayed > commits || !maps.Equal(got, after[rep.Replayed]) {
			t.Errorf("byte %d: not the state after %d commits", at, rep.Replayed)
		}
		// A damaged last group looks as if a power cut had torn it, which costs nothing that was promised.
		if rep.Complete() && rep.Replayed < commits-1 {
			t.Errorf("byte %d: %d commits of %d, and the report says complete", at, rep.Replayed, commits)
		}
		if rep.Replayed < last && rep.Replayed != commits {
			t.Errorf("byte %d: %d commits, but a byte before it cost only those behind %d", at, rep.Replayed, last)
		}
		if rep.Replayed < commits {
			last = rep.Replayed
		}
	})
	t.Logf("%d bytes", n)
}

// salvageRoom is what salvaging a small store, and reading the new one whole, may allocate above the size of its files.
const salvageRoom = 16 << 20

// FuzzSalvage damages a store by overwriting bytes, puts the checksums of its pages right or not, and saves what is
// left: never a panic, a loop, or a new store that is not sound; and with the checksums left alone no wrong value.
func FuzzSalvage(f *testing.F) {
	path := salvageStore(f, 3)
	data, log := storeFiles(f, path)
	states := map[TxID]contents{}
	for n := range 4 {
		states[TxID(7+n)] = contentsAt(f, salvageStore(f, n))
	}
	f.Add([]byte{0})
	f.Add([]byte("\x01\x00\x00\x40\xff\x00\x10\x00\x10"))
	f.Add([]byte("\x01\x00\x02\x16\x02\x00\x03\x20\x02\x00\x04\x18\x03"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) == 0 || len(choices) > 400 {
			return
		}
		d, l := bytes.Clone(data), bytes.Clone(log)
		fixed := choices[0]&1 != 0
		for c := choices[1:]; len(c) >= 4; c = c[4:] {
			at := (int(c[0])<<16 | int(c[1])<<8 | int(c[2])) % (len(d) + 16<<10)
			if at < len(d) {
				d[at] = c[3]
			} else if at -= len(d); at < len(l) {
				l[at] = c[3]
			}
		}
		if fixed {
			for id := 2; (id+1)*4096 <= len(d); id++ {
				if page.Validate(data[id*4096:][:4096], page.ID(id)) == nil {
					page.Seal(d[id*4096:][:4096])
				}
			}
			for slot := range 2 {
				p := d[slot*4096:]
				binary.LittleEndian.PutUint64(p[504:], xxhash.Sum64(p[:504]))
			}
		}
		if choices[0]&2 != 0 {
			l = nil
		}
		before := allocatedBytes()
		got, rep, err := salvaged(t, d, l)
		if n := allocatedBytes() - before; n > uint64(len(d)+len(l))+salvageRoom {
			t.Errorf("%d bytes were allocated for files of %d", n, len(d)+len(l))
		}
		if err != nil {
			for _, want := range []error{ErrInvalid, ErrVersionMismatch, ErrCorrupt} {
				if errors.Is(err, want) {
					return
				}
			}
			t.Fatalf("an error of no type: %v", err)
		}
		if fixed || rep.Scanned {
			return
		}
		want, ok := states[rep.Tx]
		if !ok {
			t.Fatalf("transaction %d: there is no such", rep.Tx)
		}
		_, wrong := got.placed().diff(want)
		// A commit may make a lost bucket anew, which then has fewer items, but no other.
		if len(wrong) > 0 {
			t.Errorf("transaction %d: wrong %q: %v", rep.Tx, wrong, rep.Findings)
		}
	})
}

// Pages that are sound in themselves and lie about each other, as after a write that went astray, are told.
func TestSalvageForged(t *testing.T) {
	path := salvageStore(t, 0)
	whole, _ := storeFiles(t, path)
	want := contentsAt(t, path)
	m, err := page.DecodeMeta(whole, 0)
	must(t, err)
	at := func(d []byte, id page.ID) []byte { return d[int(id)*4096:][:4096] }
	branch := nodesOf(t, whole, page.KindBranch)[0]
	older := func(d []byte, slot int) {
		o := m
		o.Checkpoint--
		o.Root, o.Free, o.FreeLen = page.BucketHeader{}, page.Ref{}, 0
		o.Encode(d[slot*4096:][:page.MetaSize], slot)
	}
	for _, c := range []struct {
		name, say string
		forge     func(d []byte)
	}{
		{"child twice", "reached twice", func(d []byte) {
			copy(at(d, branch)[44:48], at(d, branch)[36:40])
			page.Seal(at(d, branch))
		}},
		{"child of the future", "after its parent", func(d []byte) {
			child := at(d, page.Branch(at(d, branch)).Child(0))
			page.SetBorn(child, 999)
			page.Seal(child)
		}},
		{"buckets in a circle", "reached twice", func(d []byte) {
			root := page.Leaf(at(d, m.Root.Root))
			for i := range root.Count() {
				if root.IsBucket(i) {
					binary.LittleEndian.PutUint32(root.Value(i)[16:], uint32(m.Root.Root))
					root.Value(i)[20] = m.Root.Level
				}
			}
			page.Seal(root)
		}},
		{"slot 1 is older", "[]", func(d []byte) { older(d, 1) }},
		{"slot 0 is older", "[]", func(d []byte) { older(d, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := bytes.Clone(whole)
			c.forge(d)
			got, r, err := salvaged(t, d, nil)
			must(t, err)
			lost, wrong := got.placed().diff(want)
			if len(wrong) > 0 || len(lost) > 0 && r.Complete() {
				t.Errorf("wrong %q, lost %q, complete %v", wrong, lost, r.Complete())
			}
			if c.say == "[]" && len(lost) > 0 {
				t.Errorf("lost %q", lost)
			}
			if text := fmt.Sprint(r.Findings); !strings.Contains(text, c.say) {
				t.Errorf("does not say %q: %s", c.say, text)
			}
		})
	}
}
