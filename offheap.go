package folio

import (
	"unsafe"

	"github.com/foliodb/folio/internal/vfs"
)

// What is as long as a unit of the backlog has operations, or a transaction supersedes pages, may take tens of megabytes where records are short, or as large
// as a page. It lies outside of the heap: there the collector would leave as much besides, and each time that it grows the one before too. With
// a million records of a page each removed, the heap peaked at 112 to 124 MiB before.

// leastRoom is for how many items room is made at least, and heapRoom how many bytes of room are on the heap still: where page tables are dear, to map and
// unmap memory was a tenth of what it takes to open and close a small store.
const (
	leastRoom = 1 << 7
	heapRoom  = 1 << 20
)

// reserve returns list with room for n items more, which hold no pointers. The room is in memory, where that of a list that becomes longer was too, unless
// there is so little of it that it is on the heap.
func reserve[T any](list []T, memory *[]byte, n int) []T {
	if n <= cap(list)-len(list) {
		return list
	}
	n = max(len(list)+n, 2*cap(list), leastRoom)
	var item T
	var fresh []byte
	var room []T
	if size := n * int(unsafe.Sizeof(item)); size <= heapRoom {
		room = make([]T, n)
	} else {
		fresh = vfs.Memory(size)
		room = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(fresh))), n)
	}
	room = room[:copy(room, list)]
	vfs.FreeMemory(*memory)
	*memory = fresh
	return room
}

// forget empties a list that reserve has made. It gives the memory back if there is room for more than keep items.
func forget[T any](list []T, memory *[]byte, keep int) []T {
	if cap(list) <= keep {
		return list[:0]
	}
	vfs.FreeMemory(*memory)
	*memory = nil
	return nil
}
