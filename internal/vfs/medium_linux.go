package vfs

import "golang.org/x/sys/unix"

// smbMagic are the kinds of the SMB clients, which x/sys does not all name.
const (
	smbMagic  = 0x517b
	cifsMagic = 0xff534d42
	smb2Magic = 0xfe534d42
)

// media are the kinds of file system that need a second look; all others are local, and coherent.
var media = map[uint32]Medium{
	unix.NFS_SUPER_MAGIC:       {Name: "nfs", Network: true},
	smbMagic:                   {Name: "smb", Network: true},
	cifsMagic:                  {Name: "cifs", Network: true},
	smb2Magic:                  {Name: "smb", Network: true},
	unix.V9FS_MAGIC:            {Name: "9p", Network: true},
	unix.AFS_SUPER_MAGIC:       {Name: "afs", Network: true},
	unix.AFS_FS_MAGIC:          {Name: "afs", Network: true},
	unix.CODA_SUPER_MAGIC:      {Name: "coda", Network: true},
	unix.CEPH_SUPER_MAGIC:      {Name: "ceph", Doubtful: true},
	unix.FUSE_SUPER_MAGIC:      {Name: "fuse", Doubtful: true},
	unix.OVERLAYFS_SUPER_MAGIC: {Name: "overlay", Doubtful: true},
}

func (f *osFile) Medium() (Medium, error) {
	var st unix.Statfs_t
	err := f.call("statfs", func(fd int) error { return unix.Fstatfs(fd, &st) })
	return media[uint32(st.Type)], err // the field's type differs between architectures
}
