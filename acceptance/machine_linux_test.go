package acceptance_test

import (
	"os"
	"syscall"
)

// endWithParent makes the kernel stop the child if the tests are killed.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// inMemory is a directory whose files are in memory, if there is room: databases
// wait for the disk, and so do the tests of all who use the same disk.
func inMemory() string {
	const dir, room = "/dev/shm", 2 << 30
	var found syscall.Statfs_t
	if syscall.Statfs(dir, &found) != nil || found.Bavail*uint64(found.Bsize) < room {
		return os.TempDir()
	}
	return dir
}
