package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

func (a *app) pageCommand() *cobra.Command {
	pageSize := 0
	cmd := &cobra.Command{
		Use:   "page STORE ID",
		Short: "Print a page of the data file",
		Long: `Prints a page as the format sees it: its header, its entries, and what is wrong with it.
Pages 0 and 1 are the meta slots. A page of a run (a long key or value, the free set) has no
header, and is shown as damaged.`,
		Example: `  folio page app.db 0
  folio page app.db 0x2f
  folio page damaged.db 7 --page-size 8192`,
		Args: arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[1], 0, 32)
			if err != nil {
				return usagef("%q is not the number of a page", args[1])
			}
			if pageSize != 0 && !page.ValidSize(pageSize) {
				return usagef("--page-size %d is not a power of two from %d to %d", pageSize, page.MinPageSize, page.MaxPageSize)
			}
			return a.printPage(args[0], int64(id), pageSize)
		},
	}
	cmd.Flags().IntVar(&pageSize, "page-size", 0, "if both meta slots are damaged, which tell it")
	return cmd
}

func (a *app) printPage(store string, id int64, pageSize int) error {
	r, err := openFiles(store)
	if err != nil {
		return err
	}
	defer r.close()
	if pageSize == 0 {
		if errors.Is(r.bad, folio.ErrCorrupt) {
			return fmt.Errorf("%w; give --page-size to look at pages all the same", r.bad)
		}
		if r.bad != nil {
			return r.bad
		}
		pageSize = r.meta.PageSize
	}
	if n := r.size / int64(pageSize); id >= n {
		return missingf("no page %d: the file has %s, from 0", id, plural(int(n), "page"))
	}
	p := make([]byte, pageSize)
	if _, err := r.data.ReadAt(p, id*int64(pageSize)); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := page.Dump(&text, p); err != nil {
		return err
	}
	_, err = a.out.Write(text.Bytes())
	return err
}
