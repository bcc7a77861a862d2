package btree

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/foliodb/folio/page"
)

// Dump writes the tree as text: a line for each page, indented by depth, with the separator at its left in front of it. values
// tells whether the items' values are shown. What cannot be read is a line that begins with "error:"; the
// error that is returned is w's.
func (t *Tree) Dump(w io.Writer, values bool) error {
	d := &dump{t: t, w: bufio.NewWriter(w), values: values, seen: map[page.ID]bool{}}
	switch {
	case t.root != 0:
		d.page(t.root, int(t.level), math.MaxUint64, 0, "")
	case t.image != nil:
		fmt.Fprintf(d.w, "inline leaf:")
		d.items(t.image)
	default:
		fmt.Fprintln(d.w, "empty")
	}
	return d.w.Flush()
}

// dump is one run of Dump.
type dump struct {
	t      *Tree
	w      *bufio.Writer
	values bool
	seen   map[page.ID]bool // a damaged tree may name a page over and over
}

func (d *dump) page(id page.ID, level int, born page.TxID, depth int, separator string) {
	indent := strings.Repeat("  ", depth) + separator
	if d.seen[id] {
		fmt.Fprintf(d.w, "%serror: page %d, seen above\n", indent, id)
		return
	}
	d.seen[id] = true
	p, err := d.t.load(id, level, born)
	if err != nil {
		fmt.Fprintf(d.w, "%serror: %v\n", indent, err)
		return
	}
	if level == 0 {
		fmt.Fprintf(d.w, "%sleaf %d:", indent, id)
		d.items(p)
		return
	}
	b := page.Branch(p)
	fmt.Fprintf(d.w, "%sbranch %d: %d children, %d items\n", indent, id, b.Count(), b.Total())
	for i := range b.Count() {
		separator := ""
		if i > 0 {
			k, err := d.t.separator(b, i, nil)
			if err != nil {
				fmt.Fprintf(d.w, "%s  error: %v\n", indent, err)
			}
			separator = "<" + abridged(k) + "> "
		}
		d.page(b.Child(i), level-1, page.BornOf(p), depth+1, separator)
	}
}

// fewKeys is how many keys of a leaf are shown. Of more, where values are not, it is the first and the last one.
const fewKeys = 12

// items writes the entries of a leaf behind the line's head.
func (d *dump) items(l page.Leaf) {
	n := l.Count()
	for i := range n {
		if !d.values && n > fewKeys && i > 0 && i < n-1 {
			if i == 1 {
				fmt.Fprintf(d.w, " ... %d more ...", n-2)
			}
			continue
		}
		key, value, bucket, err := d.t.item(l, i, false)
		if err != nil {
			fmt.Fprintf(d.w, " error: %v", err)
			continue
		}
		fmt.Fprintf(d.w, " %s", abridged(key))
		if bucket {
			d.w.WriteString("/")
		} else if d.values {
			fmt.Fprintf(d.w, "=%s", abridged(value))
		}
	}
	fmt.Fprintln(d.w)
}

// abridged escapes bytes, of many only the first and the last ones, and their number.
func abridged(b []byte) string {
	const most, first, last = 32, 12, 8
	if len(b) <= most {
		return page.Escape(b)
	}
	return fmt.Sprintf("%s...%s(%d)", page.Escape(b[:first]), page.Escape(b[len(b)-last:]), len(b))
}
