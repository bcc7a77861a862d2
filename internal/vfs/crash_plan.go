package vfs

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// plan is a snap laid out for building many states fast: every unit once, and
// every sector that is not the same in all states once. It is read-only.
type plan struct {
	at    int
	log   []Op
	snap  *snap
	units []unit // by operation
	files []planFile
	names []planName
}

// unit is a Unit and where to find what it does.
type unit struct {
	Unit
	began, ended int     // events
	change       *change // data and sizes
	move         *move   // names
	file         int     // index in plan.files; -1 for names
	order        int     // index of the change in its node
	spans        []span  // of data: the bytes in this sector
	full         uint64  // sum of the sector if spans fill it and the unit is kept, else 0
}

func (u *unit) isData() bool { return u.Part >= 0 }

// sector is the sector of the file that a unit of data lies in.
func (u *unit) sector() int64 { return u.spans[0].from / sectorSize }

// inFlight tells whether the operation had not ended when the crash came.
func (u *unit) inFlight(at int) bool { return u.ended >= at }

// planFile is a file that some state has.
type planFile struct {
	ino   int
	node  *node
	sizes []int  // units of part PartSize, oldest first
	slots []slot // by sector
	fixed uint64 // sum of the sectors that are no slots
}

// slot is a sector whose content depends on fates, or on the size.
type slot struct {
	sector int64
	base   uint64  // sum of the settled content
	layers []layer // oldest first
}

// layer is what one change does to a sector.
type layer struct {
	unit  int    // data
	order int    // index in the node of a Truncate, which zeroes wipe; -1 for data
	wipe  []span //
}

// planName is a name that some state has.
type planName struct {
	name  string
	ino   int    // settled; 0 for none
	sum   uint64 // of the name
	moves []nameMove
}

// nameMove is what one unit makes of a name.
type nameMove struct{ unit, ino int }

func newPlan(s *snap, log []Op, at int) *plan {
	p := &plan{at: at, log: log, snap: s}
	p.listNames()
	p.listFiles()
	p.listUnits()
	for i := range p.files {
		p.layOut(i)
	}
	return p
}

// listNames finds the names that are settled or in doubt.
func (p *plan) listNames() {
	all := slices.Clone(p.snap.names)
	for _, m := range p.snap.moves {
		for _, e := range m.sets {
			all = append(all, entry{e.name, 0})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.name == b.name })
	for _, e := range all {
		p.names = append(p.names, planName{name: e.name, ino: e.ino, sum: xxhash.Sum64String(e.name)})
	}
}

// listFiles finds the files that a name can lead to.
func (p *plan) listFiles() {
	for ino, n := range p.snap.files {
		if n != nil && p.snap.named(ino) {
			p.files = append(p.files, planFile{ino: ino, node: n})
		}
	}
}

// listUnits makes the units of all changes in the order of the log.
func (p *plan) listUnits() {
	count := len(p.snap.moves)
	for _, f := range p.files {
		for i := range f.node.doubt {
			for _, a := range f.node.doubt[i].spans {
				count += int((a.to-a.from)/sectorSize) + 2
			}
			count++
		}
	}
	p.units = make([]unit, 0, count)
	for fi := range p.files {
		f := &p.files[fi]
		for i := range f.node.doubt {
			p.addChange(fi, f.ino, i, &f.node.doubt[i])
		}
	}
	for i := range p.snap.moves {
		m := &p.snap.moves[i]
		p.units = append(p.units, unit{Unit: Unit{Op: m.num, Part: PartName - m.part},
			began: m.begin, ended: m.ended, move: m, file: -1})
	}
	slices.SortStableFunc(p.units, func(a, b unit) int { return a.Op - b.Op })
	for i := range p.units {
		switch u := &p.units[i]; {
		case u.move != nil:
			p.addMove(i, u.move)
		case u.Part == PartSize:
			p.files[u.file].sizes = append(p.files[u.file].sizes, i)
		}
	}
}

// addChange makes the units of one change: its size, then its sectors.
func (p *plan) addChange(file, ino, order int, c *change) {
	u := unit{began: c.begin, ended: c.ended, change: c, file: file, order: order}
	if c.resizes() {
		u.Unit = Unit{c.num, PartSize, ino}
		p.units = append(p.units, u)
	}
	if c.data == nil {
		return
	}
	first := c.off / sectorSize
	for i := 0; i < len(c.spans); i++ {
		a := c.spans[i]
		for k := a.from / sectorSize; k*sectorSize < a.to; k++ {
			area := span{k * sectorSize, (k + 1) * sectorSize}
			if last := len(p.units) - 1; i > 0 && last >= 0 && p.units[last].change == c && p.units[last].Part == int(k-first) {
				p.units[last].spans = append(p.units[last].spans, intersect(c.spans[i:i+1], area)...)
				continue
			}
			u.Unit = Unit{c.num, int(k - first), ino}
			u.full, u.spans = 0, c.spans[i:i+1:i+1]
			if a.from > area.from || a.to < area.to {
				u.spans = intersect(u.spans, area)
			} else {
				u.full = sectorSum(k, c.data[area.from-c.off:area.to-c.off])
				u.spans = []span{area}
			}
			p.units = append(p.units, u)
		}
	}
}

func (p *plan) addMove(unit int, m *move) {
	for _, e := range m.sets {
		i, _ := slices.BinarySearchFunc(p.names, e.name, func(n planName, name string) int {
			return strings.Compare(n.name, name)
		})
		p.names[i].moves = append(p.names[i].moves, nameMove{unit, e.ino})
	}
}

