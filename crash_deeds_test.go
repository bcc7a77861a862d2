package folio

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// A workload is worth what it does, and that is easily lost unnoticed: a limit was raised, and the workload "bulk" committed nothing in
// bulk any more; files in memory sync at once, and of the workload "goroutines" no two calls overlapped. So each workload says
// what it must have done, and a run that has not fails the test, however well its states hold.

// crashDeeds counts what a run has done, by the names below.
type crashDeeds map[string]int

// What the store has done, by its own figures; of all its lives in a run.
const (
	deedOpens       = "times opened"
	deedCommits     = "commits"
	deedGroups      = "records in the log"
	deedShared      = "commits in the record of another one"
	deedCheckpoints = "checkpoints"
	deedKept        = "pages kept for a reader, at most"
	deedPageSize    = "bytes a page"
)

// What its transactions were when their commit began.
const (
	deedBulk     = "commits in bulk"
	deedSpills   = "transactions spilled to the data file"
	deedDeferred = "deferred transactions"
	deedCollects = "transactions that collect"
	deedAppends  = "transactions that append, and sent leaves off"
	deedStashes  = "transactions that have put operations by"
	deedMoves    = "transactions that move pages"
)

// What the log of the calls on files shows.
const (
	deedOverlaps = "calls that overlap"
	deedBoth     = "calls on the log that overlap with calls on the data file"
	deedBeside   = "commits acknowledged during a sync of the data file"
	deedCopying  = "commits acknowledged while a copy was made"
	deedAhead    = "syncs of the log with pages written behind its record"
	deedCopies   = "copies made"
	deedWraps    = "times round the log"
	deedCuts     = "times the data file was made shorter before a commit"
	deedUnsynced = "commits acknowledged or shown without a sync"
	deedDirect   = "large values written before their commit"
	deedMegabyte = "records of a megabyte"
	deedTails    = "records in a block of the log in which another one ends"
	deedMaps     = "mappings of the data file"
)

// deedOf is the name of changes of one kind, which the timeline has: see crashOp.
func deedOf(kind string) string { return "changes: " + kind }

// count adds to what was done.
func (r *crashRun) count(deed string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = crashDeeds{}
	}
	r.done[deed] += n
}

// most notes a figure that is larger than it was.
func (r *crashRun) most(deed string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = crashDeeds{}
	}
	r.done[deed] = max(r.done[deed], n)
}

// countLife counts what a store has done that is being let go of.
func (r *crashRun) countLife(db *DB) {
	if db == nil {
		return
	}
	r.count(deedOpens, 1)
	r.count(deedCommits, int(db.stats.commits.Load()))
	r.count(deedGroups, int(db.stats.groups.Load()))
	r.count(deedCheckpoints, int(db.stats.checkpoints.Load()))
	r.most(deedPageSize, db.pageSize)
}

// countTx counts what a transaction is that is about to commit.
func (r *crashRun) countTx(tx *Tx) {
	for deed, is := range map[string]bool{
		deedBulk:     tx.bulk,
		deedSpills:   !tx.deferred && tx.db.pager.spilled,
		deedDeferred: tx.deferred,
		deedCollects: tx.collecting() && tx.postponed > 0,
		deedStashes:  tx.stash != nil,
		deedAppends:  tx.holdsTree && tx.db.pager.appending && tx.db.pager.spilled,
	} {
		if is {
			r.count(deed, 1)
		}
	}
}

// deeds is all that the run has done. It has ended.
func (r *crashRun) deeds() crashDeeds {
	r.mu.Lock()
	d := maps.Clone(r.done)
	r.mu.Unlock()
	d[deedShared] = d[deedCommits] - d[deedGroups] - d[deedBulk]
	r.line.mu.Lock()
	for _, still := range r.line.still {
		if still {
			d[deedMoves]++
		}
	}
	for _, ops := range r.line.made {
		for _, op := range ops {
			d[deedOf(op.kind)]++
		}
	}
	r.line.mu.Unlock()
	log := r.rec.Log()
	d.countCalls(log)
	d.countMarks(log)
	return d
}

func isMark(op *vfs.Op, kinds ...string) bool {
	return op.Kind == vfs.KindMark && slices.Contains(kinds, op.Note)
}

func isSync(op *vfs.Op) bool { return op.Kind == vfs.KindSync || op.Kind == vfs.KindMsync }

