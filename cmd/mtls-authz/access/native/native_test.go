package native_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access/native"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	app   = "cf:app:d76446a1-f429-4444-8797-be2f78b75b08"
	space = "cf:space:0a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c10"
	org   = "cf:org:6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	other = "cf:space:1a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c11"
)

// bound is a route of the owner in space and org, with these entries of allow.
func bound(t *testing.T, name string, scope grants.Scope, entries ...string) native.Bound {
	t.Helper()
	r, err := route.Parse(name)
	require.NoError(t, err)
	b := native.Bound{Route: r, Scope: scope}
	b.Owner.Space, err = identity.ParseGUID(strings.TrimPrefix(space, "cf:space:"))
	require.NoError(t, err)
	b.Owner.Org, err = identity.ParseGUID(strings.TrimPrefix(org, "cf:org:"))
	require.NoError(t, err)
	for _, entry := range entries {
		if !strings.HasPrefix(entry, "{") {
			entry = `"` + entry + `"`
		}
		grant, err := grants.ParseGrant([]byte(entry))
		require.NoError(t, err)
		b.Grants = append(b.Grants, native.InForce{Grant: grant})
	}
	return b
}

// written are the commands and the comments about grants.
func written(t *testing.T, x native.Export) (commands, comments []string) {
	t.Helper()
	var out strings.Builder
	require.NoError(t, x.Write(&out))
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#   cf create"):
		case strings.HasPrefix(line, "#   "):
			comments = append(comments, strings.TrimPrefix(line, "#   "))
		case line != "" && !strings.HasPrefix(line, "#"):
			commands = append(commands, line)
		}
	}
	return commands, comments
}

