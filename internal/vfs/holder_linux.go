package vfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// LockHolder returns a process that holds a lock on the byte at off of the file; 0 if none is to be seen. It is for
// messages alone: a lock of an open file has no process in the kernel's answer, so this looks through the open
// files of all processes that the caller may inspect, in its own pid namespace, and all of it may change meanwhile.
func LockHolder(file Info, off int64) int {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			continue // another user's, or gone
		}
		for _, fd := range fds {
			if holdsLock(file, off, fmt.Sprintf("/proc/%d", pid), fd.Name()) {
				return pid
			}
		}
	}
	return 0
}

// holdsLock reports whether a descriptor is of the file and holds a lock on the byte.
func holdsLock(file Info, off int64, process, fd string) bool {
	fi, err := os.Stat(process + "/fd/" + fd)
	if err != nil || !fi.Mode().IsRegular() {
		return false
	}
	if i := infoOf(fi); i.Dev != file.Dev || i.Ino != file.Ino {
		return false
	}
	text, err := os.ReadFile(process + "/fdinfo/" + fd)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if locksByte(line, off) {
			return true
		}
	}
	return false
}

// locksByte reads a line such as
//
//	lock:	1: OFDLCK  ADVISORY  WRITE -1 00:2f:1523 4611686018427387904 4611686018427387904
func locksByte(line string, off int64) bool {
	f := strings.Fields(line)
	if len(f) != 9 || f[0] != "lock:" || f[2] != "OFDLCK" {
		return false
	}
	start, err := strconv.ParseInt(f[7], 10, 64)
	if err != nil || start > off {
		return false
	}
	end, err := strconv.ParseInt(f[8], 10, 64)
	return err == nil && end >= off || f[8] == "EOF"
}
