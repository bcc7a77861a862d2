package folio

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// failSilence says of a call that nobody need be told when it fails, and why.
type failSilence struct {
	fn    string        // the function that calls, or one that it was called from
	from  string        // another one above; "": any
	kinds string        // kinds of calls, with spaces between; "": any
	errno syscall.Errno // 0: any
	why   string
	times *atomic.Int64
	rare  bool // not every run comes to it
}

func (s *failSilence) String() string {
	kinds := s.kinds
	if kinds == "" {
		kinds = "any call"
	}
	if s.errno != 0 {
		kinds += " (" + s.errno.Error() + ")"
	}
	return fmt.Sprintf("%s, %s: %s", s.fn, kinds, s.why)
}

// silent returns why nobody need be told of the failure; nil: somebody must.
func (s *failStrike) silent(errno syscall.Errno) *failSilence {
	for i := range failSilences {
		q := &failSilences[i]
		if s.within(q.fn) && (q.from == "" || s.within(q.from)) && (q.kinds == "" || slices.Contains(strings.Fields(q.kinds), string(s.site.Kind))) && (q.errno == 0 || q.errno == errno) {
			return q
		}
	}
	return nil
}

func quiet(fn, kinds, why string) failSilence {
	return failSilence{fn: fn, kinds: kinds, why: why, times: new(atomic.Int64)}
}

// neighbour is quiet for a page that is touched for the first time beside the one that is changed, which few runs come to.
func neighbour(fn string) failSilence {
	return failSilence{fn: fn, kinds: "populate", why: "a page beside the change that could take part in it, and cannot be read, is left alone; who reads it is told", times: new(atomic.Int64), rare: true}
}

// failSilences are few, and each is a decision that the code explains where it is taken.
var failSilences = []failSilence{
	// What is tried again in a smaller way, and told if that fails too.
	quiet("page.(*File).allocate", "allocate", "it asked for more than is needed, and then asks for that"),
	quiet("page.(*File).mapLocked", "extend map", "less address space, or another mapping, does as well"),
	quiet("wal.(*Log).growTo", "allocate write truncate", "it asked for more than is needed, and then asks for that"),
	{"wal.(*Log).growTo", "(*DB).reserve", "stat", syscall.ENOSPC, "a log that cannot become longer for want of space begins anew where it is", new(atomic.Int64), true},
	quiet("wal.(*Log).open", "map", "a write does as well"),
	quiet("wal.(*Log).adopt", "allocate", "the log's end that has no space is not used"),
	{"internal/lockfile.(*Table).fill", "", "", syscall.ENOSPC, "a process without a table has the locks of the data file", new(atomic.Int64), false},
	quiet("(*DB).snapshotOf", "stat read", "a writer may be at the slots: they are read again, up to three times"),
	{"(*DB).promise", "", "", syscall.ENOSPC, "the transaction takes what it needs itself, which may be less", new(atomic.Int64), false},
	{"(*Tx).writeRow", "", "", syscall.ENOSPC, "what has been collected is done at once", new(atomic.Int64), true},
	{"(*Tx).keepRoom", "", "", syscall.ENOSPC, "what has been collected is done at once", new(atomic.Int64), true},
	{"(*DB).keepOff", "(*DB).wholePages", "", syscall.ENOSPC, "pages that are free are written to, with the slots made equal before", new(atomic.Int64), true},
	{"(*pager).allocate", "(*DB).recover", "", syscall.ENOSPC, "pages that are free are written to, with the slots made equal before", new(atomic.Int64), true},
	// What is done again by somebody who waits for it, and is told.
	quiet("(*DB).inBackground", "", "nobody waits; Stats tells of a failed checkpoint, and the next one tries again"),
	quiet("(*DB).afterCommit", "", "the log has the commit; the next reader, or checkpoint, writes the frames again"),
	quiet("(*DB).prepublish", "", "nobody has been told of the commit: who publishes it writes the frames again"),
	quiet("(*DB).publishEarly", "", "the log has the commit; the next reader, or checkpoint, writes the frames again"),
	quiet("(*DB).shrinkBeforeClose", "", "Close checkpoints all the same, and tells"),
	quiet("(*DB).shrink", "", "the checkpoint is durable; pages that were not moved keep the file longer, and Stats tells"),
	{"(*DB).cut", "", "", 0, "the checkpoint is durable; the file is longer than it need be", new(atomic.Int64), true},
	{"(*DB).join", "", "", syscall.EROFS, "who only reads has the locks of the data file, where he cannot have a table", new(atomic.Int64), false},
	quiet("(*salvage).readMetas", "read", "what was found where the slot may lie is told, the first that says most"),
	quiet("(*salvage).ownLog", "read", "one slot is enough to tell whose log it is"),
	quiet("(*salvage).guessPageSize", "read", "the scan comes to the page again, and tells"),
	{"(*DB).release", "Open", "unlock close lock stat remove", 0, "Open has failed already, and tells why; a lock file that is left behind is taken by the next process", new(atomic.Int64), false},
	neighbour("btree.(*Tree).evenOut"), neighbour("btree.(*Tree).joinLeaves"), neighbour("btree.(*Tree).joinBranches"), neighbour("btree.(*Tree).lower"),
	neighbour("btree.(*spreader).step"),
	quiet("page.(*View).Bring", "populate", "each page is touched by itself afterwards, and who touches one that cannot be read is told"),
	// What does not decide anything.
	quiet("(*DB).readSlot", "read", "one sound slot is enough at any time"),
	quiet("(*DB).tryLock", "unlock", "it is tried again, or the file is closed, which releases the byte too"),
	quiet("(*DB).holder", "stat open read close", "only the message would name who holds the lock"),
	quiet("(*DB).Stats", "stat", "a figure is missing"),
	{"(*DB).writerLives", "", "", 0, "who wrote last is taken to be alive", new(atomic.Int64), true},
	{"(*DB).lookAtStored", "", "stat read", 0, "a figure is missing, and BackgroundFail says why", new(atomic.Int64), true},
	quiet("wal.(*Log).shut", "close", "what was written through the window stays, and nobody uses it any more"),
	quiet("page.(*Map).Release", "close", "nothing was written through the mapping, and nobody uses it any more"),
	quiet("(*DB).checkStrayLog", "close", "the file was only read"),
	quiet("(*DB).notStoreNamed", "close", "the file was only read"),
	quiet("(*DB).replayAside", "close", "the file was only read"),
	quiet("(*DB).replayVolatile", "close", "the file was only read"),
	quiet("(*salvage).replayLog", "close", "the file was only read"),
}
