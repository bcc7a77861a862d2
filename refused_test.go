package folio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// What Open refuses because it is damaged is not changed: no page that a meta slot reaches, no slot, not the log, nor the size of either file.
// A review showed that large replays broke that: they wrote to pages that were free by the higher slot, and then came to a damaged leaf.

// refusedFiles are the files of a store before somebody tries to open it.
type refusedFiles struct {
	path      string
	data, log []byte
}

func takeRefused(t *testing.T, path string) refusedFiles {
	t.Helper()
	return refusedFiles{path, readFile(t, path), readFile(t, logName(path))}
}

// refuse opens the store, which must be refused as damaged, and compares what is left of it.
func (r refusedFiles) refuse(t *testing.T) {
	t.Helper()
	for _, o := range []*Options{nil, {MemoryLimit: minLimit}} { // little memory: pages have to be written on the way
		if db, err := Open(r.path, o); !errors.Is(err, ErrCorrupt) {
			if err == nil {
				db.Close()
			}
			t.Fatalf("open: %v; want it refused", err)
		}
	}
	data := readFile(t, r.path)
	if len(data) != len(r.data) || !bytes.Equal(data[:2*4096], r.data[:2*4096]) {
		t.Errorf("the data file's slots or its size have changed: %d bytes, and were %d", len(data), len(r.data))
	}
	if !bytes.Equal(readFile(t, logName(r.path)), r.log) {
		t.Error("the log has changed")
	}
}

// with changes a bit of a file, and looks whether the store has all that was committed then.
func (r refusedFiles) with(t *testing.T, name string, at, round int) {
	t.Helper()
	spoilByte(t, name, at)
	db := mustOpenAt(t, r.path, nil)
	must(t, db.View(func(tx *Tx) error {
		for i := range refusedItems {
			if string(tx.Root().Get(fmt.Appendf(nil, "%06d", i*7919%100_000))) != fmt.Sprintf("%0300d", round) {
				return fmt.Errorf("item %d is not what was committed last", i)
			}
		}
		return nil
	}))
	must(t, db.Check())
}

const refusedItems = 20_000

