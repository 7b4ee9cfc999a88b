package grants_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

func TestScopeIsTheNarrowestOfPlanInstanceAndBinding(t *testing.T) {
	for _, c := range []struct {
		plan              grants.Scope
		instance, binding string
		want              grants.Scope
	}{
		{grants.ScopeAny, `{}`, `{}`, grants.ScopeAny},
		{grants.ScopeAny, `{"scope":"org"}`, `{}`, grants.ScopeOrg},
		{grants.ScopeAny, `{"scope":"org"}`, `{"scope":"space"}`, grants.ScopeSpace},
		{grants.ScopeAny, `{"scope":"space"}`, `{"scope":"any"}`, grants.ScopeSpace},
		{grants.ScopeSpace, `{"scope":"any"}`, `{"scope":"any"}`, grants.ScopeSpace},
		{grants.ScopeOrg, `{}`, `{"scope":"any"}`, grants.ScopeOrg},
		{0, `{}`, `{}`, 0},
		{0, `{"scope":"any"}`, `{"scope":"any"}`, 0},
	} {
		b := bound(given(t, c.instance))
		b.Plan, b.OfBinding = c.plan, given(t, c.binding)
		assert.Equal(t, c.want, parameters.NewAccess(b).Scope, "%+v", c)
	}
}

func TestZeroValuesDeny(t *testing.T) {
	access := &grants.Access{}
	assert.False(t, access.Scope.Admits(caller, access.Owner))
	assert.Equal(t, grants.Enforce, access.Mode)
	deny(t, access.Live(now, nil), caller, "GET /")
	deny(t, &grants.Live{}, caller, "GET /")

	access = parameters.NewAccess(parameters.Bound{})
	assert.Zero(t, access.Scope)
	assert.Empty(t, access.Live(now, &grants.Site{}).Rules)
	assert.Empty(t, grants.Origin(0).String())
	assert.Empty(t, grants.Origin(9).String())
}

func TestModeIsTheRoutesOwn(t *testing.T) {
	for _, c := range []struct {
		instance string
		allowed  bool
		want     grants.Mode
	}{
		{`{}`, true, grants.Enforce},
		{`{"mode":"report"}`, true, grants.Report},
		{`{"mode":"report"}`, false, grants.Enforce},
		{`{"report_routes":["backend.apps.identity"]}`, true, grants.Report},
		{`{"report_routes":["backend.apps.identity"]}`, false, grants.Enforce},
		{`{"mode":"enforce","report_routes":["backend.apps.identity"]}`, true, grants.Report},
		{`{"report_routes":["other.apps.identity"]}`, true, grants.Enforce},
		{`{"report_routes":["backend.apps.identity/beta"]}`, true, grants.Enforce},
		{`{"report_routes":["*.apps.identity"]}`, true, grants.Enforce},
	} {
		b := bound(given(t, c.instance))
		b.ReportAllowed = c.allowed
		assert.Equal(t, c.want, parameters.NewAccess(b).Mode, "%+v", c)
	}
	t.Run("a binding cannot ask for it", func(t *testing.T) {
		b := bound(given(t, `{}`))
		b.ReportAllowed, b.OfBinding = true, given(t, `{"mode":"report","assert":true}`)
		assert.Equal(t, grants.Enforce, parameters.NewAccess(b).Mode)
		assert.False(t, parameters.NewAccess(b).Assert)
	})
}

func TestAccessCarriesWhatItWasBoundWith(t *testing.T) {
	b := bound(given(t, `{"assert":true,"labels":{"team":"payments","tier":"1"}}`))
	b.OfBinding = given(t, `{"labels":{"tier":"2","zone":"a"}}`)
	access := parameters.NewAccess(b)
	assert.Equal(t, map[string]string{"team": "payments", "tier": "2", "zone": "a"}, access.Labels, "the binding's labels win")
	assert.Equal(t, map[string]string{"team": "payments", "tier": "1"}, b.Instance.Labels, "and change nobody else's")
	assert.True(t, access.Assert)
	assert.Equal(t, "b-1", access.Binding)
	assert.Equal(t, backend, access.Route)
	assert.Equal(t, owner, access.Owner)
	assert.Equal(t, int64(7), access.Revision)
}

func TestEveryGrantKeepsItsOrigin(t *testing.T) {
	b := bound(allowing(t, app, org))
	b.OfBinding = allowing(t, app2, app)
	operator := site(t, space, app)
	live := parameters.NewAccess(b).Live(now, operator)
	origins := map[string][]string{}
	for _, rule := range live.Rules {
		origins[rule.Source.String()] = append(origins[rule.Source.String()], rule.Origin.String())
	}
	assert.Equal(t, map[string][]string{
		app: {"instance", "binding", "operator"}, app2: {"binding"}, space: {"operator"}, org: {"instance"},
	}, origins)
}

