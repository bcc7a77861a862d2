package folio

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPapersNameFiles holds the papers to what is there: source files that they name exist.
func TestPapersNameFiles(t *testing.T) {
	file := regexp.MustCompile("`([a-z_]+(?:/[a-z_]+)*(?:\\.go|/))`")
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "FORMAT.md"} {
		for _, found := range file.FindAllStringSubmatch(readPaper(t, name).text, -1) {
			if _, err := os.Stat(found[1]); err != nil {
				t.Errorf("%s names a file that is not there: %v", name, err)
			}
		}
	}
}

// TestCases holds RELIABILITY.md to the tests: what its table of schedules names is there, and each case is named by a comment in
// the tests or their data.
func TestCases(t *testing.T) {
	tests := map[string]bool{}
	var all strings.Builder
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "testdata/") || strings.Contains(path, "testdata/crash/") {
			return err
		}
		b := readFile(t, path)
		all.Write(b)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			tests[string(found[1])] = true
		}
		return nil
	}))
	mentioned := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?i)cases? ((?:[A-F]\d+(?:, | and )?)+) of\s+(?:// )?RELIABILITY`).FindAllStringSubmatch(all.String(), -1) {
		for _, id := range regexp.MustCompile(`[A-F]\d+`).FindAllString(found[1], -1) {
			mentioned[id] = true
		}
	}
	rows := regexp.MustCompile(`(?m)^\| ([A-F]\d+) \|.*\| ([^|]*) \|$`).FindAllStringSubmatch(readPaper(t, "RELIABILITY.md").text, -1)
	if len(rows) < 45 {
		t.Errorf("%d cases", len(rows))
	}
	for _, row := range rows {
		if id := row[1]; !mentioned[id] && id != "F13" { // that one is a whole run of the tests
			t.Errorf("case %s: no comment of a test names it", id)
		}
		for _, name := range regexp.MustCompile(`Test[A-Z]\w*`).FindAllString(row[2], -1) {
			if !tests[name] {
				t.Errorf("case %s: there is no %s", row[1], name)
			}
		}
		if _, list, ok := strings.Cut(row[2], "planted "); ok {
			list, _, _ = strings.Cut(list, ";")
			for _, name := range regexp.MustCompile(`[a-z]+(-[a-z]+)+`).FindAllString(list, -1) {
				if !strings.Contains(all.String(), "name="+name+" ") {
					t.Errorf("case %s: there is no planted fault %s", row[1], name)
				}
			}
		}
	}
	for id := range mentioned {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[1] == id }) {
			t.Errorf("a test names case %s, which RELIABILITY.md has not", id)
		}
	}
}

// TestLockOrder holds ARCHITECTURE.md to the comment on DB.
func TestLockOrder(t *testing.T) {
	source, err := os.ReadFile("db.go")
	if err != nil {
		t.Fatal(err)
	}
	_, order, ok := strings.Cut(strings.ReplaceAll(string(source), "\n//", ""), "Locks, in order: ")
	order, _, end := strings.Cut(order, ". ")
	if !ok || !end {
		t.Fatal("db.go does not tell the order of the locks")
	}
	if !strings.Contains(readPaper(t, "ARCHITECTURE.md").text, "\n"+order+"\n") {
		t.Errorf("ARCHITECTURE.md has not the order of the locks: %s", order)
	}
}

// TestReadme holds README.md to the code: its quick start is two commands, its example is one that is compiled, and
// its exit codes are the tool's.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(begin, end string) string {
		t.Helper()
		_, rest, ok := strings.Cut(string(readme), begin)
		text, _, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("README.md has no block %q", begin)
		}
		return text
	}
	_, quick, _ := strings.Cut(string(readme), "## Quick start")
	_, quick, _ = strings.Cut(quick, "```sh\n")
	quick, _, _ = strings.Cut(quick, "```")
	if n := strings.Count(quick, "\n"); n != 2 {
		t.Errorf("the quick start has %d commands, should have 2:\n%s", n, quick)
	}
	for file, text := range map[string]string{
		"example_test.go":   indented(block("```go\n", "```")),
		"cmd/folio/exit.go": block("Exit codes:\n\n```text\n", "\n```"),
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(source), text) {
			t.Errorf("%s does not contain this text of README.md:\n%s", file, text)
		}
	}
}

// indented puts a tab before each line that is not empty.
func indented(text string) string {
	var s strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			s.WriteByte('\t')
		}
		s.WriteString(line)
	}
	return s.String()
}

// paper is what a test needs of a markdown file: the tables and the hex blocks under each heading.
type paper struct {
	text     string
	tables   map[string][][]string // first table under a heading: rows of cells, without its head
	examples map[string][]hexLine  // of blocks that begin with ```hex NAME
}

// hexLine is a line of an example: "offset  bytes  ; comment".
type hexLine struct {
	at    int
	bytes []byte
}

