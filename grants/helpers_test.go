package grants_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	frontend = "d76446a1-f429-4444-8797-be2f78b75b08"
	metrics  = "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"
	shop     = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	billing  = "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22"
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	globex   = "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33"
	nobody   = "00000000-0000-0000-0000-000000000000"

	app   = "cf:app:" + frontend
	app2  = "cf:app:" + metrics
	space = "cf:space:" + shop
	org   = "cf:org:" + acme
)

var (
	// now is the time of every test that has one.
	now = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)

	backend = routeOf("backend.apps.identity")
	owner   = grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)}

	// caller is the frontend app, in the owner's space and org.
	caller = callerOf(frontend, shop, acme)
)

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func callerOf(app, space, org string) identity.Caller {
	return identity.Caller{Foundation: "local", App: guid(app), Space: guid(space), Org: guid(org)}
}

func routeOf(s string) route.Route {
	r, err := route.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// given are the parameters of an instance, which must be accepted.
func given(t testing.TB, text string) parameters.Parameters {
	t.Helper()
	p, err := parameters.ParseInstance([]byte(text))
	require.NoError(t, err, text)
	return p
}

// allowing are parameters with these entries: sources, or JSON objects.
func allowing(t testing.TB, entries ...string) parameters.Parameters {
	t.Helper()
	return given(t, `{"allow":`+list(entries...)+`}`)
}

// list writes entries as a JSON list.
func list(entries ...string) string {
	quoted := make([]string, len(entries))
	for i, entry := range entries {
		quoted[i] = entry
		if !strings.HasPrefix(entry, "{") {
			quoted[i] = `"` + entry + `"`
		}
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// site are the operator's grants.
func site(t testing.TB, entries ...string) *grants.Site {
	t.Helper()
	return &grants.Site{Grants: allowing(t, entries...).Allow}
}

// bound is a route with the instance's parameters, on the widest plan.
func bound(instance parameters.Parameters) parameters.Bound {
	return parameters.Bound{Binding: "b-1", Route: backend, Owner: owner, Plan: grants.ScopeAny, Revision: 7, Instance: instance}
}

// live are the grants of such a route now.
func live(t testing.TB, entries ...string) *grants.Live {
	t.Helper()
	return parameters.NewAccess(bound(allowing(t, entries...))).Live(now, nil)
}

// allow demands that a rule matches, and that it is named so.
func allow(t testing.TB, l *grants.Live, who identity.Caller, request, policy string) {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	rule, ok := l.Match(who, method, route.Segments(path))
	if assert.True(t, ok, "%s must be allowed", request) {
		assert.Equal(t, policy, rule.Policy(), request)
	}
}

// deny demands that no rule matches.
func deny(t testing.TB, l *grants.Live, who identity.Caller, request string) {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	rule, ok := l.Match(who, method, route.Segments(path))
	assert.False(t, ok, "%s must be denied, but %s allows it", request, rule.Policy())
	assert.Zero(t, rule)
}

// numbered are sources of apps from..to-1.
func numbered(from, to int) string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(`"cf:app:d76446a1-f429-4444-8797-%012x"`, i))
	}
	return strings.Join(out, ",")
}
