package folio

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/foliodb/folio/page"
	"github.com/foliodb/folio/wal"
)

// errTooNew ends the replay at a transaction that does not follow the one before.
var errTooNew = errors.New("transactions are missing before this one")

// replayLog applies what the log holds behind the state, up to the damage in it.
func (s *salvage) replayLog() {
	if s.err != nil {
		return
	}
	m := &s.meta
	f, err := s.src.opts.fs.Open(logName(s.src.file.Name()), os.O_RDONLY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.Clean:
		return
	case errors.Is(err, fs.ErrNotExist):
		s.found(SalvageFinding{Err: fmt.Errorf("%s is missing: commits behind transaction %d were there", s.logBase(), m.Tx), Lost: true})
		return
	case err != nil:
		s.found(SalvageFinding{Err: fmt.Errorf("%s: %w", s.logBase(), err), Lost: !m.Clean})
		return
	}
	defer f.Close()
	id, from := m.StoreID, logPosition(m)
	if s.rep.Scanned {
		h, err := wal.ReadHeader(f)
		own := false
		if err == nil {
			own, err = s.ownLog(h.ID)
		}
		if !own {
			found := fmt.Errorf("%s was not applied: without a meta slot nothing tells that it belongs to this store", s.logBase())
			if err != nil {
				found = fmt.Errorf("%w; %w", found, err)
			}
			s.found(SalvageFinding{Err: found, Lost: true})
			return
		}
		id, from = h.ID, h.Start()
	} else if m.Clean {
		return // left over: the store was closed
	}
	last := m.Tx
	log, err := wal.Salvage(f, id, from, func(rec wal.Record) error {
		for tx, ops := range rec.All() {
			switch {
			case page.TxID(tx) <= last && s.rep.Scanned:
				continue // the pages have it
			case page.TxID(tx) != last+1:
				return errTooNew
			}
			s.apply(ops, tx)
			if s.err != nil {
				return s.err
			}
			last = page.TxID(tx)
			s.rep.Replayed++
		}
		return nil
	})
	s.rep.Tx = last
	if log.Header != nil {
		s.found(SalvageFinding{Err: fmt.Errorf("%w; its records were read all the same", log.Header)})
	}
	if err == nil || s.err != nil {
		return
	}
	text := fmt.Sprintf("the log ends behind transaction %d", last)
	if log.Beyond > 0 {
		text = fmt.Sprintf("transactions behind %d are lost: beyond the damage there are sound groups up to transaction %d, %d in number", last, log.LastTx, log.Beyond)
	}
	s.found(SalvageFinding{Err: fmt.Errorf("%w; %s", err, text), Lost: true})
}

// ownLog reports whether what is left of a damaged meta slot still says that the store has this id.
func (s *salvage) ownLog(id [16]byte) (own bool, err error) {
	for slot := range 2 {
		p := make([]byte, page.MetaSize)
		if n, e := s.src.file.ReadAt(p, int64(slot)*int64(s.size)); n < len(p) {
			if !errors.Is(e, io.EOF) {
				err = errors.Join(err, e)
			}
			continue
		}
		if is, ok := page.StoreIDOf(p); ok && is == id {
			return true, nil
		}
	}
	return false, err
}

// apply applies one transaction of the log. An operation may fail where what it is about was lost; a bucket that was
// is made anew.
func (s *salvage) apply(ops wal.Ops, id uint64) {
	made, err := s.out.move(nil)
	lost := false // the bucket that the operations are about cannot be
	if err == nil {
		err = wal.Decode(ops, func(op *wal.Op) error {
			var err error
			if op.Kind == wal.OpBucket {
				var path [][]byte
				for name := range op.Path.All() {
					path = append(path, append([]byte{}, name...))
				}
				made, err = s.out.move(path)
				lost = err != nil
				if made {
					s.found(SalvageFinding{Err: fmt.Errorf("bucket %v was lost, and is made anew for transaction %d of the log", op.Path, id), Bucket: path})
				}
			} else if !lost {
				err = s.out.top().apply(op)
			}
			if err != nil && s.out.refused(err) {
				s.found(SalvageFinding{Err: fmt.Errorf("transaction %d of the log: %v: %w", id, op.Kind, err), Bucket: s.out.path, Lost: true})
				return nil
			}
			return err
		})
	}
	if errors.Is(err, wal.ErrCorrupt) {
		s.found(SalvageFinding{Err: fmt.Errorf("transaction %d of the log: %w", id, err), Lost: true})
		err = nil
	}
	s.note(err)
	if s.err != nil {
		return
	}
	s.out.pending += int64(len(ops))
	s.out.move(nil)
	s.note(s.out.turn())
}
