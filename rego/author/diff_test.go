package author_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/author"
)

// line is a recorded request of a method.
func line(t *testing.T, method string, change func(recorded map[string]any)) string {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(input, `"POST"`, `"`+method+`"`)), &document))
	none := map[string]any{"any": []any{}, "apps": map[string]any{}, "spaces": map[string]any{}, "orgs": map[string]any{}}
	recorded := map[string]any{
		"decision_id": "d-" + method, "time": "2026-05-04T22:10:00Z", "route": "a.apps.identity", "binding": "b", "policy_revision": "00",
		"decision": map[string]any{"allow": true, "policy": "", "reason": "", "headers": map[string]any{}}, "cache": "none",
		"input": document, "operator_grants": none, "omitted": []any{},
	}
	if change != nil {
		change(recorded)
	}
	text, err := json.Marshal(recorded)
	require.NoError(t, err)
	return string(text) + "\n"
}

func omit(paths ...any) func(map[string]any) {
	return func(recorded map[string]any) { recorded["omitted"] = paths }
}

const (
	before = "package site.check.a\n\ndefault allow := false\n\nallow if input.request.method in {\"GET\", \"PUT\", \"HEAD\"}\n\nreason := \"old\"\n"
	after  = "package site.check.a\n\ndefault allow := false\n\nallow if input.request.method in {\"GET\", \"DELETE\", \"HEAD\"}\n\nreason := \"new\"\n\nheaders[\"X-Mtls-Authz-Policy-Head\"] := \"x\" if input.request.method == \"HEAD\"\n"
)

func diff(t *testing.T, oldRego, newRego, inputs string, change func(*author.DiffConfig)) (string, error) {
	t.Helper()
	cfg := author.DiffConfig{
		Old: author.Place{Location: directory(t, files{"a.rego": oldRego})}, New: author.Place{Location: directory(t, files{"a.rego": newRego})},
		Settings: settings, Inputs: strings.NewReader(inputs), Examples: 2,
	}
	if change != nil {
		change(&cfg)
	}
	var out bytes.Buffer
	err := author.Diff(t.Context(), &out, cfg)
	return out.String(), err
}

func TestDiffGroupsByWhatChanges(t *testing.T) {
	inputs := line(t, "GET", nil) + line(t, "DELETE", nil) + line(t, "PUT", nil) + line(t, "PATCH", nil) + line(t, "HEAD", nil) + "{}\n" +
		line(t, "GET", func(r map[string]any) {
			request := r["input"].(map[string]any)["request"].(map[string]any)
			request["path"], request["segments"] = "/\x1b[2J", []any{"\x1b[2J"}
			r["input"].(map[string]any)["request"] = request
		})
	out, err := diff(t, before, after, inputs, nil)
	require.ErrorIs(t, err, author.ErrNewAllows)
	golden(t, "diff", "/no/such/folder", []byte(out))
	_, err = diff(t, before, after, inputs, func(c *author.DiffConfig) { c.AcceptNewAllows = true })
	require.ErrorIs(t, err, author.ErrUnreadable, "a line that is not read could be a new allow")
	asJSON, err := diff(t, before, after, inputs, func(c *author.DiffConfig) { c.JSON = true })
	require.ErrorIs(t, err, author.ErrNewAllows)
	var report struct{ Counts map[string]int }
	require.NoError(t, json.Unmarshal([]byte(asJSON), &report))
	assert.Equal(t, map[string]int{"new_allow": 1, "new_deny": 1, "other_reason": 1, "other_headers": 1, "unreadable": 1, "unchanged": 2}, report.Counts)
}

// What was not recorded is unknown as soon as one of the two reads it.
func TestWhatWasNotRecordedIsNeverUnchanged(t *testing.T) {
	reading := strings.Replace(before, "allow if", "allow if not input.request.path == \"/secret\"\n\nallow if", 1)
	inputs := line(t, "GET", omit("request.path", "request.segments"))
	for _, test := range []struct{ before, after string }{{before, reading}, {reading, before}, {reading, reading}} {
		out, err := diff(t, test.before, test.after, inputs, nil)
		require.ErrorIs(t, err, author.ErrUnknown)
		assert.Contains(t, out, "1          unknown")
		assert.Contains(t, out, "0          unchanged")
		_, err = diff(t, test.before, test.after, inputs, func(c *author.DiffConfig) { c.AcceptUnknown = true })
		require.NoError(t, err)
	}
	// The grants of others are not the caller's business.
	_, err := diff(t, before, before, line(t, "GET", omit("grants.apps")), nil)
	require.NoError(t, err)
}

func TestDiffFailsWhereItShowsNothing(t *testing.T) {
	_, err := diff(t, before, after, "", nil)
	require.ErrorIs(t, err, author.ErrNoInputs)
	_, err = diff(t, before, "package site.check.a\n", line(t, "GET", nil), nil)
	require.ErrorIs(t, err, author.ErrFindings)
}

// Each policy brings its own operator's grants.
func TestDiffSeesTheOperatorsGrants(t *testing.T) {
	bare := func(r map[string]any) {
		r["input"].(map[string]any)["grants"] = r["operator_grants"]
	}
	granting := directory(t, files{"data.json": `{"site": {"grants": ["cf:any"]}}`})
	_, err := diff(t, before, "", line(t, "GET", bare), func(c *author.DiffConfig) { c.New.Location = granting })
	require.ErrorIs(t, err, author.ErrNewAllows)
}
