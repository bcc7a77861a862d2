package wal

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
)

// A Kind names a logical operation.
type Kind uint8

// The operations. In the log each is its kind in one byte, then its fields: bytes
// as {uvarint length, bytes}, a path as {uvarint count, bytes...}, numbers as uvarint.
const (
	OpBucket       Kind = 1 // path: the bucket that the following operations are about
	OpPut          Kind = 2 // key, value
	OpDelete       Kind = 3 // key
	OpDeleteRange  Kind = 4 // one byte: 1 there is a from, 2 there is a to; those that are there
	OpCreateBucket Kind = 5 // key: its name
	OpDeleteBucket Kind = 6 // key: its name
	OpMoveBucket   Kind = 7 // key: its name; path of the bucket it moves to
	OpSetSequence  Kind = 8 // number
)

const (
	hasFrom = 1
	hasTo   = 2
)

var kindNames = [...]string{
	OpBucket: "bucket", OpPut: "put", OpDelete: "delete", OpDeleteRange: "deleterange",
	OpCreateBucket: "createbucket", OpDeleteBucket: "deletebucket", OpMoveBucket: "movebucket",
	OpSetSequence: "setsequence",
}

// String returns the operation's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Ops are the logical operations of one transaction, in the order in which they
// were made, as they lie in the log. Until a Bucket operation they are about
// the root bucket. Appending copies its arguments.
type Ops []byte

// Bucket selects the bucket that the following operations are about, by its
// path from the root at this moment; an empty path is the root.
func (o *Ops) Bucket(path [][]byte) {
	*o = appendPath(append(*o, byte(OpBucket)), path)
}

// Select is Bucket, by a path as it lies in operations.
func (o *Ops) Select(p Path) {
	*o = append(append(*o, byte(OpBucket)), p...)
}

// Put sets a key's value.
func (o *Ops) Put(key, value []byte) {
	*o = appendBytes(appendBytes(append(*o, byte(OpPut)), key), value)
}

// Delete removes a key.
func (o *Ops) Delete(key []byte) {
	*o = appendBytes(append(*o, byte(OpDelete)), key)
}

// DeleteRange removes everything from from (inclusive) to to (exclusive). A
// nil bound is none; an empty one is the empty key.
func (o *Ops) DeleteRange(from, to []byte) {
	var bounds byte
	if from != nil {
		bounds |= hasFrom
	}
	if to != nil {
		bounds |= hasTo
	}
	*o = append(*o, byte(OpDeleteRange), bounds)
	if from != nil {
		*o = appendBytes(*o, from)
	}
	if to != nil {
		*o = appendBytes(*o, to)
	}
}

// CreateBucket creates a bucket inside the selected one.
func (o *Ops) CreateBucket(name []byte) {
	*o = appendBytes(append(*o, byte(OpCreateBucket)), name)
}

// DeleteBucket deletes a bucket inside the selected one.
func (o *Ops) DeleteBucket(name []byte) {
	*o = appendBytes(append(*o, byte(OpDeleteBucket)), name)
}

// MoveBucket moves a bucket of the selected one into the bucket at path to, as
// paths are before the move.
func (o *Ops) MoveBucket(name []byte, to [][]byte) {
	*o = appendPath(appendBytes(append(*o, byte(OpMoveBucket)), name), to)
}

// SetSequence sets the selected bucket's sequence.
func (o *Ops) SetSequence(n uint64) {
	*o = binary.AppendUvarint(append(*o, byte(OpSetSequence)), n)
}

// A Path is a bucket's path as it lies in the log. Its names are yielded
// without an allocation.
type Path []byte

// Len returns the number of names; 0 is the root bucket.
func (p Path) Len() int {
	n, _ := binary.Uvarint(p)
	return int(n)
}

// All yields the names from the root down, slices of p.
func (p Path) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		n, w := binary.Uvarint(p)
		rest := []byte(p[max(w, 0):])
		for ; n > 0; n-- {
			name, tail, ok := cutBytes(rest)
			if !ok || !yield(name) {
				return
			}
			rest = tail
		}
	}
}

// String returns the path with escaped names behind slashes; the root is "/".
func (p Path) String() string {
	if p.Len() == 0 {
		return "/"
	}
	var b strings.Builder
	for name := range p.All() {
		b.WriteByte('/')
		b.Write(appendEscaped(nil, name))
	}
	return b.String()
}

