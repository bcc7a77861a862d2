package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Failer is a file system that passes calls on to another one and makes some
// of them fail, as its rules say. It also counts calls by the line that made
// them, so that a test can show that each has failed once.
//
// Under a Recorder it makes failed syncs and short writes part of the log;
// above one, a call that it fails never reaches the log.
type Failer struct {
	under FS

	mu     sync.Mutex
	rules  []ruleState
	calls  map[Kind]int
	total  int
	failed int
	sites  map[siteKey]*Site
	stacks map[stack]siteKey
	watch  func(site Site, failed bool)
}

type ruleState struct {
	Rule
	seen int // matching calls so far
}

// Site is a line of code that calls the file system, and how it went.
type Site struct {
	Kind   Kind
	Func   string // such as wal.(*Log).Sync
	File   string // with the last directory, such as wal/log.go
	Line   int
	Calls  int
	Failed int
}

// String is the site as one line.
func (s Site) String() string {
	return fmt.Sprintf("%s %s:%d %s: %d calls, %d failed", s.Kind, s.File, s.Line, s.Func, s.Calls, s.Failed)
}

type siteKey struct {
	kind Kind
	file string
	line int
}

type stack [10]uintptr

// NewFailer returns a failing file system on top of under.
func NewFailer(under FS, rules ...Rule) *Failer {
	f := &Failer{under: under, calls: map[Kind]int{}, sites: map[siteKey]*Site{}, stacks: map[stack]siteKey{}}
	f.Set(rules...)
	return f
}

// Set replaces the rules, whose calls count from now on. Without rules
// nothing fails. The counts of calls and sites go on.
func (f *Failer) Set(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, r := range rules {
		f.rules = append(f.rules, ruleState{Rule: r})
	}
}

// Watch has fn told of each call from now on, by the goroutine that makes it and before it is made: the line that calls, and
// whether the call is going to fail. fn may be called concurrently.
func (f *Failer) Watch(fn func(site Site, failed bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = fn
}

// Calls is the number of calls of some kinds so far; of all, if none is named.
func (f *Failer) Calls(kinds ...Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(kinds) == 0 {
		return f.total
	}
	n := 0
	for _, k := range kinds {
		n += f.calls[k]
	}
	return n
}

// Failed is the number of calls that a rule made fail so far.
func (f *Failer) Failed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Sites returns the lines that called so far, in the order of their files.
func (f *Failer) Sites() []Site {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sites []Site
	for _, s := range f.sites {
		sites = append(sites, *s)
	}
	slices.SortFunc(sites, func(a, b Site) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(string(a.Kind), string(b.Kind))
	})
	return sites
}

// fate counts a call on names and returns the rule that makes it fail, nil if
// none does. All rules count the call, the first that strikes decides.
func (f *Failer) fate(kind Kind, names ...string) *Rule {
	var pcs stack
	runtime.Callers(3, pcs[:])
	rule, site, watch := f.count(kind, pcs, names)
	if watch != nil {
		watch(site, rule != nil)
	}
	return rule
}

// count is fate but for who watches.
func (f *Failer) count(kind Kind, pcs stack, names []string) (rule *Rule, _ Site, watch func(Site, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	f.calls[kind]++
	site := f.site(kind, pcs)
	site.Calls++
	for i := range f.rules {
		r := &f.rules[i]
		if !r.matches(kind, names) {
			continue
		}
		if r.seen++; rule == nil && r.strikes(r.seen) {
			struck := r.Rule
			rule = &struck
		}
	}
	if rule != nil {
		f.failed++
		site.Failed++
	}
	return rule, *site, f.watch
}

// site finds the line of a call in its stack: the innermost frame that is not
// this package's. Tests of this package count as callers.
func (f *Failer) site(kind Kind, pcs stack) *Site {
	key, ok := f.stacks[pcs]
	if ok && key.kind == kind {
		return f.sites[key]
	}
	frames := runtime.CallersFrames(pcs[:])
	frame, more := frames.Next()
	for more && strings.HasPrefix(frame.Function, packagePath+".") && !strings.HasSuffix(frame.File, "_test.go") {
		frame, more = frames.Next()
	}
	file := path.Join(path.Base(path.Dir(filepath.ToSlash(frame.File))), path.Base(filepath.ToSlash(frame.File)))
	key = siteKey{kind, file, frame.Line}
	f.stacks[pcs] = key
	if f.sites[key] == nil {
		f.sites[key] = &Site{Kind: kind, Func: path.Base(frame.Function), File: file, Line: frame.Line}
	}
	return f.sites[key]
}

var packagePath = reflect.TypeFor[Failer]().PkgPath()

// do makes a call of a kind on a name, or fails it.
func (f *Failer) do(kind Kind, name string, call func() error) error {
	return f.verdict(f.fate(kind, name), kind, name, call)
}

// verdict makes a call, or fails it if a rule has struck.
func (f *Failer) verdict(r *Rule, kind Kind, name string, call func() error) error {
	if r == nil {
		return call()
	}
	if r.Late {
		_ = call() // whatever came of it
	}
	return r.fail(kind, name)
}

// Open opens a file: KindCreate with os.O_CREATE, else KindOpen.
func (f *Failer) Open(name string, flag int, perm fs.FileMode) (File, error) {
	kind := openKind(flag)
	r := f.fate(kind, name)
	if r != nil && !r.Late {
		return nil, r.fail(kind, name)
	}
	file, err := f.under.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if r != nil {
		return nil, errors.Join(r.fail(kind, name), file.Close())
	}
	return &failingFile{f: f, under: file}, nil
}

// Link gives a file a second name.
func (f *Failer) Link(oldname, newname string) error {
	return f.verdict(f.fate(KindLink, oldname, newname), KindLink, newname, func() error {
		return f.under.Link(oldname, newname)
	})
}

// Rename moves a name.
func (f *Failer) Rename(oldname, newname string) error {
	return f.verdict(f.fate(KindRename, oldname, newname), KindRename, newname, func() error {
		return f.under.Rename(oldname, newname)
	})
}

// Remove removes a name.
func (f *Failer) Remove(name string) error {
	return f.do(KindRemove, name, func() error { return f.under.Remove(name) })
}

// SyncDir makes the entries of a directory durable.
func (f *Failer) SyncDir(dir string) error {
	return f.do(KindSyncDir, dir, func() error { return f.under.SyncDir(dir) })
}

// Stat describes what a name leads to.
func (f *Failer) Stat(name string) (info Info, err error) {
	err = f.do(KindStat, name, func() error {
		info, err = f.under.Stat(name)
		return err
	})
	return info, err
}
