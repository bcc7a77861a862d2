// Package page owns the format of Folio's data file, and the file itself.
//
// One half knows how a page lies in memory and on disk:
//
//	page.go      ids, the header that every node page has, sizes and limits
//	leaf.go      leaves: keys with their values; changed in leafedit.go
//	branch.go    branches: separators, children and the number of items below each; changed in branchedit.go, and
//	             where that means writing them anew, in branchplan.go
//	heads.go     how a node is searched
//	ref.go       references to runs, the contiguous pages that hold what is too large for a node
//	bucket.go    the value of a bucket's entry, and small buckets kept as an image inside it
//	meta.go      the two meta slots
//	validate.go  the one gate through which bytes of a file pass before anything else trusts them
//	dump.go      pages as text; escape.go, keys as text
//
// The other half knows the file that the pages lie in: file.go grows, writes and syncs it, map.go gives views of its
// mapping, marks.go remembers which pages have passed the gate.
//
// A node page is a []byte of the page's size. Leaf and Branch are names for such a slice and have no
// state of their own: they are as valid as the slice is. All numbers are little-endian, whatever the machine.
//
// Reading trusts what Validate has passed: on other bytes an accessor may return nonsense or panic with an index
// out of range, but it never reads outside the slice, because no unsafe code is involved in it.
//
// The package does not know trees (package btree), free space (package freelist) or
// when a page may be written (the root package).
package page
