//go:build !unix || race

package vfs

// Memory returns n zeroed bytes; give them back with FreeMemory. They are on the heap: the race detector sees no other memory.
func Memory(n int) []byte { return make([]byte, n) }

// FreeMemory gives back what Memory returned, of which no slice may be left in use; nil is nothing.
func FreeMemory([]byte) {}

// Memories returns how many pieces of memory outside of the heap this process has not given back: there are none.
func Memories() int64 { return 0 }
