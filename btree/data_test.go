package btree

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/foliodb/folio/page"
)

// TestData runs the scripts in testdata. What a command does is said at its case; keys and values are written as
// in "a", "a*300" (300 times a), "stem*500,07" (both, one behind the other). Every command ends an operation, after which the
// Writer's and the tree's rules are checked, unless the tree has been damaged on purpose.
func TestData(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			s.out.Reset()
			s.run()
			return s.out.String()
		})
	})
}

// script is the state of one file of commands.
type script struct {
	t    *testing.T
	d    *datadriven.TestData
	m    *memory
	tree Tree
	c    Cursor
	out  strings.Builder
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// text reads the notation of keys and values.
func (s *script) text(spec string) []byte {
	b := []byte{}
	for part := range strings.SplitSeq(spec, ",") {
		word, times, found := strings.Cut(part, "*")
		n := 1
		if found {
			var err error
			if n, err = strconv.Atoi(times); err != nil {
				s.d.Fatalf(s.t, "%v", err)
			}
		}
		b = append(b, strings.Repeat(word, n)...)
	}
	return b
}

// arg returns the text of an argument, nil without it.
func (s *script) arg(name string) []byte {
	if !s.d.HasArg(name) {
		return nil
	}
	var spec string
	s.d.ScanArgs(s.t, name, &spec)
	return s.text(spec)
}

func (s *script) number(name string) int {
	var n int
	s.d.MaybeScanArgs(s.t, name, &n)
	return n
}

// failed prints an error and reports whether there was one.
func (s *script) failed(err error) bool {
	if err != nil {
		s.printf("error: %v", err)
	}
	return err != nil
}

func (s *script) run() {
	switch s.d.Cmd {
	case "tree": // tree [page=8192]: begins with an empty tree
		ps := 4096
		s.d.MaybeScanArgs(s.t, "page", &ps)
		s.m = newMemory(ps)
		s.tree.Init(page.BucketHeader{}, nil, nil, s.m)
		s.c.Init(&s.tree)
	case "put": // put [bucket]: a line for each item, key=value; prints what is not simply added
		s.put()
	case "load": // load n=100 [from=1000] [by=-1] [size=100] [stem=x]: keys of six digits behind the stem
		s.load()
	case "spread": // spread n=60 [size=1500]: three keys of 484 bytes for every number, alike but for their ends
		size := 1500
		s.d.MaybeScanArgs(s.t, "size", &size)
		for i := range s.number("n") {
			key := fmt.Appendf(nil, "%03d%s%d", i/3, strings.Repeat("x", 480), i%3)
			if _, err := s.tree.Put(key, make([]byte, size), false); s.failed(err) {
				return
			}
			s.m.endOperation()
		}
	case "del": // del [bucket]: a line for each key
		for line := range strings.Lines(s.d.Input) {
			found, err := s.tree.Delete(s.text(strings.TrimSpace(line)), s.d.HasArg("bucket"))
			if !s.failed(err) && !found {
				s.printf("%s: absent", strings.TrimSpace(line))
			}
			s.m.endOperation()
		}
	case "del-range": // del-range [from=b] [to=d]
		n, err := s.tree.DeleteRange(s.arg("from"), s.arg("to"), func(name, value []byte) error {
			s.printf("bucket %s", name)
			return nil
		})
		if !s.failed(err) {
			s.printf("%d deleted", n)
		}
	case "relocate": // relocate limit=9 [moves=3]: moves pages to below 9
		s.relocate()
	case "get": // get: a line for each key
		for line := range strings.Lines(s.d.Input) {
			s.get(s.text(strings.TrimSpace(line)))
		}
	case "count": // count [from=b] [to=d]; rank key=b; at i=3
		n, err := s.tree.Count(s.arg("from"), s.arg("to"))
		if !s.failed(err) {
			s.printf("%d of %d", n, s.tree.Len())
		}
	case "rank":
		n, err := s.tree.Rank(s.arg("key"))
		if !s.failed(err) {
			s.printf("%d", n)
		}
	case "at":
		k, v, bucket, found, err := s.tree.At(uint64(s.number("i")))
		if !s.failed(err) && !found {
			k = nil
		}
		s.item("", k, v, bucket, err)
	case "cursor": // cursor: a line for each step: first, last, next, prev, seek k, put k=v, del k
		s.cursor()
	case "scan": // scan: all items by Next
		k, v, bucket, err := s.c.First()
		for ; k != nil && err == nil; k, v, bucket, err = s.c.Next() {
			s.item("", k, v, bucket, err)
		}
		s.failed(err)
	case "dump": // dump [values]
		if err := s.tree.Dump(&s.out, s.d.HasArg("values")); err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		return
	case "pages": // pages: what was allocated and freed since the last commit, or pages
		s.printf("alloc %s; free %s", rows(s.m.allocs), rows(s.m.frees))
		s.m.allocs, s.m.frees = nil, nil
		return
	case "commit":
		s.m.commit()
	case "inline": // inline: the tree as an image, from which it goes on
		s.inline()
	case "corrupt": // corrupt items=3, corrupt run=7 at=600 is=x, corrupt page=7 [empty] [sep=2 is=q] [level=2] [born=9] [child=0 is=5] [child=0 items=7] [child=0 refs=0] [key=0 is=q]
		s.corrupt()
	case "check": // check: all findings
		s.check()
		return
	default:
		s.d.Fatalf(s.t, "unknown command %q", s.d.Cmd)
	}
	s.m.endOperation()
	if s.m.strict {
		s.m.verify(s.t, &s.tree)
	}
}

// rows prints page numbers, those that follow one another as from-to.
func rows(ids []page.ID) string {
	words := []string{}
	for i := 0; i < len(ids); {
		n := 1
		for i+n < len(ids) && ids[i+n] == ids[i]+page.ID(n) {
			n++
		}
		word := fmt.Sprint(ids[i])
		if n > 1 {
			word = fmt.Sprintf("%d-%d", ids[i], ids[i+n-1])
		}
		words = append(words, word)
		i += n
	}
	return strings.Join(words, " ")
}

func (s *script) put() {
	for line := range strings.Lines(s.d.Input) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		value := s.text(v)
		bucket := s.d.HasArg("bucket")
		if bucket {
			value = make([]byte, page.BucketHeaderSize)
			if v != "" { // a root, which is not looked at
				root, _ := strconv.Atoi(v)
				page.BucketHeader{Root: page.ID(root)}.Encode(value)
			}
		}
		added, err := s.tree.Put(s.text(k), value, bucket)
		if !s.failed(err) && !added {
			s.printf("%s: replaced", k)
		}
		s.m.endOperation()
	}
}

