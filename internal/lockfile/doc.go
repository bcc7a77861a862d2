// Package lockfile is the table by which the processes that have one store open know of each other: a small file that all
// of them map for reading and writing. The writer shows there what it has published and acknowledged; each reading
// process has slots in which it pins the snapshots that its transactions read. Nothing in it outlives the processes:
// who finds nobody alive starts it anew.
//
// The package owns the layout of the file, who may make, fill and remove it, and the order in which its words are stored and
// read. It does not know what a snapshot is, when one may be shown, or which pages a pin keeps.
//
// # Locks
//
// Locks are of bytes far beyond the content, held by the open file, so that they end with the process whatever ends it.
//
//	life    shared by everybody who is attached; exclusive for who makes the table anew, or removes the file
//	slot i  exclusive by the process whose slot it is; whoever else gets it knows that that process is gone
//
// After taking the life lock a process looks whether the name still leads to the file that it locked: the last one to
// leave may have removed it meanwhile. Since the lock ends with the machine too, a table from before a restart is never
// believed.
//
// # The words
//
// All words are 64 bits, in the byte order of the machine, stored and loaded atomically and in one total order (sync/atomic).
//
//	published  TxID<<2 | cell of the newest snapshot that every process may read; 0: none yet
//	acked      TxID of the newest commit that anybody was told of
//	mark       not 0: a process may be attached that reads, and does not sleep
//	cells      four; each has the words of a snapshot, and a checksum of them
//	slots      state, time of attaching, and seven pins with the time of each
//
// Publishing fills a cell that the published word does not name, and then stores the word: who dies between the two
// has published nothing.
//
// Beginning to read: load published, check its cell, store a pin, load published again. Is it still the same, the pin counts:
// the writer looks at the pins only after it has stored a newer word, and so finds this one. Otherwise the pin is
// moved. Later readers in the process join the pin only once it counts.
//
// Acknowledging beside reading processes: publish, then store acked, then tell the caller. Without any (mark is 0): store
// acked, look at the mark again, and publish first if it has been set. Attaching: take a slot, set the mark, load acked, and
// wait until published has reached it. Either the writer sees the mark, or the one who attaches sees acked; so nobody
// is shown a state older than one that somebody had been told of. Who is attached compares the two words at each begin
// all the same, for the day on which publishing fails.
//
// Who has read nothing for a while sleeps: it has no pins, and its slot says so. Waking is attaching over again: the slot says that
// it is in use, the mark is set, and only then the words are looked at.
//
// Taking the mark back is the writer's: it sets it to 0, looks at all slots, and sets it again if one is in use by a process
// that does not sleep. A
// process that takes a slot meanwhile sets it afterwards; and a new writer sets it, in case his predecessor died in between.
package lockfile
