package folio

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/internal/weave"
)

// thread is one task of a scenario.
type thread struct {
	name string
	do   func(w *weft)
}

// weft is a thread under way.
type weft struct {
	*loom
	eye witness
}

// bear ends the session if an operation failed that should not.
func (w *weft) bear(err error) { w.loom.bear(err) }

func (w *weft) commit(n int) {
	for range n {
		w.bear(w.eye.commit(w.db, Sync))
	}
}

func (w *weft) relax(n int) {
	for range n {
		w.bear(w.eye.commit(w.db, Relaxed))
	}
}

func (w *weft) view(n int) {
	for range n {
		w.bear(w.eye.view(w.db))
	}
}

func (w *weft) checkpoint() {
	k := w.relaxed()
	err := w.db.Checkpoint()
	w.bear(err)
	w.durable(k, err)
}

func (w *weft) sync() {
	k := w.relaxed()
	err := w.db.Sync()
	w.bear(err)
	w.durable(k, err)
}

// relaxed is the newest transaction that was acknowledged, durable or not.
func (w *weft) relaxed() uint64 { return w.h.acked.Load() }

// durable notes that everything up to k is.
func (w *weft) durable(k uint64, err error) {
	if err == nil && k > 0 {
		w.h.mark("ack", k)
	}
}

func (w *weft) close() {
	k := w.relaxed()
	err := w.db.Close()
	w.bear(err)
	w.durable(k, err)
	w.closed = true
}

// backup makes a copy and looks into it.
func (w *weft) backup() {
	to := filepath.Join(filepath.Dir(w.path), fmt.Sprintf("copy%d.db", w.copies))
	w.copies++
	lo := w.h.acked.Load()
	if err := w.db.Backup(to); err != nil {
		w.bear(err)
		return
	}
	hi := w.h.begun.Load()
	// By the loom's files: the system's would share a table with other processes, and a goroutine waits there for these in real time. Schedules were not the same again.
	db, err := Open(to, &Options{ReadOnly: true, reservation: 1 << 20, fs: w.db.opts.fs})
	if err != nil {
		w.bear(fmt.Errorf("backup: %w", err))
		return
	}
	_, err = crashVerify(db, w.h.line, lo, hi)
	w.bear(errors.Join(err, db.Check(), db.Close()))
}

// rollback makes changes, and takes them back.
func (w *weft) rollback(n int) {
	for range n {
		err := w.db.Update(func(tx *Tx) error {
			for i := range 8 {
				if err := tx.Root().Put(fmt.Appendf(nil, "taken-back%d", i), make([]byte, 3000)); err != nil {
					return err
				}
				weave.Yield()
			}
			return errTakenBack
		})
		if err != errTakenBack {
			w.bear(err)
		}
	}
}

var errTakenBack = errors.New("taken back")

// Threads that several scenarios have.
func committer(n int) thread { return thread{"commit", func(w *weft) { w.commit(n) }} }
func viewer(n int) thread    { return thread{"view", func(w *weft) { w.view(n) }} }
func relaxer(n int) thread   { return thread{"relaxed", func(w *weft) { w.relax(n) }} }
func checkpointer(n int) thread {
	return thread{"checkpoint", func(w *weft) {
		for range n {
			w.checkpoint()
		}
	}}
}

// scenario is a few threads on a store.
type scenario struct {
	name    string
	profile crashProfile
	opts    Options
	weak    bool
	base    func(w *weft) // makes the store that all schedules begin with, once
	before  func(w *weft) // runs alone, in each schedule
	threads []thread
	fault   *vfs.Rule // begins to count with the threads
	bears   []error   // errors that threads may meet
	small   bool      // all schedules with two deviations are few enough
	remap   bool      // mappings are never extended in place
	moves   bool      // the store makes transactions of its own
}

func baseOf(n int) func(w *weft) { return func(w *weft) { w.commit(n) } }

// looseWide makes values of some KiB, as many as fill the memory limit by a quarter in a few transactions.
func looseWide(g *crashGen, k uint64) {
	for range 6 {
		g.put(nil, fmt.Sprintf("wide%02d", g.IntN(40)), 3000+g.IntN(1000))
	}
}

