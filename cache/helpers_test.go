package cache_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
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
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
)

// start is when every clock begins, 18 seconds before the minute ends.
var start = time.Date(2026, 5, 4, 10, 15, 42, 0, time.UTC)

// clock is a clock that tests turn.
type clock struct{ time.Time }

func (c *clock) now() time.Time        { return c.Time }
func (c *clock) after(d time.Duration) { c.Time = start.Add(d) }
func newClock() *clock                 { return &clock{start} }
func guid(s string) identity.GUID      { id, _ := identity.ParseGUID(s); return id }

// policy compiles the built-in policy and a check with this body; "": alone.
func policy(t testing.TB, body string) *rego.Policy {
	t.Helper()
	return policyIn(t, time.UTC, body)
}

func policyIn(t testing.TB, zone *time.Location, body string) *rego.Policy {
	t.Helper()
	cfg := rego.Config{Timeout: 10 * time.Second, Zone: zone}
	if body != "" {
		cfg.Bundle = t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(cfg.Bundle, "policy.rego"), []byte("package site.check.one\n\n"+body+"\n"), 0o600))
	}
	compiled, err := rego.Compile(t.Context(), cfg)
	require.NoError(t, err)
	return compiled
}

// access is a binding at a revision with these entries of allow.
func access(t testing.TB, revision int64, allow string) *grants.Access {
	t.Helper()
	given, err := parameters.ParseInstance([]byte(`{"allow":` + allow + `}`))
	require.NoError(t, err)
	return parameters.NewAccess(parameters.Bound{
		Binding: "b-1", Route: route.Route{Host: "backend.apps.identity"}, Plan: grants.ScopeAny, Revision: revision, Instance: given,
		Owner: grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)},
	})
}

// readsPath and readsAll are checks that bring the path, and the whole input,
// into the key.
const (
	readsPath = `allow if input.request.path != "/never"`
	readsAll  = `allow if { count(input) == 6; input.now.minute < 1000 }`
)

const (
	allowFrontend = `["cf:app:` + frontend + `"]`
	allowMetrics  = `["cf:app:` + metrics + `"]`
)

// request is GET of a path by the frontend app at a time.
func request(p *rego.Policy, a *grants.Access, path string, at time.Time) *rego.Request {
	return &rego.Request{
		Policy: p, Live: a.Live(at, p.Site()), Method: "GET", Host: "backend.apps.identity", Path: path, Segments: route.Segments(path), Now: at,
		Caller: identity.Caller{Foundation: "local", App: guid(frontend), Space: guid(shop), Org: guid(acme), Instance: "i-1"},
	}
}

// caching is a cache and what it counted.
type caching struct {
	*cache.Cache
	registry *prometheus.Registry
}

func newCache(t testing.TB, cfg cache.Config) *caching {
	t.Helper()
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	made, err := cache.New(cfg)
	require.NoError(t, err)
	return &caching{made, registry}
}

// decides demands a decision and the tier that it comes from.
func (c *caching) decides(t testing.TB, r *rego.Request, allow bool, from rego.Tier) {
	t.Helper()
	decision, err := c.Decide(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, from.String(), decision.Cache.String())
	assert.Equal(t, allow, decision.Allow)
}

// counter is the value of a counter, with its only label's value or without.
func counter(t testing.TB, registry *prometheus.Registry, name, label string) int {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && (label == "" || strings.EqualFold(metric.GetLabel()[0].GetValue(), label)) {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("no metric %s %s", name, label)
	return 0
}
