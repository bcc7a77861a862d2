package folio

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// Where the folder could not be synced, or the temporary name not be removed, Salvage returned the error and left the new store, though
// it promises that there is none then, and folio recover refused to be run again.
func TestSalvageNameThatFails(t *testing.T) {
	path := salvageStore(t, 0)
	for _, kind := range []vfs.Kind{vfs.KindSyncDir, vfs.KindRemove} {
		f := vfs.NewFailer(vfs.OS)
		dir := crashDir(t)
		dst := filepath.Join(dir, "saved.db")
		last := 0
		for nth := 1; ; nth++ {
			f.Set(vfs.Rule{Kinds: []vfs.Kind{kind}, Nth: nth})
			_, err := Salvage(path, dst, &SalvageOptions{fs: f})
			f.Set()
			if err == nil {
				break
			}
			last = nth
			if !errors.Is(err, errInjected) {
				t.Errorf("%s %d: %v", kind, nth, err)
			}
			if _, err := os.Stat(dst); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %d: there is a new store in spite of an error: %v", kind, nth, err)
				must(t, os.Remove(dst))
			}
		}
		if last == 0 {
			t.Errorf("no %s failed", kind)
		}
		contentsAt(t, dst)
	}
}

// Every read of a damaged store may fail. Salvage says so, saves the rest, and takes a page that cannot be read for no
// other; or it gives up with an error and leaves nothing behind.
func TestSalvageReadsThatFail(t *testing.T) {
	for _, logged := range []int{0, 4} {
		var states []contents
		for n := range logged + 1 {
			states = append(states, contentsAt(t, salvageStore(t, n)))
		}
		path := salvageStore(t, logged)
		f := vfs.NewFailer(vfs.OS)
		dir := crashDir(t)
		runs, gaveUp, partly := 0, 0, 0
		try := func(name string, rule vfs.Rule) {
			runs++
			f.Set(rule)
			dst := filepath.Join(dir, fmt.Sprint(runs))
			r, err := Salvage(path, dst, &SalvageOptions{fs: f})
			f.Set()
			if err != nil {
				gaveUp++
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrInvalid) && !errors.Is(err, errInjected) {
					t.Errorf("%s: an error of no kind: %v", name, err)
				}
				if _, err := os.Stat(dst); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: there is a new store in spite of an error: %v", name, err)
				}
				return
			}
			want := states[r.Replayed]
			got := contentsAt(t, dst)
			lost, wrong := got.placed().diff(want)
			if r.Scanned { // the root's sequence is nowhere else
				wrong = nil
				for k, v := range got.placed() {
					if w, ok := want[k]; !ok || w != v && !strings.HasSuffix(k, "/") {
						wrong = append(wrong, k)
					}
				}
			}
			if len(wrong) > 0 || r.Complete() && (len(lost) > 0 || r.Replayed < logged) {
				t.Errorf("%s: complete %v, replayed %d, wrong %q, lost %q: %v", name, r.Complete(), r.Replayed, wrong, lost, r.Findings)
			}
			if !r.Complete() {
				partly++
			}
		}
		kinds := []vfs.Kind{vfs.KindRead, vfs.KindPopulate, vfs.KindStat, vfs.KindMap, vfs.KindOpen}
		f.Set()
		if _, err := Salvage(path, filepath.Join(dir, "sound"), &SalvageOptions{fs: f}); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{".db", ".db-wal"} {
			for _, kind := range kinds {
				n := 1 // the call that fails; until there is none
				for before := -1; before < f.Failed(); n++ {
					before = f.Failed()
					for _, forever := range []bool{false, true} {
						try(fmt.Sprintf("logged %d: %s of %s, call %d, forever %v", logged, kind, file, n, forever),
							vfs.Rule{Kinds: []vfs.Kind{kind}, Name: file, Nth: n, Forever: forever})
					}
				}
				if n == 2 && (file == ".db" || kind == vfs.KindRead && logged > 0) {
					t.Errorf("no %s of %s failed", kind, file)
				}
			}
		}
		if gaveUp == 0 || partly == 0 {
			t.Errorf("%d runs, %d gave up, %d saved a part: these are too few", runs, gaveUp, partly)
		}
		t.Logf("%d runs, %d gave up, %d saved a part", runs, gaveUp, partly)
	}
}

