package vfs

import "testing"

// What is written back is what lies there, whether slices come out even or not, and beyond the file's end there is nothing.
func TestWriteBack(t *testing.T) {
	f := newFile(t)
	noErr(t, "allocate", f.Allocate(0, 3*writeBackSlice))
	_, err := f.WriteAt([]byte("dirty"), 2*writeBackSlice-2)
	noErr(t, "write", err)
	m := mapped(t, f, 8*writeBackSlice)
	os := m.(*mapping).file
	if !os.canWriteBack() {
		t.Skip("there is no sync_file_range here")
	}
	for _, r := range [][2]int64{{0, 0}, {0, 1}, {1, 3*writeBackSlice - 1}, {0, 8 * writeBackSlice}, {5, writeBackSlice}} {
		noErr(t, "write back", os.writeBack(r[0], r[1]))
		noErr(t, "msync", m.Sync(r[0], r[1]))
	}
	if got := string(m.Bytes()[2*writeBackSlice-2:][:5]); got != "dirty" {
		t.Errorf("the file has %q", got)
	}
}

// A mapping outlives the descriptor that it was made from, and what was written goes to the disk all the same.
func TestSyncOfMappingWhoseFileIsClosed(t *testing.T) {
	f := newFile(t)
	noErr(t, "allocate", f.Allocate(0, writeBackSlice))
	m := mapped(t, f, writeBackSlice)
	m.(*mapping).file.canWriteBack() // asked before, so that the closed file is come upon in the midst of it
	noErr(t, "close", f.Close())
	noErr(t, "msync", m.Sync(0, writeBackSlice))
}
