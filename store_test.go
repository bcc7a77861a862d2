package folio

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/foliodb/folio/internal/vfs"
)

// TestStore runs the scripts in testdata/store: a store on a recorder over a failing file system.
func TestStore(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("errors have other texts")
	}
	datadriven.Walk(t, "testdata/store", func(t *testing.T, path string) {
		s := newStoreScript(t)
		defer s.end()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(t, d)
		})
	})
}

// storeScript is a store that a script drives. Lines of output that may differ between runs (directories, store ids,
// random parts of names) are shown as such: see plain.
type storeScript struct {
	t      *testing.T
	dir    string
	failer *vfs.Failer
	rec    *vfs.Recorder
	opts   Options
	name   string
	db     *DB
	txs    map[string]*Tx
	from   int // operations of the recorder before the last command
	since  int // and before the last mark
	random uint64
}

func newStoreScript(t *testing.T) *storeScript {
	s := &storeScript{t: t, dir: crashDir(t), failer: vfs.NewFailer(vfs.OS), txs: map[string]*Tx{}}
	s.rec = vfs.NewRecorder(s.failer)
	return s
}

// end lets go of everything.
func (s *storeScript) end() { s.kill() }

// run does one command. Errors are output. An argument that the command does not know fails the test.
func (s *storeScript) run(t *testing.T, d *datadriven.TestData) string {
	verb, ok := storeVerbs[d.Cmd]
	if !ok {
		t.Fatalf("%s: no such command: %s", d.Pos, d.Cmd)
	}
	for _, a := range d.CmdArgs {
		if known := strings.Fields(verb.args); !slices.Contains(known, a.Key) && !slices.Contains(known, "*") {
			t.Fatalf("%s: %s does not know %q", d.Pos, d.Cmd, a.Key)
		}
	}
	if d.Cmd != "io" {
		s.from = s.rec.Len()
	}
	out, err := verb.do(s, d)
	if err != nil {
		out += "error: " + err.Error() + "\n"
	}
	if out == "" {
		out = "ok\n"
	}
	return s.plain(out)
}

var (
	storeID  = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	storeNew = regexp.MustCompile(`\.new-[0-9a-f]{12}`)
	storeTmp = regexp.MustCompile(`\S*/folio-crash\d+(/\d+)?/`)
)

// plain takes out of s what is not the same in every run.
func (s *storeScript) plain(text string) string {
	text = strings.ReplaceAll(text, s.dir+string(filepath.Separator), "")
	text = storeTmp.ReplaceAllString(text, "")
	text = storeID.ReplaceAllString(text, "<id>")
	return storeNew.ReplaceAllString(text, ".new-*")
}

// storeVerb is a command: the arguments that it knows, "*" for any, and what it does. The text is output, as is the error.
type storeVerb struct {
	args string
	do   func(s *storeScript, d *datadriven.TestData) (string, error)
}

var storeVerbs map[string]storeVerb

func init() {
	storeVerbs = map[string]storeVerb{
		// open [app.db] [readonly] [log=bytes] [memory=bytes] [max=bytes] [reserve=bytes] [relaxed]: opens the store, and says
		// which transaction it holds. With recover, the recorder starts anew with the files as they are.
		"open": {"* readonly relaxed log memory max reserve recover", (*storeScript).open},
		// begin r: a transaction by the name r. begin w write: one that writes.
		"begin": {"*", (*storeScript).begin},
		// write w: changes in transaction w, one a line; see change.
		"write": {"*", (*storeScript).write},
		"commit": {"*", func(s *storeScript, d *datadriven.TestData) (string, error) {
			return s.finish(d, (*Tx).Commit)
		}},
		"rollback": {"*", func(s *storeScript, d *datadriven.TestData) (string, error) {
			return s.finish(d, (*Tx).Rollback)
		}},
		// update [relaxed]: changes in a transaction of their own.
		"update": {"relaxed", (*storeScript).update},
		// view [r]: questions in transaction r or a new one, one a line; see answer.
		"view":       {"*", (*storeScript).view},
		"checkpoint": {"", func(s *storeScript, d *datadriven.TestData) (string, error) { return "", s.db.Checkpoint() }},
		"sync":       {"", func(s *storeScript, d *datadriven.TestData) (string, error) { return "", s.db.Sync() }},
		"check":      {"", func(s *storeScript, d *datadriven.TestData) (string, error) { return "", s.db.Check() }},
		"close": {"", func(s *storeScript, d *datadriven.TestData) (string, error) {
			err := s.db.Close()
			s.db = nil
			return "", err
		}},
		// kill lets go of the files as the death of the process does.
		"kill": {"", func(s *storeScript, d *datadriven.TestData) (string, error) { s.kill(); return "", nil }},
		// stats word ...: some of the figures.
		"stats": {"*", (*storeScript).stats},
		// fail: rules of a vfs.Failer, one a line, from now on. None: nothing fails.
		"fail": {"", (*storeScript).fail},
		// io: the changes of files that the last command made.
		"io": {"", func(s *storeScript, d *datadriven.TestData) (string, error) { return s.rec.Text(s.from), nil }},
		// mark: crash-matrix begins here.
		"mark": {"", func(s *storeScript, d *datadriven.TestData) (string, error) { s.since = s.rec.Len(); return "", nil }},
		// crash keep=synced|all|seed: opens what a power cut now may leave, and answers questions about it.
		"crash": {"keep seed", (*storeScript).crash},
		// crash-matrix: for each change of a file since the mark, which transaction is found after a power cut behind it: of only
		// what was synced, of everything, and of some other states.
		"crash-matrix": {"", (*storeScript).crashMatrix},
		// file: changes made to files past the store, one a line; see damage. The store is not open.
		"file": {"", (*storeScript).file},
	}
}

