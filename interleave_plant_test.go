package folio

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/foliodb/folio/internal/weave"
)

var plantedFaults = flag.Bool("folio.plants", false, "interleaving tests of the store with faults planted, each of which must be found")

// plant is a fault: a reading of the design that looks as good, and is wrong for some orders of events.
type plant struct {
	name  string
	in    string // scenario that finds it soon
	edits []weave.Edit
}

// harmless says of changes that look like faults why no schedule may find them.
var harmless = map[string]string{
	"the timer syncs a store that may be closed":         "Close has settled everything before it lets go of the log, so there is nothing left to sync",
	"who is handed the lead is counted as waiting still": "who leads seals and syncs his own group too, and with it the count is gone",
}

var plants = []plant{
	// Case A1 of RELIABILITY.md.
	{"the state being published is not pinned", "commit | commit | view", []weave.Edit{{File: "readers.go",
		Old: "	if g.publishing {\n		p = append(p, g.publishPin)\n	}\n", New: ""}}},
	// Cases A2 and F2 of RELIABILITY.md.
	{"frames are flushed for the sake of memory without a pin", "flush | commit | view", []weave.Edit{{File: "commit.go",
		Old: "func() { db.noteBackground(db.drain()) })",
		New: "func() { db.applyAcknowledged(); db.publishing.Lock(); defer db.publishing.Unlock(); g.mu.Lock(); fs := g.gather(g.acked.tx); g.mu.Unlock(); db.writeFrames(fs) })"}}},
	{"the state that a checkpoint writes is not pinned", "commit | checkpoint | view", []weave.Edit{{File: "readers.go",
		Old: "	if g.checkpointing {\n		p = append(p, g.checkpointPin)\n	}\n", New: ""}}},
	// Case A3 of RELIABILITY.md.
	{"a page of the open group is copied under its own number", "bulk | commit | relaxed", []weave.Edit{
		{File: "pager.go", Old: "	to, err := p.allocate(1)\n	if err != nil {\n		return 0, nil, err\n	}\n",
			New: "	if f != nil && p.db.inOpenGroup(f.born) {\n" +
				"		buf := p.db.buffers.get()\n		copy(buf[8:], old[8:])\n		page.SetBorn(buf, p.tx)\n		p.db.frames.remove(id)\n" +
				"		p.add(&frame{id: id, born: p.tx, buf: buf})\n		p.dead = append(p.dead, f)\n		return id, buf, nil\n	}\n" +
				"	to, err := p.allocate(1)\n	if err != nil {\n		return 0, nil, err\n	}\n"},
		{File: "group.go", Old: "// hold adds", New: "func (db *DB) inOpenGroup(born page.TxID) bool {\n" +
			"	g := &db.groups\n	g.mu.Lock()\n	defer g.mu.Unlock()\n	last := g.acked.tx\n" +
			"	for _, n := range g.sealed {\n		last = max(last, n.end.tx)\n	}\n	return g.open != nil && born > last && born <= g.open.end.tx\n}\n\n// hold adds"}}},
	// Cases A6 and F2 of RELIABILITY.md.
	{"a superseded frame is dropped unwritten", "commit | view", []weave.Edit{{File: "commit.go",
		Old: "		f.died = p.tx\n",
		New: "		f.died = p.tx\n		if !f.written && f.buf != nil {\n			db.groups.release(f)\n			db.frames.remove(f.id)\n			f.buf = nil\n		}\n"}}},
	// Case A10 of RELIABILITY.md.
	{"publishers do not exclude each other, and what is published may go back", "checkpoint | log wrap | commit", []weave.Edit{{File: "publish.go",
		Old: "	db.publishing.Lock()\n	defer db.publishing.Unlock()\n	if db.released {", New: "	if db.released {"}}},
	// Case A11 of RELIABILITY.md.
	{"a reader's count is lowered on another shard", "view | commits under a reader", []weave.Edit{{File: "readers.go",
		Old: "			shard.n.Add(-1)\n			continue\n", New: "			s.pins[int(rand.Uint32())&(len(s.pins)-1)].n.Add(-1)\n			continue\n"}}},
	{"a reader does not look again at what is published", "checkpoint | log wrap | commit", []weave.Edit{{File: "readers.go",
		Old: "		if db.published.Load() != s {\n			shard.n.Add(-1)\n			continue\n		}\n", New: ""}}},
	{"a bulk commit is shown before it is durable", "bulk | view | checkpoint", []weave.Edit{{File: "commit.go",
		Old: "	c.state = state{tx: tx.id, root: tx.root.header(), end: c.set.End, pos: db.log.End()}\n",
		New: "	c.state = state{tx: tx.id, root: tx.root.header(), end: c.set.End, pos: db.log.End()}\n" +
			"	g.mu.Lock()\n	db.acknowledge(&group{end: c.state, applied: true})\n	g.mu.Unlock()\n"}}},
	// Case B2 of RELIABILITY.md.
	{"a checkpoint waits for a transaction that has the tree", "full log | commit | view", []weave.Edit{{File: "checkpoint.go",
		Old: "	if !db.tryLockTree() {\n		return\n	}\n", New: "	db.lockTree(nil)\n"}}},
	{"who wants what was acknowledged waits for a transaction that has the tree", "full log | commit | view", []weave.Edit{{File: "treelock.go",
		Old: "		if done != nil && done() {\n", New: "		if done != nil && !g.treeHeld && done() {\n"}}},
	{"what is not acknowledged is applied for a reader", "commit | commit | view", []weave.Edit{{File: "backlog.go",
		Old: "	for n < len(g.late.groups) && g.late.groups[n].end.tx <= acked {\n", New: "	for n < len(g.late.groups) && (g.late.groups[n].end.tx <= acked || g.late.groups[n] != g.open) {\n"}}},
	{"a deferred transaction joins a group that the tree has", "deferred | in the tree | view", []weave.Edit{{File: "backlog.go",
		Old: "	if g.open != nil && g.open.applied {\n		return nil, nil\n	}\n", New: ""}}},
	{"a checkpoint claims what has not been applied", "deferred | in the tree | checkpoint", []weave.Edit{{File: "checkpoint.go",
		Old: "	if !behind { // else", New: "	if behind || !behind { // else"}}},
	// Case B5 of RELIABILITY.md.
	{"a withdrawn tail is cut off although pages of it have been given out", "checkpoint | log wrap | commit", []weave.Edit{{File: "freelist/snapshot.go",
		Old: "	n := l.spare(min(l.free.tail(l.end), l.end-s.End))\n	if n < s.shrink {\n		return 0, false\n	}\n	l.forget(n)\n",
		New: "	l.end = s.End\n	l.room = l.end\n"}}},
	{"the log is let go up to its end, not up to the checkpoint", "checkpoint | log wrap | commit", []weave.Edit{{File: "checkpoint.go",
		Old: "	db.log.Release(c.state.pos)\n", New: "	db.log.Sync()\n	db.log.Release(db.log.End())\n"}}},
	{"the log's end is read after the append lock is given up", "checkpoint | log wrap | commit", []weave.Edit{{File: "checkpoint.go",
		Old: "		c.state.pos = db.log.End()\n	}\n", New: "		db.append.Unlock()\n		c.state.pos = db.log.End()\n		db.append.Lock()\n	}\n"}}},
	{"a leader acknowledges what was appended during its sync", "relaxed | commit | sync | checkpoint", []weave.Edit{{File: "group.go",
		Old: "	g.relaxedSynced = relaxed\n", New: "	g.relaxedSynced = relaxed\n	for _, n := range g.sealed[min(len(covered), len(g.sealed)):] {\n		if n.appended {\n			covered = append(covered, n)\n		}\n	}\n"}}},
	{"readers need not be shown what a leader acknowledges", "commit | commit | view", []weave.Edit{{File: "group.go",
		Old: "	db.known.Store(db.acked.Load())\n	for _, n := range covered {\n", New: "	for _, n := range covered {\n"}}},
	{"who waits for a group is not handed the lead", "commit | commit | view", []weave.Edit{{File: "group.go",
		Old: "	if waiting > 0 && db.poisoned() == nil {\n", New: "	if waiting > 1 && db.poisoned() == nil {\n"}}},
	// Case F3 of RELIABILITY.md.
	{"a mapping is held without looking whether it is gone", "growth | checkpoint | view", []weave.Edit{{File: "page/file.go",
		Old: "		if m := f.cur.Load(); m.tryRetain() {\n			return m\n		}\n", New: "		m := f.cur.Load()\n		m.Retain()\n		return m\n"}}},
	{"the file is cut while it grows", "shrink | growth | view", []weave.Edit{{File: "freelist/snapshot.go",
		Old: "(bool, error) {\n	l.size.Lock()\n	defer l.size.Unlock()\n	end, ok := l.lowerEnd(", New: "(bool, error) {\n	end, ok := l.lowerEnd("}}},
	{"a copy is made of a state that is not pinned", "shrink | backup | commit", []weave.Edit{{File: "backup.go",
		Old: "	return db.View(func(tx *Tx) error {\n		if err := db.isNew(\"backup\", path); err != nil {\n			return err\n		}\n		return outer(place(db.opts.fs, path, db.opts.FileMode, tx.writeFile))\n	})\n",
		New: "	tx, err := db.Begin(false)\n	if err != nil {\n		return err\n	}\n	db.unpin(tx.shard)\n	tx.db.wanted.Store(true)\n" +
			"	return outer(place(db.opts.fs, path, db.opts.FileMode, tx.writeFile))\n"}}},
	{"a reader does not look whether the store closes", "close | commit | view | checkpoint", []weave.Edit{{File: "readers.go",
		Old: "		if db.closing.Load() {\n			db.unpin(shard)\n			return nil, nil, ErrDatabaseNotOpen\n		}\n", New: ""}}},
	{"the timer syncs a store that may be closed", "close | relaxed | sync", []weave.Edit{{File: "commit.go",
		Old: "			if db.enter() == nil {\n				db.settle() // a failure poisons: the next write reports it\n				db.leave()\n			}\n",
		New: "			db.settle()\n"}}},
	{"a log is begun beside a checkpoint", "first commit | checkpoint | sync", []weave.Edit{{File: "recover.go",
		Old: "	db.checkpointing.Lock()\n	defer db.checkpointing.Unlock()\n	m := db.newest()\n	opt := db.logOptions()\n",
		New: "	m := db.newest()\n	opt := db.logOptions()\n"},
		{File: "recover.go", Old: "	if err := db.writeSlots(m, own); err != nil {\n		return outer(errors.Join(err, log.Close()))\n	}\n	db.log = log\n",
			New: "	db.log = log\n	if err := db.writeSlots(m, own); err != nil {\n		return outer(errors.Join(err, log.Close()))\n	}\n"}}},
	{"nobody who waits for the open group is handed the lead", "commit | commit | commit | sync", []weave.Edit{{File: "group.go",
		Old: "	if g.open != nil {\n		waiting += g.open.waiters\n	}\n", New: ""}}},
	{"who is handed the lead is counted as waiting still", "commit | commit | commit | sync", []weave.Edit{{File: "group.go",
		Old: "			n.waiters--\n", New: ""}}},
	{"a relaxed commit gives a group that is being applied to the one before", "ahead | ahead | relaxed", []weave.Edit{{File: "prepublish.go",
		Old: "		late[n].taken = true\n", New: ""}}},
	{"what is written ahead is shown ahead", "failed log sync | ahead | view", []weave.Edit{{File: "prepublish.go",
		Old: "		_ = db.writeCovered()\n", New: "		_ = db.writeCovered()\n	db.groups.mu.Lock()\n	for _, n := range db.covered {\n		db.acknowledge(n)\n	}\n	db.groups.mu.Unlock()\n"}}},
	{"what is written ahead has no pin", "ahead | ahead | relaxed", []weave.Edit{{File: "prepublish.go",
		Old: "			return db.writeState(n.end.tx)\n", New: "			frames := g.gather(n.end.tx)\n			g.mu.Unlock()\n			defer g.mu.Lock()\n			return db.writeFrames(frames)\n"}}},
	{"relaxed commits made during a sync count as synced", "relaxed | sync | view", []weave.Edit{{File: "group.go",
		Old: "	g.relaxedSynced = relaxed\n", New: "	g.relaxedSynced = g.relaxed\n"}}},
	// Case B6 of RELIABILITY.md.
	{"pages of the running transaction are missing in the free set", "rollback | checkpoint | commit", []weave.Edit{{File: "freelist/snapshot.go",
		Old: "	set := l.newSet()\n	l.own.copyTo(&set)\n", New: "	set := l.newSet()\n"}}},
	{"poison does not tell the open group", "failed log sync | commit | view", []weave.Edit{{File: "group.go",
		Old: "	if g.open != nil {\n		lost = append(lost[:len(lost):len(lost)], g.open)\n	}\n", New: ""}}},
}

