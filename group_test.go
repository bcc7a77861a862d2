package folio

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// stopLogSync makes the next sync of the log wait: reached tells that it has come, and it goes on, with
// the error if there is one, when release is closed.
func stopLogSync(fsys *hookFS, fail error) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) (err error) {
		if kind == vfs.KindSync && isLog(f) {
			once.Do(func() { close(reached); <-release; err = fail })
		}
		return err
	})
	fsys.before.Store(&hook)
	return reached, release
}

func putRelaxed(db *DB, key string) error {
	return db.Update(func(tx *Tx) error {
		tx.SetDurability(Relaxed)
		return tx.Root().Put([]byte(key), []byte("v"))
	})
}

// While Sync waits for the log's sync, a relaxed commit forgets the groups that nobody waits for, among
// them the one that Sync waits for and the leader has counted: the leader then slices past the list's end.
func TestSyncBesideRelaxedCommit(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	must(t, putRelaxed(db, "a"))
	reached, release := stopLogSync(fsys, nil)
	done := make(chan struct{})
	var err error
	var panicked any
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = db.Sync()
	}()
	<-reached
	must(t, putRelaxed(db, "b"))
	close(release)
	waitFor(t, "Sync", done)
	if err != nil || panicked != nil {
		t.Errorf("Sync: %v, panic: %v", err, panicked)
	}
}

// Sync seals and appends the group of a relaxed commit that has not come to that itself, and puts its stand-in behind. The
// commit then took the stand-in's state, an older one, for the newest there is: it returned, and no View saw it. Found by
// TestConcurrent of fuzz/ under the race detector.
func TestRelaxedCommitBehindStandIn(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	must(t, putRelaxed(db, "a"))
	tx, err := db.Begin(true)
	must(t, err)
	must(t, tx.Root().Put([]byte("b"), []byte("v")))
	tx.SetDurability(Relaxed)
	if _, err := tx.merge(); err != nil { // the first half of Commit
		t.Fatal(err)
	}
	reached, release := stopLogSync(fsys, nil)
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		if err := db.settle(); err != nil {
			t.Error(err)
		}
	}()
	<-reached
	must(t, db.relax()) // the second half
	db.leave()
	must(t, db.View(func(tx *Tx) error {
		if tx.Root().Get([]byte("b")) == nil {
			t.Error("a relaxed commit was acknowledged, and a View does not see it")
		}
		return nil
	}))
	close(release)
	waitFor(t, "Sync", synced)
}

// The same with a synchronous commit behind: the leader counted [relaxed stand-in], finds [synchronous commit] in its
// place, and acknowledges a commit whose sync has not begun.
func TestAcknowledgedBeforeItsSync(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	must(t, putRelaxed(db, "a"))
	reached, release := stopLogSync(fsys, nil)
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		defer func() { recover() }()
		db.Sync()
	}()
	<-reached
	// From here on every further sync fails.
	must(t, putRelaxed(db, "b"))
	err := commitBehind(t, db, fsys, release)
	if err == nil {
		t.Error("a commit was acknowledged whose log record no sync has covered")
	}
	waitFor(t, "Sync", synced)
}

// The same race by the other door: a relaxed commit has joined a group and not yet come to relax; Sync seals the group, leads and waits for
// it; then relax forgets it, because no synchronous commit is in it.
func TestSyncOverRelaxedJoin(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	mustPut(t, db, "first", "v")
	tx, err := db.Begin(true)
	must(t, err)
	tx.SetDurability(Relaxed)
	must(t, tx.Root().Put([]byte("a"), []byte("v")))
	if _, err := tx.merge(); err != nil { // Commit, up to here
		t.Fatal(err)
	}
	reached, release := stopLogSync(fsys, nil)
	done := make(chan struct{})
	var panicked any
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = db.Sync()
	}()
	<-reached
	must(t, db.relax()) // the rest of Commit
	db.leave()
	close(release)
	waitFor(t, "Sync", done)
	if err != nil || panicked != nil {
		t.Errorf("Sync: %v, panic: %v", err, panicked)
	}
}

// The same by that door with a synchronous commit behind. The leader has counted [relaxed stand-in]; the relaxed one is forgotten,
// and if the first two of the list were what its sync covers, the synchronous commit would be acknowledged without one. No
// schedule of the interleaving tests came to this in 9,375.
func TestForgottenWhileCounted(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	mustPut(t, db, "first", "v")
	tx, err := db.Begin(true)
	must(t, err)
	tx.SetDurability(Relaxed)
	must(t, tx.Root().Put([]byte("a"), []byte("v")))
	if _, err := tx.merge(); err != nil { // Commit, up to here
		t.Fatal(err)
	}
	reached, release := stopLogSync(fsys, nil)
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		if err := db.Sync(); err != nil {
			t.Error(err)
		}
	}()
	<-reached
	must(t, db.relax()) // the rest of Commit
	db.leave()
	err = commitBehind(t, db, fsys, release)
	if err == nil {
		t.Error("a commit was acknowledged whose log record no sync has covered")
	}
	waitFor(t, "Sync", synced)
}

