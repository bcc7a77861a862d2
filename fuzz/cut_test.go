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
// The cut is at the beginning of a page, since of a page that is cut in the middle the system fills the rest with
// zeros, in the mapping of a reader too, and nobody can be told of it.
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
		if err := cutRound(path, s, round%2 == 1, &c); err != nil {
			t.Fatalf("-folio.seed=%d, round %d: %v", seed, round, err)
		}
		os.Remove(path)
		os.Remove(path + "-wal")
	}
	t.Logf("read %d right and %d damaged after the cut, %d commits before and %d refused after it",
		c.right.Load(), c.damaged.Load(), c.committed.Load(), c.refused.Load())
	if c.right.Load() == 0 || c.damaged.Load() == 0 || c.committed.Load() == 0 || c.refused.Load() == 0 {
		t.Errorf("-folio.seed=%d: one of these did not happen", seed)
	}
}

type cutCounts struct{ right, damaged, committed, refused atomic.Int64 }

// cutRound opens a store, cuts its file while it is used, and uses it afterwards.
func cutRound(path string, s seeded, writing bool, c *cutCounts) error {
	db, err := folio.Open(path, &folio.Options{ReadOnly: !writing, LogLimit: 256 << 10})
	if err != nil {
		return err
	}
	pages := int(db.Stats().Pages)
	var stop, cut atomic.Bool
	var all sync.WaitGroup
	failed := make(chan error, cutReaders+1)
	for r := range cutReaders {
		all.Go(func() {
			for n := r; !stop.Load(); n++ {
				gone := cut.Load()
				err := db.View(func(tx *folio.Tx) error { return cutRead(tx, n, writing) })
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
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", cutEnv, (2+s.intn(pages-2))*imagePageSize, path))
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
// as damage when it is looked at again.
func cutRead(tx *folio.Tx, n int, writing bool) error {
	b := tx.Bucket([]byte("b"))
	if b == nil {
		return fmt.Errorf("%w: no bucket", errWrong)
	}
	if n%8 == 0 && !writing {
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
	if writing {
		i = cutRunKeys + i%(cutKeys-cutRunKeys) // a run is looked at once
	}
	for tries := 0; ; tries++ {
		if v := b.Get(cutKey(i)); bytes.Equal(v, cutValue(i)) {
			return nil
		} else if tries > 0 || !writing {
			return fmt.Errorf("%w: key %d has %d bytes", errWrong, i, len(v))
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
