package weave

import "time"

// What the library uses of time. Only waiting is virtual.
type (
	Duration = time.Duration
	Time     = time.Time
)

const (
	Nanosecond  = time.Nanosecond
	Microsecond = time.Microsecond
	Millisecond = time.Millisecond
	Second      = time.Second
	Minute      = time.Minute

	DateTime = time.DateTime
)

func Now() Time             { return time.Now() }
func Until(t Time) Duration { return time.Until(t) }
func Since(t Time) Duration { return time.Since(t) }

// Timer is something that happens when time has passed.
type Timer struct {
	at Duration
	do func()
}

// schedule adds a timer, in the order of time.
func (s *session) schedule(d Duration, do func()) *Timer {
	t := &Timer{s.now + d, do}
	i := len(s.timers)
	for i > 0 && s.timers[i-1].at > t.at {
		i--
	}
	s.timers = append(s.timers, nil)
	copy(s.timers[i+1:], s.timers[i:])
	s.timers[i] = t
	return t
}

// fire lets time pass up to the next timer.
func (s *session) fire() {
	t := s.timers[0]
	s.timers = s.timers[1:]
	s.now = max(s.now, t.at)
	t.do()
}

// Forget drops all timers: whatever they would do does not happen.
func Forget() {
	if active != nil {
		active.timers = nil
	}
}

// AfterFunc is time.AfterFunc.
func AfterFunc(d Duration, f func()) *Timer {
	s := active
	if s == nil {
		panic("weave: timer outside of a session")
	}
	return s.schedule(d, func() { s.start("timer", f) })
}

// After is time.After.
func After(d Duration) <-chan Time {
	s := active
	if s == nil {
		panic("weave: timer outside of a session")
	}
	ch := make(chan Time, 1)
	s.schedule(d, func() {
		ch <- Time{}
		s.events++
	})
	return ch
}

// Sleep is time.Sleep.
func Sleep(d Duration) {
	s := active
	if s == nil {
		return
	}
	over := false
	s.schedule(d, func() { over = true })
	s.block("time to pass", func() bool { return over })
}

// Stop is Timer.Stop.
func (t *Timer) Stop() bool {
	s := active
	if s == nil {
		return false
	}
	for i := range s.timers {
		if s.timers[i] == t {
			s.timers = append(s.timers[:i:i], s.timers[i+1:]...)
			return true
		}
	}
	return false
}
