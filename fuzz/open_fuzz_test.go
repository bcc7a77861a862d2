package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/foliodb/folio"
)

// An image is the files of a store, for FuzzOpen to damage. Its content is ledgers
// (ledger.go), which tell by themselves whether they are whole.
type image struct {
	name    string
	data    []byte
	log     []byte // nil: there is none
	commits uint64 // in the store, those of the log included
	least   uint64 // of them, those that a checkpoint covers
	relaxed bool   // all but every fifth in the log are

	// What is there at least: node pages, runs, free sets that meta slots name, and log records.
	nodes, runs, sets, records, tails int

	tailsAt []int // where they begin in the log
	cost    int   // bytes that openDamaged allocates for the sound image
}

func (im *image) clone() *image {
	c := *im
	c.data, c.log = bytes.Clone(im.data), bytes.Clone(im.log)
	return &c
}

// fix puts the checksums right. What is a node is asked of the sound image, since
// damage may have changed a node's look.
func (im *image) fix(sound *image) {
	fixPages(im.data, sound.isNode)
	fixLog(im.log, im.tailsAt)
}

// isNode reports whether a page of a sound image is a node.
func (im *image) isNode(id int) bool {
	at := id * imagePageSize
	return at+imagePageSize <= len(im.data) && soundPage(im.data[at:][:imagePageSize])
}

// buildImages makes stores of several kinds: closed or killed, empty or with pages
// of every sort.
func buildImages(t testing.TB) []*image {
	dir := scratch(t)
	images := []*image{
		buildImage(t, dir, image{name: "empty"}, 0, 0),
		buildImage(t, dir, image{name: "closed", nodes: 8, runs: 8, sets: 2}, 4*bulkEvery+20, 0),
		buildImage(t, dir, image{name: "killed", nodes: 8, runs: 8, sets: 2, records: 9}, 4*30, 10),
		buildImage(t, dir, image{name: "killed-early", records: 5}, 0, 6),
		buildImage(t, dir, image{name: "killed-relaxed", relaxed: true, nodes: 8, records: 4, tails: 9}, 4*8, 20),
	}
	for _, im := range images {
		im.measure(t, filepath.Join(dir, im.name+".cost"))
	}
	return images
}

