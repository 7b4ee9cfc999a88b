package access_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf/cftest"
)

// bindings are pages of /v1/bindings with these grants of the routes.
func bindings(t *testing.T, checks []string, routes ...map[string]any) map[string]string {
	t.Helper()
	text := func(value any) string {
		raw, err := json.Marshal(value)
		require.NoError(t, err)
		return string(raw)
	}
	answers := map[string]string{"GET /v1/policy": text(map[string]any{"source": "built-in", "revision": "4f0c9e2b7a61d358", "checks": checks, "reachable": true})}
	for i, one := range routes {
		one["organization_guid"], one["space_guid"], one["plan"] = org, space, "org"
		page := map[string]any{"pagination": map[string]any{"next": nil}, "warnings": []string{}, "resources": []any{one}}
		if i+1 < len(routes) {
			page["pagination"] = map[string]any{"next": map[string]string{"href": "x"}}
		}
		answers[fmt.Sprintf("GET /v1/bindings?per_page=128&page=%d", i+1)] = text(page)
	}
	return answers
}

// standing is a grant by name, what the name stands for, and until when if that has
// lost it.
type standing struct {
	grant          any
	source, expire string
}

func boundTo(route string, allow ...any) map[string]any {
	list := []map[string]any{}
	for _, one := range allow {
		shown := map[string]any{"grant": one, "source": one, "origin": "instance", "expires": nil, "expired": false}
		switch one := one.(type) {
		case map[string]any:
			shown["source"] = one["source"]
		case standing:
			shown["grant"], shown["source"] = one.grant, one.source
			if one.expire != "" {
				shown["expires"] = one.expire
			}
		}
		list = append(list, shown)
	}
	return map[string]any{"route": route, "scope": "org", "mode": "enforce", "grants": list}
}

func TestExportTakesWhatIsInForce(t *testing.T) {
	t.Parallel()
	expired := boundTo("web.apps.identity", "cf:any")
	expired["grants"].([]map[string]any)[0]["expired"] = true
	reports := boundTo("api.apps.identity", "cf:app:"+app)
	reports["mode"] = "report"
	r := mtlsAuthz(t, "", "--export cf-commands --domain apps.identity", serve(t, bindings(t, nil, boundTo("backend.apps.identity", "cf:app:"+app, map[string]any{"source": "cf:any", "methods": []string{"GET"}}), expired, reports)).environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "\ncf add-route-policy apps.identity --source cf:app:"+app+" --hostname backend\n")
	assert.Contains(t, r.stdout, "#   cf:any: only GET\n")
	assert.Contains(t, r.stdout, "# web.apps.identity\n#   nobody may call it\n")
	assert.Contains(t, r.stdout, "report mode")
	assert.Equal(t, 1, strings.Count(r.stdout, "\ncf "))

	for name, answers := range map[string]map[string]string{
		"no such API": nil,
		"no policy in force": func() map[string]string {
			a := bindings(t, nil, boundTo("backend.apps.identity", "cf:any"))
			a["GET /v1/policy"] = `{"source":"built-in","checks":null}`
			return a
		}(),
		"a grant of a later version": bindings(t, nil, boundTo("backend.apps.identity", "spiffe:x")),
		"a gateway of before names":  bindings(t, nil, boundTo("backend.apps.identity", standing{grant: "app:frontend"})),
		"a page is missing": func() map[string]string {
			a := bindings(t, nil, boundTo("backend.apps.identity", "cf:any"), boundTo("web.apps.identity"))
			delete(a, "GET /v1/bindings?per_page=128&page=2")
			return a
		}(),
	} {
		r := mtlsAuthz(t, "", "--export cf-commands", serve(t, answers).environ()...)
		assert.Equal(t, 1, r.code, name)
		assert.Empty(t, r.stdout, name)
	}
}

// cf knows guids alone, and a name that was lost is not to be granted for ever.
func TestExportOfNames(t *testing.T) {
	t.Parallel()
	labels := map[string]any{"source": "apps", "space": "monitoring", "labels": "team=payments"}
	g := serve(t, bindings(t, nil, boundTo("backend.apps.identity",
		standing{grant: "app:frontend", source: "cf:app:" + app}, standing{"app:frontend", "cf:app:" + space, "2099-01-01T00:00:00Z"},
		standing{grant: labels, source: "cf:app:" + scraper}, standing{grant: "org:.", source: "cf:org:" + org},
		standing{grant: map[string]any{"source": "space:monitoring", "methods": []string{"GET"}}, source: "cf:space:" + second},
	)))
	r := mtlsAuthz(t, "", "--export cf-commands", g.environ()...)
	require.Zero(t, r.code, r.stderr)
	_, commands, _ := strings.Cut(r.stdout, "# backend.apps.identity\n")
	assert.Equal(t, `#   org:. stands for the next one now; a route policy follows no name
cf add-route-policy apps.identity --source cf:org:`+org+` --hostname backend
#   cf:space:`+second+` (space:monitoring): only GET
#   app:frontend stands for the next one now; a route policy follows no name
cf add-route-policy apps.identity --source cf:app:`+app+` --hostname backend
#   cf:app:`+space+` (app:frontend): only until 2099-01-01T00:00:00Z
#   {"source":"apps","space":"monitoring","labels":"team=payments"} stands for the next one now; a route policy follows no name
cf add-route-policy apps.identity --source cf:app:`+scraper+` --hostname backend
`, commands)
}

