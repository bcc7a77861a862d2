package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
