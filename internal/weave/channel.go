package weave

import "math"

// Rewritten sources keep their channels, and never block in one: they try, and Wait until something has happened to any
// channel before they try again.

// Send is ch <- v.
func Send[T any](ch chan<- T, v T) {
	if active != nil {
		active.point()
	}
	for {
		select {
		case ch <- v:
			Did()
			return
		default:
			Wait()
		}
	}
}

// Recv is <-ch.
func Recv[T any](ch <-chan T) T {
	if active != nil {
		active.point()
	}
	for {
		select {
		case v := <-ch:
			Did()
			return v
		default:
			Wait()
		}
	}
}

// Close is close(ch).
func Close[T any](ch chan<- T) {
	if active != nil {
		active.point()
	}
	close(ch)
	Did()
}

// Ways is in which order a select tries its channels, which the session's seed decides.
type Ways struct{ n, at, tried int }

// Choose begins with any of n channels.
func Choose(n int) *Ways {
	return &Ways{n: n, at: int(Random32()) & math.MaxInt32 % n}
}

// Is tells whether the turn is channel i's.
func (w *Ways) Is(i int) bool { return w.at == i }

// Next turns to the next channel; false: all have been tried, and it begins again.
func (w *Ways) Next() bool {
	w.at = (w.at + 1) % w.n
	w.tried = (w.tried + 1) % w.n
	return w.tried > 0
}

// If returns the channel if its turn has come, and nil, which is never ready, if it has not.
func If[C any](turn bool, ch C) C {
	if !turn {
		var none C
		return none
	}
	return ch
}

// Did says that a channel operation has taken place.
func Did() {
	if active != nil {
		active.events++
	}
}

// Wait blocks until another one does.
func Wait() {
	s := active
	if s == nil {
		panic("weave: channel operation would never return")
	}
	seen := s.events
	s.block("a channel", func() bool { return s.events != seen })
}
