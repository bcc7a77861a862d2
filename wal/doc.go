// Package wal is the write-ahead log: one file of checksummed records, each the
// logical operations of a group of transactions, written behind each other and
// round in a preallocated file, and read again after an unclean stop.
//
// The package owns the file's format (header.go, record.go, ops.go), where in the
// file the next record goes (space.go), and the verdict where the log ends
// (recover.go). It does not know what the operations mean, when to checkpoint, or
// which position a checkpoint has made durable: its caller says so with
// Log.Release. It syncs when told, and before it uses space that it has added.
//
// # The file
//
// A header block of 512 bytes at 0, written once; records from 4096 on, each
// starting on a multiple of 512, but for tails. A record has an LSN: the number of bytes ever
// logged before it, with the gaps between them. LSNs never go back. A record names its
// epoch and the checksum of the record before it, so a Position (LSN, offset,
// epoch, checksum of the record before) says exactly which record may come next.
// To go on elsewhere in the file the log writes a link record, which names the
// place and a new random epoch.
//
// A record that nobody waits for takes no more than it needs, so that tails can follow
// it in the block in which it ends, and each other: small records behind which the
// log is not synced. Together they are a run. What follows a position is a tail there, or
// a record at the next multiple of 512. A checkpoint may name a position within a run.
//
// The live part is [released, end) in LSNs, and a list of segments in the
// file, one after each link. Rules:
//
//	R1 Nothing in the live part is written over, nor is the anchor: the first
//	   block of the record that ends at the released position, or its run up to there.
//	R2 A segment keeps a block in reserve behind its end, so there is
//	   always room for the link that leaves it.
//	R3 Space is used only after zeros were written to it and synced, size and
//	   all, so that appending overwrites allocated blocks and cannot run out of space.
//	R4 A record carries how far the log had been synced when it was written (its
//	   claim), counting only records whose write had returned before a sync began.
//	R5 The first failed write of a record, or failed sync of anything, is the
//	   last operation: nothing is written afterwards.
//	R6 Opening after an unclean stop first appends a link: a new epoch.
//	R7 A block that a sync may have covered is not written to again: a run ends where a
//	   sync begins. It ends also where a sync is known to have ended, so that
//	   the next record has a head, which says so (R4).
//
// What the caller must keep: it releases a position only after each checkpoint
// that can still be chosen lies at or behind it, and after that much was synced;
// before Recover it syncs the file and drops its cache, so that what is
// read is what the disk has.
//
// # Where the log ends
//
// Reading starts at a checkpoint's position and stops at the first block that is
// not the record expected there: that LSN is x. A torn write and damage look
// alike there, so the rest of the file is searched for any record header, of whatever epoch,
// that is sound in itself and claims a sync beyond x. One found: what it claims
// was on the disk and is not any more, which is corruption. None: the log ends at x.
//
// No false alarm. Let a head in the file claim S. When it was written, in some
// life of the log, all of [released, S) was on the disk (R4, R5). While that is
// live it is not written over (R1), so a recovery that starts in it reads at
// least up to S, for the records there follow from one another; and one that
// starts behind it has x >= S anyway. The next life continues at x >= S and
// shares [released, S) with the one before, so the same holds for every later
// life, by induction. Two cases of it. Records of a recycled part claim at
// most their own LSN, which lies below any position that can be chosen. Records
// of a lost timeline (behind the end x that a recovery found, whether it saw them
// or they come to light later) claim at most that x; the ends that later
// recoveries find only rise, while the claims stay as they are.
//
// Nothing invented. A record counts only at the LSN expected, in the epoch
// expected and chained to the record before; a tail's checksum is of what it is chained
// to as well, and LSN and epoch are those of its run. A record of a lost timeline has
// the epoch of its own life; the life that replaced it began with a link (R6) of a fresh
// random epoch, whose checksum starts a different chain.
//
// A log cut short is seen, not taken for its end: by R2 and R3 the file reaches
// at least a block past the end of the log. A log that lost everything since the
// checkpoint (an older copy put back, or zeros) is seen by the anchor: where no
// record follows the position, the record before it, whose checksum the
// position knows, must still be there.
//
// What cannot be seen: damage in the groups that the last sync covered, when
// nothing was written behind them, looks like a torn write.
package wal
