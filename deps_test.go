package folio

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/foliodb/folio"

// arrows is which packages of the module each of its packages may import. ARCHITECTURE.md draws them. A new package
// has to be added here, and to the drawing.
var arrows = map[string][]string{
	".":            {"btree", "freelist", "wal", "page", "internal/lockfile", "internal/vfs"},
	"btree":        {"page"},
	"freelist":     {"page"},
	"wal":          {"internal/vfs"},
	"page":         {"internal/vfs"},
	"internal/vfs": {},

	"internal/lockfile": {"internal/vfs"},

	// What the root's tests run the library on: it is in no program.
	"internal/weave": {},

	// Tests see the store as its users do, in their _test files too. But where a file is damaged on purpose they have to find
	// their place in a page.
	"fuzz": {".", "page"},

	// The tool uses the store as any program does, and beside that, to show the inside of files that may be damaged, what
	// the layers say about themselves: their dumps. No package of the library imports it.
	"cmd/folio": {".", "btree", "freelist", "wal", "page", "internal/vfs"},
}

// libraryModules is what the library may import beside the standard library. Neither module requires
// another one, so this bounds the whole import graph.
var libraryModules = []string{"golang.org/x/sys", "github.com/cespare/xxhash/v2"}

// outside are the packages that are no part of the library, and may use what a good tool or test needs.
var outside = []string{"cmd/folio", "fuzz"}

// platforms are those that files of the module differ for.
var platforms = []struct{ os, arch string }{
	{"linux", "amd64"}, {"linux", "386"}, {"linux", "arm64"}, {"windows", "amd64"},
	{"darwin", "arm64"}, {"freebsd", "amd64"},
}

// TestImports holds every import of every package, on every platform, to the lists above. It reads the sources itself,
// since the answer of a go command that it started would be cached by go test.
func TestImports(t *testing.T) {
	dirs := packageDirs(t)
	for dir := range arrows {
		if !slices.Contains(dirs, dir) {
			t.Errorf("%s is in the list, but is not there", dir)
		}
	}
	for _, dir := range dirs {
		if _, ok := arrows[dir]; !ok {
			t.Errorf("%s is a package that is not in the list", dir)
			continue
		}
		for _, p := range platforms {
			ctx := build.Default
			ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = p.os, p.arch, true // with cgo, or a use of it would be passed over
			pkg, err := ctx.ImportDir(filepath.FromSlash(dir), 0)
			if err != nil {
				t.Errorf("%s on %s: %v", dir, p.os, err)
				continue
			}
			imports := pkg.Imports
			if dir == "fuzz" {
				imports = slices.Concat(imports, pkg.TestImports, pkg.XTestImports)
			}
			for _, path := range imports {
				if reason := forbidden(dir, path); reason != "" {
					t.Errorf("%s on %s/%s imports %s: %s", dir, p.os, p.arch, path, reason)
				}
			}
		}
	}
}

// forbidden says why a package may not import a path; empty: it may.
func forbidden(dir, path string) string {
	if path == modulePath || strings.HasPrefix(path, modulePath+"/") {
		to := strings.TrimPrefix(strings.TrimPrefix(path, modulePath), "/")
		if to == "" {
			to = "."
		}
		if !slices.Contains(arrows[dir], to) {
			return "against the direction of imports"
		}
		return ""
	}
	first, _, _ := strings.Cut(path, "/")
	switch {
	case path == "C":
		return "the module is pure Go"
	case !strings.Contains(first, "."): // the standard library
		return ""
	case slices.Contains(outside, dir):
		return ""
	}
	for _, m := range libraryModules {
		if path == m || strings.HasPrefix(path, m+"/") {
			return ""
		}
	}
	return "the library uses the standard library, x/sys and xxhash only"
}

// packageDirs returns the folders of the module that hold Go files, nested modules left out.
func packageDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			name := d.Name()
			if path != "." && (name == "testdata" || name[0] == '.' || name[0] == '_' || hasFile(path, "go.mod")) {
				return fs.SkipDir
			}
			return nil
		case strings.HasSuffix(path, ".go"):
			if dir := filepath.ToSlash(filepath.Dir(path)); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func hasFile(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}
