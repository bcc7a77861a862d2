package vfs

// Medium cannot tell.
func (f *osFile) Medium() (Medium, error) { return Medium{}, nil }
