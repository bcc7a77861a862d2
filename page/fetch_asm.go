//go:build gc && (amd64 || arm64)

package page

import "unsafe"

// fetchLines asks for the five lines of 64 bytes from p on. 28 items of a leaf have heads and slots there.
//
//go:noescape
func fetchLines(p unsafe.Pointer)
