//go:build unix && !linux

package vfs

func wantHuge([]byte) {}