// TestInterleavingsPlants says after how many schedules each planted fault is found, or that it is not. Without the flag it
// only looks whether the faults could still be planted. A campaign is
//
//	go test -run TestInterleavingsPlants -timeout 1h -folio.plants -folio.schedules 1000000 -v .
func TestInterleavingsPlants(t *testing.T) {
	if weave.Woven {
		t.Skip("is for the plain library")
	}
	for i, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			for _, e := range p.edits {
				if b, err := os.ReadFile(e.File); err != nil || strings.Count(string(b), e.Old) != 1 {
					t.Fatalf("%s has not once: %s (%v)", e.File, e.Old, err)
				}
			}
			if !*plantedFaults || *plantedPart >= 0 && i%8 != *plantedPart%8 {
				return
			}
			r := woven()
			r.Edits = append(r.Edits, p.edits...)
			var out bytes.Buffer
			name := regexp.QuoteMeta(strings.ReplaceAll(p.in, " ", "_"))
			err := runWoven(t, buildWoven(t, r), &out, "-test.run=^TestInterleavings$/^"+name+"$", "-test.v")
			if why := harmless[p.name]; why != "" {
				if err != nil {
					t.Fatalf("is not harmless: %v: %s", err, out.String())
				}
				t.Logf("breaks nothing: %s", why)
				return
			}
			if _, ok := err.(*exec.ExitError); !ok {
				t.Fatalf("not found: %v", err)
			}
			if m := regexp.MustCompile(`schedule (\d+): ([^\n]*)`).FindStringSubmatch(out.String()); m != nil {
				t.Logf("found in schedule %s of %s: %s", m[1], p.in, m[2])
			} else if m := regexp.MustCompile(`interleave_test.go:\d+: ([^\n]*)`).FindStringSubmatch(out.String()); m != nil {
				t.Logf("found while the store for %s is made: %s", p.in, m[1])
			} else {
				t.Fatalf("found in some way: %s", out.String())
			}
		})
	}
}
