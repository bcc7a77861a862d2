package fuzz

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/foliodb/folio"
)

// The tests in this file show what many processes on one store cost: how soon a commit is seen elsewhere, what idle readers
// take from a writer, and how much memory is shared. They need gigabytes and minutes, and a machine that does
// little else: go test ./fuzz -run TestFigures -folio.figures -v -timeout 1h
var (
	figuresFlag = flag.Bool("folio.figures", false, "measure what many processes on one store cost")
	sharedFlag  = flag.Int("folio.sharedmib", 1024, "MiB of the store that TestFiguresShared reads")
	privateFlag = flag.Int("folio.privatemib", 4096, "MiB of the store that TestFiguresPrivate changes")
)

func needFigures(t *testing.T) (path string) {
	t.Helper()
	if !*figuresFlag {
		t.Skip("measures: run with -folio.figures")
	}
	return filepath.Join(t.TempDir(), "app.db") // on a disk: syncs of memory would cost nothing
}

// figureOrders are what a helper of these tests can do. It has one store open at a time.
func figureOrders() map[string]func(string) ([]any, error) {
	var db *folio.DB
	var held *folio.Tx
	open := func(path string, o folio.Options) (err error) {
		o.LockTimeout = time.Minute
		if db, err = folio.Open(path, &o); err == nil {
			err = db.View(func(*folio.Tx) error { return nil })
		}
		return err
	}
	return map[string]func(string) ([]any, error){
		"attach":  func(path string) ([]any, error) { return nil, open(path, folio.Options{ReadOnly: true}) },
		"private": func(path string) ([]any, error) { return nil, open(path, folio.Options{Private: true}) },
		"write": func(path string) (_ []any, err error) {
			db, err = folio.Open(path, &folio.Options{LockTimeout: 50 * time.Millisecond})
			return nil, err
		},
		"put": func(n string) ([]any, error) {
			var x uint64
			if _, err := fmt.Sscan(n, &x); err != nil {
				return nil, err
			}
			return nil, db.Update(func(tx *folio.Tx) error { return tx.Root().Put(numberKey, le.AppendUint64(nil, x)) })
		},
		"close":   func(string) ([]any, error) { return nil, db.Close() },
		"hold":    func(string) (_ []any, err error) { held, err = db.Begin(false); return nil, err },
		"release": func(string) ([]any, error) { return nil, held.Rollback() },
		"look":    func(string) ([]any, error) { return lookOnce(db) },
		"see":     func(string) ([]any, error) { return seeNumber(db) },
		"try":     func(string) ([]any, error) { return tryNumber(db) },
		"await":   func(n string) ([]any, error) { return awaitNumber(db, n) },
		"scan": func(string) (n []any, err error) {
			err = db.View(func(tx *folio.Tx) error { n = scanAll(tx); return nil })
			return n, err
		},
		"reread": func(string) ([]any, error) { return scanAll(held), held.Check() },
		"change": func(n string) ([]any, error) { return changeRandom(db, n) },
		"memory": func(string) ([]any, error) { return ownMemory() },
	}
}

var numberKey = []byte("number")

// seeNumber is one View of the number that the writer puts.
func seeNumber(db *folio.DB) ([]any, error) {
	n := uint64(0)
	err := db.View(func(tx *folio.Tx) error {
		if v := tx.Root().Get(numberKey); v != nil {
			n = le.Uint64(v)
		}
		return nil
	})
	return []any{n}, err
}

// tryNumber is seeNumber where the file system may turn out to be none for a store.
func tryNumber(db *folio.DB) ([]any, error) {
	n, err := seeNumber(db)
	refused := errors.Is(err, folio.ErrFileSystem)
	if refused {
		err = nil
	}
	return append(n, refused), err
}

// lookOnce is seeNumber, with the microseconds that it took.
func lookOnce(db *folio.DB) ([]any, error) {
	start := time.Now()
	n, err := seeNumber(db)
	return append(n, float64(time.Since(start).Nanoseconds())/1000), err
}

// awaitNumber views until it sees a number that is not less, and tells when that was.
func awaitNumber(db *folio.DB, least string) ([]any, error) {
	var want uint64
	if _, err := fmt.Sscan(least, &want); err != nil {
		return nil, err
	}
	for {
		got, err := seeNumber(db)
		if err != nil {
			return nil, err
		}
		if got[0].(uint64) >= want {
			return []any{clock()}, nil
		}
	}
}

// clock is the time in nanoseconds that all processes of the machine share.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// scanAll counts the items, and adds up some of their bytes.
func scanAll(tx *folio.Tx) []any {
	items, sum := 0, 0
	for _, v := range tx.Bucket(figureBucket).All() {
		items++
		for i := 0; i < len(v); i += 512 { // touches each page of a long value
			sum += int(v[i])
		}
	}
	return []any{items, sum}
}

