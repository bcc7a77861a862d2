package fuzz

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/foliodb/folio"
)

var fullFlag = flag.Int("folio.full", 24, "sizes of the disk that TestFullDisk fills")

// TestFullDisk fills disks of many sizes. What does not fit fails with ENOSPC, and with nothing else; nothing is poisoned;
// what was acknowledged can be read all the while, survives a kill in this state, and a reopen once there is
// more room; and then writing goes on.
func TestFullDisk(t *testing.T) {
	if !withMounts(t, true) {
		return
	}
	seed := firstSeed()
	s := newSeeded(seed)
	dir := scratch(t)
	var c fullCounts
	for range *fullFlag {
		pages := 1 + s.intn(180)
		if err := fillDisk(t, filepath.Join(dir, "disk"), filepath.Join(dir, "copy.db"), pages, s, &c); err != nil {
			t.Fatalf("-folio.seed=%d, disk of %d pages: %v", seed, pages, err)
		}
	}
	t.Logf("%d disks, %d too small for a store, %d large enough for all, %d commits acknowledged, %d refused, %d reopened while full, %d not",
		*fullFlag, c.none, c.roomy, c.acknowledged, c.refused, c.reopened, c.waited)
	if c.acknowledged < *fullFlag || c.roomy > *fullFlag/2 {
		t.Error("this was no test")
	}
}

type fullCounts struct{ none, roomy, acknowledged, refused, reopened, waited int }

// full passes nil, and ENOSPC as what may happen; the result tells which.
func full(what string, err error) (refused bool, bad error) {
	if err == nil {
		return false, nil
	}
	if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, folio.ErrPoisoned) {
		return true, nil
	}
	return true, fmt.Errorf("%s: %w", what, err)
}

// fillDisk is TestFullDisk on one disk.
func fillDisk(t *testing.T, disk, copied string, pages int, s seeded, c *fullCounts) error {
	if err := os.MkdirAll(disk, 0o700); err != nil {
		return err
	}
	mountTmpfs(t, disk, fmt.Sprintf("%dk", 4*pages), false)
	defer syscall.Unmount(disk, syscall.MNT_DETACH)
	path := filepath.Join(disk, "app.db")
	db, err := folio.Open(path, ledgerOptions())
	if refused, bad := full("Open", err); bad != nil {
		return bad
	} else if refused {
		c.none++
		if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
			return fmt.Errorf("a store that could not be made left %v: %w", left, err)
		}
		return nil
	}
	var acknowledged [ledgers]int
	before := c.refused
	if err := fillStore(db, s, &acknowledged, c); err != nil {
		return err
	}
	if c.refused == before {
		c.roomy++
	}
	_, bad := full("Checkpoint", db.Checkpoint())
	_, worse := full("Check", db.Check())
	if err := errors.Join(bad, worse, db.View(audit)); err != nil {
		return fmt.Errorf("when the disk is full: %w", err)
	}
	if db.Stats().Poisoned {
		return errors.New("a full disk has poisoned the store")
	}
	// As a kill leaves it, on a disk with room.
	seen := acknowledged
	if err := errors.Join(copyStore(path, copied), survived(copied, false, &seen)); err != nil {
		return fmt.Errorf("after a kill: %w", err)
	}
	if seen != acknowledged {
		return fmt.Errorf("after a kill: commits %v, acknowledged %v, and all others were refused", seen, acknowledged)
	}
	if _, bad := full("Close", db.Close()); bad != nil {
		return bad
	}
	db, err = folio.Open(path, ledgerOptions())
	if refused, bad := full("Open", err); bad != nil {
		return fmt.Errorf("again, when full: %w", bad)
	} else if refused {
		c.waited++
	} else {
		c.reopened++
		if _, bad := full("Close", db.Close()); bad != nil {
			return bad
		}
	}
	mountTmpfs(t, disk, fmt.Sprintf("%dk", 4*pages+8<<10), true)
	if err := survived(path, s.intn(2) == 0, &seen); err != nil {
		return fmt.Errorf("with more room: %w", err)
	}
	if seen != acknowledged {
		return fmt.Errorf("with more room: commits %v, acknowledged %v", seen, acknowledged)
	}
	return goesOn(path)
}

// fillStore has all goroutines commit until each has been refused some times.
func fillStore(db *folio.DB, s seeded, acknowledged *[ledgers]int, c *fullCounts) error {
	var mu sync.Mutex
	var errs error
	var all sync.WaitGroup
	relaxed := s.intn(3) == 0
	for g := range ledgers {
		all.Go(func() {
			for refusals := 0; refusals < 8; {
				n := 0
				err := db.Update(func(tx *folio.Tx) (err error) {
					if relaxed {
						tx.SetDurability(folio.Relaxed)
					}
					n, err = advance(tx, g)
					return err
				})
				refused, bad := full("Update", err)
				if err := db.View(auditSum); err != nil {
					bad = errors.Join(bad, fmt.Errorf("view: %w", err))
				}
				mu.Lock()
				errs = errors.Join(errs, bad)
				over := errs != nil
				if refused {
					refusals++
					c.refused++
				} else {
					acknowledged[g] = n
					c.acknowledged++
				}
				mu.Unlock()
				if over || n > 600 {
					return
				}
			}
		})
	}
	all.Wait()
	return errs
}

// goesOn commits to a store that has room again.
func goesOn(path string) error {
	db, err := folio.Open(path, ledgerOptions())
	if err != nil {
		return err
	}
	for i := range 20 {
		err = errors.Join(err, db.Update(func(tx *folio.Tx) error { _, err := advance(tx, i%ledgers); return err }))
	}
	return errors.Join(err, db.View(audit), db.Check(), db.Close())
}
