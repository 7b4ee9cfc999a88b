//go:build !linux

package acceptance_test

import (
	"os"
	"syscall"
)

// endWithParent is for Linux only.
func endWithParent() *syscall.SysProcAttr { return nil }

// inMemory is for Linux only.
func inMemory() string { return os.TempDir() }
