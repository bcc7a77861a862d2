package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// SalvageOptions are the settings of Salvage. The zero value of each field is a good default.
type SalvageOptions struct {
	// PageSize of the damaged store in bytes, for when both meta slots are lost. 0: it is found out.
	PageSize int

	// MemoryLimit, FileMode and LockTimeout are as in Options. The first two are of the new store.
	MemoryLimit int64
	FileMode    os.FileMode
	LockTimeout time.Duration

	// Progress, if not nil, is told now and then how many pages have been read, of how many in the file. Both may be
	// passed over: a page can be read more than once.
	Progress func(done, pages int)

	fs vfs.FS
}

// A SalvageFinding is something that is wrong with a damaged store.
type SalvageFinding struct {
	Err    error    // what and where: mostly a *CorruptError, with page, offset and invariant
	Bucket [][]byte // path of the bucket that it concerns, from the root; nil: the root, or all
	Key    []byte   // the item that is lost, of a long key the beginning; nil: not a single one
	From   []byte   // keys from here on are concerned; nil: from the first
	To     []byte   // and below this; nil: to the last
	Range  bool     // From and To mean something
	Items  uint64   // items that are lost, not counting those inside buckets; 0: not known, or none
	Lost   bool     // something is lost, or may be old; else all was saved in spite of it
}

// String returns the finding on one line.
func (f SalvageFinding) String() string {
	var b strings.Builder
	if f.Lost {
		b.WriteString("lost: ")
	} else {
		b.WriteString("note: ")
	}
	b.WriteString(strings.ReplaceAll(strings.TrimPrefix(f.Err.Error(), "folio: "), "\n", "; "))
	if f.Range || f.Key != nil {
		b.WriteString("; bucket /")
		for i, name := range f.Bucket {
			if i > 0 {
				b.WriteByte('/')
			}
			b.WriteString(strings.ReplaceAll(shortKey(name), "/", `\x2f`))
		}
	}
	if f.Key != nil {
		fmt.Fprintf(&b, `, key "%s"`, shortKey(f.Key))
	}
	if f.Range {
		b.WriteString(", keys ")
		switch {
		case f.From == nil && f.To == nil:
			b.WriteString("of any kind")
		case f.To == nil:
			fmt.Fprintf(&b, `from "%s" on`, shortKey(f.From))
		case f.From == nil:
			fmt.Fprintf(&b, `below "%s"`, shortKey(f.To))
		default:
			fmt.Fprintf(&b, `from "%s" to "%s"`, shortKey(f.From), shortKey(f.To))
		}
	}
	if f.Items > 0 {
		fmt.Fprintf(&b, ", items: %d", f.Items)
	}
	return b.String()
}

// shortKey is a key in its escaped form, cut where it is long.
func shortKey(k []byte) string {
	if len(k) > 64 {
		return page.Escape(k[:64]) + "..."
	}
	return page.Escape(k)
}

// SalvageReport is what became of a damaged store.
type SalvageReport struct {
	PageSize int
	Pages    int  // in the file
	Tx       TxID // the last transaction that was saved, as far as it could be read
	Scanned  bool // both meta slots were damaged: the state was found by its pages, and is the newest that looks whole

	Items   uint64 // keys saved in their buckets, of the data file
	Buckets uint64 // buckets saved, of the data file
	Bytes   uint64 // of those keys and their values

	Replayed int // transactions of the log that were applied after that

	LostItems uint64 // items known to be lost, as the counts in the store tell; there may be more

	// LostFound is the name of the bucket in the root in which stands what could be read, but not be said where it
	// belongs: a bucket for each such piece, named after its page. It may hold values that were deleted or replaced.
	// Nil: there was no need of one.
	LostFound      []byte
	LostFoundItems uint64

	// Findings are at most 1000; Omitted counts the others.
	Findings []SalvageFinding
	Omitted  int

	losses int
}

// Complete reports whether all that was in the store has been saved.
func (r *SalvageReport) Complete() bool { return r.losses == 0 }

// Losses is the number of findings, those omitted too, by which something was lost.
func (r *SalvageReport) Losses() int { return r.losses }

func (r *SalvageReport) add(f SalvageFinding) {
	if f.Lost {
		r.losses++
		r.LostItems += f.Items
	}
	if len(r.Findings) >= maxFindings {
		r.Omitted++
		return
	}
	r.Findings = append(r.Findings, f)
}

// Salvage saves what can be read of the store at src, damaged or not, in a new store at dst, which must not exist
// (fs.ErrExist), and says what could not be read. Of a sound store dst becomes a copy, with a store id of its own; but buckets that are nested
// more than 1000 deep go to lost+found. opts may be nil.
//
// src is opened for reading and locked as by a reader; nothing is written to it. A page, a run or a log record is
// believed if its checksum and all that can be told of it are right. Damage costs what lies in it: the rest of the
// tree is found by a look at every page, and put in its place where there is no doubt which that is, else in a
// bucket lost+found. The log is replayed up to the damage in it.
//
// The report is valid even with an error. Errors: ErrInvalid if src is no store, ErrVersionMismatch, *LockedError,
// *CorruptError if nothing at all can be read of it, and those of the file system. With an error there is nothing at
// dst, unless that could not be removed again. Salvage reads the whole file at worst, waits for the disk, and keeps about MemoryLimit and a byte for every two
// pages on the heap.
func Salvage(src, dst string, opts *SalvageOptions) (*SalvageReport, error) {
	var o SalvageOptions
	if opts != nil {
		o = *opts
	}
	if o.PageSize != 0 && !page.ValidSize(o.PageSize) {
		return &SalvageReport{}, fmt.Errorf("folio: SalvageOptions.PageSize %d is not a power of two from 4096 to 65536", o.PageSize)
	}
	s := &salvage{opts: o, rep: &SalvageReport{}}
	err := s.files(src, dst)
	return s.rep, outer(err)
}

