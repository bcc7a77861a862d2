package vfs

// Medium says what a file lies on, as far as it matters to who maps the file: whether a mapping and a write
// through a descriptor show the same bytes, to every process and on every host.
type Medium struct {
	// Name of the kind of file system, for messages; empty where the system does not tell.
	Name string

	// Network: hosts share the file, and what one of them writes another need not see in its mapping.
	Network bool

	// Doubtful: there are file systems of this name that keep mapping and file alike, and others that do
	// not. Who depends on it has to look.
	Doubtful bool
}