func (s *storeScript) open(d *datadriven.TestData) (string, error) {
	s.name, s.opts = "app.db", Options{PageSize: 4096}
	for _, a := range d.CmdArgs {
		n := int64(0)
		if len(a.Vals) > 0 {
			var err error
			if n, err = strconv.ParseInt(a.Vals[0], 0, 64); err != nil {
				return "", err
			}
		}
		switch a.Key {
		case "readonly":
			s.opts.ReadOnly = true
		case "relaxed":
			s.opts.Durability, s.opts.SyncInterval = Relaxed, 1<<62
		case "log":
			s.opts.LogLimit = n
		case "memory":
			s.opts.MemoryLimit = n
		case "max":
			s.opts.MaxSize = n
		case "reserve":
			s.opts.reservation = n
		case "recover":
			s.rec = vfs.NewRecorder(s.failer)
			s.from, s.since = 0, 0
		default:
			s.name = a.Key
		}
	}
	s.opts.fs, s.opts.alone = s.rec, true
	s.opts.random = func() uint64 { s.random++; return s.random * 0x9e3779b97f4a7c15 }
	db, err := Open(filepath.Join(s.dir, s.name), &s.opts)
	if err != nil {
		return "", err
	}
	s.db = db
	return fmt.Sprintf("tx %d\n", db.Stats().LastTx), nil
}

func (s *storeScript) kill() {
	for name, tx := range s.txs {
		tx.Rollback()
		delete(s.txs, name)
	}
	crashKill(s.db)
	s.db = nil
}

// named returns the transaction that the command names.
func (s *storeScript) named(d *datadriven.TestData) *Tx {
	tx := s.txs[d.CmdArgs[0].Key]
	if tx == nil {
		s.t.Fatalf("%s: no such transaction: %s", d.Pos, d.CmdArgs[0].Key)
	}
	return tx
}

func (s *storeScript) begin(d *datadriven.TestData) (string, error) {
	tx, err := s.db.Begin(len(d.CmdArgs) > 1 && d.CmdArgs[1].Key == "write")
	if err != nil {
		return "", err
	}
	s.txs[d.CmdArgs[0].Key] = tx
	return fmt.Sprintf("tx %d\n", tx.ID()), nil
}

func (s *storeScript) finish(d *datadriven.TestData, how func(*Tx) error) (string, error) {
	err := how(s.named(d))
	delete(s.txs, d.CmdArgs[0].Key)
	return "", err
}

func (s *storeScript) write(d *datadriven.TestData) (string, error) {
	return s.changes(s.named(d), d.Input)
}

func (s *storeScript) update(d *datadriven.TestData) (out string, err error) {
	err = s.db.Update(func(tx *Tx) error {
		if d.HasArg("relaxed") {
			tx.SetDurability(Relaxed)
		}
		var err error
		out, err = s.changes(tx, d.Input)
		return err
	})
	return out, err
}