// commitBehind makes a commit, has its record appended while a leader syncs the log, lets that sync go on, and fails all that
// follow. It returns what the commit is told.
func commitBehind(t *testing.T, db *DB, fsys *hookFS, release chan struct{}) (err error) {
	t.Helper()
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		err = db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("c"), []byte("v")) })
	}()
	waiting := func() bool { // the commit has joined a group and waits
		g := &db.groups
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.open != nil && g.open.waiters > 0
	}
	for !waiting() {
		time.Sleep(time.Millisecond)
	}
	db.flush() // what any relaxed commit, checkpoint or Sync does
	fail := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindSync && isLog(f) {
			return errInjected
		}
		return nil
	})
	fsys.before.Store(&fail)
	close(release)
	waitFor(t, "commit", committed)
	return err
}

// And by the third: a leader is syncing a synchronous commit. A relaxed commit has joined the next group; Sync seals that and waits as a
// follower; relax forgets it. The leader did not count it and hands over to nobody.
func TestSyncFollowsAndIsForgotten(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, SyncInterval: time.Hour})
	mustPut(t, db, "first", "v")
	reached, release := stopLogSync(fsys, nil)
	led := make(chan struct{})
	go func() {
		defer close(led)
		db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("s"), nil) })
	}()
	<-reached
	tx, err := db.Begin(true)
	must(t, err)
	tx.SetDurability(Relaxed)
	must(t, tx.Root().Put([]byte("a"), []byte("v")))
	if _, err := tx.merge(); err != nil { // Commit, up to here
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); err = db.Sync() }()
	for waits := false; !waits; {
		time.Sleep(time.Millisecond)
		db.groups.mu.Lock()
		for _, n := range db.groups.sealed {
			waits = waits || n.syncs == 0 && n.waiters > 0 || n.syncs > 0 && len(db.groups.sealed) > 1 && n.waiters > 0
		}
		db.groups.mu.Unlock()
	}
	must(t, db.relax()) // the rest of Commit
	db.leave()
	close(release)
	waitFor(t, "commit", led)
	waitFor(t, "Sync", done)
	must(t, err)
}

// Several transactions that the log can take one by one wait for one sync. Together they are larger
// than what the log promises at once, and the last one is refused though it only had to wait.
func TestLargeCommitsTogether(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, LogLimit: 256 << 10})
	mustPut(t, db, "first", "v")
	reached, release := stopLogSync(fsys, nil)
	errs := make(chan error, 10)
	commit := func(i int) {
		errs <- db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "big%d", i), make([]byte, 60<<10)) })
	}
	go commit(0)
	<-reached
	for i := 1; i < 10; i++ {
		go commit(i)
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	for range 10 {
		if err := <-errs; err != nil {
			t.Errorf("commit of 60 KiB: %v", err)
		}
	}
}

// A reader is writing out a commit when the store, poisoned, is closed: it comes back to a data file that is no more.
func TestCloseBesidePublish(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "a", "b")
	must(t, db.View(func(*Tx) error { return nil }))
	mustPut(t, db, "a", "c")
	db.publish()
	must(t, putRelaxed(db, "a"))
	db.poison(errInjected)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if kind == vfs.KindWrite && !isLog(f) {
			once.Do(func() { close(reached); <-release })
		}
		return nil
	})
	fsys.after.Store(&hook)
	done := make(chan struct{})
	var err error
	var panicked any
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = db.View(func(*Tx) error { return nil })
	}()
	<-reached
	closed := make(chan struct{})
	go func() { defer close(closed); db.Close() }()
	select {
	case <-closed:
	case <-time.After(200 * time.Millisecond): // it waits for the reader, rightly
	}
	close(release)
	waitFor(t, "View", done)
	waitFor(t, "Close", closed)
	if panicked != nil || err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
		t.Errorf("View: %v, panic: %v", err, panicked)
	}
}

