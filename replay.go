package folio

import (
	"fmt"
	"runtime/debug"

	"github.com/foliodb/folio/wal"
)

// replay applies one logged transaction. The operations succeeded when they were logged, so an
// error of use means that log and data file do not belong together.
func (tx *Tx) replay(ops wal.Ops) error {
	at := &tx.root
	return wal.Decode(ops, func(op *wal.Op) error {
		if op.Kind == wal.OpBucket {
			var err error
			at, err = tx.walk(op.Path)
			return err
		}
		if err := at.apply(op); err != nil {
			return fmt.Errorf("%v: %w", op.Kind, err)
		}
		return nil
	})
}

// replayer replays a log in one transaction. Puts and deletions it collects and does in the order of keys, as the
// backlog is applied: so a leaf to which many of them belong is copied and written once. Whatever else there is
// is done in its place, after what came before it.
type replayer struct {
	tx     *Tx
	sorter sorter
	memory arena
	parts  [][]byte
	bytes  int64
	limit  int64
	most   int // bytes that there may be at once
}

// add replays a transaction, or has it wait for more.
func (r *replayer) add(ops wal.Ops) (err error) {
	defer r.tx.catchError(debug.SetPanicOnFault(true), &err)
	plain, n := true, 0
	err = wal.Decode(ops, func(op *wal.Op) error {
		n++
		switch op.Kind {
		case wal.OpBucket, wal.OpPut, wal.OpDelete:
		default:
			plain = false
		}
		return nil
	})
	if err != nil {
		return err
	}
	size := int64(len(ops) + opCost*n)
	if !plain || size > r.limit {
		if err := r.flush(); err != nil {
			return err
		}
		return r.tx.replay(ops)
	}
	if r.bytes+size > r.limit {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if len(r.parts) == 0 {
		r.memory.prepare(r.most)
	}
	part := r.memory.add(ops)
	r.parts = append(r.parts, part)
	r.bytes += size
	return r.sorter.add(part)
}

// finish does what is left to be done, up to the root.
func (r *replayer) finish() (err error) {
	defer r.tx.catchError(debug.SetPanicOnFault(true), &err)
	if err := r.flush(); err != nil {
		return err
	}
	if err := r.tx.root.flush(true); err != nil {
		return err
	}
	return r.tx.db.named(r.tx.db.pager.err)
}

// replayLimit is how many bytes of operations wait at most. They are not on the heap, and there is no backlog beside them, so there may be more
// than in that: what a log of the default size has when a checkpoint starts goes into one unit.
func (db *DB) replayLimit() int64 { return 4 * db.opts.MemoryLimit }

// flush does what waits.
func (r *replayer) flush() error {
	err := r.sorter.apply(r.tx)
	for _, part := range r.parts {
		r.memory.free(part)
	}
	r.parts, r.bytes = r.parts[:0], 0
	return err
}

// walk returns the bucket at a path.
func (tx *Tx) walk(path wal.Path) (*Bucket, error) {
	b := &tx.root
	for name := range path.All() {
		c, err := b.lookup(name)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return nil, fmt.Errorf("%v: %w", path, ErrBucketNotFound)
		}
		b = c
	}
	return b, nil
}

// apply does one operation.
func (b *Bucket) apply(op *wal.Op) (err error) {
	switch op.Kind {
	case wal.OpPut:
		return b.Put(op.Key, op.Value)
	case wal.OpDelete:
		return b.Delete(op.Key)
	case wal.OpDeleteRange:
		_, err = b.DeleteRange(op.From, op.To)
	case wal.OpCreateBucket:
		_, err = b.CreateBucket(op.Key)
	case wal.OpDeleteBucket:
		return b.DeleteBucket(op.Key)
	case wal.OpMoveBucket:
		dst, err := b.tx.walk(op.Path)
		if err != nil {
			return err
		}
		return b.MoveBucket(op.Key, dst)
	case wal.OpSetSequence:
		return b.SetSequence(op.Sequence)
	default:
		return fmt.Errorf("unknown operation")
	}
	return err
}
