package folio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// failWork is a workload of the matrix.
type failWork struct {
	name     string
	profile  crashProfile
	opts     Options
	threads  bool
	before   func(r *crashRun)                     // makes a store, of which the process is killed then; nil: there is none
	spoil    func(t *testing.T, path string)       // changes its files
	under    func(fsys vfs.FS, path string) vfs.FS // a file system that behaves in another way
	expected []error                               // that the workload is told although nothing has failed
	run      func(f *failRun)

	files map[string][]byte // what before has left
	acked uint64
}

// prepare makes the files of a run in a new directory.
func (w *failWork) prepare(t *testing.T, dir string) *failRun {
	sub, err := os.MkdirTemp(dir, "")
	must(t, err)
	if w.files == nil {
		w.files = map[string][]byte{}
		if w.before != nil || w.spoil != nil {
			w.make(t, filepath.Join(sub, "made"))
		}
	}
	f := &failRun{crashRun: w.newRun(filepath.Join(sub, "app.db")), w: w, lo: w.acked, hi: w.acked, steps: map[string]*failStep{}, opened: time.Now()}
	for name, b := range w.files {
		must(t, os.WriteFile(filepath.Join(sub, name), b, 0o600))
	}
	var under vfs.FS = vfs.OS
	if w.under != nil {
		under = w.under(under, f.path)
	}
	f.leak = &leakFS{FS: under}
	f.failer = vfs.NewFailer(f.leak)
	f.failer.Watch(f.struck)
	f.fs, f.marked, f.watched, f.failing = f.failer, f.marks, f.watch, true
	return f
}

// newRun is a run of the workload's timeline.
func (w *failWork) newRun(path string) *crashRun {
	r := &crashRun{opts: w.opts, path: path, line: &crashLine{seed: *crashSeed, profile: w.profile}}
	r.opts.leastSet = crashSet(*crashSeed, w.name)
	random := atomic.Uint64{}
	r.opts.random = func() uint64 { return *crashSeed*0x9e3779b97f4a7c15 + random.Add(1) }
	setDefault(&r.opts.LockTimeout, 5*time.Second) // nobody waits so long, unless a lock was left behind
	r.opts.reservation = max(w.opts.reservation, 256<<10)
	r.opts.minCut = 16 << 10
	r.opts.alone, r.opts.busy = true, true // busy: what a checkpoint does beside commits is done in every run
	return r
}

// make makes the files that every run begins with, and keeps them.
func (w *failWork) make(t *testing.T, dir string) {
	must(t, os.Mkdir(dir, 0o700))
	r := w.newRun(filepath.Join(dir, "app.db"))
	r.fs, r.opts.ReadOnly, r.opts.Private = vfs.OS, false, false
	r.marked = func(kind string, n uint64) {
		if kind == "ack" {
			w.acked = n
		}
	}
	if w.before != nil {
		r.open()
		w.before(r)
		must(t, r.err())
		failKill(r.db)
	}
	if w.spoil != nil {
		w.spoil(t, r.path)
	}
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), "-lock") {
			w.files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
		}
	}
	must(t, os.RemoveAll(dir))
}

// failWorks are the workloads of the crash tests, and those that do what a power cut says nothing about.
func failWorks() []*failWork {
	var works []*failWork
	for _, c := range crashWorks {
		w := &failWork{name: c.name, profile: c.profile, opts: c.opts, threads: c.threads}
		if c.slow != nil {
			w.under = func(fsys vfs.FS, _ string) vfs.FS { return crashSlowFS{fsys, c.slow, 3, new(atomic.Int64)} }
		}
		w.run = func(f *failRun) {
			if f.open(); f.db != nil {
				c.run(f.crashRun)
			}
		}
		works = append(works, w)
	}
	for _, w := range moreFailWorks {
		if w.profile == nil {
			w.profile = crashSmall
		}
		works = append(works, &w)
	}
	return works
}

// look opens the store, looks at it and closes it.
func look(f *failRun) {
	f.open()
	f.view()
	f.check()
	f.close()
}

// goOn opens the store, commits and closes it.
func goOn(f *failRun) {
	f.open()
	f.view()
	f.commit(2)
	f.view()
	f.close()
}

func (f *failRun) check() {
	if f.db != nil {
		f.note(f.call("check", f.db.Check))
	}
}