// Within a source the order is: instance, binding, operator, each as given.
func TestOrderWithinASource(t *testing.T) {
	var entries []string
	for i := range 20 { // among others, so that there is something to sort
		entries = append(entries, fmt.Sprintf(`{"source":"%s","paths":["/%02d"]}`, app, i),
			fmt.Sprintf(`{"source":"cf:app:%08d-f429-4444-8797-be2f78b75b08","paths":["/%02d"]}`, 1+i*7%20, i))
	}
	b := bound(allowing(t, entries...))
	b.OfBinding = allowing(t, entries...)
	rules := parameters.NewAccess(b).Live(now, site(t, entries...)).Rules
	rules = slices.DeleteFunc(rules, func(r grants.Rule) bool { return r.Source.String() != app })
	require.Len(t, rules, 60)
	for i, rule := range rules {
		assert.Equal(t, grants.Origin(i/20)+grants.FromInstance, rule.Origin)
		assert.Equal(t, route.Pattern(fmt.Sprintf("/%02d", i%20)), rule.Terms.Paths[0])
	}
}

// The operator's grants come and go without a trace in the owner's, however
// much room there is behind these in memory.
func TestOperatorsGrantsAreNotMixedIntoTheOwners(t *testing.T) {
	for n := 1; n < 40; n++ {
		access := parameters.NewAccess(bound(given(t, `{"allow":[`+numbered(1, n+1)+`]}`)))
		before := slices.Clone(access.Live(now, nil).Rules)
		access.Live(now, site(t, "cf:app:00000000-0000-0000-0000-000000000001"))
		assert.Equal(t, before, access.Live(now, nil).Rules, "%d grants", n)
	}
}

// The owner's routes are exact; only the operator's are patterns.
func TestRoutesLimitAGrant(t *testing.T) {
	for _, c := range []struct {
		bound, routes   string
		owner, operator bool
	}{
		{"backend.apps.identity", "backend.apps.identity", true, true},
		{"backend.apps.identity", "other.apps.identity", false, false},
		{"backend.apps.identity", "backend.apps.identity/api", false, false},
		{"backend.apps.identity/api", "backend.apps.identity", false, false},
		{"backend.apps.identity/api", "backend.apps.identity/api", true, true},
		{"backend.apps.identity/api/v1", "backend.apps.identity/api", false, false},
		{"backend.apps.identity", "*.apps.identity", false, true},
		{"a.b.apps.identity", "*.apps.identity", false, true},
		{"backend.apps.identity/api", "*.apps.identity", false, true},
		{"backend.apps.identity/api", "*.apps.identity/api", false, true},
		{"backend.apps.identity", "*.apps.identity/api", false, false},
		{"apps.identity", "*.apps.identity", false, false},
		{"xapps.identity", "*.apps.identity", false, false},
		{"*.apps.identity", "*.apps.identity", true, true},
		{"*.b.apps.identity", "*.apps.identity", false, true},
		{"*.apps.identity", "backend.apps.identity", false, false},
		{"*.apps.identity", "*.b.apps.identity", false, false},
	} {
		entry := `{"source":"` + app + `","routes":["unrelated.example","` + c.routes + `"]}`
		b := bound(allowing(t, entry))
		b.Route = routeOf(c.bound)
		assert.Len(t, parameters.NewAccess(b).Live(now, nil).Rules, count(c.owner), "owner: %+v", c)
		b.Instance, b.OfBinding = parameters.Parameters{}, allowing(t, entry)
		assert.Len(t, parameters.NewAccess(b).Live(now, nil).Rules, count(c.owner), "binding: %+v", c)
		b.OfBinding = parameters.Parameters{}
		assert.Len(t, parameters.NewAccess(b).Live(now, site(t, entry)).Rules, count(c.operator), "operator: %+v", c)
	}
}

func count(one bool) int {
	if one {
		return 1
	}
	return 0
}

func TestExpiredGrantsAreGone(t *testing.T) {
	ending := func(source, at string) string { return `{"source":"` + source + `","expires":"` + at + `"}` }
	access := parameters.NewAccess(bound(allowing(t,
		ending(app, "2026-05-04T11:00:00Z"), ending(app2, "2026-05-04T10:30:00Z"), ending(org, "2026-05-04T10:15:00Z"))))
	operator := site(t, ending(space, "2026-05-04T10:20:00Z"))
	at := func(clock string) time.Time {
		at, err := time.Parse(time.RFC3339, "2026-05-04T"+clock+"Z")
		require.NoError(t, err)
		return at
	}
	for _, c := range []struct {
		now   string
		rules int
		until string
	}{
		{"10:14:59", 4, "10:15:00"},
		{"10:15:00", 3, "10:20:00"},
		{"10:20:00", 2, "10:30:00"},
		{"10:29:59", 2, "10:30:00"},
		{"10:30:00", 1, "11:00:00"},
		{"11:00:00", 0, ""},
		{"23:00:00", 0, ""},
		{"10:14:59", 0, ""}, // what was seen to be over is not revived by a clock that goes back
	} {
		live := access.Live(at(c.now), operator)
		assert.Len(t, live.Rules, c.rules, c.now)
		if c.until == "" {
			assert.Zero(t, live.Until, "never, at %s", c.now)
			continue
		}
		assert.Equal(t, at(c.until), live.Until, c.now)
	}
	deny(t, access.Live(at("11:00:00"), operator), caller, "GET /")
	assert.Len(t, parameters.NewAccess(bound(allowing(t, app))).Live(now.AddDate(1000, 0, 0), nil).Rules, 1, "no expiry is never")
}

