package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/datadriven"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// TestCommandLine runs the scripts of testdata/cli: the command line is the test. Each
// file works in a new empty folder. Directives:
//
//	run [in=FILE]              the input is a command line, with '...' quotes; the output is
//	                           what it printed, and its exit code where that is not 0
//	file name=F [escaped]      writes the input to a file; escaped: \t, \x00 and so on count
//	copy from=F to=G           copies a store, its log too
//	write at=N hex=... name=F  overwrites bytes of a file
//	seal page=N name=F         gives a page of 4096 bytes the checksum of its content
//	version of=N name=F        gives both meta slots another format version
//	cut size=N name=F          truncates a file
//	folder name=F              makes a folder
//	link from=F to=G           makes a symbolic link
//	killed name=F              makes a store as kill -9 leaves it: three commits in the log
//
// Commands that only look at a store are checked to leave every file as it was.
func TestCommandLine(t *testing.T) {
	scripts, err := filepath.Abs("../../testdata/cli")
	if err != nil {
		t.Fatal(err)
	}
	datadriven.Walk(t, scripts, func(t *testing.T, path string) {
		s := &session{dir: t.TempDir()}
		t.Chdir(s.dir)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.do(t, d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

// A session is a folder in which commands run one after the other.
type session struct{ dir string }

// do runs a directive.
func (s *session) do(t *testing.T, d *datadriven.TestData) (string, error) {
	arg := func(name string) (v string) {
		d.ScanArgs(t, name, &v)
		return v
	}
	switch d.Cmd {
	case "run":
		in := ""
		if d.HasArg("in") {
			b, err := os.ReadFile(arg("in"))
			if err != nil {
				return "", err
			}
			in = string(b)
		}
		return s.run(d.Input, in)
	case "file":
		text := d.Input
		if d.HasArg("escaped") {
			var err error
			if text, err = strconv.Unquote(`"` + strings.ReplaceAll(text, "\n", `\n`) + `"`); err != nil {
				return "", err
			}
		}
		return "", os.WriteFile(arg("name"), []byte(text), 0o600)
	case "copy":
		return "", copyStore(arg("from"), arg("to"))
	case "write":
		return "", overwrite(arg("name"), arg("at"), arg("hex"))
	case "seal":
		id, err := strconv.Atoi(arg("page"))
		return "", errors.Join(err, seal(arg("name"), id))
	case "version":
		n, err := strconv.Atoi(arg("of"))
		return "", errors.Join(err, setVersion(arg("name"), uint32(n)))
	case "cut":
		n, err := strconv.Atoi(arg("size"))
		return "", errors.Join(err, os.Truncate(arg("name"), int64(n)))
	case "folder":
		return "", os.Mkdir(arg("name"), 0o700)
	case "link":
		return "", os.Symlink(arg("from"), arg("to"))
	case "killed":
		return "", makeKilled(arg("name"))
	}
	return "", fmt.Errorf("no such directive: %s", d.Cmd)
}

// run runs a command line and gives what it printed.
func (s *session) run(line, in string) (string, error) {
	args, err := splitWords(line)
	if err != nil || len(args) == 0 {
		return "", fmt.Errorf("no command line: %q (%v)", line, err)
	}
	made := "" // by the command, which must change nothing else
	if args[0] == "recover" && len(args) > 2 {
		made = args[2]
	}
	before, err := s.snapshot(made)
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	code := run(args, strings.NewReader(in), &out, &errs)
	text := out.String()
	if args[0] == "stats" {
		text = regexp.MustCompile(`[0-9]+`).ReplaceAllString(text, "N")
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "(no newline)\n"
	}
	text += errs.String()
	if code != exitOK {
		text += fmt.Sprintf("exit %d\n", code)
	}
	after, err := s.snapshot(made)
	if err != nil {
		return "", err
	}
	if !slices.Contains([]string{"load", "put", "del"}, args[0]) && after != before {
		text += "a file changed\n"
	}
	return s.steady(text), nil
}

// snapshot describes every file below the folder: a command that only looks must
// leave all of it alike, times too. Where a file is to be made, that one and the folders' times do not count.
func (s *session) snapshot(made string) (string, error) {
	var all strings.Builder
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || d.Name() == made { // a lock file comes and goes in the folder
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&all, path, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(&all, f)
			return err
		}
		return nil
	})
	return all.String(), err
}

// What differs from run to run, and what is written for it.
var unsteady = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`in [0-9.]+ s: [0-9]+ (\w+)/s, [0-9.]+ k?M?G?B/s; (\S+) is [0-9.]+ k?M?B`), "in T s: N $1/s, B/s; $2 is SIZE"},
	{regexp.MustCompile(`: [0-9]+ pages checked`), ": N pages checked"},
	{regexp.MustCompile(`(?m)^( +[0-9]+  )[0-9a-f]{32}$`), "${1}HEX"},
	{regexp.MustCompile(`store [0-9a-f]{32}`), "store ID"},
	{regexp.MustCompile(`(sum|epoch|chain|checksum) [0-9a-f]{16}`), "$1 X"},
}

func (s *session) steady(text string) string {
	text = strings.ReplaceAll(text, s.dir+string(filepath.Separator), "")
	for _, u := range unsteady {
		text = u.find.ReplaceAllString(text, u.with)
	}
	return text
}

