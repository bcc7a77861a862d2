//go:build amd64 || arm64

package page

import "unsafe"

// prefetch asks the processor for the five cache lines from p on. It reads nothing: p need not be mapped.
//
//go:noescape
func prefetch(p unsafe.Pointer)
