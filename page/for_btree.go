package page

import "unsafe"

// Warm asks the processor, not the system, for the beginning of page id: header, heads and, of a leaf with some twenty
// entries, slots. Whoever knows which page he will look at next saves two of the three cache misses in a row
// that a leaf costs. No page is faulted in by it, and an id that is none does not matter.
//
// Measured with 1 M items of 174 bytes in random order, 4 KiB pages: a Get 575 to 536 ns, a step of a scan 32 to 17 ns.
func (v *View) Warm(id ID) {
	if id < v.count {
		prefetch(unsafe.Pointer(v.at(id)))
	}
}

// WarmKey asks the processor for the first or the last key of page id, if that is a leaf and has a mark.
func (v *View) WarmKey(id ID, last bool) {
	if id < v.count {
		p := v.at(id)
		if m := v.mark(id).Load(); m != 0 && m == nodeMark(p[:HeaderSize:HeaderSize]) && KindOf(p[:]) == KindLeaf {
			Leaf(p[:v.size:v.size]).WarmKey(last)
		}
	}
}

// WarmKey asks the processor for the first or the last key.
func (l Leaf) WarmKey(last bool) {
	i := CountOf(l) - 1
	if !last {
		i = min(i, 0)
	}
	if i >= 0 {
		prefetch(unsafe.Pointer(&l[l.slot(i).off()]))
	}
}
