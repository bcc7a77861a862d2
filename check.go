package folio

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime/debug"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

// audit walks everything that one state reaches, accounts for each page, and collects what is wrong.
type audit struct {
	file string
	end  page.ID
	size int // of a page
	view *page.View
	w    btree.Writer
	used pageSet // pages reached so far
	errs []error
}

// maxFindings bounds the findings of one audit: a file of garbage would have millions.
const maxFindings = 1000

// pageSet is a set of page ids, one bit each.
type pageSet []uint64

func newPageSet(end page.ID) pageSet { return make(pageSet, (uint64(end)+63)/64) }

func (s pageSet) has(id page.ID) bool { return s[id/64]&(1<<(id%64)) != 0 }
func (s pageSet) add(id page.ID)      { s[id/64] |= 1 << (id % 64) }

func (a *audit) found(e *page.CorruptError) {
	if len(a.errs) >= maxFindings {
		return
	}
	if e.File == "" {
		e.File = a.file
	}
	a.errs = append(a.errs, outer(e))
}

// claim notes that a node, or a run of n pages, is reached; false: it cannot be, or was already. What is wrong then is said of
// the place in the file that names it.
func (a *audit) claim(id page.ID, n uint64, run bool, at btree.Place) bool {
	wrong := func(reason string) bool {
		what := fmt.Sprintf("node %d", id)
		if run {
			what = fmt.Sprintf("run of %d pages at page %d", n, id)
		}
		if at == (btree.Place{}) {
			at = btree.Place{Page: id, Offset: -1}
		}
		a.found(&page.CorruptError{Page: at.Page, Offset: at.Offset, Invariant: 1, Reason: what + reason})
		return false
	}
	if id < page.FirstID || uint64(id)+n > uint64(a.end) {
		return wrong(fmt.Sprintf(" lies outside the %d pages of the file", a.end))
	}
	for i := page.ID(0); uint64(i) < n; i++ {
		if a.used.has(id + i) {
			return wrong(fmt.Sprintf(": page %d is reached twice", id+i))
		}
	}
	for i := page.ID(0); uint64(i) < n; i++ {
		a.used.add(id + i)
	}
	return true
}

// bucket audits a bucket's tree and then the buckets inside it, which wait in a list: a file can nest
// them deeper than a stack is. at is where the header lies.
func (a *audit) bucket(root page.BucketHeader, at btree.Place) {
	waiting := []entry{{header: root, at: at}}
	for len(waiting) > 0 {
		next := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		var t btree.Tree
		t.Init(next.header, next.image, a.view, a.w)
		t.Check(btree.Checker{
			Found: a.found,
			Root:  next.at,
			Page: func(id page.ID, level int, at btree.Place) bool {
				return a.claim(id, 1, false, at)
			},
			Run: func(r page.Ref, n int, at btree.Place) bool {
				return a.claim(r.ID, page.RunPages(uint64(n), a.size), true, at)
			},
			Bucket: func(name, value []byte, at btree.Place) {
				if len(value) < page.BucketHeaderSize {
					return // reported by the tree
				}
				h, image := page.DecodeBucket(value)
				waiting = append(waiting, entry{h, image, at})
			},
		})
	}
}

// entry is a bucket that is still to be audited.
type entry struct {
	header page.BucketHeader
	image  page.Leaf
	at     btree.Place // where the header lies
}

// err returns all findings as one error.
func (a *audit) err() error { return errors.Join(a.errs...) }

func (db *DB) newAudit(view *page.View, w btree.Writer, end page.ID) *audit {
	return &audit{file: filepath.Base(db.path), size: db.pageSize, view: view, w: w, end: end, used: newPageSet(end)}
}

// audit audits what the transaction sees, and then does what else is asked.
func (tx *Tx) audit(then func(*audit)) (err error) {
	var a *audit
	var o *overlay
	if tx.snapshot != nil {
		o = tx.snapshot.overlay
	}
	switch {
	case tx.writing != nil:
		a = tx.db.newAudit(&tx.db.pager.view, &tx.db.pager, tx.db.free.End())
	case o != nil:
		a = tx.db.newAudit(&o.view, o, tx.pageEnd())
	default:
		a = tx.db.newAudit(&tx.snapshot.view, nil, tx.pageEnd())
	}
	defer func() { err = errors.Join(a.err(), err) }()
	defer tx.catchError(debug.SetPanicOnFault(true), &err)
	a.bucket(tx.root.header(), btree.Place{}) // the newest state's header need not lie in a file
	if then != nil {
		then(a)
	}
	return nil
}

