package folio

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/foliodb/folio/internal/vfs"
)

// The same file opened twice in one process is told, by whatever path it comes: another spelling, through a symbolic link to its
// folder, or by another name of it. A symbolic link in place of the file itself is not followed at all: log and
// data file would not lie side by side.
func TestSameFileTwice(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := db.Path()
	dir := filepath.Dir(path)
	linked := filepath.Join(t.TempDir(), "folder")
	hard := filepath.Join(t.TempDir(), "other.db")
	soft := filepath.Join(dir, "soft.db")
	if err := errors.Join(os.Symlink(dir, linked), os.Link(path, hard), os.Symlink(path, soft)); err != nil {
		t.Skip(err)
	}
	wd, err := os.Getwd()
	must(t, err)
	relative, err := filepath.Rel(wd, path)
	must(t, err)
	for what, at := range map[string]string{
		"same path":               path,
		"unclean path":            dir + "/../" + filepath.Base(dir) + "//a.db",
		"relative path":           relative,
		"through a linked folder": filepath.Join(linked, "a.db"),
		"hard link":               hard,
	} {
		for _, o := range []*Options{nil, {ReadOnly: true}} {
			if _, err := Open(at, o); !errors.Is(err, ErrAlreadyOpen) {
				t.Errorf("%s: %v, want ErrAlreadyOpen", what, err)
			}
		}
	}
	if _, err := Open(soft, nil); !errors.Is(err, vfs.ErrNotRegular) {
		t.Errorf("symbolic link: %v, want ErrNotRegular", err)
	}
	// What was refused has not taken the store's locks away, as POSIX locks would be.
	if out := openElsewhere(t, path, "write"); out != "locked" {
		t.Errorf("another process: %s", out)
	}
	mustPut(t, db, "c", "d")
	must(t, db.Check())
}

// A hard link leads to the same bytes with another log's name beside it. Another process is kept out by the lock, which
// lies on the data file itself; and after a crash the log is missed under the other name, so nothing
// is opened without it.
// Cases C4 and D6 of RELIABILITY.md.
func TestHardLink(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	hard := filepath.Join(t.TempDir(), "other.db")
	if err := os.Link(db.Path(), hard); err != nil {
		t.Skip(err)
	}
	for _, mode := range []string{"write", "read"} {
		if out := openElsewhere(t, hard, mode); out != "locked" {
			t.Errorf("hard link opened to %s by another process: %s", mode, out)
		}
	}
	path := crashCopy(t, db.Path())
	hard = filepath.Join(t.TempDir(), "other.db")
	must(t, os.Link(path, hard))
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		if _, err := Open(hard, o); !errors.Is(err, ErrLogCorrupt) {
			t.Errorf("hard link to an unclean store: %v, want ErrLogCorrupt", err)
		}
	}
	Reopens(t, path)
}

// Once a store whose data file had been removed, or replaced by another one, took commits to the end, and Close removed the
// log: nobody was told that nothing of it can be found again. Now Checkpoint and Close tell, and the log stays.
func TestDataFileReplaced(t *testing.T) {
	for what, act := range map[string]func(path string) error{
		"moved":   func(path string) error { return os.Rename(path, path+".away") },
		"removed": os.Remove,
		"replaced": func(path string) error {
			other := mustOpen(t, nil)
			mustPut(t, other, "other", "1")
			return errors.Join(other.Close(), os.Rename(path, path+".away"), os.Rename(other.Path(), path))
		},
	} {
		t.Run(what, func(t *testing.T) {
			db := mustOpen(t, nil)
			mustPut(t, db, "a", "1")
			must(t, db.Checkpoint())
			path := db.Path()
			if err := act(path); err != nil {
				t.Skip(err) // a system that does not let go of open files
			}
			mustPut(t, db, "b", "2")
			if err := db.Checkpoint(); !errors.Is(err, ErrFileReplaced) {
				t.Errorf("checkpoint: %v", err)
			}
			has(t, db, "b", "2")
			mustPut(t, db, "c", "3")
			saved := filepath.Join(t.TempDir(), "saved.db")
			must(t, db.Backup(saved))
			has(t, mustOpenAt(t, saved, nil), "c", "3")
			if err := db.Close(); !errors.Is(err, ErrFileReplaced) {
				t.Errorf("close: %v", err)
			}
			if _, err := Open(path, nil); !errors.Is(err, ErrLogCorrupt) {
				t.Errorf("what lies there now is opened: %v", err)
			}
			if what == "removed" {
				return
			}
			must(t, os.Rename(path+".away", path))
			again := mustOpenAt(t, path, nil)
			has(t, again, "c", "3")
			must(t, again.Close())
		})
	}
}

