package vfs

import "io"

// failingFile is an open file of a Failer. Each method calls fate or do
// itself, so that the caller's line is at a known depth of the stack.
type failingFile struct {
	f     *Failer
	under File
}

func (f *failingFile) Name() string { return f.under.Name() }

func (f *failingFile) ReadAt(p []byte, off int64) (int, error) {
	r := f.f.fate(KindRead, f.Name())
	if r == nil {
		return f.under.ReadAt(p, off)
	}
	n := 0
	if part := r.part(len(p)); part > 0 {
		n, _ = f.under.ReadAt(p[:part], off)
	}
	return n, r.fail(KindRead, f.Name())
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	r := f.f.fate(KindWrite, f.Name())
	if r == nil {
		return f.under.WriteAt(p, off)
	}
	return f.short(r, p, off)
}

func (f *failingFile) WriteV(bufs [][]byte, off int64) error {
	r := f.f.fate(KindWrite, f.Name())
	if r == nil {
		return f.under.WriteV(bufs, off)
	}
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	left := r.part(total)
	for _, b := range bufs {
		b = b[:min(len(b), left)]
		n, err := f.under.WriteAt(b, off)
		if err != nil {
			return err
		}
		off, left = off+int64(n), left-n
	}
	return r.fail(KindWrite, f.Name())
}

// Window opens a window of the file below, which on the real file system is a mapping.
func (f *failingFile) Window(off, n int64) (Window, error) {
	if r := f.f.fate(KindMap, f.Name()); r != nil {
		return nil, r.fail(KindMap, f.Name())
	}
	w, err := f.under.Window(off, n)
	if err != nil {
		return nil, err
	}
	return &failingWindow{f: f, under: w}, nil
}

// short writes as much of p as the rule lets through.
func (f *failingFile) short(r *Rule, p []byte, off int64) (int, error) {
	n := 0
	if part := r.part(len(p)); part > 0 {
		var err error
		if n, err = f.under.WriteAt(p[:part], off); err != nil {
			return n, err
		}
	}
	return n, r.fail(KindWrite, f.Name())
}

func (f *failingFile) Truncate(size int64) error {
	return f.f.do(KindTruncate, f.Name(), func() error { return f.under.Truncate(size) })
}

func (f *failingFile) Allocate(off, n int64) error {
	return f.f.do(KindAllocate, f.Name(), func() error { return f.under.Allocate(off, n) })
}

func (f *failingFile) Sync() error {
	return f.f.do(KindSync, f.Name(), f.under.Sync)
}

func (f *failingFile) Stat() (info Info, err error) {
	err = f.f.do(KindStat, f.Name(), func() error {
		info, err = f.under.Stat()
		return err
	})
	return info, err
}

func (f *failingFile) Medium() (m Medium, err error) {
	err = f.f.do(KindStat, f.Name(), func() error {
		m, err = f.under.Medium()
		return err
	})
	return m, err
}

// WriteOut fails as a sync of a mapping does.
func (f *failingFile) WriteOut(off, n int64, wait bool) error {
	return f.f.do(KindMsync, f.Name(), func() error { return f.under.WriteOut(off, n, wait) })
}

func (f *failingFile) DropCache(n int64) error {
	return f.f.do(KindDrop, f.Name(), func() error { return f.under.DropCache(n) })
}

func (f *failingFile) Lock(off int64, exclusive bool) error {
	return f.f.do(KindLock, f.Name(), func() error { return f.under.Lock(off, exclusive) })
}

func (f *failingFile) Unlock(off int64) error {
	return f.f.do(KindUnlock, f.Name(), func() error { return f.under.Unlock(off) })
}

func (f *failingFile) Map(length int64) (Mapping, error) {
	if r := f.f.fate(KindMap, f.Name()); r != nil {
		return nil, r.fail(KindMap, f.Name())
	}
	m, err := f.under.Map(length)
	if err != nil {
		return nil, err
	}
	return &failingMapping{f: f, under: m}, nil
}

func (f *failingFile) Private(align int64) (private File, base int64, err error) {
	err = f.f.do(KindOpen, f.Name(), func() error {
		private, base, err = f.under.Private(align)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return &failingFile{f: f.f, under: private}, base, nil
}

func (f *failingFile) LockedByOthers(off int64) (locked bool, err error) {
	err = f.f.do(KindLock, f.Name(), func() error {
		locked, err = f.under.LockedByOthers(off)
		return err
	})
	return locked, err
}

func (f *failingFile) Share(length int64) (shared Shared, err error) {
	err = f.f.do(KindMap, f.Name(), func() error {
		shared, err = f.under.Share(length)
		return err
	})
	if err != nil || shared == nil {
		return nil, err
	}
	return &failingShared{f: f, Shared: shared}, nil
}

// shut closes the file, or what is part of it, whatever the call's fate: nobody could do so later.
func (f *failingFile) shut(r *Rule, under io.Closer) error {
	err := under.Close()
	if err == nil && r != nil {
		err = r.fail(KindClose, f.Name())
	}
	return err
}

func (f *failingFile) Close() error {
	return f.shut(f.f.fate(KindClose, f.Name()), f.under)
}

// failingMapping is a mapping of a failingFile.
type failingMapping struct {
	f     *failingFile
	under Mapping
}

func (m *failingMapping) Bytes() []byte { return m.under.Bytes() }

func (m *failingMapping) Extend(length int64) bool {
	if m.f.f.fate(KindExtend, m.f.Name()) != nil {
		return false
	}
	return m.under.Extend(length)
}

func (m *failingMapping) Sync(off, n int64) error {
	return m.f.f.do(KindMsync, m.f.Name(), func() error { return m.under.Sync(off, n) })
}

func (m *failingMapping) Populate(off, n int64) error {
	return m.f.f.do(KindPopulate, m.f.Name(), func() error { return m.under.Populate(off, n) })
}

// Resident is false, so that the call that it would spare is made, and can fail.
func (m *failingMapping) Resident(off, n int64) bool { return false }

func (m *failingMapping) WillNeed(off, n int64) { m.under.WillNeed(off, n) }

func (m *failingMapping) Close() error {
	return m.f.shut(m.f.f.fate(KindClose, m.f.Name()), m.under)
}

// failingWindow is a window of a failingFile.
type failingWindow struct {
	f     *failingFile
	under Window
}

// Write fails as a store to memory does: it may stop anywhere, and is a fault whatever the rule's error is.
func (w *failingWindow) Write(p []byte, off int64) error {
	r := w.f.f.fate(KindWrite, w.f.Name())
	if r == nil {
		return w.under.Write(p, off)
	}
	if part := r.part(len(p)); part > 0 {
		if err := w.under.Write(p[:part], off); err != nil {
			return err
		}
	}
	return r.fault(KindWrite, w.f.Name())
}

func (w *failingWindow) Close() error {
	return w.f.shut(w.f.f.fate(KindClose, w.f.Name()), w.under)
}

// failingShared is shared memory of a failingFile.
type failingShared struct {
	f *failingFile
	Shared
}

func (s *failingShared) Close() error {
	return s.f.shut(s.f.f.fate(KindClose, s.f.Name()), s.Shared)
}
