package folio

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	damageAll  = flag.Bool("folio.damage", false, "run the whole of TestDamageSweep, not a sample")
	damageCase = flag.String("folio.damagecase", "", "a case that TestDamageSweep printed: only this is run")
)

// sweepRoom is what each of opening, reading, checking, writing and closing may allocate for a damaged store above what it
// allocates for the sound one and the size of its files: findings, and what the runtime does meanwhile.
const sweepRoom = 64 << 10

// TestDamageSweep damages the files of a store of 64 KiB, once closed and once killed, in every way that one change
// can: each byte, each page zeroed, swapped with another and overwritten by another, each length that a file can be
// cut to; the log likewise. Pages, and some lengths, are tried with real files, all else
// with a file system in memory. Each result is opened for reading and for writing, read whole, checked, written to, and opened
// again. The answer is the right data or an error of a kind that the API names; never a wrong value, a
// panic, a hang, or more memory than the files and a constant.
//
//	go test -run TestDamageSweep -folio.damage -v -timeout 2h .
func TestDamageSweep(t *testing.T) {
	s := newSweep(t)
	for _, closed := range []bool{true, false} {
		s.store = newSweepStore(t, closed)
		s.learn()
		s.file("data", s.store.data, s.tryData)
		if s.store.log != nil {
			s.file("log", s.store.log, s.tryLog)
			s.blocks(s.store.log)
			s.run("log gone", 1, func() { s.try(s.store.data, nil, s.full()) })
		}
	}
	s.report()
}

// A sweep is one run of TestDamageSweep.
type sweep struct {
	t        *testing.T
	store    *sweepStore
	dir      string
	real     bool // whether the files are, or in mem
	mem      *memFS
	rng      *rand.Rand
	name     string // of the case that is run
	watchdog *time.Timer

	cases, opens, right, earlier, blank int
	wrong, panics                       int
	kinds                               map[string]int    // errors by what was called and their kind
	sound                               map[string]uint64 // bytes that a call allocates for the sound store, by what is called
	learning                            bool
	most                                uint64 // bytes that one call allocated beyond that and the files
	began                               time.Time
}

// sweepFile is more than a file of the sweep ever has.
const sweepFile = 1 << 20

// sweepHang is how long one case may take. It takes about a millisecond.
const sweepHang = time.Minute

func newSweep(t *testing.T) *sweep {
	s := &sweep{t: t, dir: crashDir(t), mem: newMemFS(sweepFile), kinds: map[string]int{}, rng: rand.New(rand.NewPCG(*crashSeed, 3)), began: time.Now()}
	s.watchdog = time.AfterFunc(sweepHang, func() {
		debug.SetTraceback("all")
		panic("hangs: " + s.name)
	})
	t.Cleanup(func() { s.watchdog.Stop() })
	return s
}

// learn notes what each call allocates for the sound store: most of it is scratch space, and the buffer that a log is read
// through.
func (s *sweep) learn() {
	s.name, s.learning, s.sound = s.store.name+" sound", true, map[string]uint64{}
	for range 5 {
		for _, s.real = range []bool{false, true} {
			s.try(s.store.data, s.store.log, s.full())
		}
	}
	s.learning = false

}

// run runs a case, or, in a sample, one in so many.
func (s *sweep) run(name string, oneIn int, fn func()) {
	name = s.store.name + " " + name
	switch {
	case *damageCase != "":
		if name != *damageCase {
			return
		}
	case !*damageAll && s.rng.IntN(oneIn) > 0 || s.t.Failed() && s.wrong+s.panics > 20:
		return
	}
	s.name = name
	s.cases++
	s.watchdog.Reset(sweepHang)
	fn()
}

// byteChanges are what is done to a byte. The names of cases have no values in them: a store's id is random.
var byteChanges = []string{"zero", "0xff", "inverted", "flipped", "plus one"}