// Check verifies the state that the transaction sees: every page reached once and sound, keys in order, counts
// right. It returns nil, or an error that unwraps, in several steps, to every finding, each a *CorruptError that
// cites an invariant of ARCHITECTURE.md. DB.Check also accounts for the pages that are not reached.
func (tx *Tx) Check() (err error) {
	if tx.done.Load() {
		return ErrTxClosed
	}
	if tx.writing != nil {
		defer tx.catchError(debug.SetPanicOnFault(true), &err)
		if tx.failed != nil {
			return tx.failed
		}
		if err := tx.enterTree(); err != nil {
			return err
		}
		if err := tx.root.flush(false); err != nil {
			return tx.doom(err)
		}
	}
	return tx.audit(nil)
}

// Check verifies the whole store: what Tx.Check does, for the newest state, and that every other page
// is exactly one of: meta, free, retained for a reader or a checkpoint, of a free set, or allocated since. It makes
// all commits so far durable, and then runs beside readers and writers. It reads every page that is in use. A
// store that refuses writes (ErrPoisoned), or that another process writes, is checked without the account; the log is not looked at
// beside a process that writes.
func (db *DB) Check() error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	switch {
	case db.opts.ReadOnly:
		_, err := db.checkPersisted()
		return err
	case db.poisoned() != nil || db.withoutSet:
		return db.View((*Tx).Check)
	}
	tx, account, err := db.accountedView()
	if errors.Is(err, ErrCorrupt) { // without the free set there is no account, but there is the tree
		return errors.Join(outer(db.named(err)), db.View((*Tx).Check))
	}
	if err != nil {
		return outer(db.named(err))
	}
	defer tx.rollback()
	return tx.audit(func(a *audit) { a.account(account.End(), account.InUse) })
}

// accountedView returns a read transaction on the newest commit, and the free list's account of just that
// state. As with a checkpoint, both are taken at the moment of sealing, when no commit is half made, and the state is
// pinned while what it needs is written.
func (db *DB) accountedView() (*Tx, *freelist.Account, error) {
	if err := db.loadFree(); err != nil {
		return nil, nil, err
	}
	if err := db.applyAcknowledged(); err != nil {
		return nil, nil, err
	}
	g := &db.groups
	var s state
	var account *freelist.Account
	var frames []*frame
	var pin *snapshot
	db.append.Lock()
	_, err := db.flushLocked(func() {
		s = db.head
		account = db.free.Account()
		frames = g.gather(s.tx)
		pin = newSnapshot(s, db.data.Map())
		pin.pins[0].n.Store(1)
		g.old = append(g.old, pin)
	})
	db.append.Unlock()
	if err != nil && pin == nil {
		return nil, nil, err
	}
	tx := &Tx{db: db, id: s.tx, snapshot: pin, shard: &pin.pins[0]}
	tx.readRoot()
	if err == nil && db.hasLog.Load() {
		err = db.settle()
	}
	if err == nil {
		err = db.writeChunks(frames)
	}
	if err != nil {
		tx.rollback()
		return nil, nil, err
	}
	return tx, account, nil
}

// What account says of a page, as a whole: no byte of it is wrong.
const (
	neitherNor = "is neither reached nor free"
	bothAnd    = "is reached, and free too"
)

// account holds the pages that were not reached against inUse, which says what the free list makes of each.
func (a *audit) account(end page.ID, inUse func(page.ID) bool) {
	for id := page.FirstID; id < end; id++ {
		reached := id < a.end && a.used.has(id)
		if reached == inUse(id) {
			continue
		}
		reason := neitherNor
		if reached {
			reason = bothAnd
		}
		a.found(&page.CorruptError{Page: id, Offset: -1, Invariant: 1, Reason: reason})
	}
}

