package grants_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

func TestSourcesMatchTheirCallers(t *testing.T) {
	sameSpace, sameOrg, stranger := callerOf(metrics, shop, acme), callerOf(metrics, billing, acme), callerOf(metrics, billing, globex)
	for source, who := range map[string]struct{ allowed, denied []identity.Caller }{
		app:                    {[]identity.Caller{caller}, []identity.Caller{sameSpace, sameOrg, stranger}},
		space:                  {[]identity.Caller{caller, sameSpace}, []identity.Caller{sameOrg, stranger}},
		org:                    {[]identity.Caller{caller, sameSpace, sameOrg}, []identity.Caller{stranger}},
		"cf:any":               {[]identity.Caller{caller, sameSpace, sameOrg, stranger}, nil},
		"cf:space:" + frontend: {nil, []identity.Caller{caller, stranger}}, // a guid of another kind
		"cf:app:" + acme:       {nil, []identity.Caller{caller, stranger}},
		"cf:org:" + shop:       {nil, []identity.Caller{caller, stranger}},
	} {
		l := live(t, source)
		for _, c := range who.allowed {
			allow(t, l, c, "DELETE /any/thing", "route:"+source)
		}
		for _, c := range who.denied {
			deny(t, l, c, "GET /")
		}
	}
}

func TestNobodyIsNeverMatched(t *testing.T) {
	l := live(t, "cf:any")
	for _, nobody := range []identity.Caller{
		{}, {Foundation: "local", Instance: "i"}, {App: guid(frontend)}, {App: guid(frontend), Space: guid(shop)}, {Space: guid(shop), Org: guid(acme)},
	} {
		deny(t, l, nobody, "GET /")
	}
	t.Run("not even by a grant to the zero guid", func(t *testing.T) {
		zero := &grants.Live{Rules: []grants.Rule{{Grant: grants.Grant{Source: grants.Source{Kind: grants.App}}, Origin: grants.FromInstance}}}
		deny(t, zero, identity.Caller{}, "GET /")
		deny(t, zero, caller, "GET /")
	})
}

func TestNoGrantsDenyEverybody(t *testing.T) {
	deny(t, live(t), caller, "GET /")
	deny(t, parameters.NewAccess(bound(parameters.Parameters{})).Live(now, &grants.Site{}), caller, "GET /")
}

func TestConditionsMustAllHold(t *testing.T) {
	l := live(t, `{"source":"`+app+`","methods":["GET","PUT"],"paths":["/metrics","/api/**"]}`)
	for _, request := range []string{"GET /metrics", "PUT /metrics/", "GET /api", "PUT /api/x/y"} {
		allow(t, l, caller, request, "route:"+app)
	}
	for _, request := range []string{"GET /", "HEAD /metrics", "get /metrics", "POST /api", "GET /Metrics", "GET /metrics/x", " /metrics"} {
		deny(t, l, caller, request)
	}
	t.Run("of one grant: two halves are not a whole", func(t *testing.T) {
		l := live(t, `{"source":"`+app+`","methods":["GET"],"paths":["/a"]}`, `{"source":"`+app+`","methods":["PUT"],"paths":["/b"]}`)
		allow(t, l, caller, "GET /a", "route:"+app)
		allow(t, l, caller, "PUT /b", "route:"+app)
		deny(t, l, caller, "GET /b")
		deny(t, l, caller, "PUT /a")
	})
	t.Run("a narrower source takes nothing from a wider", func(t *testing.T) {
		l := live(t, `{"source":"`+app+`","methods":["GET"]}`, org)
		allow(t, l, caller, "GET /", "route:"+app)
		allow(t, l, caller, "PUT /", "route:"+org)
	})
}

func TestMatchPrefersTheOwnerAndTheNarrowestSource(t *testing.T) {
	anyGet := `{"source":"cf:any","methods":["GET"]}`
	for _, c := range []struct {
		name             string
		owners, operator []string
		want             string
	}{
		{"app before space before org before any", []string{anyGet, org, space, app}, nil, "route:" + app},
		{"space before org", []string{org, space}, nil, "route:" + space},
		{"org before any", []string{anyGet, org}, nil, "route:" + org},
		{"any last", []string{"cf:app:" + metrics, anyGet}, nil, "route:cf:any"},
		{"the owner's any before the operator's app", []string{"cf:any"}, []string{app}, "route:cf:any"},
		{"the owner's app before the operator's app", []string{app}, []string{app}, "route:" + app},
		{"the operator's narrowest", nil, []string{org, space}, "operator:" + space},
		{"the operator's where the owner's does not hold", []string{`{"source":"` + app + `","methods":["PUT"]}`}, []string{org}, "operator:" + org},
		{"the operator's where its narrowest does not hold", nil, []string{`{"source":"` + app + `","methods":["PUT"]}`, org}, "operator:" + org},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := parameters.NewAccess(bound(allowing(t, c.owners...))).Live(now, site(t, c.operator...))
			allow(t, l, caller, "GET /", c.want)
		})
	}
}

