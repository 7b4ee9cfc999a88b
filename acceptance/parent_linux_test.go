package acceptance_test

import "syscall"

// endWithParent makes the kernel stop the child if the tests are killed.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