// changes makes one change a line. The first that fails ends it.
func (s *storeScript) changes(tx *Tx, input string) (out string, err error) {
	for line := range strings.Lines(input) {
		said, err := storeChange(tx, strings.Fields(line))
		if out += said; err != nil {
			return out, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	return out, nil
}

// storePath splits "a/b/key" into the bucket b in a, and the key.
func storePath(tx *Tx, path string) (*Bucket, []byte) {
	names := strings.Split(path, "/")
	b := tx.Root()
	for _, name := range names[:len(names)-1] {
		if b = b.Bucket([]byte(name)); b == nil {
			return nil, nil
		}
	}
	return b, []byte(names[len(names)-1])
}

// storeChange makes a change. Keys are paths:
//
//	put a/key value      value*1000 is the value 1000 times
//	fill a/key n size    key000 to the nth, values of that size
//	del a/key
//	delrange a/from to   - is no bound
//	create a/b, drop a/b, move a/b to/b, sequence a/ n
func storeChange(tx *Tx, words []string) (string, error) {
	b, key := storePath(tx, words[1])
	number := func(i int) int { n, _ := strconv.Atoi(words[i]); return n }
	switch words[0] {
	case "put":
		text, times, _ := strings.Cut(words[2], "*")
		n, err := strconv.Atoi(times)
		if err != nil {
			n = 1
		}
		return "", b.Put(key, []byte(strings.Repeat(text, n)))
	case "fill":
		for i := range number(2) {
			if err := b.Put(fmt.Appendf(nil, "%s%03d", key, i), slices.Repeat([]byte{'a' + byte(i%26)}, number(3))); err != nil {
				return "", err
			}
		}
		return "", nil
	case "del":
		return "", b.Delete(key)
	case "delrange":
		bound := func(s string) []byte {
			if s == "-" {
				return nil
			}
			return []byte(s)
		}
		n, err := b.DeleteRange(bound(string(key)), bound(words[2]))
		return fmt.Sprintf("%d items\n", n), err
	case "create":
		_, err := b.CreateBucket(key)
		return "", err
	case "drop":
		return "", b.DeleteBucket(key)
	case "move":
		dst, _ := storePath(tx, words[2])
		return "", b.MoveBucket(key, dst)
	case "sequence":
		return "", b.SetSequence(uint64(number(2)))
	}
	return "", errors.New("no such change")
}

func (s *storeScript) view(d *datadriven.TestData) (out string, err error) {
	if len(d.CmdArgs) > 0 {
		return storeAnswers(s.named(d), d.Input)
	}
	err = s.db.View(func(tx *Tx) error {
		out, err = storeAnswers(tx, d.Input)
		return err
	})
	return out, err
}

// storeAnswers answers one question a line. Without any it tells the transaction.
//
//	get a/key
//	scan a/prefix    items of the bucket that begin so
//	len a/
func storeAnswers(tx *Tx, input string) (string, error) {
	if input == "" {
		return fmt.Sprintf("tx %d\n", tx.ID()), nil
	}
	var out strings.Builder
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		if len(words) == 1 {
			words = append(words, "")
		}
		b, key := storePath(tx, words[1])
		switch {
		case b == nil:
			fmt.Fprintf(&out, "%s: no such bucket\n", words[1])
		case words[0] == "get":
			fmt.Fprintf(&out, "%s = %s\n", words[1], storeValue(b.Get(key)))
		case words[0] == "scan":
			for k, v := range b.Prefix(key) {
				fmt.Fprintf(&out, "%s = %s\n", k, storeValue(v))
			}
		case words[0] == "len":
			fmt.Fprintf(&out, "%d items\n", b.Len())
		default:
			return out.String(), fmt.Errorf("no such question: %s", words[0])
		}
	}
	return out.String(), tx.Err()
}

// storeValue shows a value: all of it when it is short.
func storeValue(v []byte) string {
	switch {
	case v == nil:
		return "-"
	case len(v) > 20:
		return fmt.Sprintf("%.4s... (%d bytes)", v, len(v))
	}
	return fmt.Sprintf("%q", v)
}

// stats prints figures by name.
func (s *storeScript) stats(d *datadriven.TestData) (string, error) {
	st := s.db.Stats()
	all := map[string]any{
		"last": st.LastTx, "published": st.PublishedTx, "checkpoint": st.CheckpointTx, "number": st.Checkpoint,
		"pages": st.Pages, "free": st.FreePages, "retained": st.RetainedPages, "file": st.FileSize,
		"log": st.LogSize, "live": st.LogLive, "pending": st.PendingBytes, "poisoned": st.Poisoned,
		"readers": st.OpenReaders, "oldest": st.OldestReader, "background": st.BackgroundFail,
	}
	var out []string
	for _, a := range d.CmdArgs {
		v, ok := all[a.Key]
		if !ok {
			return "", fmt.Errorf("no such figure: %s", a.Key)
		}
		out = append(out, fmt.Sprintf("%s %v", a.Key, v))
	}
	return strings.Join(out, ", ") + "\n", nil
}

func (s *storeScript) fail(d *datadriven.TestData) (string, error) {
	var rules []vfs.Rule
	for line := range strings.Lines(d.Input) {
		r, err := vfs.ParseRule(strings.TrimSpace(line))
		if err != nil {
			return "", err
		}
		rules = append(rules, r)
	}
	s.failer.Set(rules...)
	return "", nil
}

// crash opens what a power cut leaves now.
func (s *storeScript) crash(d *datadriven.TestData) (string, error) {
	h := vfs.NewHistory(s.rec.Log())
	choose := vfs.Chooser(vfs.KeepAll)
	for _, a := range d.CmdArgs {
		switch {
		case a.Key == "seed":
			seed, err := strconv.ParseUint(a.Vals[0], 10, 64)
			if err != nil {
				return "", err
			}
			choose = storeRandom(seed)
		case a.Vals[0] == "synced":
			choose = vfs.DropAll
		case a.Vals[0] != "all":
			return "", fmt.Errorf("keep=%s?", a.Vals[0])
		}
	}
	return s.inspect(h.State(h.Events(), choose), d.Input)
}

// storeRandom keeps half of all sectors.
func storeRandom(seed uint64) vfs.Chooser {
	rng := rand.New(rand.NewPCG(seed, 0))
	return func(vfs.Unit) vfs.Fate { return []vfs.Fate{vfs.Keep, vfs.Drop}[rng.IntN(2)] }
}

// inspect opens a state and answers questions about it.
func (s *storeScript) inspect(state *vfs.State, questions string) (out string, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(s.dir), "folio-crash")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := state.Materialise(dir); err != nil {
		return "", err
	}
	o := s.opts
	o.fs = nil
	db, err := Open(filepath.Join(dir, s.name), &o)
	if err != nil {
		return "", err
	}
	defer crashKill(db)
	out = fmt.Sprintf("tx %d\n", db.Stats().LastTx)
	if err := db.Check(); err != nil {
		return out, err
	}
	if questions == "" {
		return out, nil
	}
	err = db.View(func(tx *Tx) error {
		more, err := storeAnswers(tx, questions)
		out += more
		return err
	})
	return out, err
}