// commits makes a few transactions, and leaves them in the log.
func commits(r *crashRun) { r.commit(6) }

// someInLog makes transactions of which the data file has most.
func someInLog(r *crashRun) {
	r.commit(12)
	r.checkpoint()
	r.commit(3)
}

// closed makes a few transactions, and closes the store.
func closed(r *crashRun) {
	r.commit(6)
	r.close()
}

var moreFailWorks = []failWork{
	{name: "empty file", spoil: func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, run: goOn},
	{name: "open", before: closed, run: goOn},
	{name: "recover", before: commits, run: goOn},
	{name: "recover and spill", profile: crashSpill, opts: Options{MemoryLimit: minLimit, LogLimit: 4 << 20}, before: func(r *crashRun) { r.commit(4) }, run: look},
	{name: "recover what was bulk", profile: crashBulk, opts: Options{LogLimit: minLimit}, before: func(r *crashRun) { r.commit(5) }, run: goOn},
	{name: "recover into a full log", before: commits, spoil: spoilLogFull, run: goOn},
	{name: "slots differ", before: commits, spoil: spoilSecondSlot, run: goOn},
	{name: "slot damaged", before: closed, spoil: func(t *testing.T, path string) { spoilByte(t, path, 100) }, run: goOn},
	{name: "other slot damaged", before: commits, spoil: func(t *testing.T, path string) { spoilByte(t, path, 4096+100) }, run: goOn},
	{name: "log left over", before: closed, spoil: func(t *testing.T, path string) {
		spoilByte(t, path, 100)
		must(t, os.WriteFile(logName(path), make([]byte, 4096), 0o600))
	}, run: goOn},
	{name: "read only", opts: Options{ReadOnly: true}, before: closed, run: look},
	{name: "read only, and ahead", opts: Options{ReadOnly: true}, profile: crashSpill, before: func(r *crashRun) { r.commit(4); r.close() }, run: look},
	{name: "read only with a log", opts: Options{ReadOnly: true}, before: commits, run: look},
	// Case D7 of RELIABILITY.md.
	{name: "read only without a table", opts: Options{ReadOnly: true}, before: commits, under: withoutTable, run: look},
	{name: "without a table", before: commits, under: withoutTable, run: goOn},
	{name: "private", opts: Options{Private: true}, before: commits, run: failPrivate},
	{name: "private of a clean store", opts: Options{Private: true}, before: closed, run: failPrivate},
	{name: "reader beside a writer", opts: Options{ReadOnly: true}, before: closed, run: failReader},
	{name: "reader beside a writer of much", opts: Options{ReadOnly: true}, profile: crashLarge, before: closed, run: failReader},
	{name: "writer beside a reader", before: commits, run: failWriter},
	{name: "writer after a writer", before: commits, run: failSecondWriter},
	{name: "doubtful file system", before: commits, under: func(fsys vfs.FS, _ string) vfs.FS { return doubtingFS{fsys} }, run: goOn},
	{name: "moved while it waits", before: closed, under: func(fsys vfs.FS, path string) vfs.FS { return &movedFS{FS: fsys, path: path} }, run: goOn},
	{name: "moved while it waits to read", opts: Options{ReadOnly: true}, before: closed, under: func(fsys vfs.FS, path string) vfs.FS { return &movedFS{FS: fsys, path: path} }, run: failReader},
	{name: "locked", opts: Options{LockTimeout: 10 * time.Millisecond}, before: closed, expected: []error{ErrTimeout}, run: failLocked},
	{name: "locked by a writer", opts: Options{LockTimeout: 10 * time.Millisecond}, before: closed, expected: []error{ErrTimeout}, run: failLockedByWriter},
	{name: "full", opts: Options{MaxSize: 256 << 10, LogLimit: minLimit}, profile: crashRange, expected: []error{ErrMaxSizeReached}, run: func(f *failRun) {
		f.open()
		f.commit(8)
		f.view()
		f.close()
	}},
	{name: "copies of all kinds", before: commits, run: failCopies},
	{name: "salvage", before: commits, run: func(f *failRun) { f.salvage() }},
	{name: "salvage of damage", profile: crashNest, before: someInLog, spoil: func(t *testing.T, path string) { must(t, failHeader[0].flip(path)) }, run: func(f *failRun) { f.salvageAside(failHeader...) }},
	{name: "salvage without slots", profile: crashNest, before: someInLog, spoil: func(t *testing.T, path string) {
		must(t, errors.Join(failSlots[0].flip(path), failSlots[1].flip(path)))
	}, run: func(f *failRun) { f.salvageAside(failSlots...) }},
	{name: "cut", profile: crashNest, before: someInLog, expected: []error{ErrCorrupt}, run: failCut},
	{name: "log of another store", before: commits, expected: []error{ErrCorrupt}, run: failForeignLog},
}

