package author_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/author"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

var update = flag.Bool("update", false, "write the golden files anew")

// digests change with the built-in policy.
var digests = regexp.MustCompile(`[0-9a-f]{32,64}\b`)

var columns = regexp.MustCompile(`(\S) {3,}`)

// golden compares what was written for people with a file.
func golden(t *testing.T, name, dir string, got []byte) {
	t.Helper()
	text := digests.ReplaceAllString(strings.ReplaceAll(string(got), dir, "DIR"), "<digest>")
	text = columns.ReplaceAllString(text, "$1   ") // their width is that of the folder's name
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	expected, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(expected), text)
}

// files of a bundle by path.
type files map[string]string

func directory(t *testing.T, bundle files) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range bundle {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}

var settings = author.Settings{Timeout: 10 * time.Second}

const (
	check = `# METADATA
# title: Quiet hours
package site.check.quiet

default allow := false

allow if not late

allow if {
	some exempt in data.exempt
	exempt.app == input.caller.app
	exempt.method == input.request.method
}

allow if trusted(input.caller.org)

trusted(org) if org == "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33"

late if {
	input.now.minute >= 1320
	startswith(input.request.path, "/batch")
}

reason := "quiet"
`
	data = `{"exempt": [{"app": "d76446a1-f429-4444-8797-be2f78b75b08", "method": "GET"}, {"app": "x", "method": "POST"}],
		"site": {"grants": [{"source": "cf:any", "methods": ["GET"], "reason": "open"}, "cf:app:0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"]}}`
	tests = `package site.check.quiet_test

import data.site.check.quiet

test_day if quiet.allow with input.now.minute as 600 with input.request.path as "/batch"

test_night if not quiet.allow with input as {"now": {"minute": 1400}, "request": {"path": "/batch", "method": "GET"}, "caller": {"app": "y", "org": "z"}}
`
	wrong = `
test_wrong if {
	quiet.reason == "loud"
}

todo_test_later if false
`
	input = `{"caller": {"kind": "cf", "foundation": "local", "app": "d76446a1-f429-4444-8797-be2f78b75b08", "space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8", "instance": "i"},
		"request": {"method": "POST", "host": "a.apps.identity", "path": "/batch/1", "segments": ["batch", "1"]},
		"route": {"host": "a.apps.identity", "path": "", "binding": "b", "labels": {}},
		"owner": {"service_instance": "s", "space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3", "org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8", "scope": "any"},
		"grants": {"any": [], "apps": {"d76446a1-f429-4444-8797-be2f78b75b08": [{"methods": ["POST"]}]}, "spaces": {}, "orgs": {}},
		"now": {"minute": 1330, "weekday": "mon", "date": "2026-05-04"}}`
)

func TestCheckSaysWhatThePolicyIsMadeOf(t *testing.T) {
	dir := directory(t, files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests})
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		require.NoError(t, author.Check(t.Context(), &out, author.CheckConfig{Place: author.Place{Location: dir}, Settings: settings, JSON: asJSON}))
		golden(t, map[bool]string{false: "check", true: "check-json"}[asJSON], dir, out.Bytes())
	}
}

func TestCheckWritesEachFindingWithItsFix(t *testing.T) {
	dir := directory(t, files{
		"a.rego": "package site.check.a\n\nallow if not input.caler.app\n\nreason := \"x\" if input.request.methd == \"GET\"\n",
		"b.rego": "package site.check.b\n\nallow if http.send({\"method\": \"GET\", \"url\": \"https://a\"})\n",
	})
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		err := author.Check(t.Context(), &out, author.CheckConfig{Place: author.Place{Location: dir}, Settings: settings, JSON: asJSON})
		require.ErrorIs(t, err, author.ErrFindings)
		golden(t, map[bool]string{false: "findings", true: "findings-json"}[asJSON], dir, out.Bytes())
	}
}

// What a bundle's author chose must not steer the terminal of who reads it.
func TestNoBundleSteersTheTerminal(t *testing.T) {
	for name, bundle := range map[string]files{
		"title":   {"a.rego": "# METADATA\n# title: \"\\e[2J\\e]0;owned\\a\\u202e\"\npackage site.check.a\n\nallow := true\n"},
		"file":    {"\x1b[2J.rego": "package site.check.a\n\nallow if input.nothing\n"},
		"printed": {"a.rego": "package site.check.a\n\nallow := true\n", "a_test.rego": "package a_test\n\ntest_a if {\n\tprint(\"\\u001b[2J\")\n\tfalse\n}\n"},
	} {
		var out bytes.Buffer
		place := author.Place{Location: directory(t, bundle)}
		_ = author.Check(t.Context(), &out, author.CheckConfig{Place: place, Settings: settings})
		_ = author.Test(t.Context(), &out, author.TestConfig{Place: place})
		assert.NotEmpty(t, out.String(), name)
		assert.NotContains(t, out.String(), "\x1b", name)
		assert.NotContains(t, out.String(), "\u202e", name)
	}
}

