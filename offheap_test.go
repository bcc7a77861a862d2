package folio

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/foliodb/folio/freelist"
	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// A list keeps what it has while it becomes longer, costs the heap little, and is given back when it has become longer than is to be kept.
func TestReserve(t *testing.T) {
	const n, size = 1_000_000, 24
	var memory []byte
	var list []change
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	vfs.FreeMemory(vfs.Memory(n))
	runtime.ReadMemStats(&after)
	heap := after.TotalAlloc-before.TotalAlloc >= n // with the race detector, or on Windows, there is no other memory
	before = after
	for i := range n {
		if len(list) == cap(list) {
			list = reserve(list, &memory, 1)
		}
		list = append(list, change{head: uint64(i), at: uint32(i), part: 1})
	}
	runtime.ReadMemStats(&after)
	if more := after.TotalAlloc - before.TotalAlloc; !heap && more > 2*heapRoom {
		t.Errorf("%d bytes of the heap for %d items", more, n)
	}
	for i, c := range list {
		if want := (change{head: uint64(i), at: uint32(i), part: 1}); c != want {
			t.Fatalf("item %d is %v", i, c)
		}
	}
	if unsafe.Pointer(&memory[0]) != unsafe.Pointer(&list[0]) || len(memory) < n*size {
		t.Errorf("%d bytes of memory, elsewhere than the list", len(memory))
	}
	kept := forget(list, &memory, cap(list))
	if len(kept) != 0 || cap(kept) != cap(list) || memory == nil {
		t.Error("what is to be kept is gone")
	}
	if again := reserve(kept, &memory, n); cap(again) != cap(list) {
		t.Error("there was room enough")
	}
	if list = forget(list, &memory, cap(list)-1); list != nil || memory != nil {
		t.Error("what is too long is kept")
	}
	if list = reserve(list, &memory, 1); cap(list) != leastRoom || memory != nil {
		t.Errorf("room for %d, %d bytes of memory", cap(list), len(memory))
	}
	if forget(list, &memory, 0) != nil || memory != nil {
		t.Error("the last one is kept")
	}
}

// What many short operations took is given back at rest, unless somebody is about to use it.
func TestTrimOfSorter(t *testing.T) {
	db := mustOpen(t, nil)
	mustPut(t, db, "k", "v")
	get(t, db, "k")
	db.lockTree(nil)
	db.sorter.expectMore(restChanges + 1)
	db.trim()
	if db.sorter.memory == nil || cap(db.sorter.changes) <= restChanges || db.spacious() {
		t.Error("it is taken from who uses it")
	}
	db.unlockTree()
	if !db.spacious() {
		t.Error("it is not seen")
	}
	if db.trim(); db.sorter.memory != nil || cap(db.sorter.changes) > restChanges || db.spacious() {
		t.Error("it is kept")
	}
	mustPut(t, db, "k", "w")
	has(t, db, "k", "w")
}

// A read-only handle lost, with each log that it replayed, the room of what the replay superseded: its pager is dropped when it has been reset, and no collector
// takes memory back. So what a pager keeps is on the heap.
func TestPagerKeepsNoMemory(t *testing.T) {
	db := mustOpen(t, nil)
	db.lockTree(nil)
	defer db.unlockTree()
	p := &db.pager
	for _, n := range []int{1, leastRoom + 1, keepDied, keepDied + 1, 4 * keepDied} {
		for i := range n {
			p.die(freelist.Dead{ID: page.ID(i), N: 1})
		}
		if mapped := p.diedMemory != nil; mapped != (n > keepDied) || len(p.died) != n {
			t.Errorf("%d of %d pages, outside of the heap: %v", len(p.died), n, mapped)
		}
		if p.reset(); p.diedMemory != nil || len(p.died) != 0 {
			t.Errorf("%d pages: %d bytes are kept outside of the heap", n, len(p.diedMemory))
		}
	}
}