// Buckets that are nested deeper than a stack may be followed go to lost+found, in pieces that may be deep themselves. Once
// the first of them was also taken for a page that nothing refers to, saved as that, and then reported lost.
func TestSalvageDeepBuckets(t *testing.T) {
	const depth = 2*maxNesting + 50
	dir := crashDir(t)
	src := filepath.Join(dir, "a.db")
	db := mustOpenAt(t, src, &Options{PageSize: 4096})
	must(t, db.Update(func(tx *Tx) error {
		b := tx.Root()
		for i := range depth {
			if err := b.Put([]byte("depth"), fmt.Append(nil, i)); err != nil {
				return err
			}
			var err error
			if b, err = b.CreateBucket([]byte("b")); err != nil {
				return err
			}
			if err := b.SetSequence(uint64(i + 1)); err != nil {
				return err
			}
		}
		return b.Put([]byte("bottom"), []byte("reached"))
	}))
	must(t, db.Close())
	dst := filepath.Join(dir, "b.db")
	r, err := Salvage(src, dst, nil)
	must(t, err)
	if r.Complete() || string(r.LostFound) != "lost+found" {
		t.Errorf("complete %v, lost+found %q: nobody is told where the deep ones are", r.Complete(), r.LostFound)
	}
	for _, f := range r.Findings {
		if !strings.Contains(f.String(), "nested more than 1000 deep") {
			t.Errorf("says %.200s", f)
		}
	}
	if r.Losses() != 2 || r.LostItems != 0 || r.LostFoundItems != depth-maxNesting {
		t.Errorf("%d losses, %d items lost, %d in lost+found", r.Losses(), r.LostItems, r.LostFoundItems)
	}
	to := mustOpenAt(t, dst, nil)
	must(t, to.Check())
	must(t, to.View(func(tx *Tx) error {
		// Where a piece ends, the next one goes on.
		next, pieces, b := 0, 0, tx.Root()
		for {
			if v := b.Get([]byte("depth")); v != nil {
				if string(v) != fmt.Sprint(next) || b.Sequence() != uint64(next) {
					t.Fatalf("depth %s and sequence %d where %d should be", v, b.Sequence(), next)
				}
				next++
			}
			kid := b.Bucket([]byte("b"))
			if kid == nil && string(b.Get([]byte("bottom"))) == "reached" {
				break
			}
			if kid == nil {
				pieces++
				if kid = tx.Bucket(r.LostFound).Bucket(fmt.Appendf(nil, "deep-%d", pieces)); kid == nil {
					t.Fatalf("depth %d is nowhere", next)
				}
			}
			b = kid
		}
		if next != depth || pieces < 2 {
			t.Errorf("%d deep, in %d pieces", next, pieces)
		}
		return nil
	}))
}