// matrixSeeds is how many random states crash-matrix tries for an operation.
const matrixSeeds = 8

func (s *storeScript) crashMatrix(d *datadriven.TestData) (string, error) {
	log := s.rec.Log()
	h := vfs.NewHistory(log)
	var out strings.Builder
	for _, op := range log[s.since:] {
		if op.Kind == vfs.KindMark || op.Kind == vfs.KindStart {
			continue
		}
		verdict := func(choose vfs.Chooser) string {
			text, err := s.inspect(h.State(op.End+1, choose), "")
			if err != nil {
				return "error: " + err.Error()
			}
			return strings.TrimPrefix(strings.TrimSpace(text), "tx ")
		}
		some := map[string]bool{}
		for seed := range uint64(matrixSeeds) {
			some[verdict(storeRandom(seed))] = true
		}
		fmt.Fprintf(&out, "%s: synced %s, all %s, some %s\n", op.String(), verdict(vfs.DropAll), verdict(vfs.KeepAll),
			strings.Join(slices.Sorted(mapKeys(some)), " "))
	}
	return out.String(), nil
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// file changes files past the store:
//
//	remove name
//	copy name to
//	cut name size          from the end, if negative
//	flip name offset       one bit
//	fill name offset n     with 0xff
//	text name words        a file of its own
func (s *storeScript) file(d *datadriven.TestData) (string, error) {
	if s.db != nil {
		s.t.Fatalf("%s: the store is open", d.Pos)
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		if err := storeDamage(s.dir, words); err != nil {
			return "", fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	return "", nil
}

func storeDamage(dir string, words []string) error {
	name := filepath.Join(dir, words[1])
	if words[0] == "text" {
		return os.WriteFile(name, []byte(strings.Join(words[2:], " ")), 0o600)
	}
	p, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(words[i])
		return n
	}
	switch words[0] {
	case "remove":
		return os.Remove(name)
	case "copy":
		return os.WriteFile(filepath.Join(dir, words[2]), p, 0o600)
	case "cut":
		n := number(2)
		if n < 0 {
			n += len(p)
		}
		p = p[:n]
	case "flip":
		p[number(2)] ^= 1
	case "fill":
		for i := range number(3) {
			p[number(2)+i] = 0xff
		}
	default:
		return fs.ErrInvalid
	}
	return os.WriteFile(name, p, 0o600)
}
