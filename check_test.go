package folio

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/page"
)

// checkedStore is a sound store of which copies are damaged.
type checkedStore struct {
	t     *testing.T
	mem   *memFS
	data  []byte
	used  pageSet // reached, or of the free set
	runs  map[page.ID]page.ID
	cases int
}

func newCheckedStore(t *testing.T, data []byte) *checkedStore {
	c := &checkedStore{t: t, mem: newMemFS(sweepFile), data: data, runs: map[page.ID]page.ID{}}
	db, err := c.open(c.data)
	must(t, err)
	defer db.Close()
	must(t, db.Check())
	must(t, db.View(func(tx *Tx) error {
		return tx.audit(func(a *audit) { c.used = slices.Clone(a.used) })
	}))
	own := db.newestSlot().own
	for id := own.Start; id < own.Start+own.N; id++ {
		c.used.add(id)
	}
	// What is in use and no node is a run; a finding is about the page that the run begins with.
	first := page.ID(0)
	for id := page.FirstID; int(id) < len(c.data)/sweepPage; id++ {
		if !c.used.has(id) || page.Validate(c.page(c.data, id), id) == nil {
			first = 0
			continue
		}
		if first == 0 || id == own.Start {
			first = id
		}
		c.runs[id] = first
	}
	return c
}

func (c *checkedStore) page(data []byte, id page.ID) []byte {
	return data[int(id)*sweepPage:][:sweepPage]
}

func (c *checkedStore) open(data []byte) (*DB, error) {
	c.mem.put("/a.db", data)
	return Open("/a.db", &Options{ReadOnly: true, reservation: sweepFile, fs: c.mem})
}

// findings opens a damaged copy and checks it. Each finding must name the file, a page, an offset in it, and an invariant that
// a page can break; only what is said of the account is about a page as a whole.
func (c *checkedStore) findings(what string, data []byte) (all []*CorruptError) {
	c.cases++
	db, err := c.open(data)
	if err == nil {
		err = errors.Join(db.Check(), db.Close())
	}
	for _, e := range leaves(err) {
		var found *CorruptError
		if !errors.As(e, &found) {
			c.t.Errorf("%s: a finding that names no page: %v", what, e)
			continue
		}
		whole := found.Reason == neitherNor || found.Reason == bothAnd
		if found.File != "a.db" || found.Invariant < 1 || found.Invariant > 3 || found.Offset >= sweepPage || (found.Offset < 0) != whole {
			c.t.Errorf("%s: a finding without file, offset or invariant: %+v", what, found)
		}
		all = append(all, found)
	}
	return all
}

// foundIn returns the pages that findings are about.
func foundIn(all []*CorruptError) (pages []page.ID) {
	for _, found := range all {
		pages = append(pages, found.Page)
	}
	return pages
}

// leaves takes an error apart into those that it joins.
func leaves(err error) (all []error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, leaves(e)...)
		}
		return all
	}
	if err != nil {
		all = append(all, err)
	}
	return all
}

// names reports whether a finding says that the page, or the run that it is of, is not the one that belongs there: its checksum
// at its beginning, or its number.
func (c *checkedStore) names(all []*CorruptError, id page.ID) bool {
	first, run := c.runs[id]
	return slices.ContainsFunc(all, func(found *CorruptError) bool {
		return found.Invariant == 2 && (found.Page == id || run && found.Page == first) &&
			(found.Offset == 0 && strings.Contains(found.Reason, "checksum") || found.Offset == 8 && !run)
	})
}

// slack reports whether a byte lies behind a run's content, where nothing reads.
func (c *checkedStore) slack(at int) bool {
	id := page.ID(at / sweepPage)
	_, run := c.runs[id]
	rest := c.page(c.data, id)[at%sweepPage:]
	return run && !slices.ContainsFunc(rest, func(b byte) bool { return b != 0 })
}

