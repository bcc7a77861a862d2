package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/wal"
)

func (a *app) walCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wal STORE",
		Short: "Print the log beside the store",
		Long: `Prints the log (STORE-wal) from the last checkpoint on: its records with their operations,
where it ends and why. Damage is shown as a part of it. A store that was closed has none.`,
		Example: `  folio wal app.db`,
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openSound(args[0])
			if err != nil {
				return err
			}
			defer r.close()
			log, err := vfs.OS.Open(args[0]+"-wal", os.O_RDONLY, 0)
			if errors.Is(err, fs.ErrNotExist) {
				return a.noLog(r)
			}
			if err != nil {
				return err
			}
			defer log.Close()
			return wal.Dump(a.out, log, r.meta.StoreID, r.logStart())
		},
	}
}

// noLog says what it means that there is no log.
func (a *app) noLog(r *rawFiles) error {
	if r.meta.Clean {
		return note(a.out, "no log: the store was closed")
	}
	return damagedError{errors.New(r.path + "-wal is missing: the store was not closed, and its last commits are there; put it back")}
}