// What a gateway says is printed as access prints all else of it: here a check that
// would move the cursor.
func TestExportMovesNoCursor(t *testing.T) {
	t.Parallel()
	r := mtlsAuthz(t, "", "--export cf-commands", serve(t, bindings(t, []string{"freeze\u001b[2J\u009b2J\u202e"}, boundTo("backend.apps.identity", "cf:app:"+app))).environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "the checks freeze[2J2J, which")
}

// What is exported, run, and imported again allows the same.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	g := serve(t, bindings(t, nil, boundTo("backend.apps.identity", "cf:app:"+app, "cf:space:"+second), boundTo("api.apps.identity/metrics", "cf:any"), boundTo("web.apps.identity", "cf:org:"+org)))
	cf := cftest.New(t, foundation())
	exported := mtlsAuthz(t, "", "--export cf-commands", g.environ()...)
	require.Zero(t, exported.code, exported.stderr)
	sh(t, cf, exported.stdout)
	require.Len(t, cf.Foundation().Policies, 4)

	policies := sh(t, cf, "CF_TRACE=false cf curl '/v3/route_policies?include=route'")
	imported := mtlsAuthz(t, policies, "--import -", cf.Environ()...)
	require.Zero(t, imported.code, imported.stderr)
	sh(t, cf, withoutTarget(imported.stdout))
	assert.Equal(t, []string{
		`{"allow":["cf:space:` + second + `","cf:app:` + app + `"]}`,
		`{"allow":[{"source":"cf:any","routes":["api.apps.identity/metrics"]},{"source":"cf:org:` + org + `","routes":["web.apps.identity"]}]}`,
	}, []string{string(cf.Foundation().Instances[0].Parameters), string(cf.Foundation().Instances[1].Parameters)})
	assert.Contains(t, imported.stdout, "cf target -o acme -s dev\n")
}

// withoutTarget leaves out what the cf of tests has not.
func withoutTarget(script string) string {
	return strings.ReplaceAll(script, "cf target ", "# ")
}

func sh(t *testing.T, cf *cftest.CF, script string) string {
	t.Helper()
	process := exec.CommandContext(t.Context(), "sh", "-es")
	process.Env, process.Stdin = cf.Environ(), strings.NewReader(script)
	var stderr bytes.Buffer
	process.Stderr = &stderr
	said, err := process.Output()
	require.NoError(t, err, "%s%s", said, stderr.String())
	return string(said)
}

const table = "Getting route policies in org acme / space dev as alice...\n\nhost      domain          path       source   scope   name\nbackend   apps.identity              cf:any   any     \napi       apps.identity   /metrics   cf:app:" + app + "   app   frontend\n"

func TestImport(t *testing.T) {
	t.Parallel()
	cf := cftest.New(t, foundation())
	r := mtlsAuthz(t, table, "--import -", cf.Environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, `cf update-service my-authz -c '{"allow_add":["cf:any"]}'`)
	assert.Contains(t, r.stdout, `cf update-service 'it'\''s shared' -c '{"allow_add":[{"source":"cf:app:`+app+`","routes":["api.apps.identity/metrics"]}]}'`)
	assert.Empty(t, cf.Changes(), "it writes commands and runs none")

	r = mtlsAuthz(t, table, "--import - --instance mine --json", "PATH=/nowhere")
	require.Zero(t, r.code, r.stderr)
	assert.JSONEq(t, `{"allow_add":[{"source":"cf:any","routes":["backend.apps.identity"]},{"source":"cf:app:`+app+`","routes":["api.apps.identity/metrics"]}]}`, r.stdout)

	r = mtlsAuthz(t, strings.Replace(table, "backend  ", "open     ", 1), "--import -", cf.Environ()...)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stdout, "# open.apps.identity is bound to no service")
	for line, want := range map[string]string{
		"--import /nowhere": "no such file", "--import - --json": "needs --instance", "--import - --instance=-x": "for a flag",
	} {
		r = mtlsAuthz(t, table, line, cf.Environ()...)
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, want)
	}
	r = mtlsAuthz(t, "", "--import -", cf.Environ()...)
	assert.Contains(t, r.stderr, "expected what cf curl")
	r = mtlsAuthz(t, policies(t, guid, 1, func(int) string { return "cf:any" }), "--import - --instance mine", "PATH=/nowhere")
	assert.Contains(t, r.stderr, "ask with include=route", "there is no cf to ask for the name of the route")
	r = mtlsAuthz(t, `{"resources":[{"source":"cf:any","relationships":{"route":{"data":{"guid":"8b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b01"}}}}]}`, "--import -", cf.Environ()...)
	assert.Contains(t, r.stdout, "cf update-service my-authz", "a route without a name is looked up")
}

