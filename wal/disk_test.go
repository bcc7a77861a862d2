package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/vfs"
)

// errPower is what every call gives once the power has gone.
var errPower = errors.New("power cut")

// memFS is a file system in memory for one log. It forgets what was not synced
// in any way that a crash may.
type memFS struct {
	vfs.FS
	files   map[string]*memFile
	durable map[string]*memFile // entries as of the last SyncDir
	trace   []string            // what was done, by base name, while tracing
	tracing bool
	fail    func(op string) error // asked before each call that changes something
}

func newMemFS() *memFS {
	return &memFS{files: map[string]*memFile{}, durable: map[string]*memFile{}}
}

func (m *memFS) op(format string, args ...any) {
	if m.tracing {
		m.trace = append(m.trace, fmt.Sprintf(format, args...))
	}
}

func (m *memFS) ask(op string) error {
	if m.fail == nil {
		return nil
	}
	return m.fail(op)
}

func (m *memFS) Open(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	if err := m.ask("open"); err != nil {
		return nil, err
	}
	f := m.files[name]
	switch {
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case f == nil:
		m.op("create %s", filepath.Base(name))
		f = &memFile{fsys: m, name: name}
		m.files[name] = f
	}
	return f, nil
}

func (m *memFS) Remove(name string) error {
	if err := m.ask("remove"); err != nil {
		return err
	}
	if m.files[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.op("remove %s", filepath.Base(name))
	delete(m.files, name)
	return nil
}

func (m *memFS) SyncDir(string) error {
	if err := m.ask("syncdir"); err != nil {
		return err
	}
	m.op("syncdir")
	m.durable = map[string]*memFile{}
	for name, f := range m.files {
		m.durable[name] = f
	}
	return nil
}

// memFile is a file: what reads see, what the disk has, and the writes between.
type memFile struct {
	vfs.File
	fsys *memFS
	name string

	mu      sync.Mutex
	data    []byte
	disk    []byte
	pending []memWrite
	sizes   []int64 // passed through since the last sync
	closed  bool
	during  func() // is called once within Sync, when what that covers is settled
	space   int64  // largest size the disk has room for; 0: no bound
}

type memWrite struct {
	off  int64
	data []byte
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fsys.ask("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteV(bufs [][]byte, off int64) error {
	_, err := f.WriteAt(slices.Concat(bufs...), off)
	return err
}

func (f *memFile) Window(int64, int64) (vfs.Window, error) { return vfs.PlainWindow(f), nil }

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	if len(p)%tailUnit != 0 || off%tailUnit != 0 {
		panic(fmt.Sprintf("write of %d bytes at %d", len(p), off))
	}
	err := f.fsys.ask("write")
	if err != nil {
		p = p[:len(p)/2/block*block] // a short write
	}
	if f.space != 0 && off+int64(len(p)) > max(f.space, int64(len(f.data))) {
		return 0, syscall.ENOSPC
	}
	if len(p) > 0 {
		f.fsys.op("write %d@%d", len(p), off)
		f.resize(max(int64(len(f.data)), off+int64(len(p))))
		copy(f.data[off:], p)
		// The disk is given whole blocks.
		from := floored(off)
		f.resize(max(int64(len(f.data)), padded(off+int64(len(p)))))
		f.pending = append(f.pending, memWrite{from, bytes.Clone(f.data[from:padded(off+int64(len(p)))])})
	}
	if err != nil {
		return len(p), err
	}
	return len(p), nil
}

func (f *memFile) resize(size int64) {
	if size == int64(len(f.data)) {
		return
	}
	if size < int64(len(f.data)) {
		clear(f.data[size:])
		f.data = f.data[:size]
	} else {
		f.data = slices.Grow(f.data, int(size)-len(f.data))[:size]
	}
	f.sizes = append(f.sizes, size)
}

func (f *memFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fsys.ask("truncate"); err != nil {
		return err
	}
	f.fsys.op("truncate %d", size)
	f.resize(size)
	return nil
}

func (f *memFile) Allocate(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fsys.ask("allocate"); err != nil {
		f.resize(max(int64(len(f.data)), off+n/2/block*block)) // in part
		return err
	}
	size := max(off+n, int64(len(f.data)))
	if f.space != 0 && size > f.space && size > int64(len(f.data)) {
		f.resize(max(f.space, int64(len(f.data))))
		return syscall.ENOSPC
	}
	f.fsys.op("allocate %d@%d", n, off)
	f.resize(size)
	return nil
}

func (f *memFile) Sync() error {
	if err := f.sync(); err != nil {
		return err
	}
	if during := f.during; during != nil {
		f.during = nil
		during()
	}
	return nil
}

// WriteOut makes nothing durable; what it covers is lost or kept as before.
func (f *memFile) WriteOut(off, n int64, wait bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	return f.fsys.ask("write out")
}

func (f *memFile) sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	if err := f.fsys.ask("sync"); err != nil {
		return err
	}
	f.fsys.op("sync")
	f.settle()
	return nil
}

// settle makes the disk have what reads see.
func (f *memFile) settle() {
	if int64(len(f.disk)) != int64(len(f.data)) {
		grown := make([]byte, len(f.data))
		copy(grown, f.disk)
		f.disk = grown
	}
	for _, w := range f.pending {
		if w.off < int64(len(f.disk)) {
			copy(f.disk[w.off:], w.data)
		}
	}
	f.pending, f.sizes = f.pending[:0], f.sizes[:0]
}

