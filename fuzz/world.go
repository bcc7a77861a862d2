package fuzz

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/foliodb/folio"
)

const (
	maxViews = 6 // live views at a time, r1 to r6
	maxSlots = 4 // handles, cursors and iterators that a transaction holds, 1 to 4
)

// A world is a store and its model, moved on in step. The model of the last
// commit is state; each live transaction has a tree of its own.
type world struct {
	dir   string
	cfg   config
	db    *folio.DB
	state *bucket
	last  folio.TxID // of the newest commit that was seen
	maybe folio.TxID // of the last one: if it changed nothing, it has no ID
	txs   [maxViews + 1]*txn
	files int             // copies made so far, for their names
	trace func(op string) // told what each op gave; nil: nobody is
	step  atomic.Int64    // op that is running, for the watchdog
}

var errBoom = errors.New("fuzz: an error of the function's own")

// newWorld opens a new store in dir.
func newWorld(dir string, cfg config) (*world, error) {
	w := &world{dir: dir, cfg: cfg, state: newBucket(nil, "")}
	return w, w.open()
}

func (w *world) path() string { return filepath.Join(w.dir, "app.db") }

func (w *world) open() (err error) {
	if w.cfg.memory {
		w.db, err = folio.OpenMemory(w.cfg.options())
	} else {
		w.db, err = folio.Open(w.path(), w.cfg.options())
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// run applies the ops and compares. On a difference it returns the index of the
// op that showed it.
func (w *world) run(ops []op) (int, error) {
	for i, o := range ops {
		w.step.Store(int64(i))
		if err := w.apply(o); err != nil {
			return i, err
		}
	}
	return len(ops), nil
}

// apply runs one op on both sides. A panic that no op expects is a difference.
func (w *world) apply(o op) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", o, err)
		}
	}()
	if w.trace != nil {
		w.trace(o.String())
	}
	if strings.Contains(kinds[o.kind].operands, "t") && o.kind != kView {
		if t := w.txs[o.tx]; t != nil {
			return t.apply(o)
		}
		return nil // cut out of its script, or ended by a reopen
	}
	return w.applyToStore(o)
}

// applyToStore runs the ops that are about no transaction, or that begin or end
// one.
func (w *world) applyToStore(o op) error {
	switch o.kind {
	case kBegin:
		return w.beginWrite()
	case kCommit, kRollback:
		return w.endWrite(o.kind == kCommit)
	case kView:
		return w.beginView(o.tx)
	case kUpdate, kFailedUpdate, kPanickingUpdate:
		return w.update(o)
	case kReopen:
		return w.reopen(o.n)
	case kReadOnly:
		return w.readOnly()
	case kCrash:
		return w.crash()
	case kCheckpoint:
		return w.checkpoint()
	case kSync:
		return w.db.Sync()
	case kCheck:
		if w.txs[0] != nil {
			return nil // it would wait for that
		}
		return w.db.Check()
	case kCompact:
		return w.copyOnce(w.db.Compact)
	case kBackup:
		return w.copyOnce(w.db.Backup)
	case kStats:
		w.db.Stats()
		return nil
	case kRelaxed:
		if t := w.txs[0]; t != nil {
			t.tx.SetDurability([]folio.Durability{folio.Sync, folio.Relaxed}[o.n&1])
		}
		return nil
	case kOnCommit:
		if t := w.txs[0]; t != nil {
			t.hooks++
			t.tx.OnCommit(func() { t.ran++ })
		}
		return nil
	}
	panic("fuzz: operation without an effect: " + o.String())
}

func (w *world) beginWrite() error {
	if w.txs[0] != nil {
		return nil
	}
	tx, err := w.db.Begin(true)
	if err != nil {
		return err
	}
	w.txs[0] = &txn{w: w, tx: tx, root: w.state.clone(nil), writable: true}
	if err := w.sawID(tx.ID() - 1); err != nil {
		return err
	}
	if !tx.Writable() || tx.DB() != w.db || tx.Size() < 0 {
		return errors.New("the new transaction is not a writable one of this store")
	}
	return nil
}

func (w *world) endWrite(commit bool) error {
	t := w.txs[0]
	if t == nil {
		return nil
	}
	w.txs[0] = nil
	id := t.tx.ID()
	if err := t.end(commit); err != nil || !commit {
		return err
	}
	w.state = t.root
	w.maybe = id
	return nil
}

func (w *world) beginView(n int) error {
	if w.txs[n] != nil {
		return nil
	}
	tx, err := w.db.Begin(false)
	if err != nil {
		return err
	}
	w.txs[n] = &txn{w: w, tx: tx, root: w.state}
	if err := w.sawID(tx.ID()); err != nil {
		return err
	}
	if tx.Writable() || tx.DB() != w.db || tx.Size() < 0 {
		return errors.New("the new transaction is not a view of this store")
	}
	return nil
}

