package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/foliodb/folio"
)

// Exit codes of the tool.
const (
	exitOK       = 0
	exitNotThere = 1
	exitUsage    = 2
	exitFailed   = 3
	exitDamaged  = 4
)

// exitCodes is their part of the help text.
const exitCodes = `  0  done
  1  the key, bucket or page is not there; "recover" saved a store in part
  2  the command line, or a line of the input, is wrong
  3  the store cannot be opened, read or written: missing, foreign, locked, disk full
  4  the store is damaged`

// A usageError is a mistake in the command line or in the input.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A missingError says that what was asked for is not in the store.
type missingError struct{ error }

func (e missingError) Unwrap() error { return e.error }

func missingf(format string, args ...any) error { return missingError{fmt.Errorf(format, args...)} }

// A damagedError says that damage was found and printed.
type damagedError struct{ error }

func (e damagedError) Unwrap() error { return e.error }

// A lossError says that a store was saved with losses.
type lossError struct{ error }

func (e lossError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var loss lossError
	var damaged damagedError
	var usage usageError
	var missing missingError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &missing), errors.As(err, &loss):
		return exitNotThere
	case errors.As(err, &damaged), errors.Is(err, folio.ErrCorrupt):
		return exitDamaged
	}
	return exitFailed
}

// errorText gives an error of a command as one line that begins with the tool's name
// and, where there is something to be done, ends with it.
func errorText(err error, command string) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "folio: ")
	}
	text := "folio: " + strings.Join(lines, "; ")
	if advice := advice(err, command); advice != "" {
		text += "; " + advice
	}
	return text
}

// advice says what to do about an error, where that is known.
func advice(err error, command string) string {
	switch {
	case errors.Is(err, folio.ErrTimeout) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)):
		return "" // it says what is missing; the other process is in nobody's way
	case errors.Is(err, folio.ErrTimeout):
		return "end it, or wait longer with --wait 1m"
	case errors.Is(err, folio.ErrVersionMismatch):
		return "use the folio that wrote it"
	case errors.Is(err, folio.ErrLogCorrupt):
		return `see "folio wal"`
	case errors.Is(err, folio.ErrCorrupt) && command == "recover":
		return "nothing can be saved"
	case errors.Is(err, folio.ErrCorrupt) && command != "check" && command != "page":
		return `see "folio check" and "folio page"`
	}
	return ""
}
