package acceptance_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A gateway whose bundle cannot be activated does not start: the built-in
// policy alone would allow more than the operator wants.
func TestABrokenBundleRefusesToStartAndSaysWhere(t *testing.T) {
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
			dir := t.TempDir()
			require.NoError(t, writeFiles(dir, test.files))
			end := execute(t, complete(t, "POLICY_BUNDLE="+dir), "serve")
			assert.Equal(t, 1, end.code)
			assert.Contains(t, end.stderr, "POLICY_BUNDLE")
			for _, part := range test.say {
				assert.Contains(t, end.stderr, part)
			}
			assert.NotContains(t, end.stdout, `"msg":"serving"`)
			assert.LessOrEqual(t, strings.Count(strings.TrimSpace(end.stderr), "\n"), 4, "one error, not a page: %s", end.stderr)
		})
	}
}
