package folio

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
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
