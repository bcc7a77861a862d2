package wal

import (
	"errors"

	"github.com/foliodb/folio/internal/vfs"
)

// A Salvaged is what Salvage read, and what it could not come to.
type Salvaged struct {
	Result
	Header error // the file's header is damaged; the records were read all the same

	// Groups that are sound in themselves but lie beyond the end. What comes before them is
	// missing, so they cannot be applied.
	Beyond          int
	FirstTx, LastTx uint64
}

// Salvage is Recover for a log that Recover may refuse. It passes on every group from position
// from up to the damage, a damaged header notwithstanding, since each record has the store's id and
// continues the one before; and it looks what lies beyond. A log of another store, or one that
// does not have the position, gives nothing but the error.
func Salvage(f vfs.File, id [16]byte, from Position, fn func(Record) error) (s Salvaged, err error) {
	r, err := newRecovery(f, id, from)
	if err != nil {
		var damage *CorruptError
		if _, bad := ReadHeader(f); !errors.As(bad, &damage) {
			return s, errors.Join(err, bad) // the header is sound, or cannot be read
		}
		s.Header = err
		if r, err = headless(f, id, from); err != nil {
			return s, err
		}
	}
	err = r.read(visitor{group: fn})
	// Where reading met damage that is an error by itself there is nothing to judge, but still something to look for.
	verdict := r.judge(func(h *head, _ int64) {
		if !h.kind.hasGroup() || h.lsn < r.res.End.LSN || h.tx < r.res.NextTx || h.count == 0 {
			return
		}
		if s.Beyond == 0 || h.tx < s.FirstTx {
			s.FirstTx = h.tx
		}
		s.Beyond++
		s.LastTx = max(s.LastTx, h.tx+uint64(h.count)-1)
	})
	if err == nil {
		err = verdict
	}
	s.Result = r.res
	return s, err
}

// headless is newRecovery for a file whose header cannot be believed.
func headless(f vfs.File, id [16]byte, from Position) (*recovery, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := min(info.Size, maxSize) &^ (block - 1)
	if from.LSN > maxLSN || from.Offset < recordsAt || from.Offset%tailUnit != 0 || padded(from.Offset)+block > size {
		return nil, corrupt(f, from.Offset, from.LSN, InvariantKept, "file of %d bytes does not have the checkpoint's position", info.Size)
	}
	return startAt(f, size, Header{ID: id, LSN: from.LSN}, from), nil
}
