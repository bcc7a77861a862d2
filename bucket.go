package folio

import (
	"bytes"
	"errors"
	"runtime/debug"
	"slices"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
)

// Bucket is an ordered set of keys with values, and of nested buckets under names. It is
// valid until its transaction ends. In a write transaction there is one Bucket for each
// bucket, however often it is asked for; a moved one follows its bucket, one of a deleted
// bucket is dead.
type Bucket struct {
	tx       *Tx
	tree     *btree.Tree // nesting's own, or, in a read transaction, often the snapshot's
	sequence uint64
	*nesting // nil in a read transaction
}

// nesting is a bucket's place among the others of a write transaction.
type nesting struct {
	own      btree.Tree
	parent   *Bucket // nil: the root
	name     []byte
	order    []*Bucket          // the children that are open, in the order of opening, so that commits are repeatable
	children map[string]*Bucket // the same, where there are many; else nil
	dirty    bool               // its entry in the parent's tree is out of date
	dead     bool               // deleted
}

// Tx returns the bucket's transaction.
func (b *Bucket) Tx() *Tx {
	b.mustBe("Tx")
	return b.tx
}

// Writable reports whether the bucket may be changed.
func (b *Bucket) Writable() bool {
	b.mustBe("Writable")
	return b.tx.Writable()
}

// mustBe panics on a nil bucket, which is what a lookup of one that is not there returns.
func (b *Bucket) mustBe(method string) {
	if b == nil {
		panic("folio: " + method + " on a nil bucket")
	}
}

// use panics when the bucket cannot be read: the caller's method has no error to return.
func (b *Bucket) use(method string) {
	b.useDeferred(method)
	if b.tx.writing != nil && (b.tx.deferred || b.tx.streak > 0 || b.tx.lost) {
		if err := b.tx.enterTreeGuarded(); err != nil {
			b.tree.Init(page.BucketHeader{}, nil, nil, nil) // the snapshot has not what the transaction has done: nothing is found
			b.sequence = 0
			b.tx.spoil(err)
		}
	}
}

// useDeferred is use for what a deferred transaction can do without the tree.
func (b *Bucket) useDeferred(method string) {
	b.mustBe(method)
	if b.tx.done.Load() {
		panic("folio: " + method + " on a transaction that has ended")
	}
	if b.nesting != nil && b.dead {
		panic("folio: " + method + " on a bucket that was deleted")
	}
}

