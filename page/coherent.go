package page

import (
	"bytes"
	"time"
)

// coherentTries is how often a meta slot is read before mapping and file are found to differ, a millisecond apart:
// another process may be writing it.
const coherentTries = 50

// Coherent reports whether the mapping shows what reading the file shows, judged by the pages of the meta slots.
func (f *File) Coherent() (bool, error) {
	m := f.Map()
	defer m.Release()
	v := m.View(FirstID)
	for slot := range v.Count() {
		same := false
		for tries := 0; !same && tries < coherentTries; tries++ {
			if tries > 0 {
				time.Sleep(time.Millisecond)
			}
			p, err := f.ReadMeta(int(slot))
			if err != nil {
				return false, err
			}
			if err := m.mapping.Populate(v.offset(slot), int64(v.size)); err != nil {
				return false, v.corrupt(slot, "cannot be read", err)
			}
			same = bytes.Equal(p, v.at(slot)[:v.size])
		}
		if !same {
			return false, nil
		}
	}
	return true, nil
}
