package weave

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// importPath is this package's.
const importPath = "github.com/foliodb/folio/internal/weave"

// stands are the packages that this one stands in for.
var stands = map[string]string{"sync": "sync", "sync/atomic": "atomic", "time": "time", "math/rand/v2": "rand"}

// Rewriting says what is rewritten.
type Rewriting struct {
	Root     string   // of the module
	Packages []string // folders below it
	Except   []string // files that stay as they are
	Points   []Points // further points
	Edits    []Edit   // made before all else
}

// Points asks for a point at the beginning of functions that meet others in ways that are not rewritten.
type Points struct {
	File      string
	Functions []string
}

// Edit replaces a text that occurs once in a file.
type Edit struct{ File, Old, New string }

// Overlay rewrites the packages, puts the new files into dir and returns the name of a file for the go command's
// flag -overlay. Lines keep their numbers.
func (r *Rewriting) Overlay(dir string) (string, error) {
	replace := map[string]string{}
	put := func(name, text string) error {
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		replace[filepath.Join(r.Root, filepath.FromSlash(name))] = to
		return os.WriteFile(to, []byte(text), 0o600)
	}
	for _, p := range r.Packages {
		names, err := filepath.Glob(filepath.Join(r.Root, filepath.FromSlash(p), "*.go"))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			rel, err := filepath.Rel(r.Root, name)
			if err != nil {
				return "", err
			}
			rel = filepath.ToSlash(rel)
			if strings.HasSuffix(rel, "_test.go") {
				continue
			}
			text, changed, err := r.file(rel)
			if err != nil {
				return "", err
			}
			if changed {
				if err := put(rel, text); err != nil {
					return "", err
				}
			}
		}
	}
	if err := put("internal/weave/woven.go", "package weave\n\nconst Woven = true\n"); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, list, 0o600)
}

// file rewrites one file, if there is anything to rewrite.
func (r *Rewriting) file(name string) (text string, changed bool, err error) {
	b, err := os.ReadFile(filepath.Join(r.Root, filepath.FromSlash(name)))
	if err != nil {
		return "", false, err
	}
	old := string(b)
	text = old
	for _, e := range r.Edits {
		if e.File != name {
			continue
		}
		if strings.Count(text, e.Old) != 1 {
			return "", false, fmt.Errorf("weave: %s has not once: %s", name, e.Old)
		}
		text = strings.Replace(text, e.Old, e.New, 1)
	}
	var points []string
	for _, p := range r.Points {
		if p.File == name {
			points = p.Functions
		}
	}
	if !slices.Contains(r.Except, name) || points != nil {
		if text, err = rewrite(name, text, !slices.Contains(r.Except, name), points); err != nil {
			return "", false, err
		}
	}
	return text, text != old, nil
}

// rewrite puts stand-ins for what a source meets others in, and points into functions.
func rewrite(name, text string, all bool, points []string) (string, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	w := &rewriter{fset: fset, text: text}
	if all {
		w.imports(f)
		ast.Inspect(f, w.visit)
	}
	w.enter(f, points)
	if len(w.edits) == 0 {
		return text, nil
	}
	if w.own {
		w.insert(f.Name.End(), "; import weave "+strconv.Quote(importPath))
	}
	return w.done(), nil
}

// rewriter collects changes of a text by offset.
type rewriter struct {
	fset   *token.FileSet
	text   string
	edits  []splice
	labels int
	own    bool // the package's own name is used
	random string
	comm   map[ast.Node]bool // operations that select does
}

type splice struct {
	from, to int
	text     string
}

func (w *rewriter) at(p token.Pos) int { return w.fset.Position(p).Offset }

func (w *rewriter) replace(from, to token.Pos, text string) {
	w.edits = append(w.edits, splice{w.at(from), w.at(to), text})
}

func (w *rewriter) insert(at token.Pos, text string) { w.replace(at, at, text) }

// imports has the stand-ins imported under the names of what they stand for.
func (w *rewriter) imports(f *ast.File) {
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		name, ok := stands[path]
		if !ok {
			continue
		}
		if spec.Name != nil {
			name = spec.Name.Name
			w.replace(spec.Name.Pos(), spec.Path.End(), name+" "+strconv.Quote(importPath))
		} else {
			w.replace(spec.Path.Pos(), spec.Path.End(), name+" "+strconv.Quote(importPath))
		}
		if path == "math/rand/v2" {
			w.random = name
		}
	}
}

