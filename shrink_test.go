package folio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// holed returns a store of whose file the first part is free, and a few hundred pages lie at the end.
func holed(t *testing.T) (*DB, string) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to int) {
		err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := from; i < to && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "%08d", i), bytes.Repeat([]byte("x"), 1000))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < 20000; i += 1000 {
		put(i, i+1000)
	}
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *Tx) error {
		_, err := tx.Bucket([]byte("b")).DeleteRange(nil, []byte("00019000"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db, path
}

func within(t *testing.T, what string, f func()) {
	done := make(chan bool)
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s hangs", what)
	}
}

// TestShrinkCheckpointCuts: when one transaction moved all there was, nobody cut the file.
func TestShrinkCheckpointCuts(t *testing.T) {
	db, path := holed(t)
	defer db.Close()
	a, _ := os.Stat(path)
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.Stat(path)
	if b.Size() > a.Size()/2 {
		t.Errorf("file of %d bytes, was %d", b.Size(), a.Size())
	}
}

// TestShrinkCheckpointInUpdate: Checkpoint waited for the transaction that it was called in.
func TestShrinkCheckpointInUpdate(t *testing.T) {
	db, _ := holed(t)
	within(t, "Checkpoint inside Update", func() {
		if err := db.Update(func(tx *Tx) error { return db.Checkpoint() }); err != nil {
			t.Error(err)
		}
	})
}

// TestShrinkCheckpointBesideClose and the next: Checkpoint kept Close from finishing and waited for the writer lock that
// Close had.
func TestShrinkCheckpointBesideClose(t *testing.T) {
	db, _ := holed(t)
	if err := db.checkpointAll(); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(true) // so that both queue up behind it
	if err != nil {
		t.Fatal(err)
	}
	within(t, "Close beside Checkpoint", func() {
		c := make(chan bool)
		go func() {
			defer close(c)
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(100 * time.Millisecond)
		d := make(chan bool)
		go func() {
			defer close(d)
			if err := db.Checkpoint(); err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
				t.Error(err)
			}
		}()
		time.Sleep(100 * time.Millisecond)
		tx.Rollback()
		<-c
		<-d
	})
}

func TestShrinkTwoCloses(t *testing.T) {
	for range 20 {
		db, _ := holed(t)
		within(t, "two Closes and a Checkpoint", func() {
			c := make(chan bool)
			for i := range 3 {
				go func() {
					if i == 0 {
						if err := db.Checkpoint(); err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
							t.Error(err)
						}
					}
					if err := db.Close(); err != nil {
						t.Error(err)
					}
					c <- true
				}()
			}
			<-c
			<-c
			<-c
		})
	}
}

// TestShrinkLongRun: a run of more than shrinkMoves pages lies at the end, and no hole is long enough for it. It was tried for ever.
func TestShrinkLongRun(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "db"), nil)
	if err == nil {
		err = db.Update(func(tx *Tx) error { _, err := tx.CreateBucket([]byte("b")); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		for i := 0; i < 20000; i++ {
			if err := b.Put(fmt.Appendf(nil, "%08d", i), bytes.Repeat([]byte("y"), 1000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = db.Checkpoint()
	}
	if err == nil {
		err = db.Update(func(tx *Tx) error {
			return tx.Bucket([]byte("b")).Put([]byte("z"), make([]byte, 40<<20))
		})
	}
	if err == nil {
		err = db.Checkpoint()
	}
	if err == nil {
		err = db.Update(func(tx *Tx) error {
			for i := 0; i < 20000; i++ {
				if i%9000 != 0 {
					if err := tx.Bucket([]byte("b")).Delete(fmt.Appendf(nil, "%08d", i)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	within(t, "Checkpoint", func() { err = db.Checkpoint() })
	if err != nil {
		t.Fatal(err)
	}
}

// TestShrinkKeepsToMemoryLimit: pages that move stay on the heap until their transaction ends, so there are fewer of the large ones.
func TestShrinkKeepsToMemoryLimit(t *testing.T) {
	for _, size := range []int{4096, 65536} {
		db := mustOpen(t, &Options{PageSize: size, MemoryLimit: minLimit})
		if n := int64(db.shrinkMoves(maxShrinkMoves * visitsPerMove)); n < 1 || n*int64(size) > minLimit {
			t.Errorf("%d pages of %d bytes in one transaction", n, size)
		}
	}
}
