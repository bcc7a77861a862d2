// Package freelist knows the space of a data file: which pages are free, which ones
// the running write transaction has taken, and which dead pages some pinned
// snapshot can still reach.
//
//	bitmap.go     sets of pages, one bit a page, in chunks
//	runs.go       the index over the free ones: the leftmost run of n pages in O(log n)
//	list.go       List: allocation, and rollback, by the one running write transaction
//	lives.go      pages that died: kept while a pin needs them, then free
//	pile.go       many of them, in memory that is used again
//	snapshot.go   what a checkpoint takes: the free set, room for it, the file's tail
//	set.go        the free set as bytes (the format), and reading it back
//	stats.go      figures and the dump
//	account.go    what a checker asks
//
// # Where a page is
//
// Every page below End, the two meta slots aside, is in exactly one of these places:
//
//	in use     reachable from the newest commit; the list keeps nothing about it
//	free       may be allocated
//	aside      free, but not to be allocated for now: the file's tail while a
//	           checkpoint means to cut it, a run that is kept for the next free set, and
//	           what lies below AppendOnly's bound
//	own        allocated by the running transaction
//	held       dead, and kept: for a pin, because OnFree asked to, or as the pages of a
//	           free set that a meta slot may name
//
// Alloc and Extend move pages from free to own; FreeOwn and Rollback move them back; Commit
// makes own pages ones in use, and moves superseded ones from in use to held or to free. Reclaim
// moves from held to free.
//
// # Lives
//
// A page is visible to a snapshot s if born <= s < died, so it is kept while a pinned snapshot
// lies in [born, died), and no longer: an old reader retains only pages that it can
// reach. Each dead page is filed under the smallest pin that needs it. A page whose born is
// not known (0) counts as born before everything.
//
// # Page counts
//
// A checkpoint's meta has a page count, Snapshot.End. The rules that make it legal:
//
//  1. What the checkpoint reaches, and its free set, lie below its count.
//  2. Pages at or past a meta's count are free for that meta, by definition. So the
//     count may be smaller than the file, whatever becomes of the pages behind it later.
//  3. No slot that can be chosen has a count larger than the file. Ensure grows the file
//     before the meta is written, and Cut, which comes after both slots have the
//     snapshot's count, never cuts below that count.
//
// A snapshot withdraws a long free tail from allocation and ends before it. A transaction that
// finds no other space gets the tail back at once, from Extend (rule 2 lets it write there), and
// Cut then cuts what has remained free at the end, or nothing. Cut lowers End before it
// cuts the file, and until the file is cut nobody is given a page past the new end.
//
// # Damage
//
// Page numbers that come out of a file can be wrong. A page that dies though it is not
// in use, or is given back though the transaction does not own it, stays where it is,
// and the call returns a *page.CorruptError. Panics are for mistakes of the caller that no file
// can bring about.
//
// The package writes nothing and reads no file: the root package stores what Encode
// returns, grows and cuts the file, and decides what is pinned.
package freelist