// checkpoint may move pages, by transactions that change nothing but the number of the last one.
func (w *world) checkpoint() error {
	err := w.db.Checkpoint()
	switch last := w.db.Stats().LastTx; {
	case err != nil:
		return err
	case last < w.last:
		return fmt.Errorf("a checkpoint went back from transaction %v to %v", w.last, last)
	case last > max(w.last, w.maybe) && w.last != 0:
		if w.txs[0] != nil {
			return fmt.Errorf("transaction %v was made by a checkpoint beside a write transaction", last)
		}
		w.last, w.maybe = last, 0
	}
	return nil
}

// sawID checks an ID that must be the last commit's.
func (w *world) sawID(id folio.TxID) error {
	if id != w.last && id != w.maybe && w.last != 0 {
		return fmt.Errorf("begun at transaction %v, the last commit was %v or, if it changed anything, %v", id, w.last, w.maybe)
	}
	w.last, w.maybe = id, 0
	return nil
}

// update runs a whole write transaction by Update or Batch; one goroutine can
// have only one, so there is none while another is open.
func (w *world) update(o op) error {
	if w.txs[0] != nil {
		return nil
	}
	if o.kind == kPanickingUpdate {
		return w.panickingUpdate(o)
	}
	var id folio.TxID
	var root *bucket
	run := w.db.Update
	if o.n&1 == 1 {
		run = w.db.Batch
	}
	err := run(func(tx *folio.Tx) error { // Batch may call it more than once
		t := &txn{w: w, tx: tx, root: w.state.clone(nil), writable: true}
		if err := errors.Join(w.sawID(tx.ID()-1), t.misuseManaged(), t.apply(o.asFill())); err != nil {
			return err
		}
		id, root = tx.ID(), t.root
		if o.kind == kFailedUpdate {
			return errBoom
		}
		return t.checkKept()
	})
	switch {
	case o.kind == kFailedUpdate && !errors.Is(err, errBoom):
		return fmt.Errorf("error of the function became: %v", err)
	case o.kind == kFailedUpdate:
		return nil
	case err != nil:
		return err
	}
	w.state = root
	w.maybe = id
	return nil
}

// asFill turns the op of a whole transaction into what it does inside.
func (o op) asFill() op {
	o.kind, o.tx = kFill, 0
	o.n = max(o.n, 1)
	return o
}

func (w *world) panickingUpdate(o op) (err error) {
	defer func() {
		if r := recover(); r != errBoom {
			err = errors.Join(err, fmt.Errorf("panic of the function became: %v", r))
		}
	}()
	err = w.db.Update(func(tx *folio.Tx) error {
		t := &txn{w: w, tx: tx, root: w.state.clone(nil), writable: true}
		if err := t.apply(o.asFill()); err != nil {
			return err
		}
		panic(errBoom)
	})
	return fmt.Errorf("panic of the function was lost: %v", err)
}

// endAll verifies and ends every live transaction; the write transaction is
// rolled back.
func (w *world) endAll() error {
	for i, t := range w.txs {
		if t == nil {
			continue
		}
		w.txs[i] = nil
		if err := t.verify(); err != nil {
			return fmt.Errorf("%s, at its end: %w", txName(i), err)
		}
		if err := t.end(false); err != nil {
			return fmt.Errorf("%s: %w", txName(i), err)
		}
	}
	return nil
}

// shut ends everything and closes the store.
func (w *world) shut() error {
	if err := w.endAll(); err != nil {
		return err
	}
	if err := w.db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if _, err := w.db.Begin(false); !errors.Is(err, folio.ErrDatabaseNotOpen) {
		return fmt.Errorf("a closed store answers Begin with: %v", err)
	}
	err := w.db.Update(func(*folio.Tx) error { return nil })
	if !errors.Is(err, folio.ErrDatabaseNotOpen) {
		return fmt.Errorf("a closed store answers Update with: %v", err)
	}
	return nil
}

func (w *world) reopen(n int) error {
	if w.cfg.memory {
		return nil
	}
	if err := w.shut(); err != nil {
		return err
	}
	if _, err := os.Stat(w.path() + "-wal"); err == nil {
		return errors.New("the log is still there after Close")
	}
	w.cfg = w.cfg.redraw(n)
	if err := w.open(); err != nil {
		return err
	}
	return w.resume()
}

