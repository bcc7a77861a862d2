package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// A scan is what "folio scan" prints of a bucket, and how.
type scan struct {
	span    span
	form    valueForm
	reverse bool
	keys    bool
	json    bool
	limit   int
}

func (a *app) scanCommand() *cobra.Command {
	var bucket string
	var s scan
	cmd := &cobra.Command{
		Use:   "scan STORE",
		Short: "Print keys and values in order",
		Long: `Prints a line for each item of a bucket: key, tab, value, both in the escaped form, as
"folio load" reads it. A nested bucket is its name and a slash, without a tab; a key that
ends in a slash has it as \x2f. With --json each line is an object:
{"key":"...","value":"..."} or {"key":"...","bucket":true}.`,
		Example: `  folio scan app.db --limit 10
  folio scan src.db --prefix fmt/ --keys
  folio scan app.db --bucket events --from 2024-05 --to 2024-06 --reverse
  folio scan app.db --bucket users --json | jq .key`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			from, to, err := s.span.bounds()
			if err != nil {
				return err
			}
			if s.limit < 0 {
				return usagef("--limit %d is negative", s.limit)
			}
			return a.view(args[0], bucket, func(b *folio.Bucket) error {
				return s.print(a.out, b, from, to)
			})
		},
	}
	bucketFlag(cmd, &bucket)
	s.span.flags(cmd)
	s.form.flags(cmd, "")
	cmd.Flags().BoolVarP(&s.reverse, "reverse", "r", false, "from the last key to the first")
	cmd.Flags().BoolVarP(&s.keys, "keys", "k", false, "keys only")
	cmd.Flags().IntVarP(&s.limit, "limit", "n", 0, "at most so many items; 0: all")
	cmd.Flags().BoolVar(&s.json, "json", false, "a JSON object a line")
	return cmd
}

func (s *scan) print(w io.Writer, b *folio.Bucket, from, to []byte) error {
	out := bufio.NewWriter(w)
	n := 0
	for k, v := range items(b, from, to, s.reverse) {
		line, err := s.line(k, v)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
		if n++; n == s.limit {
			break
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// A scanned is an item as JSON. Keys and values are in the escaped form, since JSON
// strings cannot hold all bytes.
type scanned struct {
	Key    string  `json:"key"`
	Value  *string `json:"value,omitempty"`
	Bucket bool    `json:"bucket,omitempty"`
}

// line gives an item as a line; a nil value is a nested bucket.
func (s *scan) line(k, v []byte) (string, error) {
	switch {
	case s.json:
		it := scanned{Key: page.Escape(k), Bucket: v == nil}
		if v != nil && !s.keys {
			text := s.form.format(v)
			it.Value = &text
		}
		line, err := json.Marshal(it)
		return string(line), err
	case s.keys || v == nil:
		return formatListed(k, v == nil), nil
	}
	return formatListed(k, false) + "\t" + s.form.format(v), nil
}