// A store was open, with nothing written, when its files were moved away and another store was made in their place. The first one's first commit
// made its log, by name: it removed the other one's, with all that had been acknowledged there. Found by a reviewer.
func TestFirstCommitSparesForeignLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	a := mustOpenAt(t, path, nil)
	away := filepath.Join(dir, "away.db")
	if err := os.Rename(path, away); err != nil {
		t.Skip(err) // a system that does not let go of open files
	}
	must(t, os.Rename(path+"-lock", away+"-lock"))
	b := mustOpenAt(t, path, nil)
	mustPut(t, b, "b", "acknowledged")
	if err := a.Update(func(tx *Tx) error { return tx.Root().Put([]byte("a"), []byte("1")) }); !errors.Is(err, ErrFileReplaced) {
		t.Errorf("a first commit: %v", err)
	}
	mustPut(t, b, "c", "acknowledged too")
	crashKill(a)
	crashKill(b)
	b = mustOpenAt(t, path, nil)
	has(t, b, "b", "acknowledged")
	has(t, b, "c", "acknowledged too")
	must(t, b.Close())
}

// A LockedError names the process that holds the store, and says how. The other process tells what it was told.
func TestLockedErrorNamesHolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system does not tell")
	}
	db := mustOpen(t, nil)
	mustPut(t, db, "a", "b")
	path := db.Path()
	if out := openElsewhere(t, path, "read"); out != "opened" {
		t.Errorf("reader beside a writer: %s", out)
	}
	if out, want := openElsewhere(t, path, "write who"), fmt.Sprintf("%d false", os.Getpid()); out != want {
		t.Errorf("holder of a store open for writing: %s, want %s", out, want)
	}
	must(t, db.Close())
	db = mustOpenAt(t, path, &Options{ReadOnly: true})
	if out := openElsewhere(t, path, "write"); out != "opened" {
		t.Errorf("writer beside a reader: %s", out)
	}
	must(t, db.Close())
	// A reader that has no part in the table.
	db = mustOpenAt(t, path, &Options{ReadOnly: true, fs: refusingFS{vfs.OS, lockName(path)}})
	if out, want := openElsewhere(t, path, "write who"), fmt.Sprintf("%d true", os.Getpid()); out != want {
		t.Errorf("holder of a store open for reading: %s, want %s", out, want)
	}
	if out := openElsewhere(t, path, "read"); out != "opened" {
		t.Errorf("second reader: %s", out)
	}
	must(t, db.Close())
}

// refusingFS does not let one file be opened.
type refusingFS struct {
	vfs.FS
	name string
}

func (r refusingFS) Open(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if name == r.name {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrPermission}
	}
	return r.FS.Open(name, flag, perm)
}

// openElsewhere opens a store in another process, to read or to write, and returns how that went: opened, locked, or, if
// mode asks who, the process that holds it and whether to read.
func openElsewhere(t *testing.T, path, mode string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOpenElsewhere$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "FOLIO_ELSEWHERE="+path, "FOLIO_ELSEWHERE_MODE="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var line string
	if _, serr := fmt.Sscanf(string(out), "elsewhere: %q", &line); err != nil || serr != nil {
		t.Fatalf("%v %v: %s", err, serr, out)
	}
	return line
}

// TestOpenElsewhere is the other process of openElsewhere.
func TestOpenElsewhere(t *testing.T) {
	path, mode := os.Getenv("FOLIO_ELSEWHERE"), os.Getenv("FOLIO_ELSEWHERE_MODE")
	if path == "" {
		t.Skip("for openElsewhere")
	}
	var how string
	var who string
	fmt.Sscan(mode, &how, &who)
	wait := time.Millisecond
	if how == "read" {
		wait = time.Second // the writer has to show it first what it has
	}
	db, err := Open(path, &Options{ReadOnly: how == "read", LockTimeout: wait})
	var locked *LockedError
	result := "opened"
	switch {
	case errors.As(err, &locked) && who != "":
		result = fmt.Sprint(locked.Holder, locked.Reader)
	case errors.As(err, &locked):
		result = "locked"
	case err != nil:
		result = err.Error()
	default:
		must(t, db.Close())
	}
	fmt.Printf("elsewhere: %q\n", result)
}
