//go:build !unix

package vfs

// Memory returns n zeroed bytes; give them back with FreeMemory.
func Memory(n int) []byte { return make([]byte, n) }

// FreeMemory gives back what Memory returned, of which no slice may be left in use; nil is nothing.
func FreeMemory([]byte) {}
