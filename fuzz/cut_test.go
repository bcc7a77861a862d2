package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// cutEnv, when set to a size and a path, makes the test binary a process that cuts the file.
const cutEnv = "FOLIO_FUZZ_CUT"

func cutFile(spec string) error {
	size, path, _ := strings.Cut(spec, " ")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	return os.Truncate(path, n)
}

const (
	cutKeys    = 1500
	cutRunKeys = 20 // keys with a value of several pages
	cutReaders = 4
)

func cutKey(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }

// cutValue tells by itself whether it is whole.
func cutValue(i int) []byte {
	if i < cutRunKeys {
		return bytes.Repeat(cutKey(i), 1500)
	}
	return bytes.Repeat(cutKey(i), 30)
}

// buildCutStore makes a closed store of some hundred pages.
func buildCutStore(t *testing.T, path string) {
	db, err := folio.Open(path, &folio.Options{PageSize: imagePageSize})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *folio.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := range cutKeys {
			err = errors.Join(err, b.Put(cutKey(i), cutValue(i)))
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCut has another process cut the data file while several goroutines read it, and in every other round one writes. Touching
// what is gone is SIGBUS. It must become a *CorruptError of the transaction; all other transactions, other
// stores and the process go on.
//
// Beside a writer the cut is at the beginning of a page. Of a page that is cut in the middle the system fills the rest with
// zeros, in the mapping of a reader too, and nobody can be told of it: every fourth round cuts a leaf so, and then keys of that
// leaf may be missing, or have zeros in their values; nothing else may be wrong.
func TestCut(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be cut here")
	}
	seed := firstSeed()
	s := newSeeded(seed)
	dir := scratch(t)
	var c cutCounts
	for round := range 8 {
		path := filepath.Join(dir, fmt.Sprintf("app%d.db", round))
		buildCutStore(t, path)
		if err := cutRound(path, s, round%2 == 1, round%4 == 2, &c); err != nil {
			t.Fatalf("-folio.seed=%d, round %d: %v", seed, round, err)
		}
		os.Remove(path)
		os.Remove(path + "-wal")
	}
	t.Logf("read %d right and %d damaged after the cut, %d commits before and %d refused after it",
		c.right.Load(), c.damaged.Load(), c.committed.Load(), c.refused.Load())
	t.Logf("%d values of a page cut in the middle were missing or had zeros", c.zeroed.Load())
	if c.right.Load() == 0 || c.damaged.Load() == 0 || c.committed.Load() == 0 || c.refused.Load() == 0 {
		t.Errorf("-folio.seed=%d: one of these did not happen", seed)
	}
}

type cutCounts struct{ right, damaged, committed, refused, zeroed atomic.Int64 }

// cutPlan is what a round cuts, and what may be wrong then.
type cutPlan struct {
	writing bool
	size    int
	torn    map[string]bool // keys of the leaf that is cut in the middle; nil: none is
	begun   atomic.Bool
	zeroed  *atomic.Int64
}

// planCut draws where the file is cut.
func planCut(path string, s seeded, pages int, writing, torn bool) (*cutPlan, error) {
	p := &cutPlan{writing: writing, size: (2 + s.intn(pages-2)) * imagePageSize}
	if !torn {
		return p, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		id := page.ID(2 + s.intn(pages-2))
		l := page.Leaf(data[int(id)*imagePageSize:][:imagePageSize])
		if page.Validate(l, id) != nil || page.KindOf(l) != page.KindLeaf || l.Count() < 2 {
			continue
		}
		p.size, p.torn = int(id)*imagePageSize+1+s.intn(imagePageSize-1), map[string]bool{}
		for i := range l.Count() {
			p.torn[string(l.Key(i))] = true
		}
		return p, nil
	}
}

// mayBe reports whether a wrong value is one that zeros explain: the value is not found or empty, or each of its bytes is right or zero. So
// it can be only once the cut has begun, in a page that is cut in the middle or one that a writer has made anew.
func (p *cutPlan) mayBe(key, v, want []byte) bool {
	if !p.begun.Load() || !p.writing && !p.torn[string(key)] {
		return false
	}
	if len(v) == 0 { // the length may be among the zeros
		return true
	}
	if len(v) != len(want) {
		return false
	}
	for i := range v {
		if v[i] != 0 && v[i] != want[i] {
			return false
		}
	}
	return true
}

// cutRound opens a store, cuts its file while it is used, and uses it afterwards.
func cutRound(path string, s seeded, writing, torn bool, c *cutCounts) error {
	db, err := folio.Open(path, &folio.Options{ReadOnly: !writing, LogLimit: 256 << 10})
	if err != nil {
		return err
	}
	plan, err := planCut(path, s, int(db.Stats().Pages), writing, torn)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	plan.zeroed = &c.zeroed
	var stop, cut atomic.Bool
	var all sync.WaitGroup
	failed := make(chan error, cutReaders+1)
	for r := range cutReaders {
		all.Go(func() {
			for n := r; !stop.Load(); n++ {
				gone := cut.Load()
				err := db.View(func(tx *folio.Tx) error { return cutRead(tx, n, plan) })
				switch {
				case err == nil && gone:
					c.right.Add(1)
				case err == nil:
				case errors.Is(err, errWrong) || !errors.As(err, new(*folio.CorruptError)):
					failed <- fmt.Errorf("read %d: %w", n, err)
					return
				default:
					c.damaged.Add(1)
				}
			}
		})
	}
	if writing {
		all.Go(func() {
			for n := 0; !stop.Load(); n++ {
				err := db.Update(func(tx *folio.Tx) error { // the keys that cutRead does not compare
					for i := range 20 {
						if err := tx.Bucket([]byte("b")).Put(cutKey(cutKeys+(n*37+i*71)%cutKeys), cutValue(n%cutKeys)); err != nil {
							return err
						}
					}
					return nil
				})
				switch {
				case err == nil:
					c.committed.Add(1)
				case typed("Update", err) != nil:
					failed <- err
					return
				default:
					c.refused.Add(1)
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", cutEnv, plan.size, path))
	plan.begun.Store(true)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("cut: %w: %s", err, out)
	}
	cut.Store(true)
	time.Sleep(60 * time.Millisecond)
	stop.Store(true)
	all.Wait()
	close(failed)
	for err := range failed {
		return err
	}
	return errors.Join(typed("Check", db.Check()), typed("Close", db.Close()), unharmed(path+".other"))
}

// cutRead reads one key, or all by a cursor. In a store that is written to while it is cut, a write may make the file longer
// again, with zeros for what is gone, in the moment between the look at a page and its use; what is wrong must be told
// as damage when it is looked at again. In a page that is cut in the middle it is never told.
func cutRead(tx *folio.Tx, n int, p *cutPlan) error {
	b := tx.Bucket([]byte("b"))
	if b == nil {
		return fmt.Errorf("%w: no bucket", errWrong)
	}
	if n%8 == 0 && !p.writing && p.torn == nil {
		i := 0
		for k, v := range b.Range(nil, cutKey(cutKeys)) {
			if !bytes.Equal(k, cutKey(i)) || !bytes.Equal(v, cutValue(i)) {
				return fmt.Errorf("%w: item %d is %q", errWrong, i, k)
			}
			i++
		}
		return same("items", i, cutKeys)
	}
	i := n * 7 % cutKeys
	if p.writing {
		i = cutRunKeys + i%(cutKeys-cutRunKeys) // a run is looked at once
	}
	for tries := 0; ; tries++ {
		v := bytes.Clone(b.Get(cutKey(i))) // what is compared and what is judged must be the same bytes
		switch {
		case bytes.Equal(v, cutValue(i)):
			return nil
		case !p.mayBe(cutKey(i), v, cutValue(i)) || p.torn == nil && tries > 0:
			return fmt.Errorf("%w: look %d: key %d has %d bytes (there: %v): %.60q", errWrong, tries+1, i, len(v), v != nil, v)
		case p.torn != nil:
			p.zeroed.Add(1)
			return nil
		}
	}
}

// unharmed checks that the process can still use a store.
func unharmed(path string) error {
	db, err := folio.Open(path, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *folio.Tx) error { return tx.Root().Put([]byte("k"), []byte("v")) })
	return errors.Join(err, db.Check(), db.Close())
}
