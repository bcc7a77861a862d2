package folio

import (
	"os"

	"github.com/foliodb/folio/page"
)

// A private store reads the data file, through a private mapping, and keeps its own pages in memory that the
// mapping goes on into where the file ends. It never takes a page of the file itself, free or not: the free ones are put
// aside (AppendOnly). So nothing that it reads is ever written to, neither by itself nor, as long as its lock keeps
// writers out, by others; and a page that it copies costs that page. Beyond this it is a store in memory: no log,
// no checkpoint, no meta slots.

// privateAlign is where the memory may begin: at a multiple of all page sizes, the store's and those of systems.
const privateAlign = 64 << 10

// makePrivate puts the private file in the place of the data file.
func (db *DB) makePrivate() error {
	f, base, err := db.file.Private(privateAlign)
	if err != nil {
		return err
	}
	db.file, db.volatile = f, true
	db.privateFrom = max(page.ID(base/int64(db.pageSize)), page.FirstID)
	return nil
}

// replayVolatile applies the log in memory, whatever its size.
func (db *DB) replayVolatile() error {
	f, err := db.openLog(db.newest(), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	db.recovering = true
	defer func() { db.recovering = false }()
	r, err := db.replay(f)
	if err != nil || r.tx == nil {
		if r.tx != nil {
			r.tx.abort()
		}
		return err
	}
	r.tx.id = r.last
	err = r.tx.joinMemory()
	r.tx.end()
	db.writer.Unlock()
	db.leave()
	return err
}
