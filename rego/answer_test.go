package rego_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
)

func TestReadingTheCallersOwnGrantsReadsNoOthers(t *testing.T) {
	others := []string{"grants.apps", "grants.spaces", "grants.orgs"}
	assert.False(t, compiled(t, nil).ReadsAny(others), "the built-in policy")
	for body, reads := range map[string]bool{
		`allow := true`:                                                                                        false,
		`allow if input.caller.org == "x"`:                                                                     false,
		`allow if count(input.grants.any) == 1`:                                                                false,
		`allow if count(input.grants.apps) == 1`:                                                               true,
		`allow if input.grants.apps[input.caller.app][_].methods[_] == "GET"`:                                  false,
		`allow if { app := input.caller.app; input.grants.apps[app] }`:                                         false,
		`allow if not input.grants.orgs[input.caller.org]`:                                                     false,
		`allow if every g in input.grants.spaces[input.caller.space] { g.methods }`:                            false,
		`allow if count([g | some g in input.grants.apps[input.caller.app]]) == 1`:                             false,
		`allow if input.grants["apps"][input["caller"]["app"]]`:                                                false,
		`allow if input.grants.apps[input.caller.space]`:                                                       true,
		`allow if input.grants.apps[input.owner.space]`:                                                        true,
		`allow if input.grants.apps["` + metrics + `"]`:                                                        true,
		`allow if { some app in ["x"]; not app == input.caller.app; input.grants.apps[app] }`:                  true,
		`allow if input.grants[_][input.caller.app]`:                                                           true,
		`allow if { some kind in ["apps"]; input.grants[kind][input.caller.app] }`:                             true,
		`allow if { some app; input.grants.apps[app]; app != input.caller.app }`:                               true,
		`allow if { some app, _ in input.grants.apps; app == input.caller.app }`:                               true,
		`allow if { g := input.grants; g.apps[input.caller.app] }`:                                             true,
		`allow if { all := input; all.grants.apps[all.caller.app] }`:                                           true,
		`allow if f(input.caller.app)` + "\nf(app) if input.grants.apps[app]":                                  true,
		`allow if object.get(input.grants.apps, input.caller.app, [])`:                                         true,
		`allow if f with input.caller.app as "` + metrics + `"` + "\nf if input.grants.apps[input.caller.app]": true,
		`allow if f with input as {"caller": {"app": "x"}}` + "\nf if input.caller.app == \"x\"":               true,
		`allow if { not app_is; input.grants.apps["x"] }` + "\napp_is if input.caller.app == \"x\"":            true,
		"allow if false\nelse := true if count(input.grants.apps) == 1":                                        true,
		`allow if data.never[input.grants.apps["x"][0].methods[0]]`:                                            true,
		`allow if {"a": input.grants.apps}.a.x`:                                                                true,
		`default allow := false
allow if { helper }
helper if { deeper }
deeper if { some app, g in input.grants.apps; g[_].methods }`: true,
	} {
		bundle := check(body)
		bundle["data.json"] = `{"never": {"x": 1}}`
		assert.Equal(t, reads, compiled(t, bundle).ReadsAny(others), body)
	}
}

func TestReadsAnyTakesPathsAndWhatIsAboveAndBelow(t *testing.T) {
	builtIn := compiled(t, nil)
	for path, reads := range map[string]bool{
		"request.segments": true, "request.method": true, "request": true, "caller.app": true, "grants": true, "grants.any": true, "": true,
		"request.path": false, "request.host": false, "caller.instance": false, "now": false, "route.labels": false, "owner": false,
	} {
		assert.Equal(t, reads, builtIn.ReadsAny([]string{path}), path)
	}
	assert.False(t, builtIn.ReadsAny(nil))
	assert.True(t, builtIn.ReadsAny([]string{"now", "request.segments"}))
	labels := compiled(t, check(`allow if input.route.labels.team == "x"`))
	assert.True(t, labels.ReadsAny([]string{"route"}))
	assert.True(t, labels.ReadsAny([]string{"route.labels.team"}))
	assert.False(t, labels.ReadsAny([]string{"route.labels.stage"}))
}

func TestUnderAnotherPolicyItsOperatorsGrantsApply(t *testing.T) {
	first := compiled(t, files{"data.json": `{"site":{"grants":["cf:space:` + shop + `"]}}`})
	second := compiled(t, files{"data.json": `{"site":{"grants":["cf:org:` + acme + `"]}}`})
	none, again := compiled(t, nil), compiled(t, nil)
	r := request(t, first, "GET /", `{"source":"cf:app:`+frontend+`","methods":["PUT"]}`)
	for _, test := range []struct {
		policy   *rego.Policy
		expected string
	}{
		{first, "operator:cf:space:" + shop}, {second, "operator:cf:org:" + acme}, {none, "route:no_matching_grant"},
	} {
		under := r.Under(test.policy)
		decision, err := rego.Answer(t.Context(), under)
		require.NoError(t, err)
		assert.Equal(t, test.expected, decision.Policy)
		assert.Equal(t, r.Live.Labels, under.Live.Labels)
		assert.Equal(t, r.Live.Revision, under.Live.Revision)
	}
	assert.Same(t, r.Live, r.Live.Live(now, first.Site()), "what the policy in force remembers is not lost")
	plain := request(t, none, "GET /", "cf:any")
	assert.Same(t, plain.Live, plain.Under(again).Live, "without operator's grants there is nothing to make")
}

func TestTheAnswerIsTheGateways(t *testing.T) {
	policy := compiled(t, check(`allow if to_number(input.request.method) == 1`))
	answer := func(r *rego.Request) rego.Decision {
		decision, err := rego.Answer(t.Context(), r)
		require.NoError(t, err)
		return decision
	}
	stranger := request(t, policy, "GET /", "cf:any")
	stranger.Caller = caller(frontend, shop, globex)
	assert.Equal(t, denied("domain:scope=org", "scope"), answer(stranger))
	assert.Equal(t, denied("route:no_grants", "no_grants"), answer(request(t, policy, "GET /")))
	failing, err := rego.Answer(t.Context(), request(t, policy, "GET /", "cf:any"))
	require.ErrorIs(t, err, rego.ErrPolicy)
	assert.Equal(t, denied("gateway:policy_error", "policy_error"), failing)
	nobody := request(t, policy, "GET /", "cf:any")
	nobody.Live = &grants.Live{Access: &grants.Access{}}
	assert.False(t, answer(nobody).Allow)
}
