package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

const (
	app       = "d76446a1-f429-4444-8797-000000000001"
	otherApp  = "d76446a1-f429-4444-8797-000000000009"
	elsewhere = "99999999-9999-4999-8999-999999999999"
)

// sight notes a decision about a binding.
func (b *testbed) sight(binding, caller, outcome, reason, path string) {
	b.late.Add(int64(time.Second))
	d := sightings.Decision{
		DecisionID: fmt.Sprint(b.late.Load()), At: b.cfg.Now(), Binding: binding, Outcome: outcome, Reason: reason, Method: "GET", Path: path,
	}
	if caller != "" {
		d.App, d.Space, d.Org = caller, elsewhere, elsewhere
	}
	b.cfg.Store.Sightings().Note(&d)
}

// seenStatus is what a developer reads of callers.
type seenStatus struct {
	Checks []string
	Routes []struct {
		Route, Scope string
		ScopeFrom    string `json:"scope_from"`
		Callers      []struct {
			App, Outcome string
			Count        int
		}
		Grants []struct{ Never string }
	}
	Denials []struct {
		App, Route, Method, Path, Reason, Outcome string
		DecisionID                                string `json:"decision_id"`
		Count                                     int
		Last                                      time.Time `json:"last_at"`
	}
	Warnings []string
}

func (b *testbed) seen() (s seenStatus) {
	b.t.Helper()
	var body struct{ Parameters struct{ Status seenStatus } }
	a := b.ok()(b.FetchService(ctx, service(grants.ScopeOrg)))
	require.NoError(b.t, a.JSON(&body))
	require.Less(b.t, len(a.Body), 64<<10, "Cloud Controller passes it on as a whole")
	return body.Parameters.Status
}

// A space developer needs no other tool to see who was refused, and why.
func TestStatusTellsWhoCalledAndWhoWasRefused(t *testing.T) {
	b := newTestbed(t)
	b.cfg.Checks = func() []string { return []string{"freeze"} }
	b.cfg.NotBound = func(route string) string {
		return map[string]string{"b.apps.identity": "the app answered itself"}[route]
	}
	b.restart()
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["cf:app:`+app+`","cf:app:`+otherApp+`"]}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.apps.identity"), nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "b.apps.identity"), nil))
	b.sight(bindingA, otherApp, "denied", "scope", "/x")
	b.sight(bindingA, otherApp, "denied", "scope", "/x")
	b.sight(bindingB, "", "not_enforced", "no_certificate", "/y")
	b.sight(bindingA, app, "allowed", "", "/z")
	b.sight("another's", app, "denied", "scope", "/secret")
	got := b.seen()
	assert.Equal(t, []string{"freeze"}, got.Checks)
	require.Len(t, got.Denials, 2)
	assert.Equal(t, []any{"", "b.apps.identity", "GET", "/y", "no_certificate", "not_enforced", 1},
		[]any{got.Denials[0].App, got.Denials[0].Route, got.Denials[0].Method, got.Denials[0].Path, got.Denials[0].Reason, got.Denials[0].Outcome, got.Denials[0].Count})
	assert.Equal(t, []any{otherApp, "/x", 2}, []any{got.Denials[1].App, got.Denials[1].Path, got.Denials[1].Count})
	require.Len(t, got.Routes[0].Callers, 2)
	assert.Equal(t, []any{app, "allowed", 1}, []any{got.Routes[0].Callers[0].App, got.Routes[0].Callers[0].Outcome, got.Routes[0].Callers[0].Count})
	assert.Contains(t, got.Routes[0].Grants[0].Never, "last seen elsewhere")
	assert.Contains(t, fmt.Sprint(got.Warnings), "requests to the route do not come to the gateway: the app answered itself (b.apps.identity)")
}

// A caller alone may have been refused in many ways.
func TestStatusShowsTwentyRefusalsOfOneCaller(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.apps.identity"), nil))
	for n := range 25 {
		b.sight(bindingA, app, "denied", "no_grants", fmt.Sprint("/", n))
	}
	got := b.seen()
	require.Len(t, got.Denials, 20)
	assert.Equal(t, "/24", got.Denials[0].Path)
	assert.NotEmpty(t, got.Denials[0].DecisionID)
}