// looseGrowth adds more than the file grows by at a time, in each transaction.
func looseGrowth(g *crashGen, k uint64) {
	for i := range 12 {
		g.put(nil, fmt.Sprintf("g%02d-%02d", k%100, i), 4000)
	}
}

// looseHolesFilled is looseHoles with transactions behind it that need more than the holes.
func looseHolesFilled(g *crashGen, k uint64) {
	if k <= 3 {
		looseHoles(g, k)
		return
	}
	for i := range 20 {
		g.put(nil, fmt.Sprintf("f%02d-%02d", k%100, i), 3000)
	}
}

// looseSpill makes each third transaction larger than the heap may be.
func looseSpill(g *crashGen, k uint64) {
	if k%3 != 0 {
		crashSmall(g, k)
		return
	}
	for i := range 80 {
		g.put(nil, fmt.Sprintf("spill%02d", (i*37+int(k))%90), 3500+g.IntN(500))
	}
}

// looseHoles leaves holes: transaction 3 deletes most of what the first two have put.
func looseHoles(g *crashGen, k uint64) {
	switch {
	case k <= 2:
		for i := range 40 {
			g.put(nil, fmt.Sprintf("h%02d", 2*i+int(k-1)), 2500)
		}
	case k == 3:
		g.do(crashOp{kind: "range", key: "h05", to: "h70"})
	default:
		g.put(nil, fmt.Sprintf("h%02d", g.IntN(80)), 100)
	}
}

// looseTurns has every third transaction go over to the tree; the others are deferred.
func looseTurns(g *crashGen, k uint64) {
	if k%3 == 0 {
		from := g.IntN(40)
		g.do(crashOp{kind: "range", key: fmt.Sprintf("key%02d", from), to: fmt.Sprintf("key%02d", from+3)})
		return
	}
	for range 1 + g.IntN(4) {
		key := fmt.Sprintf("key%02d", g.IntN(40))
		if g.IntN(4) == 0 {
			g.do(crashOp{kind: "del", key: key})
		} else {
			g.put(nil, key, g.IntN(300))
		}
	}
}

