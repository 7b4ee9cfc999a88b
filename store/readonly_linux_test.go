package store_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

func TestReadOnlyDatabaseIsRefusedAtOpen(t *testing.T) {
	file := newFile(t)
	require.NoError(t, twoInstances(t, "sqlite://"+file).Close())
	require.NoError(t, os.Chmod(file, 0o444))
	// Every directory up to the temporary one, so that only the file's mode
	// is in the way of another user.
	for dir := filepath.Dir(file); dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o777))
	}
	if os.Geteuid() == 0 { // root writes to every file
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		require.NoError(t, syscall.Setfsuid(65534))
		defer func() { _ = syscall.Setfsuid(0) }()
	}
	_, err := store.Open(ctx, store.Config{URL: "sqlite://" + file})
	require.ErrorIs(t, err, os.ErrPermission)
	require.ErrorContains(t, err, file)
}