// layOut finds the sectors of file fi that depend on fates or on its size.
func (p *plan) layOut(fi int) {
	f := &p.files[fi]
	base := &f.node.base
	least := f.node.size
	for _, u := range f.sizes {
		least = min(least, p.units[u].change.size)
	}
	for i := least / sectorSize; i < base.sectors(); i++ {
		if base.sector(i) != nil {
			f.slots = append(f.slots, slot{sector: i})
		}
	}
	for i := range p.units {
		if u := &p.units[i]; u.file == fi && u.isData() {
			f.slots = append(f.slots, slot{sector: u.sector()})
		}
	}
	slices.SortFunc(f.slots, func(a, b slot) int { return cmp.Compare(a.sector, b.sector) })
	f.slots = slices.CompactFunc(f.slots, func(a, b slot) bool { return a.sector == b.sector })
	f.fixed = base.sum
	for i := range f.slots {
		s := &f.slots[i]
		if data := base.sector(s.sector); data != nil {
			s.base = sectorSum(s.sector, data)
			f.fixed -= s.base
		}
	}
	p.layLayers(fi)
}

// layLayers brings to each slot what changes it.
func (p *plan) layLayers(fi int) {
	f := &p.files[fi]
	for i := range p.units {
		u := &p.units[i]
		if u.file != fi || !u.isData() {
			continue
		}
		k, _ := slices.BinarySearchFunc(f.slots, u.sector(), func(s slot, sector int64) int {
			return cmp.Compare(s.sector, sector)
		})
		f.slots[k].layers = append(f.slots[k].layers, layer{order: u.order, unit: i})
	}
	for order := range f.node.doubt {
		c := &f.node.doubt[order]
		if c.data != nil || len(c.spans) == 0 {
			continue
		}
		for k := range f.slots {
			s := &f.slots[k]
			area := span{s.sector * sectorSize, (s.sector + 1) * sectorSize}
			if wipe := intersect(c.spans, area); wipe != nil {
				s.layers = append(s.layers, layer{order: order, unit: -1, wipe: wipe})
				slices.SortStableFunc(s.layers, func(a, b layer) int { return a.order - b.order })
			}
		}
	}
}

// size returns the size of a file in the state of fates, and the index of the
// last change of size that has happened: with it have all before it.
func (p *plan) size(f *planFile, fates []Fate) (size int64, last int) {
	for i := len(f.sizes) - 1; i >= 0; i-- {
		if u := f.sizes[i]; fates[u] != Drop {
			return p.units[u].change.size, p.units[u].order
		}
	}
	return f.node.size, -1
}

// compose builds the content of a slot. The sector may reach past the size.
func (p *plan) compose(f *planFile, s *slot, fates []Fate, last int, buf []byte) {
	if data := f.node.base.sector(s.sector); data != nil {
		copy(buf, data)
	} else {
		clear(buf)
	}
	off := s.sector * sectorSize
	for _, l := range s.layers {
		if l.unit >= 0 {
			u := &p.units[l.unit]
			fates[l.unit].apply(buf, off, u.change, u.spans)
		} else if l.order <= last {
			for _, a := range l.wipe {
				clear(buf[a.from-off : a.to-off])
			}
		}
	}
}

// slotSum is the sum of a slot's sector in a state, without building it where that can be.
func (p *plan) slotSum(f *planFile, s *slot, fates []Fate, size int64, last int) uint64 {
	off := s.sector * sectorSize
	if off >= size {
		return 0
	}
	if off+sectorSize <= size {
		top := len(s.layers) - 1
		for top >= 0 && (s.layers[top].unit < 0 && s.layers[top].order > last ||
			s.layers[top].unit >= 0 && fates[s.layers[top].unit] == Drop) {
			top--
		}
		if top < 0 {
			return s.base
		}
		if u := s.layers[top].unit; u >= 0 && fates[u] == Keep && p.units[u].full != 0 {
			return p.units[u].full
		}
	}
	var buf [sectorSize]byte
	p.compose(f, s, fates, last, buf[:])
	if size-off < sectorSize {
		clear(buf[size-off:])
	}
	return sectorSum(s.sector, buf[:])
}

// fileSum is the sum of a file's content and size.
func (p *plan) fileSum(f *planFile, fates []Fate) uint64 {
	size, last := p.size(f, fates)
	sum := f.fixed
	for i := range f.slots {
		sum += p.slotSum(f, &f.slots[i], fates, size, last)
	}
	return mix(sum + uint64(size))
}

// leads returns the file that a name leads to, an index in p.files, or -1.
func (p *plan) leads(n *planName, fates []Fate) int {
	ino := n.ino
	for _, m := range n.moves {
		if fates[m.unit] != Drop {
			ino = m.ino
		}
	}
	for i := range p.files {
		if p.files[i].ino == ino {
			return i
		}
	}
	return -1
}

// sum is the hash of a state: of its names, of which of them are one file, of
// the files' sizes and bytes. sums is room for one number a file.
func (p *plan) sum(fates []Fate, sums []uint64) uint64 {
	clear(sums)
	total := uint64(len(p.names))
	for i := range p.names {
		n := &p.names[i]
		fi := p.leads(n, fates)
		if fi < 0 {
			total-- // a name that is not there must not count
			continue
		}
		if sums[fi] == 0 {
			sums[fi] = p.fileSum(&p.files[fi], fates) | 1
			total += mix(n.sum + sums[fi])
		} else {
			total += mix(n.sum*3 + sums[fi]) // another name of a file
		}
	}
	return mix(total)
}
