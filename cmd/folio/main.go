// Command folio loads, reads, changes and examines Folio stores.
//
// Every command names the store first: folio get app.db KEY. Keys, bucket names and
// values are printed and accepted in one escaped form (see text.go), so that what one
// command prints another one takes. Commands that only look at a store open it
// read-only and change nothing on the disk. Errors are one line on standard error; the
// exit codes are in exit.go.
//
// The command owns no format: pages, trees, the log and the free set are shown by
// the packages that own them.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// An app is one run of the tool: its streams, and the flags that all commands have.
type app struct {
	in       io.Reader
	out, err io.Writer
	wait     time.Duration // for a store that is locked
	started  bool          // a command runs: errors are no longer those of usage
}

// run runs the tool with the given arguments and returns its exit code.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: out, err: errs}
	root := a.command()
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteC()
	if err != nil && !a.started {
		err = usageError{fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help")}
	}
	if err != nil {
		fmt.Fprintln(errs, errorText(err, cmd.Name()))
	}
	return exitCode(err)
}

const longHelp = `Folio keeps keys and values in one file, ordered, in nested buckets.

The store comes first: folio get app.db KEY. "load" and "put" make it if it is not
there, and so they do with the bucket that --bucket names; the other commands need it.

Keys, bucket names and values are printed and accepted in one escaped form:
printable ASCII stands for itself, a backslash is \\, every other byte is \xNN. A
bucket is named by its path from the root, a/b/c; a slash in a name is \x2f there.

Exit codes:
` + exitCodes

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "folio",
		Short:         "Load, read, change and examine Folio stores",
		Long:          longHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().DurationVar(&a.wait, "wait", time.Second, "wait this long for a store that another process holds")
	for _, g := range []*cobra.Group{
		{ID: "data", Title: "Data:"},
		{ID: "store", Title: "The store:"},
		{ID: "inside", Title: "Inside the files:"},
	} {
		root.AddGroup(g)
	}
	for id, commands := range map[string][]*cobra.Command{
		"data":   {a.loadCommand(), a.getCommand(), a.putCommand(), a.delCommand(), a.scanCommand()},
		"store":  {a.bucketsCommand(), a.statsCommand(), a.readersCommand(), a.checkCommand(), a.recoverCommand()},
		"inside": {a.pageCommand(), a.treeCommand(), a.walCommand(), a.freeCommand()},
	} {
		for _, c := range commands {
			c.GroupID = id
			c.DisableFlagsInUseLine = true
			run := c.RunE
			c.RunE = func(cmd *cobra.Command, args []string) error {
				a.started = true
				return run(cmd, args)
			}
			root.AddCommand(c)
		}
	}
	a.helpOfWhatIsThere(root)
	return root
}

// helpOfWhatIsThere has "folio help nosuch" be an error, as "folio nosuch" is one. By itself cobra shows the help of what it finds on the way,
// and calls that done.
func (a *app) helpOfWhatIsThere(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Run = nil
		help.RunE = func(cmd *cobra.Command, args []string) error {
			of, left, err := root.Find(args)
			if err != nil || len(left) > 0 {
				a.started = true
				return usagef("unknown command %q for %q; see %q", strings.Join(args, " "), root.Name(), root.Name()+" --help")
			}
			of.InitDefaultHelpFlag() // so that the text has it
			return of.Help()
		}
	}
}

// arguments accepts from least to most arguments; most < 0 is any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return fmt.Errorf("%s given: %s", plural(len(args), "argument"), cmd.UseLine())
		}
		return nil
	}
}