// An Op is one operation as Decode yields it. Only the fields that its kind
// names are set.
type Op struct {
	Kind     Kind
	At       int    // where it begins in the operations that were decoded
	Key      []byte // put, delete; the name for createbucket, deletebucket, movebucket
	Value    []byte // put; never nil there
	From, To []byte // deleterange; nil: no bound
	Path     Path   // bucket; movebucket: where to
	Sequence uint64 // setsequence
}

// Decode calls fn for each operation. The Op and its slices, which point into
// ops, are valid during the call; an error of fn ends it and is returned. Bytes
// that are not operations give an error that is ErrCorrupt, after fn has seen the
// operations before them.
func Decode(ops []byte, fn func(*Op) error) error {
	for at := 0; at < len(ops); {
		op, next, err := DecodeNext(ops, at)
		if err != nil {
			return err
		}
		if err := fn(&op); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// DecodeNext returns the operation at a place where one begins, and where the next one does. The slices of the operation point into ops.
func DecodeNext(ops []byte, at int) (op Op, next int, err error) {
	rest, ok := op.cut(ops[at:])
	if !ok {
		return op, at, fmt.Errorf("%w: no operation at byte %d of %d: %s", ErrCorrupt, at, len(ops), Kind(ops[at]))
	}
	op.At = at
	return op, len(ops) - len(rest), nil
}

// DecodeAt returns the operation that Decode found at a place. Its slices point into ops.
func DecodeAt(ops []byte, at int) Op {
	var op Op
	op.cut(ops[at:])
	op.At = at
	return op
}

// cut decodes the operation at the start of p, which is not empty.
func (op *Op) cut(p []byte) (rest []byte, ok bool) {
	*op = Op{Kind: Kind(p[0])}
	p = p[1:]
	switch op.Kind {
	case OpBucket:
		op.Path, p, ok = cutPath(p)
	case OpPut:
		if op.Key, p, ok = cutBytes(p); ok {
			op.Value, p, ok = cutBytes(p)
		}
	case OpDelete, OpCreateBucket, OpDeleteBucket:
		op.Key, p, ok = cutBytes(p)
	case OpDeleteRange:
		p, ok = op.cutRange(p)
	case OpMoveBucket:
		if op.Key, p, ok = cutBytes(p); ok {
			op.Path, p, ok = cutPath(p)
		}
	case OpSetSequence:
		var w int
		op.Sequence, w = binary.Uvarint(p)
		if ok = w > 0; ok {
			p = p[w:]
		}
	}
	return p, ok
}

func (op *Op) cutRange(p []byte) (rest []byte, ok bool) {
	if len(p) == 0 || p[0] > hasFrom|hasTo {
		return p, false
	}
	bounds := p[0]
	p, ok = p[1:], true
	if bounds&hasFrom != 0 {
		op.From, p, ok = cutBytes(p)
	}
	if ok && bounds&hasTo != 0 {
		op.To, p, ok = cutBytes(p)
	}
	return p, ok
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func appendPath(b []byte, path [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(path)))
	for _, name := range path {
		b = appendBytes(b, name)
	}
	return b
}

// cutBytes takes {uvarint length, bytes} from the start of p. The bytes are
// never nil and have no room behind them.
func cutBytes(p []byte) (b, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, p, false
	}
	end := w + int(n)
	return p[w:end:end], p[end:], true
}

// cutPath takes a path from the start of p and verifies all of it.
func cutPath(p []byte) (path Path, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, p, false
	}
	rest = p[w:]
	for ; n > 0; n-- {
		if _, rest, ok = cutBytes(rest); !ok {
			return nil, p, false
		}
	}
	end := len(p) - len(rest)
	return Path(p[:end:end]), rest, true
}

// appendEscaped appends b in the form that all of Folio shows keys in:
// printable ASCII as it is, but `\\` for a backslash; `\xNN` for the rest.
func appendEscaped(to, b []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range b {
		switch {
		case c == '\\':
			to = append(to, `\\`...)
		case c >= 0x20 && c < 0x7f:
			to = append(to, c)
		default:
			to = append(to, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	return to
}
