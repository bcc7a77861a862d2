package folio

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

var flagPrivate = flag.Int("folio.private", 20000, "random changes of a private store")

// digest is the content of a store's files, and their names.
func digest(t *testing.T, path string) string {
	t.Helper()
	h := sha256.New()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	must(t, err)
	for _, name := range files {
		if name == lockName(path) {
			continue
		}
		f, err := os.Open(name)
		must(t, err)
		fmt.Fprintln(h, name)
		_, err = io.Copy(h, f)
		must(t, errors.Join(err, f.Close()))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// privateModel is the root bucket of a store with random changes.
type privateModel map[string][]byte

func (m privateModel) same(t *testing.T, db *DB) {
	t.Helper()
	must(t, db.View(func(tx *Tx) error {
		n := 0
		for k, v := range tx.Root().All() {
			if want, ok := m[string(k)]; !ok || !bytes.Equal(v, want) {
				return fmt.Errorf("key %x: %d bytes, want %d (%v)", k, len(v), len(want), ok)
			}
			n++
		}
		if n != len(m) {
			return fmt.Errorf("%d keys, want %d", n, len(m))
		}
		return nil
	}))
}

// change does n random changes, in transactions of up to 100; some are rolled back.
func (m privateModel) change(t *testing.T, db *DB, r *rand.Rand, n int) {
	t.Helper()
	for n > 0 {
		undone := map[string][]byte{}
		abandon := errors.New("abandoned")
		rollback := r.IntN(10) == 0
		err := db.Update(func(tx *Tx) error {
			for range 1 + r.IntN(min(100, n)) {
				n--
				key := binary.BigEndian.AppendUint32(nil, r.Uint32N(30000))
				if _, ok := undone[string(key)]; !ok {
					undone[string(key)] = m[string(key)]
				}
				if r.IntN(4) == 0 {
					delete(m, string(key))
					if err := tx.Root().Delete(key); err != nil {
						return err
					}
					continue
				}
				size := r.IntN(200)
				if r.IntN(200) == 0 {
					size = r.IntN(100 << 10)
				}
				value := bytes.Repeat([]byte{byte(r.Uint32())}, size)
				m[string(key)] = value
				if err := tx.Root().Put(key, value); err != nil {
					return err
				}
			}
			if rollback {
				return abandon
			}
			return nil
		})
		if rollback && errors.Is(err, abandon) {
			for k, v := range undone {
				if delete(m, k); v != nil {
					m[k] = v
				}
			}
			continue
		}
		must(t, err)
	}
}

// A private store takes any change, growth and frames that spill among them, keeps it until it is closed, and leaves the files
// as they were to the byte. Other processes may read beside it, and see nothing of it; none may write.
// Case D8 of RELIABILITY.md.
func TestPrivate(t *testing.T) {
	const seed = 1
	t.Logf("seed %d, %d changes (-folio.private)", seed, *flagPrivate)
	for _, unclean := range []bool{false, true} {
		for _, pageSize := range []int{4096, 16384} {
			t.Run(fmt.Sprintf("unclean=%v/%d", unclean, pageSize), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(pageSize)))
				db := mustOpen(t, &Options{PageSize: pageSize})
				m := privateModel{}
				m.change(t, db, r, 10000)
				must(t, db.Checkpoint())
				m.change(t, db, r, 3000)
				path := db.Path()
				if unclean {
					path = crashCopy(t, path)
				}
				last := db.Stats().LastTx
				must(t, db.Close())
				before := digest(t, path)

				db = mustOpenAt(t, path, &Options{Private: true, MemoryLimit: 256 << 10, reservation: 1 << 20})
				base := db.Stats().Pages
				if got := db.Stats().LastTx; unclean && got != last {
					t.Errorf("newest commit is %d, want %d", got, last)
				}
				was := privateModel{}
				for k, v := range m {
					was[k] = v
				}
				m.same(t, db)
				for range 4 {
					m.change(t, db, r, *flagPrivate/4)
					m.same(t, db)
					must(t, db.Check())
					must(t, db.Sync())
					must(t, db.Checkpoint())
					if got := digest(t, path); got != before {
						t.Fatal("files have changed")
					}
				}
				if out := openElsewhere(t, path, "read"); out != "opened" {
					t.Errorf("reader beside a private store: %s", out)
				}
				if s := db.Stats(); s.Pages <= base || s.LogSize != 0 {
					t.Errorf("%d pages before, %d after; log of %d bytes", base, s.Pages, s.LogSize)
				}
				copied := filepath.Join(t.TempDir(), "copy.db")
				must(t, db.Backup(copied))
				if got := digest(t, path); got != before {
					t.Error("files have changed")
				}
				if out := openElsewhere(t, path, "write"); out != "opened" {
					t.Errorf("writer beside a private store: %s", out)
				}
				m.same(t, db)
				before = digest(t, path) // a writer may have recovered it
				must(t, db.Close())
				if got := digest(t, path); got != before {
					t.Error("files have changed by Close")
				}
				m.same(t, mustOpenAt(t, copied, nil))
				was.same(t, mustOpenAt(t, path, &Options{LockTimeout: time.Millisecond}))
			})
		}
	}
}