// Relaxed and synchronous commits, Sync, Checkpoint, Check and readers all at once, as any program does.
// Case A8 of RELIABILITY.md.
func TestMixedDurability(t *testing.T) {
	db := mustOpen(t, &Options{SyncInterval: time.Millisecond, LogLimit: 256 << 10, MemoryLimit: 256 << 10})
	var wg sync.WaitGroup
	run := func(fn func(i int) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 60 {
				if err := fn(i); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range 2 {
		run(func(i int) error { return putRelaxed(db, fmt.Sprint("r", i)) })
		run(func(i int) error {
			return db.Update(func(tx *Tx) error { return tx.Root().Put(fmt.Appendf(nil, "s%d", i), make([]byte, 3000)) })
		})
		run(func(int) error { return db.View(func(tx *Tx) error { return tx.Check() }) })
	}
	run(func(int) error { return db.Sync() })
	run(func(i int) error {
		if i%4 != 0 {
			return nil
		}
		return errors.Join(db.Checkpoint(), db.Check())
	})
	done := make(chan struct{})
	go func() { defer close(done); wg.Wait() }()
	waitFor(t, "the mix", done)
	must(t, db.Check())
	must(t, db.Close())
}

// A View was shown pages that had never been written: the list of pins ended at the stand-in of a waiting Sync, so
// the group sealed before it was not pinned, and the next commit dropped the frames of it that it superseded.
// Case A6 of RELIABILITY.md.
func TestSealedGroupBeforeStandInIsPinned(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	put := func(value string) error {
		return db.Update(func(tx *Tx) error {
			tx.Root().Get([]byte("a")) // takes it to the tree
			return tx.Root().Put([]byte("a"), []byte(value))
		})
	}
	until := func(cond func(g *groups) bool) {
		for ok := false; !ok; time.Sleep(time.Millisecond) {
			db.groups.mu.Lock()
			ok = cond(&db.groups)
			db.groups.mu.Unlock()
		}
	}
	must(t, put("1"))
	var wg sync.WaitGroup
	var errs [3]error
	reached, release := stopLogSync(fsys, nil)
	wg.Go(func() { errs[0] = put("2") })
	<-reached
	wg.Go(func() { errs[1] = db.Sync() })
	until(func(g *groups) bool { return len(g.sealed) == 2 }) // the group of "2", and the stand-in
	wg.Go(func() { errs[2] = put("3") })
	until(func(*groups) bool { return db.head.tx == 3 })

	again, releaseAgain := stopLogSync(fsys, nil)
	close(release)
	<-again // "2" has been acknowledged, "3" has not
	must(t, db.View(func(tx *Tx) error {
		if v := tx.Root().Get([]byte("a")); tx.ID() != 2 || string(v) != "2" {
			t.Errorf("transaction %d has %q", tx.ID(), v)
		}
		return nil
	}))
	close(releaseAgain)
	wg.Wait()
	must(t, errors.Join(errs[:]...))
	must(t, db.Check())
}

// A leader hands the lead to one of those who came during its sync (case F6 of RELIABILITY.md): nobody else would sync for them.
func TestLeadIsHandedOn(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "k", "0") // makes the log
	reached, release := stopLogSync(fsys, nil)
	var all sync.WaitGroup
	put := func(key string) { all.Go(func() { mustPut(t, db, key, "v") }) }
	put("first")
	<-reached
	put("second")
	put("third")
	for waiting := 0; waiting < 2; { // both have joined the open group, and wait for it
		runtime.Gosched()
		db.groups.mu.Lock()
		if db.groups.open != nil {
			waiting = db.groups.open.waiters
		}
		db.groups.mu.Unlock()
	}
	close(release)
	all.Wait()
	fsys.before.Store(nil)
	must(t, db.Check())
}

// The log grows while a commit reserves room in it, and the sync for that fails. The handle once went on without being poisoned, and
// every write was told of the log's failure anew.
func TestFailedSyncOfLogGrowthPoisons(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys})
	mustPut(t, db, "k", "v")
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindSync && isLog(f) {
			return syscall.ENOSPC
		}
		return nil
	})
	fsys.before.Store(&hook)
	err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("large"), make([]byte, 200<<10)) })
	fsys.before.Store(nil)
	if !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the commit that needed the room: %v", err)
	}
	if err := db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("k"), nil) }); !errors.Is(err, ErrPoisoned) {
		t.Errorf("the next one: %v", err)
	}
}

// Transactions that came while the log was synced joined one group, however large they were together: three of 0.8 GiB, which large limits allow, were more than a
// record may have, and poisoned the store. Found by a reviewer.
func TestGroupIsBounded(t *testing.T) {
	fsys := newHookFS()
	const most = 100 << 10
	db := mustOpen(t, &Options{fs: fsys, mostGroup: most})
	mustPut(t, db, "first", "v")
	must(t, db.log.Reserve(4<<20)) // growing the log would wait for its sync
	in, out := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	hook := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindSync && isLog(f) && held.CompareAndSwap(false, true) {
			close(in)
			<-out
		}
		return nil
	})
	fsys.before.Store(&hook)
	errs := make(chan error)
	put := func(i int) {
		errs <- db.Update(func(tx *Tx) error { return tx.Root().Put([]byte{byte(i)}, make([]byte, 1500)) })
	}
	go put(0)
	waitFor(t, "the log's sync", in)
	const n = 200
	for i := range n {
		go put(i + 1)
	}
	largest := int64(0)
	for joined := 0; joined < n; time.Sleep(time.Millisecond) {
		db.groups.mu.Lock()
		joined = int(db.last) - 2
		if g := db.groups.open; g != nil {
			largest = max(largest, g.log.Size())
		}
		db.groups.mu.Unlock()
	}
	close(out)
	for range n + 1 {
		must(t, <-errs)
	}
	if largest == 0 || largest > most {
		t.Errorf("the largest group has %d bytes", largest)
	}
	must(t, db.Check())
}