var scenarios = []scenario{
	{name: "commit | view", profile: crashSmall, base: baseOf(12), before: baseOf(1), small: true, threads: []thread{
		committer(2), viewer(2)}},
	{name: "commit | commit | view", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(2), committer(1), viewer(2)}},
	{name: "first commit | view", profile: crashSmall, base: baseOf(12), small: true, threads: []thread{
		committer(1), committer(1), viewer(2)}},
	{name: "commit | checkpoint | view", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(2), checkpointer(1), viewer(2)}},
	{name: "checkpoint | log wrap | commit", profile: crashWide, opts: Options{LogLimit: minLimit}, moves: true, base: baseOf(12),
		before: func(w *weft) { w.commit(4); w.checkpoint(); w.commit(4) }, threads: []thread{
			checkpointer(2), committer(3), committer(2), viewer(1)}},
	{name: "full log | commit | view", profile: crashWide, opts: Options{LogLimit: minLimit}, moves: true, base: baseOf(12),
		before: baseOf(6), threads: []thread{
			committer(4), committer(3), viewer(2)}},
	{name: "deferred | in the tree | view", profile: looseTurns, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(2), committer(2), committer(2), viewer(2)}},
	{name: "deferred | in the tree | checkpoint", profile: looseTurns, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(2), committer(2), committer(2), checkpointer(2)}},
	{name: "deferred | relaxed | sync | view", profile: looseTurns, weak: true, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(2), relaxer(3), {"sync", func(w *weft) { w.sync() }}, viewer(1)}},
	{name: "ahead | ahead | relaxed", profile: looseTurns, weak: true, base: baseOf(12), before: func(w *weft) { w.commit(1); w.view(1) }, threads: []thread{
		{"ahead", func(w *weft) { w.commit(1); w.view(1); w.commit(2) }}, {"ahead too", func(w *weft) { w.commit(1); w.view(1); w.commit(1) }},
		{"relaxed", func(w *weft) { w.relax(1); w.view(1); w.relax(1) }}, viewer(2)}},
	{name: "ahead | checkpoint | view", profile: crashSmall, base: baseOf(12), before: func(w *weft) { w.commit(1); w.view(1) }, threads: []thread{
		{"ahead", func(w *weft) { w.commit(1); w.view(1); w.commit(2); w.view(1) }}, checkpointer(1), committer(2), viewer(2)}},
	{name: "failed log sync | ahead | view", profile: crashSmall, base: baseOf(12), before: func(w *weft) { w.commit(1); w.view(1) },
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindSync}, Name: "-wal", Nth: 2}, bears: []error{ErrPoisoned, syscall.EIO}, threads: []thread{
			{"ahead", func(w *weft) { w.commit(1); w.view(1); w.commit(1); w.view(1) }}, committer(2), viewer(2)}},
	{name: "failed log sync | ahead | relaxed", profile: crashSmall, weak: true, base: baseOf(12), before: func(w *weft) { w.commit(1); w.view(1); w.commit(1); w.view(1) },
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindSync}, Name: "-wal", Nth: 1}, bears: []error{ErrPoisoned, syscall.EIO}, threads: []thread{
			committer(1), committer(1), relaxer(1), viewer(2)}},
	{name: "relaxed | sync | view", profile: crashSmall, weak: true, base: baseOf(12), before: baseOf(1), threads: []thread{
		relaxer(2), {"sync", func(w *weft) { w.sync(); w.sync() }}, viewer(2)}},
	{name: "relaxed | commit | sync | checkpoint", profile: crashSmall, weak: true, base: baseOf(12), before: baseOf(1), threads: []thread{
		relaxer(2), committer(1), {"sync", func(w *weft) { w.sync() }}, checkpointer(1)}},
	{name: "release | checkpoint | commit", profile: crashSmall, base: baseOf(12),
		before: func(w *weft) {
			w.commit(1)
			r, err := w.eye.read(w.db)
			w.bear(err)
			w.held = r
			w.commit(2)
			w.view(1)
			w.checkpoint()
			w.commit(1)
		}, threads: []thread{
			{"release", func(w *weft) { w.bear(w.held.end()) }}, checkpointer(1), committer(2), viewer(1)}},
	{name: "view | commits under a reader", profile: crashSmall, base: baseOf(12), small: true,
		before: func(w *weft) {
			w.commit(1)
			w.view(1)
			r, err := w.eye.read(w.db)
			w.bear(err)
			w.held = r
		}, threads: []thread{
			viewer(1), {"commit", func(w *weft) {
				w.commit(3)
				w.view(1)
				w.bear(w.held.end())
			}}}},
	{name: "views | commit", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		viewer(3), viewer(3), committer(3)}},
	// Case F3 of RELIABILITY.md.
	{name: "growth | view | view", profile: crashWide, opts: Options{reservation: 64 << 10}, remap: true,
		base: baseOf(1), before: baseOf(1), threads: []thread{
			committer(3), viewer(2), viewer(2)}},
	{name: "growth | checkpoint | view", profile: looseGrowth, opts: Options{reservation: 64 << 10}, remap: true, moves: true,
		base: baseOf(1), before: func(w *weft) { w.commit(1); w.view(1) }, threads: []thread{
			committer(3), viewer(1), checkpointer(1)}},
	{name: "flush | commit | view", profile: looseWide, moves: true, opts: Options{MemoryLimit: minLimit}, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(3), committer(3), viewer(1)}},
	{name: "spill | view | commit", profile: looseSpill, opts: Options{MemoryLimit: minLimit, LogLimit: 4 << 20}, base: baseOf(1), before: baseOf(1),
		threads: []thread{
			committer(2), viewer(2), committer(1)}},
	{name: "bulk | view | checkpoint", profile: crashBulk, moves: true, opts: Options{LogLimit: minLimit}, base: baseOf(3), before: baseOf(1), threads: []thread{
		committer(2), viewer(2), checkpointer(1)}},
	{name: "bulk | commit | relaxed", profile: crashBulk, moves: true, weak: true, opts: Options{LogLimit: minLimit}, base: baseOf(3), threads: []thread{
		committer(2), committer(1), relaxer(1), viewer(1)}},
	{name: "shrink | commit | view", profile: looseHoles, moves: true, base: baseOf(2), before: baseOf(1), threads: []thread{
		checkpointer(1), committer(2), viewer(2)}},
	{name: "shrink | growth | view", profile: looseHolesFilled, moves: true, base: baseOf(2), before: baseOf(1), threads: []thread{
		checkpointer(1), committer(2), viewer(1)}},
	{name: "shrink | backup | commit", profile: looseHoles, moves: true, base: baseOf(2), before: baseOf(1), threads: []thread{
		checkpointer(1), {"backup", (*weft).backup}, committer(2)}},
	{name: "close | shrink | view", profile: looseHoles, moves: true, base: baseOf(2), before: baseOf(1), bears: []error{ErrDatabaseNotOpen},
		threads: []thread{
			{"close", (*weft).close}, checkpointer(1), committer(1), viewer(1)}},
	{name: "close | relaxed | sync", profile: crashSmall, weak: true, base: baseOf(12), before: baseOf(1), bears: []error{ErrDatabaseNotOpen},
		threads: []thread{
			relaxer(2), {"sync", func(w *weft) { w.sync() }}, {"close", (*weft).close}}},
	{name: "first commit | checkpoint | sync", profile: crashSmall, weak: true, base: baseOf(12), threads: []thread{
		committer(1), checkpointer(1), {"sync", func(w *weft) { w.sync() }}, relaxer(1)}},
	{name: "commit | commit | commit | sync", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		committer(1), committer(2), committer(1), {"sync", func(w *weft) { w.sync() }}}},
	{name: "rollback | checkpoint | commit", profile: crashWide, base: baseOf(12), before: baseOf(1), moves: true, threads: []thread{
		{"rollback", func(w *weft) { w.rollback(2) }}, checkpointer(2), committer(2)}},
	{name: "check | commit | checkpoint", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		{"check", func(w *weft) { w.bear(w.db.Check()); w.db.Stats() }}, committer(3), checkpointer(1)}},
	{name: "failed log sync | relaxed | sync", profile: crashSmall, weak: true, base: baseOf(12), before: baseOf(1),
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindSync}, Name: "-wal", Nth: 1}, bears: []error{ErrPoisoned, syscall.EIO}, threads: []thread{
			relaxer(2), {"sync", func(w *weft) { w.sync() }}, committer(1)}},
	{name: "close | commit | view | checkpoint", profile: crashSmall, base: baseOf(12), before: baseOf(2), bears: []error{ErrDatabaseNotOpen},
		threads: []thread{
			committer(2), viewer(2), checkpointer(1), {"close", (*weft).close}}},
	{name: "backup | commit | checkpoint", profile: crashSmall, base: baseOf(12), before: baseOf(1), threads: []thread{
		{"backup", (*weft).backup}, committer(2), checkpointer(1)}},
	{name: "failed log sync | commit | view", profile: crashSmall, base: baseOf(12), before: baseOf(1),
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindSync}, Name: "-wal", Nth: 2}, bears: []error{ErrPoisoned, syscall.EIO}, threads: []thread{
			committer(2), committer(2), viewer(2)}},
	{name: "failed data sync | commit | checkpoint", profile: crashSmall, base: baseOf(12), before: baseOf(1),
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindSync, vfs.KindMsync}, Name: ".db", Nth: 2}, bears: []error{ErrPoisoned, syscall.EIO}, threads: []thread{
			checkpointer(2), committer(2), viewer(2)}},
	{name: "failed write | commit | view", profile: crashSmall, base: baseOf(12), before: baseOf(1),
		fault: &vfs.Rule{Kinds: []vfs.Kind{vfs.KindWrite}, Name: ".db", Nth: 1, Err: syscall.ENOSPC}, bears: []error{ErrPoisoned, syscall.ENOSPC},
		threads: []thread{
			committer(2), viewer(2), checkpointer(1), viewer(1)}},
}

// scenarioNamed finds a scenario; nil: there is none.
func scenarioNamed(name string) *scenario {
	for i := range scenarios {
		if scenarios[i].name == strings.TrimSpace(name) {
			return &scenarios[i]
		}
	}
	return nil
}
