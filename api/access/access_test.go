package access_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store"
)

const url = "https://backend.apps.example"

// world has one route, which the frontend may call, and the monitoring app in part.
func world(t *testing.T) *testbed {
	b := newTestbed(t)
	b.create("i", `{"allow":["cf:app:$frontend",{"source":"cf:app:$monitoring","methods":["GET"],"paths":["/metrics"]}]}`)
	b.bind("i", "b", "backend.apps.example")
	return b
}

// decide says, for each request, what a real one gets.
func TestDecideAgreesWithRealRequests(t *testing.T) {
	b := world(t)
	b.create("report", `{"mode":"report"}`)
	b.bind("report", "r", "report.apps.example/deep")
	for _, who := range []ca.Identity{frontend, monitoring, backend, {}} {
		for _, method := range []string{"GET", "DELETE", "get"} {
			for _, at := range []string{"b " + url + "/metrics", "b " + url, "b " + url + "/a//b", "b " + url + "/..", "r https://report.apps.example/deep/x?secret=1", "r https://report.apps.example/Deep"} {
				binding, to, _ := strings.Cut(at, " ")
				id, status := b.call(binding, who, method, to)
				e := b.ask(who, method, to)
				var real explanation
				if status == http.StatusNoContent && e.Outcome == "allowed" {
					require.True(t, e.Allowed)
					require.Empty(t, e.Reason)
					continue
				}
				b.get("/v1/decisions/"+id, &real)
				assert.Equal(t, []any{real.Allowed, real.Outcome, real.Policy, real.Reason, real.Step, real.Path, real.Grants, real.Checks, real.Remedies},
					[]any{e.Allowed, e.Outcome, e.Policy, e.Reason, e.Step, e.Path, e.Grants, e.Checks, e.Remedies}, "%s %s by %q", method, to, who.App)
				assert.Equal(t, e.Outcome == "denied", status >= 400)
				assert.NotEmpty(t, real.Remedies)
			}
		}
	}
}

func TestDecideSaysWhyAndWhatWouldHaveAllowedIt(t *testing.T) {
	b := world(t)
	b.call("b", monitoring, "GET", url+"/metrics")
	e := b.ask(frontend, "GET", url)
	assert.True(t, e.Allowed)
	require.Len(t, e.Grants, 2)
	assert.JSONEq(t, `"cf:app:`+frontend.App+`"`, string(e.Grants[0].Grant), "the caller's own first")
	assert.Empty(t, e.Grants[0].Because, "it matches")
	assert.Empty(t, e.Remedies)

	e = b.ask(monitoring, "GET", url+"/admin")
	assert.Equal(t, "no_matching_grant", e.Reason)
	assert.Equal(t, "decide", e.Step)
	assert.Contains(t, e.Remedies[0], "path /admin is not matched by /metrics")
	assert.Contains(t, e.Remedies[1], `{"allow_add":["cf:app:`+monitoring.App+`"]}`)

	e = b.ask(frontend, "DELETE", url)
	assert.Equal(t, []any{"change_freeze", "policy:freeze"}, []any{e.Reason, e.Policy})
	require.Len(t, e.Checks, 1)
	assert.Equal(t, []any{"freeze", "Deletes wait", false, "freeze.rego", 11, `input.request.method != "DELETE"`},
		[]any{e.Checks[0].Name, e.Checks[0].Title, e.Checks[0].Holds, e.Checks[0].Ends[0].File, e.Checks[0].Ends[0].Line, e.Checks[0].Ends[0].Condition})
	assert.Contains(t, e.Remedies[0], `freeze.rego:11: input.request.method != "DELETE"`)

	stranger := frontend
	stranger.Org = "99999999-9999-4999-8999-999999999999"
	e = b.ask(stranger, "GET", url)
	assert.Equal(t, []any{"scope", "domain:scope=org", "guard"}, []any{e.Reason, e.Policy, e.Step})
	assert.Contains(t, e.Remedies[0], stranger.Org)
	e = b.ask(ca.Identity{}, "GET", url)
	assert.Equal(t, []any{"no_certificate", "caller"}, []any{e.Reason, e.Step})
	assert.Nil(t, e.Caller)

	// Of an app that has called, nobody must know where it is.
	r := b.do("POST", "/v1/decide", `{"caller":{"app":"`+monitoring.App+`"},"method":"GET","url":"`+url+`/metrics"}`)
	require.NoError(t, json.Unmarshal([]byte(r.body), &e), r.body)
	require.True(t, e.Allowed, r.body)
	assert.Equal(t, monitoring.Space, e.Caller.Space)
	b.do("POST", "/v1/decide", `{"caller":{"app":"`+frontend.App+`"},"method":"GET","url":"`+url+`"}`).expect(t, 400, "has not called yet")
}

