package vfs

import (
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// State is one content of the disk that a crash can leave. It is read-only,
// shares its data with the log, and may be kept.
type State struct {
	plan  *plan
	fates []Fate // by unit
	sum   uint64 // once summed
}

// state makes the State of fates, which it keeps.
func (p *plan) state(fates []Fate) *State {
	return &State{plan: p, fates: fates, sum: p.sum(fates, make([]uint64, len(p.files)))}
}

// At is the moment of the crash, in events.
func (s *State) At() int { return s.plan.at }

// Hash depends on what is on the disk and on nothing else: names, which of
// them lead to the same file, and bytes. States of different logs compare.
func (s *State) Hash() uint64 { return s.sum }

// Names returns the names of the files that there are, slash-separated and
// sorted.
func (s *State) Names() []string {
	var names []string
	for i := range s.plan.names {
		if n := &s.plan.names[i]; s.plan.leads(n, s.fates) >= 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// LostName reports whether a name is there by a change that a failed SyncDir has lost: no later one makes it durable.
func (s *State) LostName(name string) bool {
	lost := false
	for i := range s.plan.names {
		if n := &s.plan.names[i]; n.name == name {
			for _, m := range n.moves {
				if s.fates[m.unit] != Drop {
					lost = m.ino != 0 && s.plan.units[m.unit].move.lost
				}
			}
		}
	}
	return lost
}

// find returns the file that a name leads to, nil when there is none.
func (s *State) find(name string) *planFile {
	for i := range s.plan.names {
		if n := &s.plan.names[i]; n.name == name {
			if fi := s.plan.leads(n, s.fates); fi >= 0 {
				return &s.plan.files[fi]
			}
		}
	}
	return nil
}

// ReadFile appends the content of a file to buf; false when it is not there.
func (s *State) ReadFile(name string, buf []byte) ([]byte, bool) {
	f := s.find(name)
	if f == nil {
		return buf, false
	}
	size, _ := s.plan.size(f, s.fates)
	buf = slices.Grow(buf, int(size))
	n := len(buf)
	buf = buf[:n+int(size)]
	s.fill(f, buf[n:], 0)
	return buf, true
}

// Files returns the whole state in memory. The bytes are the caller's; names
// of one file have copies.
func (s *State) Files() map[string][]byte {
	files := map[string][]byte{}
	for _, name := range s.Names() {
		files[name], _ = s.ReadFile(name, []byte{})
	}
	return files
}

// fill builds the bytes of f from off on; all of p lies within the size.
func (s *State) fill(f *planFile, p []byte, off int64) {
	f.node.base.read(p, off)
	_, last := s.plan.size(f, s.fates)
	end := off + int64(len(p))
	i, _ := slices.BinarySearchFunc(f.slots, off/sectorSize, func(s slot, sector int64) int {
		return int(s.sector - sector)
	})
	for ; i < len(f.slots) && f.slots[i].sector*sectorSize < end; i++ {
		at := f.slots[i].sector * sectorSize
		if at >= off && at+sectorSize <= end {
			s.plan.compose(f, &f.slots[i], s.fates, last, p[at-off:at-off+sectorSize])
			continue
		}
		var buf [sectorSize]byte
		s.plan.compose(f, &f.slots[i], s.fates, last, buf[:])
		from, to := max(at, off), min(at+sectorSize, end)
		copy(p[from-off:to-off], buf[from-at:to-at])
	}
}

// Materialise writes the state into dir as real files, made with their old
// permissions; dir is made when it is missing. None of the names may be there.
// Names of one file become hard links. Nothing is synced.
func (s *State) Materialise(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	made := make([]string, len(s.plan.files))
	for i := range s.plan.names {
		n := &s.plan.names[i]
		fi := s.plan.leads(n, s.fates)
		if fi < 0 {
			continue
		}
		if strings.HasPrefix(n.name, "../") {
			return fmt.Errorf("vfs: cannot materialise %s: outside of the recorded directory", n.name)
		}
		to := filepath.Join(dir, filepath.FromSlash(n.name))
		if path.Dir(n.name) != "." {
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
		}
		var err error
		if made[fi] != "" {
			err = os.Link(made[fi], to)
		} else {
			made[fi], err = to, s.writeFile(&s.plan.files[fi], to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// windowSize is how much of a file writeFile builds at a time.
const windowSize = 1 << 20

var windowPool = sync.Pool{New: func() any { return new([windowSize]byte) }}

// writeFile makes a file of f's bytes; runs of zeros stay holes.
func (s *State) writeFile(f *planFile, to string) (err error) {
	file, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, f.node.mode|0o200)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	if f.node.mode&0o200 == 0 {
		if err := file.Chmod(f.node.mode); err != nil {
			return err
		}
	}
	size, _ := s.plan.size(f, s.fates)
	buf := windowPool.Get().(*[windowSize]byte)
	defer windowPool.Put(buf)
	written := int64(0)
	for off := int64(0); off < s.reach(f, size); off += windowSize {
		p := buf[:min(size-off, windowSize)]
		s.fill(f, p, off)
		p = trimZeros(p)
		if len(p) == 0 {
			continue
		}
		if _, err := file.WriteAt(p, off); err != nil {
			return err
		}
		written = off + int64(len(p))
	}
	if written == size {
		return nil
	}
	return file.Truncate(size)
}

// trimZeros cuts chunks of zeros off the end of p.
func trimZeros(p []byte) []byte {
	for len(p) > 0 {
		n := (len(p) - 1) / chunkSize * chunkSize
		if !isZero(p[n:]) {
			break
		}
		p = p[:n]
	}
	return p
}

// reach is the end of what may be other than zeros.
func (s *State) reach(f *planFile, size int64) int64 {
	end := int64(len(f.node.base.chunks)) * chunkSize
	if n := len(f.slots); n > 0 {
		end = max(end, (f.slots[n-1].sector+1)*sectorSize)
	}
	return min(end, size)
}

// Cut returns the state as the next start finds it after the power cut: what
// survived is settled, nothing is in doubt. A Recorder made from it
// records what recovery does, for a crash within recovery.
func (s *State) Cut() *State {
	next := &snap{files: make([]*node, len(s.plan.snap.files))}
	for i := range s.plan.names {
		n := &s.plan.names[i]
		fi := s.plan.leads(n, s.fates)
		if fi < 0 {
			continue
		}
		f := &s.plan.files[fi]
		next.names = append(next.names, entry{n.name, f.ino})
		if next.files[f.ino] == nil {
			next.files[f.ino] = s.cutFile(f)
		}
	}
	return newPlan(next, nil, 0).state(nil)
}

// cutFile is a file with nothing in doubt.
func (s *State) cutFile(f *planFile) *node {
	size, last := s.plan.size(f, s.fates)
	e := f.node.base.edit()
	for i := range f.slots {
		var buf [sectorSize]byte
		s.plan.compose(f, &f.slots[i], s.fates, last, buf[:])
		e.write(buf[:], f.slots[i].sector*sectorSize)
	}
	e.zero(size, math.MaxInt64)
	return &node{mode: f.node.mode, base: e.image(), size: size, now: size}
}

// Kill returns the state as the next start finds it when only the process
// died: all that it did is there to be read, and what was in doubt is in doubt still,
// so that a later power cut may take it back. The fates of operations
// that had ended do not matter; one that had not ended has happened as far as its
// fates say.
func (s *State) Kill() *State {
	next := &snap{files: make([]*node, len(s.plan.snap.files)), names: s.plan.snap.names}
	for i := range s.plan.files {
		f := &s.plan.files[i]
		next.files[f.ino] = s.killFile(i, f.node)
	}
	for i := range s.plan.units {
		if u := &s.plan.units[i]; u.move != nil && (!u.inFlight(s.plan.at) || s.fates[i] != Drop) {
			m := *u.move
			m.begin, m.ended = -1, -1
			next.moves = append(next.moves, m)
		}
	}
	renumber(next)
	p := newPlan(next, nil, 0)
	fates := make([]Fate, len(p.units))
	for i := range fates {
		fates[i] = Keep
	}
	return p.state(fates)
}

// killFile is a file with what had ended, and what has happened of the rest.
func (s *State) killFile(fi int, n *node) *node {
	next := *n
	next.doubt, next.now = nil, n.size
	for order := range n.doubt {
		c := n.doubt[order]
		if c.ended >= s.plan.at {
			s.cutShort(fi, order, &c)
		}
		if len(c.spans) == 0 && !c.resizes() && c.end == 0 {
			continue
		}
		c.begin, c.ended = -1, -1
		if c.end > next.now { // what it relied on for the size has not happened
			c.size = c.end
		}
		if c.resizes() {
			next.now = c.size
		}
		next.doubt = append(next.doubt, c)
	}
	next.doubt = slices.Clip(next.doubt)
	return &next
}

// cutShort reduces a change that was under way to what has happened of it. A
// write moves the size as far as it got.
func (s *State) cutShort(fi, order int, c *change) {
	resized, spans := false, []span(nil)
	for i := range s.plan.units {
		u := &s.plan.units[i]
		if u.file != fi || u.order != order || s.fates[i] == Drop {
			continue
		}
		if u.Part == PartSize {
			resized = true
			continue
		}
		kind, n := s.fates[i].split()
		for _, a := range u.spans {
			if kind == torn {
				a.to = min(a.to, a.from+int64(n))
				n -= int(a.to - a.from)
			}
			if last := len(spans) - 1; last >= 0 && spans[last].to == a.from {
				spans[last].to = a.to
			} else if a.from < a.to {
				spans = append(spans, a)
			}
		}
	}
	switch {
	case c.data != nil:
		c.spans, c.size, c.end = spans, -1, 0
		if len(spans) > 0 {
			c.end = spans[len(spans)-1].to
		}
	case !resized:
		c.spans, c.size, c.end = nil, -1, 0
	}
}

// renumber gives what is in doubt the numbers of operations from before the
// start of a log: -1 is the last.
func renumber(s *snap) {
	var nums []int
	for _, n := range s.files {
		if n != nil {
			for i := range n.doubt {
				nums = append(nums, n.doubt[i].num)
			}
		}
	}
	for i := range s.moves {
		nums = append(nums, s.moves[i].num)
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)
	fresh := func(num int) int {
		i, _ := slices.BinarySearch(nums, num)
		return i - len(nums)
	}
	for _, n := range s.files {
		if n != nil {
			for i := range n.doubt {
				n.doubt[i].num = fresh(n.doubt[i].num)
			}
		}
	}
	for i := range s.moves {
		s.moves[i].num = fresh(s.moves[i].num)
	}
}