// What /v1/routes warns of, a developer reads here, too.
func TestStatusWarnsAsTheAPIDoes(t *testing.T) {
	b := newTestbed(t)
	b.cfg.Names = true
	b.restart()
	s, other := service(grants.ScopeAny), service(grants.ScopeAny)
	other.GUID = "99999999-0000-4000-8000-000000000000"
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["cf:app:`+app+`",{"source":"cf:org:`+elsewhere+`","expires":"2026-06-08T00:00:00Z"},"app:frontend"]}`)))
	b.created()(b.CreateService(ctx, other, raw(`{}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.apps.identity"), raw(`{"scope":"org"}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "b.apps.identity"), nil))
	b.created()(b.BindRoute(ctx, routeOf(other, "cccccccc-cccc-4ccc-8ccc-cccccccccccc", "b.apps.identity"), nil))
	b.cfg.Store.Used(bindingA, b.cfg.Now())
	b.wait(31 * 24 * time.Hour)
	got := b.seen()
	warnings := strings.Join(got.Warnings, "\n")
	for _, want := range []string{
		"cf:org:" + elsewhere + " (instance) expires soon: 2026-06-08T00:00:00Z (b.apps.identity)",
		"cf:org:" + elsewhere + " (instance) can never match: the scope is org, and the route is of organization " + home.OrgGUID + " (a.apps.identity)",
		"no request has gone on to the route since 2026-05-04T10:15:00Z (a.apps.identity)",
		"no request has ever gone on to the route, which was bound at 2026-05-04T10:15:00Z (b.apps.identity)",
		"another service instance has a binding of this route too (b.apps.identity)",
		"app:frontend was not looked up yet and allows nobody",
	} {
		assert.Contains(t, got.Warnings, want, warnings)
	}
	assert.NotContains(t, warnings, "cccccccc")
	assert.Equal(t, []string{"org", "binding"}, []string{got.Routes[0].Scope, got.Routes[0].ScopeFrom})
	assert.Equal(t, []string{"any", "plan"}, []string{got.Routes[1].Scope, got.Routes[1].ScopeFrom})
	assert.Contains(t, got.Routes[1].Grants[2].Never, "was not looked up yet")
}

// Who varies callers and paths makes a status no larger than it may be.
func TestStatusIsBoundedWhateverCallersDo(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.apps.identity"), nil))
	for n := range 90 {
		for range 3 {
			path := fmt.Sprintf("/%01000d", b.late.Load())
			b.sight(bindingA, fmt.Sprintf("d76446a1-f429-4444-8797-%012d", n+1), "denied", "no_matching_grant", path)
		}
	}
	got := b.seen()
	assert.Len(t, got.Denials, 20)
	assert.Len(t, got.Routes[0].Callers, 5)
}

// A developer reads names of the own org, and what was deleted; no name of others.
func TestStatusHasNamesOfTheOwnOrg(t *testing.T) {
	b := newTestbed(t)
	own, err := identity.ParseGUID(home.OrgGUID)
	require.NoError(t, err)
	b.cfg.Labels = func(_ grants.Kind, id identity.GUID) display.Label {
		switch id.String() {
		case app:
			return display.Label{Name: "frontend", Org: own}
		case otherApp:
			return display.Label{Name: "hidden-name", Gone: start}
		case elsewhere:
			return display.Label{Name: "hidden-name", Org: id}
		case home.OrgGUID:
			return display.Label{Name: "acme", Org: id}
		}
		return display.Label{Name: "hidden-name"}
	}
	b.restart()
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["cf:app:`+app+`","cf:app:`+otherApp+`","cf:org:`+elsewhere+`"]}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.apps.identity"), nil))
	b.sight(bindingA, app, "denied", "scope", "/x")
	b.sight(bindingA, otherApp, "denied", "scope", "/x")
	text := string(b.ok()(b.FetchService(ctx, s)).Body)
	assert.Contains(t, text, `{"origin":"instance","name":"acme/frontend","grant":"cf:app:`+app+`"`)
	assert.Contains(t, text, `"name":"acme/frontend","outcome":"denied"`)
	assert.Contains(t, text, "cf:app:"+otherApp+" (instance): the app was deleted, at the latest at 2026-05-04T10:15:00Z")
	assert.NotContains(t, text, "hidden-name")
}
