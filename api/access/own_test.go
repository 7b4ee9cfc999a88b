package access_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/identity"
)

// asked is a question about the frontend, or about somebody without a certificate.
func asked(method, url string) string {
	return fmt.Sprintf(`{"caller":{"app":%q,"space":%q,"org":%q},"method":%q,"url":%q}`, frontend.App, frontend.Space, frontend.Org, method, url)
}

// A developer asks about the own routes with the own token, and about no others.
func TestUsersAskAboutTheirOwnRoutes(t *testing.T) {
	b := world(t)
	b.create("j", `{"allow":["cf:any"]}`)
	b.bind("j", "theirs", "theirs.apps.example")
	b.bind("j", "same", "backend.apps.example")
	mine, _ := b.call("b", backend, "GET", url)
	others, _ := b.call("theirs", backend, "DELETE", "https://theirs.apps.example/")
	const decide, why = "/v1/instances/i/decide", "/v1/instances/i/decisions/"

	var e explanation
	read := func(r reply) {
		t.Helper()
		require.Equal(t, 200, r.StatusCode, r.body)
		e = explanation{}
		require.NoError(t, json.Unmarshal([]byte(r.body), &e))
	}
	read(b.do("POST", decide, asked("GET", url), as("i")))
	assert.Equal(t, []any{true, "b"}, []any{e.Allowed, e.Binding}, "of the route's bindings, the own")
	assert.Equal(t, []string{"another service instance has a binding of this route too"}, e.Warnings)
	read(b.do("GET", why+mine, "", as("i")))
	assert.Equal(t, "no_matching_grant", e.Reason)
	assert.Len(t, e.Grants, 2)

	b.do("POST", decide, asked("GET", "https://theirs.apps.example/"), as("i")).expect(t, 404, "no route that is bound to the service instance")
	b.do("POST", decide, strings.TrimSuffix(asked("GET", url), "}")+`,"binding_guid":"theirs"}`, as("i")).expect(t, 404, "there is no binding")
	b.do("POST", decide, `{"caller":{"app":"`+backend.App+`"},"method":"GET","url":"`+url+`"}`, as("i")).expect(t, 400, "caller.space")
	notThere := b.do("GET", why+"5f1c2a9e-0d4b-4c8e-9b1a-7e6d5c4b3a21", "", as("i"))
	notThere.expect(t, 404, "there is no decision")
	assert.Equal(t, notThere.body, strings.ReplaceAll(b.do("GET", why+others, "", as("i")).body, others, "5f1c2a9e-0d4b-4c8e-9b1a-7e6d5c4b3a21"), "whether it exists is not told")
	for _, path := range []string{decide, "/v1/decide"} {
		b.do("POST", path, asked("GET", url), as("j")).expect(t, 403, "")
	}
	b.do("GET", why+mine, "", as("j")).expect(t, 403, "")
	// Operators and readers may ask there as well.
	read(b.do("POST", decide, asked("GET", url)))
	assert.Equal(t, []string{"other bindings have the same route: same"}, e.Warnings)
	read(b.do("GET", why+mine, ""))
	b.do("GET", why+others, "").expect(t, 404, "there is no decision")
	b.do("POST", "/v1/instances/nope/decide", asked("GET", url)).expect(t, 404, "service instance")
}

// A user reads why, and nothing of the operator's policy or of other tenants.
func TestUsersReadNothingOfTheOperatorsPolicy(t *testing.T) {
	b := world(t)
	var own identity.GUID
	require.NoError(t, own.UnmarshalText([]byte(backend.Org)))
	b.labels = map[string]display.Label{frontend.App: {Name: "frontend", Org: own}, monitoring.App: {Name: "hidden-name"}, backend.Org: {Name: "acme", Org: own}}
	foreign, err := grants.ParseGrant([]byte(`{"source":"cf:any","routes":["secret.apps.example"]}`))
	require.NoError(t, err)
	both, err := grants.ParseGrant([]byte(`{"source":"cf:any","methods":["PUT"],"routes":["backend.apps.example","shared-secret.apps.example"],"reason":"tenant globex"}`))
	require.NoError(t, err)
	b.policy.Site().Grants = append(b.policy.Site().Grants, foreign, both)
	t.Cleanup(func() { b.policy.Site().Grants = nil })
	readers := b.do("POST", "/v1/decide", asked("DELETE", url)).body
	for _, shown := range []string{"freeze.rego", "Deletes wait", `"name":"acme/frontend"`, "hidden-name"} {
		assert.Contains(t, readers, shown)
	}
	users := b.do("POST", "/v1/instances/i/decide", asked("DELETE", url), as("i")).body
	for _, shown := range []string{`"reason":"change_freeze"`, `"policy":"policy:freeze"`, "the check freeze of the operator's policy", `"name":"acme/frontend"`} {
		assert.Contains(t, users, shown)
	}
	for _, hidden := range []string{"freeze.rego", "Deletes wait", "input.request", "hidden-name", "secret.apps.example", "globex"} {
		assert.NotContains(t, users, hidden)
		assert.NotContains(t, b.do("GET", "/v1/instances/i/routes", "", as("i")).body, hidden)
	}
	assert.Contains(t, readers, "shared-secret.apps.example")
}

// The lists of one instance, as JSON and as text.
func TestListsOfOneInstance(t *testing.T) {
	b := world(t)
	b.create("empty", `{}`)
	for n := range 24 {
		b.bind("i", fmt.Sprintf("b%d", n), fmt.Sprintf("r%d.apps.example", n))
	}
	id, _ := b.call("b", frontend, "DELETE", url+"/x")
	for _, who := range []change{as("i"), func(*http.Request) {}} {
		r := b.do("GET", "/v1/instances/i/routes", "", who, text)
		assert.Equal(t, 20, strings.Count(r.body, "WHO MAY CALL"))
		assert.Contains(t, r.body, "page 1 of 2; 25 routes in all")
		assert.Equal(t, `<`+base+`/v1/instances/i/routes?page=2&per_page=20>; rel="next"`, r.Header.Get("Link"))
		assert.Contains(t, b.do("GET", "/v1/instances/i/routes", "", who).body, `"grants_total":2`)
		r = b.do("GET", "/v1/instances/i/denials", "", who, text)
		assert.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"))
		assert.Regexp(t, `backend.apps.example +cf:app:`+frontend.App+` +DELETE /x +denied +change_freeze +1 +2026-\S+ +`+id, r.body)
		assert.Contains(t, b.do("GET", "/v1/instances/i/denials", "", who).body, `"decision_id":"`+id+`"`)
	}
	assert.Equal(t, "page 1 of 1; 0 routes in all\n", b.do("GET", "/v1/instances/empty/routes", "", text).body)
	for _, path := range []string{"routes", "denials", "bindings", "decisions/" + id} {
		b.do("GET", "/v1/instances/nope/"+path, "").expect(t, 404, "there is no service instance")
		b.do("GET", "/v1/instances/nope/"+path, "", as("i")).expect(t, 403, "")
	}
}
