package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/foliodb/folio"
	"github.com/foliodb/folio/page"
)

func (a *app) putCommand() *cobra.Command {
	var bucket, file string
	var form valueForm
	cmd := &cobra.Command{
		Use:   "put STORE KEY [VALUE]",
		Short: "Set a key to a value",
		Long: `Sets a key to a value: the last argument in the escaped form, or the bytes of a file.
The store and the buckets of --bucket are made if they are not there. When the command
returns, the value is on the disk.`,
		Example: `  folio put app.db greeting hello
  folio put app.db logo --file logo.png --bucket assets/images
  date | folio put app.db now --file -`,
		Args: arguments(2, 3),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := parseKey(args[1])
			if err == nil && len(key) > folio.MaxKeySize { // before a store is made
				err = keyError(folio.ErrKeyTooLarge, key)
			}
			if err != nil {
				return err
			}
			value, err := a.valueOf(args[2:], file, form)
			if err != nil {
				return err
			}
			return a.put(args[0], bucket, key, value)
		},
	}
	bucketFlag(cmd, &bucket)
	form.flags(cmd, "VALUE is taken as it is, without escapes")
	cmd.Flags().StringVarP(&file, "file", "f", "", "take the value from this file; -: from standard input")
	return cmd
}

// valueOf returns the value that the arguments give or the file holds.
func (a *app) valueOf(args []string, file string, form valueForm) ([]byte, error) {
	switch {
	case (len(args) == 1) == (file != ""):
		return nil, usagef("give either a VALUE or --file")
	case file == "-":
		return io.ReadAll(a.in)
	case file != "":
		return os.ReadFile(file)
	}
	return form.parse(args[0])
}

func (a *app) put(store, bucket string, key, value []byte) error {
	path, err := parseBucketPath(bucket)
	if err != nil {
		return err
	}
	db, err := folio.Open(store, &folio.Options{LockTimeout: a.wait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *folio.Tx) error {
		b, err := makeBucket(tx, path)
		if err != nil {
			return err
		}
		return putIn(b, key, value)
	})
	return errors.Join(err, db.Close())
}

// putIn puts and explains errors of use.
func putIn(b *folio.Bucket, key, value []byte) error {
	err := b.Put(key, value)
	switch {
	case errors.Is(err, folio.ErrIncompatibleValue):
		return usagef(`"%s" is a bucket; "folio del --recursive" removes it`, page.Escape(key))
	case errors.Is(err, folio.ErrValueTooLarge):
		return usagef("the value has %d bytes, at most %d can be stored", len(value), folio.MaxValueSize)
	}
	return keyError(err, key)
}

// keyError explains what is wrong with a key or a bucket's name.
func keyError(err error, key []byte) error {
	switch {
	case errors.Is(err, folio.ErrKeyRequired), errors.Is(err, folio.ErrBucketNameRequired):
		return usagef("the key is empty")
	case errors.Is(err, folio.ErrKeyTooLarge):
		return usagef("the key has %d bytes, at most %d can be stored", len(key), folio.MaxKeySize)
	}
	return err
}
