package vfs

import (
	"errors"
	"os"
	"path/filepath"
)

// temporary returns a file without a name in the directory for temporary files.
func temporary() (File, error) {
	t, err := os.CreateTemp("", "folio-*")
	if err != nil {
		return nil, err
	}
	name, err := filepath.Abs(t.Name())
	if err := errors.Join(err, t.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(t.Name()))
	}
	f, err := OS.Open(name, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, os.Remove(name))
	}
	if err := OS.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
