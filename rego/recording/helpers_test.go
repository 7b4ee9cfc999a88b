package recording_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

const (
	frontend = "d76446a1-f429-4444-8797-be2f78b75b08"
	metrics  = "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"
	shop     = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	billing  = "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22"
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	globex   = "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33"
)

// now is the time of every request, a Monday.
var now = time.Date(2026, 5, 4, 10, 15, 42, 0, time.UTC)

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// files of a bundle by path.
type files map[string]string

// compiled is the policy of a bundle; nil files: the built-in policy alone.
func compiled(t testing.TB, bundle files) *rego.Policy {
	t.Helper()
	return compiledIn(t, bundle, time.UTC)
}

func compiledIn(t testing.TB, bundle files, zone *time.Location) *rego.Policy {
	t.Helper()
	cfg := rego.Config{Timeout: 10 * time.Second, Zone: zone}
	if bundle != nil {
		cfg.Bundle = t.TempDir()
	}
	for name, content := range bundle {
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Bundle, name), []byte(content), 0o600))
	}
	policy, err := rego.Compile(t.Context(), cfg)
	require.NoError(t, err)
	return policy
}

// operators is a bundle of operator's grants alone.
func operators(entries ...string) files {
	return files{"data.json": `{"site":{"grants":` + list(entries) + `}}`}
}

// list is a list of grants, JSON objects or sources.
func list(entries []string) string {
	quoted := make([]string, len(entries))
	for i, entry := range entries {
		quoted[i] = entry
		if !strings.HasPrefix(entry, "{") {
			quoted[i] = `"` + entry + `"`
		}
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// access is a bound route with these grants.
func access(t testing.TB, bound string, entries ...string) *grants.Access {
	t.Helper()
	given, err := parameters.ParseInstance([]byte(`{"allow":` + list(entries) + `,"labels":{"team":"payments"}}`))
	require.NoError(t, err)
	at, err := route.Parse(bound)
	require.NoError(t, err)
	return parameters.NewAccess(parameters.Bound{
		Binding: "b-" + at.Host, Route: at, Plan: grants.ScopeOrg, Revision: 7, Instance: given,
		Owner: grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)},
	})
}

const backend = "backend.apps.identity/v1"

// request is "METHOD /path" of the frontend app to the route.
func request(policy *rego.Policy, a *grants.Access, what string) *rego.Request {
	method, path, _ := strings.Cut(what, " ")
	return &rego.Request{
		Policy: policy, Live: a.Live(now, policy.Site()), Method: method, Host: a.Route.Host, Path: path, Segments: route.Segments(path), Now: now,
		Caller: identity.Caller{Foundation: "local", App: guid(frontend), Space: guid(shop), Org: guid(acme), Instance: "i-1"},
	}
}

// decide is what the gateway decides.
func decide(t testing.TB, r *rego.Request) rego.Decision {
	t.Helper()
	decision, err := r.Policy.Decide(t.Context(), r)
	require.NoError(t, err)
	return rego.Confirm(decision, r)
}