// policies are route policies of these sources on these routes, as Cloud Controller
// shows them.
func policies(t *testing.T, route func(int) string, count int, source func(int) string) string {
	t.Helper()
	list := []any{}
	for i := range count {
		list = append(list, map[string]any{"source": source(i), "relationships": map[string]any{"route": map[string]any{"data": map[string]string{"guid": route(i)}}}})
	}
	text, err := json.Marshal(map[string]any{"resources": list})
	require.NoError(t, err)
	return string(text)
}

func guid(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", i) }

// Each question is asked once, however many policies there are, and somebody who
// waits sees that it goes on.
func TestImportOfMany(t *testing.T) {
	t.Parallel()
	f := foundation()
	f.Routes = nil
	for i := range 250 {
		f.Routes = append(f.Routes, cftest.Route{GUID: guid(i), Host: fmt.Sprintf("h%d", i), Domain: "domain-1", Space: space, Instance: []string{authz, shared}[i/249]})
	}
	cf := cftest.New(t, f)
	sources := func(i int) string { return "cf:app:" + guid(i/250) }
	r := mtlsAuthz(t, policies(t, func(i int) string { return guid(i % 250) }, 1000, sources), "--import -", cf.Environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stderr, "950 of 1000 route policies\n")
	assert.Len(t, cf.Calls(), 3+2*3, "bindings in three requests; each instance, its routes and its parameters")

	rows := strings.Builder{}
	for i := range 250 {
		fmt.Fprintf(&rows, "h%d apps.identity cf:any any\n", i)
	}
	cf = cftest.New(t, f)
	r = mtlsAuthz(t, "host domain path source scope name\n"+rows.String(), "--import -", cf.Environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Len(t, cf.Calls(), 1+3+3+2*3, "the domain; its routes in three requests; and so on")

	sh(t, cf, withoutTarget(r.stdout))
	after := cf.Foundation().Instances
	assert.Contains(t, string(after[0].Parameters), `"h0.apps.identity"`)
	assert.Contains(t, string(after[0].Parameters), `"h248.apps.identity"`)
	assert.Equal(t, 3, strings.Count(string(after[0].Parameters), `"cf:any"`), "a grant names 100 routes at most")
	again := mtlsAuthz(t, "host domain path source scope name\n"+rows.String(), "--import -", cf.Environ()...)
	assert.NotContains(t, again.stdout, "\ncf ", "what is allowed already is left out")
	assert.Contains(t, again.stdout, "# my-authz has 249 of these already\n")
}

// One argument of a command is less than 128 KiB on Linux.
func TestCommandsThatCanRun(t *testing.T) {
	t.Parallel()
	f := foundation()
	cf := cftest.New(t, f)
	r := mtlsAuthz(t, policies(t, func(int) string { return f.Routes[0].GUID }, 5000, func(i int) string { return "cf:app:" + guid(i) }), "--import -", cf.Environ()...)
	require.Zero(t, r.code, r.stderr)
	sh(t, cf, withoutTarget(r.stdout))
	assert.Equal(t, 5000, strings.Count(string(cf.Foundation().Instances[0].Parameters), "cf:app:"))
	assert.Equal(t, 2, len(cf.Changes()), "commands") //nolint:testifylint // Len would print all of them
}

// A command of cf means the targeted space, where another service may have the name.
func TestImportIntoASpaceWithoutAName(t *testing.T) {
	t.Parallel()
	f := foundation()
	f.Hidden = []string{org}
	r := mtlsAuthz(t, table, "--import -", cftest.New(t, f).Environ()...)
	assert.Equal(t, 1, r.code)
	assert.NotContains(t, r.stdout, "\ncf ")
	assert.Contains(t, r.stdout, "# service my-authz: the names of its org and space are not known to you. Target space "+space)
	assert.Contains(t, r.stderr, "2 services are in spaces that cannot be targeted")
	f = foundation()
	f.Orgs[0].Name, f.Spaces[0].Name = " acme  inc ", "it's  dev"
	r = mtlsAuthz(t, table, "--import -", cftest.New(t, f).Environ()...)
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, `cf target -o ' acme  inc ' -s 'it'\''s  dev'`+"\n", "names as they are")
}
