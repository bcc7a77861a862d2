package btree

import (
	"container/list"
	"fmt"
	"testing"

	"github.com/foliodb/folio/internal/vfs"
	"github.com/foliodb/folio/page"
)

// slowFile is a file on a disk, of which the memory has some pages: those that were asked for last.
type slowFile struct {
	vfs.File
	ps     int64
	room   int  // pages in memory at most
	tells  bool // whether a page is in memory
	pages  map[int64]*list.Element
	order  *list.List     // of pages, the one asked for last in front
	fresh  map[int64]bool // pages that were read since somebody waited last: whoever waits for one of these has asked too late
	read   int            // pages from the disk
	waited int            // pages that somebody waited for who had not asked for them in time
}

func newSlowFile(pageSize, room int, tells bool) *slowFile {
	return &slowFile{ps: int64(pageSize), room: room, tells: tells, pages: make(map[int64]*list.Element), order: list.New(), fresh: make(map[int64]bool)}
}

type slowMapping struct {
	vfs.Mapping
	f *slowFile
}

func (f *slowFile) Map(length int64) (vfs.Mapping, error) {
	m, err := f.File.Map(length)
	return &slowMapping{m, f}, err
}

// bring is quick, since memory that was found to be short is so for some seconds only.
func (f *slowFile) bring(off, n int64) {
	for at := off / f.ps; at*f.ps < off+n; at++ {
		if e := f.pages[at]; e != nil {
			f.order.MoveToFront(e)
			continue
		}
		f.read++
		f.fresh[at] = true
		f.pages[at] = f.order.PushFront(at)
		if len(f.pages) > f.room {
			delete(f.pages, f.order.Remove(f.order.Back()).(int64))
		}
	}
}

func (m *slowMapping) WillNeed(off, n int64) { m.f.bring(off, n) }

func (m *slowMapping) Populate(off, n int64) error {
	m.f.bring(off, n)
	for at := off / m.f.ps; at*m.f.ps < off+n; at++ {
		if m.f.fresh[at] {
			m.f.waited++
		}
	}
	clear(m.f.fresh)
	return nil
}

func (m *slowMapping) Resident(off, n int64) bool {
	for at := off / m.f.ps; at*m.f.ps < off+n; at++ {
		if _, ok := m.f.pages[at]; !ok {
			return false
		}
	}
	return m.f.tells
}

// fileWriter is a write transaction that has changed nothing: all pages are in the file.
type fileWriter struct {
	Writer
	v *page.View
}

func (w fileWriter) Page(id page.ID) ([]byte, error)       { return w.v.Page(id) }
func (w fileWriter) Run(r page.Ref, n int) ([]byte, error) { return w.v.Run(r, n) }
func (w fileWriter) Expose(page.ID)                        {}