// salvage is one call of Salvage.
type salvage struct {
	opts SalvageOptions
	rep  *SalvageReport
	src  *DB // opened and locked, no more
	data *page.File
	view page.View // of the whole file
	size int       // of a page
	end  page.ID   // pages that the state can have
	meta page.Meta // of the slot that counts; made up if there is none

	free  pageSet // of the state; nil: not known
	used  pageSet // pages that were reached
	stale page.ID // a page that is reached although it is free; 0: none
	path  [][]byte
	holes []hole
	deep  []deepBucket
	out   *shelf // nil: only count
	nodes int    // node pages that were read
	items uint64 // that were read
	err   error  // of writing; ends it

	unread map[page.ID]bool // pages that the disk did not give when they were looked for, and of which that was said

	adrift bool // what is being saved goes to lost+found
	holed  bool // there were holes
}

// files opens the files, and sees to it that dst is complete or not there.
func (s *salvage) files(src, dst string) (err error) {
	so, err := (&Options{ReadOnly: true, LockTimeout: s.opts.LockTimeout, fs: s.opts.fs}).withDefaults()
	if err != nil {
		return err
	}
	if src == "" || dst == "" {
		return errEmptyPath
	}
	abs, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	for _, name := range []string{dst, logName(dst)} {
		if there, err := exists(so.fs, name); err != nil {
			return err
		} else if there {
			return &fs.PathError{Op: "salvage", Path: name, Err: fs.ErrExist}
		}
	}
	s.src = newDB(src, so)
	s.src.abs = abs
	if err := s.src.notOwn("salvage", dst); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.src.openFile(abs); err != nil {
		return err
	}
	if err := s.src.register(); err != nil {
		return err
	}
	if err := s.src.lock(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := s.findState(); err != nil {
		return err
	}
	tmp, suffix := temporary(dst)
	defer func() { err = told(err, suffix) }()
	do := Options{PageSize: s.size, FileMode: s.opts.FileMode, MemoryLimit: s.opts.MemoryLimit, fs: so.fs}
	if err := s.fill(tmp, &do); err != nil {
		return errors.Join(err, removeStore(s.src, tmp))
	}
	if err := so.fs.Link(tmp, dst); err != nil {
		return errors.Join(about(dst, err), removeStore(s.src, tmp))
	}
	err = so.fs.Remove(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, so.fs.SyncDir(filepath.Dir(dst))); err != nil {
		return errors.Join(err, removeStore(s.src, dst))
	}
	return nil
}

// close lets go of the damaged store.
func (s *salvage) close() error {
	if s.data != nil {
		s.src.data, s.data = s.data, nil
	}
	return s.src.release()
}

// fill makes the new store.
func (s *salvage) fill(path string, o *Options) (err error) {
	dst, err := Open(path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	return s.save(dst)
}

// save copies everything into dst, in this order: what the tree reaches, pieces of it that have lost their branch, the
// log's transactions; and last what has no place, which no transaction of the log may touch.
func (s *salvage) save(dst *DB) (err error) {
	s.out, err = newShelf(dst)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(interface {
				error
				Addr() uintptr
			})
			if !ok {
				s.out.tx.Rollback()
				panic(r)
			}
			err = fmt.Errorf("a page that had been read before cannot be read any more: %w", fault)
		}
		s.out.tx.Rollback() // nothing, if it was committed
	}()
	m := &s.meta
	if n := m.Root.Sequence; n > 0 {
		s.note(s.out.top().SetSequence(n))
	}
	s.bucket(m.Root, nil, 0)
	left := s.orphans()
	s.rep.Items, s.rep.Buckets, s.rep.Bytes = s.out.items, s.out.buckets, s.out.bytes
	s.replayLog()
	s.keepOrphans(left)
	if s.stale != 0 {
		s.found(SalvageFinding{Err: s.corrupt(s.stale, 1, "is reached, and free too: what it holds may be old"), Lost: true})
	}
	if s.err != nil {
		return s.err
	}
	return s.out.tx.Commit()
}

// note keeps the first error of writing.
func (s *salvage) note(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// found reports a finding, unless this is but a look.
func (s *salvage) found(f SalvageFinding) {
	if s.out == nil {
		return
	}
	if s.adrift { // the hole that it fell out of has been counted
		f.Lost, f.Items = false, 0
	}
	f.Bucket = clonePath(f.Bucket)
	s.rep.add(f)
}

func (s *salvage) corrupt(id page.ID, invariant int, format string, args ...any) *CorruptError {
	return &CorruptError{File: filepath.Base(s.src.path), Page: id, Offset: -1, Invariant: invariant, Reason: fmt.Sprintf(format, args...)}
}

// named puts the file's name into a finding of package page.
func (s *salvage) named(err error) error {
	var c *CorruptError
	if errors.As(err, &c) && c.File == "" {
		c.File = filepath.Base(s.src.path)
	}
	return err
}

func clonePath(path [][]byte) [][]byte {
	var c [][]byte
	for _, name := range path {
		c = append(c, append([]byte{}, name...))
	}
	return c
}
