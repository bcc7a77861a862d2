package folio

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foliodb/folio/wal"
)

// Limits that mean none overflowed: with a MemoryLimit of 1<<62 what a transaction may log came to less than nothing, and each commit was made by a checkpoint.
func TestHugeLimits(t *testing.T) {
	for _, o := range []Options{{MemoryLimit: math.MaxInt64}, {LogLimit: math.MaxInt64}, {MemoryLimit: 1 << 62, LogLimit: 1 << 62, MaxSize: math.MaxInt64}} {
		db := mustOpen(t, &o)
		for range 3 {
			mustPut(t, db, "a", "b")
		}
		if s := db.Stats(); s.Checkpoints > 0 || s.Groups != 3 {
			t.Errorf("%d, %d: %d checkpoints, %d groups", o.MemoryLimit, o.LogLimit, s.Checkpoints, s.Groups)
		}
		must(t, db.Close())
	}
}

// A MaxSize in which nothing has room was taken, and every write failed then.
func TestSmallestMaxSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if db, err := Open(path, &Options{MaxSize: 16*4096 - 1, PageSize: 4096}); err == nil || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("open: %v, %v", db, err)
	}
	db := mustOpenAt(t, path, &Options{MaxSize: 16 * 4096, PageSize: 4096})
	mustPut(t, db, "a", "b")
	must(t, db.Close())
}

// What a transaction may log was a third of the log, which is a little more than the log has room for where its end and what a checkpoint keeps cut it in
// three: its commit could have failed for a full log.
func TestLoggedTransactionsFit(t *testing.T) {
	for _, limit := range []int64{minLimit, 1 << 20, defaultLogLimit, 1 << 30, 1 << 40} {
		o, err := (&Options{LogLimit: limit}).withDefaults()
		must(t, err)
		if size := wal.TxSize(int(o.mostLogged)); size > wal.Capacity(limit) || size < wal.Capacity(limit)/8*7 && o.mostLogged < 1<<30 {
			t.Errorf("of a log of %d bytes with room for %d, a transaction takes %d", limit, wal.Capacity(limit), size)
		}
	}
}

// MaxSize was held against the page size that a new store would have: a store of large pages opened with room for one, and every write failed; one of
// small pages was refused.
func TestMaxSizeOfOtherPages(t *testing.T) {
	for _, large := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "a.db")
		size, other := 4096, 65536
		if large {
			size, other = other, size
		}
		db := mustOpenAt(t, path, &Options{PageSize: size})
		mustPut(t, db, "a", "1")
		must(t, db.Close())
		if db, err := Open(path, &Options{PageSize: other, MaxSize: 16*int64(size) - 1}); err == nil || !strings.Contains(err.Error(), "MaxSize") {
			t.Errorf("pages of %d: %v, %v", size, db, err)
		}
		db = mustOpenAt(t, path, &Options{PageSize: other, MaxSize: 16 * int64(size)})
		mustPut(t, db, "a", "2")
		must(t, db.Close())
		db = mustOpenAt(t, path, &Options{PageSize: other, MaxSize: 65536, ReadOnly: true}) // which makes nothing larger
		has(t, db, "a", "2")
		must(t, db.Close())
	}
	path := filepath.Join(t.TempDir(), "new.db")
	if db, err := Open(path, &Options{PageSize: 65536, MaxSize: 400000}); err == nil || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("a new store: %v, %v", db, err)
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	must(t, os.WriteFile(empty, nil, 0o600))
	if db, err := Open(empty, &Options{PageSize: 65536, MaxSize: 400000}); err == nil || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("an empty file: %v, %v", db, err)
	}
	if b := readFile(t, empty); len(b) > 0 {
		t.Errorf("an empty file has %d bytes now", len(b))
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("a store that could not be made left %q, %v", left, err)
	}
}