func TestDecideLeavesNoTrace(t *testing.T) {
	b := world(t)
	for range 3 {
		b.ask(frontend, "GET", url)
		b.ask(frontend, "DELETE", url)
	}
	var shown struct {
		Bindings []struct {
			Callers  []any
			Denials  []any
			LastUsed *time.Time `json:"last_used_at"`
		}
	}
	b.get("/v1/routes/backend.apps.example", &shown)
	assert.Empty(t, shown.Bindings[0].Callers)
	assert.Empty(t, shown.Bindings[0].Denials)
	assert.Nil(t, shown.Bindings[0].LastUsed)
	assert.Zero(t, b.decided, "the cache remembers nothing of it")
	assert.Zero(t, b.probed)
	assert.Zero(t, b.lines.Len())
	families, err := b.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		assert.NotEqual(t, "mtls_authz_decisions_total", family.GetName())
	}
	id, _ := b.call("b", backend, "GET", url)
	before, lines := b.probed, b.lines.Len()
	b.do("GET", "/v1/decisions/"+id, "")
	assert.Equal(t, []int{1, before, lines}, []int{b.decided, b.probed, b.lines.Len()}, "nor does why one was refused")
}

// The route that the router would choose: the host before wildcards, of each the
// longest path; of several bindings the newest, unless one is named.
func TestDecideFindsTheRoute(t *testing.T) {
	b := newTestbed(t)
	b.create("i", `{}`)
	for id, name := range map[string]string{"host": "a.apps.example", "path": "a.apps.example/x/y", "wild": "*.apps.example", "wilder": "*.example", "wildpath": "*.apps.example/w"} {
		b.bind("i", id, name)
	}
	b.bind("i", "newest", "a.apps.example")
	for to, want := range map[string]string{
		"https://a.apps.example": "newest", "https://a.apps.example/x/yy": "newest", "https://a.apps.example/X/y/z": "path", "https://a.apps.example/w": "newest",
		"https://b.apps.example/w/1": "wildpath", "https://b.apps.example/v": "wild", "https://c.b.apps.example": "wild", "https://b.other.example:443/": "wilder",
	} {
		assert.Equal(t, want, b.ask(frontend, "GET", to).Binding, to)
	}
	r := b.do("POST", "/v1/decide", `{"method":"GET","url":"https://a.apps.example/","binding_guid":"host"}`)
	assert.Contains(t, r.body, `"binding_guid":"host"`)
	assert.Contains(t, r.body, "other bindings have the same route: newest")
	b.do("POST", "/v1/decide", `{"method":"GET","url":"https://other.test/"}`).expect(t, 404, "no route that is bound")
	b.do("POST", "/v1/decide", `{"method":"GET","url":"https://a.apps.example/","binding_guid":"../x"}`).expect(t, 404, "there is no binding")
}

