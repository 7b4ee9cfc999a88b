package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
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
