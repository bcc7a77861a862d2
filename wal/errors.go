package wal

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrCorrupt is what every *CorruptError is, and every error of Decode.
	ErrCorrupt = errors.New("wal: log is damaged")

	// ErrVersion says that the file is a log, of another version of the format.
	ErrVersion = errors.New("wal: unknown version")

	// ErrFull says that the log has reached its limit. Nothing has changed;
	// there is room again after a checkpoint and Log.Release.
	ErrFull = errors.New("wal: log is full")

	// ErrTooLarge is ErrFull for more bytes than Log.Capacity: these may not
	// fit even when nothing is live, so waiting helps only if they come in parts.
	ErrTooLarge = fmt.Errorf("%w: more than fits at once", ErrFull)
)

// A CorruptError is damage found in a log file.
type CorruptError struct {
	File   string // base name
	Offset int64  // of the damaged place in the file, in bytes; negative: the file as a whole
	LSN    LSN    // expected at that place
	Reason string

	Invariant int   // number of the broken invariant in ARCHITECTURE.md
	Err       error // cause; may be nil
}

// What damage breaks: a log that lacks what a checkpoint relies on was let go too early; one that ends, or reads otherwise,
// before what was acknowledged has lost a part of the order of commits.
const (
	InvariantKept   = 6
	InvariantPrefix = 7
)

// Error says where and what, without the package's name.
func (e *CorruptError) Error() string {
	var b []byte
	b = append(append(b, e.File...), ": "...)
	if e.Offset >= 0 {
		b = fmt.Appendf(b, "offset %d: lsn %d: ", e.Offset, e.LSN)
	}
	b = fmt.Appendf(b, "%s (invariant %d)", e.Reason, e.Invariant)
	if e.Err != nil {
		b = fmt.Appendf(b, ": %v", e.Err)
	}
	return string(b)
}

// Unwrap returns the cause, or nil.
func (e *CorruptError) Unwrap() error { return e.Err }

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