func (s *script) load() {
	by, size := 1, 100
	s.d.MaybeScanArgs(s.t, "by", &by)
	s.d.MaybeScanArgs(s.t, "size", &size)
	at := s.number("from")
	for range s.number("n") {
		if _, err := s.tree.Put(fmt.Appendf(s.arg("stem"), "%06d", at), make([]byte, size), false); s.failed(err) {
			return
		}
		at += by
		s.m.endOperation()
	}
}

func (s *script) get(key []byte) {
	v, bucket, found, err := s.tree.Get(key)
	switch {
	case s.failed(err):
	case !found:
		s.printf("%s: absent", abridged(key))
	default:
		s.item("", key, v, bucket, nil)
	}
}

// item prints an item, or that there is none.
func (s *script) item(head string, k, v []byte, bucket bool, err error) {
	switch {
	case s.failed(err):
	case k == nil:
		s.printf("%snothing", head)
	case bucket:
		s.printf("%s%s/", head, abridged(k))
	default:
		s.printf("%s%s=%s", head, abridged(k), abridged(v))
	}
}

func (s *script) cursor() {
	for line := range strings.Lines(s.d.Input) {
		what, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		var k, v []byte
		var bucket bool
		var err error
		switch what {
		case "first":
			k, v, bucket, err = s.c.First()
		case "last":
			k, v, bucket, err = s.c.Last()
		case "next":
			k, v, bucket, err = s.c.Next()
		case "prev":
			k, v, bucket, err = s.c.Prev()
		case "seek":
			k, v, bucket, err = s.c.Seek(s.text(arg))
		case "put":
			key, value, _ := strings.Cut(arg, "=")
			_, err = s.tree.Put(s.text(key), s.text(value), false)
			s.failed(err)
			continue
		case "del":
			_, err = s.tree.Delete(s.text(arg), false)
			s.failed(err)
			continue
		default:
			s.d.Fatalf(s.t, "unknown step %q", what)
		}
		s.item(strings.TrimSpace(line)+": ", k, v, bucket, err)
		s.m.endOperation()
	}
}

