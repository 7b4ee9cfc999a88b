package acceptance_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// ended is how a run of the binary ended.
type ended struct {
	code           int
	stdout, stderr string
}

// execute runs the binary with an environment of its own until it ends.
func execute(t *testing.T, env []string, args ...string) ended {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Dir, command.Env = t.TempDir(), env
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// password is a secret to look for.
const password = "the-brokers-own-password"

// complete is an environment off Cloud Foundry with which serve starts.
func complete(t *testing.T, more ...string) []string {
	t.Helper()
	root, err := ca.NewRoot("instanceIdentityCA")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, root.PEM(), 0o600))
	port, err := freePort()
	require.NoError(t, err)
	return append([]string{
		fmt.Sprintf("PORT=%d", port), "GATEWAY_URL=https://mtls-authz.apps.identity", "BROKER_USERNAME=broker", "BROKER_PASSWORD=" + password,
		"CALLER_CA_FILES=" + file, "ROUTER_CA_FILES=" + file, "ROUTER_TRUST=assume", "DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
	}, more...)
}

func TestMissingSettingsAreReportedAllAtOnce(t *testing.T) {
	t.Parallel()
	end := execute(t, nil, "serve")
	assert.Equal(t, 1, end.code)
	for _, name := range []string{"GATEWAY_URL", "BROKER_USERNAME", "BROKER_PASSWORD", "CALLER_CA_FILES"} {
		assert.Contains(t, end.stderr, name+":")
	}
	assert.Empty(t, end.stdout)
}

func TestMalformedSettingsAreReportedAllAtOnce(t *testing.T) {
	t.Parallel()
	malformed := map[string]string{
		"PORT": "eighty", "GATEWAY_URL": "http://gateway.example.com/path", "BROKER_PASSWORD": "too-short", "STORE_URL": "mysql://u:hidden-in-url@h/db",
		"ALLOW_EPHEMERAL_STATE": "yes", "REDIS_URL": "http://u:hidden-in-redis@h", "CALLER_CA_FILES": "/nowhere.pem", "XFCC_FORMAT": "json",
		"ROUTER_ADDRESS": "router", "ROUTER_CA_FILES": "/nowhere-either.pem", "ROUTER_TRUST": "always", "REPORT_MODE": "maybe",
		"ALLOW_WILDCARD_ROUTES": "1", "CA_FILES": "/nowhere-at-all.pem", "POLICY_BUNDLE": "http://h/bundle", "POLICY_TIMEOUT": "fast",
		"POLICY_TIME_ZONE": "Mars/Olympus", "CACHE_ENTRIES": "-1", "CACHE_TTL": "60", "CACHE_DENY_TTL": "-5s", "CACHE_MAC_KEY": "short-mac-key",
		"MAX_IN_FLIGHT": "0", "MAX_IN_FLIGHT_PER_ROUTE": "many", "UPSTREAM_HEADER_TIMEOUT": "0", "MAX_STREAM": "x", "DRAIN_TIMEOUT": "never",
		"LOG_LEVEL": "loud", "MAX_URI_BYTES": "1023",
	}
	env := []string{"BROKER_USERNAME=broker"}
	for name, value := range malformed {
		env = append(env, name+"="+value)
	}
	end := execute(t, env, "serve")
	assert.Equal(t, 1, end.code)
	for name := range malformed {
		assert.Contains(t, end.stderr, name+":")
	}
	for _, hidden := range []string{"too-short", "hidden-in-url", "hidden-in-redis", "short-mac-key"} {
		assert.NotContains(t, end.stderr+end.stdout, hidden)
	}
}

func TestContradictorySettingsAreReportedAllAtOnce(t *testing.T) {
	t.Parallel()
	end := execute(t, complete(t, "BROKER_PASSWORD_PREVIOUS="+password, "READ_USERNAME=reader", "CF_INSTANCE_CERT=-----BEGIN CERTIFICATE-----",
		"MAX_IN_FLIGHT=10", "MAX_IN_FLIGHT_PER_ROUTE=11", "MAX_HEADER_BYTES=2048", "MAX_URI_BYTES=2049"), "serve")
	assert.Equal(t, 1, end.code)
	for _, names := range []string{"BROKER_PASSWORD_PREVIOUS", "READ_USERNAME and READ_PASSWORD", "CF_INSTANCE_CERT and CF_INSTANCE_KEY", "MAX_IN_FLIGHT_PER_ROUTE", "MAX_URI_BYTES"} {
		assert.Contains(t, end.stderr, names)
	}
	assert.NotContains(t, end.stderr, password)
}

func TestSQLiteOnCloudFoundryNeedsToBeWantedAndOneInstance(t *testing.T) {
	t.Parallel()
	const application = `VCAP_APPLICATION={"application_id":"d76446a1-f429-4444-8797-be2f78b75b08","application_uris":["mtls-authz.apps.identity"]}`
	end := execute(t, complete(t, application), "serve")
	assert.Equal(t, 1, end.code)
	assert.Contains(t, end.stderr, "ALLOW_EPHEMERAL_STATE=true")
	end = execute(t, complete(t, application, "ALLOW_EPHEMERAL_STATE=true", "CF_INSTANCE_INDEX=1"), "serve")
	assert.Equal(t, 1, end.code)
	assert.Contains(t, end.stderr, "one instance")
}

func TestSIGTERMEndsServeWithSuccess(t *testing.T) {
	t.Parallel()
	s, err := launch(t.TempDir(), complete(t)[1:]) // launch chooses the port
	require.NoError(t, err)
	assert.NoError(t, s.stop())
}

// The CAs are for servers of bundles and Redis too; SQLite has no server.
func TestExtraCAsBesideSQLite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "extra.pem")
	require.NoError(t, os.WriteFile(file, common(t).another.PEM(), 0o600))
	serving(t, complete(t, "CA_FILES="+file)[1:])
}

// What is under way when SIGTERM comes ends as it would have.
func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	begun, release := make(chan struct{}), make(chan struct{})
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = w.Write([]byte("finished"))
	}})
	conn, line := p.sendDirect(t, leg2{caller: "frontend"})
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- w.StopGateway() }()
	p.await(t, "the line of draining", func() map[string]any {
		for _, line := range p.lines {
			if strings.Contains(line, `"msg":"draining"`) {
				return map[string]any{}
			}
		}
		return nil
	})
	close(release)
	assert.Equal(t, "finished", p.read(t, readResponse(t, conn, line)).expect(t, "200 allowed").body)
	select {
	case err := <-stopped:
		assert.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("the gateway did not stop")
	}
}

func TestTheCommandLine(t *testing.T) {
	t.Parallel()
	end := execute(t, nil, "frobnicate")
	assert.Equal(t, 2, end.code)
	assert.Contains(t, end.stderr, "frobnicate")
	assert.Contains(t, end.stderr, "--help")
	end = execute(t, nil, "serve", "--frobnicate")
	assert.Equal(t, 2, end.code)
	end = execute(t, nil, "--help")
	assert.Equal(t, 0, end.code)
	for _, command := range []string{"serve", "playground", "version"} {
		assert.Contains(t, end.stdout, command)
	}
	end = execute(t, nil, "version")
	assert.Equal(t, 0, end.code)
	assert.Contains(t, end.stdout, "opa")
}

func TestThePlaygroundChecksItselfAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	end := execute(t, []string{"TMPDIR=" + dir}, "playground", "--check")
	assert.Equal(t, 0, end.code, end.stdout+end.stderr)
	assert.Contains(t, end.stdout, " 0 failed")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}
