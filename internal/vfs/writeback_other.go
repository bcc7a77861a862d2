//go:build unix && !linux

package vfs

func (f *osFile) canWriteBack() bool { return false }

func (f *osFile) writeBack(int64, int64) error { return nil }

func (f *osFile) WriteOut(int64, int64, bool) error { return nil }
