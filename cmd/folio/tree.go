package main

import (
	"bufio"
	"errors"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio/btree"
	"github.com/foliodb/folio/page"
)

func (a *app) treeCommand() *cobra.Command {
	var bucket string
	values := false
	cmd := &cobra.Command{
		Use:   "tree STORE",
		Short: "Print the pages of a bucket's tree",
		Long: `Prints the tree of pages that a bucket is, as the last checkpoint left it: commits that
are only in the log are shown by "folio wal".`,
		Example: `  folio tree app.db
  folio tree app.db --bucket users --values`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := parseBucketPath(bucket)
			if err != nil {
				return err
			}
			r, err := openSound(args[0])
			if err != nil {
				return err
			}
			defer r.close()
			return r.pages(func(v *page.View) error {
				t, err := findTree(r.meta.Root, v, path)
				if err != nil {
					return err
				}
				out := bufio.NewWriter(a.out)
				return errors.Join(t.Dump(out, values), out.Flush())
			})
		},
	}
	bucketFlag(cmd, &bucket)
	cmd.Flags().BoolVar(&values, "values", false, "show the values too")
	return cmd
}

// findTree follows a path of bucket names from the root tree.
func findTree(root page.BucketHeader, v *page.View, path [][]byte) (*btree.Tree, error) {
	t := new(btree.Tree)
	t.Init(root, nil, v, nil)
	for i, name := range path {
		value, bucket, found, err := t.Get(name)
		if err != nil {
			return nil, err
		}
		if !found || !bucket {
			return nil, missingf(`no bucket "%s" at the last checkpoint`, formatBucketPath(path[:i+1]))
		}
		header, image := page.DecodeBucket(value)
		t = new(btree.Tree)
		t.Init(header, image, v, nil)
	}
	return t, nil
}
