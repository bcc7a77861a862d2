package vfs

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"syscall"
)

// Kind names a call of the interface: in the log of a Recorder, and in a rule
// of a Failer. Its value is the word that both print.
type Kind string

// The kinds that change something, which a Recorder logs. KindStart and
// KindMark are the recorder's own and no calls.
const (
	KindStart    Kind = "start"    // how a log begins: the files as they were found
	KindCreate   Kind = "create"   // Open with os.O_CREATE; in a log only if it made the file
	KindWrite    Kind = "write"    // WriteAt, WriteV and Window.Write
	KindTruncate Kind = "truncate" // Truncate
	KindAllocate Kind = "allocate" // Allocate
	KindSync     Kind = "sync"     // File.Sync
	KindMsync    Kind = "msync"    // Mapping.Sync, and File.WriteOut, which fails alike
	KindDrop     Kind = "dropcache"
	KindLink     Kind = "link"
	KindRename   Kind = "rename"
	KindRemove   Kind = "remove"
	KindSyncDir  Kind = "syncdir"
	KindMark     Kind = "mark"
)

// The kinds that change nothing, which only a Failer knows.
const (
	KindOpen     Kind = "open" // Open without os.O_CREATE
	KindRead     Kind = "read"
	KindStat     Kind = "stat" // FS.Stat, File.Stat and File.Medium
	KindMap      Kind = "map"  // File.Map, File.Share and File.Window
	KindExtend   Kind = "extend"
	KindPopulate Kind = "populate"
	KindLock     Kind = "lock"
	KindUnlock   Kind = "unlock"
	KindClose    Kind = "close"
)

// Never is the End of an operation that has not ended.
const Never = math.MaxInt

// Op is one entry of a Recorder's log. It is never changed once Log returned
// it; Data may be shared by many states.
//
// Begin and End are events: the recorder counts the beginnings and the ends of
// all operations, of all goroutines, from 0. A crash "at" t comes when exactly
// the events below t have happened.
type Op struct {
	Seq        int    // index in the log
	Kind       Kind   //
	Ino        int    // the file, counted from 1 in the order in which the recorder met them; 0: none
	Name       string // slash-separated, relative to the recorder's directory; of a directory for KindSyncDir
	To         string // the new name of a link or rename
	Off        int64  // bytes; the size, for KindTruncate
	N          int64  // bytes asked for; the number, for KindMark
	Data       []byte // what a write wrote, so shorter than N if it failed half way
	Begin, End int    // events; both the same for KindMark, End is Never while it runs
	Err        error  // what the call returned
	Note       string // the kind of a mark

	resized bool   // a failed Truncate or Allocate changed the size all the same,
	size    int64  // to this
	fates   []Fate // KindDrop: what of each lost sector was found on the disk
	start   *snap  // KindStart
}

// String is the operation as one line: kind, base name, and bytes "n@offset".
// It holds no directories and no addresses, and "*" for what follows
// "tmp-" in a name, because that part is random.
func (op *Op) String() string {
	var b strings.Builder
	b.WriteString(string(op.Kind))
	switch op.Kind {
	case KindStart:
	case KindMark:
		fmt.Fprintf(&b, " %s %d", op.Note, op.N)
	case KindSyncDir:
		if op.Name != "." {
			b.WriteString(" " + path.Base(op.Name))
		}
	case KindWrite, KindAllocate, KindMsync:
		fmt.Fprintf(&b, " %s %d@%d", shownName(op.Name), op.N, op.Off)
	case KindTruncate:
		fmt.Fprintf(&b, " %s %d", shownName(op.Name), op.Off)
	case KindLink, KindRename:
		fmt.Fprintf(&b, " %s %s", shownName(op.Name), shownName(op.To))
	default:
		b.WriteString(" " + shownName(op.Name))
	}
	if op.Err != nil {
		b.WriteString(": " + shownError(op.Err))
		if op.Kind == KindWrite && len(op.Data) > 0 {
			fmt.Fprintf(&b, " (%d written)", len(op.Data))
		}
	}
	return b.String()
}

// shownName is the base of a name without its random part.
func shownName(name string) string {
	name = path.Base(name)
	if i := strings.Index(name, "tmp-"); i >= 0 {
		return name[:i] + "tmp-*"
	}
	return name
}

// shownError is the cause in err alone: wrappers name paths.
func shownError(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