// buildImage makes the given number of commits that a checkpoint covers, and then as
// many that are in the log alone; without any of those the store is closed.
func buildImage(t testing.TB, dir string, im image, closed, logged int) *image {
	live, left := filepath.Join(dir, im.name+".live"), filepath.Join(dir, im.name)
	db, err := folio.Open(live, &folio.Options{PageSize: imagePageSize})
	if err != nil {
		t.Fatal(err)
	}
	for i := range closed + logged {
		if i == closed {
			err = db.Checkpoint()
		}
		err = errors.Join(err, db.Update(func(tx *folio.Tx) error {
			if im.relaxed && i >= closed && i%5 > 0 {
				tx.SetDurability(folio.Relaxed)
			}
			_, err := advance(tx, i%ledgers)
			return err
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if logged > 0 {
		err = copyStore(live, left)
		err = errors.Join(err, db.Close())
	} else {
		err = errors.Join(db.Close(), os.Rename(live, left))
	}
	if err != nil {
		t.Fatal(err)
	}
	im.commits, im.least = uint64(closed+logged), uint64(closed)
	if im.data, err = os.ReadFile(left); err != nil {
		t.Fatal(err)
	}
	if im.log, err = os.ReadFile(left + "-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	im.tailsAt = tailsOf(im.log)
	return &im
}

// damage changes the files of im as s chooses. It reports whether the checksums are
// to be put right afterwards, after which the content may be anything.
func damage(im *image, others []*image, s source) (fixed bool) {
	fixed = s.intn(2) == 0
	for range 24 {
		if !s.more() {
			break
		}
		file := &im.data
		if len(im.log) > 0 && s.intn(2) == 0 {
			file = &im.log
		}
		switch s.intn(16) {
		case 0:
			*file = (*file)[:s.intn(len(*file)+1)]
		case 1:
			*file = append(*file, make([]byte, s.intn(3*imagePageSize))...)
		case 2:
			im.log = nil
		case 3:
			other := others[s.intn(len(others))]
			im.log, im.tailsAt = bytes.Clone(other.log), other.tailsAt
		case 4: // one page or block over another
			size := []int{logBlock, imagePageSize}[s.intn(2)]
			if n := len(*file) / size; n > 1 {
				copy((*file)[s.intn(n)*size:][:size], (*file)[s.intn(n)*size:])
			}
		case 5:
			if n := len(*file) / logBlock; n > 0 {
				clear((*file)[s.intn(n)*logBlock:][:logBlock])
			}
		case 6, 7:
			redirect(im.data, s)
		default:
			setNumber(*file, s)
		}
	}
	return fixed
}

// redirect finds a number in a page that could name another page, and has it name
// some other: a child, a run or a bucket's root then leads astray.
func redirect(data []byte, s source) {
	pages := len(data) / imagePageSize
	if pages < 3 {
		return
	}
	p := data[s.intn(pages)*imagePageSize:][:imagePageSize]
	var found []int
	for at := 0; at+4 <= len(p); at++ {
		if id := le.Uint32(p[at:]); id >= 2 && int(id) < pages && id < 1<<16 {
			found = append(found, at)
		}
	}
	if len(found) > 0 {
		le.PutUint32(p[found[s.intn(len(found))]:], uint32(s.intn(pages)))
	}
}

// setNumber overwrites a number of one to eight bytes, mostly in a header, mostly by
// one that is special.
func setNumber(file []byte, s source) {
	if len(file) < imagePageSize {
		return
	}
	unit := []int{imagePageSize, logBlock}[s.intn(2)]
	within := []int{32, 128, 512, unit}[s.intn(4)]
	at := s.intn(len(file)/unit)*unit + s.intn(within)
	size := 1 << s.intn(4)
	var word [8]byte
	switch x := uint64(s.intn(256)); s.intn(4) {
	case 0:
		le.PutUint64(word[:], x)
	case 1:
		le.PutUint64(word[:], -x)
	case 2:
		le.PutUint64(word[:], 1<<(x%64))
	case 3:
		copy(word[:], file[at:])
		le.PutUint64(word[:], le.Uint64(word[:])+x-128)
	}
	copy(file[at:], word[:size])
}

// FuzzOpen damages the files of a store, or replaces them, and opens what is left:
// the answer is the right data or a typed error, never a panic, a fault, a loop or a
// changed file that was refused, and never more memory than the files and a constant.
func FuzzOpen(f *testing.F) {
	images := buildImages(f)
	for seed := range uint64(16) {
		s := newSeeded(seed)
		b := make([]byte, 8+int(seed)*8)
		for i := range b {
			b[i] = byte(s.intn(256))
		}
		b[0] = byte(seed)
		f.Add(b)
	}
	f.Add(append([]byte{255}, "these bytes are the file"...))
	dir := scratch(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		s := &chosen{rest: choices}
		n := s.intn(256)
		im, fixed := images[n%len(images)].clone(), false
		if n == 255 {
			im = &image{data: bytes.Clone(s.rest), cost: images[0].cost}
		} else if fixed = damage(im, images, s); fixed {
			im.fix(images[n%len(images)])
		}
		dir, err := os.MkdirTemp(dir, "open-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		_, err = bounded("what FuzzOpen chose", len(im.data)+len(im.log), im.cost+openRoom, func() error {
			return openDamaged(filepath.Join(dir, "app.db"), im, !fixed && n != 255)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// openDamaged opens the files of im, first for reading, which must not change them,
// then for writing. With detectable damage every answer that is not an error must be right.
func openDamaged(path string, im *image, detectable bool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if err := im.write(path); err != nil {
		return err
	}
	err = errors.Join(
		visit(path, &folio.Options{ReadOnly: true}, func(db *folio.DB) error { return look(db, im, detectable) }),
		im.unchanged(path))
	if err != nil {
		return fmt.Errorf("read-only: %w", err)
	}
	db, err := folio.Open(path, nil)
	if err != nil {
		bad := typed("Open", err)
		// A recovery that meets a lie with the right checksum may have written to free
		// pages by then, made the slots equal, and appended a link to the log: no loss.
		if detectable || im.log == nil {
			bad = errors.Join(bad, im.unchanged(path))
		}
		if bad != nil {
			return fmt.Errorf("refused with %v: %w", err, bad)
		}
		return nil
	}
	return errors.Join(look(db, im, detectable), change(db, path), typed("Close", db.Close()))
}

func (im *image) write(path string) error {
	err := os.WriteFile(path, im.data, 0o600)
	if im.log != nil {
		err = errors.Join(err, os.WriteFile(path+"-wal", im.log, 0o600))
	}
	return err
}

// blank reports whether the data file is empty, or what a crash leaves of one that was
// being made a store: it becomes a new store.
func (im *image) blank() bool { return len(bytes.Trim(im.data, "\x00")) == 0 }

// unchanged checks that the files are as they were written.
func (im *image) unchanged(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil && (im.log != nil || !errors.Is(err, os.ErrNotExist)) {
		return err
	}
	return errors.Join(same("data file size", len(data), len(im.data)), same("log size", len(log), len(im.log)),
		same("bytes of the data file that changed", differences(data, im.data), 0),
		same("bytes of the log that changed", differences(log, im.log), 0))
}

// differences counts the bytes that differ. Mostly none do, and a loop over bytes is slow where the fuzzer counts its rounds.
func differences(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	n := max(len(a), len(b)) - min(len(a), len(b))
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// visit opens the store for fn. What the store says is right as long as it is a
// typed error; what fn returns is a fault.
func visit(path string, opts *folio.Options, fn func(*folio.DB) error) error {
	db, err := folio.Open(path, opts)
	if err != nil {
		return typed("Open", err)
	}
	return errors.Join(fn(db), typed("Close", db.Close()))
}

// typed passes errors that a damaged store may give, and nil.
func typed(what string, err error) error {
	for _, target := range []error{folio.ErrInvalid, folio.ErrVersionMismatch, folio.ErrCorrupt, folio.ErrPoisoned} {
		if errors.Is(err, target) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s gave an error of no type: %w", what, err)
	}
	return nil
}

// errWrong is for content that the store gave without an error, and that is wrong.
var errWrong = errors.New("wrong content")

// look reads everything. With detectable damage what is read must be the state
// after some commit.
func look(db *folio.DB, im *image, detectable bool) error {
	var err error
	viewed := db.View(func(tx *folio.Tx) error {
		if !detectable {
			return walk(tx.Root(), new(int), 0)
		}
		n := tx.Root().Sequence()
		if n > im.commits || n < im.least && !im.blank() {
			return fmt.Errorf("%w: %d commits, there were %d, in the data file %d", errWrong, n, im.commits, im.least)
		}
		if bad := audit(tx); bad != nil {
			return fmt.Errorf("%w: %w", errWrong, bad)
		}
		return nil
	})
	if errors.Is(viewed, errWrong) {
		err = viewed
	} else {
		err = typed("View", viewed)
	}
	damaged := db.Check()
	if err = errors.Join(err, typed("Check", damaged)); err == nil && damaged == nil && !detectable {
		err = db.View(func(tx *folio.Tx) error { return agree(tx.Root()) })
	}
	return err
}

// agree reads a bucket that Check has nothing against in every way, which must all say the same.
func agree(b *folio.Bucket) error {
	var last []byte
	n := 0
	for k, v := range b.All() {
		at, _ := b.At(n)
		switch {
		case n > 0 && bytes.Compare(last, k) >= 0:
			return fmt.Errorf("key %s comes behind %s", quote(k), quote(last))
		case !bytes.Equal(at, k) || b.Rank(k) != n:
			return fmt.Errorf("key %s is item %d, At says %s, Rank %d", quote(k), n, quote(at), b.Rank(k))
		case v != nil && !bytes.Equal(b.Get(k), v):
			return fmt.Errorf("key %s: Get gives another value", quote(k))
		}
		last = append(last[:0], k...)
		n++
		if v != nil {
			continue
		}
		kid := b.Bucket(k)
		if kid == nil {
			return fmt.Errorf("bucket %s is not there", quote(k))
		}
		if err := agree(kid); err != nil {
			return fmt.Errorf("%s/%w", quote(k), err)
		}
	}
	i := n
	for k := range b.Backward() {
		i--
		if at, _ := b.At(i); !bytes.Equal(at, k) {
			return fmt.Errorf("key %s is item %d backwards, At says %s", quote(k), i, quote(at))
		}
	}
	return errors.Join(same("items backwards", n-i, n), same("items", b.Len(), n))
}

// Limits of walk: buckets that a damaged file nests in themselves have no end.
const (
	walkDepth = 12
	walkItems = 20_000
)

// walk reads a bucket in every way, and the buckets in it.
func walk(b *folio.Bucket, seen *int, depth int) error {
	size := 0
	for k, v := range b.All() {
		size += len(k) + len(v)
		if *seen++; *seen > walkItems {
			return nil
		}
		if v != nil || depth == walkDepth {
			continue
		}
		if kid := b.Bucket(k); kid != nil {
			if err := walk(kid, seen, depth+1); err != nil {
				return err
			}
		}
	}
	for range b.Backward() {
		if *seen++; *seen > walkItems {
			return nil
		}
	}
	n := b.Len()
	for _, i := range []int{0, n / 2, n - 1} {
		if k, _ := b.At(i); k != nil {
			b.Rank(k)
			b.Get(k)
			b.Count(nil, k)
		}
	}
	return nil
}

// change writes to the store, removes what is in it, and copies what is left.
func change(db *folio.DB, path string) error {
	err := errors.Join(
		typed("Update", db.Update(func(tx *folio.Tx) error {
			for g := range ledgers {
				if b := tx.Bucket(ledgerName(g)); b != nil {
					for i := range 60 {
						if err := b.Put(fmt.Appendf(nil, "%08dx", i), make([]byte, i*i)); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})),
		typed("Backup", db.Backup(path+".backup")),
		typed("Compact", db.Compact(path+".compact")),
		typed("Checkpoint", db.Checkpoint()),
		typed("Update", db.Update(func(tx *folio.Tx) error {
			_, err := tx.Root().DeleteRange(nil, []byte("ledger2"))
			return err
		})),
		typed("Update", db.Update(func(tx *folio.Tx) error {
			if tx.Bucket(ledgerName(2)) == nil {
				return nil
			}
			return tx.DeleteBucket(ledgerName(2))
		})),
		typed("Check", db.Check()))
	for _, suffix := range []string{".backup", ".compact"} {
		if _, gone := os.Stat(path + suffix); gone == nil {
			err = errors.Join(err, visit(path+suffix, nil, func(db *folio.DB) error { return typed("Check", db.Check()) }))
		}
	}
	return err
}
