package page

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
)

// dumped is the number of bytes of a key or value that Dump shows.
const dumped = 48

// Dump writes p, a node page or a meta slot, as text: its header, then a line for each entry with keys and values
// escaped and cut to 48 bytes. Of a page that Validate does not pass it writes what is wrong, and the bytes instead of
// the entries. It takes any bytes. The error is that of w.
func Dump(w io.Writer, p []byte) error {
	d := dumper{w: bufio.NewWriter(w)}
	switch {
	case IsMeta(p):
		d.meta(p)
	case len(p) < HeaderSize:
		d.printf("%d bytes are not a page\n", len(p))
		d.hex(p)
	default:
		d.node(p)
	}
	return d.w.Flush()
}

type dumper struct {
	w *bufio.Writer // keeps the first error
}

func (d *dumper) printf(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

// node writes a node page.
func (d *dumper) node(p []byte) {
	d.header(p)
	if err := Validate(p, IDOf(p)); err != nil {
		d.printf("error: %v\n", err)
		d.hex(p)
		return
	}
	if KindOf(p) == KindBranch {
		d.branch(p)
	} else {
		d.leaf(p, "")
	}
}

func (d *dumper) header(p []byte) {
	kind := fmt.Sprintf("kind %d", KindOf(p))
	size := 0
	switch KindOf(p) {
	case KindLeaf:
		kind, size = "leaf", leafSize
	case KindBranch:
		kind, size = fmt.Sprintf("branch of level %d", LevelOf(p)), branchSize
	}
	d.printf("page %d: %s, born %d, %d entries, prefix %d, heap %d with %d garbage, %d free", IDOf(p), kind, BornOf(p),
		CountOf(p), prefixOf(p), heapOf(p), garbageOf(p), len(p)-HeaderSize-heapOf(p)-size*CountOf(p))
	if FlagsOf(p)&FlagLong != 0 {
		d.printf(", long")
	}
	if FlagsOf(p)&FlagRefs != 0 {
		d.printf(", refs")
	}
	if t := Trend(p); t != 0 {
		d.printf(", trend %+d", t)
	}
	d.printf("\n")
}

// leaf writes the entries of a leaf or an image that has been validated.
func (d *dumper) leaf(l Leaf, indent string) {
	for i := range l.Count() {
		key, value, bucket, form := l.Item(i)
		d.printf("%s%4d @%-5d %08x %s", indent, i, l.slot(i).off(), l.head(i), shown(key, l.KeyLen(i)))
		if form != Inline {
			d.printf(" = %s of %d in %s", form, l.RunLen(i), l.Ref(i))
		}
		switch {
		case bucket && form == Inline:
			d.bucket(value, indent)
		case bucket:
			d.printf(", bucket\n")
		case form == Inline:
			d.printf(" = %s\n", shown(value, len(value)))
		default:
			d.printf("\n")
		}
	}
}

// bucket ends the line of an entry with its bucket, and writes its image behind it.
func (d *dumper) bucket(value []byte, indent string) {
	h, image := DecodeBucket(value)
	d.printf(" = bucket of %d, sequence %d", h.Items, h.Sequence)
	if h.Root != 0 {
		d.printf(", root %d at level %d", h.Root, h.Level)
	}
	d.printf("\n")
	if image != nil {
		d.leaf(image, indent+"    ")
	}
}

// branch writes the entries of a branch that has been validated.
func (d *dumper) branch(b Branch) {
	for i := range b.Count() {
		d.printf("%4d @%-5d %08x -> page %d, %d items", i, b.off(i), b.head(i), b.Child(i), b.Items(i))
		if b.Refs(i) {
			d.printf(", refs")
		}
		if i > 0 {
			d.printf(", from %s", shown(b.Separator(i, nil), b.SepLen(i)))
		}
		if b.IsLong(i) {
			d.printf(" in %s", b.SepRef(i))
		}
		d.printf("\n")
	}
}

// meta writes a meta slot.
func (d *dumper) meta(p []byte) {
	slot := 0
	if len(p) >= MetaSize {
		slot = int(le.Uint32(p[metaSlot:]) & 1)
	}
	m, err := DecodeMeta(p, slot)
	if err != nil {
		d.printf("meta slot\nerror: %v\n", err)
		d.hex(p[:min(len(p), MetaSize)])
		return
	}
	state := "log required"
	if m.Clean {
		state = "clean"
	}
	d.printf("meta slot %d: version %d, page size %d, store %x\n", slot, FormatVersion, m.PageSize, m.StoreID)
	d.printf("checkpoint %d, transaction %d, %d pages, %s\n", m.Checkpoint, m.Tx, m.Pages, state)
	d.printf("root page %d at level %d, %d items, sequence %d\n", m.Root.Root, m.Root.Level, m.Root.Items, m.Root.Sequence)
	if m.FreeLen > 0 {
		d.printf("free set of %d bytes in %s\n", m.FreeLen, m.Free)
	}
	d.printf("log lsn %d, offset %d, epoch %016x, chain %016x\n", m.LogLSN, m.LogOffset, m.LogEpoch, m.LogChain)
}

// hex writes bytes, rows of nothing but zeros left out.
func (d *dumper) hex(p []byte) {
	const row = 16
	skipped := 0
	for off := 0; off < len(p); off += row {
		b := p[off:min(off+row, len(p))]
		if zero(b) {
			skipped += len(b)
			continue
		}
		if skipped > 0 {
			d.printf("       (%d zeros)\n", skipped)
			skipped = 0
		}
		d.printf("%5d  %s\n", off, hex.EncodeToString(b))
	}
	if skipped > 0 {
		d.printf("       (%d zeros)\n", skipped)
	}
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// shown returns the beginning of b escaped, and how long the whole is where that is not all.
func shown(b []byte, whole int) string {
	b = b[:min(len(b), dumped)]
	if len(b) < whole {
		return fmt.Sprintf("%s... (%d bytes)", Escape(b), whole)
	}
	return Escape(b)
}
