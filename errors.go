package folio

import (
	"errors"
	"fmt"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// Errors of use. Where bbolt has an error of the same name, the meaning is the
// same. Test for them with errors.Is: they may come wrapped in more detail.
var (
	// ErrDatabaseNotOpen is returned by calls on a closed DB; but Close does nothing then and returns nil, and Stats and Readers,
	// which have no error to return, give zeros.
	ErrDatabaseNotOpen = errors.New("folio: database not open")
	// ErrDatabaseReadOnly is returned when a write is begun on a DB opened with ReadOnly.
	ErrDatabaseReadOnly = errors.New("folio: database is read-only")
	// ErrTxClosed is returned when a transaction that has ended is used.
	ErrTxClosed = errors.New("folio: transaction has ended")
	// ErrTxManaged is returned when Commit or Rollback is called inside View or Update.
	ErrTxManaged = errors.New("folio: commit and rollback are View's or Update's here")
	// ErrTxWritable is returned when a copy of a write transaction's state is asked for.
	ErrTxWritable = errors.New("folio: transaction is writable: copies are made of read transactions")
	// ErrTxNotWritable is returned when a read transaction is asked to write.
	ErrTxNotWritable = errors.New("folio: transaction is read-only")
	// ErrBucketNotFound is returned for a bucket that is not there, or whose handle is of a deleted bucket.
	ErrBucketNotFound = errors.New("folio: bucket not found")
	// ErrBucketExists is returned when a bucket to be made is there already.
	ErrBucketExists = errors.New("folio: bucket already exists")
	// ErrBucketNameRequired is returned for an empty bucket name.
	ErrBucketNameRequired = errors.New("folio: bucket name required")
	// ErrKeyRequired is returned for an empty key.
	ErrKeyRequired = errors.New("folio: key required")
	// ErrKeyTooLarge is returned for a key or bucket name of more than MaxKeySize bytes.
	ErrKeyTooLarge = errors.New("folio: key too large")
	// ErrValueTooLarge is returned for a value of more than MaxValueSize bytes.
	ErrValueTooLarge = errors.New("folio: value too large")
	// ErrIncompatibleValue is returned when a key is used as a bucket, or a bucket as a key.
	ErrIncompatibleValue = errors.New("folio: incompatible value")
	// ErrSameBuckets is returned when a bucket is moved into itself, below itself, or to where it is.
	ErrSameBuckets = errors.New("folio: source and destination are the same bucket")
	// ErrDifferentDB is returned when a bucket is moved between transactions.
	ErrDifferentDB = errors.New("folio: buckets are of different transactions")
	// ErrTimeout is returned by Open when the store stayed locked for Options.LockTimeout, and by Begin and View of a process that
	// only reads, when one that opens the store to write it took longer. It comes as a *LockedError.
	ErrTimeout = errors.New("folio: timeout")
	// ErrInvalid is returned by Open for a file that is not a Folio store.
	ErrInvalid = errors.New("folio: not a Folio store")
	// ErrVersionMismatch is returned by Open for a store of another format version.
	ErrVersionMismatch = errors.New("folio: store is of another version of the format")
	// ErrMaxSizeReached is returned when the data file would grow over Options.MaxSize.
	ErrMaxSizeReached = errors.New("folio: data file would grow over MaxSize")
	// ErrCorrupt is what every *CorruptError is.
	ErrCorrupt = page.ErrCorrupt
	// ErrLogCorrupt is returned by Open for a log that is damaged before its end,
	// missing, or another store's, and for one that is there while the data file is missing or empty. It is ErrCorrupt too, and, but
	// for the last two, unwraps to a *wal.CorruptError.
	ErrLogCorrupt = errors.New("folio: log is damaged")
	// ErrPoisoned is returned by every write after a sync failed, the log or a meta slot could not be written, or
	// damage was found where nothing could be undone. What was acknowledged before is safe; close and open the store to go on.
	ErrPoisoned = errors.New("folio: store refuses writes after a failure")
	// ErrFileReplaced is returned by Checkpoint and Close when the data file does not lie where it was opened any more: it has been
	// removed or moved, or another file put in its place. The store works on, and Backup and Compact save what it holds; but
	// who opens it next does not find it. Close leaves the log, as if the process had died: what was moved can be put back. A
	// handle that has written nothing so far gets it from its first commit, which fails.
	ErrFileReplaced = errors.New("folio: data file has been removed, moved or replaced while it was open")
	// ErrAlreadyOpen is returned by Open when this process has the same file open,
	// by whatever path.
	ErrAlreadyOpen = errors.New("folio: file is already open in this process")
	// ErrFileSystem is returned for a store on a file system on which mapping and writing need not agree: a network
	// file system, unless Options.AllowNetwork is set, or one that was found not to do what it has to.
	ErrFileSystem = errors.New("folio: file system cannot hold a store")
	// ErrLogRequired is returned by a read-only Open of a store that was not closed
	// cleanly and whose log is too large to be replayed in memory.
	ErrLogRequired = errors.New("folio: store was not closed cleanly; open it for writing once")
)

// CorruptError reports damage: which file, page and byte, and which invariant of
// ARCHITECTURE.md it breaks. It is ErrCorrupt under errors.Is.
type CorruptError = page.CorruptError

// LockedError is the ErrTimeout of Open: another process holds the store.
type LockedError struct {
	Path   string
	Holder int  // process id of the holder, or of one of them; 0 when the system does not tell
	Reader bool // held for reading
}

func (e *LockedError) Error() string {
	who, how := "another process", "open"
	if e.Holder != 0 {
		who = fmt.Sprintf("process %d", e.Holder)
	}
	if e.Reader {
		how = "open for reading"
	}
	return fmt.Sprintf("folio: timeout: %s is held %s by %s", e.Path, how, who)
}

// Is reports that a LockedError is an ErrTimeout.
func (e *LockedError) Is(target error) bool { return target == ErrTimeout }

// barredError is the LockedError of who could read beside the process that writes, had he the permission to write the lock file. Without a
// word about that he would take the other process for what is in the way, and end it.
type barredError struct {
	locked *LockedError
	cause  error
}

func (e *barredError) Error() string {
	return fmt.Sprintf("%v; to read beside it takes permission to write its lock file: %v", e.locked, e.cause)
}
func (e *barredError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *barredError) Unwrap() error        { return e.locked }

// poisonError is ErrPoisoned with the failure that caused it.
type poisonError struct{ cause error }

func (e *poisonError) Error() string        { return ErrPoisoned.Error() + ": " + e.cause.Error() }
func (e *poisonError) Is(target error) bool { return target == ErrPoisoned }
func (e *poisonError) Unwrap() error        { return e.cause }

// logError turns the log's own damage report into an ErrLogCorrupt.
type logError struct{ cause error }

func (e *logError) Error() string        { return "folio: " + e.cause.Error() }
func (e *logError) Is(target error) bool { return target == ErrLogCorrupt || target == ErrCorrupt }
func (e *logError) Unwrap() error        { return e.cause }

// outer gives errors of the inner packages the package's prefix; errors that have
// it, and nil, are passed on.
func outer(err error) error {
	var log *wal.CorruptError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrLogCorrupt):
		return err
	case errors.As(err, &log):
		return &logError{fmt.Errorf("%w; folio recover saves what comes before", err)}
	case errors.Is(err, wal.ErrVersion):
		return fmt.Errorf("%w: %w", ErrVersionMismatch, err)
	}
	if s := err.Error(); len(s) >= 6 && s[:6] == "folio:" {
		return err
	}
	return &prefixed{err}
}

type prefixed struct{ err error }

func (e *prefixed) Error() string { return "folio: " + e.err.Error() }
func (e *prefixed) Unwrap() error { return e.err }