func TestWhatARoutePolicyCanSay(t *testing.T) {
	add := func(source, rest string) string {
		return "cf add-route-policy apps.identity --source " + source + " " + rest
	}
	reports := bound(t, "backend.apps.identity", grants.ScopeOrg, app)
	reports.Reports = true
	// named are grants as names: what they stand for, and the words.
	named := func(b native.Bound, words string) native.Bound {
		for i := range b.Grants {
			b.Grants[i].Written = words
		}
		return b
	}
	for name, c := range map[string]struct {
		x                  native.Export
		commands, comments []string
	}{
		"each source": {
			native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, app, space, org)}},
			[]string{add(org, "--hostname backend"), add(space, "--hostname backend"), add(app, "--hostname backend")},
			nil,
		},
		"any": {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeAny, "cf:any")}}, []string{add("cf:any", "--hostname backend")}, nil},
		"any beside others, which Cloud Controller refuses": {
			native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeAny, app, "cf:any")}},
			[]string{add("cf:any", "--hostname backend")},
			[]string{app + ": cf:any includes it, and Cloud Controller takes no other source beside cf:any"},
		},
		"a name is what it stands for now": {
			native.Export{Routes: []native.Bound{named(bound(t, "backend.apps.identity", grants.ScopeOrg, app), "app:frontend")}},
			[]string{add(app, "--hostname backend")},
			[]string{"app:frontend stands for the next one now; a route policy follows no name"},
		},
		"any beside a name": {
			native.Export{Routes: []native.Bound{{Route: reports.Route, Scope: grants.ScopeAny, Grants: append(named(bound(t, "backend.apps.identity", grants.ScopeAny, org), "org:.").Grants, bound(t, "backend.apps.identity", grants.ScopeAny, "cf:any").Grants...)}}},
			[]string{add("cf:any", "--hostname backend")},
			[]string{org + " (org:.): cf:any includes it, and Cloud Controller takes no other source beside cf:any"},
		},
		"a former holder of a name": {
			native.Export{Routes: []native.Bound{named(bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"`+app+`","expires":"2099-01-01T00:00:00Z"}`), "app:frontend")}},
			nil,
			[]string{app + " (app:frontend): only until 2099-01-01T00:00:00Z"},
		},
		"a name alone": {
			native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, "app:frontend")}},
			nil,
			[]string{"app:frontend: cf takes guids, and what this stands for is not known"},
		},
		"a path":                        {native.Export{Routes: []native.Bound{bound(t, "api.apps.identity/metrics", grants.ScopeOrg, app)}}, []string{add(app, "--hostname api --path /metrics")}, nil},
		"a wildcard":                    {native.Export{Routes: []native.Bound{bound(t, "*.apps.identity", grants.ScopeOrg, app)}}, []string{add(app, "--hostname '*'")}, nil},
		"a note is no condition":        {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"`+app+`","reason":"INC-1"}`)}}, []string{add(app, "--hostname backend")}, nil},
		"the route itself is none":      {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"`+app+`","routes":["backend.apps.identity"]}`)}}, []string{add(app, "--hostname backend")}, nil},
		"the same source twice":         {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, app, app)}}, []string{add(app, "--hostname backend")}, nil},
		"methods":                       {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"`+app+`","methods":["GET","HEAD"]}`)}}, nil, []string{app + ": only GET, HEAD"}},
		"paths":                         {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"cf:any","paths":["/api/**"]}`)}}, nil, []string{"cf:any: only paths /api/**"}},
		"an end":                        {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, `{"source":"`+app+`","expires":"2099-01-01T00:00:00Z"}`)}}, nil, []string{app + ": only until 2099-01-01T00:00:00Z"}},
		"report mode":                   {native.Export{Routes: []native.Bound{reports}}, nil, []string{app + ": the route is in report mode, in which nobody is refused"}},
		"checks":                        {native.Export{Checks: []string{"freeze"}, Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, app)}}, nil, []string{app + ": only if the checks hold"}},
		"no scope":                      {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", 0, app)}}, nil, []string{app + ": the route has no scope, which allows nobody"}},
		"nobody":                        {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg)}}, nil, []string{"nobody may call it"}},
		"the domain itself":             {native.Export{Domains: []string{"apps.identity"}, Routes: []native.Bound{bound(t, "apps.identity", grants.ScopeOrg, app)}}, nil, []string{app + ": cf add-route-policy needs a hostname, and takes any route of the domain without one"}},
		"a domain that was not named":   {native.Export{Domains: []string{"other.identity", "identity"}, Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, app)}}, nil, nil},
		"several bindings of one route": {native.Export{Routes: []native.Bound{bound(t, "backend.apps.identity", grants.ScopeOrg, app), bound(t, "backend.apps.identity", grants.ScopeOrg)}}, nil, []string{app + ": the route has several bindings here, of which the platform uses one", "nobody may call it"}},
		"a hostname with routes below it": {
			native.Export{Routes: []native.Bound{bound(t, "api.apps.identity", grants.ScopeOrg, app), bound(t, "api.apps.identity/metrics", grants.ScopeOrg, app)}},
			[]string{add(app, "--hostname api --path /metrics")},
			[]string{app + ": cf add-route-policy without --path takes any route of the hostname, and there are others with a path"},
		},
		"a narrower scope than the domain's": {
			native.Export{Routes: []native.Bound{bound(t, "a.apps.identity", grants.ScopeAny, app), bound(t, "b.apps.identity", grants.ScopeSpace, app, space, other, org), bound(t, "c.apps.identity", grants.ScopeOrg, app, org, space, "cf:any")}},
			[]string{add(app, "--hostname a"), add(space, "--hostname b"), add(org, "--hostname c"), add(space, "--hostname c")},
			[]string{
				org + ": the scope here is space, and that of the domain would be any", other + ": the scope here is space, and that of the domain would be any",
				app + ": the scope here is space, and that of the domain would be any",
				"cf:any: the scope here is org, and that of the domain would be any", app + ": the scope here is org, and that of the domain would be any",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			commands, comments := written(t, c.x)
			assert.Equal(t, c.commands, commands)
			assert.Equal(t, c.comments, comments)
		})
	}
}

func TestTheWholeExport(t *testing.T) {
	var out strings.Builder
	require.NoError(t, native.Export{Domains: []string{"apps.identity"}, Checks: []string{"freeze", "office_hours"}, Routes: []native.Bound{
		bound(t, "web.shop.example", grants.ScopeAny, app), bound(t, "backend.apps.identity", grants.ScopeSpace, app),
	}}.Write(&out))
	assert.Equal(t, `# Route policies (RFC-0055) for what mtls-authz allows. A command here allows at most what
