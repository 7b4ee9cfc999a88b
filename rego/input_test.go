package rego_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
)

// expecting is a bundle whose checks compare each member of the input with
// those of a document, and all of it: the first that differs has its name in
// the decision.
func expecting(document string) files {
	bundle := files{
		"expected/data.json": document,
		"whole.rego":         "package site.check.whole\nallow if input == data.expected\n",
	}
	for _, member := range []string{"caller", "grants", "now", "owner", "request", "route"} {
		bundle[member+".rego"] = fmt.Sprintf("package site.check.%s\nallow if input.%s == data.expected.%s\n", member, member, member)
	}
	return bundle
}

// inputRequest is the request of testdata/input.json; other grants than those
// are expired or for other routes.
func inputRequest(t testing.TB, policy *rego.Policy) *rego.Request {
	t.Helper()
	frontendApp := `{"source":"cf:app:` + frontend + `",`
	r := request(t, policy, "GET //v1/api/x y/",
		`{"source":"cf:any","methods":["GET","HEAD"]}`,
		frontendApp+`"methods":["GET"],"paths":["/metrics","/v1/**"]}`,
		frontendApp+`"paths":["/*"],"expires":"2026-05-04T10:15:43Z"}`,
		frontendApp+`"methods":["PUT"],"routes":["backend.apps.identity/v1"]}`,
		frontendApp+`"methods":["POST"],"expires":"2026-05-04T10:15:42Z"}`,
		frontendApp+`"methods":["PATCH"],"routes":["other.apps.identity"]}`,
		`{"source":"cf:app:`+metrics+`","reason":"INC-1"}`,
		"cf:space:"+billing, "cf:org:"+globex)
	return r
}

func TestInputIsExactlyTheContracts(t *testing.T) {
	golden, err := os.ReadFile("testdata/input.json")
	require.NoError(t, err)
	policy, err := rego.Compile(t.Context(), rego.Config{
		Bundle: directory(t, expecting(string(golden))), Timeout: 10 * time.Second, Zone: time.FixedZone("CEST", 2*60*60),
	})
	require.NoError(t, err)
	assert.Equal(t, allowed, decide(t, inputRequest(t, policy)), "the failing check names the member that differs")

	// The comparison sees everything: each of these is noticed.
	for _, differ := range []func(*rego.Request){
		func(r *rego.Request) { r.Caller.Foundation = "other" },
		func(r *rego.Request) { r.Caller.Instance = "" },
		func(r *rego.Request) { r.Caller.Org = guid(globex) },
		func(r *rego.Request) { r.Host = "frontend.apps.identity" },
		func(r *rego.Request) { r.Path = "/v1/api/x y" },
		func(r *rego.Request) { r.Segments = []string{"v1", "api"} },
		func(r *rego.Request) { r.Method = "HEAD" },
		func(r *rego.Request) { r.Now = r.Now.Add(time.Minute) },
		func(r *rego.Request) { r.Now = r.Now.AddDate(0, 0, 1) },
		func(r *rego.Request) { r.Live = access(t, "cf:any").Live(now.Add(time.Second), r.Policy.Site()) },
	} {
		r := inputRequest(t, policy)
		differ(r)
		assert.False(t, decide(t, r).Allow)
	}
}

func TestARouteWithoutGrantsHasFourEmptyKinds(t *testing.T) {
	policy := compiled(t, check(`allow := true`))
	// No grant, no allow: the check is never asked. The input is compared where
	// one grant of another kind is there.
	assert.Equal(t, denied("route:no_matching_grant", "no_matching_grant"), decide(t, request(t, policy, "GET /")))
	policy = compiled(t, check(`allow if [count(input.grants), count(input.grants.any), count(input.grants.apps), count(input.grants.spaces), count(input.grants.orgs)] == [4, 1, 0, 0, 0]`))
	assert.Equal(t, allowed, decide(t, request(t, policy, "GET /", "cf:any")))
}

func TestNowIsInTheConfiguredTimeZone(t *testing.T) {
	bundle := check(`allow if input.now == {"minute": 1185, "weekday": "sun", "date": "2026-05-03"}`)
	tokyo := time.FixedZone("JST", 9*60*60)
	for _, test := range []struct {
		zone *time.Location
		at   time.Time
	}{
		{nil, time.Date(2026, 5, 3, 19, 45, 59, 0, time.UTC)},
		{time.UTC, time.Date(2026, 5, 4, 4, 45, 0, 0, tokyo)},
		{tokyo, time.Date(2026, 5, 3, 10, 45, 0, 0, time.UTC)},
		{time.FixedZone("west", -7*60*60), time.Date(2026, 5, 4, 2, 45, 0, 0, time.UTC)},
	} {
		policy, err := rego.Compile(t.Context(), rego.Config{Bundle: directory(t, bundle), Timeout: 10 * time.Second, Zone: test.zone})
		require.NoError(t, err)
		r := request(t, policy, "GET /", "cf:any")
		r.Now = test.at
		assert.Equal(t, allowed, decide(t, r), "%v in %v", test.at, test.zone)
		r.Now = test.at.Add(time.Hour)
		assert.False(t, decide(t, r).Allow)
	}
}

func TestOperatorsGrantsAreInTheInput(t *testing.T) {
	policy := compiled(t, files{
		"data.json":   `{"site":{"grants":[{"source":"cf:space:` + shop + `","routes":["*.apps.identity"],"methods":["GET"]}]}}`,
		"policy.rego": "package site.check.one\nallow if input.grants.spaces == {\"" + shop + `": [{"methods": ["GET"]}]}`,
	})
	r := request(t, policy, "GET /", "cf:app:"+metrics)
	decision := decide(t, r)
	assert.Equal(t, allowed, decision)
	assert.Equal(t, "operator:cf:space:"+shop, rego.Confirm(decision, r).Policy)
	r.Live = access(t, "cf:app:"+metrics).Live(now, &grants.Site{})
	assert.False(t, decide(t, r).Allow)
}