// enterTreeGuarded is enterTree for methods of which the guard begins behind it, or that have none of their own: Len reads no page by itself,
// but what comes before may.
func (tx *Tx) enterTreeGuarded() (err error) {
	if !tx.managed {
		defer tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	return tx.enterTree()
}

// usable is use for methods that return an error.
func (b *Bucket) usable() error {
	switch {
	case b == nil:
		return ErrBucketNotFound
	case b.tx.done.Load():
		return ErrTxClosed
	case b.nesting != nil && b.dead:
		return ErrBucketNotFound
	}
	return nil
}

// changeable readies the bucket for a change: it returns errors of use, and keeps the
// transaction's heap within its limit.
func (b *Bucket) changeable() error {
	if err := b.usable(); err != nil {
		return err
	}
	tx := b.tx
	if tx.writing == nil {
		return ErrTxNotWritable
	}
	if tx.failed != nil {
		return tx.failed
	}
	if tx.deferred {
		return nil
	}
	if err := tx.db.pager.relieve(); err != nil {
		return tx.doom(err)
	}
	return nil
}

// changeableTree is changeable for changes that take the transaction over to the tree.
func (b *Bucket) changeableTree() error {
	if err := b.changeable(); err != nil {
		return err
	}
	return b.tx.enterTree()
}

// unguarded reports whether faults of the mapping are the method's own to catch: in View and Update they are caught
// there, which costs less.
func (b *Bucket) unguarded() bool { return b != nil && !b.tx.managed }

// fail sorts the error of a change: errors of use leave the transaction as it was, any other dooms it.
func (b *Bucket) fail(err error) error {
	if errors.Is(err, btree.ErrKind) {
		// The tree may have moved pages before it found out, so its root may be another.
		b.dirty = true
		return ErrIncompatibleValue
	}
	return b.tx.doom(err)
}

// doom makes err what every later change and Commit return. A change that failed on its way in the tree may have left half of itself there, with counts that
// are wrong: nothing is read from it any more.
func (tx *Tx) doom(err error) error {
	err = outer(tx.db.named(err))
	if tx.failed == nil {
		tx.failed = err
	}
	if !tx.deferred {
		tx.lost = true
	}
	return err
}

func checkKey(key []byte) error {
	if len(key) == 0 {
		return ErrKeyRequired
	}
	if len(key) > MaxKeySize {
		return ErrKeyTooLarge
	}
	return nil
}

// header describes the bucket as it is now.
func (b *Bucket) header() page.BucketHeader {
	h := b.tree.Header()
	h.Sequence = b.sequence
	return h
}

// Get returns the value of key: nil when the key is absent or names a bucket; an empty value is not
// nil. The slice is valid, and unchanged, until the transaction ends. Get does not
// allocate.
func (b *Bucket) Get(key []byte) []byte {
	b.use("Get")
	if !b.tx.managed {
		return b.getGuarded(key)
	}
	return b.get(key)
}

func (b *Bucket) get(key []byte) []byte {
	value, bucket, found, err := b.tree.Get(key)
	if err != nil {
		b.tx.spoil(err)
	}
	if !found || bucket {
		return nil
	}
	return value
}

func (b *Bucket) getGuarded(key []byte) []byte {
	defer b.tx.catch(debug.SetPanicOnFault(true))
	return b.get(key)
}

// Put sets the value of key. Both are copied; a nil value is an empty one. Errors: ErrKeyRequired,
// ErrKeyTooLarge, ErrValueTooLarge, ErrIncompatibleValue if the key names a bucket,
// ErrTxNotWritable. An error of another kind (no space, damage) dooms the
// transaction: every later change and Commit return it, and reading ends as at damage, with this error: see Tx.Err.
func (b *Bucket) Put(key, value []byte) (err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeable(); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > MaxValueSize {
		return ErrValueTooLarge
	}
	b.tx.put()
	done := false
	if p := &b.tx.db.pager; b.tx.bulk && !b.tx.behind() && p.appending { // most go behind the one before
		if done, err = b.tree.Append(key, value); err != nil {
			return b.fail(err)
		}
		p.sorted = p.sorted || done
	}
	if !done {
		if done, err := b.postpone(key, value, true); done || err != nil {
			return err
		}
		if _, err := b.tree.Put(key, value, false); err != nil {
			return b.fail(err)
		}
	}
	b.log()
	if b.tx.logs() && !b.tx.bursts(len(key)+len(value)) {
		b.tx.makeRoom(len(key) + len(value))
		b.tx.ops.Put(key, value)
		b.tx.logged()
	}
	b.tx.stats.Puts++
	return nil
}

// put notes that the transaction does not only delete.
func (tx *Tx) put() {
	tx.puts = true
	if tx.holdsTree {
		tx.db.pager.putting = true
	}
}

// Delete removes key. That it is absent is no error; that it names a bucket is ErrIncompatibleValue.
func (b *Bucket) Delete(key []byte) (err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeable(); err != nil {
		return err
	}
	if len(key) == 0 || len(key) > MaxKeySize {
		return nil // no such key can be there
	}
	if done, err := b.postpone(key, nil, false); done || err != nil {
		return err
	}
	found, err := b.tree.Delete(key, false)
	if err != nil {
		return b.fail(err)
	}
	if !found {
		return nil
	}
	b.log()
	if b.tx.logs() {
		b.tx.ops.Delete(key)
		b.tx.logged()
	}
	b.tx.stats.Deletes++
	return nil
}

// DeleteRange removes every item from the key from up to, and without, the key to; nil is no bound.
// Buckets inside go too, with all in them. It returns the number of items removed. Whole subtrees are cut without
// being read, so the cost is that of the edges, plus a little for each page freed.
func (b *Bucket) DeleteRange(from, to []byte) (n int, err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeableTree(); err != nil {
		return 0, err
	}
	removed, err := b.tree.DeleteRange(from, to, b.dropChild)
	if err != nil {
		return clampInt(removed), b.fail(err)
	}
	if removed == 0 {
		return 0, nil
	}
	b.log()
	if b.tx.logs() {
		b.tx.ops.DeleteRange(from, to)
		b.tx.logged()
	}
	b.tx.stats.Deletes += removed
	return clampInt(removed), nil
}

// clampInt saturates a count at what an int holds.
func clampInt(n uint64) int {
	const maxInt = int(^uint(0) >> 1)
	return int(min(n, uint64(maxInt)))
}

// logs reports whether operations are being logged.
func (tx *Tx) logs() bool { return !tx.bulk && !tx.replaying && !tx.db.volatile }

// log notes that the bucket is being changed, and has the log speak of it.
func (b *Bucket) log() {
	tx := b.tx
	tx.changed = true
	b.dirty = true
	if tx.selected != b && (tx.logs() || tx.collecting()) {
		tx.ops.Bucket(b.pathIn(tx.names[:0]))
		tx.selected = b
	}
}

// logged notes an operation that the log has taken: when its record has become too large, logging is given up.
func (tx *Tx) logged() {
	if !tx.bulk && int64(len(tx.ops)) > tx.db.bulkLimit() {
		tx.goBulk()
	}
}

// bursts gives up logging if an operation of n bytes would make the record too large: a value of that size need not be copied for that.
func (tx *Tx) bursts(n int) bool {
	if int64(len(tx.ops))+int64(n) <= tx.db.bulkLimit() {
		return false
	}
	tx.goBulk()
	return true
}

// bulkLimit is the number of bytes of operations from which a transaction commits by checkpoint. Places of operations are numbers of 32
// bits, and a bulk transaction collects twice as much.
func (db *DB) bulkLimit() int64 { return min(db.opts.mostLogged, db.backlogLimit()/2) }

// path returns the names that lead from the root to the bucket, now.
func (b *Bucket) path() [][]byte { return b.pathIn(nil) }

// pathIn is path, in a slice that there is.
func (b *Bucket) pathIn(names [][]byte) [][]byte {
	for ; b.parent != nil; b = b.parent {
		names = append(names, b.name)
	}
	slices.Reverse(names)
	return names
}

// Bucket returns the nested bucket of that name; nil: there is none.
func (b *Bucket) Bucket(name []byte) *Bucket {
	b.useDeferred("Bucket")
	if b.nesting == nil && b == &b.tx.root {
		return b.opened(name)
	}
	return b.open(name)
}

// opened is Bucket for the root of a read transaction. The first trees that are found twice are kept with the snapshot, for the transactions behind: the way
// down to the bucket's entry took a sixth of the time of a transaction with one Get.
func (b *Bucket) opened(name []byte) *Bucket {
	at := b.tx.snapshot.place(name)
	if at == nil {
		return b.open(name)
	}
	o := at.Load()
	if o != nil && o.name == string(name) && o.tree != nil {
		return b.tx.reader(o.tree, o.sequence)
	}
	c := b.open(name)
	switch {
	case o == nil:
		at.CompareAndSwap(nil, &seenBucket)
	case o == &seenBucket && c != nil && c.tree.Header().Root != 0: // an image is looked up, so that its page is looked at each time
		t := *c.tree
		at.CompareAndSwap(o, &openedBucket{string(name), &t, c.sequence})
	}
	return c
}

// open is Bucket by the way down to the bucket's entry.
func (b *Bucket) open(name []byte) *Bucket {
	if b.tx.writing != nil && b.tx.lost {
		b.use("Bucket") // says why, and that nothing is found: the snapshot that b may have is not pinned any more
		return nil
	}
	defer b.tx.catchUnmanaged(debug.SetPanicOnFault(true))
	c, err := b.lookup(name)
	if err != nil {
		b.tx.spoil(err)
	}
	return c
}

// catchUnmanaged is catch, but leaves panics inside View and Update to these.
func (tx *Tx) catchUnmanaged(old bool) {
	debug.SetPanicOnFault(old)
	if tx.managed {
		return
	}
	if r := recover(); r != nil {
		err := tx.damageOf(r)
		if err == nil {
			panic(r)
		}
		tx.spoil(err)
	}
}

// lookup returns the nested bucket; nil without an error: there is none.
func (b *Bucket) lookup(name []byte) (*Bucket, error) {
	if b.nesting != nil {
		if c := b.child(name); c != nil {
			return c, nil
		}
	}
	value, bucket, found, err := b.tree.Get(name)
	if err != nil || !found || !bucket {
		return nil, err
	}
	return b.adopt(name, value), nil
}

// adopt makes the Bucket for a nested bucket's entry.
func (b *Bucket) adopt(name, value []byte) *Bucket {
	tx := b.tx
	h, image := page.DecodeBucket(value)
	if tx.writing == nil {
		if tx.used.Load() {
			with := new(struct {
				Bucket
				own btree.Tree
			})
			with.own.Init(h, image, &tx.snapshot.view, tx.readWriter())
			with.Bucket = Bucket{tx: tx, tree: &with.own, sequence: h.Sequence}
			return &with.Bucket
		}
		t := new(btree.Tree)
		t.Init(h, image, &tx.snapshot.view, tx.readWriter())
		return tx.reader(t, h.Sequence)
	}
	c := tx.newChild()
	c.sequence, c.parent, c.name = h.Sequence, b, append(c.name, name...)
	if tx.deferred {
		c.tree.Init(h, image, &tx.snapshot.view, nil)
	} else {
		c.tree.Init(h, image, &tx.db.pager.view, &tx.db.pager)
	}
	b.enlist(c)
	return c
}

// reader returns a Bucket of a read transaction.
func (tx *Tx) reader(t *btree.Tree, sequence uint64) *Bucket {
	b := &tx.first
	if !tx.used.CompareAndSwap(false, true) {
		b = new(Bucket)
	}
	b.tx, b.tree, b.sequence = tx, t, sequence
	return b
}

// newChild returns an empty Bucket for a write transaction. The first one comes with the transaction: most have only one.
func (tx *Tx) newChild() *Bucket {
	c, n := &tx.first, &tx.firstNesting
	if tx.used.Swap(true) {
		c, n = new(Bucket), new(nesting)
	} else {
		n.name, tx.root.order = tx.firstName[:0], tx.firstChild[:0]
	}
	c.tx, c.tree, c.nesting = tx, &n.own, n
	return c
}

// fewChildren is up to how many open buckets are looked for one after the other.
const fewChildren = 8

// child returns the open nested bucket of that name; nil: there is none.
func (b *Bucket) child(name []byte) *Bucket {
	if b.children != nil {
		return b.children[string(name)]
	}
	for _, c := range b.order {
		if bytes.Equal(c.name, name) {
			return c
		}
	}
	return nil
}

func (b *Bucket) enlist(c *Bucket) {
	b.order = append(b.order, c)
	switch {
	case b.children != nil:
		b.children[string(c.name)] = c
	case len(b.order) > fewChildren:
		b.children = make(map[string]*Bucket)
		for _, c := range b.order {
			b.children[string(c.name)] = c
		}
	}
}

func (b *Bucket) delist(c *Bucket) {
	delete(b.children, string(c.name))
	i := slices.Index(b.order, c)
	b.order = slices.Delete(b.order, i, i+1)
}

// CreateBucket makes a nested bucket. ErrBucketExists if it is there, ErrIncompatibleValue if the name is
// a key with a value, ErrBucketNameRequired if it is empty, ErrKeyTooLarge.
func (b *Bucket) CreateBucket(name []byte) (c *Bucket, err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeableTree(); err != nil {
		return nil, err
	}
	if len(name) == 0 {
		return nil, ErrBucketNameRequired
	}
	if len(name) > MaxKeySize {
		return nil, ErrKeyTooLarge
	}
	if _, bucket, found, err := b.tree.Peek(name); err != nil {
		return nil, b.fail(err)
	} else if found {
		if bucket {
			return nil, ErrBucketExists
		}
		return nil, ErrIncompatibleValue
	}
	b.tx.put()
	var empty [page.BucketHeaderSize]byte
	if _, err := b.tree.Put(name, empty[:], true); err != nil {
		return nil, b.fail(err)
	}
	b.log()
	b.tx.restructures = true
	if b.tx.logs() {
		b.tx.ops.CreateBucket(name)
		b.tx.logged()
	}
	return b.adopt(name, empty[:]), nil
}

// CreateBucketIfNotExists returns the nested bucket, made if it is not there.
func (b *Bucket) CreateBucketIfNotExists(name []byte) (c *Bucket, err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeable(); err != nil {
		return nil, err
	}
	if len(name) > 0 && len(name) <= MaxKeySize {
		c, err := b.lookup(name)
		if err != nil {
			return nil, b.fail(err)
		}
		if c != nil {
			return c, nil
		}
	}
	return b.CreateBucket(name)
}

// DeleteBucket deletes a nested bucket and all in it. ErrBucketNotFound if there is none,
// ErrIncompatibleValue if the name is a key with a value.
func (b *Bucket) DeleteBucket(name []byte) (err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	c, err := b.existing(name)
	if err != nil {
		return err
	}
	if err := c.drop(); err != nil {
		return b.fail(err)
	}
	b.delist(c)
	if _, err := b.tree.Delete(name, true); err != nil {
		return b.fail(err)
	}
	b.log()
	b.tx.selected = nil // may have been inside
	if b.tx.logs() {
		b.tx.ops.Bucket(b.path())
		b.tx.ops.DeleteBucket(name)
		b.tx.logged()
	}
	return nil
}

// existing returns the nested bucket for a change of it.
func (b *Bucket) existing(name []byte) (*Bucket, error) {
	if err := b.changeableTree(); err != nil {
		return nil, err
	}
	if len(name) == 0 {
		return nil, ErrBucketNameRequired
	}
	if len(name) > MaxKeySize {
		return nil, ErrBucketNotFound
	}
	c, err := b.lookup(name)
	if err != nil {
		return nil, b.fail(err)
	}
	if c != nil {
		return c, nil
	}
	if _, _, found, err := b.tree.Peek(name); err != nil {
		return nil, b.fail(err)
	} else if found {
		return nil, ErrIncompatibleValue
	}
	return nil, ErrBucketNotFound
}

// drop frees the bucket's pages and those of all buckets inside, and makes the handles dead.
func (b *Bucket) drop() error {
	root := b.tree.Header().Root
	if root != 0 {
		dropping := b.tx.dropping
		if dropping[root] {
			return &CorruptError{Page: root, Offset: -1, Invariant: 1, Reason: "bucket contains itself"}
		}
		if dropping == nil {
			dropping = make(map[page.ID]bool)
			b.tx.dropping = dropping
		}
		dropping[root] = true
		defer delete(dropping, root)
	}
	if err := b.tree.Drop(b.dropChild); err != nil {
		return err
	}
	b.tx.restructures = true
	b.dead = true
	return nil
}

// dropChild drops the nested bucket whose entry goes.
func (b *Bucket) dropChild(name, value []byte) error {
	c := b.child(name)
	if c == nil {
		c = b.adopt(name, value)
	}
	if err := c.drop(); err != nil {
		return err
	}
	b.delist(c)
	return nil
}

// MoveBucket moves a nested bucket to dst, under its name. ErrBucketNotFound, ErrBucketExists if dst
// has one of that name, ErrIncompatibleValue if either has a key with a value there,
// ErrSameBuckets if dst is this bucket, the one moved, or inside it, ErrDifferentDB if
// dst belongs to another transaction.
func (b *Bucket) MoveBucket(name []byte, dst *Bucket) (err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := dst.usable(); err != nil {
		return err
	}
	if err := b.usable(); err != nil {
		return err
	}
	if b.tx.writing == nil {
		return ErrTxNotWritable
	}
	if b.tx != dst.tx {
		return ErrDifferentDB
	}
	if b == dst {
		return ErrSameBuckets
	}
	c, err := b.existing(name)
	if err != nil {
		return err
	}
	for at := dst; at != nil; at = at.parent {
		if at == c {
			return ErrSameBuckets
		}
	}
	if _, bucket, found, err := dst.tree.Peek(name); err != nil {
		return b.fail(err)
	} else if found {
		if bucket {
			return ErrBucketExists
		}
		return ErrIncompatibleValue
	}
	from := b.path()
	value, err := c.asIs()
	if err == nil {
		_, err = dst.tree.Put(name, value, true)
	}
	if err == nil {
		_, err = b.tree.Delete(name, true)
	}
	if err != nil {
		return b.fail(err)
	}
	b.delist(c)
	c.parent = dst
	dst.enlist(c)
	b.log()
	dst.dirty, c.dirty = true, true
	b.tx.restructures = true
	b.tx.selected = nil // its path may have changed
	if b.tx.logs() {
		b.tx.ops.Bucket(from)
		b.tx.ops.MoveBucket(name, dst.path())
		b.tx.logged()
	}
	return nil
}

// asIs encodes the bucket's entry without tidying it up: the commit will.
func (b *Bucket) asIs() ([]byte, error) {
	h := b.header()
	value := make([]byte, page.BucketHeaderSize, page.BucketHeaderSize+page.MaxImage(b.tx.db.pageSize))
	if h.Root == 0 {
		var err error
		if value, _, err = b.tree.Inline(value); err != nil {
			return nil, err
		}
	}
	h.Encode(value)
	return value, nil
}

// flush brings the entries of all nested buckets up to date, the innermost first. At the commit, which is
// final, small ones are put there whole; for a look in between they are described as they are.
func (b *Bucket) flush(final bool) error {
	for _, c := range b.order {
		if err := b.flushChild(c, final); err != nil {
			return err
		}
	}
	return nil
}

// flushChild brings the entry of one nested bucket up to date.
func (b *Bucket) flushChild(c *Bucket, final bool) error {
	if err := c.flush(final); err != nil || !c.dirty {
		return err
	}
	encode := c.asIs
	if final {
		encode = c.tidy
	}
	value, err := encode()
	if err != nil {
		return err
	}
	if _, err := b.tree.Put(c.name, value, true); err != nil {
		return err
	}
	if err := b.tx.db.pager.relieve(); err != nil {
		return err
	}
	c.dirty, b.dirty = !final, true
	return nil
}

// shut brings the entry of a nested bucket up to date as the commit does, and forgets the bucket: its handle is not used any more. Put off to the commit, small ones of which
// there are many have a page each until then, and what is written behind these stays there.
func (b *Bucket) shut(c *Bucket) error {
	tx := b.tx
	if err := tx.enterTree(); err != nil {
		return err
	}
	if err := b.flushChild(c, true); err != nil {
		return tx.doom(err)
	}
	if tx.selected == c {
		tx.selected = nil
	}
	c.dead = true
	b.delist(c)
	return nil
}

// tidy encodes the bucket's entry; a bucket that is small is put there whole, and its page freed.
func (b *Bucket) tidy() ([]byte, error) {
	h := b.header()
	value := make([]byte, page.BucketHeaderSize, page.BucketHeaderSize+page.MaxImage(b.tx.db.pageSize))
	value, small, err := b.tree.Inline(value)
	if err != nil {
		return nil, err
	}
	if small && h.Root != 0 {
		h.Root, h.Level = 0, 0
		if err := b.tree.Drop(b.dropChild); err != nil {
			return nil, err
		}
	}
	h.Encode(value)
	return value, nil
}

// ForEach calls fn for each item in order; a nested bucket comes with a nil value. An error of fn ends it and
// is returned. The bucket may be changed meanwhile, as with a cursor; if fn deletes it, or ends the transaction, ForEach returns
// ErrBucketNotFound or ErrTxClosed.
func (b *Bucket) ForEach(fn func(k, v []byte) error) error {
	if err := b.usable(); err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
		if err := b.usable(); err != nil { // the cursor would panic
			return err
		}
	}
	return b.tx.Err()
}

// ForEachBucket calls fn for each nested bucket's name in order.
func (b *Bucket) ForEachBucket(fn func(k []byte) error) error {
	return b.ForEach(func(k, v []byte) error {
		if v != nil {
			return nil
		}
		return fn(k)
	})
}

// Sequence returns the bucket's sequence number: 0 in a new bucket.
func (b *Bucket) Sequence() uint64 {
	b.use("Sequence")
	return b.sequence
}

// SetSequence sets the bucket's sequence number.
func (b *Bucket) SetSequence(n uint64) (err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeableTree(); err != nil {
		return err
	}
	b.sequence = n
	b.log()
	if b.tx.logs() {
		b.tx.ops.SetSequence(n)
		b.tx.logged()
	}
	return nil
}

// NextSequence raises the bucket's sequence number by one and returns it. Behind the largest comes 0.
func (b *Bucket) NextSequence() (n uint64, err error) {
	if b.unguarded() {
		defer b.tx.catchError(debug.SetPanicOnFault(true), &err)
	}
	if err := b.changeableTree(); err != nil {
		return 0, err
	}
	n = b.sequence + 1
	return n, b.SetSequence(n)
}
