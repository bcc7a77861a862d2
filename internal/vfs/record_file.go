package vfs

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
)

// recordedFile is an open file of a Recorder.
type recordedFile struct {
	r     *Recorder
	under File
	ino   int
	name  string // relative
}

func (f *recordedFile) begin(kind Kind, off, n int64, data []byte) int {
	return f.r.begin(Op{Kind: kind, Ino: f.ino, Name: f.name, Off: off, N: n, Data: data})
}

func (f *recordedFile) WriteAt(p []byte, off int64) (int, error) {
	data := bytes.Clone(p)
	seq := f.begin(KindWrite, off, int64(len(p)), data)
	n, err := f.under.WriteAt(p, off)
	f.r.end(seq, err, func(op *Op) { op.Data = data[:n:n] })
	return n, err
}

func (f *recordedFile) WriteV(bufs [][]byte, off int64) error {
	data := bytes.Join(bufs, nil)
	seq := f.begin(KindWrite, off, int64(len(data)), data)
	err := f.under.WriteV(bufs, off)
	n := len(data)
	if err != nil {
		n = f.landed(data, off)
	}
	f.r.end(seq, err, func(op *Op) { op.Data = data[:n:n] })
	return err
}

func (f *recordedFile) Window(int64, int64) (Window, error) { return sectorWindow{f}, nil }

// sectorWindow is a window into a recorded file. The kernel writes back what is stored to a mapping in whole sectors, so what a crash may leave of a store is
// the old or the new content of the sectors that it touches, and noise in all of a sector if that tears.
type sectorWindow struct{ f *recordedFile }

func (w sectorWindow) Write(p []byte, off int64) error {
	from := off &^ (sectorSize - 1)
	end := (off + int64(len(p)) + sectorSize - 1) &^ (sectorSize - 1)
	data := make([]byte, end-from)
	if _, err := w.f.under.ReadAt(data, from); err != nil && err != io.EOF {
		return err
	}
	copy(data[off-from:], p)
	_, err := w.f.WriteAt(data, from)
	return err
}

func (sectorWindow) Close() error { return nil }

// landed finds how much of a failed write is in the file.
func (f *recordedFile) landed(data []byte, off int64) int {
	there := make([]byte, len(data))
	n, _ := f.under.ReadAt(there, off)
	for i := range n {
		if there[i] != data[i] {
			return i
		}
	}
	return n
}

func (f *recordedFile) Truncate(size int64) error {
	seq := f.begin(KindTruncate, size, 0, nil)
	return f.resized(seq, f.under.Truncate(size))
}

func (f *recordedFile) Allocate(off, n int64) error {
	seq := f.begin(KindAllocate, off, n, nil)
	return f.resized(seq, f.under.Allocate(off, n))
}

// resized ends a change of size. One that failed may have happened in part.
func (f *recordedFile) resized(seq int, err error) error {
	var size int64
	resized := false
	if err != nil {
		if info, statErr := f.under.Stat(); statErr == nil {
			size, resized = info.Size, true
		}
	}
	f.r.end(seq, err, func(op *Op) { op.size, op.resized = size, resized })
	return err
}

func (f *recordedFile) Sync() error {
	seq := f.begin(KindSync, 0, 0, nil)
	err := f.under.Sync()
	f.r.end(seq, err, nil)
	return err
}

// WriteOut makes nothing durable, so that only its failure is recorded: what it covers is in doubt from then on, as after any failed sync.
func (f *recordedFile) WriteOut(off, n int64, wait bool) error {
	err := f.under.WriteOut(off, n, wait)
	if err != nil {
		f.r.end(f.begin(KindMsync, off, n, nil), err, nil)
	}
	return err
}

// DropCache also does what no kernel does on request: it puts an end to the doubt
// about writes that a failed sync has lost. Up to now the cache has shown them; from
// now on the real file shows what Recorder.LostAtDrop says is on the disk.
// Pages that are mapped stay in the cache, so with a mapping it does nothing.
// Of what lies behind n the cache goes on to show what was written, and nobody knows what the disk has.
func (f *recordedFile) DropCache(n int64) error {
	seq := f.begin(KindDrop, 0, n, nil)
	err := f.under.DropCache(n)
	if err == nil && f.r.mappings(f.ino) == 0 {
		return f.showDisk(seq, droppedArea(n))
	}
	f.r.end(seq, err, nil)
	return err
}

// showDisk decides what the disk holds of lost sectors, ends operation seq
// with that, and makes the real file show it. Nothing may write meanwhile.
func (f *recordedFile) showDisk(seq int, area span) error {
	log := f.r.Log()
	var fates []Fate
	var areas []span
	if mayHaveLost(log) {
		fates, areas = f.lost(log, area)
	}
	f.r.end(seq, nil, func(op *Op) { op.fates = fates })
	if len(fates) == 0 {
		return nil
	}
	h := NewHistory(f.r.Log())
	s := h.State(h.Events(), KeepAll)
	for i := range s.plan.files {
		if file := &s.plan.files[i]; file.ino == f.ino {
			return f.show(s, file, areas)
		}
	}
	return nil
}

