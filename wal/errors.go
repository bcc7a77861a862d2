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
	Offset int64  // of the damaged place in the file, in bytes
	LSN    LSN    // expected at that place
	Reason string
}

// Error says where and what, without the package's name.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: offset %d: lsn %d: %s", e.File, e.Offset, e.LSN, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
