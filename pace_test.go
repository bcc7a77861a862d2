package folio

import (
	"testing"
	"time"
)

// Commits that come close behind each other are told from those that do not, and from none; and a checkpoint's piece waits for a sync that is under way, but not for ever.
func TestGiveWay(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	p := &db.pace
	quiet := func() { p.last.Store(int64(time.Since(db.opened)) - int64(paceBusy)) }

	quiet()
	if db.giveWay(0) {
		t.Error("busy, with no commit for a while")
	}
	p.last.Store(int64(time.Since(db.opened)) + int64(time.Hour)) // as if it ended at this moment, however slow the machine
	if !db.giveWay(0) {
		t.Error("not busy right behind a commit")
	}

	if db.giveWay(p.last.Load()) {
		t.Error("busy because of what was before the checkpoint")
	}
	quiet()
	p.syncing.Store(true)
	p.ended <- struct{}{} // of one that nobody had waited for
	waited := make(chan bool)
	go func() {
		start := time.Now()
		busy := db.giveWay(0)
		if time.Since(start) < paceMost {
			t.Error("did not wait for the sync")
		}
		waited <- busy
	}()
	if !<-waited {
		t.Error("not busy while the log is synced")
	}

	waiting := 0
	for range 100 {
		go func() { waited <- db.giveWay(0) }()
		for range 100 {
			if p.waiting.Load() {
				waiting++
				break
			}
			time.Sleep(10 * time.Microsecond)
		}
		p.syncing.Store(true)
		must(t, db.syncLog(false)) // wakes it
		p.syncing.Store(true)
		if !<-waited {
			t.Fatal("not busy while the log is synced")
		}
	}
	if waiting == 0 {
		t.Error("nobody was ever seen to wait")
	}

	db.opts.LogLimit = db.log.Live() // nearly full: commits are about to wait for the checkpoint
	if db.giveWay(0) {
		t.Error("a checkpoint that commits wait for gives way to them")
	}
	p.syncing.Store(false)
}
