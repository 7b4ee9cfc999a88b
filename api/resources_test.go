package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

// everything has whatever a representation can show.
func everything(t *testing.T) *testbed {
	b := newTestbed(t)
	b.site = &grants.Site{}
	for _, entry := range []string{
		`{"source":"cf:org:` + globex + `","routes":["*.apps.example"],"reason":"monitoring"}`,
		`{"source":"cf:any","routes":["*.other.example"]}`,
		`{"source":"cf:space:` + lab + `","routes":["*.apps.example"],"expires":"2026-05-04T10:15:30Z"}`,
	} {
		grant, err := grants.ParseGrant([]byte(entry))
		require.NoError(t, err)
		b.site.Grants = append(b.site.Grants, grant)
	}
	b.create("i", grants.ScopeAny, acme, shop, "{}")
	b.set("i", `{"scope":"org","labels":{"team":"payments","tier":"1"},"annotations":{"contact":"payments@example.com"},"report_routes":["backend.apps.example/api"],
		"allow":["cf:app:`+frontend+`",{"source":"cf:space:`+shop+`","methods":["GET"],"paths":["/a&b/**"],"expires":"2030-01-01T00:00:00Z"},
		{"source":"cf:any","expires":"2026-05-04T10:15:20Z","reason":"INC-1"},{"source":"cf:org:`+acme+`","routes":["another.apps.example"]},
		{"source":"cf:org:`+globex+`","routes":["another.apps.example"],"expires":"2026-05-04T10:15:20Z"}]}`)
	b.bind("i", "b", "backend.apps.example/api", `{"labels":{"tier":"2"},"allow":[{"source":"cf:app:`+frontend+`","methods":["POST"]}]}`)
	b.bind("i", "c", "backend.apps.example/api", "{}")
	b.wait(time.Minute)
	return b
}

func TestRepresentations(t *testing.T) {
	b := everything(t)
	golden(t, "instance.json", b.do("GET", "/v1/instances/i").body)
	golden(t, "binding.json", b.do("GET", "/v1/bindings/b").body)
	require.Equal(t, 204, b.do("DELETE", "/v1/bindings/c", header("X-Vcap-Request-Id", "vcap-2")).StatusCode)
	golden(t, "audit.json", b.do("GET", "/v1/audit?per_page=3").body)
}

func TestAListShowsWhatAResourceShows(t *testing.T) {
	b := everything(t)
	for _, path := range []string{"/v1/instances/i", "/v1/bindings/b"} {
		var one any
		b.get(path, &one)
		var page struct{ Resources []any }
		b.get(path[:len(path)-2], &page)
		assert.Equal(t, one, page.Resources[0])
	}
}

// What the representation calls in force is what the gateway decides by.
func TestGrantsInForceAreThoseTheGatewayDecidesBy(t *testing.T) {
	b := everything(t)
	var shown struct {
		Grants []struct {
			Source, Origin string
			Grant          json.RawMessage
			Expires        *time.Time
			Expired        bool
		}
	}
	b.get("/v1/bindings/b", &shown)
	var inForce int
	for _, one := range shown.Grants {
		assert.Equal(t, one.Expired, one.Expires != nil && !one.Expires.After(b.now()), "%s", one.Grant)
		grant, err := grants.ParseGrant(one.Grant)
		require.NoError(t, err, "as allow_remove takes it")
		assert.Equal(t, one.Source, grant.Source.String())
		if !one.Expired {
			inForce++
		}
	}
	live := b.store.View().Access("b").Live(b.now(), b.site)
	require.Len(t, live.Rules, inForce)
	for n, rule := range live.Rules {
		assert.Equal(t, []string{rule.Source.String(), rule.Origin.String()}, []string{shown.Grants[n].Source, shown.Grants[n].Origin})
	}
	assert.Len(t, shown.Grants, inForce+2, "and what has expired on this route")
}

func TestReportModeThatTheOperatorForbidsIsNotShown(t *testing.T) {
	b := newTestbed(t, func(b *testbed) { b.cfg.ReportAllowed = false })
	b.create("i", grants.ScopeOrg, acme, shop, `{"mode":"report"}`)
	var shown struct{ Mode string }
	b.get("/v1/instances/i", &shown)
	assert.Equal(t, "enforce", shown.Mode)
}

func TestABindingThatIsNotInForceSaysSo(t *testing.T) {
	b := everything(t)
	b.cfg.Access = func(string) *grants.Access { return nil }
	b.server.Close()
	b.serve()
	var shown struct {
		Scope    string
		Grants   []any
		Warnings []string
	}
	b.get("/v1/bindings/b", &shown)
	assert.Empty(t, shown.Scope)
	assert.Empty(t, shown.Grants)
	require.NotEmpty(t, shown.Warnings)
	assert.Contains(t, shown.Warnings[0], "refuses every request")
}

func TestSecondBindingsNameEachOther(t *testing.T) {
	b := populated(t)
	for id, other := range map[string]string{"b1": "", "b2": "b3", "b3": "b2"} {
		var shown struct{ Warnings []string }
		b.get("/v1/bindings/"+id, &shown)
		if other == "" {
			assert.Empty(t, shown.Warnings)
		} else {
			assert.Equal(t, []string{"other bindings have the same route: " + other}, shown.Warnings)
		}
	}
}

// The gateway remembers a route's live grants by their address.
func TestLookingDoesNotDisturbDeciding(t *testing.T) {
	for name, site := range map[string]*grants.Site{"no operator's grants": nil, "some": {Grants: []grants.Grant{{Source: grants.Source{Kind: grants.Any}}}}} {
		b := everything(t)
		b.site = site
		access := b.store.View().Access("b")
		live := access.Live(b.now(), site)
		b.list("/v1/bindings")
		require.Equal(t, 200, b.do("GET", "/v1/bindings/b").StatusCode)
		assert.Same(t, live, access.Live(b.now(), site), name)
	}
}