// changeRandom puts to random keys, a hundred in a transaction.
func changeRandom(db *folio.DB, changes string) ([]any, error) {
	var n int
	if _, err := fmt.Sscan(changes, &n); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(1, 2))
	changed := map[uint64]bool{}
	for done := 0; done < n; {
		err := db.Update(func(tx *folio.Tx) error {
			b := tx.Bucket(figureBucket)
			items := uint64(b.Len())
			for range min(100, n-done) {
				i := r.Uint64N(items)
				changed[i] = true
				if err := b.Put(figureKey(i), bytes.Repeat([]byte{byte(i), 'c'}, figureValue/2)); err != nil {
					return err
				}
				done++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return []any{len(changed)}, db.Check()
}

// memory is what a process takes, in bytes.
type memory struct {
	rss, pss, privateDirty, anonymous int64
	unnamed                           int64 // in files of memory that have no name
}

func (m memory) String() string {
	return fmt.Sprintf("Rss %d MiB, Pss %d MiB, Private_Dirty %d MiB, Anonymous %d MiB, memory files %d MiB",
		m.rss>>20, m.pss>>20, m.privateDirty>>20, m.anonymous>>20, m.unnamed>>20)
}

// memoryOf reads what the system says of a process's memory.
func memoryOf(pid int) (m memory, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return m, err
	}
	defer f.Close()
	fields := map[string]*int64{"Rss:": &m.rss, "Pss:": &m.pss, "Private_Dirty:": &m.privateDirty, "Anonymous:": &m.anonymous}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) == 3 && fields[w[0]] != nil {
			if _, err := fmt.Sscan(w[1], fields[w[0]]); err != nil {
				return m, err
			}
			*fields[w[0]] <<= 10
		}
	}
	return m, lines.Err()
}

// ownMemory is memoryOf this process, with the memory files that it has: what is written to one without being mapped is in
// none of the system's figures.
func ownMemory() ([]any, error) {
	m, err := memoryOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, fd := range list {
		name := "/proc/self/fd/" + fd.Name()
		var st unix.Stat_t
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "/memfd:") && unix.Stat(name, &st) == nil {
			m.unnamed += st.Blocks * 512
		}
	}
	return []any{m.rss, m.pss, m.privateDirty, m.anonymous, m.unnamed}, nil
}

func (h *helper) memory() (m memory) {
	h.t.Helper()
	h.ask("memory", &m.rss, &m.pss, &m.privateDirty, &m.anonymous, &m.unnamed)
	return m
}

var figureBucket = []byte("b")

// figureValue is so long that two items do not fit into a page of 4 KiB.
const figureValue = 3000

func figureKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// makeFigures makes a store of so many MiB, and closes it.
func makeFigures(t *testing.T, path string, mib int) (size int64) {
	t.Helper()
	db, err := folio.Open(path, &folio.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	const batch = 20000
	for from := 0; from < mib*256; from += batch {
		err := db.Update(func(tx *folio.Tx) error {
			b, err := tx.CreateBucketIfNotExists(figureBucket)
			value := bytes.Repeat([]byte("v"), figureValue)
			for i := from; i < min(from+batch, mib*256) && err == nil; i++ {
				err = b.Put(figureKey(uint64(i)), value)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func median(d []float64) float64 {
	slices.Sort(d)
	return d[len(d)/2]
}

// TestFiguresStale has another process look, once, after each acknowledgement, and measures how soon one that does nothing but
// look sees a commit.
func TestFiguresStale(t *testing.T) {
	db, err := folio.Open(needFigures(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	put := func(n uint64) {
		if err := db.Update(func(tx *folio.Tx) error { return tx.Root().Put(numberKey, le.AppendUint64(nil, n)) }); err != nil {
			t.Fatal(err)
		}
	}
	h := startHelper(t)
	h.ask("attach " + db.Path())
	const rounds = 3000
	n := uint64(0)
	for range rounds {
		n++
		put(n)
		var got uint64
		if h.ask("see", &got); got != n {
			t.Fatalf("commit %d is not seen by the first View after it: %d is", n, got)
		}
	}
	var late []float64
	for range rounds / 10 {
		n++
		h.tell("await", n)
		time.Sleep(time.Millisecond) // it is looking
		put(n)
		acknowledged := clock()
		var seen int64
		h.hear(&seen)
		late = append(late, float64(seen-acknowledged)/1000)
	}
	// One that has not looked for a while is told nothing until it looks again.
	var slept []float64
	for range 40 {
		time.Sleep(300 * time.Millisecond)
		for range 5 {
			n++
			put(n)
		}
		var got uint64
		var took float64
		if h.ask("look", &got, &took); got != n {
			t.Fatalf("commit %d is not seen by one who slept: %d is", n, got)
		}
		slept = append(slept, took)
	}
	slices.Sort(slept)
	t.Logf("the first View after sleep takes %.0f us (median), at most %.0f us", median(slept), slept[len(slept)-1])
	slices.Sort(late)
	t.Logf("%d commits, each seen by the first View in another process; seen by a process that looks all the time "+
		"%.1f us after the acknowledgement (median; 99 of 100: %.1f us; negative: before it)", rounds, median(late), late[len(late)*99/100])
}

// TestFiguresIdle measures what a durable put costs beside 8 processes that are attached and idle, and beside the same when
// each holds a snapshot, against the same without any. The three are measured in turn, so that what else the
// machine does hits all of them.
func TestFiguresIdle(t *testing.T) {
	path := needFigures(t)
	db, err := folio.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := rand.New(rand.NewPCG(1, 1))
	// measure puts one item after another, and returns the median of what one took, in microseconds: a disk that stalls is not
	// the store's fault.
	measure := func(n int) float64 {
		took := make([]float64, n)
		for i := range took {
			start := time.Now()
			if err := db.Update(func(tx *folio.Tx) error {
				return tx.Root().Put(figureKey(r.Uint64N(200_000)*0x9e3779b97f4a7c15), make([]byte, 150))
			}); err != nil {
				t.Fatal(err)
			}
			took[i] = float64(time.Since(start).Nanoseconds()) / 1000
		}
		return median(took)
	}
	err = db.Update(func(tx *folio.Tx) error {
		for i := range uint64(200_000) {
			if err := tx.Root().Put(figureKey(i*0x9e3779b97f4a7c15), make([]byte, 150)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	helpers := startHelpers(t, 8)
	const puts, rounds = 100, 61
	var alone, idle, holding, idleRatio, holdingRatio []float64
	for range rounds {
		a := measure(puts)
		toldAll(helpers, "attach", path)
		time.Sleep(300 * time.Millisecond) // until they sleep
		i := measure(puts)
		toldAll(helpers, "hold")
		h := measure(puts)
		toldAll(helpers, "release")
		toldAll(helpers, "close")
		measure(5) // finds that they are gone
		a = (a + measure(puts)) / 2
		alone, idle, holding = append(alone, a), append(idle, i), append(holding, h)
		idleRatio, holdingRatio = append(idleRatio, i/a), append(holdingRatio, h/a)
	}
	x, y := median(idleRatio), median(holdingRatio)
	t.Logf("a durable put: %.0f us alone, %.0f us beside 8 idle processes (%.3f times), %.0f us beside 8 that hold a snapshot (%.3f times); "+
		"medians of %d rounds of %d; the middle half of the ratios from %.3f to %.3f", median(alone), median(idle), x, median(holding), y,
		rounds, puts, idleRatio[rounds/4], idleRatio[rounds*3/4])
	if x > 1.1 {
		t.Errorf("a put beside idle processes takes %.3f times as long, 1.1 is the limit", x)
	}
}

// TestFiguresShared has 8 processes read all of a store: they share one copy of it.
func TestFiguresShared(t *testing.T) {
	path := needFigures(t)
	size := makeFigures(t, path, *sharedFlag)
	db, err := folio.Open(path, nil) // a writer, at rest
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	helpers := startHelpers(t, 8)
	toldAll(helpers, "attach", path)
	var before, after int64
	for _, h := range helpers {
		before += h.memory().pss
	}
	toldAll(helpers, "scan")
	for i, h := range helpers {
		m := h.memory()
		after += m.pss
		t.Logf("process %d: %v", i, m)
		if m.rss < size*9/10 {
			t.Errorf("process %d has %d bytes resident of a store of %d", i, m.rss, size)
		}
	}
	t.Logf("store of %d MiB; sum of Pss of 8 processes that have read all of it: %d MiB; before: %d MiB", size>>20, after>>20, before>>20)
	if after > size*5/4+before {
		t.Errorf("8 processes take %d bytes, the store has %d", after, size)
	}
	toldAll(helpers, "close")
}

// TestFiguresPrivate makes 100,000 random changes in a private store, and looks what that takes, and that the file stays.
func TestFiguresPrivate(t *testing.T) {
	path := needFigures(t)
	size := makeFigures(t, path, *privateFlag)
	was := hashFile(t, path)
	h := startHelper(t)
	h.ask("private " + path)
	before := h.memory()
	const changes = 100_000
	start := time.Now()
	var changed int64
	h.ask(fmt.Sprint("change ", changes), &changed)
	took := time.Since(start)
	after := h.memory()
	h.ask("close")
	if is := hashFile(t, path); is != was {
		t.Errorf("the file has changed")
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("files beside it: %v", files)
	}
	pages := changed * 4096
	t.Logf("store of %d MiB, %d random changes and a check in %v: %d items changed, each on a page of its own: %d MiB",
		size>>20, changes, took.Round(time.Millisecond), changed, pages>>20)
	t.Logf("before: %v", before)
	t.Logf("after:  %v", after)
	if got := after.unnamed + after.anonymous - before.anonymous; got > pages*5/4+64<<20 {
		t.Errorf("%d bytes of memory for %d bytes of changed pages", got, pages)
	}
}

func hashFile(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
