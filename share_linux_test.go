package folio

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// Stores that several processes have open. Most tests have all of them in this one: locks belong to open files, so
// nothing but the registry of open stores tells the difference.

// openAgain opens a store that this process has open already, as another process would.
func openAgain(t *testing.T, path string, o Options) *DB {
	t.Helper()
	db, err := tryAgain(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tryAgain(path string, o Options) (*DB, error) {
	o.another = true
	return Open(path, &o)
}

// killed lets go of a store as the system does when its process is killed.
func killed(t *testing.T, db *DB) {
	t.Helper()
	if !db.closing.Swap(true) {
		close(db.ended)
	}
	db.background.Wait()
	db.life.Lock() // a timer may be looking at the table
	db.closed.Store(true)
	db.life.Unlock()
	db.share.mu.Lock()
	if db.table != nil {
		must(t, db.table.Kill())
		db.table = nil
		db.share.detached = true
	}
	db.share.mu.Unlock()
	db.attached = false
	must(t, db.release())
}

func TestReaderBesideWriter(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "0")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	has(t, r, "k", "0")
	old, err := r.Begin(false)
	must(t, err)
	for i := 1; i <= 300; i++ {
		v := fmt.Sprint(i)
		mustPut(t, w, "k", v)
		has(t, r, "k", v) // at its next View
		if i%100 == 0 {
			must(t, w.Checkpoint())
		}
	}
	if got := string(old.Root().Get([]byte("k"))); got != "0" {
		t.Errorf("the old snapshot has %q", got)
	}
	must(t, errors.Join(old.Check(), r.Check(), w.Check()))
	must(t, old.Rollback())
	if s := r.Stats(); s.LastTx != w.Stats().LastTx || s.OpenReaders != 0 {
		t.Errorf("stats of the reader: %+v", s)
	}
	if err := r.Update(func(*Tx) error { return nil }); !errors.Is(err, ErrDatabaseReadOnly) {
		t.Errorf("update: %v", err)
	}
	must(t, r.Close())
	must(t, w.Close())
	if _, err := os.Stat(lockName(w.Path())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock file: %v", err)
	}
}

// A snapshot that is read in another process keeps its pages, and only as long as it is read.
func TestReaderRetains(t *testing.T) {
	w := mustOpen(t, nil)
	fill := func(seed uint64) {
		must(t, w.Update(func(tx *Tx) error {
			r := rand.New(rand.NewPCG(seed, 1))
			for i := range 2000 {
				if err := tx.Root().Put(fmt.Appendf(nil, "%06d", i), fmt.Appendf(nil, "%064x", r.Uint64())); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	fill(1)
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	tx, err := r.Begin(false)
	must(t, err)
	want := string(tx.Root().Get([]byte("000777")))
	for seed := range uint64(20) {
		fill(seed + 2)
		if seed%5 == 0 {
			must(t, w.Checkpoint())
		}
	}
	if got := string(tx.Root().Get([]byte("000777"))); got != want {
		t.Errorf("the snapshot has changed: %s, was %s", got, want)
	}
	must(t, errors.Join(tx.Check(), w.Check()))
	before := w.Stats().RetainedPages
	must(t, tx.Rollback())
	for seed := range uint64(2000) { // until the reader has let go
		if seed > 0 {
			time.Sleep(time.Millisecond)
		}
		must(t, w.Checkpoint())
		fill(seed + 100)
		if w.Stats().RetainedPages < before {
			return
		}
	}
	t.Errorf("%d pages retained, %d before the reader ended", w.Stats().RetainedPages, before)
}

// A commit that nobody has looked at is in the log and on the writer's heap alone. Who attaches then must be shown it,
// although nothing else happens in the writer (D2).
func TestAttachToIdleWriter(t *testing.T) {
	w := mustOpen(t, nil)
	for i := range 50 {
		mustPut(t, w, "k", fmt.Sprint(i))
		r := openAgain(t, w.Path(), Options{ReadOnly: true})
		has(t, r, "k", fmt.Sprint(i))
		must(t, r.Close())
	}
}

// While nobody writes, a reader goes on with what it has; the next writer comes, and it sees that one's commits.
// barredFS lets nobody write a lock file.
type barredFS struct{ vfs.FS }

func (b barredFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if strings.HasSuffix(name, "-lock") && flag&os.O_RDWR != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return b.FS.Open(name, flag, perm)
}

// Who might read the data file and not write the lock file was told that another process held the store, and by folio that he might end it. It
// was a service that was in nobody's way: what he lacked was a permission.
func TestReaderWithoutPermission(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "0")
	for _, o := range []Options{{ReadOnly: true}, {Private: true}} {
		o.fs, o.LockTimeout = barredFS{vfs.OS}, time.Millisecond
		db, err := tryAgain(w.Path(), o)
		if err == nil {
			db.Close()
		}
		var locked *LockedError
		if !errors.Is(err, ErrTimeout) || !errors.As(err, &locked) || !errors.Is(err, fs.ErrPermission) ||
			!strings.Contains(err.Error(), "permission to write its lock file: open "+w.Path()+"-lock") {
			t.Errorf("beside a writer: %v", err)
		}
	}
	path := w.Path()
	must(t, w.Close())
	r := openAgain(t, path, Options{ReadOnly: true, fs: barredFS{vfs.OS}})
	has(t, r, "k", "0")
	_, err := tryAgain(path, Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, ErrTimeout) || errors.Is(err, fs.ErrPermission) {
		t.Errorf("a writer beside a reader: %v", err)
	}
}

func TestReaderSurvivesWriters(t *testing.T) {
	w := mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "first")
	r := openAgain(t, path, Options{ReadOnly: true})
	has(t, r, "k", "first")
	pinned, err := r.Begin(false)
	must(t, err)
	for i := range 40 {
		before := fmt.Sprint("before ", i)
		mustPut(t, w, "k", before)
		if i%3 == 0 {
			killed(t, w)
		} else {
			must(t, w.Close())
		}
		if _, err := os.Stat(lockName(path)); err != nil {
			t.Fatalf("lock file of a reader that stays: %v", err)
		}
		has(t, r, "k", before)
		must(t, r.Check())
		second := openAgain(t, path, Options{ReadOnly: true}) // comes while nobody writes
		has(t, second, "k", before)
		w = openAgain(t, path, Options{})
		has(t, w, "k", before)
		after := fmt.Sprint("after ", i)
		mustPut(t, w, "k", after)
		has(t, r, "k", after)
		has(t, second, "k", after)
		must(t, errors.Join(second.Close(), w.Check()))
		if got := string(pinned.Root().Get([]byte("k"))); got != "first" {
			t.Fatalf("round %d: the first snapshot has %q", i, got)
		}
		must(t, pinned.Check())
	}
	must(t, pinned.Rollback())
	must(t, errors.Join(w.Check(), w.Close(), r.Close()))
	Reopens(t, path)
}

// A reading process may be the first after a crash: it replays the log in memory, and changes nothing.
func TestReaderFirstAfterCrash(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "a", "checkpointed")
	must(t, w.Checkpoint())
	mustPut(t, w, "b", "logged")
	path := crashCopy(t, w.Path())
	must(t, w.Close())
	before := digest(t, path)
	r := mustOpenAt(t, path, &Options{ReadOnly: true})
	has(t, r, "b", "logged")
	held, err := r.Begin(false)
	must(t, err)
	must(t, r.Check())
	if digest(t, path) != before {
		t.Error("files have changed")
	}
	for i := range 5 {
		w = openAgain(t, path, Options{})
		has(t, w, "b", "logged")
		for k := range 200 {
			mustPut(t, w, fmt.Sprint(k), fmt.Sprint(i, k))
		}
		must(t, w.Checkpoint())
		has(t, r, "199", fmt.Sprint(i, 199))
		if i%2 == 0 {
			killed(t, w)
		} else {
			must(t, w.Close())
		}
		has(t, r, "199", fmt.Sprint(i, 199))
		if got := string(held.Root().Get([]byte("b"))); got != "logged" || held.Root().Get([]byte("199")) != nil {
			t.Errorf("the snapshot of the replay has %q", got)
		}
		must(t, held.Check())
	}
	must(t, held.Rollback())
	must(t, r.Close())
	Reopens(t, path)
}

// A writer cannot show a commit when the data file cannot be written. The commit stands, readers elsewhere wait, and are then told so
// rather than shown an older state; once the disk has recovered they see it.
func TestShowFails(t *testing.T) {
	fs := newHookFS()
	w := mustOpen(t, &Options{fs: fs})
	path := w.Path()
	mustPut(t, w, "k", "shown")
	r := openAgain(t, path, Options{ReadOnly: true, LockTimeout: 20 * time.Millisecond})
	has(t, r, "k", "shown")
	var failing atomic.Bool
	failing.Store(true)
	fail := hookFunc(func(kind vfs.Kind, f vfs.File, off int64, p []byte) error {
		if failing.Load() && kind == vfs.KindWrite && f.Name() == path {
			return syscall.EIO
		}
		return nil
	})
	fs.before.Store(&fail)
	mustPut(t, w, "k", "hidden")
	err := r.View(func(tx *Tx) error {
		t.Errorf("shown %q", tx.Root().Get([]byte("k")))
		return nil
	})
	var locked *LockedError
	if !errors.As(err, &locked) || !errors.Is(err, ErrTimeout) || locked.Holder != os.Getpid() {
		t.Errorf("view of what cannot be shown: %v", err)
	}
	failing.Store(false)
	for i := 0; ; i++ {
		err := r.View(func(tx *Tx) error {
			if v := string(tx.Root().Get([]byte("k"))); v != "hidden" {
				t.Errorf("shown %q", v)
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrTimeout) || i == 1000 {
			t.Fatal(err)
		}
	}
	fs.before.Store(nil)
	must(t, w.Check())
}

// Whoever writes second is told who writes.
func TestSecondWriter(t *testing.T) {
	w := mustOpen(t, nil)
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	_, err := tryAgain(w.Path(), Options{LockTimeout: time.Millisecond})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder != os.Getpid() || locked.Reader {
		t.Errorf("second writer: %v", err)
	}
	has(t, r, "k", "")
	must(t, w.Close())
	w2 := openAgain(t, w.Path(), Options{LockTimeout: time.Millisecond})
	mustPut(t, w2, "k", "v")
	has(t, r, "k", "v")
}

// Locks on the data file tell a writer of readers that came by another name, and have another table.
func TestReaderByAnotherName(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	must(t, w.Close())
	other := filepath.Join(t.TempDir(), "other.db")
	must(t, os.Link(w.Path(), other))
	r := openAgain(t, other, Options{ReadOnly: true})
	has(t, r, "k", "v")
	_, err := tryAgain(w.Path(), Options{LockTimeout: time.Millisecond})
	var locked *LockedError
	if !errors.As(err, &locked) || !locked.Reader {
		t.Errorf("writer by another name: %v", err)
	}
	must(t, r.Close())
	must(t, openAgain(t, w.Path(), Options{}).Close())
}

// While a process is attached the file is not made shorter; afterwards it is.
func TestNoCutBesideReaders(t *testing.T) {
	w := mustOpen(t, &Options{minCut: 1})
	must(t, w.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 3000 && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, 500))
		}
		return err
	}))
	must(t, w.Checkpoint())
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	must(t, w.Update(func(tx *Tx) error { return tx.DeleteBucket([]byte("b")) }))
	size := w.Stats().FileSize
	for range 5 {
		must(t, w.Checkpoint())
	}
	if got := w.Stats().FileSize; got != size {
		t.Errorf("cut from %d to %d bytes beside a reader", size, got)
	}
	must(t, r.Close())
	for range 5 {
		must(t, w.Checkpoint())
	}
	if got := w.Stats().FileSize; got >= size/2 {
		t.Errorf("still %d bytes of %d after the reader left", got, size)
	}
	must(t, w.Check())
}