func readPaper(t *testing.T, name string) *paper {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &paper{text: string(b), tables: map[string][][]string{}, examples: map[string][]hexLine{}}
	heading, fence := "", ""
	done := false // the heading has its table
	for line := range strings.Lines(p.text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			if fence != "" {
				fence = ""
			} else {
				fence = line[3:] + " " // never empty inside a block
			}
		case fence != "":
			if name, ok := strings.CutPrefix(fence, "hex "); ok {
				name = strings.TrimSpace(name)
				p.examples[name] = append(p.examples[name], parseHexLine(t, line))
			}
		case strings.HasPrefix(line, "#"):
			heading, done = strings.TrimSpace(strings.TrimLeft(line, "#")), false
			if p.tables[heading] != nil {
				t.Fatalf("%s has two tables under a heading %q", name, heading)
			}
		case strings.HasPrefix(line, "|") && !done:
			p.tables[heading] = append(p.tables[heading], cells(line))
		case len(p.tables[heading]) > 0:
			done = true
		}
	}
	for h, rows := range p.tables {
		p.tables[h] = rows[2:] // without the names of the columns and the line below them
	}
	return p
}

func cells(line string) []string {
	c := strings.Split(strings.Trim(line, "|"), "|")
	for i := range c {
		c[i] = strings.TrimSpace(strings.ReplaceAll(c[i], "`", ""))
	}
	return c
}

func parseHexLine(t *testing.T, line string) hexLine {
	t.Helper()
	data, _, _ := strings.Cut(line, ";")
	words := strings.Fields(data)
	if len(words) == 0 {
		t.Fatalf("example line %q has no offset", line)
	}
	at, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatalf("example line %q: %v", line, err)
	}
	b, err := hex.DecodeString(strings.Join(words[1:], ""))
	if err != nil {
		t.Fatalf("example line %q: %v", line, err)
	}
	return hexLine{at, b}
}

// table returns the rows under a heading.
func (p *paper) table(t *testing.T, heading string) [][]string {
	t.Helper()
	rows := p.tables[heading]
	if len(rows) == 0 {
		t.Fatalf("no table under a heading %q", heading)
	}
	return rows
}

// vars are the one-letter names that expressions in tables use: s is the page size, n a count.
type vars map[string]int

var letter = regexp.MustCompile(`\b[a-z]\b`)

// eval evaluates an expression of a table, which is one of Go.
func eval(t *testing.T, expr string, v vars) constant.Value {
	t.Helper()
	text := letter.ReplaceAllStringFunc(expr, func(name string) string {
		n, ok := v[name]
		if !ok {
			t.Fatalf("expression %q: %s is not known here", expr, name)
		}
		return strconv.Itoa(n)
	})
	r, err := types.Eval(token.NewFileSet(), nil, token.NoPos, text)
	if err != nil || r.Value == nil {
		t.Fatalf("expression %q: %v", expr, err)
	}
	return r.Value
}

func evalInt(t *testing.T, expr string, v vars) int64 {
	t.Helper()
	n, ok := constant.Int64Val(eval(t, expr, v))
	if !ok {
		t.Fatalf("expression %q is no integer", expr)
	}
	return n
}

// fields are the values of a layout's fields by name: uint64, or []byte. Fields named "zeros" need none.
type fields map[string]any

// holds checks a table of offset, size and field against bytes that the code has written: each
// field has its value where the table says, and the rows cover all bytes once, in order.
func (p *paper) holds(t *testing.T, heading string, got []byte, v vars, want fields) {
	t.Helper()
	at := int64(0)
	left := maps.Clone(want)
	for _, row := range p.table(t, heading) {
		off, size, name := evalInt(t, row[0], v), evalInt(t, row[1], v), row[2]
		if off != at || size < 0 || off+size > int64(len(got)) {
			t.Errorf("%s: %s lies at %d and has %d bytes; before it are %d, in all %d", heading, name, off, size, at, len(got))
			return
		}
		at += size
		value, ok := want[name]
		if name == "zeros" {
			value, ok = make([]byte, size), true
		}
		if !ok {
			t.Errorf("%s: the code has no field %q", heading, name)
			continue
		}
		delete(left, name)
		if wanted := encoded(value, size); !bytes.Equal(got[off:off+size], wanted) {
			t.Errorf("%s: %s at %d is % x, should be % x", heading, name, off, got[off:off+size], wanted)
		}
	}
	if at != int64(len(got)) {
		t.Errorf("%s: the table ends at %d, the bytes at %d", heading, at, len(got))
	}
	for name := range left {
		t.Errorf("%s: the table has no field %q", heading, name)
	}
}

// encoded is a field's value in size bytes, little-endian.
func encoded(value any, size int64) []byte {
	if b, ok := value.([]byte); ok {
		return b
	}
	return binary.LittleEndian.AppendUint64(nil, value.(uint64))[:min(size, 8)]
}

// shows checks an example against bytes that the code has written; what it leaves out is zero.
func (p *paper) shows(t *testing.T, name string, got []byte) {
	t.Helper()
	shown := make([]byte, len(got))
	end := 0
	for _, line := range p.examples[name] {
		if line.at < end || line.at+len(line.bytes) > len(got) {
			t.Fatalf("example %s: line at %d is out of place", name, line.at)
		}
		end = line.at + copy(shown[line.at:], line.bytes)
	}
	if end == 0 || !bytes.Equal(shown, got) {
		t.Errorf("example %s is not what the code writes:\n%s", name, hexDump(got))
	}
}

// hexDump gives bytes in the form of the examples, without rows of zeros.
func hexDump(b []byte) string {
	var s strings.Builder
	for off := 0; off < len(b); off += 16 {
		row := b[off:min(off+16, len(b))]
		if len(bytes.Trim(row, "\x00")) > 0 {
			fmt.Fprintf(&s, "%6d  % x\n", off, row)
		}
	}
	return s.String()
}
