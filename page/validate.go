package page

// Validate checks everything in a node page that can be told from the page alone: checksum, number, kind, level, counts,
// offsets, lengths, order of keys, heads and prefix, flags, images of inline buckets. What it has passed may be trusted:
// no method of Leaf or Branch panics on it when called with indices in range. The error is a *CorruptError.
func Validate(p []byte, id ID) error { panic("not built yet") }
