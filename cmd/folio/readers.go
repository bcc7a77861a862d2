package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) readersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "readers STORE",
		Short: "List who reads the store",
		Long: `Lists the states of the store that processes read now, the oldest first: the process, since when
at most, the transaction whose state it is, and the bytes of superseded pages that are kept for it. Of the
process that writes it is the oldest state that its own transactions read, as it was up to a second ago: one that
has begun since the last commit, and so keeps nothing yet, may be missing.`,
		Example: `  folio readers app.db
  folio readers app.db --json | jq .PID`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			db, err := a.openReadOnly(args[0])
			if err != nil {
				return err
			}
			list := db.Readers()
			if err := db.Close(); err != nil {
				return err
			}
			if asJSON {
				for _, r := range list {
					err = errors.Join(err, json.NewEncoder(a.out).Encode(r))
				}
				return err
			}
			w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
			if len(list) > 0 {
				fmt.Fprintln(w, "process\tage\ttransaction\tkeeps")
			}
			for _, r := range list {
				fmt.Fprintf(w, "%d\t%v\t%d\t%d\n", r.PID, time.Since(r.Since).Round(time.Millisecond), r.Tx, r.Retained)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return cmd
}
