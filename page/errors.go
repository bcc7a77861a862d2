package page

import (
	"errors"
	"strconv"
)

var (
	// ErrCorrupt is what every *CorruptError is, under errors.Is.
	ErrCorrupt = errors.New("page: file is corrupt")

	// ErrInvalid tells that a file is not a Folio store at all.
	ErrInvalid = errors.New("page: not a folio store")

	// ErrVersionMismatch tells that a store was written by a version of Folio that this one cannot read. The error
	// that wraps it names both versions.
	ErrVersionMismatch = errors.New("page: version mismatch")
)

// CorruptError is damage found in a file.
type CorruptError struct {
	File      string // base name of the file; empty where it is not known
	Page      ID     // page that is damaged
	Offset    int    // byte in the page at which it shows; negative: the page as a whole
	Invariant int    // number of the broken invariant in ARCHITECTURE.md; 0: none of them
	Reason    string // what is wrong, in lower case
	Err       error  // cause, such as an I/O error; may be nil
}

// Error returns, for example, "app.db: page 7: offset 24: slot count 255 does not fit (invariant 2)".
func (e *CorruptError) Error() string {
	var b []byte
	if e.File != "" {
		b = append(append(b, e.File...), ": "...)
	}
	b = strconv.AppendUint(append(b, "page "...), uint64(e.Page), 10)
	if e.Offset >= 0 {
		b = strconv.AppendInt(append(b, ": offset "...), int64(e.Offset), 10)
	}
	b = append(append(b, ": "...), e.Reason...)
	if e.Invariant > 0 {
		b = append(strconv.AppendInt(append(b, " (invariant "...), int64(e.Invariant), 10), ')')
	}
	if e.Err != nil {
		b = append(append(b, ": "...), e.Err.Error()...)
	}
	return string(b)
}

// Is makes every CorruptError an ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the cause, or nil.
func (e *CorruptError) Unwrap() error { return e.Err }
