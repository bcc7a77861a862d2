//go:build !amd64 && !arm64

package page

import "unsafe"

func prefetch(unsafe.Pointer) {}
