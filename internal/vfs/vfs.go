// Package vfs is the one place where Folio calls the operating system on files:
// open, read, write, sync, grow, cut, lock, map, and the few operations on names
// that creating a store needs.
//
// OS is the real thing. Everything above takes an FS, so that a test can record
// each change, fail any call and build any state that a crash can leave.
//
// What the package owns is the meaning of each call, the same on every system or
// documented where it cannot be: a write is whole or an error, an interrupted call
// is retried, a sync reaches the disk, a lock belongs to the open file and not to
// the process, a mapping shows what was written through a descriptor. It knows
// nothing of pages, logs or stores, keeps no cache, and never retries a failure.
package vfs

import (
	"errors"
	"io/fs"
)

// Errors that callers tell apart. Other errors are *fs.PathError or
// *os.LinkError as the os package makes them. When a device or a quota is full
// the error is syscall.ENOSPC under errors.Is, on every system.
var (
	// ErrLocked says that another open file holds the byte.
	ErrLocked = errors.New("vfs: locked")

	// ErrFault says that a mapped range cannot be read, or written: it lies past
	// the end of the file, has no space, or the device failed.
	ErrFault = errors.New("vfs: mapped range cannot be accessed")

	// ErrReadOnlyMapping is the answer of Mapping.Sync when the file was opened
	// for reading only. The kernel would report success and flush nothing.
	ErrReadOnlyMapping = errors.New("vfs: mapping of a file opened for reading cannot be synced")

	// ErrNotRegular says that a name leads to something else than a regular
	// file: a directory, a device, a pipe or a symbolic link.
	ErrNotRegular = errors.New("vfs: not a regular file")
)

// FS is a file system: what is done with names. All methods may be called
// concurrently.
type FS interface {
	// Open opens a regular file; flag is made of os.O_RDONLY or os.O_RDWR with
	// os.O_CREATE, os.O_EXCL and os.O_TRUNC. The descriptor is not inherited by child
	// processes. A symbolic link as the last component is not followed:
	// that, and anything but a regular file, is ErrNotRegular.
	Open(name string, flag int, perm fs.FileMode) (File, error)

	// Link gives the finished file oldname the name newname, which must not
	// exist (fs.ErrExist). Where hard links are not to be had it renames
	// without replacing instead, and oldname is gone: a caller removes oldname
	// afterwards and does not mind when it is missing.
	Link(oldname, newname string) error

	// Rename moves oldname to newname and replaces what is there, atomically.
	Rename(oldname, newname string) error

	// Remove removes a file's name; never a directory.
	Remove(name string) error

	// SyncDir makes the entries of directory dir durable: names made, moved
	// and removed so far. On windows it does nothing.
	SyncDir(dir string) error

	// Stat describes what name leads to, without following a final symbolic
	// link and without opening it. A missing name is fs.ErrNotExist.
	Stat(name string) (Info, error)
}

// Info describes a file. Dev and Ino together identify it while any process
// has it open.
type Info struct {
	Size  int64  // bytes
	Dev   uint64 // device, or volume serial number
	Ino   uint64 // inode, or file index
	Links uint64 // number of names; 0 once the last was removed
	Mode  fs.FileMode
}

