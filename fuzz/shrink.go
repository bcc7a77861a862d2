package fuzz

import (
	"os"
	"slices"
	"time"
)

// shrink removes ops from a failing script for as long as it goes on failing, at
// most for the given time. Scripts whose failure hangs on timing may not shrink:
// what is returned has failed at least once, if only as a whole.
func shrink(s script, fails func(script) bool, limit time.Duration) script {
	deadline := time.Now().Add(limit)
	for size := len(s.ops) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(s.ops); {
			if time.Now().After(deadline) {
				return s
			}
			cut := script{s.cfg, slices.Delete(slices.Clone(s.ops), at, at+size)}
			if fails(cut) {
				s, smaller = cut, true
			} else {
				at += size
			}
		}
		if !smaller || size > len(s.ops) {
			size = min(size/2, len(s.ops))
		}
	}
	return s
}

// play runs a script in a new store below dir, and gives the number of ops that
// went well and the first difference.
func play(dir string, s script, trace func(string)) (int, error) {
	dir, err := os.MkdirTemp(dir, "play-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(dir, s.cfg)
	if err != nil {
		return 0, err
	}
	w.trace = trace
	n, err := w.run(s.ops)
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		w.abandon()
	}
	return n, err
}