func TestQuestionsThatAreNotUnderstood(t *testing.T) {
	b := world(t)
	for body, says := range map[string]string{
		``: "Content-Type", `{`: "malformed JSON", `[]`: "expected an object", `{"method":"GET"}`: "method and url are required", `{"url":"` + url + `"}`: "required",
		`{"method":"GET","url":"` + url + `","at":"now"}`: "unknown field", `{"method":"GET","url":"` + url + `"} {}`: "something follows",
		`{"method":"GET","url":"ftp://x"}`: "expected https://", `{"method":"GET","url":"https://127.0.0.1/"}`: "url",
		`{"method":"GET","url":"` + url + `","caller":{"app":"x"}}`:                                        "caller.app",
		`{"method":"GET","url":"` + url + `","caller":{"app":"` + frontend.App + `","space":"` + shopUpper: "caller.space",
		`{"method":"` + strings.Repeat("G", 70<<10) + `","url":"` + url + `"}`:                             "too large",
	} {
		b.do("POST", "/v1/decide", body).expect(t, 400, says)
	}
	b.do("POST", "/v1/decide?x=1", `{"method":"GET","url":"`+url+`"}`).expect(t, 400, "unknown query parameter")
	b.do("POST", "/v1/decide", `{"method":"GET","url":"`+url+`"}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }).expect(t, 400, "Content-Type")
	for _, path := range []string{"/v1/decisions/nobody", "/v1/decisions/%00", "/v1/decisions/a%2fb", "/v1/decisions/'%20OR%201=1", "/v1/decisions/" + strings.Repeat("a", 200)} {
		b.do("GET", path, "").expect(t, 404, "there is no decision")
	}
	for _, path := range []string{
		"/v1/routes/unknown.example", "/v1/routes/backend.apps.example/x", "/v1/routes/%00", "/v1/routes/a%20b", "/v1/routes/127.0.0.1", "/v1/routes/%ff",
		"/v1/routes/" + strings.Repeat("a", 300), "/v1/routes/'%20OR%201=1--", "/v1/routes/backend.apps.example:443", "/v1/routes/", "/v1/routes//backend.apps.example",
	} {
		b.do("GET", path, "").expect(t, 404, "there is no")
	}
	b.do("GET", "/v1/routes/127.0.0.1", "").expect(t, 404, "IP address")
	assert.Equal(t, 200, b.do("GET", "/v1/routes/backend.apps.example/", "").StatusCode)
	b.do("GET", "/v1/decisions/x?y=1", "").expect(t, 400, "none is known here")
	b.do("GET", "/v1/routes?route=x", "").expect(t, 400, "known are hosts, order_by")
	for _, query := range []string{"page=0", "per_page=5001", "page=1000001", "hosts=a/b", "routes=", "unused_since=now"} {
		b.do("GET", "/v1/routes?"+query, "").expect(t, 400, "query parameter")
	}
}

const shopUpper = `6755B19D-c543-4e0c-a4b3-cd6e7c9c68a3","org":""}}`

// Asking changes nothing, so readers may; nobody else may, and no other POST is a
// question.
func TestReadersMayAskAndNobodyElse(t *testing.T) {
	b := world(t)
	question := `{"method":"GET","url":"` + url + `"}`
	for name, as := range map[string]change{
		"nobody":             func(r *http.Request) { r.Header.Del("Authorization") },
		"the wrong password": func(r *http.Request) { r.SetBasicAuth("auditor", "the-readers-passwor") },
	} {
		for _, path := range []string{"/v1/decide", "/v1/routes", "/v1/routes/backend.apps.example", "/v1/decisions/x"} {
			for _, method := range []string{"GET", "POST"} {
				b.do(method, path, question, as).expect(t, 401, name[:0]+"credentials")
			}
		}
	}
	for _, path := range []string{"/v1/routes", "/v1/decide/", "/v1//decide", "/v1/decisions/x", "/v1/bindings"} {
		b.do("POST", path, question).expect(t, 403, "may read and not change")
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "post"} {
		b.do(method, "/v1/decide", question).expect(t, 403, "may read and not change")
	}
	r := b.do("GET", "/v1/decide", "")
	r.expect(t, 405, "expected POST")
	assert.Equal(t, "POST", r.Header.Get("Allow"))
	b.do("POST", "/v1/decide", question, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }).expect(t, 403, "browser")
}

// What has changed since a refusal is said, not explained by what is in force now.
func TestDecisionsAreExplainedByWhatWasInForce(t *testing.T) {
	b := world(t)
	id, _ := b.call("b", backend, "GET", url+"/x?secret=1")
	var e explanation
	b.get("/v1/decisions/"+id, &e)
	require.Empty(t, e.Warnings)
	require.Len(t, e.Grants, 2)
	assert.Equal(t, backend.App, e.Caller.App)

	b.policy = policies()[1]
	b.get("/v1/decisions/"+id, &e)
	assert.Contains(t, e.Warnings[0], "the policy has changed since")
	assert.Empty(t, e.Grants)
	b.policy = policies()[0]
	b.update("i", `{"allow":["cf:any"]}`)
	b.get("/v1/decisions/"+id, &e)
	assert.Contains(t, e.Warnings[0], "the grants or the scope of the route have changed since")
	assert.Equal(t, "denied", e.Outcome, "it was")
	assert.Contains(t, e.Remedies[0], "allow_add")
	require.NoError(t, b.store.DeleteBinding(t.Context(), store.Cause{}, "i", "b"))
	b.get("/v1/decisions/"+id, &e)
	assert.Equal(t, []string{"the binding has been deleted since"}, e.Warnings)
	assert.Equal(t, "backend.apps.example", e.Route)
}

// A grant that has ended since did match then.
func TestDecisionsAreExplainedByTheTimeThen(t *testing.T) {
	b := newTestbed(t)
	b.create("i", `{"allow":[{"source":"cf:app:$frontend","methods":["GET"],"expires":"2026-05-04T11:00:00Z"}]}`)
	b.bind("i", "b", "backend.apps.example")
	id, _ := b.call("b", frontend, "POST", url)
	b.late.Add(int64(time.Hour))
	var e explanation
	b.get("/v1/decisions/"+id, &e)
	assert.Contains(t, e.Grants[0].Because, "method POST is not one of GET")
	e = b.ask(frontend, "POST", url)
	assert.Equal(t, "no_grants", e.Reason)
	assert.Contains(t, e.Grants[0].Because, "it expired at 2026-05-04T11:00:00Z")
}

// resolve has each name of a route stand for an app, or for nobody if it is zero.
func (b *testbed) resolve(binding string, app identity.GUID) {
	bound := b.store.View().Access(binding)
	entries := map[names.Reference]names.Resolution{}
	for _, reference := range bound.References() {
		entries[reference] = names.Resolution{Missing: start}
		if !app.IsZero() {
			entries[reference] = names.Resolution{Holders: []names.Holder{{ID: app}}}
		}
	}
	bound.Names.Turn(names.NewPage(entries))
}

// A grant by name is shown as it was written, with whom it stands for.
func TestGrantsByNameAreExplained(t *testing.T) {
	b := newTestbed(t)
	b.create("i", `{"allow":["org:.",{"source":"app:x","methods":["GET"]}]}`)
	b.bind("i", "b", "backend.apps.example")
	var app identity.GUID
	require.NoError(t, app.UnmarshalText([]byte(monitoring.App)))
	shown := func(e explanation) (texts []string) {
		for _, g := range e.Grants {
			texts = append(texts, strings.TrimRight(fmt.Sprintf("%s %s: %s", g.Grant, g.StandsFor, g.Because), ": "))
		}
		return texts
	}
	const named = `{"source":"app:x","methods":["GET"]}`
	e := b.ask(frontend, "GET", url)
	assert.True(t, e.Allowed)
	assert.Equal(t, []string{`"org:." cf:org:` + backend.Org, named + " : app:x was not looked up yet and allows nobody"}, shown(e))

	b.update("i", `{"allow":[`+named+`]}`)
	b.resolve("b", app)
	e = b.ask(monitoring, "GET", url)
	assert.True(t, e.Allowed)
	assert.Equal(t, []string{named + " cf:app:" + monitoring.App}, shown(e), "the one that allowed")
	e = b.ask(monitoring, "POST", url)
	assert.Equal(t, []string{named + " cf:app:" + monitoring.App + ": method POST is not one of GET"}, shown(e))
	assert.Contains(t, e.Remedies[0], named+" of the instance, but for this: method POST")
	e = b.ask(backend, "GET", url)
	assert.Equal(t, []string{named + " cf:app:" + monitoring.App + ": not the caller's, which is cf:app:" + backend.App}, shown(e))

	id, _ := b.call("b", monitoring, "POST", url)
	b.get("/v1/decisions/"+id, &e)
	require.Empty(t, e.Warnings)
	assert.Equal(t, []string{named + " cf:app:" + monitoring.App + ": method POST is not one of GET"}, shown(e))
	b.resolve("b", identity.GUID{})
	b.get("/v1/decisions/"+id, &e)
	assert.Contains(t, fmt.Sprint(e.Warnings), "what names among the grants stand for has changed since")
	assert.Empty(t, e.Grants)
	assert.Equal(t, []string{named + " : app:x: no app bears this name since 2026-05-04T10:15:00Z, so it allows nobody"}, shown(b.ask(monitoring, "GET", url)))
}

func TestDecisionsBeforeThePolicyAndInMemory(t *testing.T) {
	b := world(t)
	for reason, c := range map[string][2]string{
		"route_mismatch": {"https://other.apps.example/", "target"}, "malformed_request": {url + "/..", "target"},
	} {
		id, _ := b.call("b", frontend, "GET", c[0])
		var e explanation
		b.get("/v1/decisions/"+id, &e)
		assert.Equal(t, []any{reason, c[1]}, []any{e.Reason, e.Step})
		assert.Nil(t, e.Caller, "who was not verified is not named")
		assert.Equal(t, strings.TrimPrefix(strings.TrimPrefix(c[0], url), "https://other.apps.example"), e.Path)
		assert.Empty(t, e.Grants)
	}
	long := url + "/" + strings.Repeat("a", 2000)
	id, _ := b.call("b", backend, "GET", long)
	var e explanation
	b.get("/v1/decisions/"+id, &e)
	assert.Len(t, e.Path, 1024)
	assert.Contains(t, e.Warnings[0], "too long")
	id, _ = b.call("b", frontend, "GET", url)
	b.do("GET", "/v1/decisions/"+id, "").expect(t, 404, "10000 refusals")
	b.recorded[id] = replay.Recorded{
		DecisionID: id, Time: start.Add(time.Duration(b.late.Load())), Decision: replay.Decision{Allow: true, Policy: "route:cf:app:" + frontend.App},
		Route: "backend.apps.example", Binding: "b", PolicyRevision: b.policy.Revision(), Input: replay.Input{
			Caller: replay.Caller{App: frontend.App, Space: frontend.Space, Org: frontend.Org}, Request: replay.Request{Method: "GET", Host: "backend.apps.example", Path: "/"},
		},
	}
	e = explanation{}
	b.get("/v1/decisions/"+id, &e)
	assert.Equal(t, []any{true, true, "route:cf:app:" + frontend.App, "enforce"}, []any{e.Allowed, e.GoesOn, e.Policy, e.Mode})
	require.Len(t, e.Grants, 2, "explained as those in the store are")
	assert.Empty(t, e.Grants[0].Because)
	assert.Equal(t, []string{"from the memory of this instance of the gateway"}, e.Warnings)
	b.update("i", `{"allow":["cf:any"]}`)
	e = explanation{}
	b.get("/v1/decisions/"+id, &e)
	assert.Empty(t, e.Grants)
	assert.Contains(t, e.Warnings[0], "the grants or the scope of the route have changed since")
}

// In report mode a request goes on that would be denied.
func TestWhatGoesOnInReportMode(t *testing.T) {
	b := newTestbed(t)
	b.create("i", `{"mode":"report"}`)
	b.bind("i", "b", "backend.apps.example")
	id, status := b.call("b", frontend, "GET", url)
	require.Equal(t, http.StatusNoContent, status)
	var real explanation
	b.get("/v1/decisions/"+id, &real)
	for _, e := range []explanation{real, b.ask(frontend, "GET", url)} {
		assert.Equal(t, []any{false, true, "not_enforced", "no_grants", "report"}, []any{e.Allowed, e.GoesOn, e.Outcome, e.Reason, e.Mode})
	}
}

// What people and their tools read of a route.
func TestARouteAsItIsShown(t *testing.T) {
	b := world(t)
	b.call("b", frontend, "GET", url)
	b.call("b", frontend, "GET", url)
	b.call("b", monitoring, "POST", url+"/metrics?secret=1")
	b.call("b", ca.Identity{}, "GET", url)
	b.notBound["backend.apps.example"] = "the app answered itself"
	b.update("i", `{"allow":["cf:app:$frontend",{"source":"cf:app:$monitoring","methods":["GET"],"paths":["/metrics"]},{"source":"cf:any","routes":["gone.example"]}],"scope":"space"}`)
	b.late.Add(int64(31 * 24 * time.Hour))
	r := b.do("GET", "/v1/routes/backend.apps.example", "")
	golden(t, "route.json", indented(t, r.body))
	r = b.do("GET", "/v1/routes/BACKEND.apps.example", "", text)
	assert.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"))
	golden(t, "route.txt", r.body)
	golden(t, "routes.json", indented(t, b.do("GET", "/v1/routes", "").body))
	golden(t, "routes.txt", b.do("GET", "/v1/routes", "", text).body)
	r = b.do("POST", "/v1/decide", `{"caller":{"app":"`+frontend.App+`"},"method":"DELETE","url":"`+url+`/x\u001b[2J"}`, text)
	assert.NotContains(t, r.body, "\x1b")
	r = b.do("POST", "/v1/decide", `{"caller":{"app":"`+frontend.App+`"},"method":"DELETE","url":"`+url+`/x"}`, text)
	golden(t, "decide.txt", r.body)
	assert.Contains(t, b.do("GET", "/v1/routes/backend.apps.example", "", func(r *http.Request) { r.Header.Set("Accept", "application/json, text/plain") }).Header.Get("Content-Type"), "json")
}

func TestListsOfRoutesHavePages(t *testing.T) {
	b := newTestbed(t)
	b.create("i", `{"allow":["cf:any"]}`)
	b.create("j", `{}`)
	for n := range 7 {
		b.bind("i", fmt.Sprintf("b%d", n), fmt.Sprintf("r%d.apps.example", n))
	}
	b.bind("j", "j1", "r1.apps.example/x")
	type page struct {
		Pagination struct {
			Total int `json:"total_results"`
			Next  *struct{ Href string }
		}
		Resources []struct {
			Route  string
			Grants int `json:"grants_total"`
		}
	}
	routes := func(query string) (list []string, p page) {
		b.get("/v1/routes"+query, &p)
		for _, one := range p.Resources {
			list = append(list, one.Route)
		}
		return list, p
	}
	list, p := routes("?per_page=3&page=3")
	assert.Equal(t, []string{"r6.apps.example", "r1.apps.example/x"}, list)
	assert.Equal(t, 8, p.Pagination.Total)
	assert.Nil(t, p.Pagination.Next)
	assert.Equal(t, []int{1, 0}, []int{p.Resources[0].Grants, p.Resources[1].Grants})
	list, p = routes("?per_page=3&page=9")
	assert.Empty(t, list)
	assert.Equal(t, 8, p.Pagination.Total)
	list, p = routes("?per_page=1&order_by=-created_at&hosts=r1.apps.example")
	assert.Equal(t, []string{"r1.apps.example/x"}, list)
	assert.Equal(t, base+"/v1/routes?hosts=r1.apps.example&order_by=-created_at&page=2&per_page=1", p.Pagination.Next.Href)
	list, _ = routes("?service_instance_guids=j")
	assert.Equal(t, []string{"r1.apps.example/x"}, list)
	b.bind("j", "again", "r1.apps.example")
	var shown struct {
		Bindings []struct {
			Binding string `json:"binding_guid"`
		}
		Warnings []string
	}
	b.get("/v1/routes/r1.apps.example", &shown)
	assert.Equal(t, "again", shown.Bindings[0].Binding)
	assert.Len(t, shown.Bindings, 2)
	assert.Contains(t, shown.Warnings[0], "2 bindings have the route")
}
