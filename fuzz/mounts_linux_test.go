package fuzz

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// mountsEnv is set in a process that may mount: its mounts are its own, and go with it.
const mountsEnv = "FOLIO_FUZZ_MOUNTS"

// withMounts runs the test once more in a process with mounts of its own, as root there if need be, and reports true in
// that process. Where there can be no such process, or it cannot mount, the test is skipped.
func withMounts(t *testing.T, user bool) bool {
	t.Helper()
	if os.Getenv(mountsEnv) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=1h"}
	flag.Visit(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "folio.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), mountsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		if !user {
			t.Skip("this needs root")
		}
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case err != nil && len(out) == 0:
		t.Skipf("no process with mounts of its own can be made here: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, text)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	default:
		t.Log(text)
	}
	return false
}

// mountTmpfs mounts a file system in memory with so much room, or gives the mounted one so much.
func mountTmpfs(t *testing.T, dir, size string, again bool) {
	t.Helper()
	flags := uintptr(0)
	if again {
		flags = syscall.MS_REMOUNT
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, "size="+size); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
}
