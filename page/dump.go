package page

import "io"

// Dump writes p, a node page or a meta slot, as text: its header, a line for each entry with keys escaped, what Validate
// finds wrong, and the bytes of what cannot be read otherwise. It takes any bytes.
func Dump(w io.Writer, p []byte) error { panic("not built yet") }
