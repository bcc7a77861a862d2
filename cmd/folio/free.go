package main

import (
	"github.com/spf13/cobra"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/page"
)

func (a *app) freeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "free STORE",
		Short: "Print the free pages of the data file",
		Long: `Prints the set of free pages that the last checkpoint stored, as ranges of page numbers.
The pages that it is stored in are not part of it.`,
		Example: `  folio free app.db`,
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSound(args[0])
			if err != nil {
				return err
			}
			defer r.close()
			if r.meta.FreeLen == 0 {
				return note(a.out, "no free pages")
			}
			return r.pages(func(v *page.View) error {
				set, err := v.Run(r.meta.Free, int(r.meta.FreeLen))
				if err != nil {
					return err
				}
				return freelist.DumpSet(a.out, set, r.meta.Pages)
			})
		},
	}
}
