package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Rule makes calls of a Failer fail: of those that match Kinds and Name, the
// Nth, and with Forever all from then on.
type Rule struct {
	Kinds   []Kind // none: any
	Name    string // how the base name ends (one of the two, for a link or rename); "": any
	Nth     int    // counted from 1; 0 is 1
	Forever bool
	Err     error // nil: ErrFault for KindPopulate and Window.Write, else syscall.EIO
	Short   int   // bytes that a write or read transfers before it fails
	Late    bool  // the call is made, and fails all the same
}

// ParseRule reads a rule as scripts write it: kinds with commas between them,
// or "any"; then in any order name=suffix, n=3, forever, short=512,
// late, and error= with the usual name of an errno, "fault" or "locked":
//
//	write,allocate name=.db n=2 forever error=ENOSPC
func ParseRule(text string) (Rule, error) {
	var r Rule
	words := strings.Fields(text)
	if len(words) == 0 {
		return r, fmt.Errorf("vfs: rule without a kind")
	}
	if words[0] != "any" {
		for _, k := range strings.Split(words[0], ",") {
			if !slices.Contains(failKinds, Kind(k)) {
				return r, fmt.Errorf("vfs: rule %q: no such kind: %s", text, k)
			}
			r.Kinds = append(r.Kinds, Kind(k))
		}
	}
	for _, word := range words[1:] {
		if err := r.parse(word); err != nil {
			return r, fmt.Errorf("vfs: rule %q: %w", text, err)
		}
	}
	return r, nil
}

// failKinds are the kinds that a Failer calls by.
var failKinds = []Kind{
	KindCreate, KindWrite, KindTruncate, KindAllocate, KindSync, KindMsync, KindDrop, KindLink, KindRename,
	KindRemove, KindSyncDir, KindOpen, KindRead, KindStat, KindMap, KindExtend, KindPopulate, KindLock, KindUnlock, KindClose,
}

// ruleErrors are the errors that ParseRule knows.
var ruleErrors = map[string]error{
	"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "EACCES": syscall.EACCES,
	"EINVAL": syscall.EINVAL, "ENOMEM": syscall.ENOMEM, "fault": ErrFault, "locked": ErrLocked,
}

func (r *Rule) parse(word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "name":
		r.Name = value
	case "n":
		r.Nth, err = strconv.Atoi(value)
	case "short":
		r.Short, err = strconv.Atoi(value)
	case "forever":
		r.Forever = true
	case "late":
		r.Late = true
	case "error":
		if r.Err = ruleErrors[value]; r.Err == nil {
			return fmt.Errorf("no such error: %s", value)
		}
	default:
		return fmt.Errorf("no such word: %s", word)
	}
	return err
}

// matches tells whether a call counts for the rule.
func (r *Rule) matches(kind Kind, names []string) bool {
	if len(r.Kinds) > 0 && !slices.Contains(r.Kinds, kind) {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(filepath.Base(name), r.Name)
	})
}

// strikes tells whether the nth matching call fails.
func (r *Rule) strikes(nth int) bool {
	first := max(r.Nth, 1)
	return nth == first || r.Forever && nth > first
}

// part is how much of a transfer of n bytes happens.
func (r *Rule) part(n int) int {
	if r.Late {
		return n
	}
	return max(min(r.Short, n), 0)
}

// fail is the error of a failed call, as a real one would look.
func (r *Rule) fail(kind Kind, name string) error {
	err := r.Err
	if err == nil {
		err = syscall.EIO
		if kind == KindPopulate {
			err = ErrFault
		}
	}
	return &fs.PathError{Op: string(kind), Path: name, Err: err}
}

// fault is the error of a failed store to memory, as a real one would look: ErrFault, in which the rule's error is found too,
// but not what that one wraps. The kernel gives no reason for a fault, so nobody may find ENOSPC in it.
func (r *Rule) fault(kind Kind, name string) error {
	err := ErrFault
	if r.Err != nil {
		err = &ruledFault{r.Err}
	}
	return &fs.PathError{Op: string(kind), Path: name, Err: err}
}

// ruledFault is a fault by which a test knows its rule again.
type ruledFault struct{ rule error }

func (e *ruledFault) Error() string        { return ErrFault.Error() + ": " + e.rule.Error() }
func (e *ruledFault) Is(target error) bool { return target == ErrFault || target == e.rule }

// openKind tells the two kinds of Open apart.
func openKind(flag int) Kind {
	if flag&os.O_CREATE != 0 {
		return KindCreate
	}
	return KindOpen
}
