package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/foliodb/folio/internal/vfs"
)

// dumpValue is how many bytes of a value a dump shows.
const dumpValue = 32

// Dump writes a listing of the log as Recover would read it from position from:
// the header, each record with its operations (keys escaped), where the live part
// ends and why, and the heads that lie outside it. Damage is part of the
// listing and not an error; errors are those of reading the file and of w.
func Dump(w io.Writer, f vfs.File, id [16]byte, from Position) error {
	out := bufio.NewWriter(w)
	if err := dump(out, f, id, from); err != nil {
		var damage *CorruptError
		if !errors.As(err, &damage) && !errors.Is(err, ErrVersion) {
			return errors.Join(err, out.Flush())
		}
		fmt.Fprintf(out, "error: %v\n", err)
	}
	return out.Flush()
}

func dump(w *bufio.Writer, f vfs.File, id [16]byte, from Position) error {
	if h, err := ReadHeader(f); err == nil {
		fmt.Fprintf(w, "header: version %d, store %x, checkpoint %d, lsn %d, epoch %016x\n",
			h.Version, h.ID, h.Checkpoint, h.LSN, h.Epoch)
	}
	r, err := newRecovery(f, id, from)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "from offset %d, lsn %d, epoch %016x, chain %016x\n", from.Offset, from.LSN, from.Epoch, from.Chain)
	err = r.read(visitor{
		group: func(rec Record) error { return dumpGroup(w, &rec) },
		link: func(h *head, off, target int64, epoch uint64) {
			fmt.Fprintf(w, "%d: link to offset %d, epoch %016x, lsn %d", off, target, epoch, h.lsn)
			if h.tx != 0 {
				fmt.Fprintf(w, ", next tx %d", h.tx)
			}
			fmt.Fprintf(w, ", synced %d\n", h.claim)
		},
	})
	fmt.Fprintf(w, "end at offset %d, lsn %d: %s\n", r.res.End.Offset, r.res.End.LSN, r.res.Stop)
	verdict := r.judge(func(h *head, off int64) {
		fmt.Fprintf(w, "%d: not live: %s, lsn %d, tx %d, %d bytes, synced %d, epoch %016x\n",
			off, nameOf(h.kind), h.lsn, h.tx, h.size(), h.claim, h.epoch)
	})
	if err == nil {
		err = verdict
	}
	return err
}

func nameOf(k kind) string {
	switch k {
	case kindGroup, kindRun:
		return "group"
	case kindTail:
		return "tail"
	case kindLink:
		return "link"
	}
	return fmt.Sprintf("kind %d", k)
}

func dumpGroup(w io.Writer, rec *Record) error {
	name := "group"
	if rec.Tail {
		name = "tail"
	}
	fmt.Fprintf(w, "%d: %s, lsn %d, tx %d to %d, %d bytes, synced %d\n",
		rec.Offset, name, rec.LSN, rec.FirstTx, rec.LastTx(), rec.Size, rec.Synced)
	for tx, ops := range rec.All() {
		fmt.Fprintf(w, "  tx %d\n", tx)
		if err := DumpOps(w, "    ", ops); err != nil {
			fmt.Fprintf(w, "    error: %v\n", err)
		}
	}
	return nil
}

// DumpOps writes one line for each operation, indented by indent. Bytes that are
// no operations give the error of Decode.
func DumpOps(w io.Writer, indent string, ops Ops) error {
	return Decode(ops, func(op *Op) error {
		_, err := fmt.Fprintf(w, "%s%s\n", indent, op)
		return err
	})
}

// String returns the operation in one line, keys escaped and long values cut.
func (op *Op) String() string {
	s := op.Kind.String() + " "
	switch op.Kind {
	case OpBucket:
		return s + op.Path.String()
	case OpPut:
		return fmt.Sprintf("%s%s = %s", s, quote(op.Key), quoteValue(op.Value))
	case OpDeleteRange:
		return fmt.Sprintf("%sfrom %s to %s", s, quoteBound(op.From), quoteBound(op.To))
	case OpMoveBucket:
		return fmt.Sprintf("%s%s to %s", s, quote(op.Key), op.Path)
	case OpSetSequence:
		return fmt.Sprintf("%s%d", s, op.Sequence)
	}
	return s + quote(op.Key)
}

func quote(b []byte) string { return `"` + string(appendEscaped(nil, b)) + `"` }

func quoteBound(b []byte) string {
	if b == nil {
		return "none"
	}
	return quote(b)
}

func quoteValue(b []byte) string {
	if len(b) <= dumpValue {
		return quote(b)
	}
	return fmt.Sprintf("%s and %d more bytes", quote(b[:dumpValue]), len(b)-dumpValue)
}
