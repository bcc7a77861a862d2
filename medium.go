package folio

import (
	"fmt"

	"github.com/foliodb/folio/internal/vfs"
)

// A store needs a file system on which a mapping shows what is written through a descriptor, at once and to every
// process, and on which locks hold. Local file systems are so. Network file systems are not, between hosts: the page
// cache of one knows nothing of what another one writes. Of overlay and FUSE some are and some are not: a file
// that overlay copies to its upper layer leaves older mappings of it behind on the lower one, and a FUSE server
// may go past the page cache. So there the mapping is held against the file when the store is opened, and again
// whenever meta slots have been written: the first time is before the first commit is acknowledged. A process that only reads
// does it whenever another one shows it a new state.

// checkMedium refuses a file on a network file system, and notes whether the mapping has to be looked at.
func (db *DB) checkMedium(f vfs.File) error {
	m, err := f.Medium()
	if err != nil {
		return err
	}
	if m.Network && !db.opts.AllowNetwork {
		return fmt.Errorf("%w: %s is on %s, where mapping and locks do not hold between hosts; Options.AllowNetwork opens it all the same",
			ErrFileSystem, db.path, m.Name)
	}
	db.doubtful = m.Network || m.Doubtful
	return nil
}

// checkMapping looks whether the mapping shows what the meta slots say, where that is in doubt.
func (db *DB) checkMapping() error {
	if !db.doubtful {
		return nil
	}
	same, err := db.data.Coherent()
	if err == nil && !same {
		err = fmt.Errorf("%w: the mapping of %s does not show what the file holds", ErrFileSystem, db.path)
	}
	return err
}