// enter puts points at the beginning of functions.
func (w *rewriter) enter(f *ast.File, names []string) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && slices.Contains(names, fn.Name.Name) {
			w.own = true
			w.insert(fn.Body.Lbrace+1, " weave.Yield();")
		}
	}
}

func (w *rewriter) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && w.random != "" && x.Name == w.random && n.Sel.Name == "Uint32" {
			w.replace(n.Sel.Pos(), n.Sel.End(), "Random32")
		}
	case *ast.GoStmt:
		w.own = true
		w.replace(n.Go, n.Call.Pos(), "weave.Go(func() { ")
		w.insert(n.Call.End(), " })")
	case *ast.SelectStmt:
		w.selects(n)
	case *ast.SendStmt:
		if !w.comm[n] {
			w.own = true
			w.insert(n.Chan.Pos(), "weave.Send(")
			w.replace(n.Chan.End(), n.Value.Pos(), ", ")
			w.insert(n.Value.End(), ")")
		}
	case *ast.UnaryExpr:
		if n.Op == token.ARROW && !w.comm[n] {
			w.own = true
			w.replace(n.Pos(), n.X.Pos(), "weave.Recv(")
			w.insert(n.X.End(), ")")
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && fn.Name == "close" && len(n.Args) == 1 {
			w.own = true
			w.replace(fn.Pos(), fn.End(), "weave.Close")
		}
	}
	return true
}

// selects makes a select try, and wait outside. A channel that a call returns is asked for once. Where several channels are
// waited for they are tried one by one, since the runtime would choose by chance among those that are ready.
func (w *rewriter) selects(s *ast.SelectStmt) {
	w.own = true
	w.labels++
	label := fmt.Sprintf("weave%d", w.labels)
	var ways []*ast.CommClause
	var otherwise *ast.CommClause
	for _, c := range s.Body.List {
		if c := c.(*ast.CommClause); c.Comm != nil {
			ways = append(ways, c)
		} else {
			otherwise = c
		}
	}
	before, again := "weave.Yield(); ", ""
	if len(ways) > 1 {
		before += fmt.Sprintf("%sW := weave.Choose(%d); ", label, len(ways))
		again = fmt.Sprintf("if %sW.Next() { goto %s }; ", label, label)
	}
	for i, c := range ways {
		if ch := w.channel(c.Comm); ch != nil {
			name := w.text[w.at(ch.Pos()):w.at(ch.End())]
			if _, ok := ch.(*ast.CallExpr); ok {
				before += fmt.Sprintf("%sC%d := %s; ", label, i, name)
				name = fmt.Sprintf("%sC%d", label, i)
			}
			if len(ways) > 1 {
				name = fmt.Sprintf("weave.If(%sW.Is(%d), %s)", label, i, name)
			}
			w.replace(ch.Pos(), ch.End(), name)
		}
		w.insert(c.Colon+1, " weave.Did();")
	}
	if otherwise == nil {
		w.insert(s.Body.Rbrace, "default: "+again+"weave.Wait(); goto "+label+" ")
	} else if again != "" {
		w.insert(otherwise.Colon+1, " "+strings.TrimSuffix(again, " "))
	}
	if otherwise == nil || again != "" {
		before += label + ": "
	}
	w.insert(s.Select, before)
}

// channel notes that a clause's operation is select's, and returns its channel.
func (w *rewriter) channel(comm ast.Stmt) ast.Expr {
	if w.comm == nil {
		w.comm = map[ast.Node]bool{}
	}
	var x ast.Expr
	switch c := comm.(type) {
	case *ast.SendStmt:
		w.comm[c] = true
		return c.Chan
	case *ast.ExprStmt:
		x = c.X
	case *ast.AssignStmt:
		x = c.Rhs[0]
	}
	if u, ok := x.(*ast.UnaryExpr); ok && u.Op == token.ARROW {
		w.comm[u] = true
		return u.X
	}
	return nil
}

// done applies the changes.
func (w *rewriter) done() string {
	slices.SortStableFunc(w.edits, func(a, b splice) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, e := range w.edits {
		b.WriteString(w.text[at:e.from])
		b.WriteString(e.text)
		at = e.to
	}
	b.WriteString(w.text[at:])
	return b.String()
}
