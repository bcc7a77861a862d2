package folio

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/foliodb/folio/internal/lockfile"
	"github.com/foliodb/folio/internal/vfs"
)

// fileKey identifies a file by whatever path it was opened.
type fileKey struct{ dev, ino uint64 }

// registry holds the files that this process has open as stores. Locks exclude a second
// open of a file too, but cannot tell that it is this process that holds it.
var registry struct {
	mu   sync.Mutex
	open map[fileKey]string // path
}

// register notes the data file as open.
func (db *DB) register() error {
	info, err := db.file.Stat()
	if err != nil {
		return err
	}
	key := fileKey{info.Dev, info.Ino}
	if db.opts.another {
		db.key = key
		return nil
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if at, ok := registry.open[key]; ok {
		return fmt.Errorf("%w: %s as %s", ErrAlreadyOpen, db.path, at)
	}
	if registry.open == nil {
		registry.open = make(map[fileKey]string)
	}
	registry.open[key] = db.path
	db.key = key
	return nil
}

func (db *DB) unregister() {
	if db.opts.another || db.key == (fileKey{}) {
		return
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	delete(registry.open, db.key)
	db.key = fileKey{}
}

// Bytes of the data file that are locked; far beyond any content, since a lock needs none. A
// writer holds the first two exclusively. Who only reads, and has no part in the table of share.go, holds the second
// one shared. Who has a part in it holds the third one shared, and who only reads also the first, while it reads the meta
// slots and the log.
const (
	lockWriter int64 = 1<<62 + iota
	lockReaders
	lockAttached
)

// lock takes the store's locks, waiting up to LockTimeout for others to leave.
func (db *DB) lock() error {
	deadline := time.Now().Add(db.opts.LockTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		busy, err := db.tryLock()
		if !errors.Is(err, vfs.ErrLocked) {
			db.locked = err == nil
			return err
		}
		left := time.Until(deadline)
		if db.opts.LockTimeout >= 0 && left <= 0 {
			return &LockedError{Path: db.path, Holder: db.holder(busy), Reader: busy != lockWriter}
		}
		if db.opts.LockTimeout >= 0 {
			wait = min(wait, left)
		}
		time.Sleep(wait)
	}
}

// holder returns the process that has a byte locked, as far as the system tells.
func (db *DB) holder(off int64) int {
	info, err := db.file.Stat()
	if err != nil {
		return 0
	}
	pid := lockHolder(info, off)
	if pid == 0 && off == lockWriter { // another user's, of which the system tells nothing
		pid = lockfile.WriterOf(db.opts.fs, lockName(db.file.Name()))
	}
	return pid
}

// lockHolder is replaced in tests.
var lockHolder = vfs.LockHolder

// unlock releases the locks.
func (db *DB) unlock() error {
	if db.memory || !db.locked {
		return nil
	}
	db.locked = false
	if db.opts.reads() {
		return db.file.Unlock(lockReaders)
	}
	return errors.Join(db.file.Unlock(lockReaders), db.file.Unlock(lockWriter))
}

// tryLock takes the locks or none. busy is the byte that another process holds.
func (db *DB) tryLock() (busy int64, err error) {
	if db.opts.reads() {
		return lockWriter, db.file.Lock(lockReaders, false)
	}
	if err := db.file.Lock(lockWriter, true); err != nil {
		return lockWriter, err
	}
	if err := db.file.Lock(lockReaders, true); err != nil {
		return lockReaders, errors.Join(err, db.file.Unlock(lockWriter))
	}
	return 0, nil
}