// file damages one of the files in every way, and has try judge what is left.
func (s *sweep) file(what string, sound []byte, try func([]byte)) {
	b := slices.Clone(sound)
	s.real = false
	run := func(name string, oneIn int, change func()) {
		s.run(what+" "+name, oneIn, func() {
			change()
			try(b)
			b = append(b[:0], sound...)
		})
	}
	for at, is := range sound {
		values := []byte{0, 0xff, ^is, is ^ 1, is + 1}
		for i, v := range values {
			if v != is && !slices.Contains(values[:i], v) {
				run(fmt.Sprintf("byte %d %s", at, byteChanges[i]), 160, func() { b[at] = v })
			}
		}
	}
	s.real = true
	page := func(p []byte, i int) []byte { return p[i*sweepPage:][:sweepPage] }
	n := len(sound) / sweepPage
	for i := range n {
		run(fmt.Sprintf("page %d zeroed", i), 1, func() { clear(page(b, i)) })
		for j := range n {
			if i == j || string(page(sound, i)) == string(page(sound, j)) {
				continue
			}
			run(fmt.Sprintf("page %d over %d", i, j), 5, func() { copy(page(b, j), page(sound, i)) })
			if i < j {
				run(fmt.Sprintf("pages %d and %d swapped", i, j), 5, func() {
					copy(page(b, j), page(sound, i))
					copy(page(b, i), page(sound, j))
				})
			}
		}
	}
	for size := range len(sound) {
		s.real = size%512 == 100
		run(fmt.Sprintf("cut to %d", size), 100, func() { b = b[:size] })
	}
}

// blocks does to blocks of the log in use what file does to pages.
func (s *sweep) blocks(sound []byte) {
	used := (s.store.records[len(s.store.records)-1].end+sweepBlock-1)/sweepBlock + 2
	s.real = false
	b := slices.Clone(sound)
	block := func(p []byte, i int) []byte { return p[i*sweepBlock:][:sweepBlock] }
	for i := range used {
		for j := range used {
			if i == j || string(block(sound, i)) == string(block(sound, j)) {
				continue
			}
			s.run(fmt.Sprintf("log block %d over %d", i, j), 10, func() {
				copy(block(b, j), block(sound, i))
				s.tryLog(b)
				copy(b, sound)
			})
		}
	}
}

func (s *sweep) full() int { return len(s.store.states) - 1 }

// tryData opens the store with other data and its own log.
func (s *sweep) tryData(data []byte) { s.try(data, s.store.log, s.full()) }

// tryLog opens the store with another log.
func (s *sweep) tryLog(log []byte) { s.try(s.store.data, log, s.store.allowed(log)) }

// try opens these files, which may give the state after so many commits and no other; -1: none.
func (s *sweep) try(data, log []byte, commits int) {
	defer func() {
		if r := recover(); r != nil {
			s.panics++
			s.failed("panic: %v\n%s", r, debug.Stack())
		}
	}()
	path := filepath.Join(s.dir, "a.db")
	for _, readOnly := range []bool{true, false} {
		s.write(path, data)
		s.write(logName(path), log)
		s.open(path, len(data)+len(log), commits, readOnly)
	}
}

// write makes a file; nil: there is to be none.
func (s *sweep) write(name string, content []byte) {
	switch {
	case !s.real && content == nil:
		_ = s.mem.Remove(name) // it may not be there
	case !s.real:
		s.mem.put(name, content)
	case content == nil:
		os.Remove(name)
	default:
		must(s.t, os.WriteFile(name, content, 0o600))
	}
}

func (s *sweep) options(readOnly bool) *Options {
	o := &Options{ReadOnly: readOnly, reservation: sweepFile}
	if !s.real {
		o.fs = s.mem
	}
	return o
}

// open opens the store and uses it in every way.
func (s *sweep) open(path string, size, commits int, readOnly bool) {
	how := "write"
	if readOnly {
		how = "read"
	}
	s.opens++
	var db *DB
	fine := s.measured("open to "+how, size, func() (err error) {
		db, err = Open(path, s.options(readOnly))
		return err
	})
	if !fine {
		return
	}
	if commits < 0 {
		commits = s.full()
		s.wrong++
		s.failed("opened, although acknowledged commits are lost")
	}
	want := s.store.states[commits]
	if size == 0 && !readOnly { // an empty file becomes a new store
		s.blank++
		want = &sweepTree{}
	}
	fine = s.read(db, size, want)
	fine = s.measured("check", size, db.Check) && fine
	if !readOnly {
		key, value := []byte("swept"), []byte("value")
		wrote := s.measured("write", size, func() error {
			return db.Update(func(tx *Tx) error {
				b := tx.Bucket([]byte("plain"))
				if b == nil { // a new store
					return nil
				}
				return b.Put(key, value)
			})
		})
		if wrote {
			want = want.with([]byte("plain"), key, value)
		}
		fine = s.read(db, size, want) && wrote && fine
		fine = s.measured("close", size, db.Close) && fine
		s.again(path, size, want)
	} else {
		fine = s.measured("close", size, db.Close) && fine
	}
	if fine && commits < s.full() {
		s.earlier++
	} else if fine {
		s.right++
	}
}

