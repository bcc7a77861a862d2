package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
)

// A bucketTree prints buckets with their counts.
type bucketTree struct {
	out   *bufio.Writer
	json  bool
	depth int // levels below the first that are shown
}

func (a *app) bucketsCommand() *cobra.Command {
	var bucket string
	var t bucketTree
	cmd := &cobra.Command{
		Use:   "buckets STORE",
		Short: "Print the tree of buckets with their counts",
		Long: `Prints the bucket and all below it, each with its number of items (a nested bucket is one
item) and its sequence. With --json each line is an object:
{"bucket":"a/b","items":2,"sequence":0}.`,
		Example: `  folio buckets app.db
  folio buckets app.db --bucket users --depth 1 --json`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if t.depth < 0 {
				return usagef("--depth %d is negative", t.depth)
			}
			path, err := parseBucketPath(bucket)
			if err != nil {
				return err
			}
			return a.view(args[0], bucket, func(b *folio.Bucket) error { return t.printAll(a.out, b, path) })
		},
	}
	bucketFlag(cmd, &bucket)
	cmd.Flags().BoolVar(&t.json, "json", false, "a JSON object a line")
	cmd.Flags().IntVar(&t.depth, "depth", 100, "show so many levels of nesting") // a damaged store can nest without end
	return cmd
}

func (t *bucketTree) printAll(w io.Writer, b *folio.Bucket, path [][]byte) error {
	t.out = bufio.NewWriter(w)
	if err := t.print(b, path, 0); err != nil {
		return err
	}
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("write the tree: %w", err)
	}
	return nil
}

func (t *bucketTree) print(b *folio.Bucket, path [][]byte, level int) error {
	if err := t.line(b, path, level); err != nil {
		return err
	}
	if level == t.depth {
		return nil
	}
	return b.ForEachBucket(func(name []byte) error {
		return t.print(b.Bucket(name), append(path[:len(path):len(path)], name), level+1)
	})
}

func (t *bucketTree) line(b *folio.Bucket, path [][]byte, level int) (err error) {
	if t.json {
		line, err := json.Marshal(struct {
			Bucket   string `json:"bucket"`
			Items    int    `json:"items"`
			Sequence uint64 `json:"sequence"`
		}{formatBucketPath(path), b.Len(), b.Sequence()})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.out, "%s\n", line)
		return err
	}
	name := "/"
	if len(path) > 0 {
		name = formatName(path[len(path)-1])
	}
	_, err = fmt.Fprintf(t.out, "%s%s: %s", strings.Repeat("  ", level), name, plural(b.Len(), "item"))
	if n := b.Sequence(); n > 0 {
		_, err = fmt.Fprintf(t.out, ", sequence %d", n)
	}
	fmt.Fprintln(t.out)
	return err
}