# is allowed now; comments are what a route policy cannot express.
# The policy has the checks freeze, office_hours, which narrow every grant.

# Domain apps.identity. The commands mean what they should only on a domain that was made with
#   cf create-shared-domain apps.identity --enforce-route-policies --scope space
# backend.apps.identity
#   `+app+`: only if the checks hold

# web.shop.example: in none of the domains that were named
`, out.String())
}

// table is what cf route-policies of cf 9 prints where it is no terminal.
const table = `Getting route policies in org acme / space dev as alice...

host      domain          path       source                                          scope   name
backend   apps.identity              cf:app:d76446a1-f429-4444-8797-be2f78b75b08     app     it's a name
api       apps.identity   /metrics   cf:space:0a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c10   space   dev
          apps.identity              cf:any                                          any     
`

func TestTablesOfCf(t *testing.T) {
	policies, err := native.Read([]byte(table))
	require.NoError(t, err)
	places := []string{}
	for _, p := range policies {
		places = append(places, p.Hostname+" "+p.Domain+" "+p.Path+" "+p.URL+" "+p.Source.String())
	}
	assert.Equal(t, []string{"backend apps.identity  backend.apps.identity " + app, "api apps.identity /metrics api.apps.identity/metrics " + space, " apps.identity  apps.identity cf:any"}, places)
	bold, err := native.Read([]byte(strings.NewReplacer("host      domain", "\x1b[1mhost\x1b[0m      \x1b[1;36mdomain\x1b[0m", "backend  ", "\x1b[36;1mbackend\x1b[0m  ").Replace(table)))
	require.NoError(t, err, "as cf writes to a terminal")
	assert.Equal(t, policies, bold)
	policies, err = native.Read([]byte("Getting route policies in org acme / space dev as alice...\n\nNo route policies found.\n"))
	require.NoError(t, err)
	assert.Empty(t, policies)
}

func TestJSONOfCloudController(t *testing.T) {
	policies, err := native.Read([]byte(`{"pagination":{"next":null},"resources":[{"guid":"p","source":"` + app + `","relationships":{"route":{"data":{"guid":"r1"}}}},{"guid":"q","source":"cf:any","relationships":{"route":{"data":{"guid":"r2"}}}}],
		"included":{"routes":[{"guid":"r1","url":"backend.apps.identity","host":"backend","path":""}]}}`))
	require.NoError(t, err)
	require.Len(t, policies, 2)
	assert.Equal(t, []string{"r1", "backend.apps.identity", "r2", ""}, []string{policies[0].RouteGUID, policies[0].URL, policies[1].RouteGUID, policies[1].URL})
}

func TestWhatIsNotOfTheExpectedForm(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "expected what cf curl",
		"FAILED\n":                     "found no line",
		`{"a":1}`:                      "expected what cf curl",
		`{"`:                           "route policies",
		`{"errors":[{"detail":"no"}]}`: "expected what cf curl",
		`{"pagination":{"next":{"href":"x"}},"resources":[]}`:                                    "one page of several",
		`{"resources":[{"source":"cf:any"}]}`:                                                    "expected relationships.route.data.guid",
		`{"resources":[{"source":"cf:user:x","relationships":{"route":{"data":{"guid":"r"}}}}]}`: `resources[0]: source "cf:user:x"`,
		"host domain path source scope name\na b /c cf:app:x app n":                              "line 2: source",
		"host domain path source scope name\na b /c cf:any app n":                                "expected scope any",
		"host domain path source scope name\na b c cf:any any":                                   "expected host, domain and path",
		"host domain path source scope name\na b/c /d cf:any any":                                "expected host, domain and path",
		"host domain path source scope name\n\n/d cf:any any":                                    "line 3: expected host, domain and path",
		"\x1b[2Jhost domain path source scope name\na b cf:any any":                              "found no line",
		"host domain path source scope name\nbackend             cf:any any":                     "expected host, domain and path",
		"host domain path source scope name\nmore words":                                         "line 2: expected host",
	} {
		_, err := native.Read([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}
