package explain_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/explain"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

const odd = `# METADATA
# title: Odd spelling
package site.check.odd

import rego.v1

default allow := false

allow if { input.request.method == "HEAD"; input.caller.kind == "x" } else if {
	trusted(input.caller.app)
} else := true if {
	some one in data.site.list
	one == input.request.path
}

	allow if not closed

trusted(app) if app in {"a", "b"}

closed if {
	every s in input.request.segments { s != "ä" }
	count([x | some x in input.request.segments; x != ""]) >= 0
}
`

func guid(t *testing.T, s string) identity.GUID {
	t.Helper()
	id, err := identity.ParseGUID(s)
	require.NoError(t, err)
	return id
}

// What is read again from a policy in force explains as what its author wrote.
func TestOfSaysWhatNewSays(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "odd.rego"), []byte(odd), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.json"), []byte(`{"site":{"list":["/x"]}}`), 0o600))
	bundles, err := filepath.Glob("../../policies/examples/*")
	require.NoError(t, err)
	ends, titles := 0, 0
	for _, path := range append(bundles, dir) {
		archive, err := bundle.ReadArchive(path)
		require.NoError(t, err)
		read, err := bundle.Read(archive, nil)
		require.NoError(t, err)
		compiled, err := gate.Compile(t.Context(), read)
		require.NoError(t, err)
		policy, err := rego.Untested(t.Context(), compiled, rego.Config{Timeout: 10 * time.Second})
		require.NoError(t, err)
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			for _, owner := range []string{"6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3", "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22"} {
				org := guid(t, "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3")
				access := parameters.NewAccess(parameters.Bound{
					Binding: "b", Route: route.Route{Host: "backend.apps.identity"}, Plan: grants.ScopeAny,
					Owner: grants.Owner{Instance: "i", Space: guid(t, owner), Org: guid(t, owner)},
				})
				r := &rego.Request{
					Policy: policy, Live: access.Live(time.Now(), policy.Site()), Method: method, Host: "backend.apps.identity", Path: "/a/b",
					Segments: []string{"a", "b"}, Now: time.Date(2026, 5, 3, 3, 0, 0, 0, time.UTC),
					Caller: identity.Caller{Foundation: "local", App: org, Space: org, Org: org},
				}
				want := explain.New(policy, compiled).Checks(t.Context(), r)
				require.Equal(t, want, explain.Of(policy).Checks(t.Context(), r), path)
				for _, check := range want {
					ends += len(check.Ends)
					if check.Title != "" {
						titles++
					}
				}
			}
		}
	}
	assert.Greater(t, ends, 20, "there was something to explain")
	assert.Greater(t, titles, 10)
}
