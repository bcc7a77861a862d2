// Package folio is an embedded, transactional, ordered key-value store. A B+tree lies in one file that is mapped
// read-only: readers walk the mapping without a system call and without a copy. Commits become durable through a
// log beside the file, and those that come at the same time share its syncs; a checkpoint makes the file itself
// durable.
//
// # A tour
//
// A store is one file, and while it is open a log beside it, app.db-wal:
//
//	db, err := folio.Open("app.db", nil)
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//
// Keys and values are bytes; they lie in buckets, which may hold buckets. Update changes them in one transaction:
// all of it takes place or, when the function returns an error, nothing does. When Update has returned nil the
// changes are on the disk:
//
//	err = db.Update(func(tx *folio.Tx) error {
//		users, err := tx.CreateBucketIfNotExists([]byte("users"))
//		if err != nil {
//			return err
//		}
//		return users.Put([]byte("ada"), []byte("1815"))
//	})
//
// View reads one state of the store that does not change, whatever is committed meanwhile:
//
//	err = db.View(func(tx *folio.Tx) error {
//		users := tx.Bucket([]byte("users")) // nil: there is none
//		fmt.Printf("ada: %s\n", users.Get([]byte("ada")))
//		for k, v := range users.Prefix([]byte("a")) {
//			fmt.Printf("%s: %s\n", k, v)
//		}
//		return nil
//	})
//
// Keys are in bytewise order. A bucket knows how many items it has and where each stands: Len, Count, Rank and At
// cost at most two walks down the tree. DeleteRange cuts whole subtrees off. A Cursor moves both ways and keeps its
// place while the bucket changes.
//
// # Slices
//
// What Get, cursors and iterators return are slices of the mapped file. They are valid, and do not change, until
// their transaction ends, in a write transaction too. After that they must not be touched: copy what is to outlive
// it. Never write to them. Do not send one on a channel, or use one in a goroutine of its own, but copy it before:
// when the disk fails under the mapping, View and Update can turn the fault into an error only in the goroutine
// that called them, and in a channel operation the runtime cannot be stopped from ending the process. What is
// passed to Put is copied.
//
// # What waits for what
//
// There is one write transaction at a time; Update and Begin(true) wait for the one before. It has the store to
// itself until its commit has been merged; then the next one starts, while the first waits for the disk. A sync
// covers every commit that came while the last one ran, so many goroutines that call Update share few syncs.
//
// A read transaction waits for nobody and nobody waits for it, but for this: a reader that begins after a commit
// that no reader has seen writes its pages to the file first, without a sync, or waits for who is writing pages
// just then. In a process that only reads it may also wait for one that is opening the store to write it, Options.LockTimeout
// at most. A read transaction held open for long keeps the pages that it can reach from being reused, and delays
// Close, which waits for all transactions. Growth of the file, checkpoints, Check, Backup and Compact run beside
// readers and writers.
//
// View inside Update, and Update inside View, in one goroutine are allowed: the reader sees the state before the
// write. Update inside Update never returns, since the inner one waits for the outer.
//
// A DB may be used by all goroutines at once. So may a read transaction and its buckets; each goroutine has its own
// Cursor. A write transaction belongs to one goroutine at a time.
//
// One process at a time has a store open for writing. Up to 448 others may read it: on Linux beside that one, elsewhere
// while there is none (see Options.ReadOnly). The same file twice in one process
// is ErrAlreadyOpen. With Options.Private a process reads a store and changes it for itself alone: for tests on real
// data, or to see what a change would do.
//
// # Durability
//
// By default a commit is acknowledged when it is on the disk. With Durability: Relaxed in Options or in
// Tx.SetDurability it is acknowledged when the operating system has it: the death of the process loses nothing, and
// a power cut takes at most the last SyncInterval, in order. DB.Sync makes all commits so far durable. What is
// recovered is always a state that was committed.
//
// # Errors
//
// Errors of use are variables, such as ErrKeyTooLarge, to be tested for with errors.Is; they leave a transaction as
// it was. Any other error of a change (no space, damage, a failed read) dooms its transaction: later changes and
// Commit return it. Damage is a *CorruptError, which says in which page and byte it is, and is ErrCorrupt; damage
// in the log is ErrLogCorrupt. Every page is verified when a process first reads it.
//
// A full disk fails the transaction that needed space, with an error that is syscall.ENOSPC, and the store goes on.
// A failed sync, or a failed write of the log or of a meta slot, is another matter: what the disk holds then nobody
// knows, so all further writes are ErrPoisoned, reads go on, and the next Open finds what was acknowledged.
//
// Using what has ended is a mistake of the program: methods that return an error return one (ErrTxClosed,
// ErrDatabaseNotOpen), others panic with a text that names the mistake. Methods without an error result that meet
// damage end the function of View or Update, which returns the error; in a transaction made with Begin they return
// what stands for absent, and Tx.Err tells.
package folio
