//go:build !linux

package acceptance_test

import "syscall"

// endWithParent is for Linux only.
func endWithParent() *syscall.SysProcAttr { return nil }
