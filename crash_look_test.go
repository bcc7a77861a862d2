package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
)

// crashLook opens one crash state in eight for reading only, or, of those on real files, one in two, half of them as a private store, before anybody recovers it. It
// must hold what recovery will find, be sound, and stay as it is, byte for byte. It returns the transaction; nil: nobody looked,
// or there is no store yet.
func crashLook(path string, o Options, p crashPromise, salt uint64, room *[]byte) (*uint64, error) {
	oneIn := uint64(8)
	if o.fs == vfs.OS {
		oneIn = 2 // or private stores, which need real files, would be rare
	}
	if salt>>28%oneIn != 0 {
		return nil, nil
	}
	o.ReadOnly = o.fs != vfs.OS || salt>>31%2 == 0
	o.Private = !o.ReadOnly
	before, err := crashFiles(o.fs, path, room)
	if err != nil {
		return nil, err
	}
	db, err := Open(path, &o)
	if p.lo == 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInvalid)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open for reading: %w", err)
	}
	defer func() { crashKill(db) }()
	k, err := crashVerify(db, p.line, p.lo, p.hi)
	if err == nil {
		err = db.Check()
	}
	if err == nil && o.Private {
		_, err = p.line.fork(k, salt|1).commit(db, Sync, func(uint64) {})
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("opened for reading: %w", err)
	}
	after, err := crashFiles(o.fs, path, room)
	if err == nil && after != before {
		err = errors.New("who opened it for reading has changed its files")
	}
	return &k, err
}

// crashFile is what a file holds.
type crashFile struct {
	size int // -1: there is none
	sum  uint64
}

// crashFiles returns what the store's files hold.
func crashFiles(fsys vfs.FS, path string, room *[]byte) (all [2]crashFile, err error) {
	for i, name := range []string{path, logName(path)} {
		f, err := fsys.Open(name, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			all[i].size = -1
			continue
		}
		if err != nil {
			return all, err
		}
		info, err := f.Stat()
		*room = slices.Grow((*room)[:0], int(info.Size))
		b := (*room)[:info.Size]
		if err == nil && len(b) > 0 {
			_, err = f.ReadAt(b, 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return all, err
		}
		all[i] = crashFile{len(b), xxhash.Sum64(b)}
	}
	return all, nil
}

// leaveTable leaves a file in the place of the table that processes share, as a crash of the machine may: of any length, with
// zeros or noise in it. Nobody is attached, so nothing of it counts.
func leaveTable(path string, salt uint64) error {
	n := []int{-1, 0, 100, lockfile.Size, 2 * lockfile.Size}[salt>>36%5]
	if n < 0 {
		return nil
	}
	b := make([]byte, n)
	if salt>>40%2 == 0 {
		rng := rand.New(rand.NewPCG(salt, 5))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	return os.WriteFile(lockName(path), b, 0o600)
}
