package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

func (a *app) getCommand() *cobra.Command {
	var bucket string
	var form valueForm
	cmd := &cobra.Command{
		Use:   "get STORE KEY",
		Short: "Print the value of a key",
		Long: `Prints the value of a key in the escaped form and a newline, or with --raw its bytes
and nothing else. The exit code is 1 if the key is not there.`,
		Example: `  folio get app.db greeting
  folio get src.db fmt/print.go --raw | diff - "$(go env GOROOT)/src/fmt/print.go"
  folio get app.db '\x00\x01' --bucket users/index --hex`,
		Args: arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := parseKey(args[1])
			if err != nil {
				return err
			}
			return a.view(args[0], bucket, func(b *folio.Bucket) error { return a.get(b, key, form) })
		},
	}
	bucketFlag(cmd, &bucket)
	form.flags(cmd, "the value's bytes as they are, without a newline")
	return cmd
}

func (a *app) get(b *folio.Bucket, key []byte, form valueForm) error {
	v := b.Get(key)
	switch {
	case v == nil && b.Bucket(key) != nil:
		return missingf(`"%s" is a bucket and has no value; "folio scan --bucket" lists it`, page.Escape(key))
	case v == nil:
		return missingf(`no key "%s"`, page.Escape(key))
	}
	text := form.format(v)
	if !form.raw {
		text += "\n"
	}
	if _, err := io.WriteString(a.out, text); err != nil {
		return fmt.Errorf("write the value: %w", err)
	}
	return nil
}
