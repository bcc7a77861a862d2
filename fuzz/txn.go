package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/foliodb/folio"
)

// A txn is a live transaction with its model, and what was obtained in it
// and must keep working: handles, cursors, iterators, slices.
type txn struct {
	w        *world
	tx       *folio.Tx
	root     *bucket
	writable bool
	held     [maxSlots + 1]handle
	cursors  [maxSlots + 1]*place
	iters    [maxSlots + 1]*pull
	kept     []keptSlice
	seen     int // slices seen: every few of them one is kept
	hooks    int // OnCommit calls
	ran      int // hooks that ran
}

type handle struct {
	b *folio.Bucket
	m *bucket
}

// A keptSlice is memory that the store handed out, and what it held then.
type keptSlice struct {
	slice []byte
	then  string
	from  string
}

// maxKept and keepEvery bound what a transaction remembers.
const (
	maxKept   = 64
	keepEvery = 5
)

// keep remembers a slice, to see at the end that it has not changed.
func (t *txn) keep(slice []byte, from string) {
	if t.seen++; slice != nil && t.seen%keepEvery == 0 && len(t.kept) < maxKept {
		t.kept = append(t.kept, keptSlice{slice, string(slice), from})
	}
}

func (t *txn) checkKept() error {
	for _, k := range t.kept {
		if string(k.slice) != k.then {
			return fmt.Errorf("a slice from %s changed within its transaction", k.from)
		}
	}
	return nil
}

// end commits or rolls back, and checks what must hold then.
func (t *txn) end(commit bool) error {
	for _, it := range t.iters {
		if it != nil {
			it.stop()
		}
	}
	if err := t.checkKept(); err != nil {
		return err
	}
	root := t.tx.Root()
	finish := t.tx.Rollback
	if commit {
		finish = t.tx.Commit
	}
	if err := finish(); err != nil {
		return err
	}
	if want := map[bool]int{true: t.hooks}[commit]; t.ran != want {
		return fmt.Errorf("%d hooks ran, want %d", t.ran, want)
	}
	if t.seen%4 == 0 {
		return t.checkEnded(root)
	}
	return nil
}

// checkEnded uses a transaction that has ended: errors or panics with a text of
// the store's own, and no effect.
func (t *txn) checkEnded(root *folio.Bucket) error {
	for what, err := range map[string]error{
		"Commit":   t.tx.Commit(),
		"Rollback": t.tx.Rollback(),
		"Put":      root.Put([]byte("k"), nil),
		"Delete":   root.Delete([]byte("k")),
	} {
		if !errors.Is(err, folio.ErrTxClosed) {
			return fmt.Errorf("%s after the end: %v", what, err)
		}
	}
	return mustRefuse("Get after the end", func() { root.Get([]byte("k")) })
}

// mustRefuse calls f, which is a misuse and has no error to return: it must
// panic with a clear text.
func mustRefuse(what string, f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
			err = fmt.Errorf("%s: no panic", what)
		case runtime.Error:
			err = fmt.Errorf("%s: %w", what, r)
		default:
			if !strings.Contains(fmt.Sprint(r), "folio:") {
				err = fmt.Errorf("%s: panic does not name the package: %v", what, r)
			}
		}
	}()
	f()
	return nil
}

// misuseManaged tries to end a transaction that Update will end.
func (t *txn) misuseManaged() error {
	for what, err := range map[string]error{"Commit": t.tx.Commit(), "Rollback": t.tx.Rollback()} {
		if !errors.Is(err, folio.ErrTxManaged) {
			return fmt.Errorf("%s inside Update: %v", what, err)
		}
	}
	return nil
}

// bucket finds the bucket that r names, in the store and in the model; both are
// nil if there is none.
func (t *txn) bucket(r ref) (*folio.Bucket, *bucket, error) {
	if r.slot > 0 {
		h := t.held[r.slot]
		return h.b, h.m, nil
	}
	b, m := t.tx.Root(), t.root
	for i, name := range r.path {
		if i == 0 {
			b = t.tx.Bucket([]byte(name))
		} else {
			b = b.Bucket([]byte(name))
		}
		m = m.kids[name]
		if (b == nil) != (m == nil) {
			return nil, nil, fmt.Errorf("bucket %s: there in the store %t, in the model %t", quotePath(r.path[:i+1]), b != nil, m != nil)
		}
		if m == nil {
			return nil, nil, nil
		}
	}
	return b, m, nil
}

