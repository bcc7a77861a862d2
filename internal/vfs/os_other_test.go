//go:build !linux

package vfs

const writesVectors = false
