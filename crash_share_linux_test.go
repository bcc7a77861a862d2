package folio

import (
	"errors"
	"slices"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// Workloads during which another process reads the store: what the writer keeps for it, and the numbers that a recovery leaves
// out while it is there, change what is written when. Its own calls are not recorded: nothing of them needs to last.

// deedElsewhere counts states that the other process was shown.
const deedElsewhere = "states that another process was shown"

func init() {
	crashWorks = append(crashWorks, crashWork{name: "attached", profile: crashWide, shared: true, run: func(r *crashRun) {
		r.commit(3)
		o := r.attach()
		if o == nil {
			return
		}
		defer o.close()
		o.view()
		old := o.begin()
		for range 3 {
			r.commit(3)
			o.view()
			r.checkpoint() // it may not use again what old has
			o.compare(old)
		}
		o.end(old)
		r.commit(2)
		r.checkpoint()
		o.view()
		r.commit(2)
	}, least: crashDeeds{deedKept: 1, deedCheckpoints: 4, deedElsewhere: 6}},
		crashWork{name: "attached relaxed", profile: crashSmall, weak: true, shared: true, run: func(r *crashRun) {
			r.commit(2)
			o := r.attach()
			if o == nil {
				return
			}
			defer o.close()
			for range 3 {
				r.relax(3)
				o.view()
				r.commit(1)
				r.relax(1)
				r.checkpoint()
				o.view()
			}
		}, least: crashDeeds{deedUnsynced: 6, deedCheckpoints: 3, deedElsewhere: 6}},
		crashWork{name: "attached killed", profile: crashWide, shared: true, sound: true, run: func(r *crashRun) {
			// The writers die, the process that reads does not: what it has been shown keeps its number for good. If calls failed,
			// a number that the next writer leaves out could be one of a commit that failed, and yet be there: the timeline
			// cannot tell such two apart.
			r.commit(3)
			o := r.attach()
			if o == nil {
				return
			}
			defer o.close()
			o.view()
			for i, n := range []int{3, 0, 2} {
				old := o.begin()
				r.commit(n)
				o.view()
				r.kill()
				o.compare(old)
				if r.recover(); !r.failing && !r.ok() {
					return
				}
				o.compare(old)
				o.end(old)
				r.commit(1)
				if i != 1 { // the third recovery reads what was logged behind the second
					r.checkpoint()
				}
				o.view()
			}
		}, least: crashDeeds{deedOpens: 4, deedCheckpoints: 5, deedElsewhere: 7}})
}

// crashOther is another process that reads the store of a run.
type crashOther struct {
	r   *crashRun
	db  *DB
	txs []*Tx // begun
}

// attach has another process open the store; nil: it cannot.
func (r *crashRun) attach() *crashOther {
	if r.db == nil {
		return nil
	}
	o := r.opts
	o.fs, o.another, o.ReadOnly = vfs.OS, true, true
	if r.failing {
		// A reader waits for a writer that cannot show what it has acknowledged, see begin: with 5 s the matrix took minutes of waiting.
		o.LockTimeout = 250 * time.Millisecond
	}
	db, err := Open(r.path, &o)
	if err != nil {
		if !r.failing { // a writer that cannot make a table has the store for itself
			r.note(err)
		}
		return nil
	}
	return &crashOther{r: r, db: db}
}

func (o *crashOther) close() {
	for _, tx := range slices.Clone(o.txs) {
		o.end(tx)
	}
	o.r.note(o.db.Close())
}

func (o *crashOther) begin() *Tx {
	tx, err := o.db.Begin(false)
	if err != nil {
		// A writer whose disk is full cannot show what it has acknowledged.
		if !o.r.failing || !errors.Is(err, ErrTimeout) {
			o.r.note(err)
		}
		return nil
	}
	o.txs = append(o.txs, tx)
	o.r.observed(tx)
	o.r.count(deedElsewhere, 1)
	return tx
}

func (o *crashOther) compare(tx *Tx) {
	if tx != nil {
		o.r.compare(tx)
	}
}

func (o *crashOther) end(tx *Tx) {
	if i := slices.Index(o.txs, tx); i >= 0 {
		o.txs = slices.Delete(o.txs, i, i+1)
		o.r.note(tx.Rollback())
	}
}

func (o *crashOther) view() {
	tx := o.begin()
	o.compare(tx)
	o.end(tx)
}
