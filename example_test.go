package folio_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/foliodb/folio"
)

// readme is the example of README.md, which TestReadme compares with it.
func readme(path string) error {
	db, err := folio.Open(path, nil) // makes the store if there is none
	if err != nil {
		return err
	}
	defer db.Close()

	err = db.Update(func(tx *folio.Tx) error {
		users, err := tx.CreateBucketIfNotExists([]byte("users"))
		if err != nil {
			return err
		}
		if err := users.Put([]byte("ada"), []byte("1815")); err != nil {
			return err
		}
		return users.Put([]byte("grace"), []byte("1906"))
	})
	if err != nil {
		return err // nothing was changed
	}

	return db.View(func(tx *folio.Tx) error {
		users := tx.Bucket([]byte("users"))
		fmt.Printf("%d users; ada: %s\n", users.Len(), users.Get([]byte("ada")))
		for k, v := range users.Prefix([]byte("g")) {
			fmt.Printf("%s: %s\n", k, v) // slices are valid until View returns
		}
		return nil
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "folio")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := readme(filepath.Join(dir, "app.db")); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 2 users; ada: 1815
	// grace: 1906
}

// planets returns a store in memory whose root bucket holds the planets and their distances from the sun.
func planets() *folio.DB {
	db, err := folio.OpenMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	err = db.Update(func(tx *folio.Tx) error {
		for name, au := range map[string]string{
			"mercury": "0.39", "venus": "0.72", "earth": "1.00", "mars": "1.52",
			"jupiter": "5.20", "saturn": "9.54", "uranus": "19.2", "neptune": "30.1",
		} {
			if err := tx.Root().Put([]byte(name), []byte(au)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	return db
}

// view calls fn with the root bucket.
func view(db *folio.DB, fn func(b *folio.Bucket)) {
	err := db.View(func(tx *folio.Tx) error {
		fn(tx.Root())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// An error of the function undoes all that it did.
func ExampleDB_Update() {
	db := planets()
	defer db.Close()
	err := db.Update(func(tx *folio.Tx) error {
		if err := tx.Root().Delete([]byte("earth")); err != nil {
			return err
		}
		return errors.New("somebody lives there")
	})
	fmt.Println(err)
	view(db, func(b *folio.Bucket) { fmt.Printf("earth: %s\n", b.Get([]byte("earth"))) })
	// Output:
	// somebody lives there
	// earth: 1.00
}

// A transaction without a function: Rollback after Commit does no harm, so it can be deferred.
func ExampleDB_Begin() {
	db := planets()
	defer db.Close()
	rename := func(from, to string) error {
		tx, err := db.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		b := tx.Root()
		if err := b.Put([]byte(to), b.Get([]byte(from))); err != nil {
			return err
		}
		if err := b.Delete([]byte(from)); err != nil {
			return err
		}
		return tx.Commit()
	}
	if err := rename("mars", "ares"); err != nil {
		log.Fatal(err)
	}
	view(db, func(b *folio.Bucket) {
		k, v := b.Cursor().First()
		fmt.Printf("%s: %s\n", k, v)
	})
	// Output:
	// ares: 1.52
}

func ExampleBucket_All() {
	db := planets()
	defer db.Close()
	view(db, func(b *folio.Bucket) {
		for name, au := range b.All() {
			fmt.Printf("%s %s\n", name, au)
		}
	})
	// Output:
	// earth 1.00
	// jupiter 5.20
	// mars 1.52
	// mercury 0.39
	// neptune 30.1
	// saturn 9.54
	// uranus 19.2
	// venus 0.72
}

// Bounds are half open, and nil is no bound.
func ExampleBucket_Range() {
	db := planets()
	defer db.Close()
	view(db, func(b *folio.Bucket) {
		for name := range b.Range([]byte("mars"), []byte("saturn")) {
			fmt.Printf("%s ", name)
		}
		for name := range b.Range([]byte("u"), nil) {
			fmt.Printf("%s ", name)
		}
	})
	// Output:
	// mars mercury neptune uranus venus
}

func ExampleBucket_Prefix() {
	db := planets()
	defer db.Close()
	view(db, func(b *folio.Bucket) {
		for name := range b.Prefix([]byte("m")) {
			fmt.Printf("%s ", name)
		}
	})
	// Output:
	// mars mercury
}

func ExampleBucket_Backward() {
	db := planets()
	defer db.Close()
	view(db, func(b *folio.Bucket) {
		for name := range b.Backward() {
			fmt.Printf("%s ", name)
			if string(name) == "saturn" {
				break
			}
		}
	})
	// Output:
	// venus uranus saturn
}

// Buckets nest to any depth. A small one lies inside its parent's page, so many of them cost little.
func ExampleBucket_CreateBucket() {
	db := planets()
	defer db.Close()
	err := db.Update(func(tx *folio.Tx) error {
		moons, err := tx.CreateBucket([]byte("moons"))
		if err != nil {
			return err
		}
		mars, err := moons.CreateBucket([]byte("mars"))
		if err != nil {
			return err
		}
		for _, name := range []string{"phobos", "deimos"} {
			n, err := mars.NextSequence()
			if err != nil {
				return err
			}
			if err := mars.Put([]byte(name), binary.BigEndian.AppendUint64(nil, n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	view(db, func(b *folio.Bucket) {
		for k, v := range b.Range([]byte("mo"), []byte("n")) {
			fmt.Printf("%s: a bucket, as its value is nil: %t\n", k, v == nil)
		}
		for k, v := range b.Bucket([]byte("moons")).Bucket([]byte("mars")).All() {
			fmt.Printf("%s: %d\n", k, binary.BigEndian.Uint64(v))
		}
	})
	// Output:
	// moons: a bucket, as its value is nil: true
	// deimos: 2
	// phobos: 1
}

// A cursor keeps its place by key: Next after Delete gives the item behind the deleted one.
func ExampleCursor() {
	db := planets()
	defer db.Close()
	err := db.Update(func(tx *folio.Tx) error {
		c := tx.Cursor()
		for k, v := c.Seek([]byte("m")); k != nil; k, v = c.Next() {
			if len(v) == 4 && v[0] == '0' {
				fmt.Printf("too hot: %s\n", k)
				if err := c.Delete(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	view(db, func(b *folio.Bucket) {
		c := b.Cursor()
		k, _ := c.Last()
		fmt.Printf("last: %s\n", k)
		k, _ = c.Prev()
		fmt.Printf("before it: %s\n", k)
	})
	// Output:
	// too hot: mercury
	// too hot: venus
	// last: uranus
	// before it: saturn
}

// Len, Rank, At and Count take at most two walks down the tree, however many items there are.
func ExampleBucket_Rank() {
	db := planets()
	defer db.Close()
	view(db, func(b *folio.Bucket) {
		fmt.Println("items:", b.Len())
		fmt.Println("below neptune:", b.Rank([]byte("neptune")))
		fmt.Println("below pluto, which is not there:", b.Rank([]byte("pluto")))
		k, v := b.At(b.Len() / 2)
		fmt.Printf("in the middle: %s %s\n", k, v)
		fmt.Println("from j up to n:", b.Count([]byte("j"), []byte("n")))
	})
	// Output:
	// items: 8
	// below neptune: 4
	// below pluto, which is not there: 5
	// in the middle: neptune 30.1
	// from j up to n: 3
}

func ExampleBucket_DeleteRange() {
	db := planets()
	defer db.Close()
	err := db.Update(func(tx *folio.Tx) error {
		n, err := tx.Root().DeleteRange([]byte("m"), []byte("v"))
		fmt.Println("deleted:", n)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	view(db, func(b *folio.Bucket) { fmt.Println("left:", b.Len()) })
	// Output:
	// deleted: 5
	// left: 3
}

// A relaxed commit does not wait for the disk. Sync makes all of them durable.
func ExampleTx_SetDurability() {
	dir, err := os.MkdirTemp("", "folio")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := folio.Open(filepath.Join(dir, "app.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	for i := range 1000 {
		err := db.Update(func(tx *folio.Tx) error {
			tx.SetDurability(folio.Relaxed)
			return tx.Root().Put(binary.BigEndian.AppendUint32(nil, uint32(i)), []byte("seen"))
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := db.Sync(); err != nil { // from here on a power cut takes none of them
		log.Fatal(err)
	}
	view(db, func(b *folio.Bucket) { fmt.Println(b.Len()) })
	// Output:
	// 1000
}

// A backup is a store of its own, made while others read and write.
func ExampleDB_Backup() {
	dir, err := os.MkdirTemp("", "folio")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db := planets()
	defer db.Close()

	path := filepath.Join(dir, "planets.db")
	if err := db.Backup(path); err != nil {
		log.Fatal(err)
	}
	copied, err := folio.Open(path, &folio.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer copied.Close()
	if err := copied.Check(); err != nil {
		log.Fatal(err)
	}
	view(copied, func(b *folio.Bucket) { fmt.Printf("earth: %s\n", b.Get([]byte("earth"))) })
	// Output:
	// earth: 1.00
}

// Errors are told apart with errors.Is; those that say more are types, for errors.As.
func Example_errors() {
	dir, err := os.MkdirTemp("", "folio")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	path := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(path, []byte("some other file"), 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = folio.Open(path, nil)
	var damage *folio.CorruptError
	switch {
	case errors.Is(err, folio.ErrInvalid):
		fmt.Println("not a store")
	case errors.Is(err, folio.ErrTimeout):
		fmt.Println("another process has it")
	case errors.As(err, &damage):
		fmt.Println("damaged, page", damage.Page)
	}

	db := planets()
	err = db.Update(func(tx *folio.Tx) error {
		if err := tx.Root().Put(nil, []byte("nothing")); !errors.Is(err, folio.ErrKeyRequired) {
			return err
		}
		// An error of use leaves the transaction as it was.
		_, err := tx.CreateBucket([]byte("mars"))
		fmt.Println(err)
		return nil
	})
	fmt.Println(err)
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(db.View(func(*folio.Tx) error { return nil }))
	// Output:
	// not a store
	// folio: incompatible value
	// <nil>
	// folio: database not open
}
