package folio

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
)

// Case A4 of RELIABILITY.md. A transaction supersedes pages that an earlier one of the same open group has spilled. What is
// born and dead within one group was never visible, so their numbers could be used again at once; but the second transaction
// rolls back, and the group's tree refers to them. Before its commit a transaction gets its own numbers back, and no others.
func TestRollbackInTheOpenGroup(t *testing.T) {
	fsys := newHookFS()
	db := mustOpen(t, &Options{fs: fsys, MemoryLimit: minLimit})
	key := func(i int) []byte { return fmt.Appendf(nil, "%06d", i) }
	const some = 10 // changes every leaf by few operations: more would not go to the log
	put := func(tx *Tx, step int, v []byte) error {
		tx.Root().Len() // takes it to the tree
		for i := 0; i < 4000; i += step {
			if err := tx.Root().Put(key(i), v); err != nil {
				return err
			}
		}
		return nil
	}
	must(t, db.Update(func(tx *Tx) error { return put(tx, 1, bytes.Repeat([]byte{'a'}, 300)) }))
	must(t, db.Checkpoint())

	reached, release := stopLogSync(fsys, nil)
	var errs [2]error
	leader, member := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(leader)
		errs[0] = db.Update(func(tx *Tx) error { return tx.Root().Put([]byte("x"), nil) })
	}()
	waitFor(t, "the leader", reached)
	var written atomic.Int64 // runs of pages, by the transaction under way
	count := hookFunc(func(kind vfs.Kind, f vfs.File, _ int64, _ []byte) error {
		if kind == vfs.KindWrite && !isLog(f) {
			written.Add(1)
		}
		return nil
	})
	spills := func(v string, end error) error {
		return db.Update(func(tx *Tx) error {
			written.Store(0)
			err := put(tx, some, []byte(v))
			if written.Load() == 0 {
				t.Errorf("%s: no page was spilled", v)
			}
			return errors.Join(err, end)
		})
	}
	fsys.after.Store(&count)
	go func() { defer close(member); errs[1] = spills("b", nil) }()
	for waiting := 0; waiting == 0; {
		db.groups.mu.Lock()
		if db.groups.open != nil {
			waiting = db.groups.open.waiters
		}
		db.groups.mu.Unlock()
	}
	if err := spills("c", errTakenBack); !errors.Is(err, errTakenBack) {
		t.Error(err)
	}
	close(release)
	waitFor(t, "the leader", leader)
	waitFor(t, "the group", member)
	must(t, errors.Join(errs[:]...))

	path := crashCopy(t, db.Path())
	for what, db := range map[string]*DB{"store": db, "replayed": mustOpenAt(t, path, nil)} {
		for i := range 4000 {
			if v := get(t, db, string(key(i))); !strings.HasPrefix(v, "a") && i%some > 0 || v != "b" && i%some == 0 {
				t.Fatalf("%s: key %d has %.9q", what, i, v)
			}
		}
		must(t, db.Check())
	}
}