// A scan through a store that is not in memory waits for hardly any page, and reads each once; and so does the next one in a
// process that knows all pages, where there is not memory for all of them. No scan read ahead at first: it waited for each leaf, and got two fifths of what a plain read of the file gets
// where the system reads 128 KiB around what is touched. Then those of write transactions did not.
func TestReadahead(t *testing.T) {
	const items = 200_000
	m := newMemory(4096)
	var tree Tree
	tree.Init(page.BucketHeader{}, nil, nil, m)
	for i := range items {
		if _, err := tree.Put(numbered(i*7919%items), make([]byte, 100), false); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()
	h := tree.Header()
	if h.Level < 2 {
		t.Fatalf("a tree of level %d", h.Level)
	}
	for _, dir := range []int{+1, -1} {
		for _, tells := range []bool{true, false} {
			for _, in := range []struct {
				room   int // pages
				writer bool
			}{{1 << 20, false}, {1024, false}, {1 << 20, true}} {
				room := in.room
				t.Run(fmt.Sprintf("direction %d, tells %v, memory for %d pages, in a write transaction %v", dir, tells, room, in.writer), func(t *testing.T) {
					f := newSlowFile(m.ps, room, tells)
					v := m.publishOn(t, func(raw vfs.File) vfs.File {
						f.File = raw
						return f
					})
					f.read, f.waited = 0, 0
					var tree Tree
					tree.Init(h, nil, &v, nil)
					if in.writer {
						tree.Init(h, nil, &v, fileWriter{m, &v})
					}
					c := new(Cursor)
					c.Init(&tree)
					scan := func() {
						n := 0
						k, _, _, err := c.First()
						if dir < 0 {
							k, _, _, err = c.Last()
						}
						for ; k != nil && err == nil; n++ {
							if dir < 0 {
								k, _, _, err = c.Prev()
							} else {
								k, _, _, err = c.Next()
							}
						}
						if n != items || err != nil {
							t.Fatalf("a scan gives %d items, %v", n, err)
						}
					}
					pages := len(m.pages)
					scan()
					t.Logf("%d pages: %d read, %d waited for", pages, f.read, f.waited)
					// Who does not read ahead waits for one page in 64: what lies around it comes too. Where memory is short that has to be noticed first, and nobody tells it everywhere; how soon is
					// chance, since only some leaves are asked about: 120 to 1,110 of 7,400 pages were waited for until then, in four shapes of the tree.
					if f.waited > pages/100 && room > pages || f.waited > pages/5 && tells {
						t.Errorf("the first scan of %d pages waited for %d", pages, f.waited)
					}
					if f.read > pages*5/4 && room > pages || f.read > pages*2 || f.read < pages {
						t.Errorf("the first scan of %d pages read %d", pages, f.read)
					}
					f.read, f.waited = 0, 0
					scan()
					t.Logf("again: %d read, %d waited for", f.read, f.waited)
					switch {
					case room > pages || !tells: // nobody tells that pages are gone: they are read when they are touched
						if f.read > 0 {
							t.Errorf("the second scan of %d pages read %d that are in memory", pages, f.read)
						}
					case f.read < pages*4/5 || f.read > pages*5/4:
						t.Errorf("the second scan of %d pages read %d of them ahead", pages, f.read)
					case f.waited > pages/20:
						t.Errorf("the second scan of %d pages waited for %d", pages, f.waited)
					}
				})
			}
		}
	}
}

// Who checks a tree waits for hardly any page either. With memory for a fifth of it a check had read each page many times over.
func TestCheckReadsAhead(t *testing.T) {
	m := newMemory(4096)
	var tree Tree
	tree.Init(page.BucketHeader{}, nil, nil, m)
	for i := range 100_000 {
		if _, err := tree.Put(numbered(i*7919%100_000), make([]byte, 100), false); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()
	h, pages := tree.Header(), len(m.pages)
	f := newSlowFile(m.ps, pages/5, true)
	v := m.publishOn(t, func(raw vfs.File) vfs.File {
		f.File = raw
		return f
	})
	v.SetShort() // or all that lies around a page would be read once besides
	f.read, f.waited = 0, 0
	tree.Init(h, nil, &v, nil)
	tree.Check(Checker{Found: func(err *page.CorruptError) { t.Error(err) }})
	if f.read < pages || f.read > pages*6/5 || f.waited > pages/20 {
		t.Errorf("a check of %d pages read %d, and waited for %d", pages, f.read, f.waited)
	}
}

// A short look around reads hardly more than what is around each page that is touched anyway.
func TestNoReadahead(t *testing.T) {
	m := newMemory(4096)
	var tree Tree
	tree.Init(page.BucketHeader{}, nil, nil, m)
	for i := range 60_000 {
		if _, err := tree.Put(numbered(i), make([]byte, 100), false); err != nil {
			t.Fatal(err)
		}
	}
	m.commit()
	f := newSlowFile(m.ps, 1<<20, true)
	v := m.publishOn(t, func(raw vfs.File) vfs.File {
		f.File = raw
		return f
	})
	v.SetShort() // so that nothing around is read
	f.read = 0
	h := tree.Header()
	tree.Init(h, nil, &v, nil)
	var c Cursor
	c.Init(&tree)
	const looks = 10
	for i := range looks {
		if k, _, _, err := c.Seek(numbered(i*6000 + 17)); k == nil || err != nil {
			t.Fatal(k, err)
		}
		for range 40 { // to the next leaf at least
			if k, _, _, err := c.Next(); k == nil || err != nil {
				t.Fatal(k, err)
			}
		}
	}
	if most := looks * (int(h.Level) + 4); f.read > most {
		t.Errorf("%d short looks read %d pages, more than %d", looks, f.read, most)
	}
}
