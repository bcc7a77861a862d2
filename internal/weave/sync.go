package weave

import "sync"

// Types of sync that are not met in: what they hold decides nothing.
type (
	Pool = sync.Pool
	Once = sync.Once
)

// Mutex is sync.Mutex.
type Mutex struct{ held bool }

func (m *Mutex) Lock() {
	s := active
	if s != nil {
		s.point()
	}
	for m.held {
		if s == nil {
			panic("weave: Lock would never return")
		}
		s.block("a Mutex", func() bool { return !m.held })
	}
	m.held = true
}

func (m *Mutex) TryLock() bool {
	if active != nil {
		active.point()
	}
	if m.held {
		return false
	}
	m.held = true
	return true
}

func (m *Mutex) Unlock() {
	if !m.held {
		panic("weave: unlock of unlocked Mutex")
	}
	m.held = false
	if active != nil {
		active.point() // what follows need not be an operation of a stand-in, and yet rely on what the lock has guarded
	}
}

// RWMutex is sync.RWMutex: a writer who waits keeps new readers out.
type RWMutex struct {
	readers int
	waiting int
	writer  bool
}

func (m *RWMutex) Lock() {
	s := active
	if s != nil {
		s.point()
	}
	m.waiting++
	for m.writer || m.readers > 0 {
		if s == nil {
			panic("weave: Lock would never return")
		}
		s.block("an RWMutex", func() bool { return !m.writer && m.readers == 0 })
	}
	m.waiting--
	m.writer = true
}

func (m *RWMutex) Unlock() {
	m.writer = false
	if active != nil {
		active.point()
	}
}

func (m *RWMutex) RLock() {
	s := active
	if s != nil {
		s.point()
	}
	for m.writer || m.waiting > 0 {
		if s == nil {
			panic("weave: RLock would never return")
		}
		s.block("an RWMutex, for reading", func() bool { return !m.writer && m.waiting == 0 })
	}
	m.readers++
}

func (m *RWMutex) RUnlock() {
	if m.readers--; m.readers < 0 {
		panic("weave: RUnlock of unlocked RWMutex")
	}
}

// WaitGroup is sync.WaitGroup.
type WaitGroup struct{ n int }

func (w *WaitGroup) Add(n int) {
	if active != nil {
		active.point()
	}
	if w.n += n; w.n < 0 {
		panic("weave: negative WaitGroup")
	}
}

func (w *WaitGroup) Done() { w.Add(-1) }

func (w *WaitGroup) Wait() {
	s := active
	if s != nil {
		s.point()
	}
	for w.n > 0 {
		if s == nil {
			panic("weave: Wait would never return")
		}
		s.block("a WaitGroup", func() bool { return w.n == 0 })
	}
}
