package folio

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/foliodb/folio/internal/vfs"
)

// crashRun is one life of a store on a recorder. Marks in its log say what was promised when:
//
//	begin n     transaction n is about to commit: from here on a crash may leave it
//	ack n       it was acknowledged: no crash may take it
//	observed n  a reader was shown it, likewise
//	relaxed n   it was acknowledged, or shown, in a store with relaxed commits: the death of the process must not take it
type crashRun struct {
	db      *DB
	fs      vfs.FS        // what the store is on
	rec     *vfs.Recorder // nil: nothing is recorded
	marked  func(kind string, n uint64)
	watched func(what string, call func() error) error // makes a call of the store; nil: as it is
	opts    Options
	path    string
	line    *crashLine
	relaxed atomic.Uint64 // newest relaxed commit
	weak    bool          // relaxed commits are made, so what is shown may be lost
	failing bool          // calls are made to fail: errors are borne

	mu   sync.Mutex
	errs []error    // met
	done crashDeeds // what is counted while it runs
}

// mark notes what is promised from here on.
func (r *crashRun) mark(kind string, n uint64) {
	if r.rec != nil {
		r.rec.Mark(kind, n)
	}
	if r.marked != nil {
		r.marked(kind, n)
	}
}

// call makes a call of the store.
func (r *crashRun) call(what string, fn func() error) error {
	if r.watched != nil {
		return r.watched(what, fn)
	}
	return fn()
}

// note keeps an error for the end.
func (r *crashRun) note(err error) {
	if err != nil {
		r.mu.Lock()
		r.errs = append(r.errs, err)
		r.mu.Unlock()
	}
}

func (r *crashRun) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.errs...)
}

// crashSet is how many pages free sets take at least. In every other run it is two, as with thousands of free extents: then two runs of pages take turns, see
// freelist.List.keep.
func crashSet(seed uint64, work string) int { return 1 + int(seed+uint64(len(work)))%2 }

func (r *crashRun) open() {
	o := r.opts
	o.fs = r.fs
	o.moving = func(k TxID) {
		r.line.hold(uint64(k), true)
		r.mark("begin", uint64(k))
	}
	r.note(r.call("open", func() (err error) {
		r.db, err = Open(r.path, &o)
		return err
	}))
}

// ok says that the store is open and nothing has gone wrong yet.
func (r *crashRun) ok() bool { return r.db != nil && r.err() == nil }

// commit makes n durable transactions.
func (r *crashRun) commit(n int) {
	for ; n > 0 && r.db != nil; n-- {
		k, err := r.transact(Sync)
		r.note(err)
		if err == nil {
			r.mark("ack", k)
		} else if !r.failing {
			return
		}
	}
}

// transact makes the next transaction of the timeline.
func (r *crashRun) transact(d Durability) (k uint64, err error) {
	err = r.call("commit", func() error {
		k, err = r.line.commit(r.db, d, func(k uint64) { r.mark("begin", k) })
		if err != nil && !errors.Is(err, ErrPoisoned) && r.marked != nil {
			r.marked("undone", k)
		}
		return err
	})
	return k, err
}

// relax makes n relaxed transactions.
func (r *crashRun) relax(n int) {
	for ; n > 0 && r.db != nil; n-- {
		k, err := r.transact(Relaxed)
		r.note(err)
		if err == nil {
			r.mark("relaxed", k)
			r.relaxed.Store(max(r.relaxed.Load(), k))
		}
	}
}

// durable calls fn, which makes all relaxed commits so far durable.
func (r *crashRun) durable(what string, fn func() error) {
	if r.db == nil {
		return
	}
	k := r.relaxed.Load()
	err := r.call(what, fn)
	r.note(err)
	if err == nil && k > 0 {
		r.mark("ack", k)
	}
}

func (r *crashRun) sync()       { r.durable("sync", func() error { return r.db.Sync() }) }
func (r *crashRun) checkpoint() { r.durable("checkpoint", func() error { return r.db.Checkpoint() }) }

func (r *crashRun) close() {
	r.durable("close", func() error { return r.db.Close() })
	r.countLife(r.db)
	r.db = nil
}

// view looks at the store, compares it with the timeline and marks what it was shown.
func (r *crashRun) view() {
	if r.db == nil {
		return
	}
	r.note(r.call("view", func() error {
		return r.db.View(func(tx *Tx) error {
			r.observed(tx)
			return crashCompare(tx, r.line)
		})
	}))
}

// compare compares what a transaction that goes on sees with the timeline.
func (r *crashRun) compare(tx *Tx) {
	r.note(r.call("read", func() error { return errors.Join(crashCompare(tx, r.line), tx.Err()) }))
	if r.db != nil {
		r.most(deedKept, int(r.db.Stats().RetainedPages))
	}
}

// begin begins a read transaction; nil: it could not.
func (r *crashRun) begin() (tx *Tx) {
	if r.db == nil {
		return nil
	}
	r.note(r.call("begin", func() (err error) {
		tx, err = r.db.Begin(false)
		return err
	}))
	if tx != nil {
		r.observed(tx)
	}
	return tx
}

func (r *crashRun) observed(tx *Tx) {
	kind := "observed"
	if r.weak {
		kind = "relaxed"
	}
	r.mark(kind, uint64(tx.ID()))
}

// crashKill lets go of a store as the death of the process does: nothing is written.
func crashKill(db *DB) {
	if db == nil || db.closing.Swap(true) {
		return
	}
	close(db.ended)
	db.background.Wait()
	db.life.Lock()
	db.closed.Store(true)
	db.life.Unlock()
	db.release()
}

// kill lets go of the store as the death of the process does.
func (r *crashRun) kill() {
	if r.db != nil {
		r.countLife(r.db)
		r.note(r.call("kill", func() error { return failKill(r.db) }))
		if r.rec != nil {
			// A checkpoint behind a recovery had failed when the process was killed, before it had been asked for anything: the next call would have been told.
			r.note(r.db.poisoned())
		}
		r.db = nil
	}
}

// recover opens the store as the next process does, and as the one behind that when a call failed in it.
func (r *crashRun) recover() {
	if r.open(); r.db == nil && r.failing {
		r.open()
	}
}

// copy makes copy number i of the store in the store's own directory.
func (r *crashRun) copy(i int, how func(tx *Tx, path string) error) {
	if r.db == nil {
		return
	}
	r.note(r.call("copy", func() error {
		return r.db.View(func(tx *Tx) error {
			r.observed(tx)
			r.mark(fmt.Sprintf("copying%d", i), uint64(tx.ID()))
			err := how(tx, filepath.Join(filepath.Dir(r.path), copyName(i)))
			if err == nil {
				r.mark(fmt.Sprintf("copied%d", i), uint64(tx.ID()))
			}
			return err
		})
	}))
}

func (r *crashRun) backup(i int) {
	r.copy(i, func(tx *Tx, path string) error { return tx.CopyFile(path, 0o600) })
}

func (r *crashRun) compact(i int) { r.copy(i, (*Tx).compact) }