// resume checks a store that has just been opened against the last commit. The
// first transaction may have a higher ID than the one before: recovery spends some.
func (w *world) resume() error {
	before := w.last
	w.last, w.maybe = 0, 0
	if err := w.beginView(1); err != nil {
		return err
	}
	if w.last < before {
		return fmt.Errorf("opened at transaction %v, closed at %v", w.last, before)
	}
	return w.endAll()
}

// readOnly opens the closed store for reading, compares, and opens it again.
func (w *world) readOnly() error {
	if w.cfg.memory {
		return nil
	}
	if err := w.shut(); err != nil {
		return err
	}
	before, err := os.ReadFile(w.path())
	if err != nil {
		return err
	}
	if err := w.compareFile(w.path(), w.state, &folio.Options{ReadOnly: true}); err != nil {
		return fmt.Errorf("opened read-only: %w", err)
	}
	after, err := os.ReadFile(w.path())
	if err != nil || string(before) != string(after) {
		return fmt.Errorf("a read-only open changed the file (%v)", err)
	}
	if err := w.open(); err != nil {
		return err
	}
	return w.resume()
}

// copyOnce is copyTo for what must not write over a file that is there.
func (w *world) copyOnce(write func(path string) error) error {
	return w.copyTo(w.state, func(path string) error {
		if err := write(path); err != nil {
			return err
		}
		if err := write(path); err == nil {
			return errors.New("a second copy went over the first")
		}
		return nil
	})
}

// copyTo has the store write a copy, and compares that with the model m.
func (w *world) copyTo(m *bucket, write func(path string) error) error {
	w.files++
	path := filepath.Join(w.dir, fmt.Sprintf("copy-%d.db", w.files))
	if err := write(path); err != nil {
		return err
	}
	defer os.Remove(path)
	return w.compareFile(path, m, &folio.Options{ReadOnly: w.files%2 == 0})
}

// compareFile opens another store and compares all of it with m.
func (w *world) compareFile(path string, m *bucket, opts *folio.Options) error {
	db, err := folio.Open(path, opts)
	if err != nil {
		return err
	}
	err = db.View(func(tx *folio.Tx) error { return compare(tx.Root(), m) })
	if opts.ReadOnly && err == nil {
		if got := db.Update(func(*folio.Tx) error { return nil }); !errors.Is(got, folio.ErrDatabaseReadOnly) || !db.IsReadOnly() {
			err = fmt.Errorf("a store opened read-only answers Update with: %v", got)
		}
	}
	return errors.Join(err, db.Check(), db.Close())
}

// crash opens a copy of the files as they are, which is what kill -9 would
// leave: every commit must be there, relaxed ones too, and nothing of an open
// transaction.
func (w *world) crash() error {
	if w.cfg.memory {
		return nil
	}
	w.files++
	dir := filepath.Join(w.dir, fmt.Sprintf("crash-%d", w.files))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyStore(w.path(), filepath.Join(dir, "app.db")); err != nil {
		return err
	}
	path := filepath.Join(dir, "app.db")
	if w.files%3 == 0 { // first a replay in memory alone, which must leave the files as they are
		if err := w.compareFile(path, w.state, &folio.Options{ReadOnly: true}); err != nil {
			return fmt.Errorf("read-only after a crash: %w", err)
		}
	}
	if err := w.compareFile(path, w.state, w.cfg.options()); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	return nil
}

// headSize covers both meta slots at every page size.
const headSize = 2 * 65536

// copyStore copies a live store's data file and log. A checkpoint in the background
// may move on meanwhile, then the copy mixes two states: it is taken again.
func copyStore(from, to string) error {
	for {
		before, err := head(from)
		if err != nil {
			return err
		}
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(from + suffix)
			if suffix != "" && errors.Is(err, os.ErrNotExist) {
				continue // no commit yet
			}
			if err != nil {
				return err
			}
			if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
				return err
			}
		}
		if after, err := head(from); err != nil || after == before {
			return err
		}
		if err := os.Remove(to + "-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

// head returns the first bytes of the file, the meta slots among them.
func head(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, headSize)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		return "", err
	}
	return string(b[:n]), nil
}

// finish checks the store a last time and closes it.
func (w *world) finish() error {
	if err := w.endAll(); err != nil {
		return err
	}
	if err := w.db.Check(); err != nil {
		return fmt.Errorf("check at the end: %w", err)
	}
	return w.shut()
}

// abandon lets go of a store that has failed, as far as that goes: nobody asks
// what it has to say, only its files and goroutines must not stay.
func (w *world) abandon() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		for _, t := range w.txs {
			if t == nil {
				continue
			}
			for _, it := range t.iters {
				if it != nil {
					it.stop()
				}
			}
			_ = t.tx.Rollback()
		}
		_ = w.db.Close()
	}()
	select {
	case <-done:
	case <-time.After(time.Second): // what failed holds a lock
	}
}
