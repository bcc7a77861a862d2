package main

import (
	"io/fs"
	"path/filepath"
)

// diskUse returns the bytes that the files below a folder take.
func diskUse(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += used(info)
		}
		return err
	})
	return sum, err
}
