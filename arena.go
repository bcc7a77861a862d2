package folio

import (
	"unsafe"

	"github.com/foliodb/folio/internal/vfs"
)

// arena holds operations that have to stay for a while: the backlog's, and large ones until they are in the log. They go about in the order
// in which they came. It lies outside of the heap: see vfs.Memory.
type arena struct {
	chunks []chunk // the oldest first; the last is being filled
	spare  [][]byte
	large  []byte // the last one that was too large for a spare chunk; nil: there is none
	grown  bool   // there was more once than the first chunk holds
}

type chunk struct {
	buf   []byte
	used  int
	parts int // not freed yet
}

// arenaChunk is the size of a chunk in bytes. What is larger gets one of its own.
const arenaChunk = 1 << 20

// arenaFirst is the size of an arena's first chunk, which lies on the heap: most that open a store and close it again need no more, and
// to map, touch and unmap a larger one was 7 % of the time of crash tests.
const arenaFirst = 32 << 10

// arenaSpare is how many empty chunks are kept to be used again: to map and fill fresh ones costs more than to copy the operations.
const arenaSpare = 32

// add copies b behind what was added last.
func (a *arena) add(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	k := len(a.chunks) - 1
	if k < 0 || len(a.chunks[k].buf)-a.chunks[k].used < len(b) {
		a.push(chunk{buf: a.fresh(len(b))})
		k = len(a.chunks) - 1
	}
	c := &a.chunks[k]
	from := c.used
	c.used += copy(c.buf[from:], b)
	c.parts++
	return c.buf[from:c.used:c.used]
}

// extend is add, but makes b longer where b was added last and there is room behind it.
func (a *arena) extend(b, more []byte) (longer []byte, ok bool) {
	k := len(a.chunks) - 1
	if k < 0 || len(b) == 0 {
		return nil, false
	}
	c := &a.chunks[k]
	from := c.used - len(b)
	if from < 0 || &c.buf[from] != &b[0] || len(c.buf)-c.used < len(more) {
		return nil, false
	}
	c.used += copy(c.buf[c.used:], more)
	return c.buf[from:c.used:c.used], true
}

// join makes one part of two that lie side by side.
func (a *arena) join(b, next []byte) (both []byte, ok bool) {
	if len(b) == 0 || len(next) == 0 {
		return nil, false
	}
	for i := range a.chunks {
		c := &a.chunks[i]
		if !c.has(&b[0]) {
			continue
		}
		if !c.has(&next[0]) {
			return nil, false
		}
		from := int(uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&c.buf[0])))
		end := from + len(b)
		if end == len(c.buf) || &c.buf[end] != &next[0] {
			return nil, false
		}
		c.parts--
		end += len(next)
		return c.buf[from:end:end], true
	}
	return nil, false
}

// prepare makes one chunk, ahead, for n bytes of which most will come: a large one has huge pages, and so costs the kernel a fault for 2 MiB instead of 4 KiB.
func (a *arena) prepare(n int) {
	if k := len(a.chunks) - 1; n <= arenaChunk || k >= 0 && a.chunks[k].parts == 0 && len(a.chunks[k].buf) >= n {
		return
	}
	a.push(chunk{buf: a.takeLarge(n)})
}

// trim gives back what lies idle.
func (a *arena) trim() {
	for _, b := range a.spare {
		vfs.FreeMemory(b)
	}
	a.spare = nil
	vfs.FreeMemory(a.large)
	a.large = nil
}

// takeLarge returns n bytes or more, which adopt may get back. Those that lie idle are used again: it takes the kernel longer to clear fresh ones, page
// by page, than it takes to fill them.
func (a *arena) takeLarge(n int) []byte {
	b := a.large
	a.large = nil
	if len(b) >= n {
		return b
	}
	vfs.FreeMemory(b)
	return vfs.Memory(n)
}

// giveLarge takes back b, which takeLarge has given, or nothing.
func (a *arena) giveLarge(b []byte) {
	if len(b) > 0 {
		vfs.FreeMemory(a.large)
		a.large = b
	}
}

// adopt takes over b, which vfs.Memory has given, as a part.
func (a *arena) adopt(b []byte) {
	a.push(chunk{buf: b[:cap(b)], used: cap(b), parts: 1})
}

// push makes c the last chunk. One that is empty is not left behind it, where nobody would come back to it.
func (a *arena) push(c chunk) {
	if k := len(a.chunks) - 1; k >= 0 && a.chunks[k].parts == 0 {
		a.drop(k)
	}
	a.chunks = append(a.chunks, c)
}

func (a *arena) fresh(n int) []byte {
	if k := len(a.spare) - 1; k >= 0 && n <= arenaChunk {
		b := a.spare[k]
		a.spare = a.spare[:k]
		return b
	}
	if !a.grown && len(a.chunks) == 0 && n <= arenaFirst {
		return make([]byte, arenaFirst)
	}
	a.grown = true
	return vfs.Memory(max(n, arenaChunk))
}

// free lets go of a part.
func (a *arena) free(part []byte) {
	if len(part) == 0 {
		return
	}
	for i := range a.chunks {
		c := &a.chunks[i]
		if !c.has(&part[0]) {
			continue
		}
		c.parts--
		switch {
		case c.parts > 0:
		case i < len(a.chunks)-1 || len(c.buf) > arenaChunk:
			a.drop(i)
		default:
			c.used = 0
		}
		return
	}
}

// has reports whether p points into the chunk.
func (c *chunk) has(p *byte) bool {
	at := uintptr(unsafe.Pointer(p)) - uintptr(unsafe.Pointer(&c.buf[0]))
	return at < uintptr(len(c.buf))
}

// drop takes out a chunk of which nothing is left.
func (a *arena) drop(i int) {
	b := a.chunks[i].buf
	k := i + copy(a.chunks[i:], a.chunks[i+1:])
	a.chunks[k] = chunk{}
	a.chunks = a.chunks[:k]
	if len(b) == arenaChunk && len(a.spare) < arenaSpare {
		a.spare = append(a.spare, b)
		return
	}
	if len(b) > arenaChunk && a.large == nil {
		a.large = b
		return
	}
	vfs.FreeMemory(b)
}

// close gives all memory back.
func (a *arena) close() {
	for _, c := range a.chunks {
		vfs.FreeMemory(c.buf)
	}
	a.trim()
	*a = arena{}
}
