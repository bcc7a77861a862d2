package folio

import (
	"fmt"
	"os"
	"time"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/wal"
)

// Durability says when a commit is acknowledged.
type Durability uint8

const (
	// DefaultDurability is the store's (in Tx.SetDurability) or Sync (in Options).
	DefaultDurability Durability = iota
	// Sync acknowledges a commit when it is on the disk: it survives a power cut.
	// Commits of several goroutines share syncs.
	Sync
	// Relaxed acknowledges a commit when the operating system has it: it survives the
	// death of the process, and a power cut once SyncInterval has passed. A power
	// cut may take the last commits, never their order or the store's integrity.
	Relaxed
)

func (d Durability) String() string {
	switch d {
	case DefaultDurability:
		return "default"
	case Sync:
		return "sync"
	case Relaxed:
		return "relaxed"
	}
	return fmt.Sprintf("durability(%d)", uint8(d))
}

// Limits of keys and values, in bytes. Bucket names are keys.
const (
	MaxKeySize   = 32768
	MaxValueSize = 1<<31 - 2
)

// Options are the settings of Open. The zero value of each field is a good
// default; a value that cannot be used is an error of Open that names the field.
type Options struct {
	// ReadOnly opens the store for reading, beside up to 447 other processes that read and one that writes: each
	// transaction sees every commit that was acknowledged in any process before it began, and keeps what it sees
	// for as long as it lasts. It costs the writer the pages that it keeps, and, while it reads, that commits are shown before they are acknowledged. The store is not
	// changed, not even to repair: commits that are only in the log are replayed in memory. Where processes
	// cannot share memory (systems other than Linux, a folder that cannot be written to), several processes
	// may read while none writes. To read beside one that writes takes permission to write the file of which the name ends in
	// -lock, by which they know of each other; to read the data file is not enough. See also FileMode and LockTimeout.
	ReadOnly bool

	// Private opens the store for this process alone: everything works as on any store, and nothing reaches the
	// files or other processes. Commits are kept in memory that is not on the Go heap, about as much as pages were
	// changed, and are gone after Close; commits that are only in the log are replayed there too. No permission to
	// write is needed. Beside a process that writes it begins with the
	// newest commit and sees none of the later ones; where processes cannot share memory (see ReadOnly), none can
	// write while it is open. A store
	// that is not there is not created.
	Private bool

	// FileMode is the permission of new files, before the umask. 0: 0600. The lock file has that of the data file, before the umask:
	// who is to read the store beside a process that writes it needs permission to write there (0660, say, and a
	// umask that leaves it).
	FileMode os.FileMode

	// LockTimeout is how long Open waits for a store that another process holds, and in a process that only reads Begin and View for
	// one that is just opening it to write. 0: one second; negative: for ever.
	LockTimeout time.Duration

	// PageSize of a new store, in bytes: a power of two from 4096 to 65536. 0: the
	// page size of the operating system. An existing store keeps its own.
	PageSize int

	// Durability of commits that do not choose by Tx.SetDurability. 0: Sync.
	Durability Durability

	// SyncInterval bounds how long a relaxed commit stays unsynced. 0: one second.
	SyncInterval time.Duration

	// LogLimit is roughly the largest size of the log in bytes: a checkpoint starts when five eighths are in
	// use. It bounds the time of recovery. The larger it is, with MemoryLimit a quarter of it, the fewer pages are rewritten for random writes: a store
	// that is written relaxed, and by single puts, all the time is up to twice as fast with 256 MiB and 64 MiB, and a load of random keys in large transactions by a third to a half with 128 MiB alone. A transaction that would fill a third of it, or has more
	// operations than MemoryLimit and a quarter, is written without the log, and so is a load of a megabyte or more
	// in ascending order behind all keys. 0: 64 MiB; at least 256 KiB.
	LogLimit int64

	// MaxSize of the data file in bytes, 16 pages at least; a transaction that would need more fails
	// with ErrMaxSizeReached. One that only deletes finds some pages that others leave for it. What was acknowledged, and
	// the list of free pages, have a right to space: for them the file may become a little longer. A private store, of which the file does not
	// grow, has no limit. 0: no limit.
	MaxSize int64

	// MemoryLimit bounds the bytes of changed pages that are kept on the heap before they
	// are written to the data file, and two and a half times as much, outside of the heap, of changes that are not in pages yet; in
	// Open after an unclean stop, four times as much. 0: 16 MiB; at least 256 KiB.
	MemoryLimit int64

	// OnOldReader, if it is set, is called once for each state that has been read for longer than OldReaderAge, in this process
	// or in another one: it keeps superseded pages, so that the file grows. Only a process that writes calls it for these, after a
	// commit, in a goroutine of its own; it must not close the store. With TraceReaders it is also told of
	// transactions that were leaked, at any time, and in a process that only reads too.
	OnOldReader func(Reader)

	// OldReaderAge is when a reader is old. 0: one minute.
	OldReaderAge time.Duration

	// TraceReaders notes for each read transaction where it began, for Readers and OnOldReader, and finds those that were
	// forgotten without being ended. It is for debugging: it makes a View several times as expensive.
	TraceReaders bool

	// AllowNetwork opens a store on a network file system, which is ErrFileSystem otherwise. That is safe only
	// while no other host touches the store: a host's mapping need not show what another one writes, and its
	// locks may not be seen there.
	AllowNetwork bool

	fs          vfs.FS // nil: vfs.OS
	reservation int64  // of the mapping; 0: page's default
	withoutLog  bool   // with ReadOnly: see the last checkpoint, whatever the log holds
	allowCut    bool   // with ReadOnly: a file that is shorter than its slots say is no reason to refuse it
	random      func() uint64
	moving      func(TxID) // told of a transaction that changes no item, and of numbers that a recovery leaves out, before; for tests
	alone       bool       // the store has no goroutines of its own where it could do without, so that calls come in the same order in every run; for tests
	busy        bool       // with alone: what DB.committing says
	stashes     int        // operations that a bulk transaction puts by at a time, wherever in the tree they belong; 0: see Tx.putBy; for tests
	another     bool       // the handle stands for another process, though it is of this one; for tests
	reread      int64      // how much of the data file a recovery reads from the disk again, whatever the cache has; 0: a huge page of the system
	leastSet    int        // pages that a free set takes at least; for tests
	mostLogged  int64      // by LogLimit: bytes of operations for which the log has room wherever its end lies
	mostGroup   int64      // the largest group of more than one transaction, in bytes; 0: half of what a record may have
	minCut      int64      // free bytes at the end of the file that are worth cutting off; 0: 256 KiB
}