// File is an open regular file. All methods may be called concurrently; a
// call after Close is fs.ErrClosed. Writes and syncs of a file must go through
// one File, because the kernel reports a failed write-back once for each.
type File interface {
	// Name returns the name the file was opened by.
	Name() string

	// ReadAt is io.ReaderAt: io.EOF when fewer than len(p) bytes are left.
	ReadAt(p []byte, off int64) (int, error)

	// WriteAt is io.WriterAt: a write that is not whole is an error, and how
	// much of it reached the file is the returned count.
	WriteAt(p []byte, off int64) (int, error)

	// WriteV writes the buffers one behind the other from off on, with as few
	// system calls as the system allows, and goes on after a partial write.
	// After an error any part may have been written. It does not change or
	// retain bufs and does not allocate in the steady state.
	WriteV(bufs [][]byte, off int64) error

	// Window opens [off, off+n) to be written without system calls. The bytes must have their space, see Allocate, and the file must not be
	// cut below off+n meanwhile: then Window.Write is ErrFault. The error is errors.ErrUnsupported under errors.Is where the system has
	// no such thing.
	Window(off, n int64) (Window, error)

	// Truncate sets the size. Bytes gained read as zeros and have no space
	// reserved: see Allocate.
	Truncate(size int64) error

	// Allocate reserves space for bytes [off, off+n) and makes the file at
	// least off+n bytes long; new bytes read as zeros, old ones are kept. Where the file
	// system cannot reserve, zeros are written from the old end on, so this must not
	// run beside writes past the end. After an error the file may have grown in part.
	Allocate(off, n int64) error

	// Sync makes all completed writes and the size durable. After a failure
	// nothing is known and a second call would lie: do not call it again.
	Sync() error

	// WriteOut has the disk begin to take what was written to [off, off+n), so that the next Sync finds less to do, and waits for it if wanted.
	// Nothing is durable by it. An error is that of a Sync: what lay there may be lost, and no later Sync need tell. Where the
	// system has no such call nothing happens.
	WriteOut(off, n int64, wait bool) error

	// Stat describes the open file, whatever its name leads to by now.
	Stat() (Info, error)

	// Medium tells what the file lies on.
	Medium() (Medium, error)

	// DropCache asks the kernel to forget clean cached pages of the first n bytes of the file, so
	// that the next ReadAt there comes from the disk; 0: of the whole file. Pages that are mapped or not yet
	// written stay, and so may one of the kernel's large pages that reaches behind n. Nothing happens where the system
	// has no such call.
	DropCache(n int64) error

	// Lock takes a lock on the byte at off, shared or exclusive, without
	// waiting: ErrLocked when another open file (of this process or of another)
	// holds one that excludes it. Taking it again changes its kind. The lock
	// ends with Unlock, Close, or the process. It neither needs nor
	// affects the byte's content. Where LockPerByte is false, all bytes of a file are one.
	Lock(off int64, exclusive bool) error

	// Unlock releases the byte at off; releasing what is not held is harmless.
	Unlock(off int64) error

	// Map maps the file read-only and shared from offset 0, length bytes
	// rounded up to whole OS pages. Where CanReserve, length may reach past the
	// end of the file, and what the file gains later appears there. Elsewhere the mapping ends
	// with the file as it is now, and an empty file cannot be mapped.
	Map(length int64) (Mapping, error)

	// Private returns a File that begins as this one and whose further content stays in this process. The bytes below base,
	// a multiple of align, are this file's and cannot be written; those behind it are private. align is a
	// multiple of PageSize and at least as large. Nothing that is done with the result
	// reaches this file; what others write to it below base shows. The result has this one's name and locks, and
	// closes it.
	Private(align int64) (private File, base int64, err error)

	// Share maps the first length bytes of the file, which must be there, for reading and writing: what one process
	// stores every other one sees at once. It is memory that processes share, and no way to write a file: nothing is
	// recorded, failed or synced. The file must have its space (see Allocate), else a store may be a memory fault. The
	// error is errors.ErrUnsupported under errors.Is where the system or the file system has no such mapping; with
	// length 0 that is all that is asked, as far as the system goes.
	Share(length int64) (Shared, error)

	// LockedByOthers reports whether another open file holds a lock of either kind on the byte at off. Unlike an exclusive
	// lock that answer can be had of a file that is only open for reading. It is errors.ErrUnsupported under
	// errors.Is where Share is.
	LockedByOthers(off int64) (bool, error)

	// Close releases descriptor and locks, and waits for calls under way.
	// Mappings stay.
	Close() error
}

// Shared is memory that processes share.
type Shared interface {
	// Bytes returns all of it, beginning at a page of memory. The slice lives until Close.
	Bytes() []byte

	// Close unmaps. Touching the bytes afterwards is a memory fault.
	Close() error
}

// Mapping is a read-only view of a file. Reading a byte past the end of the
// file, or one the device cannot deliver, is a memory fault: Populate turns that into an
// error beforehand. Ranges are in bytes from the start of the file.
type Mapping interface {
	// Bytes returns the whole mapping. The slice lives until Close.
	Bytes() []byte

	// Extend tries to make the mapping length bytes long without moving it,
	// and reports whether it did; slices of it stay valid in any case. It must
	// not run beside Bytes.
	Extend(length int64) bool

	// Sync writes the pages of [off, off+n) to the disk and waits for it. It
	// covers data, not the size; File.Sync belongs behind it. A mapping of a
	// file opened for reading gives ErrReadOnlyMapping.
	Sync(off, n int64) error

	// Populate brings [off, off+n) into memory, and answers ErrFault where
	// touching it would be a memory fault. Other goroutines run meanwhile. Where the
	// kernel has no such call it returns nil and has done nothing.
	Populate(off, n int64) error

	// Resident reports that all of [off, off+n) is in memory, so that touching it waits for no disk. False may mean
	// that nobody can tell: the kernel tells only who may write to the file, or owns it, and only Linux is asked.
	Resident(off, n int64) bool

	// WillNeed asks the kernel to read [off, off+n) ahead.
	WillNeed(off, n int64)

	// Close unmaps. Touching the bytes afterwards is a memory fault.
	Close() error
}

// OS is the real file system.
var OS FS = osFS{}
