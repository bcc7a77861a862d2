// Package btree keeps the items of one bucket in a B+tree of pages.
//
// It owns the relations between pages, that is invariants 2 and 3 of ARCHITECTURE.md: a page's level is its
// parent's less one and its birth is not after its parent's, keys lie between the parent's separators, and
// every branch knows how many items lie below each of its children. The bytes of a single page belong to package page.
//
//	tree.go     the tree, what it needs of its surroundings, Get
//	search.go   finding the place of a key, long keys included
//	put.go      Put
//	split.go    room for an entry: compaction, evening out with a sibling, splitting
//	spread.go   many changes side by side
//	delete.go   Delete
//	merge.go    joining what has become small
//	range.go    DeleteRange and Drop, which cut whole subtrees off unread
//	rank.go     Len, Rank, Count, At
//	cursor.go   moving in key order
//	check.go    every relation, checked
//	dump.go     the tree as text
//
// Pages come from a *page.View in a tree that is only read, and from a Writer in one that is changed. Changes are
// copy-on-write: before a page is changed it is touched, which may give it another number. The package does not know
// when pages become free, when they reach the file, or which snapshots exist; it does no locking, and a Tree is used
// by one goroutine at a time while it is changed. Trees that are only read may be read by several, each with its own Cursor.
//
// Pages that have passed page.Validate may still contradict one another in a damaged or hostile file. Such relations
// end in a *page.CorruptError or in wrong data, never in a panic or an endless loop: every step down lowers the level, and every
// step of a cursor must be strictly forward in key order.
package btree
