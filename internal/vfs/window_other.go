//go:build !linux

package vfs

import "errors"

func (f *osFile) Window(off, n int64) (Window, error) { return nil, errors.ErrUnsupported }