func (f *memFile) Stat() (vfs.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return vfs.Info{Size: int64(len(f.data)), Links: 1}, nil
}

func (f *memFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// A fate says which version of a block the crash leaves: 0 what the disk had, i
// the i-th of n pending writes to it; -1 a mix of all, byte by byte; -2 noise.
type fate func(off int64, n int) int

// crash returns the file as a power cut may leave it. Each block that was written since
// the last sync keeps any one version, and the size is any that it had.
func (f *memFile) crash(choose fate, size func(sizes []int64) int64, mix *rand.Rand) *memFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	sizes := append([]int64{int64(len(f.disk))}, f.sizes...)
	image := make([]byte, slices.Max(sizes))
	copy(image, f.disk)
	versions := map[int64][][]byte{}
	for _, w := range f.pending {
		for i := 0; i < len(w.data); i += block {
			off := w.off + int64(i)
			versions[off] = append(versions[off], w.data[i:i+block])
		}
	}
	for _, off := range sortedKeys(versions) {
		if off+block > int64(len(image)) {
			continue
		}
		v := versions[off]
		switch k := choose(off, len(v)); {
		case k > 0:
			copy(image[off:], v[k-1])
		case k == -2:
			for i := range block {
				image[off+int64(i)] = byte(mix.Uint32())
			}
		case k < 0:
			for i := range block {
				if j := mix.IntN(len(v) + 1); j > 0 {
					image[off+int64(i)] = v[j-1][i]
				}
			}
		}
	}
	image = image[:size(sizes)]
	// Bytes of an extension that did not land read as zeros: image has them.
	return &memFile{fsys: newMemFS(), name: f.name, data: image, disk: bytes.Clone(image), space: f.space}
}

func sortedKeys[V any](m map[int64]V) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// blocksPending returns how many blocks have versions to choose from.
func (f *memFile) blocksPending() int {
	seen := map[int64]bool{}
	for _, w := range f.pending {
		for i := 0; i < len(w.data); i += block {
			seen[w.off+int64(i)] = true
		}
	}
	return len(seen)
}

// crashAny is a crash with a random plan: everything, nothing, one block dropped or kept,
// or blocks at some rate, with or without torn blocks.
func (f *memFile) crashAny(rng *rand.Rand) *memFile {
	n := f.blocksPending()
	i, odd := 0, rng.IntN(n+1)
	rate := []float64{0.1, 0.5, 0.9}[rng.IntN(3)]
	plan := rng.IntN(8)
	choose := func(_ int64, versions int) int {
		i++
		switch plan {
		case 0:
			return versions
		case 1:
			return 0
		case 2, 3: // drop one, keep one
			if (i-1 == odd) == (plan == 2) {
				return 0
			}
			return versions
		case 4: // a prefix
			if i-1 < odd {
				return versions
			}
			return 0
		case 5:
			return rng.IntN(versions+3) - 2
		}
		if rng.Float64() < rate {
			return 1 + rng.IntN(versions)
		}
		return 0
	}
	size := func(sizes []int64) int64 {
		switch plan {
		case 0:
			return sizes[len(sizes)-1]
		case 1:
			return sizes[0]
		}
		return sizes[rng.IntN(len(sizes))]
	}
	return f.crash(choose, size, rng)
}

// testID is the store id of all tests.
var testID = [16]byte{0xf0, 0x11, 0x10}

// counter returns epochs that tell one another apart in listings.
func counter(from uint64) func() uint64 {
	return func() uint64 { from++; return from }
}

// createMem creates a log in memory.
func createMem(t testing.TB, opt Options) (*Log, *memFile) {
	t.Helper()
	if opt.Rand == nil {
		opt.Rand = counter(0xe0)
	}
	m := newMemFS()
	l, err := Create(m, "dir/app.db-wal", 0o600, testID, 1, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	return l, m.files["dir/app.db-wal"]
}

// group makes a group of transactions with the given operations.
func group(first uint64, ops ...Ops) *Group {
	var g Group
	for i, o := range ops {
		g.Add(first+uint64(i), o)
	}
	return &g
}

// put is the operations of one put.
func put(key string, value []byte) Ops {
	var o Ops
	o.Put([]byte(key), value)
	return o
}

// sized is a group of one transaction that takes n bytes in the log, n a
// multiple of a block; fill tells groups apart.
func sized(tx uint64, n int64, fill byte) *Group {
	for pad := int(n) - headSize; ; pad-- {
		if g := group(tx, put("k", bytes.Repeat([]byte{fill}, pad))); g.Size() == n {
			return g
		}
	}
}

// forge writes a record with right checksums whose head and payload were edited.
// The edited payload may be shorter or longer than its length says.
func forge(f *memFile, off int64, h head, edit func(*head, []byte) []byte) {
	g := group(h.tx, put("c", []byte("c")), put("d", nil))
	length := h.length
	payload := edit(&h, append([]byte{}, g.buf[headSize:]...))
	if h.length == length {
		h.length = uint32(len(payload))
	}
	h.payload = xxhash.Sum64(payload)
	record := make([]byte, padded(headSize+int64(len(payload))))
	copy(record[headSize:], payload)
	h.encode(record)
	f.WriteAt(record, off)
}