// apply runs the ops that are about a transaction.
func (t *txn) apply(o op) error {
	switch o.kind {
	case kEnd:
		if o.tx == 0 {
			return nil
		}
		t.w.txs[o.tx] = nil
		return errors.Join(t.verify(), t.end(false))
	case kVerify:
		return t.verify()
	case kTxCheck:
		return t.tx.Check()
	case kCopyFile:
		if t.writable {
			return nil
		}
		return t.w.copyTo(t.root, func(path string) error { return t.tx.CopyFile(path, 0o600) })
	case kCursor, kFirst, kLast, kSeek, kNext, kPrev, kCursorDelete, kIter, kPull:
		return t.applyToPlace(o)
	}
	b, m, err := t.bucket(o.b)
	if err != nil || b == nil {
		return err
	}
	if m.dead {
		return checkDead(b)
	}
	if writes[o.kind] {
		return t.write(o, b, m)
	}
	return t.read(o, b, m)
}

var writes = [kindCount]bool{kPut: true, kDelete: true, kDeleteRange: true, kFill: true, kCreateBucket: true,
	kEnsureBucket: true, kDeleteBucket: true, kMoveBucket: true, kSetSequence: true, kNextSequence: true}

// checkDead uses the handle of a bucket that was deleted.
func checkDead(b *folio.Bucket) error {
	_, err := b.DeleteRange(nil, nil)
	for what, err := range map[string]error{"Put": b.Put([]byte("k"), nil), "Delete": b.Delete([]byte("k")), "DeleteRange": err} {
		if !errors.Is(err, folio.ErrBucketNotFound) {
			return fmt.Errorf("%s in a deleted bucket: %v", what, err)
		}
	}
	return nil
}

// write runs an op that changes bucket b, whose model is m. Where several errors
// apply any of them will do.
func (t *txn) write(o op, b *folio.Bucket, m *bucket) error {
	var may []error
	if !t.writable {
		may = append(may, folio.ErrTxNotWritable)
	}
	switch o.kind {
	case kPut:
		may = append(may, keyErrors(o.k, folio.ErrKeyRequired)...)
		if it := m.find(o.k); it != nil && it.bucket {
			may = append(may, folio.ErrIncompatibleValue)
		}
		return t.did(b.Put(o.k, o.v.append(nil)), may, func() { m.put(item{key: string(o.k), value: o.v}) })
	case kDelete:
		return t.delete(o, b, m, may)
	case kDeleteRange:
		lo, hi := m.span(o.k, o.l)
		n, err := b.DeleteRange(o.k, o.l)
		if err == nil && n != hi-lo {
			return fmt.Errorf("%d items, want %d", n, hi-lo)
		}
		return t.did(err, may, func() { m.cut(lo, hi) })
	case kFill:
		return t.fill(o, b, m, may)
	case kSetSequence:
		return t.did(b.SetSequence(uint64(o.n)), may, func() { m.seq = uint64(o.n) })
	case kNextSequence:
		n, err := b.NextSequence()
		if err == nil && n != m.seq+1 {
			return fmt.Errorf("sequence %d, want %d", n, m.seq+1)
		}
		return t.did(err, may, func() { m.seq++ })
	}
	return t.writeBucket(o, b, m, may)
}

// did checks the error of a write, and has the model follow if there must be none.
func (t *txn) did(err error, may []error, follow func()) error {
	if len(may) == 0 && err == nil {
		follow()
		return nil
	}
	return wantError(err, may)
}

func wantError(err error, may []error) error {
	for _, target := range may {
		if errors.Is(err, target) {
			return nil
		}
	}
	if len(may) == 0 {
		return err
	}
	return fmt.Errorf("error %v, want one of %v", err, may)
}

// keyErrors returns the errors that a key or bucket name deserves.
func keyErrors(key []byte, empty error) []error {
	switch {
	case len(key) == 0:
		return []error{empty}
	case len(key) > folio.MaxKeySize:
		return []error{folio.ErrKeyTooLarge}
	}
	return nil
}