// show writes areas of the file as s has them into the real file.
func (f *recordedFile) show(s *State, file *planFile, areas []span) error {
	size, _ := s.plan.size(file, s.fates)
	for _, a := range areas {
		if a.to = min(a.to, size); a.from >= a.to {
			continue
		}
		buf := make([]byte, a.to-a.from)
		s.fill(file, buf, a.from)
		if _, err := f.under.WriteAt(buf, a.from); err != nil {
			return err
		}
	}
	return nil
}

// mayHaveLost tells whether a sync has ever failed in a log or before it.
func mayHaveLost(log []Op) bool {
	for i := range log {
		switch op := &log[i]; {
		case op.Kind == KindStart:
			for _, n := range op.start.files {
				if n != nil && slices.ContainsFunc(n.doubt, func(c change) bool { return c.lost }) {
					return true
				}
			}
		case op.Err != nil && (op.Kind == KindSync || op.Kind == KindMsync):
			return true
		}
	}
	return false
}

// lost finds the lost sectors of the file in an area and decides their fates.
func (f *recordedFile) lost(log []Op, dropped span) (fates []Fate, areas []span) {
	choose := f.r.LostAtDrop
	if choose == nil {
		choose = DropAll
	}
	h := NewHistory(log)
	n := h.plan(h.Events()).snap.file(f.ino)
	if n == nil {
		return nil, nil
	}
	for i := range n.doubt {
		c := &n.doubt[i]
		if !c.lost || c.data == nil {
			continue
		}
		for _, area := range sectorsOf(intersect(c.spans, dropped)) {
			part := int(area.from/sectorSize - c.off/sectorSize)
			fates = append(fates, choose(Unit{Op: c.num, Part: part, Ino: f.ino}))
			areas = append(areas, area)
		}
	}
	return fates, areas
}

func (r *Recorder) mappings(ino int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mapped[ino]
}

func (f *recordedFile) Map(length int64) (Mapping, error) {
	m, err := f.under.Map(length)
	if err != nil {
		return nil, err
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	f.r.mapped[f.ino]++
	return &recordedMapping{f: f, under: m}, nil
}

func (f *recordedFile) Name() string                             { return f.under.Name() }
func (f *recordedFile) ReadAt(p []byte, off int64) (int, error)  { return f.under.ReadAt(p, off) }
func (f *recordedFile) Stat() (Info, error)                      { return f.under.Stat() }
func (f *recordedFile) Medium() (Medium, error)                  { return f.under.Medium() }
func (f *recordedFile) Private(align int64) (File, int64, error) { return f.under.Private(align) } // nothing of it reaches the disk
func (f *recordedFile) Lock(off int64, exclusive bool) error     { return f.under.Lock(off, exclusive) }
func (f *recordedFile) Unlock(off int64) error                   { return f.under.Unlock(off) }
func (f *recordedFile) Close() error                             { return f.under.Close() }

// recordedMapping is a mapping of a recordedFile, which may be closed by now.
type recordedMapping struct {
	f     *recordedFile
	under Mapping
	once  sync.Once
}

func (m *recordedMapping) Sync(off, n int64) error {
	seq := m.f.begin(KindMsync, off, n, nil)
	err := m.under.Sync(off, n)
	m.f.r.end(seq, err, nil)
	return err
}

func (m *recordedMapping) Close() error {
	m.once.Do(func() {
		m.f.r.mu.Lock()
		defer m.f.r.mu.Unlock()
		m.f.r.mapped[m.f.ino]--
	})
	return m.under.Close()
}

func (m *recordedMapping) Bytes() []byte               { return m.under.Bytes() }
func (m *recordedMapping) Extend(length int64) bool    { return m.under.Extend(length) }
func (m *recordedMapping) Populate(off, n int64) error { return m.under.Populate(off, n) }
func (m *recordedMapping) Resident(off, n int64) bool  { return m.under.Resident(off, n) }
func (m *recordedMapping) WillNeed(off, n int64)       { m.under.WillNeed(off, n) }

// Share is not to be had: what is stored in shared memory would be in no log. Files that the recorder ignores have it; and where
// there may be such files, whoever asks is told whether the file system has it.
func (f *recordedFile) Share(length int64) (Shared, error) {
	if length == 0 && f.r.Ignore != nil {
		return f.under.Share(0)
	}
	return nil, pathError("share", f.Name(), errors.ErrUnsupported)
}

func (f *recordedFile) LockedByOthers(off int64) (bool, error) { return f.under.LockedByOthers(off) }
