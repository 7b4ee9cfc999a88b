package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
)

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 10*time.Millisecond, what)
}

func TestProcessorTimeIsThatOfTheProcessAndItsChildren(t *testing.T) {
	idle, err := process.Start("sleep", "600")
	require.NoError(t, err)
	defer func() { assert.NoError(t, idle.Stop()) }()
	busy, err := process.Start("sh", "-c", "trap 'kill $!; exit' TERM; (while :; do :; done) & wait")
	require.NoError(t, err)
	defer func() { assert.NoError(t, busy.Stop()) }()
	await(t, "the child works", func() bool {
		used, err := process.CPU(busy.PID())
		return assert.NoError(t, err) && used > 50*time.Millisecond
	})
	used, err := process.CPU(idle.PID())
	require.NoError(t, err)
	assert.Less(t, used, 50*time.Millisecond, "the other's time is not counted")
}

// The name stands in the middle of the line that tells the time.
func TestNamesWithSpacesAndParentheses(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	text, err := os.ReadFile(sleep)
	require.NoError(t, err)
	odd := filepath.Join(t.TempDir(), "a) S (1 2")
	require.NoError(t, os.WriteFile(odd, text, 0o700))
	p, err := process.Start(odd, "600")
	require.NoError(t, err)
	defer func() { assert.NoError(t, p.Stop()) }()
	_, err = process.CPU(p.PID())
	assert.NoError(t, err)
}

func TestProcessesThatEndedAreAnError(t *testing.T) {
	p, err := process.Start("sleep", "600")
	require.NoError(t, err)
	require.NoError(t, p.Stop())
	_, err = process.CPU(p.PID())
	assert.ErrorContains(t, err, "only 0 run")
}

func TestProgramsThatDoNotListenSayWhy(t *testing.T) {
	address, err := process.FreeAddress()
	require.NoError(t, err)
	p, err := process.Start("sh", "-c", "echo the port is cursed >&2; exit 3")
	require.NoError(t, err)
	err = p.Listens(t.Context(), address)
	assert.ErrorContains(t, err, "exit status 3")
	assert.ErrorContains(t, err, "the port is cursed")
}