func (t *txn) delete(o op, b *folio.Bucket, m *bucket, may []error) error {
	err := b.Delete(o.k)
	it := m.find(o.k)
	if it != nil && it.bucket {
		may = append(may, folio.ErrIncompatibleValue)
	}
	if len(may) == 0 && len(o.k) == 0 || len(o.k) > folio.MaxKeySize {
		return nil // such a key cannot be there: nil or an error are both right
	}
	return t.did(err, may, func() {
		if it != nil {
			i := m.rank(o.k)
			m.cut(i, i+1)
		}
	})
}

// fill puts n keys, in an order that the value's seed chooses.
func (t *txn) fill(o op, b *folio.Bucket, m *bucket, may []error) error {
	v := o.v
	for i := range o.n {
		key := fillKey(o, i)
		bad := append(may[:len(may):len(may)], keyErrors(key, folio.ErrKeyRequired)...)
		if it := m.find(key); it != nil && it.bucket {
			bad = append(bad, folio.ErrIncompatibleValue)
		}
		v.seed++
		if err := t.did(b.Put(key, v.append(nil)), bad, func() { m.put(item{key: string(key), value: v}) }); err != nil {
			return fmt.Errorf("put %s: %w", quote(key), err)
		}
		if len(bad) > 0 {
			return nil
		}
	}
	return nil
}

// fillKey is the i-th key of a fill: ascending, descending or scattered.
func fillKey(o op, i int) []byte {
	switch o.v.seed % 3 {
	case 1:
		i = o.n - 1 - i
	case 2:
		i = i * 7919 % 10007 // distinct below 10,007
	}
	return fmt.Appendf(bytes.Clone(o.k), "%05d", i)
}

// writeBucket runs the ops that make, remove and move buckets.
func (t *txn) writeBucket(o op, b *folio.Bucket, m *bucket, may []error) error {
	it := m.find(o.k)
	switch o.kind {
	case kCreateBucket, kEnsureBucket:
		may = append(may, keyErrors(o.k, folio.ErrBucketNameRequired)...)
		if it != nil && !it.bucket {
			may = append(may, folio.ErrIncompatibleValue)
		}
		make := b.CreateBucketIfNotExists
		if o.kind == kCreateBucket {
			make = b.CreateBucket
			if it != nil && it.bucket {
				may = append(may, folio.ErrBucketExists)
			}
		}
		kid, err := make(o.k)
		if (kid == nil) != (err != nil) {
			return fmt.Errorf("bucket %v with error %v", kid, err)
		}
		if it != nil && it.bucket {
			return wantError(err, may)
		}
		return t.did(err, may, func() { m.createBucket(o.k) })
	case kDeleteBucket:
		may = append(may, noBucketErrors(o.k, it)...)
		remove := b.DeleteBucket
		if m == t.root {
			remove = t.tx.DeleteBucket
		}
		return t.did(remove(o.k), may, func() {
			i := m.rank(o.k)
			m.cut(i, i+1)
		})
	}
	return t.moveBucket(o, b, m, may)
}

// noBucketErrors returns the errors that asking for bucket name deserves, when it
// is the item found.
func noBucketErrors(name []byte, found *item) []error {
	switch {
	case len(name) == 0:
		return []error{folio.ErrBucketNameRequired, folio.ErrBucketNotFound}
	case len(name) > folio.MaxKeySize:
		return []error{folio.ErrKeyTooLarge, folio.ErrBucketNotFound}
	case found == nil:
		return []error{folio.ErrBucketNotFound}
	case !found.bucket:
		return []error{folio.ErrIncompatibleValue}
	}
	return nil
}

func (t *txn) moveBucket(o op, b *folio.Bucket, m *bucket, may []error) error {
	dst, md, err := t.bucket(ref{path: o.to})
	if err != nil || dst == nil {
		return err
	}
	it := m.find(o.k)
	may = append(may, noBucketErrors(o.k, it)...)
	if m == md || it != nil && it.bucket && md.under(m.kids[it.key]) {
		may = append(may, folio.ErrSameBuckets)
	}
	if there := md.find(o.k); there != nil {
		may = append(may, map[bool]error{true: folio.ErrBucketExists, false: folio.ErrIncompatibleValue}[there.bucket])
	}
	if m == t.root || md == t.root { // by the transaction, for which nil is the root
		if m == t.root {
			b = nil
		}
		if md == t.root {
			dst = nil
		}
		err = t.tx.MoveBucket(o.k, b, dst)
	} else {
		err = b.MoveBucket(o.k, dst)
	}
	return t.did(err, may, func() { m.move(o.k, md) })
}
