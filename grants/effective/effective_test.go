package effective_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

var update = flag.Bool("update", false, "write the golden file anew")

const (
	frontend, stranger = "d76446a1-f429-4444-8797-be2f78b75b08", "99999999-9999-4999-8999-999999999999"
	shop, lab          = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	acme, globex       = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
)

var now = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)

func guid(t *testing.T, text string) identity.GUID {
	t.Helper()
	id, err := identity.ParseGUID(text)
	require.NoError(t, err)
	return id
}

// bound is a route of the shop with these parameters of its instance and binding.
func bound(t *testing.T, name string, plan grants.Scope, ofInstance, ofBinding string) effective.Route {
	t.Helper()
	at, err := route.Parse(name)
	require.NoError(t, err)
	i, err := parameters.ParseInstance([]byte(ofInstance))
	require.NoError(t, err)
	b, err := parameters.ParseBinding([]byte(ofBinding))
	require.NoError(t, err)
	owner := grants.Owner{Instance: "instance", Space: guid(t, shop), Org: guid(t, acme)}
	return effective.Route{
		Binding: "binding", Bound: at, Owner: owner, CreatedAt: now.Add(-time.Hour), Plan: plan, OfInstance: i.Scope, OfBinding: b.Scope,
		Siblings: map[route.Route]bool{at: true},
		Access:   parameters.NewAccess(parameters.Bound{Binding: "binding", Route: at, Owner: owner, Plan: plan, Instance: i, OfBinding: b, ReportAllowed: true}),
	}
}

