package process

import "syscall"

// endWithParent makes the kernel stop the program if the command is killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
