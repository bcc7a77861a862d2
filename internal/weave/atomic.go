package weave

// Types of sync/atomic. Each operation is a point.
type (
	Bool   struct{ v bool }
	Uint32 struct{ v uint32 }
	Uint64 struct{ v uint64 }
	Int64  struct{ v int64 }

	Pointer[T any] struct{ v *T }
)

func (a *Bool) Load() bool {
	if active != nil {
		active.point()
	}
	return a.v
}

func (a *Bool) Store(v bool) {
	if active != nil {
		active.point()
	}
	a.v = v
}

func (a *Bool) Swap(v bool) bool {
	if active != nil {
		active.point()
	}
	old := a.v
	a.v = v
	return old
}

func (a *Bool) CompareAndSwap(old, v bool) bool {
	if active != nil {
		active.point()
	}
	if a.v != old {
		return false
	}
	a.v = v
	return true
}

func (a *Uint32) Load() uint32 {
	if active != nil {
		active.point()
	}
	return a.v
}

func (a *Uint32) Store(v uint32) {
	if active != nil {
		active.point()
	}
	a.v = v
}

func (a *Uint64) Load() uint64 {
	if active != nil {
		active.point()
	}
	return a.v
}

func (a *Uint64) Store(v uint64) {
	if active != nil {
		active.point()
	}
	a.v = v
}

func (a *Uint64) Add(d uint64) uint64 {
	if active != nil {
		active.point()
	}
	a.v += d
	return a.v
}

func (a *Int64) Load() int64 {
	if active != nil {
		active.point()
	}
	return a.v
}

func (a *Int64) Store(v int64) {
	if active != nil {
		active.point()
	}
	a.v = v
}

func (a *Int64) Add(d int64) int64 {
	if active != nil {
		active.point()
	}
	a.v += d
	return a.v
}

func (p *Pointer[T]) Load() *T {
	if active != nil {
		active.point()
	}
	return p.v
}

func (p *Pointer[T]) Store(v *T) {
	if active != nil {
		active.point()
	}
	p.v = v
}

func (p *Pointer[T]) CompareAndSwap(old, v *T) bool {
	if active != nil {
		active.point()
	}
	if p.v != old {
		return false
	}
	p.v = v
	return true
}