// countCalls counts what can be told from the calls on files alone.
func (d crashDeeds) countCalls(log []vfs.Op) {
	var logEnd, size int64
	tailsFrom, tailsTo := int64(0), int64(0) // the last write of the log
	cuts := 0
	ahead, pages := false, false // the log has been written to since its last sync, and the data file behind that
	for i := range log {
		switch op := &log[i]; {
		case isSync(op) && op.Name == "app.db-wal":
			if pages {
				d[deedAhead]++
			}
			ahead, pages = false, false
		case isMark(op, "begin"):
			d[deedCuts] += cuts
			cuts = 0
		case op.Kind == vfs.KindMark || op.Kind == vfs.KindStart:
			continue
		case op.Kind == vfs.KindWrite && op.Name == "app.db-wal":
			ahead = true
			if op.Off < logEnd {
				d[deedWraps]++
			}
			logEnd = op.Off
			if op.Off >= tailsFrom && op.Off < tailsTo {
				d[deedTails]++
			}
			tailsFrom, tailsTo = op.Off, op.Off+int64(len(op.Data))
			if len(op.Data) >= 1<<20 {
				d[deedMegabyte]++
			}
		case op.Kind == vfs.KindTruncate && op.Name == "app.db":
			if op.Off < size {
				cuts++
			}
			size = op.Off
		case op.Kind == vfs.KindWrite && op.Name == "app.db":
			pages = pages || ahead
			size = max(size, op.Off+int64(len(op.Data)))
		}
		for k := i + 1; k < len(log) && log[k].Begin < log[i].End; k++ {
			if log[i].Kind == vfs.KindMark || log[k].Kind == vfs.KindMark {
				continue
			}
			d[deedOverlaps]++
			if names := log[i].Name + " " + log[k].Name; names == "app.db app.db-wal" || names == "app.db-wal app.db" {
				d[deedBoth]++
			}
		}
	}
}

// countMarks counts what can be told from the calls between two marks.
func (d crashDeeds) countMarks(log []vfs.Op) {
	var syncs []*vfs.Op // of the data file
	copying := math.MaxInt
	written, synced := -1, -1 // end of the last write of the log, beginning of the last sync of it that has ended
	direct := 0
	for i := range log {
		switch op := &log[i]; {
		case isSync(op):
			if op.Name == "app.db" {
				syncs = append(syncs, op)
			}
			direct = 0
		case op.Kind == vfs.KindWrite && op.Name == "app.db" && len(op.Data) >= directRun:
			direct++
		case isMark(op, "begin"):
			d[deedDirect] += direct
			direct = 0
		case op.Kind == vfs.KindMark && strings.HasPrefix(op.Note, "copying"):
			copying = i
		case op.Kind == vfs.KindMark && strings.HasPrefix(op.Note, "copied"):
			d[deedCopies]++
			for k := copying; k < i; k++ {
				if isMark(&log[k], "ack", "relaxed") {
					d[deedCopying]++
				}
			}
		case isMark(op, "ack", "relaxed"):
			if slices.ContainsFunc(syncs, func(s *vfs.Op) bool { return s.Begin < op.Begin && op.Begin < s.End }) {
				d[deedBeside]++
			}
			if op.Note == "ack" {
				break
			}
			written, synced = -1, -1
			for k := range log[:i] {
				if before := &log[k]; before.Name == "app.db-wal" && before.End < op.Begin {
					if before.Kind == vfs.KindWrite {
						written = max(written, before.End)
					} else if isSync(before) {
						synced = max(synced, before.Begin)
					}
				}
			}
			if written > synced {
				d[deedUnsynced]++
			}
		}
		if op := &log[i]; op.Kind == vfs.KindMark && !isMark(op, "begin") {
			direct = 0
		}
	}
}

// missing says what a run of the workload has not done, or too rarely; "" when it has done everything.
func (w *crashWork) missing(r *crashRun) string {
	d := r.deeds()
	var text []string
	for _, deed := range slices.SortedFunc(maps.Keys(w.least), cmp.Compare) {
		if d[deed] < w.least[deed] {
			text = append(text, fmt.Sprintf("%s: %d, and %d at least are wanted", deed, d[deed], w.least[deed]))
		}
	}
	return strings.Join(text, "; ")
}

// TestCrashWorksHaveDeeds looks whether every workload says what it must have done, and that it is noticed when one has not: a
// workload whose largest transactions are a little less than a bulk commit commits nothing in bulk.
func TestCrashWorksHaveDeeds(t *testing.T) {
	for _, w := range crashWorks {
		if len(w.least) == 0 {
			t.Errorf("%s does not say what it must have done", w.name)
		}
		if !strings.HasPrefix(w.name, "bulk") {
			continue
		}
		w.profile = func(g *crashGen, k uint64) { crashLarger(g, k, 28) }
		if missing := w.missing(w.start(t, vfs.OS, *crashSeed, 0)); !strings.Contains(missing, deedBulk+": 0,") {
			t.Errorf("%s commits nothing in bulk, and what is said to be missing is %q", w.name, missing)
		}
	}
}

// crashIdle is what is said of a workload that lacks something.
const crashIdle = "does not do what it is for"

// recordings is how often a workload is recorded until it has done what it has to: the scheduling of goroutines may be in the way.
const recordings = 6

// record runs the workload without failures, again with other seeds until it has done what it must do. If it never has, log fails the
// test, once the states of the last run have been judged.
func (c *crashHunt) record() *crashRun {
	for try := uint64(0); ; try++ {
		r := c.w.start(c.t, vfs.OS, *crashSeed+try, 0)
		if err := r.err(); err != nil {
			c.failed = true
			c.t.Fatal(err)
		}
		c.seed, c.lacks = *crashSeed+try, c.w.missing(r)
		if c.lacks == "" || c.t.Failed() || *crashState != "" || try == recordings-1 {
			return r
		}
	}
}
