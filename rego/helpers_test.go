package rego_test

import (
	"os"
	"path/filepath"
	"strings"
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
	"github.com/mtls-authz/mtls-authz/rego/gate"
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

func caller(app, space, org string) identity.Caller {
	return identity.Caller{Foundation: "local", App: guid(app), Space: guid(space), Org: guid(org), Instance: "i-1"}
}

// files of a bundle by path.
type files map[string]string

// directory writes a bundle.
func directory(t testing.TB, bundle files) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range bundle {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}

// compiled is the policy of a bundle that must be accepted; nil files: the
// built-in policy alone.
func compiled(t testing.TB, written files) *rego.Policy {
	t.Helper()
	// Under the race detector an evaluation may take longer than the default.
	cfg := rego.Config{Timeout: 10 * time.Second}
	read := bundle.None()
	if written != nil {
		archive, err := bundle.ReadArchive(directory(t, written))
		require.NoError(t, err)
		read, err = bundle.Read(archive, nil)
		require.NoError(t, err)
	}
	accepted, err := gate.Compile(t.Context(), read)
	require.NoError(t, err)
	// What the gate tries besides has its own tests, and takes most of the time.
	policy, err := rego.Untested(t.Context(), accepted, cfg)
	require.NoError(t, err)
	return policy
}

// check is a bundle of one check with this body.
func check(body string) files {
	return files{"policy.rego": "package site.check.one\n\n" + body + "\n"}
}

// access is a bound route with these entries of allow, JSON objects or sources.
func access(t testing.TB, entries ...string) *grants.Access {
	t.Helper()
	for i, entry := range entries {
		if !strings.HasPrefix(entry, "{") {
			entries[i] = `"` + entry + `"`
		}
	}
	given, err := parameters.ParseInstance([]byte(`{"allow":[` + strings.Join(entries, ",") + `],"labels":{"team":"payments"}}`))
	require.NoError(t, err)
	bound, err := route.Parse("backend.apps.identity/v1")
	require.NoError(t, err)
	return parameters.NewAccess(parameters.Bound{
		Binding: "b-1", Route: bound, Plan: grants.ScopeOrg, Revision: 7, Instance: given,
		Owner: grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)},
	})
}

// request is "METHOD /path" of the frontend app to a route with these grants.
func request(t testing.TB, policy *rego.Policy, what string, entries ...string) *rego.Request {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	return &rego.Request{
		Policy: policy, Live: access(t, entries...).Live(now, policy.Site()), Caller: caller(frontend, shop, acme),
		Method: method, Host: "backend.apps.identity", Path: path, Segments: route.Segments(path), Now: now,
	}
}

// decide demands a decision.
func decide(t testing.TB, r *rego.Request) rego.Decision {
	t.Helper()
	decision, err := r.Policy.Decide(t.Context(), r)
	require.NoError(t, err)
	return decision
}

// undecided demands that there is no decision, which denies.
func undecided(t testing.TB, r *rego.Request) {
	t.Helper()
	decision, err := r.Policy.Decide(t.Context(), r)
	require.ErrorIs(t, err, rego.ErrPolicy)
	assert.Zero(t, decision)
}

func denied(policy, reason string) rego.Decision {
	return rego.Decision{Policy: policy, Reason: reason}
}

var allowed = rego.Decision{Allow: true}
