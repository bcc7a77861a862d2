package weave

// Uint32 is an atomic in this package, so the function of math/rand/v2 has another name here: see Rewrite.

// Random32 is rand.Uint32: numbers that the session's seed decides.
func Random32() uint32 {
	s := active
	if s == nil {
		return 0
	}
	return uint32(next(&s.random) >> 32)
}

// next is splitmix64.
func next(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
