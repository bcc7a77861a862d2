package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

func (a *app) delCommand() *cobra.Command {
	var bucket string
	var recursive bool
	var s span
	cmd := &cobra.Command{
		Use:   "del STORE [KEY...]",
		Short: "Delete keys, a range of keys, or buckets",
		Long: `Deletes the keys given, or all that --prefix, --from and --to choose. It is one
transaction: if a key is not there, none is deleted and the exit code is 1. A nested bucket
goes with all that it holds, but only with --recursive.`,
		Example: `  folio del app.db greeting
  folio del app.db --bucket sessions --to 2024-01
  folio del app.db --recursive sessions`,
		Args: arguments(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			if (len(args) > 1) == s.given() {
				return usagef("give either keys or a range by --prefix, --from and --to")
			}
			n := 0
			err := a.delete(args, bucket, &s, recursive, &n)
			if err == nil {
				_, err = fmt.Fprintln(a.out, "deleted", plural(n, "item"))
			}
			return err
		},
	}
	bucketFlag(cmd, &bucket)
	s.flags(cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "buckets too, with all that they hold")
	return cmd
}

// delete deletes keys or, without any, the span, and counts the items in n.
func (a *app) delete(args []string, bucket string, s *span, recursive bool, n *int) error {
	from, to, err := s.bounds()
	if err != nil {
		return err
	}
	var keys [][]byte
	for _, arg := range args[1:] {
		key, err := parseKey(arg)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	return a.update(args[0], bucket, func(b *folio.Bucket) (err error) {
		if keys == nil {
			*n, err = deleteSpan(b, from, to, recursive)
			return err
		}
		for _, key := range keys {
			if err := deleteKey(b, key, recursive); err != nil {
				return err
			}
			*n++
		}
		return nil
	})
}

func deleteKey(b *folio.Bucket, key []byte, recursive bool) error {
	isBucket := b.Get(key) == nil && b.Bucket(key) != nil
	switch {
	case isBucket && !recursive:
		return bucketInTheWay(key)
	case isBucket:
		return b.DeleteBucket(key)
	case b.Get(key) == nil:
		return missingf(`no key "%s"; nothing was deleted`, page.Escape(key))
	}
	return b.Delete(key)
}

func deleteSpan(b *folio.Bucket, from, to []byte, recursive bool) (int, error) {
	if !recursive {
		for k, v := range b.Range(from, to) {
			if v == nil {
				return 0, bucketInTheWay(k)
			}
		}
	}
	return b.DeleteRange(from, to)
}

func bucketInTheWay(name []byte) error {
	return usagef(`"%s" is a bucket; --recursive deletes it with all that it holds; nothing was deleted`, page.Escape(name))
}
