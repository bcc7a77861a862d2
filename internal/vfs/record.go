package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Recorder is a file system that passes every call on to another one and logs
// those that change something, with a copy of their data. Reads, mappings and
// locks stay what they are, so that an engine runs on it as on the real thing.
//
// It is rooted in one directory, that of the first name it is given; files
// already there are part of the log as its start. Whatever else happens to these
// files, past the recorder, is an error of the test: see Verify.
//
// Calls that overlap are logged in the order in which they began. When two that
// overlap change the same bytes, or the size in different ways, the log
// cannot know which came last, and Verify may complain.
type Recorder struct {
	under FS

	// LostAtDrop decides what DropCache shows of a sector whose write was
	// covered by a failed sync: the old content (Drop) or the new (Keep). Nil is
	// DropAll. Constant after the first call.
	LostAtDrop Chooser

	// Ignore tells by the base name which files are not recorded: files whose content
	// is worth nothing after a crash, or that change through a mapping. They
	// are in no state, and Verify does not look at them. Nil ignores none. Constant
	// after the first call.
	Ignore func(name string) bool

	// naming is held while a name changes, so that such changes have an order.
	// It comes before mu.
	naming sync.Mutex

	mu     sync.Mutex
	root   string            // absolute, without symbolic links; "" before the first call
	dirs   map[string]string // absolute directories as given, and without symbolic links
	log    []Op
	clock  int // events so far
	names  map[string]int
	files  int         // inodes met so far
	mapped map[int]int // open mappings by inode
}

// NewRecorder returns a recorder on top of under with an empty log.
func NewRecorder(under FS) *Recorder {
	return &Recorder{under: under, dirs: map[string]string{}, names: map[string]int{}, mapped: map[int]int{}}
}

// NewRecorderFrom writes s into dir as real files and returns a recorder for
// that directory whose log starts there, as the process finds things that starts after
// the crash. With s.Cut() that was a power cut: nothing is in doubt. With s itself it
// was the death of the process alone (see State.Kill): everything is there to be
// read, but what was not synced is in doubt still. No name of s may be in dir.
func NewRecorderFrom(under FS, s *State, dir string) (*Recorder, error) {
	s = s.Kill()
	if err := s.Materialise(dir); err != nil {
		return nil, err
	}
	r := NewRecorder(under)
	root, err := realDir(dir)
	if err != nil {
		return nil, err
	}
	r.root = root
	r.files = max(len(s.plan.snap.files)-1, 0)
	for i := range s.plan.names {
		if fi := s.plan.leads(&s.plan.names[i], s.fates); fi >= 0 {
			r.names[s.plan.names[i].name] = s.plan.files[fi].ino
		}
	}
	r.add(Op{Kind: KindStart, start: s.plan.snap})
	return r, nil
}

// Log returns what was logged so far, in the order in which it began. What is
// running now has no End.
func (r *Recorder) Log() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Len is the number of operations logged so far.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

// Mark notes in the log that something has happened above, such as that
// commit n was acknowledged.
func (r *Recorder) Mark(kind string, n uint64) {
	r.add(Op{Kind: KindMark, Note: kind, N: int64(n)})
}