func (s *script) inline() {
	image, ok, err := s.tree.Inline(nil)
	if s.failed(err) || !ok {
		s.printf("no image")
		return
	}
	if err := s.tree.Drop(nil); s.failed(err) {
		return
	}
	s.tree.Init(page.BucketHeader{}, image, nil, s.m)
	s.c.Init(&s.tree)
	s.printf("%d items in %d bytes", s.tree.Len(), len(image))
}

// corrupt changes what a page says. The page itself stays a sound one.
func (s *script) corrupt() {
	s.m.strict = false
	if s.d.HasArg("run") {
		copy(s.m.runs[page.ID(s.number("run"))].data[s.number("at"):], s.arg("is"))
		return
	}
	if !s.d.HasArg("page") {
		s.tree.items = uint64(s.number("items"))
		return
	}
	id := page.ID(s.number("page"))
	p := s.m.pages[id].buf
	has := s.d.HasArg
	switch {
	case has("level"):
		p[13] = byte(s.number("level"))
	case has("born"):
		page.SetBorn(p, page.TxID(s.number("born")))
	case has("items"):
		page.Branch(p).SetItems(s.number("child"), uint64(s.number("items")))
	case has("refs"):
		page.Branch(p).SetRefs(s.number("child"), s.number("refs") != 0)
	case has("empty"):
		page.InitLeaf(p, id, s.m.tx-1)
	case has("sep"):
		sep := s.arg("is")
		page.Branch(p).ReplaceSep(s.number("sep"), page.Sep{Key: sep, Len: len(sep)})
	case has("child"):
		page.Branch(p).SetChild(s.number("child"), page.ID(s.number("is")))
	case has("key"):
		l := page.Leaf(p)
		i := s.number("key")
		e := l.Entry(i)
		e.Key = s.arg("is")
		e.KeyLen = len(e.Key)
		e.Value = bytes.Clone(e.Value)
		l.Remove(i)
		whole := page.Leaf(bytes.Clone(l))
		whole.CompactInto(l)
		if !l.Insert(i, e) {
			s.d.Fatalf(s.t, "no room")
		}
	default:
		s.d.Fatalf(s.t, "what?")
	}
	page.Seal(p)
	s.m.pages[id].sum = page.Sum(p)
}

func (s *script) check() {
	seen := map[page.ID]bool{}
	n, runs, size := 0, 0, 0
	s.tree.Check(Checker{
		Found: func(e *page.CorruptError) {
			if !errors.Is(e, page.ErrCorrupt) {
				s.t.Errorf("%v", e)
			}
			s.printf("%v", e)
			n++
		},
		Page: func(id page.ID, level int, _ Place) bool {
			if seen[id] {
				s.printf("page %d met again", id)
				return false
			}
			seen[id] = true
			return true
		},
		Run: func(r page.Ref, n int, _ Place) bool {
			runs, size = runs+1, size+n
			return true
		},
		Bucket: func(name, value []byte, _ Place) { s.printf("bucket %s", bytes.Clone(name)) },
	})
	if n == 0 {
		s.printf("ok, %d pages", len(seen))
	}
	if runs > 0 {
		s.printf("%d runs of %d bytes", runs, size)
	}
}