// A new store that takes several transactions has in it all that one would have.
func TestSalvageInBatches(t *testing.T) {
	dir := crashDir(t)
	src := filepath.Join(dir, "live.db")
	db := mustOpenAt(t, src, &Options{PageSize: 4096})
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			must(t, db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket%d", i%3))
				must(t, err)
				sub, err := b.CreateBucketIfNotExists(fmt.Appendf(nil, "sub%d", i%5))
				must(t, err)
				must(t, sub.SetSequence(uint64(i)))
				for j := range 40 {
					must(t, sub.Put(fmt.Appendf(nil, "key%05d", i*100+j), bytes.Repeat([]byte{byte(i)}, 300+j)))
				}
				return sub.Put(fmt.Appendf(nil, "run%d", i), bytes.Repeat([]byte{byte(i)}, 9000))
			}))
		}
	}
	fill(0, 60)
	must(t, db.Checkpoint())
	fill(60, 120) // in the log
	src = crashCopy(t, src)
	dst := filepath.Join(dir, "b.db")
	const limit = 256 << 10
	r, err := Salvage(src, dst, &SalvageOptions{MemoryLimit: limit})
	must(t, err)
	if r.Bytes < 3*limit || !r.Complete() || r.Replayed != 60 {
		t.Errorf("%d bytes, complete %v, %d replayed", r.Bytes, r.Complete(), r.Replayed)
	}
	got, want := contentsAt(t, dst), contentsAt(t, src)
	if lost, wrong := got.diff(want); len(lost)+len(wrong) > 0 {
		t.Errorf("lost %d, wrong %d", len(lost), len(wrong))
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %.20q, want %.20q", k, got[k], v)
		}
	}
	again := mustOpenAt(t, dst, nil)
	if n := again.Stats().LastTx; n < 4 {
		t.Errorf("%d transactions: this was one batch", n)
	}
}

// readOnlyFS fails the test when a file of a store is opened for more than reading.
type readOnlyFS struct {
	vfs.FS
	t    *testing.T
	path string
	seen int
}

func (r *readOnlyFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if name == r.path || name == logName(r.path) {
		r.seen++
		if flag != os.O_RDONLY {
			r.t.Errorf("%s is opened with flags %#x", filepath.Base(name), flag)
		}
	}
	return r.FS.Open(name, flag, perm)
}

func (r *readOnlyFS) Remove(name string) error {
	if name == r.path || name == logName(r.path) {
		r.t.Errorf("%s is removed", filepath.Base(name))
	}
	return r.FS.Remove(name)
}

// A damaged store may be all that somebody has, on a medium that cannot be written.
func TestSalvageOpensToReadOnly(t *testing.T) {
	for _, logged := range []int{0, 4} {
		path := salvageStore(t, logged)
		r := &readOnlyFS{FS: vfs.OS, t: t, path: path}
		_, err := Salvage(path, filepath.Join(t.TempDir(), "b.db"), &SalvageOptions{fs: r})
		must(t, err)
		if want := 1 + min(logged, 1); r.seen < want {
			t.Errorf("%d files opened, want %d", r.seen, want)
		}
	}
}

// Two entries that name one run, as after a write that went astray: one has the other's value.
func TestSalvageRunTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpenAt(t, path, &Options{PageSize: 4096})
	must(t, db.Update(func(tx *Tx) error {
		return errors.Join(tx.Root().Put([]byte("a"), bytes.Repeat([]byte("a"), 5000)), tx.Root().Put([]byte("b"), bytes.Repeat([]byte("b"), 5000)))
	}))
	must(t, db.Close())
	data, _ := storeFiles(t, path)
	m, err := page.DecodeMeta(data, 0)
	must(t, err)
	leaf := page.Leaf(data[int(m.Root.Root)*4096:][:4096])
	at := func(i int) []byte { return leaf[leaf.KeyAt(i)+leaf.KeyLen(i):][:page.RefSize] }
	copy(at(1), at(0))
	page.Seal(leaf)
	got, r, err := salvaged(t, data, nil)
	must(t, err)
	if _, ok := got["/b"]; ok || len(got["/a"]) != 5000 {
		t.Errorf("b is %.10q, a has %d bytes", got["/b"], len(got["/a"]))
	}
	if text := fmt.Sprint(r.Findings); r.Complete() || !strings.Contains(text, "run is reached twice") {
		t.Errorf("complete %v: %s", r.Complete(), text)
	}
}

// wipe overwrites a page.
func wipe(data []byte, id page.ID) { clear(data[int(id)*4096:][:4096]) }