// A private store beside a writer keeps the snapshot that was newest when it was opened, with its own changes.
func TestPrivateBesideWriter(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "theirs")
	p := openAgain(t, w.Path(), Options{Private: true})
	has(t, p, "k", "theirs")
	for i := range 300 {
		mustPut(t, w, fmt.Sprint(i), fmt.Sprint("w", i))
		mustPut(t, p, fmt.Sprint(i), fmt.Sprint("p", i))
		if i%100 == 0 {
			must(t, errors.Join(w.Checkpoint(), p.Checkpoint(), p.Check(), w.Check()))
		}
	}
	has(t, p, "7", "p7")
	has(t, w, "7", "w7")
	must(t, w.Close())
	has(t, p, "7", "p7")
	must(t, errors.Join(p.Check(), p.Close()))
	Reopens(t, w.Path())
}

// setAmidst makes a store of which the free set lies amidst other pages, and closes it.
func setAmidst(t *testing.T, r *rand.Rand) (path string) {
	t.Helper()
	w := mustOpen(t, nil)
	changeSome(t, w, r, 50, 200)
	must(t, w.Checkpoint())
	must(t, w.Update(func(tx *Tx) error {
		_, err := tx.Root().DeleteRange([]byte("0700"), []byte("0850"))
		return err
	}))
	for range 5 {
		changeSome(t, w, r, 1, 3)
		must(t, w.Checkpoint())
	}
	must(t, w.Close())
	return w.Path()
}