// Each row is a route, and what a person should be told about it.
func TestWarnings(t *testing.T) {
	homes := map[string]effective.Home{frontend: {shop, acme}, stranger: {lab, globex}, lab: {lab, globex}}
	entry := func(source, rest string) string { return `{"allow":[{"source":"` + source + `"` + rest + `}]}` }
	for name, c := range map[string]struct {
		plan       grants.Scope
		parameters string
		want       string // a part of the one warning; "": none
		edit       func(*effective.Route)
	}{
		"an app inside":                         {grants.ScopeSpace, entry("cf:app:"+frontend, ""), "", nil},
		"an app that nobody has seen":           {grants.ScopeSpace, entry("cf:app:12345678-1234-4234-8234-123456789012", ""), "", nil},
		"an app outside the space":              {grants.ScopeSpace, entry("cf:app:"+stranger, ""), "the scope is space, and the app was last seen elsewhere", nil},
		"an app outside the org":                {grants.ScopeOrg, entry("cf:app:"+stranger, ""), "can never match", nil},
		"any scope":                             {grants.ScopeAny, entry("cf:app:"+stranger, ""), "", nil},
		"another space":                         {grants.ScopeSpace, entry("cf:space:"+lab, ""), "the route is of space " + shop, nil},
		"another space in the scope of the org": {grants.ScopeOrg, entry("cf:space:12345678-1234-4234-8234-123456789012", ""), "", nil},
		"a space that is known to be elsewhere": {grants.ScopeOrg, entry("cf:space:"+lab, ""), "the space was last seen elsewhere", nil},
		"another org":                           {grants.ScopeOrg, entry("cf:org:"+globex, ""), "the route is of organization " + acme, nil},
		"the org in the scope of the space":     {grants.ScopeSpace, entry("cf:org:"+acme, ""), "", nil},
		"a scope that the instance narrows":     {grants.ScopeAny, `{"scope":"space","allow":["cf:space:` + lab + `"]}`, "can never match", nil},
		"anybody":                               {grants.ScopeSpace, entry("cf:any", ""), "", nil},
		"paths beside the route's":              {grants.ScopeAny, entry("cf:any", `,"paths":["/metrics","/v1"]`), "none of its paths begins with the route's, /api", nil},
		"paths below the route's":               {grants.ScopeAny, entry("cf:any", `,"paths":["/metrics","/API/x"]`), "", nil},
		"paths with stars":                      {grants.ScopeAny, entry("cf:any", `,"paths":["/*/x"]`), "", nil},
		"all paths":                             {grants.ScopeAny, entry("cf:any", `,"paths":["/**"]`), "", nil},
		"a path above the route's":              {grants.ScopeAny, entry("cf:any", `,"paths":["/"]`), "can never match", nil},
		"a route that is not bound":             {grants.ScopeAny, entry("cf:any", `,"routes":["other.example","backend.example/api"]`), "names the route other.example, which is not bound", nil},
		"routes that are not known":             {grants.ScopeAny, entry("cf:any", `,"routes":["other.example","backend.example/api"]`), "", func(r *effective.Route) { r.Siblings = nil }},
		"expires in a week":                     {grants.ScopeAny, entry("cf:any", `,"expires":"2026-05-11T10:15:00Z"`), "expires soon: 2026-05-11", nil},
		"expires later":                         {grants.ScopeAny, entry("cf:any", `,"expires":"2026-05-11T10:15:01Z"`), "", nil},
		"expired":                               {grants.ScopeAny, entry("cf:any", `,"expires":"2026-05-04T10:15:00Z"`), "nobody may call", nil},
		"nobody":                                {grants.ScopeAny, `{}`, "nobody may call", nil},
		"report mode":                           {grants.ScopeAny, `{"mode":"report","allow":["cf:any"]}`, "report mode", nil},
		"several bindings":                      {grants.ScopeAny, entry("cf:any", ""), "other bindings have the same route: b2, b3", func(r *effective.Route) { r.Others = []string{"b2", "b3"} }},
		"a binding of others":                   {grants.ScopeAny, entry("cf:any", ""), "another service instance has a binding of this route too", func(r *effective.Route) { r.Foreign = true }},
		"not bound in the router":               {grants.ScopeAny, entry("cf:any", ""), "do not come to the gateway: the app answered", func(r *effective.Route) { r.NotBound = "the app answered" }},
		"never used":                            {grants.ScopeAny, entry("cf:any", ""), "no request has ever gone on", func(r *effective.Route) { r.CreatedAt = now.Add(-30 * 24 * time.Hour) }},
		"unused":                                {grants.ScopeAny, entry("cf:any", ""), "since 2026-04-04T", func(r *effective.Route) { r.LastUsed = now.Add(-30 * 24 * time.Hour) }},
		"old and used":                          {grants.ScopeAny, entry("cf:any", ""), "", func(r *effective.Route) { r.CreatedAt, r.LastUsed = time.Unix(0, 0), now.Add(-29*24*time.Hour) }},
		"nothing in force":                      {grants.ScopeAny, entry("cf:any", ""), "has nothing in force", func(r *effective.Route) { r.Access = nil }},
		"a scope of nobody":                     {0, entry("cf:any", ""), "admits nobody", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := bound(t, "backend.example/api", c.plan, c.parameters, `{}`)
			if c.edit != nil {
				c.edit(&r)
			}
			a := effective.Of(r, effective.Facts{Now: now, Homes: homes})
			if c.want == "" {
				require.Empty(t, a.Warnings)
				return
			}
			require.Len(t, a.Warnings, 1)
			assert.Contains(t, a.Warnings[0], c.want)
		})
	}
}

func TestScopesSayWhereTheyComeFrom(t *testing.T) {
	for _, c := range []struct{ plan, instance, binding, want, from string }{
		{"org", "", "", "org", "plan"},
		{"org", "org", "", "org", "plan"},
		{"any", "org", "", "org", "instance"},
		{"any", "org", "space", "space", "binding"},
		{"any", "", "org", "org", "binding"},
		{"org", "", "any", "org", "plan"},
	} {
		plan, err := grants.ParseScope(c.plan)
		require.NoError(t, err)
		scope := func(s string) string {
			if s == "" {
				return "{}"
			}
			return `{"scope":"` + s + `"}`
		}
		a := effective.Of(bound(t, "backend.example", plan, scope(c.instance), scope(c.binding)), effective.Facts{Now: now})
		assert.Equal(t, effective.Scope{Scope: c.want, Plan: c.plan, From: c.from}, a.Scope)
	}
}

