package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func runWith(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, program{nil, &out, &err})
	return code, out.String(), err.String()
}

func TestHelpTeaches(t *testing.T) {
	code, out, _ := runWith(t.Context(), "--help")
	assert.Zero(t, code)
	for _, command := range []string{"serve", "playground", "version"} {
		assert.Contains(t, out, command)
	}
	code, out, _ = runWith(t.Context(), "serve", "--help")
	assert.Zero(t, code)
	assert.Contains(t, out, "BROKER_PASSWORD")
}

func TestUnknownCommandsAndFlagsSayWhereToLook(t *testing.T) {
	for _, args := range [][]string{{"sevre"}, {"serve", "--nope"}, {}} {
		code, _, stderr := runWith(t.Context(), args...)
		assert.Equal(t, 2, code, args)
		assert.Contains(t, stderr, "--help", args)
	}
}

func TestVersionNamesGoAndOPA(t *testing.T) {
	code, out, _ := runWith(t.Context(), "version")
	assert.Zero(t, code)
	assert.Regexp(t, `(?s)mtls-authz .*go +go1\..*opa +1\.`, out)
}

func TestServeWithoutSettingsNamesThemAll(t *testing.T) {
	code, _, stderr := runWith(t.Context(), "serve")
	assert.Equal(t, 1, code)
	for _, name := range []string{"GATEWAY_URL", "BROKER_USERNAME", "BROKER_PASSWORD", "CALLER_CA_FILES"} {
		assert.Contains(t, stderr, name)
	}
}

// A pipeline can tell a denial from an error.
func TestExitStatus(t *testing.T) {
	outcome := ""
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "outcome   "+outcome+"\n")
	}))
	defer gateway.Close()
	t.Setenv("READ_USERNAME", "auditor")
	t.Setenv("READ_PASSWORD", "readers-own-password")
	const guid = "d76446a1-f429-4444-8797-be2f78b75b08"
	for answer, want := range map[string]int{"allowed": 0, "denied scope": 3, "unclear": 1} {
		outcome = answer
		code, out, _ := runWith(t.Context(), "access", "backend.apps.identity", "--url", gateway.URL, "--app", guid, "--space", guid, "--org", guid)
		assert.Equal(t, want, code)
		assert.Contains(t, out, answer)
	}
}

// The token for the server of bundles is shown to no other.
func TestTheTokenIsForOneServer(t *testing.T) {
	const bundle = "https://bundles.example/company.tar.gz"
	for other, same := range map[string]bool{
		bundle: true, "https://BUNDLES.example/next.tar.gz?v=2": true,
		"https://bundles.example:8443/next.tar.gz": false, "https://bundles.example.evil.example/x": false, "https://evil.example/bundles.example": false,
		"http://bundles.example/x": false, "/bundles.example/x": false, "": false, "https://bundles.example@evil.example/x": false,
	} {
		assert.Equal(t, same, sameServer(bundle, other), other)
	}
	assert.False(t, sameServer("/a", "/a"), "files need none")
}

func TestThePlaygroundSaysThatItsPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	code, _, stderr := runWith(t.Context(), "playground", "--port", port)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, port)
}
