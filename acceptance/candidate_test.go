package acceptance_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a policy author does before a change: try it beside the policy in force,
// record what was asked, and compare on one's own machine.
func TestFromACandidateToADiff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := func(name, allow string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, writeFiles(path, map[string]string{"one.rego": "package site.check.one\n\ndefault allow := false\n\nallow if " + allow + "\n"}))
		return path
	}
	old, stricter, wider := one("old", `input.request.method != "DELETE"`), one("stricter", `input.request.method == "GET"`), one("wider", `input.request.method != "TRACE"`)
	w := start(t, setup{env: []string{"POLICY_BUNDLE=" + old, "POLICY_CANDIDATE=" + stricter, "POLICY_CANDIDATE_SHARE=1"}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "frontend", "GET", "/a").expect(t, "200 allowed")
	p.call(t, "frontend", "DELETE", "/a").expect(t, "403 policy_denied")

	// The candidate follows its source too: it takes part once it is there.
	var route map[string]any
	require.Eventually(t, func() bool {
		p.call(t, "frontend", "POST", "/b?secret=1").expect(t, "200 allowed")
		for _, one := range w.ask(t, "GET", "/v1/policy/candidate", 200)["routes"].([]any) {
			route = one.(map[string]any)
		}
		return route != nil && route["would_deny"].(float64) > 0
	}, patience, 50*time.Millisecond)
	assert.EqualValues(t, 0, route["would_allow"])
	assert.Equal(t, p.route, route["route"])

	policy := w.ask(t, "GET", "/v1/policy", 200)
	r := p.call(t, "frontend", "GET", "/a")
	assert.Equal(t, policy["revision"], r.line["policy_revision"])
	assert.Equal(t, []any{"one"}, policy["checks"])
	shapes := w.ask(t, "GET", "/v1/cache", 200)["policies"].([]any)[0].(map[string]any)["shapes"].([]any)
	assert.Equal(t, []any{"input.request.method"}, shapes[0].(map[string]any)["key"], "any caller; but a check reads the method")

	inputs := filepath.Join(dir, "inputs.jsonl")
	recorded := w.text(t, "/v1/decisions?route="+p.route+"&limit=1000")
	require.NoError(t, os.WriteFile(inputs, []byte(recorded), 0o600))
	assert.NotContains(t, recorded, "secret")

	end := execute(t, nil, "policy", "diff", old, stricter, "--inputs", inputs)
	assert.Equal(t, 0, end.code, end.stdout+end.stderr)
	assert.Contains(t, end.stdout, "POST")
	end = execute(t, nil, "policy", "diff", old, wider, "--inputs", inputs)
	assert.Equal(t, 1, end.code, "a new allow")
	assert.Contains(t, end.stdout, "DELETE")
	end = execute(t, nil, "policy", "diff", old, wider, "--inputs", inputs, "--accept-new-allows")
	assert.Equal(t, 0, end.code, end.stdout+end.stderr)
}

// text reads what is no JSON document.
func (w *world) text(t *testing.T, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Controller.URL+path, nil)
	require.NoError(t, err)
	request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, string(body))
	return string(body)
}

func TestQuestionsAboutDecisionsThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	w := common(t)
	for _, query := range []string{"route=", "route=*.*", "route=a&route=b", "binding=a/b", "since=yesterday", "limit=0", "limit=-1", "limit=x", "host=a"} {
		name, _, _ := strings.Cut(query, "=")
		assert.Contains(t, w.ask(t, "GET", "/v1/decisions?"+query, 400)["detail"], name)
	}
	w.ask(t, "GET", "/v1/policy/candidate", 404)
}