func TestManyWarningsAreCounted(t *testing.T) {
	var routes []string
	for n := range 75 {
		routes = append(routes, fmt.Sprintf(`"r%d.example"`, n))
	}
	limited := `,"routes":[` + strings.Join(routes, ",") + `]}`
	a := effective.Of(bound(t, "backend.example", grants.ScopeAny, `{"allow":[{"source":"cf:any"`+limited+`,{"source":"cf:org:`+acme+`"`+limited+`]}`, `{}`), effective.Facts{Now: now})
	require.Len(t, a.Warnings, 100)
	assert.Equal(t, "and 52 more", a.Warnings[99])
}

// The table that people read, and that a command prints.
func TestText(t *testing.T) {
	r := bound(t, "backend.example/api", grants.ScopeOrg, `{"allow":["cf:app:`+frontend+`",{"source":"cf:org:`+globex+`","methods":["GET","HEAD"]},
		{"source":"cf:space:`+shop+`","paths":["/api/**"],"expires":"2026-05-05T00:00:00Z"},{"source":"cf:app:`+stranger+`","expires":"2026-05-01T00:00:00Z"}]}`,
		`{"allow":["cf:space:`+lab+`"]}`)
	r.LastUsed = now.Add(-time.Minute)
	site := &grants.Site{}
	operators, err := grants.ParseGrant([]byte(`{"source":"cf:app:` + lab + `","paths":["/api/metrics"]}`))
	require.NoError(t, err)
	site.Grants = []grants.Grant{operators}
	seen := func(app, outcome, reason, method, path string, times int64) effective.Caller {
		c := effective.Caller{App: app, Outcome: outcome, Reason: reason, Method: method, Path: path, Count: times, First: now.Add(-time.Hour), Last: now.Add(-time.Minute)}
		if app != "" {
			c.Space, c.Org = shop, acme
		}
		return c
	}
	a := effective.Of(r, effective.Facts{
		Now: now, Site: site, Policy: "0123456789abcdef", Checks: []string{"no_cross_org_delete"},
		Callers:  []effective.Caller{seen(frontend, "allowed", "", "", "", 12), seen("", "denied", "", "", "", 3)},
		Refusals: []effective.Caller{seen("", "denied", "no_certificate", "GET", "/api/\x1b[2J\tx", 3)},
	})
	var text bytes.Buffer
	require.NoError(t, a.Text(&text))
	if *update {
		require.NoError(t, os.WriteFile("testdata/access.txt", text.Bytes(), 0o644))
	}
	golden, err := os.ReadFile("testdata/access.txt")
	require.NoError(t, err)
	assert.Equal(t, string(golden), text.String())
	assert.NotContains(t, text.String(), "\x1b")
}

