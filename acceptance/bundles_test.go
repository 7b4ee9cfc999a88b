package acceptance_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A gateway whose bundle cannot be activated decides nothing: the built-in policy
// alone would allow more than the operator wants.
func TestAGatewayWithABrokenBundleIsNotReadyAndSaysWhere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		files map[string]string
		// say are parts of the error; file:line where there is one.
		say []string
	}{
		{"a syntax error", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nallow if {\n"}, []string{"a.rego:"}},
		{"a rule below data.mtls", map[string]string{"a.rego": "package mtls.authz\nimport rego.v1\ndecision := {}\n"}, []string{"a.rego:", "mtls"}},
		{"a rule below data.mtls by its name", map[string]string{"a.rego": "package site\nimport rego.v1\nx := 1\n", "b.rego": "package mtls\nimport rego.v1\nauthz.granted := true\n"}, []string{"b.rego:", "mtls"}},
		{"a check without allow", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nreason := \"x\"\n"}, []string{"site.check.a", "allow"}},
		{"a failing test", map[string]string{
			"a.rego":      "package site.check.a\nimport rego.v1\nallow := true\n",
			"a_test.rego": "package site.check.a_test\nimport rego.v1\nimport data.site.check.a\ntest_refuses if not a.allow\n",
		}, []string{"a_test.rego:4", "test_refuses"}},
		{"the network", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nallow if http.send({\"method\": \"GET\", \"url\": \"https://x/\"}).status_code == 200\n"}, []string{"a.rego:3", "http.send"}},
		{"the environment", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nallow if opa.runtime().env.X\n"}, []string{"a.rego:3", "opa.runtime"}},
		{"a random source", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nallow if rand.intn(\"x\", 2) == 1\n"}, []string{"a.rego:3", "rand.intn"}},
		{"a data path that is not there", map[string]string{"a.rego": "package site.check.a\nimport rego.v1\nallow if not data.site.blocked[input.caller.app]\n"}, []string{"a.rego:3", "data.site.blocked"}},
		{"a rule as operator's grants", map[string]string{"a.rego": "package site\nimport rego.v1\ngrants := []\n"}, []string{"a.rego:3"}},
		{"malformed operator's grants", map[string]string{"data.json": `{"site":{"grants":[{"source":"cf:app:nobody"}]}}`}, []string{"site.grants", "cf:app:nobody"}},
		{"a check as data", map[string]string{"data.json": `{"site":{"check":{"a":{"allow":true}}}}`}, []string{"site.check"}},
		{"data below data.mtls", map[string]string{"data.json": `{"mtls":{"authz":{"granted":true}}}`}, []string{"mtls"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			assert.Empty(t, missing(unready(t, test.files), test.say))
		})
	}
}

// unready starts a gateway with a bundle that cannot be activated, and returns
// why it is not ready.
func unready(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, writeFiles(dir, files))
	s, err := begin(t.TempDir(), complete(t, "POLICY_BUNDLE="+dir)[1:]) // begin chooses the port
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.stop()) })
	var why string
	require.Eventually(t, func() bool {
		status, body := s.ask(t, "/readyz")
		why = body
		return status == http.StatusServiceUnavailable && strings.Contains(body, "no policy is in force yet: ")
	}, patience, 20*time.Millisecond)
	status, err := s.status("/healthz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, status, "Cloud Foundry must not send it requests")
	assert.NotContains(t, why, "\"ready\":true")
	return why
}

// ask asks as the broker's user.
func (s *server) ask(t *testing.T, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(t, err)
	request.SetBasicAuth("broker", password)
	res, err := (&http.Client{Transport: s.transport}).Do(request)
	if err != nil {
		return 0, err.Error() // it may not listen yet
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

// missing are the parts that a text does not have, as JSON would show them.
func missing(text string, parts []string) (absent []string) {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			absent = append(absent, part+" in "+text)
		}
	}
	return absent
}