const (
	defaultLogLimit    = 64 << 20
	defaultMemoryLimit = 16 << 20
	minLimit           = 256 << 10
	recordSpare        = 1024    // more than a record has besides operations
	maxLimit           = 1 << 40 // who sets more means that there is none; sums of parts of it must not overflow
	defaultMinCut      = 256 << 10
)

// withDefaults returns the options with zero values filled in, or an error that
// names the field that cannot be used.
func (o *Options) withDefaults() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	switch {
	case r.Private && r.ReadOnly:
		return r, fmt.Errorf("folio: Options.Private is for writing, ReadOnly is set")
	case r.PageSize != 0 && (r.PageSize < 4096 || r.PageSize > 65536 || r.PageSize&(r.PageSize-1) != 0):
		return r, fmt.Errorf("folio: Options.PageSize %d is not a power of two from 4096 to 65536", r.PageSize)
	case r.Durability > Relaxed:
		return r, fmt.Errorf("folio: Options.Durability %d is unknown", r.Durability)
	case r.SyncInterval < 0:
		return r, fmt.Errorf("folio: Options.SyncInterval %v is negative", r.SyncInterval)
	case r.OldReaderAge < 0:
		return r, fmt.Errorf("folio: Options.OldReaderAge %v is negative", r.OldReaderAge)
	case r.LogLimit != 0 && r.LogLimit < minLimit:
		return r, fmt.Errorf("folio: Options.LogLimit %d is less than %d", r.LogLimit, minLimit)
	case r.MemoryLimit != 0 && r.MemoryLimit < minLimit:
		return r, fmt.Errorf("folio: Options.MemoryLimit %d is less than %d", r.MemoryLimit, minLimit)
	case r.MaxSize < 0:
		return r, fmt.Errorf("folio: Options.MaxSize %d is negative", r.MaxSize)
	case r.FileMode&^os.ModePerm != 0:
		return r, fmt.Errorf("folio: Options.FileMode %v has more than permission bits", r.FileMode)
	}
	setDefault(&r.FileMode, 0o600)
	setDefault(&r.LockTimeout, time.Second)
	setDefault(&r.PageSize, defaultPageSize())
	setDefault(&r.Durability, Sync)
	setDefault(&r.SyncInterval, time.Second)
	setDefault(&r.OldReaderAge, time.Minute)
	setDefault(&r.LogLimit, defaultLogLimit)
	setDefault(&r.MemoryLimit, defaultMemoryLimit)
	r.LogLimit, r.MemoryLimit = min(r.LogLimit, wal.MaxLimit), min(r.MemoryLimit, maxLimit)
	if r.Private {
		r.MaxSize = 0 // its pages are in memory, and none of the file's can be used again
	}
	if err := r.checkMaxSize(4096); err != nil { // a store that there is may have smaller pages than PageSize says
		return r, err
	}
	setDefault(&r.reread, hugePage())
	setDefault(&r.minCut, defaultMinCut)
	setDefault(&r.mostGroup, 1<<30)
	r.mostLogged = min(wal.Capacity(r.LogLimit)-recordSpare, 1<<30)
	if r.fs == nil {
		r.fs = vfs.OS
	}
	return r, nil
}

// checkMaxSize is an error if MaxSize is less than a store of that page size needs.
func (o *Options) checkMaxSize(pageSize int) error {
	if o.MaxSize != 0 && o.MaxSize < 16*int64(pageSize) {
		return fmt.Errorf("folio: Options.MaxSize %d is less than 16 pages of %d bytes", o.MaxSize, pageSize)
	}
	return nil
}

// defaultPageSize is the operating system's where the format allows it.
func defaultPageSize() int { return min(max(os.Getpagesize(), 4096), 65536) }

// reads reports whether the files are only read.
func (o *Options) reads() bool { return o.ReadOnly || o.Private }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