// Names stand beside guids, whatever characters they have; a grant by name is shown
// as it was written, and what is gone is told.
func TestNamesBesideGUIDs(t *testing.T) {
	r := bound(t, "backend.example", grants.ScopeOrg, `{"allow":["org:.","cf:app:`+frontend+`","cf:app:`+stranger+`"]}`, `{}`)
	a := effective.Of(r, effective.Facts{
		Now: now, Callers: []effective.Caller{{App: frontend, Outcome: "allowed"}, {Outcome: "denied"}}, Refusals: []effective.Caller{{App: frontend, Outcome: "denied"}},
		Labels: func(_ grants.Kind, id identity.GUID) display.Label {
			return map[string]display.Label{
				frontend: {Name: "front\x1b[2Jend", Space: guid(t, shop), Org: guid(t, acme)}, stranger: {Gone: now},
				shop: {Name: "shop", Org: guid(t, acme)}, acme: {Name: "acme"},
			}[id.String()]
		},
	})
	const name = "acme/shop/front\x1b[2Jend"
	assert.Equal(t, []string{"acme/shop", name, "", name}, []string{a.Owner, a.Callers[0].Name, a.Callers[1].Name, a.Denials[0].Name})
	shown := map[string]string{}
	for _, g := range a.Grants {
		shown[g.Source+" "+g.Grant.Source.String()] = g.Name
	}
	assert.Equal(t, map[string]string{
		"cf:org:" + acme + " org:.": "acme", "cf:app:" + frontend + " cf:app:" + frontend: name, "cf:app:" + stranger + " cf:app:" + stranger: "",
	}, shown)
	assert.Contains(t, fmt.Sprint(a.Warnings), "cf:app:"+stranger+" (instance): the app was deleted, at the latest at 2026-05-04T10:15:00Z: remove the grant")
	var text bytes.Buffer
	require.NoError(t, a.Text(&text))
	assert.Contains(t, text.String(), "cf:app:"+frontend+" (acme/shop/front?[2Jend)")
	assert.Contains(t, text.String(), "organization "+acme+" (acme/shop)")
}

// A name that stands for nobody is shown all the same: as it was written, with why.
func TestNamesThatStandForNobody(t *testing.T) {
	r := bound(t, "backend.example", grants.ScopeOrg, `{"allow":["app:frontend","space:lab",{"source":"app:old","expires":"2026-05-01T00:00:00Z"},{"source":"app:other","routes":["other.example"]}]}`, `{}`)
	r.Siblings = nil
	r.Access.Names = &names.Book{}
	entries := map[names.Reference]names.Resolution{}
	for _, reference := range r.Access.References() {
		entries[reference] = names.Resolution{Missing: now.Add(-time.Hour)}
		if reference.Name.App == "frontend" {
			entries[reference] = names.Resolution{Holders: []names.Holder{{ID: guid(t, frontend)}}}
		}
	}
	r.Access.Names.Turn(names.NewPage(entries))
	a := effective.Of(r, effective.Facts{Now: now})
	shown := []string{}
	for _, g := range a.Grants {
		shown = append(shown, fmt.Sprint(g.Source, " ", g.Never != nil, g.Expired))
	}
	assert.ElementsMatch(t, []string{"cf:app:" + frontend + " false false", "app:old true true", "space:lab true false"}, shown)
	assert.Equal(t, 3, a.GrantsTotal)
	require.Len(t, a.Warnings, 2)
	assert.Contains(t, fmt.Sprint(a.Warnings), "app:other: no app bears this name since 2026-05-04T09:15:00Z, so it allows nobody")
	assert.Contains(t, fmt.Sprint(a.Warnings), "space:lab: no space bears this name since 2026-05-04T09:15:00Z, so it allows nobody")
	var text bytes.Buffer
	require.NoError(t, a.Text(&text))
	assert.Contains(t, text.String(), "app:frontend = cf:app:"+frontend+" ")
	assert.Regexp(t, `space:lab +- +instance +never matches`, text.String())
}

// In a list, a route with many grants shows some of them and says how many there are.
func TestGrantsAreBoundedWhereManyRoutesAreShown(t *testing.T) {
	r := bound(t, "backend.example", grants.ScopeSpace, `{"allow":["cf:app:`+frontend+`","cf:space:`+shop+`","cf:org:`+globex+`"]}`, `{}`)
	a := effective.Of(r, effective.Facts{Now: now, MaxGrants: 2})
	assert.Len(t, a.Grants, 2)
	assert.Equal(t, 3, a.GrantsTotal)
	assert.Empty(t, a.Warnings, "what is not shown is not looked at")
	var text bytes.Buffer
	require.NoError(t, a.Text(&text))
	assert.Contains(t, text.String(), "and 1 more")
}