// Text returns the operations from index from on, a line each: see Op.String.
// It is the same in every run of the same calls.
func (r *Recorder) Text(from int) string {
	var b strings.Builder
	for _, op := range r.Log()[from:] {
		if op.Kind != KindStart {
			b.WriteString(op.String())
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// Verify compares the real files with what the log makes of them: a difference
// means that something was changed past the recorder. Nothing may be running.
func (r *Recorder) Verify() error {
	log := r.Log()
	if len(log) == 0 {
		return nil
	}
	h := NewHistory(log)
	s := h.State(h.Events(), KeepAll)
	for _, name := range s.Names() {
		want, _ := s.ReadFile(name, nil)
		got, err := os.ReadFile(r.path(name))
		if err != nil {
			return fmt.Errorf("vfs: recorder: %w", err)
		}
		if len(got) != len(want) {
			return fmt.Errorf("vfs: recorder: %s has %d bytes, the log makes it %d", name, len(got), len(want))
		}
		if !bytes.Equal(got, want) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return fmt.Errorf("vfs: recorder: %s differs from the log at byte %d", name, i)
		}
	}
	return r.verifyNames(s.Names())
}

// verifyNames looks for files that the log does not know.
func (r *Recorder) verifyNames(names []string) error {
	entries, err := os.ReadDir(r.root)
	if err != nil {
		return fmt.Errorf("vfs: recorder: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && !slices.Contains(names, e.Name()) && !r.ignores(e.Name()) {
			return fmt.Errorf("vfs: recorder: %s is not in the log", e.Name())
		}
	}
	return nil
}

// path is the real name of a name in the log.
func (r *Recorder) path(name string) string {
	return filepath.Join(r.root, filepath.FromSlash(name))
}

// ignores tells whether a real name is not recorded.
func (r *Recorder) ignores(name string) bool {
	return r.Ignore != nil && r.Ignore(filepath.Base(name))
}

// add logs something that takes no time.
func (r *Recorder) add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Seq, op.Begin, op.End = len(r.log), r.clock, r.clock
	r.clock++
	r.log = append(r.log, op)
}

// begin logs that op begins, and returns its place for end.
func (r *Recorder) begin(op Op) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Seq, op.Begin, op.End = len(r.log), r.clock, Never
	r.clock++
	r.log = append(r.log, op)
	return op.Seq
}

// end logs that the operation has ended. set, which may be nil, completes it.
func (r *Recorder) end(seq int, err error, set func(*Op)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := &r.log[seq]
	op.Err, op.End = err, r.clock
	r.clock++
	if set != nil {
		set(op)
	}
}

// rel is the name in the log of a real name. The first one sets the root.
func (r *Recorder) rel(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	dir, err := r.relDir(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.ToSlash(filepath.Join(dir, filepath.Base(abs))), nil
}

// relDir is the name in the log of a directory.
func (r *Recorder) relDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	real, ok := r.dirs[abs]
	r.mu.Unlock()
	if !ok {
		if real, err = realDir(abs); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	r.dirs[abs] = real
	first := r.root == ""
	if first {
		r.root = real
	}
	r.mu.Unlock()
	if first {
		if err := r.scan(); err != nil {
			return "", err
		}
	}
	return filepath.Rel(r.root, real)
}

// realDir makes a directory's name absolute and resolves symbolic links, so
// that it has one name.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// scan takes the files that are in the root as the start of the log.
func (r *Recorder) scan() error {
	entries, err := os.ReadDir(r.root)
	if err != nil {
		return err
	}
	start := &snap{files: make([]*node, 1)}
	type id struct{ dev, ino uint64 }
	known := map[id]int{}
	for _, e := range entries {
		if !e.Type().IsRegular() || r.ignores(e.Name()) {
			continue
		}
		info, err := OS.Stat(r.path(e.Name()))
		if err != nil {
			return err
		}
		ino, ok := known[id{info.Dev, info.Ino}]
		if !ok {
			n, err := readNode(r.path(e.Name()), info)
			if err != nil {
				return err
			}
			ino = len(start.files)
			start.files = append(start.files, n)
			known[id{info.Dev, info.Ino}] = ino
		}
		start.names = append(start.names, entry{e.Name(), ino})
	}
	for _, e := range start.names {
		r.names[e.name] = e.ino
	}
	r.files = len(start.files) - 1
	r.add(Op{Kind: KindStart, start: start})
	return nil
}

// readNode takes a file as it is for settled.
func readNode(name string, info Info) (*node, error) {
	p, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	size := int64(len(p))
	return &node{mode: info.Mode.Perm(), base: newImage(p), size: size, now: size}, nil
}

// Open opens a file, and logs it when that makes or cuts it.
func (r *Recorder) Open(name string, flag int, perm fs.FileMode) (File, error) {
	if r.ignores(name) {
		return r.under.Open(name, flag, perm)
	}
	r.naming.Lock()
	defer r.naming.Unlock()
	rel, err := r.rel(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	ino := r.inode(rel)
	changes := ino == 0 && flag&os.O_CREATE != 0 || ino != 0 && flag&os.O_TRUNC != 0
	seq := 0
	if changes {
		op := Op{Kind: KindCreate, Ino: ino, Name: rel}
		if ino != 0 {
			op.Kind = KindTruncate
		} else {
			op.Ino = r.newInode()
		}
		ino, seq = op.Ino, r.begin(op)
	}
	f, err := r.under.Open(name, flag, perm)
	if changes {
		r.end(seq, err, nil)
	}
	if err != nil {
		return nil, err
	}
	if ino == 0 && strings.HasPrefix(rel, "../") && flag&os.O_RDWR == 0 {
		return f, nil // nothing of ours
	}
	if ino == 0 {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("vfs: the recorder does not know this file")}
	}
	r.setName(rel, ino)
	return &recordedFile{r: r, under: f, ino: ino, name: rel}, nil
}

// inode is the number of the file that a name leads to, 0 for none.
func (r *Recorder) inode(rel string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[rel]
}

func (r *Recorder) newInode() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files++
	return r.files
}