// again opens the store once more after it was written to, and closed as far as that went.
func (s *sweep) again(path string, size int, want *sweepTree) {
	var db *DB
	if !s.measured("open again", size, func() (err error) { db, err = Open(path, s.options(false)); return err }) {
		return
	}
	s.read(db, size, want)
	s.measured("close again", size, db.Close)
}

// read reads everything, and reports whether that could be done. Where it cannot, each item is read by itself:
// damage in one page is no excuse for a wrong value from another.
func (s *sweep) read(db *DB, size int, want *sweepTree) bool {
	if s.measured("read", size, func() error { return db.View(func(tx *Tx) error { return want.compare(tx.Root()) }) }) {
		return true
	}
	for i := range want.items {
		err := db.View(func(tx *Tx) error { return want.items[i].get(tx.Root()) })
		s.judge("read", err)
		kid := want.items[i].kid
		if err == nil || kid == nil {
			continue
		}
		for j := range kid.items {
			s.judge("read", db.View(func(tx *Tx) error {
				b := tx.Bucket(want.items[i].key)
				if b == nil {
					return fmt.Errorf("%w: bucket %.40q is not there", errSweepWrong, want.items[i].key)
				}
				return kid.items[j].get(b)
			}))
		}
	}
	return false
}

// measured makes a call, counts its error, and holds what it allocated against the limit.
func (s *sweep) measured(what string, size int, call func() error) bool {
	if s.learning { // what is kept for later is made anew whenever it was collected
		runtime.GC()
		runtime.GC()
	}
	before := allocatedBytes()
	err := call()
	n := allocatedBytes() - before
	least := s.sound[what] + uint64(size)
	switch {
	case s.learning:
		s.sound[what] = max(s.sound[what], n)
	case n > least+sweepRoom:
		s.failed("%s allocated %d bytes, of the sound store %d", what, n, s.sound[what])
	case n > least:
		s.most = max(s.most, n-least)
	}
	if kind := s.judge(what, err); kind != "" {
		s.kinds[what+": "+kind]++
	}
	return err == nil
}

// judge names the kind of an error; one of no kind fails the test.
func (s *sweep) judge(what string, err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errSweepWrong):
		s.wrong++
		s.failed("%s: %v", what, err)
		return "wrong"
	}
	kind := damageKind(err)
	if kind == "" {
		s.failed("%s gave an error of no kind: %v", what, err)
	}
	return kind
}

// damageKind names the kind of an error that a damaged store may give; "" if it may not.
func damageKind(err error) string {
	for _, k := range []struct {
		is   error
		name string
	}{
		{ErrVersionMismatch, "ErrVersionMismatch"}, {ErrInvalid, "ErrInvalid"}, {ErrPoisoned, "ErrPoisoned"},
		{ErrLogCorrupt, "ErrLogCorrupt"}, {ErrCorrupt, "ErrCorrupt"},
	} {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	return ""
}

func (s *sweep) failed(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("%s: %s\n\tgo test -run '^TestDamageSweep$' -folio.damagecase '%s' .", s.name, fmt.Sprintf(format, args...), s.name)
}

// report prints what was counted.
func (s *sweep) report() {
	var lines []string
	for kind, n := range s.kinds {
		lines = append(lines, fmt.Sprintf("\t%-36s %9d", kind, n))
	}
	slices.Sort(lines)
	took := time.Since(s.began)
	s.t.Logf("%d cases, %d opens, %d right, %d right without the last groups of a damaged log, %d new stores from empty files; errors:\n%s\n"+
		"\twrong %d, panics %d, hangs 0; at most %d KiB allocated beyond the files and what the sound store takes (limit %d KiB); %.0f s, %.0f opens/s",
		s.cases, s.opens, s.right, s.earlier, s.blank, strings.Join(lines, "\n"), s.wrong, s.panics,
		s.most>>10, sweepRoom>>10, took.Seconds(), float64(s.opens)/took.Seconds())
	if *damageCase != "" && s.cases != 1 {
		s.t.Errorf("no case %q", *damageCase)
	}
}

// allocatedBytes is what has ever been allocated on the heap, exactly: package runtime/metrics counts some of it later.
func allocatedBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