// spoilSecondSlot leaves the files as a crash does between the two slots of a checkpoint, behind a recovery.
func spoilSecondSlot(t *testing.T, path string) {
	data, log := readFile(t, path), readFile(t, logName(path))
	for n := 1; n < 1000; n++ {
		must(t, os.WriteFile(path, data, 0o600))
		must(t, os.WriteFile(logName(path), log, 0o600))
		failer := vfs.NewFailer(vfs.OS, vfs.Rule{Kinds: failWrites, Name: ".db", Nth: n, Forever: true})
		db, err := Open(path, &Options{fs: failer})
		if err == nil {
			err = db.Checkpoint()
			failKill(db)
		}
		if err == nil {
			break
		}
		b := readFile(t, path)
		first, err1 := page.DecodeMeta(b, 0)
		second, err2 := page.DecodeMeta(b[first.PageSize:], 1)
		if err := errors.Join(err1, err2); err == nil && first.Checkpoint != second.Checkpoint {
			return
		}
	}
	t.Fatal("slots never differ")
}

// spoilLogFull recovers the store again and again, and does nothing with it. Each time that leaves a link in the log,
// until the next one makes the log longer; that is undone.
func spoilLogFull(t *testing.T, path string) {
	size := func() int64 {
		info, err := os.Stat(logName(path))
		must(t, err)
		return info.Size()
	}
	for range 1000 {
		was, b := size(), readFile(t, logName(path))
		db, err := Open(path, &Options{alone: true}) // else it is emptied
		must(t, err)
		failKill(db)
		if size() > was {
			must(t, os.WriteFile(logName(path), b, 0o600))
			return
		}
	}
	t.Fatal("the log is never full")
}

// failPrivate writes to a private store, which nobody sees.
func failPrivate(f *failRun) {
	if f.open(); f.db == nil {
		return
	}
	f.view()
	for i := range 3 {
		f.note(f.call("private commit", func() error {
			return f.db.Update(func(tx *Tx) error {
				return tx.Root().Put(fmt.Appendf(nil, "private%d", i), make([]byte, 100<<10))
			})
		}))
	}
	f.check()
	f.note(f.call("checkpoint", f.db.Checkpoint))
	f.note(f.call("close", f.db.Close))
	f.db = nil
}

// failReader reads beside a process that writes.
func failReader(f *failRun) {
	w := f.beside(Options{})
	if w == nil {
		return
	}
	write := func() {
		k, err := f.line.commit(w, Sync, func(k uint64) { f.marks("begin", k) })
		if err != nil {
			f.problem("the writer: %v", err)
			return
		}
		f.marks("ack", k)
	}
	write()
	f.open()
	for range 3 {
		f.view()
		write()
	}
	f.view()
	tx := f.begin()
	for range 30 {
		write()
	}
	f.view()
	if tx != nil {
		f.compare(tx)
		tx.Rollback()
	}
	time.Sleep(2 * letGo)
	f.view()
	f.close()
}

// failWriter writes beside processes that read, come and go.
func failWriter(f *failRun) {
	if f.open(); f.db == nil {
		return
	}
	f.commit(1)
	r := f.beside(Options{ReadOnly: true})
	f.commit(3)
	f.checkpoint()
	f.commit(1)
	if r != nil {
		failKill(r) // and its slot is in nobody's hands
	}
	f.db.watched.Store(0)
	f.commit(2)
	f.db.background.Wait()
	f.checkpoint()
	f.close()
}

