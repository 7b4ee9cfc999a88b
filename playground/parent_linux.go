package playground

import "syscall"

// endWithParent makes the kernel stop the child if the playground is killed.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