// A private store needs no permission to write, and nothing is made where nothing is.
func TestPrivateOfReadOnlyFile(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := crashCopy(t, db.Path())
	must(t, errors.Join(os.Chmod(path, 0o400), os.Chmod(path+"-wal", 0o400)))
	db = mustOpenAt(t, path, &Options{Private: true})
	mustPut(t, db, "c", "d")
	privateModel{"a": []byte("b"), "c": []byte("d")}.same(t, db)
	if db.IsReadOnly() {
		t.Error("read-only")
	}
	must(t, db.Close())

	missing := filepath.Join(t.TempDir(), "a.db")
	if _, err := Open(missing, &Options{Private: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing store: %v", err)
	}
	if files, _ := os.ReadDir(filepath.Dir(missing)); len(files) > 0 {
		t.Errorf("made: %v", files)
	}
	if _, err := Open(path, &Options{Private: true, ReadOnly: true}); err == nil {
		t.Error("Private and ReadOnly: no error")
	}
	if _, err := OpenMemory(&Options{Private: true}); err == nil {
		t.Error("OpenMemory with Private: no error")
	}
}

// MaxSize held for a private store too, which takes no page of the file, however many are free: of a store that had once been full nothing could
// be changed.
func TestPrivateHasNoMaxSize(t *testing.T) {
	o := Options{MaxSize: 1 << 20}
	db := mustOpen(t, &o)
	n := 0
	for ; ; n++ {
		err := db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "%04d", n), make([]byte, 2000)) })
		if errors.Is(err, ErrMaxSizeReached) {
			break
		}
		must(t, err)
	}
	must(t, db.Close())
	o.Private = true
	p := mustOpenAt(t, db.Path(), &o)
	for i := range n {
		mustPut(t, p, fmt.Sprintf("%04d", i), "x")
	}
	must(t, p.Check())
}

// What a private store writes lies past the end of the file: below, not even a mistake reaches a byte.
func TestPrivateFileRefusesWrites(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := db.Path()
	must(t, db.Close())
	db = mustOpenAt(t, path, &Options{Private: true})
	mustPut(t, db, "a", "c")
	if db.privateFrom > page.FirstID {
		if _, err := db.file.WriteAt([]byte("x"), 0); err == nil {
			t.Error("write to the file's own part: no error")
		}
	}
	if err := db.file.Truncate(0); db.privateFrom > page.FirstID && err == nil {
		t.Error("file cut: no error")
	}
}

// largePagesFS is a system with pages of 64 KiB, as far as private mappings go: the memory behind the file's own part can be
// mapped at one of them only.
type largePagesFS struct {
	vfs.FS
	froms *[]int64
}

type largePagesFile struct {
	vfs.File
	froms *[]int64
}

func (l largePagesFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := l.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return largePagesFile{f, l.froms}, nil
}

func (l largePagesFile) Private(align int64) (vfs.File, int64, error) {
	f, base, err := l.File.Private(align)
	*l.froms = append(*l.froms, base)
	return f, base, err
}

// Case F14 of RELIABILITY.md, for a private store: its own pages begin at a page of the system, however large those are and small
// the store's.
func TestPrivateOnLargePages(t *testing.T) {
	var froms []int64
	for n := range 12 {
		db := mustOpen(t, &Options{PageSize: 4096})
		must(t, db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), make([]byte, n*12<<10)) }))
		path := db.Path()
		must(t, db.Close())
		db = mustOpenAt(t, path, &Options{Private: true, fs: largePagesFS{vfs.OS, &froms}})
		mustPut(t, db, "b", "c")
		has(t, db, "a", string(make([]byte, n*12<<10)))
		must(t, errors.Join(db.Check(), db.Close()))
	}
	for _, from := range froms {
		if from%(64<<10) != 0 {
			t.Errorf("private from byte %d on", from)
		}
	}
	if len(froms) != 12 || froms[11] == 0 {
		t.Errorf("private from bytes %d on", froms)
	}
}
