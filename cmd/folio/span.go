package main

import (
	"bytes"
	"iter"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

// A span is the part of a bucket that flags choose: keys with a prefix, from one
// bound up to another, which is not included. Without flags it is all.
type span struct {
	cmd              *cobra.Command
	prefix, from, to string
}

func (s *span) flags(cmd *cobra.Command) {
	s.cmd = cmd
	cmd.Flags().StringVarP(&s.prefix, "prefix", "p", "", "keys that begin with this")
	cmd.Flags().StringVar(&s.from, "from", "", "keys from this one on")
	cmd.Flags().StringVar(&s.to, "to", "", "keys below this one")
}

// given reports whether any of the flags was.
func (s *span) given() bool {
	f := s.cmd.Flags()
	return f.Changed("prefix") || f.Changed("from") || f.Changed("to")
}

// bounds returns the span as half-open bounds; nil is no bound.
func (s *span) bounds() (from, to []byte, err error) {
	if from, err = s.bound("from", s.from); err != nil {
		return nil, nil, err
	}
	if to, err = s.bound("to", s.to); err != nil {
		return nil, nil, err
	}
	if from != nil && to != nil && bytes.Compare(from, to) > 0 {
		return nil, nil, usagef(`--from "%s" lies above --to "%s": exchange them`, page.Escape(from), page.Escape(to))
	}
	prefix, err := s.bound("prefix", s.prefix)
	if err != nil || prefix == nil {
		return from, to, err
	}
	if bytes.Compare(prefix, from) > 0 {
		from = prefix
	}
	if end := successor(prefix); end != nil && (to == nil || bytes.Compare(end, to) < 0) {
		to = end
	}
	return from, to, nil
}

func (s *span) bound(flag, text string) ([]byte, error) {
	if !s.cmd.Flags().Changed(flag) {
		return nil, nil
	}
	if text == "" {
		return nil, usagef("--%s is empty: leave it out, or give a key", flag)
	}
	return unescape(text)
}

// successor returns the first key above all that begin with the prefix, nil if there
// is none.
func successor(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for len(end) > 0 {
		last := len(end) - 1
		if end[last]++; end[last] != 0 {
			return end
		}
		end = end[:last]
	}
	return nil
}

// items yields the items of a bucket between two bounds, in either order.
func items(b *folio.Bucket, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	if !reverse {
		return b.Range(from, to)
	}
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := lastBelow(c, to); k != nil && bytes.Compare(k, from) >= 0; k, v = c.Prev() {
			if !yield(k, v) {
				return
			}
		}
	}
}

// lastBelow moves a cursor to the last item below the bound.
func lastBelow(c *folio.Cursor, to []byte) (k, v []byte) {
	if to != nil {
		if k, _ = c.Seek(to); k != nil {
			return c.Prev()
		}
	}
	return c.Last()
}
