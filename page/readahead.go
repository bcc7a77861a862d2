package page

import (
	"runtime"
	"time"
)

// Who goes from leaf to leaf through a store that is not in memory would wait for the disk at each of them. So he asks the system for the next ones while he looks at
// these. As long as there is memory it is done by groups of pages, since leaves that lie together are all wanted sooner or later. Where memory is short what comes along
// is gone again before it is wanted: then each page is asked for by itself. A file of 1.5 GB with 300 MB of memory was read eight to fourteen times over by groups.

// GroupOf returns the first page of the group that a page belongs to.
func GroupOf(id ID) ID { return id &^ (GroupPages - 1) }

// Here reports that n pages are in memory. False may mean that nobody can tell: see vfs.Mapping.Resident. Once it was true, Tells is.
func (v *View) Here(id, n ID) bool {
	off, length, ok := v.piece(id, n)
	if !ok || !v.m.mapping.Resident(off, length) {
		return false
	}
	if !v.m.f.tells.Load() {
		v.m.f.tells.Store(true)
	}
	return true
}

// Tells reports that somebody can tell whether pages are in memory.
func (v *View) Tells() bool { return v.m != nil && v.m.f.tells.Load() }

// Was reports whether the group that page id belongs to has been found in memory, all of it, since the file was opened.
func (v *View) Was(id ID) bool {
	at, bit := groupBit(id)
	return id < v.count && v.chunkOf(id).Load().warm[at].Load()&bit != 0
}

// setWarm notes that the group of page id is in memory.
func (v *View) setWarm(id ID) {
	at, bit := groupBit(id)
	v.makeChunk(id).warm[at].Or(bit)
}

// groupBit is where a chunk has the bit of a page's group.
func groupBit(id ID) (at ID, bit uint32) {
	n := id % (1 << chunkBits) / GroupPages
	return n / 32, 1 << (n % 32)
}

// onePrefetch is how much is asked for in a call: the kernel cuts one of more than it would read ahead by itself, 128 KiB on most devices, and tells nobody.
const onePrefetch = 128 << 10

// Prefetch asks the system to read n pages from each of ids on, and waits for nothing. Those that do not exist do not matter.
func (v *View) Prefetch(ids []ID, n ID) {
	for i := 0; i < len(ids); {
		off, length, ok := v.piece(ids[i], n)
		for i++; ok && i < len(ids); i++ {
			next, more, is := v.piece(ids[i], n)
			if !is || next != off+length {
				break
			}
			length += more
		}
		for ; ok && length > 0; off, length = off+onePrefetch, length-onePrefetch {
			v.m.mapping.WillNeed(off, min(length, onePrefetch))
		}
	}
}

// Bring waits until n pages have been read, so that Page need not wait for each of them. It reports false if that could not be: then it is left to Page, which tells of it.
func (v *View) Bring(id, n ID) bool {
	off, length, ok := v.piece(id, n)
	if !ok || v.m.mapping.Populate(off, length) != nil {
		return false
	}
	if n == GroupPages && length == v.offset(n) {
		v.setWarm(id)
	}
	return true
}

// piece returns where n pages lie in the file, as far as they belong to the view.
func (v *View) piece(id, n ID) (off, length int64, ok bool) {
	if id < v.count {
		return v.offset(id), v.offset(min(n, v.count-id)), true
	}
	return 0, 0, false
}

// aroundBytes is how much is read around a page that is touched and not in memory: once, since the process opened the file.
const aroundBytes = 256 << 10

// fewAround is how many goroutines may wait for what lies around a page at a time. Had each of 16 goroutines that read at random what lies around its page, the disk was busy with that: of a
// store of 3 GB, and a disk of 600 MB/s to 1 GB/s, there were 2 to 10 thousand gets a second for two seconds, and a million after three to five. By two at a time there are 13
// to 60 thousand for three seconds, and a million after seven. With each page read for itself alone there are 40 to 60 thousand, and 80 to 90 after eight seconds.
const fewAround = 2

// polls is how often fetch looks whether a page has come before it waits in the system. A goroutine that waits there keeps a processor of the Go scheduler until that takes
// the processor away, and needs one again: with 16 goroutines and two processors that took longer than the disk. Those that only let others run had 50 thousand
// pages a second instead of 20, and a goroutine that computed beside them kept 85 % of its rate instead of 22. 5, 100 and 1,000 made no difference; a disk that takes much longer is waited for
// in the system.
const polls = 20

// fetch reads page id, which may not be in memory, with what lies around it or alone. That is never left to the system, which reads around as much as is set for
// the device: 128 KiB mostly, or 8 MiB.
func (v *View) fetch(id ID) error {
	off, size := v.offset(id), int64(v.size)
	tells := v.Tells()
	if tells && v.m.mapping.Resident(off, size) { // others of its group are missing
		return nil
	}
	if v.startAround(id) {
		defer v.m.f.around.Add(-1)
	} else {
		v.m.mapping.WillNeed(off, size)
	}
	for i := 0; tells && i < polls; i++ {
		runtime.Gosched()
		if v.m.mapping.Resident(off, size) {
			return nil
		}
	}
	if err := v.m.mapping.Populate(off, size); err != nil {
		return err
	}
	if !tells {
		v.Here(id, 1) // so that it is known whether anybody can tell
	}
	return nil
}

// startAround asks for the pages around page id, unless that was done before, memory is short, or others are at it. It reports whether it did; then the caller counts
// in File.around until the page is there.
func (v *View) startAround(id ID) bool {
	n := max(ID(aroundBytes/v.size), GroupPages)
	first := id &^ (n - 1)
	at, bit := groupBit(first)
	asked := &v.makeChunk(id).asked[at]
	if v.Short() || asked.Load()&bit != 0 {
		return false
	}
	f := v.m.f
	if f.around.Add(1) > fewAround || asked.Or(bit)&bit != 0 {
		f.around.Add(-1)
		return false
	}
	v.Prefetch([]ID{first}, n)
	return true
}

// shortFor is how long memory is held to be short after pages were found missing that had been there.
const shortFor = 10 * time.Second

// SetShort notes that the system has taken pages out of memory.
func (v *View) SetShort() {
	now := time.Now()
	v.m.f.short.Store(&now)
}

// Short reports whether it has done so lately.
func (v *View) Short() bool {
	at := v.m.f.short.Load()
	return at != nil && time.Since(*at) < shortFor
}
