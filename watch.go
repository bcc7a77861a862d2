package folio

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/page"
)

// Reader is a state of the store that is kept because somebody reads it: a process, or, where Options.TraceReaders is set,
// a single transaction of this one.
type Reader struct {
	PID      int       // of the process
	Tx       TxID      // the state
	Since    time.Time // since when it can have been read: when it was shown, or pinned, or, if traced, when the transaction began
	Count    int       // transactions that read it; 0: another process's, and not known
	Retained int64     // bytes of pages that nobody else needs, apart from those who read a newer state
	Opened   string    // if traced: the lines that called Begin or View, innermost first
	Leaked   bool      // if traced: the transaction was not ended, and nobody can do so any more
}

// String is the reader as one line.
func (r Reader) String() string {
	s := fmt.Sprintf("process %d reads transaction %d since %v, keeps %d bytes", r.PID, r.Tx, r.Since.Format(time.DateTime), r.Retained)
	if r.Leaked {
		s += ", was never ended"
	}
	if r.Opened != "" {
		s += ", began at " + r.Opened
	}
	return s
}

// Readers returns the states that are read, the oldest first: in this process, and in others that have the store open. A
// state keeps its pages from being used again, so that an old one makes the file grow. Of another process's
// transactions the table that they share tells no more than the states; what these retain is known
// to the process that writes. Others are told by it within 100 ms of a commit, so that what they say may be that old, and older where nothing is
// committed: it retains no more then. Which is the oldest state that transactions of the process that writes read they are told at the same time, and once a second
// as long as there are such transactions. So one that has begun since the last commit may be missing elsewhere, but retains nothing yet.
func (db *DB) Readers() []Reader {
	if db.enter() != nil {
		return nil
	}
	defer db.leave()
	return db.listReaders()
}

// listReaders is Readers of a store that is open.
func (db *DB) listReaders() []Reader {
	list := db.ownReaders()
	if db.table != nil {
		list = append(list, db.tableReaders()...)
	}
	slices.SortStableFunc(list, func(a, b Reader) int {
		switch {
		case a.Tx < b.Tx:
			return -1
		case a.Tx > b.Tx:
			return 1
		}
		return 0
	})
	return list
}

// ownReaders lists what this process reads.
func (db *DB) ownReaders() []Reader {
	if db.opts.TraceReaders {
		return db.traces.list(db)
	}
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []Reader
	for _, s := range append(g.old[:len(g.old):len(g.old)], db.published.Load()) {
		if n := int(s.pinned()); n > 0 {
			list = append(list, Reader{PID: os.Getpid(), Tx: s.tx, Since: s.since, Count: n, Retained: db.retainedBy(s.tx)})
		}
	}
	return list
}

// tableReaders lists what other processes read.
func (db *DB) tableReaders() []Reader {
	var list []Reader
	for _, r := range db.table.Readers() {
		if r.PID == os.Getpid() && db.opts.reads() {
			continue // listed already
		}
		for _, p := range r.Pins {
			n := Reader{PID: r.PID, Tx: TxID(p.Tx), Since: p.Since, Retained: int64(r.Retained)}
			if db.shows() {
				n.Retained = db.retainedBy(n.Tx)
			}
			list = append(list, n)
		}
	}
	if own, ok := db.table.Own(); ok && db.opts.reads() && db.table.Writer() != 0 && db.writerLives() {
		list = append(list, Reader{PID: db.table.Writer(), Tx: TxID(own.Tx), Since: own.Since, Count: own.Count, Retained: int64(own.Retained)})
	}
	return list
}

// writerLives reports whether some process writes the store still: one that was killed has left in the table what it read.
func (db *DB) writerLives() bool {
	locked, err := db.file.LockedByOthers(lockWriter)
	return locked || err != nil
}

// retainedBy returns the bytes that one state keeps.
func (db *DB) retainedBy(tx page.TxID) int64 {
	return int64(db.free.RetainedBy(tx)) * int64(db.pageSize)
}

// watchEvery is how often a process that writes looks at readers, in milliseconds.
const watchEvery = 100

// watch looks at readers, now and then: it frees the slots of processes that are gone, and tells the user of old ones.
func (db *DB) watch() {
	if !db.accompanied() && db.opts.OnOldReader == nil || db.closing.Load() {
		return
	}
	now := time.Now().UnixMilli()
	if now-db.watched.Load() < watchEvery {
		return
	}
	db.inBackground(&db.watching, func() {
		db.watched.Store(now)
		db.watchNow()
	})
}

