package vfs

import "errors"

// privateFile is a copy of a file in a temporary one. Locks are the first one's.
type privateFile struct {
	File
	from *osFile
}

// Private copies the whole file: a view cannot be laid over a part of another one here.
func (f *osFile) Private(align int64) (File, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	to, err := Anonymous()
	if err != nil {
		return nil, 0, err
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < info.Size && err == nil; off += int64(len(p)) {
		part := p[:min(int64(len(p)), info.Size-off)]
		var n int
		if n, err = f.ReadAt(part, off); n == len(part) {
			_, err = to.WriteAt(part, off)
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, to.Close())
	}
	return &privateFile{to, f}, info.Size / align * align, nil
}

func (f *privateFile) Name() string { return f.from.Name() }

func (f *privateFile) Lock(off int64, exclusive bool) error { return f.from.Lock(off, exclusive) }

func (f *privateFile) Unlock(off int64) error { return f.from.Unlock(off) }

func (f *privateFile) Share(int64) (Shared, error) {
	return nil, pathError("share", f.Name(), errors.ErrUnsupported)
}

func (f *privateFile) LockedByOthers(off int64) (bool, error) { return f.from.LockedByOthers(off) }

func (f *privateFile) Close() error { return errors.Join(f.File.Close(), f.from.Close()) }
