package folio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Two goroutines that ended one read transaction at the same time could both count it off: Close did not wait for another one then,
// and the pages of what that read could be used again.
func TestTwoRollbacks(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	for range 2000 {
		tx, err := db.Begin(false)
		must(t, err)
		var wait sync.WaitGroup
		var ended, closed atomic.Int32
		begin := make(chan struct{})
		for range 3 {
			wait.Go(func() {
				<-begin
				switch err := tx.Rollback(); {
				case err == nil:
					ended.Add(1)
				case errors.Is(err, ErrTxClosed):
					closed.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(begin)
		wait.Wait()
		if ended.Load() != 1 || closed.Load() != 2 || db.readers() != 0 {
			t.Fatalf("ended %d times, refused %d times; %d readers are left", ended.Load(), closed.Load(), db.readers())
		}
	}
}

// TestForEachOverWhatEnds: ForEach, ForEachBucket and Tx.ForEach have an error to return, and panicked all the same when fn deleted the bucket or ended
// the transaction: the cursor within asks whether it may go on only by methods that have none.
func TestForEachOverWhatEnds(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		must(t, err)
		for _, name := range []string{"x", "y"} {
			_, err := b.CreateBucket([]byte(name))
			must(t, err)
		}
		_, err = tx.CreateBucket([]byte("c"))
		return err
	}))
	for _, ending := range []struct {
		what string
		want error
		root bool // may happen while the root is iterated over
		end  func(tx *Tx) error
	}{
		{"bucket deleted", ErrBucketNotFound, false, func(tx *Tx) error { return tx.DeleteBucket([]byte("b")) }},
		{"rolled back", ErrTxClosed, true, (*Tx).Rollback},
		{"committed", ErrTxClosed, true, (*Tx).Commit},
	} {
		for what, each := range map[string]func(tx *Tx, end func() error) error{
			"ForEach": func(tx *Tx, end func() error) error {
				return tx.Bucket([]byte("b")).ForEach(func(_, _ []byte) error { return end() })
			},
			"ForEachBucket": func(tx *Tx, end func() error) error {
				return tx.Bucket([]byte("b")).ForEachBucket(func([]byte) error { return end() })
			},
			"Tx.ForEach": func(tx *Tx, end func() error) error {
				if !ending.root {
					return ending.want
				}
				return tx.ForEach(func([]byte, *Bucket) error { return end() })
			},
		} {
			tx, err := db.Begin(true)
			must(t, err)
			calls := 0
			err = withoutPanic(func() error { return each(tx, func() error { calls++; return ending.end(tx) }) })
			if !errors.Is(err, ending.want) || calls > 1 {
				t.Errorf("%s, %s: %v after %d calls", what, ending.what, err, calls)
			}
			if err := tx.Rollback(); err != nil && !errors.Is(err, ErrTxClosed) {
				t.Error(err)
			}
		}
	}
	tx, err := db.Begin(false)
	must(t, err)
	err = withoutPanic(func() error {
		return tx.ForEach(func([]byte, *Bucket) error { return tx.Rollback() })
	})
	if !errors.Is(err, ErrTxClosed) {
		t.Errorf("of a read transaction: %v", err)
	}
}

// withoutPanic has a panic be an error, so that the transaction can still be ended.
func withoutPanic(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return fn()
}
