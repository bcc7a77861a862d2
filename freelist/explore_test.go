package freelist

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/foliodb/folio/page"
)

// The explorer knows a store of two slots, each a page, and tries every schedule of up to
// four commits, which replace one slot, both, or one twice, with rollbacks, and with every way to pin
// and unpin the states between them. It holds the list against the rule as ARCHITECTURE.md words it:
// no page that a pinned snapshot reaches is given out, and none is kept that no pinned
// snapshot reaches.

// world is the state of the model after some events; what each snapshot reaches is kept whole.
type world struct {
	last    page.TxID
	slots   [2]page.ID // of the newest commit
	born    map[page.ID]page.TxID
	reaches map[page.TxID][2]page.ID // by each pinned snapshot
	pinned  []page.TxID              // ascending
	list    *List
}

const (
	maxTx    = 4
	worldEnd = 18 // pages: enough that no schedule runs out
)

func newWorld() *world {
	w := &world{
		slots:   [2]page.ID{2, 3},
		born:    map[page.ID]page.TxID{},
		reaches: map[page.TxID][2]page.ID{},
		list:    New(worldEnd, 4096),
	}
	if err := w.list.Load([]byte{1, worldEnd - 5, 3, worldEnd - 6}, Extent{4, 1}); err != nil {
		panic(err)
	}
	return w
}

// events are what can happen next, by name.
func (w *world) events() []string {
	var e []string
	if w.last < maxTx {
		e = append(e, "replace 0", "replace 1", "replace both", "replace twice", "roll back")
	}
	if !slices.Contains(w.pinned, w.last) {
		e = append(e, "pin")
	}
	for i := range w.pinned {
		e = append(e, fmt.Sprintf("unpin %d", i))
	}
	return append(e, "reclaim")
}

// do lets an event happen.
func (w *world) do(event string) error {
	switch {
	case event == "pin":
		w.pinned = append(w.pinned, w.last)
		w.reaches[w.last] = w.slots
	case strings.HasPrefix(event, "unpin"):
		i := int(event[6] - '0')
		delete(w.reaches, w.pinned[i])
		w.pinned = slices.Delete(w.pinned, i, i+1)
	case event == "reclaim":
		w.list.Reclaim(w.pinned)
		return w.exact()
	default:
		return w.transaction(event)
	}
	return nil
}

func (w *world) transaction(event string) error {
	replace := map[string][]int{"replace 0": {0}, "replace 1": {1}, "replace both": {0, 1}, "replace twice": {0, 0}, "roll back": {0, 1}}[event]
	slots, own := w.slots, map[page.ID]bool{}
	var died []Dead
	for _, s := range replace {
		id, ok := w.list.Alloc(1)
		if !ok {
			return fmt.Errorf("no page left: %v", w.list.held.String())
		}
		if snapshot, ok := w.reached(id); ok {
			return fmt.Errorf("page %d was given out, snapshot %d reaches it", id, snapshot)
		}
		if old := slots[s]; own[old] {
			if err := w.list.FreeOwn(old, 1); err != nil {
				return err
			}
		} else {
			died = append(died, Dead{old, 1, w.born[old]})
		}
		slots[s], own[id] = id, true
	}
	if event == "roll back" {
		w.list.Rollback()
		return nil
	}
	w.last++
	for id := range own {
		w.born[id] = w.last
	}
	w.slots = slots
	return w.list.Commit(w.last, died, w.pinned)
}

// reached reports which snapshot, the newest included, reaches a page.
func (w *world) reached(id page.ID) (page.TxID, bool) {
	for tx, slots := range w.reaches {
		if slots[0] == id || slots[1] == id {
			return tx, true
		}
	}
	return w.last, w.slots[0] == id || w.slots[1] == id
}

// exact checks that a page is free exactly if nobody reaches it.
func (w *world) exact() error {
	for id := page.FirstID; id < worldEnd; id++ {
		snapshot, reached := w.reached(id)
		if id != 4 && w.list.free.has(id) == reached { // 4 is the free set's
			return fmt.Errorf("page %d: free %v, though snapshot %d reaches it: %v", id, !reached, snapshot, reached)
		}
	}
	return nil
}

// key tells worlds apart that can behave differently, but for the page that is allocated next.
func (w *world) key() string {
	var b strings.Builder
	fmt.Fprint(&b, w.last, w.slots, w.born[w.slots[0]], w.born[w.slots[1]], w.pinned, w.reaches)
	w.list.Dump(&b)
	return b.String()
}

func TestExplore(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	paths := [][]string{nil}
	for len(paths) > 0 {
		path := paths[len(paths)-1]
		paths = paths[:len(paths)-1]
		w := newWorld()
		for _, e := range path {
			if err := w.do(e); err != nil {
				t.Fatalf("%v\nafter %s", err, strings.Join(path, ", "))
			}
		}
		if k := w.key(); seen[k] {
			continue
		} else {
			seen[k] = true
		}
		for _, e := range w.events() {
			paths = append(paths, append(slices.Clone(path), e))
		}
		if testing.Short() && len(seen) == 1500 {
			break
		}
	}
	t.Logf("%d states", len(seen))
	if len(seen) < 1500 {
		t.Errorf("only %d states: the explorer does not get far", len(seen))
	}
}
