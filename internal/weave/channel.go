package weave

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
