package folio

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	model := map[string]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < 300; i++ {
		err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			for j := 0; j < 100; j++ {
				k := make([]byte, 8)
				binary.BigEndian.PutUint64(k, rng.Uint64N(20000))
				v := fmt.Sprint(rng.Uint64())
				if err := b.Put(k, []byte(v)); err != nil {
					return err
				}
				model[string(k)] = v
			}
			return nil
		})
		if err != nil {
			t.Fatal(i, err)
		}
		if i%50 == 0 {
			if err := db.Check(); err != nil {
				t.Fatal(i, err)
			}
		}
	}
	verify := func() {
		t.Helper()
		err = db.View(func(tx *Tx) error {
			b := tx.Bucket([]byte("b"))
			if b.Len() != len(model) {
				return fmt.Errorf("len %d, want %d", b.Len(), len(model))
			}
			for k, v := range model {
				if got := b.Get([]byte(k)); string(got) != v {
					return fmt.Errorf("%x: %q want %q", k, got, v)
				}
			}
			n := 0
			for range b.All() {
				n++
			}
			if n != len(model) {
				return fmt.Errorf("scan %d", n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Check(); err != nil {
			t.Fatal(err)
		}
	}
	verify()
	if err := db.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	verify()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	if db, err = Open(path, nil); err != nil {
		t.Fatal(err)
	}
	t.Log("open", time.Since(t0))
	verify()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