// TestCheckNamesDamage changes bytes and pages one by one. Check says of each that the store uses which page's checksum, or
// number, is wrong; of all others nothing. TestCheckNamesFields has what a checksum hides. All bytes:
//
//	go test -run TestCheckNamesDamage -folio.damage -v .
func TestCheckNamesDamage(t *testing.T) {
	c := newCheckedStore(t, newSweepStore(t, true).data)
	rng := rand.New(rand.NewPCG(*crashSeed, 8))
	b := slices.Clone(c.data)
	for at := range b {
		if !*damageAll && rng.IntN(20) > 0 {
			continue
		}
		b[at] ^= 1 << (at % 8)
		c.judge(at, c.findings(fmt.Sprintf("byte %d", at), b), b)
		b[at] = c.data[at]
	}
	for id := page.FirstID; int(id) < len(b)/sweepPage; id++ {
		c.wholePage(id)
	}
	t.Logf("%d cases", c.cases)
}

// judge says what is wrong with the findings about one changed byte.
func (c *checkedStore) judge(at int, all []*CorruptError, b []byte) {
	id := page.ID(at / sweepPage)
	switch {
	case id < page.FirstID:
		// The other slot counts, so that the store is sound; folio check adds a note about this one.
		if _, err := page.DecodeMeta(c.page(b, id), int(id)); at%sweepPage < page.MetaSize && err == nil {
			c.t.Errorf("byte %d of a meta slot: not found", at)
		}
		if len(all) > 0 {
			c.t.Errorf("byte %d of a meta slot: found in pages %d", at, foundIn(all))
		}
	case !c.used.has(id) || c.slack(at):
		if len(all) > 0 {
			c.t.Errorf("byte %d, which nothing reads: found in pages %d", at, foundIn(all))
		}
	case !c.names(all, id):
		c.t.Errorf("byte %d of page %d: found %v", at, id, all)
	}
}

// wholePage zeroes a page in use, and swaps it with each other one in use.
func (c *checkedStore) wholePage(id page.ID) {
	if !c.used.has(id) {
		return
	}
	b := slices.Clone(c.data)
	clear(c.page(b, id))
	if all := c.findings(fmt.Sprintf("page %d zeroed", id), b); !c.names(all, id) {
		c.t.Errorf("page %d zeroed: found %v", id, all)
	}
	for other := id + 1; int(other) < len(b)/sweepPage; other++ {
		if !c.used.has(other) || string(c.page(c.data, id)) == string(c.page(c.data, other)) {
			continue
		}
		copy(c.page(b, id), c.page(c.data, other))
		copy(c.page(b, other), c.page(c.data, id))
		all := c.findings(fmt.Sprintf("pages %d and %d swapped", id, other), b)
		// Below a page that cannot be read nobody looks.
		if !c.names(all, id) && !c.names(all, other) {
			c.t.Errorf("pages %d and %d swapped: found %v", id, other, all)
		}
		copy(c.page(b, other), c.page(c.data, other))
	}
}

// TestCheckFileCountsPages: of a store with two million items in its log, "folio check" said "sound: 2 pages checked". It had checked all that
// the log makes of it, and counted the pages of the data file.
func TestCheckFileCountsPages(t *testing.T) {
	db := mustOpen(t, nil)
	const items, size = 2000, 500
	for n := 0; n < items; n += 500 {
		must(t, db.Update(func(tx *Tx) error {
			for i := n; i < n+500; i++ {
				if err := tx.Root().Put(fmt.Appendf(nil, "%06d", i), make([]byte, size)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	path := crashCopy(t, db.Path())
	pages, err := CheckFile(path, nil)
	must(t, err)
	if least := items * size / db.pageSize; pages < least {
		t.Errorf("%d pages of what the log holds, which takes %d at least", pages, least)
	}
	must(t, db.Close())
	pages, err = CheckFile(db.Path(), nil)
	must(t, err)
	if want := int64(len(readFile(t, db.Path())) / db.pageSize); int64(pages) != want {
		t.Errorf("%d pages of a closed store that has %d", pages, want)
	}
}
