//go:build !linux

package playground

import "syscall"

// endWithParent is for Linux only; elsewhere a killed playground leaves its
// gateway to be stopped by hand.
func endWithParent() *syscall.SysProcAttr { return nil }
