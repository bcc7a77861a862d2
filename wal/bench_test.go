package wal

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

func createOnDisk(b *testing.B, opt Options) *Log {
	l, err := Create(vfs.OS, filepath.Join(b.TempDir(), "app.db-wal"), 0o600, testID, 1, 0, opt)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// appendAll appends b.N groups of count transactions, releasing as a checkpoint
// would, with a sync after each if told.
func appendAll(b *testing.B, l *Log, count, size int, sync bool) {
	ops := put("some key of usual length", make([]byte, size))
	var g Group
	tx := uint64(1)
	b.SetBytes(int64(count * len(ops)))
	b.ReportAllocs()
	for b.Loop() {
		g.Reset()
		for range count {
			g.Add(tx, ops)
			tx++
		}
		if l.Live() > 1<<20 {
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
			l.Release(l.End())
		}
		if _, err := l.Append(&g); err != nil {
			b.Fatal(err)
		}
		if sync {
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkAppend writes groups to a file in memory's stead: the cost of the log
// itself, without the system call.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ count, size int }{{1, 100}, {32, 100}, {1000, 100}, {1, 64 << 10}} {
		b.Run(fmt.Sprintf("txs=%d/value=%d", c.count, c.size), func(b *testing.B) {
			l, f := createMem(b, Options{Initial: 4 << 20, Limit: 4 << 20})
			l.file = &sink{memFile: f}
			appendAll(b, l, c.count, c.size, false)
		})
	}
}

// BenchmarkAppendFile writes groups to a real file.
func BenchmarkAppendFile(b *testing.B) {
	for _, count := range []int{1, 32, 1000} {
		b.Run(fmt.Sprintf("txs=%d", count), func(b *testing.B) {
			appendAll(b, createOnDisk(b, Options{Initial: 4 << 20, Limit: 4 << 20}), count, 100, false)
		})
	}
}

// BenchmarkCommit writes and syncs: the floor of a durable commit.
func BenchmarkCommit(b *testing.B) {
	for _, count := range []int{1, 32, 1000} {
		b.Run(fmt.Sprintf("txs=%d", count), func(b *testing.B) {
			appendAll(b, createOnDisk(b, Options{Initial: 4 << 20, Limit: 4 << 20}), count, 100, true)
		})
	}
}

// BenchmarkRecover reads a log of 16 MiB in small groups, and decodes it.
func BenchmarkRecover(b *testing.B) {
	l := createOnDisk(b, Options{Initial: 17 << 20})
	from := l.End()
	ops := put("some key of usual length", make([]byte, 100))
	var g Group
	for tx := uint64(1); l.Live() < 16<<20; {
		g.Reset()
		for range 20 {
			g.Add(tx, ops)
			tx++
		}
		if _, err := l.Append(&g); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(l.Live())
	for b.Loop() {
		n := 0
		_, err := Recover(l.file, testID, from, func(r Record) error {
			for _, ops := range r.All() {
				if err := Decode(ops, func(*Op) error { n++; return nil }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSearch looks through 64 MiB of old records behind the log's end.
func BenchmarkSearch(b *testing.B) {
	l := createOnDisk(b, Options{Initial: 64 << 20})
	g := sized(1, block, 1)
	for l.Reserve(block) == nil && l.Live() < 63<<20 {
		g.first++
		if _, err := l.Append(g); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		b.Fatal(err)
	}
	end := l.End()
	l.Release(end)
	b.SetBytes(64 << 20)
	for b.Loop() {
		if res, err := Recover(l.file, testID, end, nil); err != nil || res.Groups != 0 {
			b.Fatal(res, err)
		}
	}
}
