package fuzz

import (
	"os"
	"slices"
	"time"
)

// shrink removes ops from a failing script for as long as it goes on failing, at
// most for the given time. failsAt runs a script and gives the index of the op that
// fails, or -1. Scripts whose failure hangs on timing may not shrink.
func shrink(s script, failsAt func(script) int, limit time.Duration) script {
	deadline := time.Now().Add(limit)
	try := func(ops []op) bool {
		if len(ops) == len(s.ops) || time.Now().After(deadline) {
			return false
		}
		at := failsAt(script{s.cfg, ops})
		if at >= 0 {
			s.ops = ops[:min(at+1, len(ops))]
		}
		return at >= 0
	}
	for k := range kindCount { // most kinds play no part
		try(slices.DeleteFunc(slices.Clone(s.ops), func(o op) bool { return o.kind == k }))
	}
	for size := len(s.ops) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(s.ops); {
			if try(slices.Delete(slices.Clone(s.ops), at, at+size)) {
				smaller = true
			} else {
				at += size
			}
		}
		if time.Now().After(deadline) {
			return s
		}
		if size = min(size, len(s.ops)); !smaller {
			size /= 2
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