func (db *DB) watchNow() {
	if db.accompanied() {
		if _, err := db.table.Reap(); err != nil {
			db.noteBackground(err)
		}
	}
	if db.opts.OnOldReader == nil {
		return
	}
	if db.told == nil {
		db.told = make(map[toldReader]bool)
	}
	old := make(map[toldReader]bool)
	for _, r := range db.Readers() {
		if r.Leaked || time.Since(r.Since) < db.opts.OldReaderAge {
			continue
		}
		key := toldReader{r.PID, r.Tx, r.Since.UnixMilli()}
		old[key] = true
		if !db.told[key] {
			db.told[key] = true
			db.opts.OnOldReader(r)
		}
	}
	maps.DeleteFunc(db.told, func(key toldReader, _ bool) bool { return !old[key] }) // those who are gone
}

// toldReader is a reader that OnOldReader has been told of.
type toldReader struct {
	pid   int
	tx    TxID
	since int64
}

// When other processes are told what readers keep: so long after a commit, and then so often, as long as this process reads itself.
const (
	tellAfter = 100 * time.Millisecond
	tellEvery = time.Second
)

// tellLater has a timer tell others, of whom somebody may come who asks. A commit is what makes a state an old one, and it has to be the
// timer's that comes last: who commits then rests, and nobody would wake him.
func (db *DB) tellLater(after time.Duration) {
	if db.shows() && !db.opts.alone && !db.telling.Load() && db.telling.CompareAndSwap(false, true) {
		time.AfterFunc(after, db.tell)
	}
}

func (db *DB) tell() {
	if db.enter() != nil {
		return
	}
	defer db.leave()
	db.telling.Store(false) // before: who commits from here on sets another one
	if db.tellRetained() {
		db.tellLater(tellEvery) // what has ended must not be told of for ever
	}
}

// tellRetained stores in the table what readers keep. It reports whether there are any of this process.
func (db *DB) tellRetained() bool {
	db.tellOne.Lock()
	defer db.tellOne.Unlock()
	for _, r := range db.table.Readers() {
		n := int64(0)
		for _, p := range r.Pins {
			n += db.retainedBy(page.TxID(p.Tx))
		}
		db.table.SetRetained(r.Slot, uint64(n))
	}
	var own lockfile.Own
	for _, r := range db.ownReaders() {
		if own.Count == 0 || uint64(r.Tx) < own.Tx {
			own = lockfile.Own{Tx: uint64(r.Tx), Since: r.Since, Retained: uint64(r.Retained)}
		}
		if uint64(r.Tx) == own.Tx {
			own.Count += r.Count
		}
	}
	db.table.SetOwn(own)
	return own.Count > 0
}

// traces are the read transactions that are open, where Options.TraceReaders is set.
type traces struct {
	mu   sync.Mutex
	open map[*trace]struct{}
}

// trace says where a transaction began. It does not keep the transaction itself, so that one that is forgotten is noticed.
type trace struct {
	tx     TxID
	since  time.Time
	pcs    []uintptr
	leaked bool
}

// add notes a transaction that begins.
func (l *traces) add(tx *Tx) {
	t := &trace{tx: tx.id, since: time.Now(), pcs: make([]uintptr, 24)}
	t.pcs = t.pcs[:runtime.Callers(3, t.pcs)]
	l.mu.Lock()
	if l.open == nil {
		l.open = make(map[*trace]struct{})
	}
	l.open[t] = struct{}{}
	l.mu.Unlock()
	tx.trace = t
	db := tx.db
	runtime.AddCleanup(tx, func(t *trace) { l.collected(db, t) }, t)
}

// remove forgets a transaction that has ended.
func (l *traces) remove(t *trace) {
	l.mu.Lock()
	delete(l.open, t)
	l.mu.Unlock()
}

// collected is called when nobody has the transaction any more. If it has not been ended its state stays pinned: somebody
// may still have slices of it.
func (l *traces) collected(db *DB, t *trace) {
	l.mu.Lock()
	_, open := l.open[t]
	t.leaked = open
	l.mu.Unlock()
	if open && db.opts.OnOldReader != nil {
		go db.opts.OnOldReader(t.reader(db)) // here it would hold up all cleanups of the process
	}
}

func (l *traces) list(db *DB) []Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Reader
	for t := range l.open {
		list = append(list, t.reader(db))
	}
	return list
}

func (t *trace) reader(db *DB) Reader {
	return Reader{PID: os.Getpid(), Tx: t.tx, Since: t.since, Count: 1, Retained: db.retainedBy(t.tx), Opened: t.place(), Leaked: t.leaked}
}

// place is where the transaction began, as lines of the user's own.
func (t *trace) place() string {
	var lines []string
	frames := runtime.CallersFrames(t.pcs)
	for {
		f, more := frames.Next()
		if name := f.Function; name != "" && !strings.HasPrefix(name, "runtime.") && (len(lines) > 0 || !strings.HasPrefix(name, "github.com/foliodb/folio.(*DB).")) {
			lines = append(lines, fmt.Sprintf("%s (%s:%d)", name, filepath.Base(f.File), f.Line))
		}
		if !more || len(lines) == 6 {
			return strings.Join(lines, ", from ")
		}
	}
}
