package fuzz

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/foliodb/folio"
)

var thinFlag = flag.Int("folio.thin", 0, "disks whose write-back fails that TestThinDisk makes; it needs root")

// Sizes of TestThinDisk, in KiB.
const (
	thinImage = 12 << 10
	thinRoom  = 16 << 10 // of the file system that the image lies in
)

// TestThinDisk runs the store on a real disk that fails: an ext4 in a loop device, whose image is sparse in half of the
// blocks that the store is going to write, on a file system that is full. A write succeeds, as it goes to the cache; the write-back fails,
// and the next sync tells, once, and never again. The store must refuse all writes from then on, must have acknowledged
// nothing that is not on the disk, and must not believe, at the next open, what is only in the cache.
//
//	go test ./fuzz -run TestThinDisk -folio.thin 20 -v
func TestThinDisk(t *testing.T) {
	if *thinFlag == 0 {
		t.Skip("makes loop devices: give -folio.thin")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "filefrag", "fallocate"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s here", tool)
		}
	}
	if !withMounts(t, false) {
		return
	}
	seed := firstSeed()
	s := newSeeded(seed)
	var c thinCounts
	for i := range *thinFlag {
		d := &thinDisk{t: t, room: t.TempDir(), disk: t.TempDir(), s: s}
		if err := errors.Join(d.run(&c), d.unmount()); err != nil {
			t.Fatalf("-folio.seed=%d, disk %d: %v", seed, i, err)
		}
	}
	t.Logf("%d disks: %d stores poisoned, %d commits acknowledged, %d reopened while the disk failed, %d not, all whole afterwards",
		*thinFlag, c.poisoned, c.acknowledged, c.reopened, c.refused)
	if c.poisoned == 0 {
		t.Error("no sync failed: this was no test")
	}
}

type thinCounts struct{ poisoned, acknowledged, reopened, refused int }

// A thinDisk is an ext4 on a loop device, in an image that cannot take all blocks.
type thinDisk struct {
	t          *testing.T
	room, disk string // the folders where the two are mounted
	s          seeded
}

func (d *thinDisk) image() string { return filepath.Join(d.room, "image") }

// command runs a tool of the system.
func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return string(out), err
}

// mount makes the disk. What the machine does not allow skips the test.
func (d *thinDisk) mount() {
	mountTmpfs(d.t, d.room, fmt.Sprintf("%dk", thinRoom), false)
	for _, c := range [][]string{
		{"fallocate", "-l", fmt.Sprintf("%dKiB", thinImage), d.image()},
		{"mkfs.ext4", "-q", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", d.image()},
		{"mount", "-o", "loop,nodiscard", d.image(), d.disk},
	} {
		if _, err := command(c[0], c[1:]...); err != nil {
			d.t.Skip(err)
		}
	}
}

func (d *thinDisk) unmount() error {
	_, err := command("umount", d.disk)
	_, again := command("umount", d.room)
	return errors.Join(err, again)
}

// punch gives back the image's space of every other block of a file, of those that hold nothing yet, and fills the
// file system that the image lies in.
func (d *thinDisk) punch(name string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := command("filefrag", "-v", "-b4096", name)
	if err != nil {
		return err
	}
	n := 0
	for _, m := range extentLine.FindAllStringSubmatch(text, -1) {
		at, _ := strconv.Atoi(m[1])
		from, _ := strconv.Atoi(m[2])
		to, _ := strconv.Atoi(m[3])
		for block := from; block <= to; block++ {
			own := content[min(len(content), (at+block-from)*4096):min(len(content), (at+block-from+1)*4096)]
			if d.s.intn(2) == 0 || len(bytes.Trim(own, "\x00")) > 0 {
				continue
			}
			n++
			if _, err := command("fallocate", "-p", "-o", fmt.Sprint(block*4096), "-l", "4096", d.image()); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no block of %s found: %s", name, text)
	}
	return d.fill()
}

// extentLine is one of filefrag's: the first block in the file, the first and the last one on the disk.
var extentLine = regexp.MustCompile(`(?m)^ *\d+: +(\d+)\.\. *\d+: +(\d+)\.\. *(\d+):`)

func (d *thinDisk) filler() string { return filepath.Join(d.room, "filler") }

// fill takes all space that is left beside the image.
func (d *thinDisk) fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 4096)
	for {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// run fills a store, makes its disk fail, and looks what is left of it.
func (d *thinDisk) run(c *thinCounts) error {
	d.mount()
	path := filepath.Join(d.disk, "app.db")
	db, err := folio.Open(path, ledgerOptions())
	if err != nil {
		return err
	}
	var acknowledged [ledgers]int
	commit := func(i int) error {
		n := 0
		err := db.Update(func(tx *folio.Tx) (err error) {
			n, err = advance(tx, i%ledgers)
			return err
		})
		if err == nil {
			acknowledged[i%ledgers] = n
			c.acknowledged++
		}
		return err
	}
	for i := range 120 {
		if err := commit(i); err != nil {
			return err
		}
	}
	if err := db.Checkpoint(); err != nil {
		return err
	}
	for i := range 30 { // the log has been in use behind the checkpoint
		if err := commit(i); err != nil {
			return err
		}
	}
	// The space that was reserved ahead goes, in the data file or in the log.
	syscall.Sync()
	if err := d.punch(path + []string{"", "-wal"}[d.s.intn(2)]); err != nil {
		return err
	}
	var failed error
	for i := 0; failed == nil && i < 2000; i++ {
		if failed = commit(i); failed == nil && i%20 == 19 {
			failed = db.Checkpoint()
		}
	}
	if failed == nil {
		return errors.New("no commit and no checkpoint failed")
	}
	if db.Stats().Poisoned {
		c.poisoned++
		if err := commit(0); !errors.Is(err, folio.ErrPoisoned) {
			return fmt.Errorf("a poisoned store commits: %v", err)
		}
	}
	// A view of what was acknowledged last may need the disk, to write pages to it.
	if err := db.View(auditSum); err != nil && !errors.As(err, new(syscall.Errno)) {
		return fmt.Errorf("view after %v: %w", failed, err)
	}
	_ = db.Close() // it says why it cannot
	// As a process that knows nothing of this finds it, with the page cache as it is.
	again, err := folio.Open(path, ledgerOptions())
	if err == nil {
		c.reopened++
		err = again.View(audit)
		_ = again.Close()
		if err != nil && !errors.As(err, new(syscall.Errno)) {
			return fmt.Errorf("reopened: %w", err)
		}
	} else {
		c.refused++
	}
	// The disk is well again, and has lost its cache.
	if err := os.Remove(d.filler()); err != nil {
		return err
	}
	if _, err := command("umount", d.disk); err != nil {
		return err
	}
	if _, err := command("mount", "-o", "loop,nodiscard", d.image(), d.disk); err != nil {
		return err
	}
	return survived(path, false, &acknowledged)
}