// One grant of a generated world, kept as it was meant: the naive matcher
// below knows nothing of parsing, sorting or searching; what a path pattern means
// is tested where it is defined.
type meant struct {
	kind, id       string
	methods, paths []string
	here           bool // its routes leave the bound route in
	ended          bool
	owners         bool
}

func (m meant) allows(c identity.Caller, method, path string) bool {
	who := map[string]string{"app": c.App.String(), "space": c.Space.String(), "org": c.Org.String(), "any": ""}[m.kind]
	return !c.IsZero() && m.here && !m.ended && who == m.id &&
		(m.methods == nil || slices.Contains(m.methods, method)) &&
		(m.paths == nil || slices.ContainsFunc(m.paths, func(p string) bool { return route.Pattern(p).Match(route.Segments(path)) }))
}

func (m meant) entry() string {
	entry := `{"source":"cf:` + m.kind
	if m.id != "" {
		entry += ":" + m.id
	}
	entry += `"`
	for name, values := range map[string][]string{"methods": m.methods, "paths": m.paths} {
		if values != nil {
			entry += `,"` + name + `":` + list(values...)
		}
	}
	if !m.here {
		entry += `,"routes":["elsewhere.example"]`
	}
	expires := now.Add(time.Hour)
	if m.ended {
		expires = now
	}
	return entry + `,"expires":"` + expires.Format(time.RFC3339) + `"}`
}

// TestMatchEqualsANaiveMatcher compares Match with a linear search over random
// grants of few guids, so that sources collide often.
func TestMatchEqualsANaiveMatcher(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	guids := []string{frontend, metrics, shop, acme}
	some := func(of ...string) []string {
		if random.IntN(2) == 0 {
			return nil
		}
		random.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		return of[:1+random.IntN(len(of))]
	}
	allowed := 0
	for world := range 300 {
		var all []meant
		var entries [3][]string
		for range random.IntN(30) {
			m := meant{
				kind: []string{"app", "space", "org", "any"}[random.IntN(4)], id: guids[random.IntN(len(guids))],
				methods: some("GET", "PUT", "POST"), paths: some("/", "/a", "/a/*", "/*", "/a/**", "/b/*/c"),
				here: random.IntN(4) > 0, ended: random.IntN(5) == 0,
			}
			if m.kind == "any" {
				m.id = ""
			}
			origin := random.IntN(3)
			m.owners = origin < 2
			if trial := append(slices.Clone(entries[origin]), m.entry()); accepted(trial) {
				entries[origin], all = trial, append(all, m)
			}
		}
		b := bound(allowing(t, entries[0]...))
		b.OfBinding = allowing(t, entries[1]...)
		l := parameters.NewAccess(b).Live(now, site(t, entries[2]...))
		for range 100 {
			c := callerOf(guids[random.IntN(4)], guids[random.IntN(4)], guids[random.IntN(4)])
			method, path := []string{"GET", "PUT", "HEAD"}[random.IntN(3)], []string{"/", "/a", "/a/", "/a/b", "/b/x/c", "/b//c", "/z"}[random.IntN(7)]
			want := naive(all, c, method, path)
			rule, ok := l.Match(c, method, route.Segments(path))
			got := ""
			if ok {
				got = rule.Policy()
				allowed++
			}
			require.Equal(t, want, got, "world %d: %s %s by %+v of %+v", world, method, path, c, all)
		}
	}
	assert.Greater(t, allowed, 5000, "the worlds must allow and deny")
	assert.Less(t, allowed, 25_000)
}

func accepted(entries []string) bool {
	_, err := parameters.ParseInstance([]byte(`{"allow":` + list(entries...) + `}`))
	return err == nil
}

// naive names the rule that must match: the owner's before the operator's,
// then the narrowest kind.
func naive(all []meant, c identity.Caller, method, path string) string {
	for _, owners := range []bool{true, false} {
		for _, kind := range []string{"app", "space", "org", "any"} {
			for _, m := range all {
				if m.owners != owners || m.kind != kind || !m.allows(c, method, path) {
					continue
				}
				policy := map[bool]string{true: "route", false: "operator"}[owners] + ":cf:" + kind
				if m.id == "" {
					return policy
				}
				return fmt.Sprintf("%s:%s", policy, m.id)
			}
		}
	}
	return ""
}