// failSecondWriter writes where another process has died, and others still read what that one showed.
func failSecondWriter(f *failRun) {
	w := f.beside(Options{})
	if w == nil {
		return
	}
	r, dead := f.beside(Options{ReadOnly: true}), f.beside(Options{ReadOnly: true})
	if r == nil || dead == nil {
		return
	}
	tx, err := r.Begin(false)
	if err != nil {
		f.problem("the reader: %v", err)
		return
	}
	k, err := f.line.commit(w, Sync, func(k uint64) { f.marks("begin", k) })
	if err != nil {
		f.problem("the writer: %v", err)
		return
	}
	f.marks("ack", k)
	if err := r.View(func(*Tx) error { return nil }); err != nil {
		f.problem("the reader: %v", err)
	}
	failKill(dead)
	failKill(w)
	// The number after this one may be used up without a change, so that it is told from what the dead writer showed.
	f.line.hold(k+1, true)
	f.marks("begin", k+1)
	f.open()
	f.view()
	f.commit(2)
	f.checkpoint()
	if err := errors.Join(crashCompare(tx, f.line), tx.Rollback()); err != nil {
		f.problem("what another process reads has changed: %v", err)
	}
	f.commit(1)
	f.close()
}

// failLocked opens a store that a process has open that does not use the table.
func failLocked(f *failRun) {
	other, err := vfs.OS.Open(f.path, os.O_RDWR, 0)
	if err == nil {
		err = other.Lock(lockReaders, false)
	}
	if err != nil {
		f.problem("%v", err)
		return
	}
	f.open()
	if f.db != nil {
		f.problem("the lock of another process does not count")
	}
	other.Close()
	goOn(f)
}

// failLockedByWriter opens a store that a writer has open.
func failLockedByWriter(f *failRun) {
	w := f.beside(Options{})
	if w == nil {
		return
	}
	f.open()
	if f.db != nil {
		f.problem("the lock of another process does not count")
	}
	failKill(w)
	goOn(f)
}

// failCopies makes copies in all ways, over files that are there too.
func failCopies(f *failRun) {
	if f.open(); f.db == nil {
		return
	}
	f.backup(0)
	f.backup(0) // over the first one
	f.compact(1)
	dir := filepath.Dir(f.path)
	f.note(f.call("backup", func() error { return f.db.Backup(filepath.Join(dir, copyName(2))) }))
	f.refuses("backup", filepath.Join(dir, copyName(0)), f.db.Backup)
	f.refuses("compact", filepath.Join(dir, copyName(0)), f.db.Compact)
	f.refusesOwn(dir)
	f.note(f.call("write to", func() error {
		return f.db.View(func(tx *Tx) error {
			_, err := tx.WriteTo(io.Discard)
			return err
		})
	}))
	f.call("stats", func() error { f.db.Stats(); return nil })
	f.close()
	for i := range 3 {
		f.wholeCopy(filepath.Join(dir, copyName(i)))
	}
}

// refuses makes a copy that must not replace a file.
func (f *failRun) refuses(what, path string, call func(path string) error) {
	f.note(f.call(what, func() error {
		_, missing := os.Stat(path)
		err := call(path)
		switch {
		case missing != nil || err != nil && !errors.Is(err, fs.ErrExist) || f.bad != nil && errors.Is(err, f.bad):
			return err
		case err == nil:
			return fmt.Errorf("%s replaced a file", what)
		}
		return nil
	}))
}

// refusesOwn makes a copy that must not take the place of the log, by another way to its folder.
func (f *failRun) refusesOwn(dir string) {
	way := filepath.Join(dir, "way")
	if os.Symlink(dir, way) != nil {
		return
	}
	defer os.Remove(way)
	f.note(f.call("copy", func() error {
		err := f.db.View(func(tx *Tx) error { return tx.CopyFile(filepath.Join(way, filepath.Base(logName(f.path))), 0) })
		switch {
		case err == nil:
			return errors.New("a copy has the place of the log")
		case f.bad != nil && errors.Is(err, f.bad):
			return err
		}
		return nil
	}))
}

// wholeCopy looks at a copy: it is whole, or not there.
func (f *failRun) wholeCopy(path string) {
	db, err := Open(path, &Options{ReadOnly: true, fs: vfs.OS})
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = db.View(func(tx *Tx) error { return f.line.at(f.lo).compare(tx.Root(), "/") })
		err = errors.Join(err, db.Check(), db.Close())
	}
	if err != nil {
		f.problem("%s: %v", filepath.Base(path), err)
	}
}

