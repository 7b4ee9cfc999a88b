package acceptance_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The exit status is what CI sees: 0 for good, 1 for findings, 2 for a command
// that makes no sense.
func TestPolicyCommandsEndWithTheirStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return filepath.Dir(path)
	}
	good := write("good/a.rego", "package site.check.a\n\nallow if input.request.method == \"GET\"\n")
	bad := write("bad/a.rego", "package site.check.a\n\nallow if input.caler\n")
	widens := write("widens/a.rego", "package mtls.authz\n\ngranted := true\n")
	write("key.pem", "no key, but a secret\n")
	caller := []string{
		"--app=d76446a1-f429-4444-8797-be2f78b75b08", "--space=6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3", "--org=6e424e4e-5e46-419a-9cb6-eac9de2794e8",
		"--allow=cf:any",
	}
	asked := append([]string{"eval", good, "--url=https://a.apps.identity/x"}, caller...)
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"check", good}, 0, "would activate"},
		{[]string{"check", bad}, 1, "did you mean caller?"},
		{[]string{"check", widens}, 1, "belongs to the gateway"},
		{[]string{"check", filepath.Join(dir, "nothing")}, 1, "no such file"},
		{[]string{"test", good}, 1, "no test ran"},
		{asked, 0, "allow"},
		{append(asked, "--method=PUT", "--fail-on-deny"), 1, "policy_denied"},
		{append(asked, "--method=PUT"), 0, "deny"},
		{append(asked, "--url=https://a.apps.identity/../x"), 1, "--url"},
		{[]string{"eval", good, "--method=get"}, 1, "--app: required"},
		{append(asked, "--input=-"), 1, "give it alone"},
		{[]string{"build", bad, "-o", filepath.Join(dir, "bad.tar.gz")}, 1, "did you mean caller?"},
		{[]string{"build", good, "-o", filepath.Join(dir, "x.tar.gz"), "--sign", filepath.Join(dir, "key.pem")}, 1, "expected a private key"},
		{[]string{"diff", good, good, "--inputs", os.DevNull}, 1, "no requests"},
		{[]string{"diff", good}, 2, "--help"},
		{[]string{"check", "--help"}, 0, "mtls-authz policy check ./bundle"},
	} {
		out, err := exec.CommandContext(t.Context(), binary, append([]string{"policy"}, test.args...)...).CombinedOutput()
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		}
		assert.Equal(t, test.status, status, "%v: %s", test.args, out)
		assert.Contains(t, string(out), test.says, test.args)
		assert.NotContains(t, string(out), "but a secret")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tar.gz*"))
	require.NoError(t, err)
	assert.Empty(t, left, "a bundle that was refused")
}