// putRefused puts so many items of 300 bytes, 500 a transaction.
func putRefused(t *testing.T, db *DB, round int) {
	t.Helper()
	for n := 0; n < refusedItems; n += 500 {
		must(t, db.Update(func(tx *Tx) error {
			for i := n; i < n+500; i++ {
				if err := tx.Root().Put(fmt.Appendf(nil, "%06d", i*7919%100_000), fmt.Appendf(nil, "%0300d", round)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// lastLeaf is the page of the last leaf of a state.
func lastLeaf(data []byte, m *page.Meta) int {
	id := int(m.Root.Root)
	for page.LevelOf(data[id*4096:][:4096]) > 0 {
		b := page.Branch(data[id*4096:][:4096])
		id = int(b.Child(b.Count() - 1))
	}
	return id
}

// refusedStore has free pages, 12 MB of commits in its log behind the checkpoint, and a bucket made behind them, which has all before it replayed.
func refusedStore(t *testing.T) (path string, m page.Meta) {
	db := mustOpen(t, nil)
	putRefused(t, db, 0)
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange([]byte("050000"), nil)
		return err
	}))
	must(t, db.checkpointAll())
	must(t, db.checkpointAll())
	putRefused(t, db, 1)
	must(t, db.Update(func(tx *Tx) error {
		_, err := tx.CreateBucket([]byte("bucket"))
		return err
	}))
	for _, v := range []string{"y", "z", "zz"} {
		mustPut(t, db, "x", v)
	}
	m = db.newest()
	path = crashCopy(t, db.Path())
	must(t, db.Close())
	return path, m
}

func TestRefusedForTheLog(t *testing.T) {
	path, m := refusedStore(t)
	var at []int64
	log, err := vfs.OS.Open(logName(path), os.O_RDWR, 0)
	must(t, err)
	_, err = wal.Recover(log, m.StoreID, logPosition(&m), func(r wal.Record) error { at = append(at, r.Offset); return nil })
	must(t, errors.Join(err, log.Close()))
	damaged := int(at[len(at)-2]) + 32 // the last record says that it was synced
	spoilByte(t, logName(path), damaged)
	takeRefused(t, path).refuse(t)
	spoilByte(t, path, 4096+50) // a meta slot too
	r := takeRefused(t, path)
	r.refuse(t)
	r.with(t, logName(path), damaged, 1) // put right
}

func TestRefusedForALeaf(t *testing.T) {
	path, m := refusedStore(t)
	damaged := lastLeaf(readFile(t, path), &m)*4096 + 4000
	spoilByte(t, path, damaged)
	r := takeRefused(t, path)
	r.refuse(t)
	r.with(t, path, damaged, 1) // put right
}

// A crash between the two slots of a checkpoint, beside which 12 MB were committed; and a leaf that only the higher slot reaches is damaged. The lower
// one is whole, and with its log it has everything: as long as nobody writes to what is free by the higher one.
func TestRefusedKeepsLowerSlot(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	putRefused(t, db, 0)
	must(t, db.checkpointAll())
	putRefused(t, db, 1)
	path, slots := "", 0
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindWrite && filepath.Ext(f.Name()) == ".db" && off <= 4096 {
			if slots++; slots == 2 {
				putRefused(t, db, 2)
				path = crashCopy(t, db.Path())
			}
		}
		return nil
	})
	fsys.before.Store(&hook)
	must(t, db.Checkpoint())
	fsys.before.Store(nil)
	must(t, db.Close())
	data := readFile(t, path)
	high := 0
	var m [2]page.Meta
	for slot := range m {
		var err error
		m[slot], err = page.DecodeMeta(data[slot*4096:][:page.MetaSize], slot)
		must(t, err)
	}
	if m[1].Checkpoint > m[0].Checkpoint {
		high = 1
	}
	spoilByte(t, path, lastLeaf(data, &m[high])*4096+4000)
	r := takeRefused(t, path)
	r.refuse(t)
	r.with(t, path, high*4096+50, 2) // by hand: Open has to take the lower slot
}

// A replay that finds no space behind the end of the file takes pages that are free, with the slots made equal before.
func TestReplayOnAFullDisk(t *testing.T) {
	path, m := refusedStore(t)
	must(t, os.Truncate(path, 2*int64(m.Pages)*4096)) // half of it is free
	spoilByte(t, path, 4096+50)                       // or nothing would be asked for, since nobody needs what is free by both slots
	fsys := newHookFS()
	full := 0
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindAllocate && filepath.Ext(f.Name()) == ".db" {
			full++
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&hook)
	size := len(readFile(t, path))
	db := mustOpenAt(t, path, &Options{fs: fsys})
	if full == 0 {
		t.Error("no space was asked for")
	}
	must(t, db.View(func(tx *Tx) error {
		if v := tx.Root().Get([]byte("x")); string(v) != "zz" {
			return fmt.Errorf("x is %q", v)
		}
		return nil
	}))
	must(t, db.Check())
	if now := len(readFile(t, path)); now > size {
		t.Errorf("the file has grown from %d to %d", size, now)
	}
}

// A store that was opened for a look at memory of its own, on a medium of which it has to be seen whether the mapping shows what is written, wrote to
// the meta slots when its replay was a large one: that is refused, and so was the store.
func TestPrivateReplayOnDoubtfulMedium(t *testing.T) {
	path, _ := refusedStore(t)
	fsys := &mediumFS{FS: vfs.OS, medium: vfs.Medium{Name: "overlay", Doubtful: true}}
	db := mustOpenAt(t, path, &Options{Private: true, fs: fsys})
	must(t, db.Check())
}

// The log may say that its transactions go on with any number. Beyond all that can be counted on, the store could be opened, written to, and never opened
// again, or the process ended.
func TestLinkBeyondAllTransactions(t *testing.T) {
	for _, jump := range []uint64{1<<62 + 10, math.MaxUint64} {
		db := mustOpen(t, nil)
		mustPut(t, db, "a", "b")
		must(t, db.checkpointAll())
		mustPut(t, db, "a", "c")
		m := db.newest()
		path := crashCopy(t, db.Path())
		must(t, db.Close())
		log, err := vfs.OS.Open(logName(path), os.O_RDWR, 0)
		must(t, err)
		res, err := wal.Recover(log, m.StoreID, logPosition(&m), func(wal.Record) error { return nil })
		must(t, err)
		l, err := wal.Open(log, m.StoreID, &res, jump, wal.Options{})
		must(t, err)
		must(t, l.Close())
		takeRefused(t, path).refuse(t)
	}
}

// A meta slot may have the highest number that there is. The one behind it is not written, since nobody could open the store then.
func TestNumbersAtTheirEnd(t *testing.T) {
	for name, at := range map[string]int{"checkpoint": page.MetaCheckpoint, "transaction": page.MetaCheckpoint + 8} {
		db := mustOpen(t, nil)
		mustPut(t, db, "a", "old")
		must(t, db.Close())
		changeSlots(t, db.Path(), func(p []byte) { binary.LittleEndian.PutUint64(p[at:], 1<<62-1) })
		for range 2 {
			db, err := Open(db.Path(), nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			err = db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), []byte("new")) })
			if err = errors.Join(err, db.Close()); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: update and close: %v", name, err)
			}
		}
	}
}

// changeSlots changes the meta slots of a store with pages of 4 KiB, and puts their checksums right.
func changeSlots(t *testing.T, path string, change func(p []byte)) {
	t.Helper()
	data := readFile(t, path)
	for slot := range 2 {
		p := data[slot*4096:][:page.MetaSize]
		change(p)
		binary.LittleEndian.PutUint64(p[page.MetaSize-8:], xxhash.Sum64(p[:page.MetaSize-8]))
	}
	must(t, os.WriteFile(path, data, 0o600))
}

// One slot is sound and of another version of the format: what that one's program wrote is not written over.
func TestOneSlotOfAnotherVersion(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "old")
	must(t, db.Close())
	slot := 0
	changeSlots(t, db.Path(), func(p []byte) {
		if slot++; slot == 2 {
			binary.LittleEndian.PutUint32(p[8:], page.FormatVersion+1)
		}
	})
	before := readFile(t, db.Path())
	for _, o := range []*Options{nil, {ReadOnly: true}, {Private: true}} {
		if _, err := Open(db.Path(), o); !errors.Is(err, ErrVersionMismatch) {
			t.Errorf("open: %v", err)
		}
	}
	if !bytes.Equal(readFile(t, db.Path()), before) {
		t.Error("the store has changed")
	}
}
