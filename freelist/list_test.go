package freelist

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foliodb/folio/page"
)

// TestMisuse calls what no caller may: each panics with a text that names the package.
func TestMisuse(t *testing.T) {
	withSnapshot := func() (*List, *Snapshot) {
		l := New(20, 4096)
		l.release(5, 4)
		s, err := l.Snapshot(3, 0)
		if err != nil {
			t.Fatal(err)
		}
		return l, s
	}
	for name, misuse := range map[string]func(){
		"no meta slots":     func() { New(1, 4096) },
		"no page size":      func() { New(2, 0) },
		"no pages":          func() { New(9, 4096).Alloc(0) },
		"pages owed":        func() { New(9, 4096).Extend(-1, math.MaxUint32) },
		"pins upside down":  func() { New(9, 4096).Reclaim([]page.TxID{3, 2}) },
		"onward in front":   func() { New(9, 4096).Commit(5, nil, []page.TxID{3 | Onward, 4 | Onward}) },
		"transaction 0":     func() { New(9, 4096).Commit(0, nil, nil) },
		"snapshot of old":   func() { l := New(9, 4096); l.Commit(5, nil, nil); l.Snapshot(4, 0) },
		"bulk of old":       func() { l := New(9, 4096); l.Commit(5, nil, nil); l.SnapshotBulk(5, nil, 0) },
		"two checkpoints":   func() { l, _ := withSnapshot(); l.Snapshot(3, 0) },
		"checkpoint twice":  func() { l, s := withSnapshot(); l.Abandon(s); l.Abandon(s) },
		"no checkpoint":     func() { New(9, 4096).Abandon(nil) },
		"released too soon": func() { l, s := withSnapshot(); l.Release(s.Own) },
		"released twice": func() {
			l, s := withSnapshot()
			l.Cut(s, nil)
			l.Release(s.Own)
			l.Release(s.Own)
		},
		"cut without ensure": func() {
			l := New(20, 4096)
			l.Commit(1, []Dead{{5, 1, 0}}, []page.TxID{0})
			s, _ := l.Snapshot(1, 0)
			l.Cut(s, nil)
		},
	} {
		text := func() (text string) {
			defer func() { text = fmt.Sprint(recover()) }()
			misuse()
			return
		}()
		if !strings.HasPrefix(text, "freelist: ") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestErrorsOfSize has page numbers end within a checkpoint's own pages, and a Grow that
// gives less than it was asked for.
func TestErrorsOfSize(t *testing.T) {
	l := New(1<<32-2, 1)
	l.release(100, 1)
	if _, err := l.Snapshot(1, 0); err != ErrFull {
		t.Errorf("set with no number for its pages: %v", err)
	}
	if s := l.Stats(); s.Free != 1 || s.Fixed != 0 || l.open != nil {
		t.Errorf("after a snapshot that failed: %+v", s)
	}
	l = New(10, 4096)
	l.Grow = func(page.ID) (page.ID, error) { return 5, nil }
	if id, err := l.Extend(3, math.MaxUint32); err != nil || id != 10 {
		t.Errorf("extend: %d, %v", id, err)
	}
}

// FuzzOps found a bound that was set while a checkpoint had its own pages behind the file: the file had more pages than the list
// knew of, and the bound lay among the checkpoint's. When that gave up, the end fell below the bound, and the next page that
// was taken lay between the two. No process sets a bound beside a checkpoint; the list must not depend on it.
func TestAppendOnlyBesideSnapshot(t *testing.T) {
	for bound := page.ID(21); bound < 27; bound++ {
		l := New(20, 8)
		for id := page.ID(3); id < 20; id += 2 { // scattered, so that the set has to lie at the end
			l.release(id, 1)
		}
		s, err := l.Snapshot(1, 0)
		if err != nil || s.Own != (Extent{19, 5}) {
			t.Fatalf("set at %v, %v", s.Own, err)
		}
		l.AppendOnly(bound)
		l.Abandon(s)
		if l.End() < bound || l.room < bound {
			t.Errorf("end %d, room %d below the bound %d", l.End(), l.room, bound)
		}
		if id, err := l.Extend(1, math.MaxUint32); err != nil || id < bound {
			t.Errorf("page %d below the bound %d, %v", id, bound, err)
		}
	}
}

// TestDumpFailing passes on what the writer says.
func TestDumpFailing(t *testing.T) {
	l := New(9, 4096)
	if err := l.Dump(failing{}); err != errFullDisk {
		t.Error(err)
	}
	if err := DumpSet(failing{}, nil, 9); err != errFullDisk {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFullDisk }

// disk is a file of which only the size is real.
type disk struct {
	mu    sync.Mutex
	pages page.ID
	limit page.ID
}

func (d *disk) grow(end page.ID) (page.ID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if end > d.limit {
		return 0, errFullDisk
	}
	d.pages = max(d.pages, end)
	return d.pages, nil
}

func (d *disk) truncate(end page.ID) error {
	time.Sleep(50 * time.Microsecond) // for others to come in between
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages = end
	return nil
}

func (d *disk) size() page.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages
}

// TestAtOnce has a writer, a checkpointer that cuts the file, and readers' ends that free
// pages all at work on one list. No page that the writer has may lie past the end of the file,
// and no count of a checkpoint.
func TestAtOnce(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	d := &disk{pages: 2, limit: 3000}
	l := New(2, 64)
	l.Grow = d.grow
	// group is the lock that commits, snapshots and pins are made under.
	var group sync.Mutex
	last, slot := page.TxID(0), page.TxID(0)
	stop := make(chan struct{})
	var cuts atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { // checkpoints
		r := rand.New(rand.NewPCG(1, 1))
		var own Extent
		for {
			select {
			case <-stop:
				return
			default:
			}
			group.Lock()
			pin := last
			s, err := l.Snapshot(pin, 1+r.IntN(50))
			group.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			s.Encode()
			if err := l.Ensure(s); err != nil {
				if !errors.Is(err, errFullDisk) {
					t.Error(err)
				}
				l.Abandon(s)
				continue
			}
			if size := d.size(); size < s.End {
				t.Errorf("count %d in a file of %d", s.End, size)
			}
			group.Lock()
			slot = pin
			group.Unlock()
			if cut, err := l.Cut(s, d.truncate); err != nil {
				t.Error(err)
			} else if cut {
				cuts.Add(1)
			}
			if own.N > 0 {
				l.Release(own)
			}
			own = s.Own
		}
	})
	enough := func(round int) bool { // some cuts at least, however the scheduler has it
		return round >= rounds && (cuts.Load() >= int64(rounds/100) || round >= 50*rounds)
	}
	writer(t, l, d, enough, func(died []Dead) {
		group.Lock()
		defer group.Unlock()
		last++
		pins := []page.TxID{slot, last}
		if slot == last {
			pins = pins[1:]
		}
		if err := l.Commit(last, died, pins); err != nil {
			t.Error(err)
		}
		l.Reclaim(pins)
	})
	close(stop)
	wg.Wait()
}

// writer grows and shrinks a heap of extents by transactions.
func writer(t *testing.T, l *List, d *disk, enough func(round int) bool, commit func([]Dead)) {
	r := rand.New(rand.NewPCG(2, 2))
	var has []Dead
	for i := 0; !enough(i); i++ {
		had := len(has)
		for range r.IntN(20) {
			n := 1 + r.IntN(8)
			id, ok := l.Alloc(n)
			if !ok {
				var err error
				if id, err = l.Extend(n, math.MaxUint32); err != nil {
					break
				}
			}
			if end, size := id+page.ID(n), d.size(); end > size || end > l.End() {
				t.Fatalf("pages %d to %d in a file of %d", id, end, size)
			}
			has = append(has, Dead{id, page.ID(n), 0})
		}
		if r.IntN(5) == 0 {
			l.Rollback()
			has = has[:had]
			continue
		}
		var died []Dead
		shrinking := i/100%2 == 1
		for range r.IntN(20) {
			if had > 0 && (shrinking || had > 100) {
				k := r.IntN(had)
				died = append(died, has[k])
				had--
				has[k] = has[had]
				has[had] = has[len(has)-1]
				has = has[:len(has)-1]
			}
		}
		commit(died)
		if i%4 == 0 {
			time.Sleep(10 * time.Microsecond) // or the others never come to anything
		}
	}
}
