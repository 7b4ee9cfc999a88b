package store_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// smallDisk is set in the process that may mount one.
const smallDisk = "MTLS_AUTHZ_TEST_SMALL_DISK"

// A disk that is full fails one change after another, and each leaves everything
// as it was; when there is space again, they succeed.
func TestFullDisk(t *testing.T) {
	dir := os.Getenv(smallDisk)
	if dir != "" {
		testFullDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$")
	cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		t.Skipf("this machine lets nobody mount a disk of his own: %v", err)
	}
	require.NoError(t, err, string(out))
}

func testFullDisk(t *testing.T, dir string) {
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
	url := "sqlite://" + filepath.Join(dir, "state.db")
	s := twoInstances(t, url)
	filler := filepath.Join(dir, "filler")
	large := func(n int) string {
		return fmt.Sprintf(`{"allow":["%s"],"annotations":{"note":"%s"}}`, app(n), strings.Repeat("x", 4000))
	}
	id := func(n int) string { return fmt.Sprintf("new%d", n) }
	for name, change := range map[string]func(n int) error{
		"create": func(n int) error { _, err := s.CreateInstance(ctx, by, instance(t, id(n), large(n))); return err },
		"bind":   func(n int) error { _, _, err := s.CreateBinding(ctx, by, binding(t, "i", id(n), "{}")); return err },
		"update": func(n int) error { return s.UpdateInstance(ctx, by, "healthy", setTo(given(t, large(n)))) },
		"unbind": func(n int) error { return s.DeleteBinding(ctx, by, "i", []string{"b1", "b2", id(n)}[min(n, 2)]) },
	} {
		fill(t, filler)
		var err error
		n := 0
		// What SQLite has reserved is used up first.
		for ; err == nil || errors.Is(err, store.ErrNotFound); n++ {
			require.Less(t, n, 2000, name)
			fill(t, filler)
			instances, bindings := []string{"i", "healthy", id(n)}, []string{"b1", "b2", "b3", id(n)}
			before := state(t, s, instances, bindings)
			if err = change(n); err != nil && !errors.Is(err, store.ErrNotFound) {
				require.ErrorIs(t, err, store.ErrUnavailable, name)
				require.ErrorContains(t, err, "full", name)
				require.Equal(t, before, state(t, s, instances, bindings), name)
			}
		}
		require.NoError(t, os.Remove(filler))
		require.NoError(t, change(n), name)
	}
	instances, bindings := []string{"i", "healthy"}, []string{"b1", "b2", "b3"}
	want := state(t, s, instances, bindings)
	require.NoError(t, s.Close())
	require.Equal(t, want, state(t, open(t, url), instances, bindings))
}

// fill leaves no space.
func fill(t *testing.T, name string) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer func() { _ = file.Close() }() // it is full
	for chunk := make([]byte, 4096); err == nil; {
		_, err = file.Write(chunk)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
}
