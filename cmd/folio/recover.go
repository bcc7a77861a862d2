package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
)

// A recovery is one run of "folio recover".
type recovery struct {
	*app
	pageSize int
	quiet    bool
	bar      *progressbar.ProgressBar
}

func (a *app) recoverCommand() *cobra.Command {
	r := &recovery{app: a}
	cmd := &cobra.Command{
		Use:   "recover SRC DST",
		Short: "Save what can be read of a damaged store in a new one",
		Long: `Saves every record that can be read of the store SRC in a new store DST, which must not
exist, and says what could not be read: page, offset, bucket and keys. SRC may be damaged in
any way, or refused by the other commands, and is not changed. Its log, SRC-wal, must lie beside
it; if that is damaged, the commits before the damage are saved.

What is sound, but does not tell where it belongs, since the page above it is damaged, goes into
the bucket lost+found, a bucket for each piece. It may hold values that were replaced or deleted.

A line that begins with "lost:" is a loss; one that begins with "note:" is damage that costs
nothing. The exit code is 0 if everything was saved, 1 if something was lost, 4 if there was
nothing to be saved, and 3 if SRC is no store, or DST cannot be written. With 3 and 4 there is
no DST, unless it could not be removed again.`,
		Example: `  folio recover app.db saved.db
  folio check saved.db
  folio buckets saved.db --bucket lost+found`,
		Args: arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error { return r.run(args[0], args[1]) },
	}
	cmd.Flags().IntVar(&r.pageSize, "page-size", 0, "of SRC, if both its meta slots are lost (default: what fits)")
	cmd.Flags().BoolVarP(&r.quiet, "quiet", "q", false, "no progress, and no summary if nothing is lost")
	return cmd
}

func (r *recovery) run(src, dst string) error {
	if size := r.pageSize; size != 0 && (size < 4096 || size > 65536 || size&(size-1) != 0) {
		return usagef("--page-size %d is not a power of two from 4096 to 65536", size)
	}
	if err := mustExist(src); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(dst)); err != nil {
		return err
	}
	opts := &folio.SalvageOptions{PageSize: r.pageSize, LockTimeout: r.wait}
	if !r.quiet && r.onTerminal() {
		opts.Progress = r.progress
	}
	report, err := folio.Salvage(src, dst, opts)
	if r.bar != nil {
		_ = r.bar.Finish()
	}
	return errors.Join(r.findings(report), err, r.summary(src, dst, report, err != nil))
}

// progress draws how many pages have been read.
func (r *recovery) progress(done, pages int) {
	if r.bar == nil {
		r.bar = progressbar.NewOptions(pages,
			progressbar.OptionSetWriter(r.err),
			progressbar.OptionSetDescription("reading pages"),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionFullWidth(),
			progressbar.OptionClearOnFinish())
	}
	_ = r.bar.Set(min(done, pages))
}

func (r *recovery) findings(report *folio.SalvageReport) error {
	for _, f := range report.Findings {
		if _, err := fmt.Fprintln(r.out, f); err != nil {
			return fmt.Errorf("write the findings: %w", err)
		}
	}
	if report.Omitted > 0 {
		fmt.Fprintf(r.out, "and %s more\n", plural(report.Omitted, "finding"))
	}
	return nil
}

// summary says what has been saved; losses are an error.
func (r *recovery) summary(src, dst string, report *folio.SalvageReport, failed bool) error {
	if failed {
		return nil
	}
	if !r.quiet || !report.Complete() {
		text := fmt.Sprintf("saved %s, %s of keys and values, and %s of the data file", plural(int(report.Items), "record"),
			formatBytes(int64(report.Bytes)), plural(int(report.Buckets), "bucket"))
		if report.Replayed > 0 {
			text += fmt.Sprintf(", and applied %s of the log", plural(report.Replayed, "transaction"))
		}
		if report.LostFound != nil {
			text += fmt.Sprintf("; %s of unknown place in %s", plural(int(report.LostFoundItems), "record"), formatName(report.LostFound))
		}
		if _, err := fmt.Fprintf(r.out, "%s: %s is the state of transaction %d\n", text, dst, report.Tx); err != nil {
			return fmt.Errorf("write the summary: %w", err)
		}
	}
	if report.Complete() {
		return nil
	}
	text := plural(report.Losses(), "loss")
	if n := report.Losses(); n > 1 {
		text = fmt.Sprintf("%d losses", n)
	}
	if report.LostItems > 0 {
		text += fmt.Sprintf(", of %s at least", plural(int(report.LostItems), "item"))
	}
	return lossError{fmt.Errorf("%s was saved in part: %s", src, text)}
}
