package lockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"github.com/foliodb/folio/internal/vfs"
)

// Bytes of the lock file that are locked.
const (
	lifeLock  int64 = 1 << 62
	firstSlot       = lifeLock + 16
)

func slotLock(i int) int64 { return firstSlot + int64(i) }

// ErrInUse says that processes are attached by a table that is not this store's, or not of this version.
var ErrInUse = errors.New("lockfile: in use for another file, or by another version")

// Table is the table of one store, attached.
type Table struct {
	fs    vfs.FS
	name  string
	file  vfs.File
	mem   vfs.Shared
	w     words
	slots []int // this process's

	// Fresh tells that nobody was attached: the table has been made anew.
	Fresh bool
}

// Attach attaches to the table in the named file, which it makes if need be. data is the data file, which the table is for. Before
// the table is made anew alone is called, if there is one; its error ends the attempt. The error is vfs.ErrLocked while
// another process makes or removes the file: it is for moments only. It is
// errors.ErrUnsupported where memory cannot be shared, or the disk has no room for the table.
func Attach(fsys vfs.FS, name string, perm fs.FileMode, data vfs.Info, alone func() error) (t *Table, err error) {
	f, err := fsys.Open(name, os.O_RDWR|os.O_CREATE, perm)
	if err != nil {
		return nil, err
	}
	t = &Table{fs: fsys, name: name, file: f}
	defer func() {
		if err != nil {
			if t.Fresh && t.stillNamed() == nil { // as it is, it would be of no use to anybody
				err = errors.Join(err, fsys.Remove(name))
			}
			err = errors.Join(err, t.abandon())
			t = nil
		}
	}()
	step("opened")
	err = f.Lock(lifeLock, true)
	if err == nil {
		t.Fresh = true
	} else if errors.Is(err, vfs.ErrLocked) {
		err = f.Lock(lifeLock, false)
	}
	if err != nil {
		return t, err
	}
	step("life locked")
	if err := t.stillNamed(); err != nil {
		return t, err
	}
	if t.Fresh {
		if alone != nil {
			if err := alone(); err != nil {
				return t, err
			}
		}
		err := t.fill()
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err) // whoever wants to make room can do without
		}
		if err != nil {
			return t, err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	if info.Size < Size { // touching what is behind the end would be a fault
		return t, fmt.Errorf("%w: %s is %d bytes long", ErrInUse, name, info.Size)
	}
	if t.mem, err = f.Share(Size); err != nil {
		return t, err
	}
	t.w = words{unsafe.Pointer(unsafe.SliceData(t.mem.Bytes()))}
	if t.Fresh {
		t.head(data)
		step("made")
		return t, f.Lock(lifeLock, false)
	}
	if !t.isFor(data) {
		return t, fmt.Errorf("%w: %s", ErrInUse, name)
	}
	return t, nil
}

// stillNamed is vfs.ErrLocked unless the name leads to the file that is open.
func (t *Table) stillNamed() error {
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	named, err := t.fs.Stat(t.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (named.Dev != info.Dev || named.Ino != info.Ino) {
		return vfs.ErrLocked
	}
	return err
}

// fill writes zeros over the whole file, with space reserved for them: a store to a page without space would be a fault.
func (t *Table) fill() error {
	if err := t.file.Truncate(Size); err != nil {
		return err
	}
	if err := t.file.Allocate(0, Size); err != nil {
		return err
	}
	_, err := t.file.WriteAt(make([]byte, Size), 0)
	return err
}

// head stores the header; the magic last.
func (t *Table) head(data vfs.Info) {
	t.w.at(offLayout).Store(layout)
	t.w.at(offDev).Store(data.Dev)
	t.w.at(offIno).Store(data.Ino)
	t.w.at(offSum).Store(sum(magic, layout, data.Dev, data.Ino))
	t.w.at(offMagic).Store(magic)
}

// isFor reports whether the header is sound and names the data file.
func (t *Table) isFor(data vfs.Info) bool {
	var v [4]uint64
	for i := range v {
		v[i] = t.w.at(8 * i).Load()
	}
	return v == [4]uint64{magic, layout, data.Dev, data.Ino} && t.w.at(offSum).Load() == sum(v[:]...)
}

// abandon closes what an attempt has opened.
func (t *Table) abandon() error {
	var err error
	if t.mem != nil {
		err = t.mem.Close()
	}
	return errors.Join(err, t.file.Close())
}

// SetWriter notes the process that writes, for messages; 0: none does.
func (t *Table) SetWriter(pid int) { t.w.at(offWriter).Store(uint64(pid)) }

// Succeed is SetWriter in a table that others are attached to. It sets the mark: the writer before may have died just when
// he was about to set it again.
func (t *Table) Succeed(pid int) {
	t.SetWriter(pid)
	t.w.at(offMark).Store(1)
	step("succeeded")
}

// Writer returns the process that said that it writes; 0: none did.
func (t *Table) Writer() int { return int(t.w.at(offWriter).Load()) }

// WriterOf returns the process that said in the named file that it writes; 0: none did, or the file tells nothing. It is for
// messages, of those who are not attached.
func WriterOf(fsys vfs.FS, name string) int {
	f, err := fsys.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	p := make([]byte, offWriter+8)
	if _, err := f.ReadAt(p, 0); err != nil || binary.NativeEndian.Uint64(p[offMagic:]) != magic {
		return 0
	}
	return int(binary.NativeEndian.Uint64(p[offWriter:]))
}

// Close frees the slots and leaves. The last process to leave removes the file.
func (t *Table) Close() error {
	for _, i := range t.slots {
		t.clear(i)
		t.w.slot(i, offState).Store(0)
	}
	t.slots = nil
	step("left slots")
	err := t.file.Lock(lifeLock, true)
	if err == nil {
		step("last")
		// Whoever opened the file in between waits for the life lock, and then finds that the name is gone.
		if err = t.stillNamed(); err == nil {
			err = t.fs.Remove(t.name)
		}
	}
	if errors.Is(err, vfs.ErrLocked) {
		err = nil
	}
	return errors.Join(err, t.abandon())
}

// Kill lets go of the table as the system does when the process is killed: for tests.
func (t *Table) Kill() error { return t.abandon() }