// changeSome sets random keys of 3000.
func changeSome(t *testing.T, db *DB, r *rand.Rand, commits, keys int) {
	t.Helper()
	for range commits {
		must(t, db.Update(func(tx *Tx) error {
			for range keys {
				if err := tx.Root().Put(fmt.Appendf(nil, "%04d", r.IntN(3000)), bytes.Repeat([]byte{byte(r.Uint32())}, 200)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// A private store that was opened while nobody wrote read the free set at its first write. By then a writer, who came later, may have used the set's
// pages again, which no pin keeps: every write and Check was refused for good, as if the store were damaged.
func TestPrivateBeforeWriter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := setAmidst(t, r)
	p := openAgain(t, path, Options{Private: true})
	if own := p.newestSlot().own; own.N == 0 || own.Start+own.N > p.privateFrom {
		t.Fatalf("the free set, %v, is not read from the file's part below page %d", own, p.privateFrom)
	}
	w := openAgain(t, path, Options{})
	for range 12 {
		changeSome(t, w, r, 5, 200)
		must(t, w.Checkpoint())
	}
	before := p.Stats()
	mustPut(t, p, "k", "v")
	if after := p.Stats(); before.BackgroundFail != nil || after.BackgroundFail != nil || before.FreePages == 0 || after.FreePages > before.FreePages {
		t.Errorf("before a write: %d pages are free, %v; behind it: %d, %v", before.FreePages, before.BackgroundFail, after.FreePages, after.BackgroundFail)
	}
	has(t, p, "k", "v")
	must(t, errors.Join(p.Check(), p.Close(), w.Check(), w.Close()))
	Reopens(t, path)
}

// amidFS calls between before a page is first touched, once.
type amidFS struct {
	vfs.FS
	between atomic.Pointer[func()]
}

type amidFile struct {
	vfs.File
	fs *amidFS
}

type amidMapping struct {
	vfs.Mapping
	fs *amidFS
}

func (a *amidFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := a.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &amidFile{f, a}, nil
}

func (f *amidFile) Map(n int64) (vfs.Mapping, error) {
	m, err := f.File.Map(n)
	if err != nil {
		return nil, err
	}
	return &amidMapping{m, f.fs}, nil
}

func (m *amidMapping) Populate(off, n int64) error {
	if fn := m.fs.between.Swap(nil); fn != nil {
		(*fn)()
	}
	return m.Mapping.Populate(off, n)
}

// Check of a store that nobody wrote took the pages of the free set for damaged, when a writer had come after the check had begun, and had used
// them again.
func TestCheckBeforeWriter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := setAmidst(t, r)
	between := &amidFS{FS: vfs.OS}
	p := openAgain(t, path, Options{ReadOnly: true, fs: between})
	s := p.published.Load()
	came := false
	comes := func() {
		came = true
		w := openAgain(t, path, Options{})
		for range 12 {
			changeSome(t, w, r, 5, 200)
			must(t, w.Checkpoint())
		}
	}
	between.between.Store(&comes)
	must(t, p.Check())
	if !came {
		t.Error("no page was touched for the first time")
	}
	if tx, err := p.Begin(false); err != nil || tx.snapshot == s {
		t.Errorf("the writer has shown nothing: %v", err)
	} else {
		must(t, tx.Rollback())
	}
	must(t, p.Close())
}

// What a failed sync lost of relaxed commits other processes may have been shown. The next writer's states have higher
// numbers than all of those.
func TestNumbersAfterLostCommits(t *testing.T) {
	w := mustOpen(t, nil)
	path := w.Path()
	mustPut(t, w, "k", "durable")
	r := openAgain(t, path, Options{ReadOnly: true})
	var lost TxID
	must(t, w.Update(func(tx *Tx) error {
		tx.SetDurability(Relaxed)
		lost = tx.ID()
		return tx.Root().Put([]byte("k"), []byte("relaxed"))
	}))
	has(t, r, "k", "relaxed")
	held, err := r.Begin(false)
	must(t, err)
	// The log as it would be without the last record.
	killed(t, w)
	log, err := os.OpenFile(logName(path), os.O_RDWR, 0)
	must(t, err)
	b, err := os.ReadFile(logName(path))
	must(t, err)
	last := 0
	for at := 4096; at+512 <= len(b); at += 512 {
		if string(b[at:at+4]) == "OWAL" {
			last = at
		}
	}
	_, err = log.WriteAt(make([]byte, 512), int64(last))
	must(t, errors.Join(err, log.Close()))
	w = openAgain(t, path, Options{})
	has(t, w, "k", "durable")
	has(t, r, "k", "durable")
	if got := w.Stats().LastTx; got <= lost {
		t.Errorf("the recovered state is number %d, %d was shown", got, lost)
	}
	for i := range 100 {
		mustPut(t, w, "k", fmt.Sprint(i))
		has(t, r, "k", fmt.Sprint(i))
	}
	if got := string(held.Root().Get([]byte("k"))); got != "relaxed" {
		t.Errorf("the snapshot of the lost commit has %q", got)
	}
	must(t, held.Check())
	killed(t, w) // and its log is replayed again
	w = openAgain(t, path, Options{})
	has(t, w, "k", "99")
	must(t, errors.Join(held.Rollback(), w.Check(), w.Close(), r.Close()))
	Reopens(t, path)
}

// Readers and Stats tell of other processes, and so does the table to them.
func TestReadersElsewhere(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	tx, err := r.Begin(false)
	must(t, err)
	own, err := w.Begin(false)
	must(t, err)
	list := w.Readers()
	if len(list) != 2 || list[0].Tx != tx.ID() || list[1].Tx != own.ID() {
		t.Fatalf("readers: %v", list)
	}
	if s := w.Stats(); s.Processes != 1 || s.OldestReader != tx.ID() || s.Oldest != list[0] {
		t.Errorf("stats: %+v", s)
	}
	// What they keep is told to others in the background, as commits come.
	third := openAgain(t, w.Path(), Options{ReadOnly: true})
	for i := 0; ; i++ {
		mustPut(t, w, "k", fmt.Sprint(i))
		list := third.Readers()
		n := 0
		for _, r := range list {
			if r.Tx == own.ID() && r.Retained > 0 && r.PID == os.Getpid() {
				n++
			}
		}
		if n > 0 {
			break
		}
		if i == 20000 {
			t.Fatalf("readers, seen by a third process: %v", list)
		}
		time.Sleep(time.Millisecond)
	}
	// Stats.OldestReader had left out what the writer reads itself, which is in no slot, though Stats.Oldest had it.
	must(t, errors.Join(tx.Rollback(), r.Close()))
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s := third.Stats()
		if s.OldestReader == own.ID() && s.Oldest.Tx == own.ID() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("only the writer reads, TxID %d: oldest %d, %v", own.ID(), s.OldestReader, s.Oldest)
		}
	}
	must(t, own.Rollback())
}

// Others were told what a writer reads itself only by a commit, only if they were attached by then, and not by each one: folio readers, which attaches for a moment, saw
// nothing of a transaction that a writer at rest held open. Once told of, it was told of until the next commit, though it had ended, or the
// writer had been killed.
func TestReadersOfIdleWriter(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	mustPut(t, w, "k", "w") // right before, so that the next one is not looked at
	tx, err := w.Begin(false)
	must(t, err)
	mustPut(t, w, "k", "x")
	look := func() (list []Reader) {
		r := openAgain(t, w.Path(), Options{ReadOnly: true})
		list = r.Readers()
		must(t, r.Close())
		return list
	}
	wait := func(what string, ok func(list []Reader) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			list := look()
			if ok(list) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v", what, list)
			}
		}
	}
	wait("a transaction that is held open", func(l []Reader) bool {
		return len(l) == 1 && l[0].Tx == tx.ID() && l[0].Count == 1 && l[0].Retained > 0
	})
	must(t, tx.Rollback())
	wait("after its end", func(l []Reader) bool { return len(l) == 0 })

	_, err = w.Begin(false)
	must(t, err)
	mustPut(t, w, "k", "y")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	wait("another one", func(l []Reader) bool { return len(l) > 0 })
	killed(t, w)
	if l := r.Readers(); len(l) > 0 {
		t.Errorf("after the writer's death: %v", l)
	}
}

// shareFS gives an error of the disk where memory is to be shared.
type shareFS struct{ vfs.FS }

func (s shareFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := s.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return shareFile{f}, nil
}

type shareFile struct{ vfs.File }

func (shareFile) Share(int64) (vfs.Shared, error) { return nil, syscall.EIO }

// An error of the disk once passed for a system that cannot share memory: the store was opened for one process.
func TestShareErrorIsTold(t *testing.T) {
	db := mustOpen(t, nil)
	must(t, db.Close())
	for _, o := range []Options{{}, {ReadOnly: true}, {Private: true}} {
		o.fs = shareFS{vfs.OS}
		if _, err := Open(db.Path(), &o); !errors.Is(err, syscall.EIO) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// growingFS has the file grow, and a checkpoint say so, between a look at its size and the read of the meta slots.
type growingFS struct {
	vfs.FS
	grow func()
}

func (g *growingFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := g.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &growingFile{f, g}, nil
}

type growingFile struct {
	vfs.File
	g *growingFS
}

func (f *growingFile) ReadAt(p []byte, off int64) (int, error) {
	if grow := f.g.grow; grow != nil && off == 0 {
		f.g.grow = nil
		grow()
	}
	return f.File.ReadAt(p, off)
}

// Who attached while the file grew was told that it had been cut: he had looked at its size before he read the slots.
func TestAttachWhileTheFileGrows(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	grow := func() {
		must(t, w.Update(func(tx *Tx) error { return tx.Root().Put([]byte("large"), make([]byte, 4<<20)) }))
		must(t, w.Checkpoint())
	}
	r := openAgain(t, w.Path(), Options{ReadOnly: true, fs: &growingFS{vfs.OS, grow}})
	has(t, r, "k", "v")
	must(t, r.Check())
}

// Close let go of old snapshots while the timer that does the same was at it, and came upon one that was gone.
func TestCloseBesideTidy(t *testing.T) {
	w := mustOpen(t, nil)
	for i := range 100 {
		r := openAgain(t, w.Path(), Options{ReadOnly: true})
		for range 20 {
			mustPut(t, w, "k", fmt.Sprint(i))
			has(t, r, "k", fmt.Sprint(i))
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for !r.closed.Load() {
				r.tidy()
			}
		}()
		must(t, r.Close())
		<-done
	}
}

// Nobody reads in the process that writes, but another one does: for that one, too, the work of publishing is done while the log is synced.
func TestPrepublishForOthers(t *testing.T) {
	fsys := newHookFS()
	w := mustOpen(t, &Options{fs: fsys})
	mustPut(t, w, "k", "1")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	tx, err := r.Begin(false)
	must(t, err)
	defer tx.Rollback()
	mustPut(t, w, "k", "2") // published for the other process, and read by nobody here
	reached, release := stopLogSync(fsys, nil)
	var commit sync.WaitGroup
	commit.Go(func() { mustPut(t, w, "k", "3") })
	<-reached
	if n := late(w); n != 0 {
		t.Errorf("%d operations are not in the tree", n)
	}
	has(t, r, "k", "2")
	close(release)
	commit.Wait()
	has(t, r, "k", "3")
}