// setName notes what a name leads to now; 0: nothing.
func (r *Recorder) setName(rel string, ino int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ino == 0 {
		delete(r.names, rel)
	} else {
		r.names[rel] = ino
	}
}

// Link gives a file a second name; where the file system below renames
// instead, the log says so.
func (r *Recorder) Link(oldname, newname string) error {
	return r.rename(KindLink, oldname, newname, r.under.Link)
}

// Rename moves a name.
func (r *Recorder) Rename(oldname, newname string) error {
	return r.rename(KindRename, oldname, newname, r.under.Rename)
}

func (r *Recorder) rename(kind Kind, oldname, newname string, call func(_, _ string) error) error {
	if r.ignores(oldname) && r.ignores(newname) {
		return call(oldname, newname)
	}
	r.naming.Lock()
	defer r.naming.Unlock()
	from, err := r.rel(oldname)
	if err != nil {
		return &os.LinkError{Op: string(kind), Old: oldname, New: newname, Err: err}
	}
	to, err := r.rel(newname)
	if err != nil {
		return &os.LinkError{Op: string(kind), Old: oldname, New: newname, Err: err}
	}
	ino := r.inode(from)
	if kind == KindRename && ino == r.inode(to) {
		return call(oldname, newname) // two names of one file: nothing happens
	}
	seq := r.begin(Op{Kind: kind, Ino: ino, Name: from, To: to})
	err = call(oldname, newname)
	moved := err == nil && kind == KindRename
	if err == nil && kind == KindLink {
		_, statErr := r.under.Stat(oldname)
		moved = errors.Is(statErr, fs.ErrNotExist)
	}
	r.end(seq, err, func(op *Op) {
		if moved {
			op.Kind = KindRename
		}
	})
	if err == nil {
		r.setName(to, ino)
	}
	if moved {
		r.setName(from, 0)
	}
	return err
}

// Remove removes a name.
func (r *Recorder) Remove(name string) error {
	if r.ignores(name) {
		return r.under.Remove(name)
	}
	r.naming.Lock()
	defer r.naming.Unlock()
	rel, err := r.rel(name)
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	seq := r.begin(Op{Kind: KindRemove, Ino: r.inode(rel), Name: rel})
	err = r.under.Remove(name)
	r.end(seq, err, nil)
	if err == nil {
		r.setName(rel, 0)
	}
	return err
}

// SyncDir makes the entries of a directory durable.
func (r *Recorder) SyncDir(dir string) error {
	r.naming.Lock()
	rel, err := r.relDir(dir)
	r.naming.Unlock()
	if err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	seq := r.begin(Op{Kind: KindSyncDir, Name: filepath.ToSlash(rel)})
	err = r.under.SyncDir(dir)
	r.end(seq, err, nil)
	return err
}

// Stat describes what a name leads to.
func (r *Recorder) Stat(name string) (Info, error) { return r.under.Stat(name) }