// salvage saves a sound store: whole, unless something is said to be lost.
func (f *failRun) salvage() {
	dst := filepath.Join(filepath.Dir(f.path), "saved.db")
	var rep *SalvageReport
	f.note(f.call("salvage", func() (err error) {
		rep, err = Salvage(f.path, dst, &SalvageOptions{fs: f.fs})
		if err != nil {
			return err
		}
		var findings []error
		for _, found := range rep.Findings {
			findings = append(findings, found.Err)
		}
		return errors.Join(findings...)
	}))
	if rep != nil && rep.Complete() {
		f.wholeCopy(dst)
	}
}

// salvageAside saves a damaged store. Then the damage is undone, so that the next process can open it.
func (f *failRun) salvageAside(damage ...failDamage) {
	dst := filepath.Join(filepath.Dir(f.path), "saved.db")
	f.note(f.call("salvage", func() error {
		rep, err := Salvage(f.path, dst, &SalvageOptions{fs: f.fs})
		if err != nil {
			return err
		}
		var findings []error
		for _, found := range rep.Findings {
			findings = append(findings, found.Err)
		}
		if err := errors.Join(findings...); f.bad != nil && errors.Is(err, f.bad) {
			return err
		}
		return nil // what was damaged before is found as well
	}))
	for _, d := range damage {
		if err := d.flip(f.path); err != nil {
			f.problem("%v", err)
		}
	}
}

// failDamage is a byte that is changed, and changed back.
type failDamage struct {
	ext string // of the file
	at  int
}

func (d failDamage) flip(path string) error {
	b, err := os.ReadFile(path + d.ext)
	if err != nil {
		return err
	}
	b[d.at] ^= 1
	return os.WriteFile(path+d.ext, b, 0o600)
}

var (
	failHeader = []failDamage{{"-wal", 20}}
	failSlots  = []failDamage{{"", 100}, {"", 4096 + 100}}
)

// failCut opens a store of which the end is missing, and then the whole one.
func failCut(f *failRun) {
	whole, err := os.ReadFile(f.path)
	if err == nil {
		err = os.Truncate(f.path, 3*4096)
	}
	if err != nil {
		f.problem("%v", err)
		return
	}
	f.open()
	if f.db != nil {
		f.problem("opened a store that was cut")
	}
	if err := os.WriteFile(f.path, whole, 0o600); err != nil {
		f.problem("%v", err)
	}
	goOn(f)
}

// failForeignLog opens the store beside another one's log, which it is to refuse, and puts its own back.
func failForeignLog(f *failRun) {
	own, err := os.ReadFile(logName(f.path))
	if err == nil {
		const sum = 56 // FORMAT.md, "Log header"
		other := slices.Clone(own)
		other[wal.HeaderID] ^= 1
		binary.LittleEndian.PutUint64(other[sum:], xxhash.Sum64(other[:sum]))
		err = os.WriteFile(logName(f.path), other, 0o600)
	}
	if err != nil {
		f.problem("%v", err)
		return
	}
	f.open()
	if f.db != nil {
		f.problem("opened a store with the log of another")
	}
	if err := os.WriteFile(logName(f.path), own, 0o600); err != nil {
		f.problem("%v", err)
	}
	goOn(f)
}

// withoutTable is a file system on which processes cannot share memory.
func withoutTable(fsys vfs.FS, _ string) vfs.FS { return unsharedFS{fsys} }

type unsharedFS struct{ vfs.FS }

func (u unsharedFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := u.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsharedFile{f}, nil
}

type unsharedFile struct{ vfs.File }

func (unsharedFile) Share(int64) (vfs.Shared, error) { return nil, errors.ErrUnsupported }

// doubtingFS is one on which a mapping may not show what is written.
type doubtingFS struct{ vfs.FS }

func (d doubtingFS) Open(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return doubtingFile{f}, nil
}

type doubtingFile struct{ vfs.File }

func (f doubtingFile) Medium() (vfs.Medium, error) {
	m, err := f.File.Medium()
	m.Doubtful = true
	return m, err
}

// movedFS says once that the store's name leads nowhere any more.
type movedFS struct {
	vfs.FS
	path string
	done atomic.Bool
}

func (m *movedFS) Stat(name string) (vfs.Info, error) {
	if name == m.path && !m.done.Swap(true) {
		return vfs.Info{}, fs.ErrNotExist
	}
	return m.FS.Stat(name)
}
