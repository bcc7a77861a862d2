package vfs

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// Medium asks for the protocol that the file is reached by, which only a remote one has.
func (f *osFile) Medium() (m Medium, err error) {
	err = f.call("stat", func() error {
		var info [64]uint64 // more than the structure of any version
		if windows.GetFileInformationByHandleEx(f.handle, windows.FileRemoteProtocolInfo, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))) == nil {
			m = Medium{Name: "a network drive", Network: true}
		}
		return nil
	})
	return m, err
}
