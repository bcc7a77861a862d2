package lockfile

import (
	"errors"
	"os"
	"testing"
)

// FuzzTable has noise in the table that a process attaches to, but for the header, without which none would: whoever may
// write the file can put anything there. What is read may be nonsense then, but nothing may panic, hang, or leave the memory.
func FuzzTable(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint16(offHigh/8))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01\x01\x01\x01\x01\x01"), uint16(offSlots/8))
	f.Fuzz(func(t *testing.T, noise []byte, at uint16) {
		name := lockName(t)
		a := mustAttach(t, name)
		defer func() { must(t, a.Kill()) }()
		for i := range noise {
			word := (int(at) + i/8) % (Size / 8)
			if off := 8 * word; off >= offPublished {
				w := a.w.at(off)
				w.Store(w.Load()<<8 | uint64(noise[i]))
			}
		}
		b := mustAttach(t, name)
		if b.Fresh {
			t.Error("the table was made anew under a process")
		}
		b.Snapshot(b.Published())
		b.Readers()
		b.Own()
		b.Floor()
		b.Pins(nil)
		if err := b.Join(); err != nil && !errors.Is(err, ErrFull) {
			t.Error(err)
		} else if err == nil {
			pin, err := b.Pin(b.Published().Tx())
			must(t, err)
			b.Unpin(pin)
		}
		if _, err := a.Reap(); err != nil {
			t.Error(err)
		}
		a.Publish(Snapshot{Tx: 3, End: 9})
		if s, ok := b.Snapshot(b.Published()); !ok || s.Tx != 3 || s.End != 9 {
			t.Errorf("published: %+v, %v", s, ok)
		}
		must(t, b.Close())
		if _, err := os.Stat(name); err != nil {
			t.Errorf("the file went while a process is attached: %v", err)
		}
	})
}
