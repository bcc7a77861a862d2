package folio

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// failSites counts calls by the line that makes them.
var failSites = failSiteCount{seen: map[failSite]*[2]int{}, claimed: map[failClaim]int{}}

// failSite is a line of the library that calls the file system.
type failSite struct {
	file string // such as wal/log.go; folio/db.go
	line int
}

type failClaim struct {
	site failSite
	kind vfs.Kind
	way  string
}

type failSiteCount struct {
	mu      sync.Mutex
	seen    map[failSite]*[2]int // called, failed
	claimed map[failClaim]int
}

// siteOf names the place by the package, since the checkout's folder may have any name.
func siteOf(s vfs.Site) failSite {
	pkg, _, _ := strings.Cut(s.Func, ".")
	return failSite{pkg + "/" + filepath.Base(s.File), s.Line}
}

func (c *failSiteCount) add(s vfs.Site, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.seen[siteOf(s)]
	if n == nil {
		n = new([2]int)
		c.seen[siteOf(s)] = n
	}
	n[0]++
	if failed {
		n[1]++
	}
}

// claim reports whether the site has not been chosen often enough to fail in this way.
func (c *failSiteCount) claim(s vfs.Site, way string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := failClaim{siteOf(s), s.Kind, way}
	c.claimed[k]++
	return c.claimed[k] == 1
}

// failAfterwards are calls that are only made when one below has failed that many others make too: a sample may have failed
// theirs.
var failAfterwards = []string{"growTo Truncate", "restoreSize Truncate", "requireLog Close"}

// judge compares the calls that were made with those that the source has. Each must have been made, and have failed; in a sample it
// need not have failed. Once a sample let pass what was never called, so that the windows came without anything that made them fail.
func (c *failSiteCount) judge(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Log("there is no go command to list the calls with")
		return
	}
	sites := staticSites(t)
	called, failed := 0, 0
	for _, s := range sites {
		n := s.count(c, sites)
		if n[0] > 0 {
			called++
		}
		if n[1] > 0 {
			failed++
		}
		switch {
		case n[1] > 0:
		case *failAll:
			t.Errorf("%s:%d: %s was called %d times and never failed", s.file, s.line, s.method, n[0])
		case n[0] == 0 && runtime.GOOS == "linux" && !slices.Contains(failAfterwards, s.fn+" "+s.method): // other systems have not all of it
			t.Errorf("%s:%d: %s was never called", s.file, s.line, s.method)
		default:
			t.Logf("%s:%d: %s was called %d times and did not fail", s.file, s.line, s.method, n[0])
		}
	}
	t.Logf("%d places call the file system: %d were reached, %d failed", len(sites), called, failed)
}

// staticSite is a call in the source.
type staticSite struct {
	file, method string
	fn           string // the function that makes it, without its type
	line         int
	from, to     int // lines in which it is made
	deferred     bool
}

// count adds up what was seen of the call.
func (s *staticSite) count(c *failSiteCount, all []staticSite) (n [2]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := s.from; line <= s.to; line++ {
		m := c.seen[failSite{s.file, line}]
		if m == nil || s.deferred && slices.ContainsFunc(all, func(o staticSite) bool {
			return o.file == s.file && !o.deferred && o.from <= line && line <= o.to
		}) {
			continue
		}
		n[0], n[1] = n[0]+m[0], n[1]+m[1]
	}
	return n
}

// listedPackage is what go list tells of a package.
type listedPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// staticSites lists the calls of methods of vfs.FS, File, Mapping, Shared and Window in the library. Left out are Name, Bytes,
// WillNeed and Resident, which cannot fail, and what is only called by the command and by tests.
func staticSites(t *testing.T) (sites []staticSite) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", ".")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	packages := map[string]listedPackage{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	fset := token.NewFileSet()
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(packages[path].Export) })
	for _, path := range slices.Sorted(maps.Keys(packages)) {
		if strings.HasPrefix(path, "github.com/foliodb/folio") && path != "github.com/foliodb/folio/internal/vfs" {
			sites = append(sites, sitesOf(t, fset, packages[path], from)...)
		}
	}
	return sites
}

// sitesOf lists the calls of one package.
func sitesOf(t *testing.T, fset *token.FileSet, p listedPackage, from types.Importer) (sites []staticSite) {
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		must(t, err)
		files = append(files, f)
	}
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
	pkg, err := (&types.Config{Importer: from, Sizes: types.SizesFor("gc", "amd64")}).Check(p.ImportPath, fset, files, info)
	must(t, err)
	for _, f := range files {
		v := &siteVisitor{t: t, fset: fset, info: info, called: map[*ast.SelectorExpr]bool{}, deferred: map[*ast.CallExpr]bool{}}
		v.file = pkg.Name() + "/" + filepath.Base(fset.Position(f.Pos()).Filename)
		ast.Walk(v, f)
		sites = append(sites, v.sites...)
	}
	return sites
}

// siteVisitor finds the calls of a file. A call is seen before its parts are.
type siteVisitor struct {
	t        *testing.T
	fset     *token.FileSet
	info     *types.Info
	file     string
	fn       string     // the declared function
	within   []ast.Node // functions around
	called   map[*ast.SelectorExpr]bool
	deferred map[*ast.CallExpr]bool
	sites    []staticSite
}

func (v *siteVisitor) line(p token.Pos) int { return v.fset.Position(p).Line }

func (v *siteVisitor) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.FuncDecl, *ast.FuncLit:
		if decl, ok := n.(*ast.FuncDecl); ok {
			v.fn = decl.Name.Name
		}
		for _, part := range children(n) {
			v.within = append(v.within, n)
			ast.Walk(v, part)
			v.within = v.within[:len(v.within)-1]
		}
		return nil
	case *ast.DeferStmt:
		v.deferred[n.Call] = true
	case *ast.CallExpr:
		if sel, ok := n.Fun.(*ast.SelectorExpr); ok && isFileCall(v.info.Selections[sel]) {
			v.called[sel] = true
			s := staticSite{file: v.file, method: sel.Sel.Name, fn: v.fn, line: v.line(sel.Sel.Pos()), from: v.line(sel.Sel.Pos()), to: v.line(n.End())}
			if v.deferred[n] { // it is made where the function ends, in any of its lines
				fn := v.within[len(v.within)-1]
				s.from, s.to, s.deferred = v.line(fn.Pos()), v.line(fn.End()), true
			}
			v.sites = append(v.sites, s)
		}
	case *ast.SelectorExpr:
		if !v.called[n] && isFileCall(v.info.Selections[n]) {
			v.t.Errorf("%s: a method value, whose calls this test cannot place", v.fset.Position(n.Pos()))
		}
	}
	return v
}

// children returns the parts of a function.
func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Body != nil {
			return []ast.Node{n.Body}
		}
	case *ast.FuncLit:
		return []ast.Node{n.Body}
	}
	return nil
}

// isFileCall reports whether a selection is a method of vfs that can fail.
func isFileCall(s *types.Selection) bool {
	if s == nil || s.Obj().Pkg() == nil || s.Obj().Pkg().Path() != "github.com/foliodb/folio/internal/vfs" {
		return false
	}
	named, ok := s.Recv().(*types.Named)
	if !ok || !slices.Contains([]string{"FS", "File", "Mapping", "Shared", "Window"}, named.Obj().Name()) {
		return false
	}
	return !slices.Contains([]string{"Name", "Bytes", "WillNeed", "Resident"}, s.Obj().Name())
}
