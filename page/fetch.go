package page

import "unsafe"

// Fetch asks the processor for the lines of page p in which a search begins, those of the header, the heads and the first slots, together. It is a hint that
// blocks nobody and cannot fault, even where p is not in memory. On processors other than amd64 and arm64 it does nothing.
func Fetch(p []byte) { fetchLines(unsafe.Pointer(unsafe.SliceData(p))) }

// Ahead is Fetch for a page that will be looked at soon. A search that waits for each line as it needs it waits for the memory three times: for the header,
// the slot and the key; so it is twice, and whoever goes from leaf to leaf does something else meanwhile. The id need not be one of a page.
func (v *View) Ahead(id ID) {
	if id < v.count {
		fetchLines(unsafe.Pointer(v.at(id)))
	}
}