func TestLiveIsSharedUntilSomethingChanges(t *testing.T) {
	access := parameters.NewAccess(bound(allowing(t, app, `{"source":"`+app2+`","expires":"2026-05-04T11:00:00Z"}`)))
	first := access.Live(now, nil)
	assert.Same(t, first, access.Live(now.Add(time.Minute), nil), "its address identifies its content")
	operator := site(t, space)
	second := access.Live(now, operator)
	assert.NotSame(t, first, second, "other grants of the operator")
	assert.Same(t, second, access.Live(now, operator))
	assert.NotSame(t, second, access.Live(second.Until, operator), "an expiry")
	assert.Len(t, first.Rules, 2, "and what is shared does not change")
	assert.Len(t, second.Rules, 3)
}

// For the race detector: requests under the former and the next policy look at
// one route at once.
func TestLiveIsSafeForConcurrentUse(t *testing.T) {
	access := parameters.NewAccess(bound(given(t, `{"allow":[`+numbered(1, 12)+`]}`)))
	sites := []*grants.Site{nil, site(t, app), site(t, app, org)}
	var workers sync.WaitGroup
	for worker := range 6 {
		workers.Go(func() {
			for i := range 50 {
				which := (worker + i) % len(sites)
				assert.Len(t, access.Live(now, sites[which]).Rules, 11+which)
			}
		})
	}
	workers.Wait()
}

func TestLiveKnowsWhetherMethodsOrPathsDecide(t *testing.T) {
	for _, c := range []struct {
		entry          string
		methods, paths bool
	}{
		{app, false, false},
		{`{"source":"` + app + `","reason":"x","expires":"2026-12-31T00:00:00Z","routes":["backend.apps.identity"]}`, false, false},
		{`{"source":"` + app + `","methods":["GET"]}`, true, false},
		{`{"source":"` + app + `","paths":["/**"]}`, false, true},
		{`{"source":"` + app + `","methods":["GET"],"paths":["/a"]}`, true, true},
		{`{"source":"` + app + `","methods":["GET"],"routes":["other.example"]}`, false, false},
		{`{"source":"` + app + `","methods":["GET"],"paths":["/a"],"expires":"2026-05-04T10:00:00Z"}`, false, false},
	} {
		for name, l := range map[string]*grants.Live{
			"owner":    live(t, app2, c.entry),
			"operator": parameters.NewAccess(bound(allowing(t, app2))).Live(now, site(t, c.entry)),
		} {
			assert.Equal(t, c.methods, l.HasMethods, "%s: %s", name, c.entry)
			assert.Equal(t, c.paths, l.HasPaths, "%s: %s", name, c.entry)
		}
	}
}

// What an instance grants is in memory once, whether it has one route or many.
func TestRoutesShareTheGrantsOfTheirInstance(t *testing.T) {
	limited := `{"source":"` + app2 + `","routes":["limited.apps.identity"]}`
	instance := allowing(t, app, org, limited, `{"source":"`+space+`","expires":"2026-05-04T11:00:00Z"}`)
	common := grants.NewCommon(instance.Allow)
	route := func(name string, ofBinding ...string) *grants.Access {
		b := bound(instance)
		b.Common, b.Route, b.OfBinding = common, routeOf(name+".apps.identity"), allowing(t, ofBinding...)
		return parameters.NewAccess(b)
	}
	one, two, special, own := route("one"), route("two"), route("limited"), route("own", app2)
	operator := site(t, "cf:any", `{"source":"`+app2+`","routes":["*.elsewhere.example"]}`)
	for _, at := range []struct {
		now   time.Time
		site  *grants.Site
		rules int
	}{{now, nil, 3}, {now, operator, 4}, {now.Add(time.Hour), operator, 3}, {now.Add(time.Hour), nil, 2}} {
		first, second := one.Live(at.now, at.site), two.Live(at.now, at.site)
		require.Len(t, first.Rules, at.rules)
		assert.Same(t, &first.Rules[0], &second.Rules[0], "%+v", at)
		assert.Same(t, two, second.Access)
		for _, other := range []*grants.Access{special, own} {
			live := other.Live(at.now, at.site)
			require.Len(t, live.Rules, at.rules+1, "with what is its own")
			assert.NotSame(t, &first.Rules[0], &live.Rules[0])
		}
		assert.Len(t, first.Rules, at.rules, "and none of it is the others'")
	}
	deny(t, one.Live(now, nil), callerOf(metrics, billing, globex), "GET /")
	allow(t, special.Live(now, nil), callerOf(metrics, billing, globex), "GET /", "route:"+app2)
}
