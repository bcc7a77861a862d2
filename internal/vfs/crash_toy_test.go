package vfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// toy is a store of one number in a file: a page of two sectors that repeats
// the number, written to one of three places in turn, and two meta
// sectors, of which the higher valid one says where the page is. Its
// fields are faults to plant.
type toy struct {
	noFileSync  bool // at creation, before the name is put in place
	noDirSync   bool // at creation
	noPageSync  bool // between page and meta
	earlyAck    bool // before the meta is synced
	inPlace     bool // one place for the page
	oneMeta     bool // one slot for the meta
	noChecksum  bool // in the meta
	retry       bool // a failed sync is tried again and believed
	noOpenSync  bool // at open, before what was found is shown
	noOpenDir   bool // at open, the directory is not synced
	noDropCache bool // at open: what the cache holds is believed
}

const (
	toyMetas = 0    // of two sectors
	toyPages = 4096 // of three pages
	toyPage  = 2 * sectorSize
)

// errToyDamage says that the store is neither new nor whole.
var errToyDamage = errors.New("toy: damage")

type toyStore struct {
	toy
	fs     FS
	mark   func(kind string, n uint64)
	file   File
	number uint64
	place  int64
}

// open creates or recovers the store and shows what it holds.
func (v toy) open(fsys FS, dir string, mark func(string, uint64)) (*toyStore, error) {
	s := &toyStore{toy: v, fs: fsys, mark: mark}
	name := filepath.Join(dir, "db")
	if _, err := fsys.Stat(name); err != nil {
		if err := s.create(dir, name); err != nil {
			return nil, err
		}
	}
	f, err := fsys.Open(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s.file = f
	err = s.recover()
	if err == nil && !s.noOpenDir {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	mark("observed", s.number)
	return s, nil
}

func (s *toyStore) create(dir, name string) error {
	s.fs.Remove(name + ".tmp-1")
	f, err := s.fs.Open(name+".tmp-1", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	s.file = f
	if err := errors.Join(f.Allocate(0, toyPages+3*toyPage), s.writePage(0, 0), s.writeMeta(0, 0)); err != nil {
		return err
	}
	if !s.noFileSync {
		if err := s.sync(); err != nil {
			return err
		}
	}
	if err := s.fs.Rename(name+".tmp-1", name); err != nil {
		return err
	}
	if s.noDirSync {
		return nil
	}
	return s.fs.SyncDir(dir)
}

func (s *toyStore) recover() error {
	if !s.noOpenSync {
		if err := s.file.Sync(); err != nil {
			return err
		}
	}
	if !s.noDropCache {
		if err := s.file.DropCache(0); err != nil {
			return err
		}
	}
	found := false
	for slot := range int64(2) {
		n, place, ok := s.readMeta(slot)
		if ok && (!found || n > s.number) {
			found, s.number, s.place = true, n, place
		}
	}
	if !found {
		return fmt.Errorf("%w: no meta", errToyDamage)
	}
	page := make([]byte, toyPage)
	if _, err := s.file.ReadAt(page, toyPages+s.place*toyPage); err != nil {
		return fmt.Errorf("%w: %w", errToyDamage, err)
	}
	for i := 0; i < toyPage; i += 8 {
		if binary.LittleEndian.Uint64(page[i:]) != s.number {
			return fmt.Errorf("%w: page of %d", errToyDamage, s.number)
		}
	}
	return nil
}

// commit stores the next number.
func (s *toyStore) commit() error {
	n := s.number + 1
	s.mark("begin", n)
	place := (s.place + 1) % 3
	if s.inPlace {
		place = 0
	}
	if err := s.writePage(n, place); err != nil {
		return err
	}
	if !s.noPageSync {
		if err := s.sync(); err != nil {
			return err
		}
	}
	if err := s.writeMeta(n, place); err != nil {
		return err
	}
	if s.earlyAck {
		s.mark("ack", n)
	}
	if err := s.sync(); err != nil {
		return err
	}
	s.number, s.place = n, place
	s.mark("ack", n)
	return nil
}

func (s *toyStore) sync() error {
	err := s.file.Sync()
	if err != nil && s.retry {
		err = s.file.Sync()
	}
	return err
}

func (s *toyStore) writePage(n uint64, place int64) error {
	page := make([]byte, toyPage)
	for i := 0; i < toyPage; i += 8 {
		binary.LittleEndian.PutUint64(page[i:], n)
	}
	_, err := s.file.WriteAt(page, toyPages+place*toyPage)
	return err
}

func (s *toyStore) writeMeta(n uint64, place int64) error {
	meta := make([]byte, sectorSize)
	copy(meta, "toy")
	binary.LittleEndian.PutUint64(meta[8:], n)
	binary.LittleEndian.PutUint64(meta[300:], uint64(place))
	binary.LittleEndian.PutUint64(meta[504:], xxhash.Sum64(meta[:504]))
	slot := int64(n % 2)
	if s.oneMeta {
		slot = 0
	}
	_, err := s.file.WriteAt(meta, toyMetas+slot*sectorSize)
	return err
}

func (s *toyStore) readMeta(slot int64) (n uint64, place int64, ok bool) {
	meta := make([]byte, sectorSize)
	if _, err := s.file.ReadAt(meta, toyMetas+slot*sectorSize); err != nil || string(meta[:3]) != "toy" {
		return 0, 0, false
	}
	if !s.noChecksum && binary.LittleEndian.Uint64(meta[504:]) != xxhash.Sum64(meta[:504]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(meta[8:]), int64(binary.LittleEndian.Uint64(meta[300:]) % 3), true
}

// toyRun is a hunt for a state that breaks a toy's promise.
type toyRun struct {
	t      *testing.T
	toy    toy
	dir    string
	states int
}

func (r *toyRun) fresh() string {
	r.states++
	return filepath.Join(r.dir, fmt.Sprint(r.states))
}

// bounds are what the store may hold after a crash at a moment.
func bounds(h *History, at int) (least, most uint64, ever bool) {
	least, ever = h.Mark(at, "ack")
	if n, ok := h.Mark(at, "observed"); ok {
		least, ever = max(least, n), true
	}
	most, _ = h.Mark(at, "begin")
	return least, max(most, least), ever
}

// judge opens the store in a state and compares it with the bounds.
func (r *toyRun) judge(s *State, least, most uint64, ever bool) error {
	dir := r.fresh()
	if err := s.Materialise(dir); err != nil {
		r.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := os.Stat(filepath.Join(dir, "db")); err != nil {
		if ever {
			return errors.New("the store is gone")
		}
		return nil
	}
	store, err := r.toy.open(OS, dir, func(string, uint64) {})
	if err != nil {
		return err
	}
	defer store.file.Close()
	if store.number < least || store.number > most {
		return fmt.Errorf("holds %d, must be %d to %d", store.number, least, most)
	}
	return nil
}

// hunt enumerates the crashes of a log from event from on. If deep, also what
// comes after: the process dies, another opens the store, and then comes the power cut.
func (r *toyRun) hunt(log []Op, least, most uint64, ever bool, deep bool) error {
	h := NewHistory(log)
	for _, at := range h.Points() {
		lo, hi, seen := bounds(h, at)
		lo, hi, seen = max(lo, least), max(hi, most), seen || ever
		var found error
		budget := 20
		if deep {
			budget = 60
		}
		h.Enumerate(at, Plan{Budget: budget, Seed: 1, Torture: true}, func(s *State) bool {
			if err := r.judge(s, lo, hi, seen); err != nil {
				found = fmt.Errorf("%s: %w\n%s", s, err, s.Describe())
			}
			return found == nil
		})
		if found == nil && deep {
			found = r.restart(h.State(at, KeepAll), lo, hi, seen)
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// restart opens the store as the next process does, lets it commit once, and
// hunts in the log of that.
func (r *toyRun) restart(s *State, least, most uint64, ever bool) error {
	dir := r.fresh()
	rec, err := NewRecorderFrom(OS, s, dir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := r.toy.open(rec, dir, rec.Mark)
	if err != nil {
		return fmt.Errorf("%s: restart: %w", s, err)
	}
	defer store.file.Close()
	store.commit()
	if err := rec.Verify(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.hunt(rec.Log(), least, most+1, ever, false); err != nil {
		return fmt.Errorf("after a restart from %s: %w", s, err)
	}
	return nil
}

// run is a life of the toy on a file system whose nth sync fails (0: none).
func (r *toyRun) run(nth int) error {
	failer := NewFailer(OS)
	if nth > 0 {
		failer.Set(Rule{Kinds: []Kind{KindSync}, Nth: nth})
	}
	rec := NewRecorder(failer)
	dir := r.fresh()
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	store, err := r.toy.open(rec, dir, rec.Mark)
	for i := 0; err == nil && i < 4; i++ {
		err = store.commit()
	}
	if store != nil {
		store.file.Close()
	}
	if err := rec.Verify(); err != nil {
		r.t.Fatal(err)
	}
	return r.hunt(rec.Log(), 0, 0, false, true)
}

// fastDir is a temporary directory in memory, where there is such a place.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vfs")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestToy plants faults of protocol in a toy: the simulator finds each, and
// finds nothing when there is none.
func TestToy(t *testing.T) {
	for _, c := range []struct {
		name  string
		toy   toy
		found bool
	}{
		{"correct", toy{}, false},
		{"no file sync at creation", toy{noFileSync: true}, true},
		{"no directory sync", toy{noDirSync: true, noOpenDir: true}, true},
		{"no sync between page and meta", toy{noPageSync: true}, true},
		{"acknowledged before the sync", toy{earlyAck: true}, true},
		{"page updated in place", toy{inPlace: true}, true},
		{"single meta slot", toy{oneMeta: true}, true},
		{"meta without checksum", toy{noChecksum: true}, true},
		{"failed sync tried again", toy{retry: true}, true},
		{"shown before its name is synced", toy{noOpenDir: true}, true},
		{"shown before it is synced", toy{noOpenSync: true}, true},
		{"cache believed after a failed sync", toy{noDropCache: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &toyRun{t: t, toy: c.toy, dir: fastDir(t)}
			var err error
			for nth := 0; nth <= 10 && err == nil; nth++ {
				if err = r.run(nth); err != nil {
					err = fmt.Errorf("sync %d fails: %w", nth, err)
				}
			}
			if c.found {
				t.Logf("found in %d states: %v", r.states, err)
			} else {
				t.Logf("%d states", r.states)
			}
			if (err != nil) != c.found {
				t.Errorf("found %v", err)
			}
		})
	}
}
