package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// The escaped form is page.Escape's: printable ASCII as it is, a backslash as \\,
// every other byte as \xNN. Two more characters get their \xNN where they
// would mean something else: a slash in a bucket's name, and a slash at the end of a
// key in a list, where it marks a bucket.
const escapedSlash = `\x2f`

func unescape(s string) ([]byte, error) {
	b, err := page.Unescape(s)
	if err != nil {
		return nil, usagef(`"%s" is not in the escaped form: a backslash begins \\ or \xNN`, s)
	}
	return b, nil
}

// parseKey reads a key of the command line.
func parseKey(s string) ([]byte, error) {
	key, err := unescape(s)
	if err == nil && len(key) == 0 {
		err = usagef("the key is empty")
	}
	return key, err
}

// parseBucketPath reads a/b/c; the empty path is the root.
func parseBucketPath(s string) (path [][]byte, err error) {
	s = strings.Trim(s, "/")
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, "/") {
		name, err := unescape(part)
		if err != nil {
			return nil, err
		}
		if len(name) == 0 {
			return nil, usagef(`bucket path "%s" has an empty name`, s)
		}
		if len(name) > folio.MaxKeySize {
			return nil, usagef("the name of a bucket has %d bytes, at most %d can be stored", len(name), folio.MaxKeySize)
		}
		path = append(path, name)
	}
	return path, nil
}

func formatBucketPath(path [][]byte) string {
	names := make([]string, len(path))
	for i, name := range path {
		names[i] = formatName(name)
	}
	return strings.Join(names, "/")
}

// formatName gives a bucket's name as a part of a path.
func formatName(name []byte) string { return strings.ReplaceAll(page.Escape(name), "/", escapedSlash) }

// formatListed gives a key as the lists show it: a slash at the end is a bucket's.
func formatListed(key []byte, bucket bool) string {
	s := page.Escape(key)
	if strings.HasSuffix(s, "/") {
		s = s[:len(s)-1] + escapedSlash
	}
	if bucket {
		s += "/"
	}
	return s
}

// A valueForm is how values are written and read.
type valueForm struct{ hex, raw bool }

func (f *valueForm) flags(cmd *cobra.Command, raw string) {
	cmd.Flags().BoolVar(&f.hex, "hex", false, "values in hexadecimal")
	if raw != "" {
		cmd.Flags().BoolVar(&f.raw, "raw", false, raw)
		cmd.MarkFlagsMutuallyExclusive("hex", "raw")
	}
}

// format gives a value as one line, or as it is.
func (f valueForm) format(v []byte) string {
	switch {
	case f.raw:
		return string(v)
	case f.hex:
		return hex.EncodeToString(v)
	}
	return page.Escape(v)
}

func (f valueForm) parse(s string) ([]byte, error) {
	switch {
	case f.raw:
		return []byte(s), nil
	case f.hex:
		v, err := hex.DecodeString(s)
		if err != nil {
			return nil, usagef("%q is not hexadecimal", s)
		}
		return v, nil
	}
	return unescape(s)
}

// plural gives a count with its noun: 1 item, 2 items.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// formatBytes gives a size in the unit that suits it: 512 B, 3.2 MB.
func formatBytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n)/1000, 0
	for x >= 999.95 && unit < 4 {
		x, unit = x/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", x, "kMGTP"[unit])
}