func TestTestShowsWhatFailsAndWhatIsNotReached(t *testing.T) {
	for name, test := range map[string]struct {
		bundle   files
		cfg      author.TestConfig
		expected error
	}{
		"pass":        {files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests}, author.TestConfig{Coverage: true}, nil},
		"fail":        {files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests + wrong}, author.TestConfig{JSON: true}, author.ErrTestsFail},
		"fail-text":   {files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests + wrong}, author.TestConfig{}, author.ErrTestsFail},
		"coverage":    {files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests}, author.TestConfig{MinCoverage: 100}, author.ErrCoverage},
		"none":        {files{"quiet.rego": check, "data.json": data}, author.TestConfig{}, author.ErrNoTests},
		"no-such":     {files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests}, author.TestConfig{Run: "nothing"}, author.ErrNoTests},
		"only-data":   {files{"data.json": data}, author.TestConfig{}, nil},
		"not-a-check": {files{"a.rego": "package site.check.a\n"}, author.TestConfig{}, author.ErrFindings},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Location = directory(t, test.bundle)
			var out bytes.Buffer
			err := author.Test(t.Context(), &out, test.cfg)
			if test.expected == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, test.expected)
			}
			golden(t, "test-"+name, test.cfg.Location, out.Bytes())
		})
	}
	for _, cfg := range []author.TestConfig{{Run: "("}, {MinCoverage: 101}, {MinCoverage: -1}} {
		assert.ErrorContains(t, author.Test(t.Context(), &bytes.Buffer{}, cfg), "--")
	}
}

func eval(ctx context.Context, t *testing.T, dir, document string, cfg author.EvalConfig) (string, error) {
	t.Helper()
	recorded, err := replay.ParseOne([]byte(document))
	require.NoError(t, err)
	cfg.Location, cfg.Settings, cfg.Ask = dir, settings, author.Recorded(recorded)
	var out bytes.Buffer
	err = author.Eval(ctx, &out, cfg)
	return out.String(), err
}

func TestEvalExplains(t *testing.T) {
	dir := directory(t, files{"quiet.rego": check, "data.json": data, "quiet_test.rego": tests + wrong}) // its tests need not pass
	for name, cfg := range map[string]author.EvalConfig{"eval": {}, "eval-explain": {Explain: true}, "eval-json": {Explain: true, JSON: true}} {
		out, err := eval(t.Context(), t, dir, input, cfg)
		require.NoError(t, err)
		golden(t, name, dir, []byte(out))
	}
	_, err := eval(t.Context(), t, dir, input, author.EvalConfig{FailOnDeny: true})
	require.ErrorIs(t, err, author.ErrDenied)
	out, err := eval(t.Context(), t, dir, strings.Replace(input, `"minute": 1330`, `"minute": 600`, 1), author.EvalConfig{FailOnDeny: true})
	require.NoError(t, err)
	assert.Equal(t, "allow\n  mtls_policy          route:cf:app:d76446a1-f429-4444-8797-be2f78b75b08\n", out)
}

// The walk is the gateway's: no policy is asked outside the scope or without a
// grant, and an expression that fails denies.
func TestEvalWalksAsTheGateway(t *testing.T) {
	open := directory(t, files{"a.rego": "package site.check.a\n\nallow := true\n"})
	failing := directory(t, files{"a.rego": "package site.check.a\n\nallow if to_number(input.request.host) == 1\n"})
	change := func(from, to string) string { return strings.Replace(input, from, to, 1) }
	for _, test := range []struct{ dir, document, expected string }{
		{open, input, "allow\n"},
		{open, change(`"scope": "any"`, `"scope": "space"`), "allow\n"},
		{open, change(`"space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org"`, `"space": "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22",
		"org"`), "allow\n"},
		{open, strings.Replace(change(`"scope": "any"`, `"scope": "org"`), `"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8", "instance"`, `"org": "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33", "instance"`, 1), "domain:scope=org"},
		{open, change(`{"d76446a1-f429-4444-8797-be2f78b75b08": [{"methods": ["POST"]}]}`, `{}`), "route:no_grants"},
		{open, change(`[{"methods": ["POST"]}]`, `[{"methods": ["GET"]}]`), "no_matching_grant"},
		{failing, input, "policy_error"},
	} {
		out, err := eval(t.Context(), t, test.dir, test.document, author.EvalConfig{})
		require.NoError(t, err)
		assert.Contains(t, out, test.expected)
		assert.Equal(t, test.expected == "allow\n", strings.HasPrefix(out, "allow"), out)
	}
}
