package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

func (a *app) statsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats STORE",
		Short: "Print figures about the store",
		Long: `Prints what the library's Stats tells about the store, a figure a line, sizes in bytes,
or with --json as one object. Zeros are left out of the lines. Free pages are those of the last checkpoint.
How much of the log is live only the process knows that writes the store: while there is one that figure is left out.`,
		Example: `  folio stats app.db
  folio stats app.db --json | jq .FreePages`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			db, err := a.openReadOnly(args[0])
			if err != nil {
				return err
			}
			s := db.Stats()
			if asJSON {
				err = json.NewEncoder(a.out).Encode(s)
			} else {
				err = printFigures(a.out, s)
			}
			return errors.Join(err, db.Close())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}

// printFigures prints the fields of a struct that are not zero, each by its name in
// words: what the library adds to its Stats shows here without a change.
func printFigures(w io.Writer, s any) error {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-16s %v\n", inWords(v.Type().Field(i).Name), v.Field(i)); err != nil {
			return fmt.Errorf("write the figures: %w", err)
		}
	}
	return nil
}

// inWords turns LargestFree into "largest free".
func inWords(name string) string {
	var s strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			s.WriteByte(' ')
		}
		s.WriteRune(unicode.ToLower(r))
	}
	return s.String()
}