// splitWords splits a command line at spaces outside of '...'.
func splitWords(line string) (words []string, err error) {
	word, open, quoted := "", false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, open = !quoted, true
		case quoted || r != ' ' && r != '\n':
			word, open = word+string(r), true
		case open:
			words = append(words, word)
			word, open = "", false
		}
	}
	if quoted {
		return nil, fmt.Errorf("open quote: %s", line)
	}
	if open {
		words = append(words, word)
	}
	return words, nil
}

// A key or a name that is too long made a store beside the error.
func TestTooLongMakesNoStore(t *testing.T) {
	long := strings.Repeat("k", folio.MaxKeySize+1)
	for _, args := range [][]string{{"put", "STORE", long, "v"}, {"put", "STORE", "k", "v", "--bucket", "a/" + long}, {"load", "STORE", "--bucket", long}} {
		args[1] = filepath.Join(t.TempDir(), "a.db")
		var errs strings.Builder
		if code := run(args, strings.NewReader("a\tb\n"), io.Discard, &errs); code != 2 || !strings.Contains(errs.String(), "at most 32768") {
			t.Errorf("%s: exit %d, %s", args[0], code, errs.String())
		}
		if _, err := os.Stat(args[1]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s has made a store: %v", args[0], err)
		}
	}
}

// TestHelp checks that the tool without arguments says what it does.
func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(nil, strings.NewReader(""), &out, &errs); code != exitOK || errs.Len() > 0 {
		t.Errorf("exit %d, %s", code, errs.String())
	}
	for _, word := range []string{"load", "scan", "Exit codes:", `\xNN`[1:]} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("no %q in the help", word)
		}
	}
}

// holdEnv, when set, makes the test binary a process that holds the store it names.
const holdEnv = "FOLIO_CLI_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		hold(path)
		return
	}
	if path := os.Getenv(writeEnv); path != "" {
		if err := keepWriting(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(toolEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// hold opens a store and keeps it until its standard input ends.
func hold(path string) {
	db, err := folio.Open(path, nil)
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err == nil {
		_ = db.Close()
	}
}

// TestLocked runs commands on a store that another process has open for writing.
func TestLocked(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app.db")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holdEnv+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("<nil>\n"))
	if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "<nil>\n" {
		t.Fatalf("holder: %q, %v", ready, err)
	}
	// Who only reads does so beside the other process, where the system lets memory be shared.
	for _, args := range [][]string{{"scan", path}, {"stats", path}, {"check", path}} {
		if runtime.GOOS != "linux" {
			break
		}
		var out, errs bytes.Buffer
		if code := run(args, strings.NewReader(""), &out, &errs); code != exitOK || errs.Len() > 0 {
			t.Errorf("%v beside a writer: exit %d, %s%s", args, code, out.String(), errs.String())
		}
	}
	for _, args := range [][]string{{"put", path, "k", "v"}, {"del", path, "k"}} {
		var out, errs bytes.Buffer
		code := run(append(args, "--wait", "20ms"), strings.NewReader(""), &out, &errs)
		if code != exitFailed || out.Len() > 0 || !strings.Contains(errs.String(), "--wait 1m") || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v: exit %d, %s%s", args, code, out.String(), errs.String())
		}
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if code := run([]string{"put", path, "k", "v"}, strings.NewReader(""), io.Discard, &errs); code != exitOK {
		t.Errorf("after the other process left: exit %d, %s", code, errs.String())
	}
}

func copyStore(from, to string) error {
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(from + suffix)
		if err != nil {
			if suffix != "" && errors.Is(err, os.ErrNotExist) {
				continue
			}
			return err
		}
		if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func overwrite(name, at, digits string) error {
	off, err := strconv.ParseInt(at, 0, 64)
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Close())
}

// seal puts the checksum of a page of 4096 bytes right, or of a meta slot.
func seal(name string, id int) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	p := b[id*4096:][:4096]
	if id < 2 {
		binary.LittleEndian.PutUint64(p[504:], xxhash.Sum64(p[:504]))
	} else {
		page.Seal(p)
	}
	return os.WriteFile(name, b, 0o600)
}

// setVersion changes the format version in both meta slots of a store with pages of 4096
// bytes, and puts their checksums right.
func setVersion(name string, version uint32) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for _, at := range []int{0, 4096} {
		slot := b[at:]
		binary.LittleEndian.PutUint32(slot[8:], version)
		binary.LittleEndian.PutUint64(slot[504:], xxhash.Sum64(slot[:504]))
	}
	return os.WriteFile(name, b, 0o600)
}

// makeKilled copies a store's files while it is open.
func makeKilled(name string) error {
	db, err := folio.Open(name+".live", &folio.Options{PageSize: 4096})
	if err != nil {
		return err
	}
	for i := range 3 {
		err = errors.Join(err, db.Update(func(tx *folio.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("logged"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "key%d", i), []byte("value"))
		}))
	}
	return errors.Join(err, copyStore(name+".live", name), db.Close(), os.Remove(name+".live"))
}

// TestAdvice: who may not write the lock file was advised to end the process that writes. That would have helped him, and nobody else.
func TestAdvice(t *testing.T) {
	for want, err := range map[string]error{
		"":                                      errors.Join(folio.ErrTimeout, os.ErrPermission),
		"end it, or wait longer with --wait 1m": folio.ErrTimeout,
	} {
		if got := advice(err, "get"); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