// branchOf returns the only branch of a store.
func branchOf(t *testing.T, data []byte) page.ID {
	t.Helper()
	all := nodesOf(t, data, page.KindBranch)
	if len(all) != 1 {
		t.Fatalf("branches %v, want one", all)
	}
	return all[0]
}

// A leaf of the past fits where a leaf of now is to be put as well as that does. The free set tells them apart.
func TestSalvagePutsNoFreePage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := mustOpenAt(t, path, &Options{PageSize: 4096, minCut: 1 << 20})
	must(t, db.Update(func(tx *Tx) error {
		for i := range 80 {
			must(t, tx.Root().Put(fmt.Appendf(nil, "k%03d", i), fmt.Appendf(nil, "old%0150d", i)))
		}
		return nil
	}))
	must(t, db.Checkpoint())
	must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k000"), fmt.Appendf(nil, "new%0150d", 0)) }))
	must(t, db.Close())
	want := contentsAt(t, path)
	data, _ := storeFiles(t, path)
	branch, leaves := branchOf(t, data), nodesOf(t, data, page.KindLeaf)
	past := map[page.Kind][]page.ID{}
	for id := page.FirstID; int(id) < len(data)/4096; id++ {
		p := data[int(id)*4096:][:4096]
		if page.Validate(p, id) == nil && id != branch && !slices.Contains(leaves, id) {
			past[page.KindOf(p)] = append(past[page.KindOf(p)], id)
		}
	}
	if len(past[page.KindLeaf]) == 0 {
		t.Fatal("there is no leaf of the past")
	}
	wipe(data, branch)
	got, r, err := salvaged(t, data, nil)
	must(t, err)
	if lost, wrong := got.diff(want); len(lost)+len(wrong) > 0 || !r.Complete() || r.LostFound != nil {
		t.Errorf("lost %q, wrong %q, complete %v, lost+found %q: %v", lost, wrong, r.Complete(), r.LostFound, r.Findings)
	}
	// With the leaf of now gone the one of the past makes up the number, and only the free set knows better. With that
	// gone too nothing is put anywhere.
	m, err := page.DecodeMeta(data, 0)
	must(t, err)
	for _, id := range append(past[page.KindBranch], m.Free.ID) {
		wipe(data, id)
	}
	for _, id := range leaves {
		if l := page.Leaf(data[int(id)*4096:][:4096]); string(l.Key(0)) == "k000" {
			wipe(data, id)
		}
	}
	got, r, err = salvaged(t, data, nil)
	must(t, err)
	if v, ok := got["/k000"]; ok || r.Complete() || r.LostFoundItems != 80 {
		t.Errorf("k000 is %.10q, complete %v, %d items in lost+found", v, r.Complete(), r.LostFoundItems)
	}
}

// A nested bucket's leaf, whose entry is lost, has keys that would fit into another bucket of which the branch is lost. Only
// the count of items tells that it does not belong there.
func TestSalvageCountsWhatItPuts(t *testing.T) {
	path := salvageStore(t, 0)
	want := contentsAt(t, path)
	data, _ := storeFiles(t, path)
	branch := branchOf(t, data)
	holder := page.ID(0)
	for _, id := range nodesOf(t, data, page.KindLeaf) {
		l := page.Leaf(data[int(id)*4096:][:4096])
		for i := range l.Count() {
			if string(l.Key(i)) == "deep" {
				holder = id
			}
		}
	}
	if holder == 0 {
		t.Fatal("the entry of the nested bucket is not there")
	}
	wipe(data, branch)
	wipe(data, holder)
	got, r, err := salvaged(t, data, nil)
	must(t, err)
	if _, wrong := got.placed().diff(want); len(wrong) > 0 || r.Complete() {
		t.Errorf("wrong %q, complete %v: %v", wrong, r.Complete(), r.Findings)
	}
	if r.LostFound == nil || r.LostFoundItems < 80 {
		t.Errorf("lost+found %q has %d items", r.LostFound, r.LostFoundItems)
	}
}
