package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check STORE",
		Short: "Look for damage in the whole store",
		Long: `Reads every page that the store uses and checks all that must hold: checksums, order and
counts; and, while no other process writes the store, that each page is used once or free, and
the log. Each finding is a line on standard output; the exit code is 4 if there is any. If the log
is damaged, or cannot be applied, that is a finding, and the last checkpoint is checked: the store
without its log. A meta slot that is damaged while the other one is sound, as a power cut can leave
it, costs nothing: that is a line that begins with "note:".`,
		Example: `  folio check app.db`,
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := mustExist(args[0]); err != nil {
				return err
			}
			pages, found := folio.CheckFile(args[0], &folio.Options{LockTimeout: a.wait})
			var slots []error
			if pages > 0 { // else nothing could be opened
				var err error
				if slots, err = damagedSlots(args[0]); err != nil {
					return err
				}
			}
			for _, slot := range slots {
				if err := note(a.out, "note: %v: the other slot counts, and the next open for writing mends this one", slot); err != nil {
					return err
				}
			}
			return a.report(args[0], findings(found), pages)
		},
	}
}

// findings takes an error apart into those that it joins.
func findings(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, findings(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

func (a *app) report(store string, found []error, pages int) error {
	for _, f := range found {
		if !errors.Is(f, folio.ErrCorrupt) {
			return f // no finding: it could not be read
		}
		if _, err := fmt.Fprintln(a.out, strings.TrimPrefix(f.Error(), "folio: ")); err != nil {
			return fmt.Errorf("write the findings: %w", err)
		}
	}
	if len(found) > 0 {
		return damagedError{fmt.Errorf("%s is damaged: %s", store, plural(len(found), "finding"))}
	}
	_, err := fmt.Fprintf(a.out, "%s is sound: %s checked\n", store, plural(pages, "page"))
	return err
}
