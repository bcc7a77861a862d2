package fuzz

import (
	"errors"
	"fmt"

	"github.com/foliodb/folio"
)

// A ledger is content that tells by itself whether it is whole. Each of several
// goroutines has a bucket whose content is a function of the number of commits
// that the goroutine has made, and each commit also takes a number from the root
// bucket's sequence. So a store is right when every bucket is that of its count and
// the counts add up to the sequence: then it is the state after some commit, and
// none was lost, torn or mixed with another.
const (
	ledgers     = 4  // goroutines
	ledgerItems = 40 // keys that a bucket holds at most
	chapter     = 16 // commits from one nested bucket to the next
	bulkEvery   = 50 // commits of the first goroutine from one large one to the next
	bulkItems   = 400

	// The last goroutine makes a bucket so large that its removal leaves much of the file free, and it is cut.
	ballastMade  = 60 // commits behind a multiple of ballastEvery at which it is made
	ballastGone  = 80
	ballastEvery = 100
	ballastItems = 250
	ballastSize  = 3000
)

func ledgerName(g int) []byte { return fmt.Appendf(nil, "ledger%d", g) }

// entry is what the n-th commit of goroutine g puts. A few values are larger than a
// page, and a few keys longer than what a node keeps whole.
func entry(g, n int) (key []byte, v value) {
	v = value{n: n * 37 % 400, seed: uint32(n*ledgers + g)}
	if n%23 == 0 {
		v.n = 4000 + n%9000
	}
	key = fmt.Appendf(nil, "%08d", n)
	if n%29 == 0 {
		key = append(key, make([]byte, 700)...)
	}
	return key, v
}

func chapterName(n int) []byte { return fmt.Appendf(nil, "chapter%08d", n/chapter) }

func bulkEntry(n, i int) (key []byte, v value) {
	return fmt.Appendf(nil, "bulk%05d", i), value{n: 300, seed: uint32(n*bulkItems + i)}
}

// count returns how many commits of goroutine g the transaction sees.
func count(tx *folio.Tx, g int) int {
	if b := tx.Bucket(ledgerName(g)); b != nil {
		return int(b.Sequence())
	}
	return 0
}

// advance makes the next commit of goroutine g within tx, and gives its number.
func advance(tx *folio.Tx, g int) (int, error) {
	b, err := tx.CreateBucketIfNotExists(ledgerName(g))
	if err != nil {
		return 0, err
	}
	_, err = tx.Root().NextSequence()
	if err != nil {
		return 0, err
	}
	seq, err := b.NextSequence()
	n := int(seq)
	if err != nil {
		return 0, err
	}
	key, v := entry(g, n)
	if err := b.Put(key, v.append(nil)); err != nil {
		return 0, err
	}
	if old, _ := entry(g, n-ledgerItems); n > ledgerItems {
		if err := b.Delete(old); err != nil {
			return 0, err
		}
	}
	if err := turnChapter(b, n); err != nil {
		return 0, err
	}
	switch {
	case g == 0 && n%bulkEvery == 0:
		err = rewriteBulk(tx, n)
	case g == ledgers-1 && n%ballastEvery == ballastMade:
		err = makeBallast(tx, n)
	case g == ledgers-1 && n%ballastEvery == ballastGone:
		err = tx.DeleteBucket([]byte("ballast"))
	}
	return n, err
}

func makeBallast(tx *folio.Tx, n int) error {
	b, err := tx.CreateBucket([]byte("ballast"))
	for i := range ballastItems {
		if err == nil {
			err = b.Put(ballastEntry(n, i))
		}
	}
	return err
}

func ballastEntry(n, i int) (key, v []byte) {
	return fmt.Appendf(nil, "ballast%05d", i), value{n: ballastSize, seed: uint32(n*ballastItems + i)}.append(nil)
}

// turnChapter writes the nested bucket of commit n, and removes the one before
// when a new one begins.
func turnChapter(b *folio.Bucket, n int) error {
	c, err := b.CreateBucketIfNotExists(chapterName(n))
	if err != nil {
		return err
	}
	key, v := entry(0, n)
	if err := c.Put(key, v.append(nil)); err != nil {
		return err
	}
	if n%chapter == 0 {
		return b.DeleteBucket(chapterName(n - chapter))
	}
	return nil
}

// rewriteBulk replaces a whole bucket, in a commit too large for the log.
func rewriteBulk(tx *folio.Tx, n int) error {
	b, err := tx.CreateBucketIfNotExists([]byte("bulk"))
	if err != nil {
		return err
	}
	if _, err := b.DeleteRange(nil, nil); err != nil {
		return err
	}
	for i := range bulkItems {
		key, v := bulkEntry(n, i)
		if err := b.Put(key, v.append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// auditSum checks that the commits of all goroutines add up, which reads little.
func auditSum(tx *folio.Tx) error {
	sum := 0
	for g := range ledgers {
		sum += count(tx, g)
	}
	return same("commits in all", uint64(sum), tx.Root().Sequence())
}

// audit checks the whole content against the counts that tx sees.
func audit(tx *folio.Tx) error {
	root := newBucket(nil, "")
	root.seq = tx.Root().Sequence()
	for g := range ledgers {
		n := count(tx, g)
		if n == 0 {
			continue
		}
		modelLedger(root.createBucket(ledgerName(g)), g, n)
		if k := n % ballastEvery; g == ledgers-1 && k >= ballastMade && k < ballastGone {
			ballast := root.createBucket([]byte("ballast"))
			for i := range ballastItems {
				ballast.put(item{key: string(fmt.Appendf(nil, "ballast%05d", i)), value: value{n: ballastSize, seed: uint32((n-k+ballastMade)*ballastItems + i)}})
			}
		}
		if g == 0 && n >= bulkEvery {
			bulk := root.createBucket([]byte("bulk"))
			for i := range bulkItems {
				key, v := bulkEntry(n-n%bulkEvery, i)
				bulk.put(item{key: string(key), value: v})
			}
		}
	}
	return errors.Join(auditSum(tx), compare(tx.Root(), root))
}

// modelLedger fills b with what n commits of goroutine g leave.
func modelLedger(b *bucket, g, n int) {
	b.seq = uint64(n)
	for i := max(1, n-ledgerItems+1); i <= n; i++ {
		key, v := entry(g, i)
		b.put(item{key: string(key), value: v})
	}
	first := n - n%chapter
	if first == 0 {
		first = 1
	}
	c := b.createBucket(chapterName(n))
	for i := first; i <= n; i++ {
		key, v := entry(0, i)
		c.put(item{key: string(key), value: v})
	}
}
