//go:build unix && !race

package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var memories atomic.Int64

// Memory returns n zeroed bytes that the garbage collector neither looks at nor counts; give them back with FreeMemory. What lives
// for long and holds no pointers belongs there: on the heap, tens of megabytes of it let the collector leave as much garbage besides.
// Where the system has none to give, they come from the heap.
func Memory(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, n)
	}
	wantHuge(b)
	memories.Add(1)
	return b
}

// FreeMemory gives back what Memory returned, of which no slice may be left in use; nil is nothing.
func FreeMemory(b []byte) {
	if unix.Munmap(b) == nil { // else it came from the heap, or is nil
		memories.Add(-1)
	}
}

// Memories returns how many pieces of memory outside of the heap this process has not given back.
func Memories() int64 { return memories.Load() }
