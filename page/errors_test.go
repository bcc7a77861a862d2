package page

import (
	"errors"
	"io"
	"testing"
)

func TestCorruptError(t *testing.T) {
	for want, err := range map[string]*CorruptError{
		"app.db: page 7: offset 24: slot count 255 does not fit (invariant 2)": {File: "app.db", Page: 7, Offset: 24, Invariant: 2, Reason: "slot count 255 does not fit"},
		"page 0: unreadable: EOF": {Offset: -1, Reason: "unreadable", Err: io.EOF},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrInvalid) || errors.Is(err, io.EOF) != (err.Err != nil) {
			t.Errorf("%q is the wrong error", want)
		}
	}
}
