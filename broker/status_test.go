package broker_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

func operators(t *testing.T, entries ...string) *grants.Site {
	site := &grants.Site{}
	for _, entry := range entries {
		grant, err := grants.ParseGrant([]byte(entry))
		require.NoError(t, err)
		site.Grants = append(site.Grants, grant)
	}
	return site
}

// What a developer reads with cf service NAME --params.
func TestInstanceAnswerIsTheGoldenOne(t *testing.T) { // S5
	b := newTestbed(t)
	site := operators(t, `{"source":"cf:space:d76446a1-f429-4444-8797-00000000aaaa","methods":["GET"],"reason":"monitoring"}`)
	b.cfg.Policy = func() (string, *grants.Site) { return "sha256:policy", site }
	b.restart()
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{
		"scope": "org", "report_routes": ["backend.apps.identity/beta", "unbound.apps.identity"], "assert": true,
		"allow": ["`+app1+`",
			{"source": "cf:org:6e424e4e-5e46-419a-9cb6-eac9de2794e8", "methods": ["GET", "HEAD"], "paths": ["/metrics", "/api/**"], "routes": ["backend.apps.identity"], "expires": "2026-12-31T00:00:00Z", "reason": "INC-1234"},
			{"source": "`+app2+`", "expires": "2026-05-04T11:00:00Z"}],
		"labels": {"team": "payments"}, "annotations": {"contact": "payments@example.com"}}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "Backend.apps.identity"), raw(`{"scope":"space","allow":["cf:any"]}`)))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "backend.apps.identity/beta"), nil))
	b.wait(time.Hour)
	golden(t, "instance.json", b.ok()(b.FetchService(ctx, s)).Body)
}

func TestEmptyInstanceSaysWhatIsMissing(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeSpace)
	b.created()(b.CreateService(ctx, s, nil))
	require.Equal(t, "{}", b.parametersOf(s))
	require.Equal(t, []string{"no route is bound: use cf bind-route-service"}, b.statusOf(s).Warnings)
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "r.example"), raw(`{"allow":[{"source":"`+app1+`","routes":["other.example"]}]}`)))
	require.Equal(t, []string{
		"nobody may call the route; add somebody with allow_add",
		app1 + " (binding) names the route other.example, which is not bound",
	}, b.statusOf(s).Warnings)
}

// The answer of one instance must not grow as grants times routes.
func TestStatusIsBounded(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	var entries []string
	for n := range 300 {
		entries = append(entries, fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012x","reason":%q}`, n+1, strings.Repeat("r", 255)))
	}
	b.created()(b.CreateService(ctx, s, raw(`{"allow":[`+strings.Join(entries, ",")+`,{"source":"cf:any","routes":["`+strings.Join(names(100), `","`)+`"]}]}`)))
	const routes = 30
	for n := range routes {
		b.created()(b.BindRoute(ctx, routeOf(s, fmt.Sprintf("b%d", n), fmt.Sprintf("r%d.example", n)), raw(`{"allow":[{"source":"cf:any","routes":["elsewhere.example"]}]}`)))
	}
	answer := b.ok()(b.FetchService(ctx, s))
	require.Less(t, len(answer.Body), 3<<20)
	is := b.statusOf(s)
	require.Len(t, is.Routes, routes)
	shown := 0
	for _, route := range is.Routes {
		require.Equal(t, 300, route.GrantsTotal)
		require.LessOrEqual(t, len(route.Grants), 200)
		shown += len(route.Grants)
	}
	require.Len(t, is.Routes[0].Grants, 200)
	require.Less(t, shown, routes*200)
	require.Len(t, is.Warnings, 100)
	require.Equal(t, "and 2 more", is.Warnings[99])
}

func names(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("unbound%d.example", i))
	}
	return list
}

// A row that somebody has broken must not keep a developer from unbinding it.
func TestDamagedRowsCanBeSeenAndDeleted(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "b.example"), nil))
	b.damage(`UPDATE bindings SET route = '' WHERE id = '` + bindingA + `'`)
	b.restart()
	is := b.statusOf(s)
	require.Len(t, is.Routes, 1)
	require.Contains(t, strings.Join(is.Warnings, "\n"), "damaged")
	b.expect(503, controller.Failed)(b.FetchBinding(ctx, routeOf(s, bindingA, "")))
	b.ok()(b.UpdateService(ctx, s, change(`{"labels":{"a":"b"}}`)))
	b.ok()(b.UnbindRoute(ctx, routeOf(s, bindingA, "")))

	b.damage(`UPDATE instances SET parameters = '{"x":1}'`)
	b.expect(503, controller.Failed)(b.FetchService(ctx, s))
	b.expect(503, controller.Orphaned)(b.CreateService(ctx, s, nil))
	b.ok()(b.UnbindRoute(ctx, routeOf(s, bindingB, "")))
	b.ok()(b.DeleteService(ctx, s))
}

func (b *testbed) damage(statement string) {
	db, err := sql.Open("sqlite", "file:"+b.file+"?_pragma=busy_timeout(5000)")
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, db.Close()) }()
	_, err = db.Exec(statement)
	require.NoError(b.t, err)
}