// eachFree calls fn for each extent of the free set that a meta slot names. The error is a *CorruptError that says which byte
// of which page is wrong.
func eachFree(view *page.View, m *page.Meta, fn func(freelist.Extent)) error {
	if m.FreeLen == 0 {
		return nil
	}
	set, err := view.Run(m.Free, int(min(m.FreeLen, math.MaxInt32)))
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) {
			c.Reason = "free set: " + c.Reason
		}
		return err
	}
	return freelist.EachExtent(set, newSlot(*m).own, m.Pages, m.PageSize, func(e freelist.Extent) string {
		fn(e)
		return ""
	})
}

// CheckFile checks the store at path as DB.Check does, opened for reading, and goes on where Open refuses it: of a store whose
// log is damaged, or that cannot be replayed, it checks the newest sound checkpoint, and of one that was cut what is left of
// it. It returns the number of pages in that state and, as DB.Check, an error that unwraps to every finding; what Open says
// comes first. opts may be nil; ReadOnly is set. An error that is not ErrCorrupt is one of Open, or of the disk.
func CheckFile(path string, opts *Options) (pages int, err error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.ReadOnly = true
	db, refused := Open(path, &o)
	for _, more := range []*bool{&o.withoutLog, &o.allowCut} {
		if db == nil && errors.Is(refused, ErrCorrupt) {
			*more = true
			db, _ = Open(path, &o) // what refused it first is what counts
		}
	}
	if db == nil {
		return 0, refused
	}
	pages, found := db.checkPersisted()
	return pages, errors.Join(refused, without(found, refused), db.Close())
}

// without returns the findings in err, but for one that has been told as told.
func without(err, told error) error {
	var known *CorruptError
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || !errors.As(told, &known) {
		return err
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		var c *CorruptError
		_, several := e.(interface{ Unwrap() []error })
		switch {
		case several:
			rest = append(rest, without(e, told))
		case !errors.As(e, &c) || c.Page != known.Page || c.Offset != known.Offset || c.Reason != known.Reason:
			rest = append(rest, e)
		}
	}
	return errors.Join(rest...)
}

// checkPersisted is Check for a store opened for reading: of the checkpoint that the data file holds, and then, if
// a log was replayed in memory, of the state behind it. It returns how many pages the newer of the two has.
func (db *DB) checkPersisted() (pages int, err error) {
	for tries := 0; ; tries++ {
		var base *slot
		err = db.View(func(tx *Tx) error {
			pages = int(tx.pageEnd())
			s := tx.snapshot.share
			if s == nil {
				return tx.checkSlot(db.newestSlot())
			}
			if s.base == nil || tries == 10 { // what is free is known to the writer alone
				return tx.Check()
			}
			base = s.base
			return tx.checkSlot(*base)
		})
		// No pin keeps the pages of a free set: a writer that came meanwhile, and made a checkpoint, may have used them again.
		if err == nil || base == nil {
			return pages, err
		}
		if m, other := db.lastCheckpoint(); other != nil || m.Checkpoint == base.meta.Checkpoint {
			return pages, err
		}
	}
}

// pageEnd is behind the last page of what a read transaction sees, which may be in memory only, of a log that was replayed there.
func (tx *Tx) pageEnd() page.ID {
	if tx.snapshot.overlay != nil {
		return tx.snapshot.end
	}
	return tx.snapshot.view.Count()
}

// checkSlot checks what a meta slot says, and the transaction's state if that is another one.
func (tx *Tx) checkSlot(slot slot) error {
	db, m := tx.db, slot.meta
	view := tx.snapshot.m.View(m.Pages)
	end := view.Count() // it is less than the slot says where the file was cut
	free := newPageSet(end)
	add := func(e freelist.Extent) {
		for id := e.Start; id < min(e.Start+e.N, end); id++ {
			free.add(id)
		}
	}
	add(slot.own)
	damaged := outer(db.named(eachFree(&view, &m, add)))
	var c *CorruptError
	if errors.As(damaged, &c) && c.Offset < 0 && c.Err == nil { // it is the slot that cannot be right
		c.Page, c.Offset = slot.id, page.MetaFree
	}
	base := db.newAudit(&view, nil, end)
	base.bucket(m.Root, btree.Place{Page: slot.id, Offset: page.MetaRoot})
	if damaged == nil {
		base.account(end, func(id page.ID) bool { return !free.has(id) })
	}
	if tx.snapshot.overlay == nil {
		return errors.Join(damaged, base.err())
	}
	return errors.Join(damaged, base.err(), tx.Check())
}
