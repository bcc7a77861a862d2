package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
)

// A load is one run of "folio load": its arguments, and what it has come to.
type load struct {
	*app
	store, file string
	bucket      string
	dir         string
	lines       lineFormat
	batch       int64
	pageSize    int
	relaxed     bool
	quiet       bool

	skipped int // files that are not regular
}

func (a *app) loadCommand() *cobra.Command {
	l := &load{app: a}
	cmd := &cobra.Command{
		Use:   "load STORE [FILE]",
		Short: "Store records from a file or standard input, or all files of a folder",
		Long: `Stores records from FILE or standard input, or with --dir every file below a folder
under its path, with slashes. The store and the bucket are made if they are not there; keys
that are there get their new value.

A line is a key, a tab and a value, both in the escaped form, as "folio scan" prints them; a
line without a tab that ends in a slash makes an empty bucket. With --raw keys and values
stand for themselves. With --json, or when FILE ends in .json, .jsonl or .ndjson, a line is an
object {"key":"...","value":...}: strings are in the escaped form (with --raw as they are),
and any other value is stored as its JSON text. With --key NAME it is any object: its field
NAME is the key, and the whole line the value. Empty lines are skipped.

Records go into the store in transactions of --batch bytes of keys and values. If a line is
wrong, what came before its transaction stays; the message says how much that is.`,
		Example: `  folio load src.db --dir "$(go env GOROOT)/src"
  folio scan old.db --bucket users | folio load new.db --bucket users
  folio load app.db events.jsonl --bucket events --key id
  tr ' ' '\t' < words.txt | folio load app.db --raw --relaxed`,
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.store = args[0]
			if len(args) == 2 {
				l.file = args[1]
			}
			if err := l.checkFlags(cmd); err != nil {
				return err
			}
			return l.run()
		},
	}
	bucketFlag(cmd, &l.bucket)
	f := cmd.Flags()
	f.StringVarP(&l.dir, "dir", "d", "", "store every file below this folder")
	f.BoolVar(&l.lines.json, "json", false, "lines are JSON objects")
	f.BoolVar(&l.lines.raw, "raw", false, "keys and values are taken as they are, without escapes")
	f.StringVar(&l.lines.keyField, "key", "", "field of the JSON objects that is the key; the line is the value")
	f.Int64Var(&l.batch, "batch", 8<<20, "bytes of keys and values a transaction")
	f.IntVar(&l.pageSize, "page-size", 0, "of a new store: a power of two from 4096 to 65536 (default: the system's)")
	f.BoolVar(&l.relaxed, "relaxed", false, "do not wait for the disk before the end")
	f.BoolVarP(&l.quiet, "quiet", "q", false, "no progress and no summary")
	return cmd
}

// checkFlags finds what does not go together.
func (l *load) checkFlags(cmd *cobra.Command) error {
	size := l.pageSize
	switch {
	case cmd.Flags().Changed("dir") && l.dir == "":
		return usagef("--dir is empty")
	case l.dir != "" && (l.file != "" || l.lines != lineFormat{}):
		return usagef("--dir goes with no FILE and none of --json, --raw and --key")
	case l.batch < 1:
		return usagef("--batch %d is less than a byte", l.batch)
	case size != 0 && (size < 4096 || size > 65536 || size&(size-1) != 0):
		return usagef("--page-size %d is not a power of two from 4096 to 65536", size)
	}
	l.lines.json = l.lines.json || l.lines.keyField != "" || hasJSONName(l.file)
	return nil
}

// run opens the source before the store, so that a slip in its name makes no store.
func (l *load) run() error {
	path, err := parseBucketPath(l.bucket)
	if err != nil {
		return err
	}
	src, err := l.openSource()
	if err != nil {
		return err
	}
	defer src.close()
	opts := &folio.Options{LockTimeout: l.wait, PageSize: l.pageSize}
	if l.relaxed {
		opts.Durability = folio.Relaxed
	}
	db, err := folio.Open(l.store, opts)
	if err != nil {
		return err
	}
	began := time.Now()
	b := &batcher{db: db, path: path, limit: l.batch}
	bar := l.progress(src)
	err = src.read(b, bar)
	bar.finish()
	if err = errors.Join(b.end(err, src.noun()), db.Close()); err != nil || l.quiet {
		return err
	}
	return l.summary(b.stored, src.noun(), time.Since(began))
}

// A source is where records come from.
type source interface {
	read(to *batcher, bar *progress) error
	size() int64 // bytes in all, -1 if that is not known
	noun() string
	close()
}

func (l *load) openSource() (source, error) {
	if l.dir != "" {
		return l.openFolder()
	}
	return l.openLines()
}

// summary prints what was loaded, and how fast.
func (l *load) summary(n count, noun string, took time.Duration) error {
	info, err := os.Stat(l.store)
	if err != nil {
		return err
	}
	seconds := max(took.Seconds(), 1e-6)
	text := fmt.Sprintf("loaded %s, %s of keys and values, in %.2f s: %.0f %ss/s, %s/s; %s is %s",
		plural(n.records, noun), formatBytes(n.bytes), seconds, float64(n.records)/seconds, noun,
		formatBytes(int64(float64(n.bytes)/seconds)), l.store, formatBytes(info.Size()))
	if l.skipped > 0 {
		text += "; skipped " + plural(l.skipped, "link or special file")
	}
	_, err = fmt.Fprintln(l.out, text)
	return err
}
