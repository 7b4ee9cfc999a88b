package rego_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

func TestNoCrossOrgDelete(t *testing.T) {
	policy := compiled(t, files{"no_cross_org_delete.rego": `package site.check.no_cross_org_delete
import rego.v1
default allow := false
allow if input.request.method != "DELETE"
allow if input.caller.org == input.owner.org
`})
	r := request(t, policy, "DELETE /orders/1", "cf:any")
	assert.Equal(t, allowed, decide(t, r))
	r.Caller = caller(metrics, billing, globex)
	assert.Equal(t, denied("policy:no_cross_org_delete", "policy_denied"), decide(t, r))
	r.Method = "GET"
	assert.Equal(t, allowed, decide(t, r))
}

func TestAnAllowNeedsAGrantWhateverTheChecksSay(t *testing.T) {
	policy := compiled(t, check(`allow := true`))
	assert.Equal(t, denied("route:no_matching_grant", "no_matching_grant"), decide(t, request(t, policy, "GET /", "cf:app:"+metrics)))
	assert.Equal(t, allowed, decide(t, request(t, policy, "GET /", "cf:app:"+frontend)))
}

func TestNobodyIsAllowedNothing(t *testing.T) {
	for _, policy := range []*rego.Policy{compiled(t, nil), compiled(t, check(`allow := true`))} {
		r := request(t, policy, "GET /", "cf:any")
		for _, nobody := range []identity.Caller{
			{}, {Foundation: "local"}, {App: guid(frontend), Space: guid(shop)}, {App: guid(frontend), Org: guid(acme)}, {Space: guid(shop), Org: guid(acme)},
		} {
			r.Caller = nobody
			assert.Equal(t, denied("route:no_matching_grant", "no_matching_grant"), decide(t, r))
			assert.False(t, rego.Confirm(allowed, r).Allow)
		}
	}
}

// Every check must be exactly true; the first failing one by name is named.
func TestChecksCompose(t *testing.T) {
	bundle := func(alpha, beta, gamma string) files {
		return files{
			"a.rego": "package site.check.alpha\n" + alpha, "b.rego": "package site.check.beta\n" + beta,
			"c.rego":    "package site.check\ngamma." + gamma, // another spelling of the same
			"data.json": `{"values":{"text":"true","one":1,"null":null,"list":[true],"yes":true}}`,
		}
	}
	const yes, no = `allow := true`, `allow := false`
	for _, test := range []struct {
		bundle   files
		expected rego.Decision
	}{
		{bundle(yes, yes, yes), allowed},
		{bundle(yes, yes, no), denied("policy:gamma", "policy_denied")},
		{bundle(yes, no, no), denied("policy:beta", "policy_denied")},
		{bundle(no, no, yes), denied("policy:alpha", "policy_denied")},
		{bundle("allow if input.request.method == \"PUT\"", yes, yes), denied("policy:alpha", "policy_denied")},
		{bundle(yes, "allow := data.values.text", yes), denied("policy:beta", "policy_denied")},
		{bundle(yes, "allow := data.values.one", yes), denied("policy:beta", "policy_denied")},
		{bundle(yes, "allow := data.values[\"null\"]", yes), denied("policy:beta", "policy_denied")},
		{bundle(yes, "allow := data.values.list", yes), denied("policy:beta", "policy_denied")},
		{bundle(yes, "allow := data.values.yes", yes), allowed},
	} {
		policy := compiled(t, test.bundle)
		assert.Equal(t, test.expected, decide(t, request(t, policy, "GET /", "cf:any")), "%v", test.bundle)
	}
}

func TestAFailingCheckGivesItsReason(t *testing.T) {
	const bad, good = "package site.check.bad\nallow := false\n", "package site.check.good\nallow := true\nreason := \"good\"\n"
	for reason, expected := range map[string]string{
		``:                              "policy_denied",
		`reason := "freeze"`:            "freeze",
		`reason := "Freeze"`:            "policy_denied",
		`reason := "scope"`:             "policy_denied",
		`reason := "no_matching_grant"`: "policy_denied",
		`reason := "x" if input.caller.app == "none"`:  "policy_denied",
		`reason := object.get(input.now, "minute", 0)`: "policy_denied",
		`reason := object.get(input, "caller", 0)`:     "policy_denied",
		`reason := lower(input.request.method)`:        "get",
	} {
		policy := compiled(t, files{"bad.rego": bad + reason, "good.rego": good})
		assert.Equal(t, denied("policy:bad", expected), decide(t, request(t, policy, "GET /", "cf:any")), reason)
	}
}

func TestHeadersOfChecks(t *testing.T) {
	policy := compiled(t, files{
		"a.rego": "package site.check.a\nallow := true\nheaders := {\"X-Mtls-Authz-Policy-Tier\": \"gold\", \"X-Mtls-Authz-Policy-same\": \"1\"}\n",
		"b.rego": "package site.check.b\nallow := true\nheaders[\"X-Mtls-Authz-Policy-Area\"] := upper(input.route.labels.team)\nheaders[\"X-Mtls-Authz-Policy-same\"] := \"1\"\n",
	})
	assert.Equal(t, rego.Decision{Allow: true, Headers: []rego.Header{
		{Name: "X-Mtls-Authz-Policy-Area", Value: "PAYMENTS"},
		{Name: "X-Mtls-Authz-Policy-Same", Value: "1"},
		{Name: "X-Mtls-Authz-Policy-Tier", Value: "gold"},
	}}, decide(t, request(t, policy, "GET /", "cf:any")))

	policy = compiled(t, check("allow := false\nheaders := {\"X-Mtls-Authz-Policy-Tier\": \"gold\"}"))
	assert.Empty(t, decide(t, request(t, policy, "GET /", "cf:any")).Headers, "headers go to the app on allow")
}

func TestHeadersThatAreNoneDeny(t *testing.T) {
	header := func(name, value string) string { return fmt.Sprintf("headers := {%q: %s}", name, value) }
	const name = "X-Mtls-Authz-Policy-A"
	longest := `"` + strings.Repeat("v", 1024) + `"`
	eight := `headers[name] := "v" if { some i in [1,2,3,4,5,6,7,8]; name := sprintf("` + name + `-%d", [i]) }`
	for _, good := range []string{header(name, longest), header(name, `"a b~!"`), header(name, `""`), eight} {
		policy := compiled(t, check("allow := true\n"+good))
		assert.True(t, decide(t, request(t, policy, "GET /", "cf:any")).Allow, good)
	}
	for _, bad := range []string{
		header(name, longest+`+"x"`), header(name, `" a"`), header(name, `"a "`), header(name, `"a\nVia: b"`), header(name, `"a\u0000"`),
		header(name, `"é"`), header(name, `"\u007f"`), header(name, `1`), header(name, `null`), header(name, `["a"]`),
		header("X-Mtls-Authz-Policy-", `"a"`), header("X-Mtls-Authz-Caller", `"a"`), header("x-mtls-authz-policy-a", `"a"`),
		header("Via", `"a"`), header(name+" ", `"a"`), header(name+"\n", `"a"`), header(name+"_", `"a"`), header("X"+name, `"a"`),
		`headers := {"` + name + `": "1", "` + name + `": "1", "X-Mtls-Authz-Policy-a": "2"}`,
		strings.Replace(eight, "[1,", "[0,1,", 1),
		`headers["` + name + `"] := ["1", "2"][_]`,
		`headers := {1: "a"}`,
	} {
		bad = strings.Replace(bad, `"+"x"`, `x"`, 1)
		policy := compiled(t, check("allow := true\n"+bad))
		undecided(t, request(t, policy, "GET /", "cf:any"))
	}
}

func TestTwoChecksWithDifferentValuesOfAHeaderConflict(t *testing.T) {
	for _, other := range []string{"X-Mtls-Authz-Policy-Tier", "X-Mtls-Authz-Policy-TIER"} {
		policy := compiled(t, files{
			"a.rego": "package site.check.a\nallow := true\nheaders := {\"X-Mtls-Authz-Policy-Tier\": \"gold\"}\n",
			"b.rego": "package site.check.b\nallow := true\nheaders := {\"" + other + "\": \"iron\"}\n",
		})
		undecided(t, request(t, policy, "GET /", "cf:any"))
	}
}

// A check that errors is not a check that is not there.
func TestACheckThatErrorsDenies(t *testing.T) {
	for _, body := range []string{
		`allow if not to_number(input.request.method) == 1`,
		`allow if 1 / (input.now.minute - input.now.minute) == 1`,
		`allow if { x := [true, false][_]; y := x; y } else := to_number(input.request.method) == 1`,
		"allow := x if some x in [true, false]",
		"allow := true\nallow := false if input.request.method == \"GET\"",
	} {
		policy := compiled(t, check(body))
		r := request(t, policy, "GET /", "cf:any")
		if strings.Contains(body, "else") { // the first branch decides: no error
			assert.Equal(t, allowed, decide(t, r))
			continue
		}
		undecided(t, r)
	}
}

func TestAPolicyThatDoesNotEndIsCutAtTheDeadline(t *testing.T) {
	const timeout = 50 * time.Millisecond
	ten := "[0,1,2,3,4,5,6,7,8,9]"
	for _, body := range []string{
		"l := " + ten + "\nallow if { %s\n count([1 | l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]; l[_]]) == 1 }",
		"allow if { %s\n every a in " + ten + " { every b in " + ten + " { count([1 | some i in " + ten + "; some j in " + ten +
			"; some k in " + ten + "; some l in " + ten + "; some m in " + ten + "; i + j + k + l + m + a + b == 1000]) == 0 } } }",
		"allow if { %s\n replace(replace(replace(input.request.path, \"a\", input.request.path), \"a\", input.request.path), \"a\", input.request.path) == \"x\" }",
	} {
		// The guard cases have no such instance, so they do not see it.
		hidden := fmt.Sprintf(body, `input.caller.instance == "i-1"`)
		policy, err := rego.Compile(t.Context(), rego.Config{Bundle: directory(t, check(hidden)), Timeout: timeout})
		require.NoError(t, err)
		r := request(t, policy, "GET /"+strings.Repeat("a", 2000), "cf:any")
		start := time.Now()
		undecided(t, r)
		took := time.Since(start)
		assert.GreaterOrEqual(t, took, timeout)
		assert.Less(t, took, 100*timeout, "far less than the seconds or days that it would take")

		if strings.Contains(body, "replace") { // harmless for the short paths of most cases
			continue
		}
		_, err = rego.Compile(t.Context(), rego.Config{Bundle: directory(t, check(fmt.Sprintf(body, "true"))), Timeout: timeout})
		assert.ErrorIs(t, err, rego.ErrBundle, "what every request would meet is not activated")
		assert.ErrorContains(t, err, "longer than POLICY_TIMEOUT")
	}
}

// A client that leaves must not look like a policy that fails.
func TestAClientThatLeavesDoesNotChangeTheDecision(t *testing.T) {
	policy := compiled(t, nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	decision, err := policy.Decide(gone, request(t, policy, "GET /", "cf:app:"+frontend))
	require.NoError(t, err)
	assert.Equal(t, allowed, decision)
}

func TestConfirmIsGosLastWord(t *testing.T) {
	policy := compiled(t, files{"data.json": `{"site":{"grants":["cf:org:` + acme + `"]}}`})
	r := request(t, policy, "GET /", `{"source":"cf:app:`+frontend+`","methods":["GET"]}`)
	headers := []rego.Header{{Name: "X-Mtls-Authz-Policy-A", Value: "b"}}
	given := rego.Decision{Allow: true, Headers: headers, Cache: rego.Shared}

	confirmed := rego.Confirm(given, r)
	assert.Equal(t, rego.Decision{Allow: true, Policy: "route:cf:app:" + frontend, Headers: headers, Cache: rego.Shared}, confirmed)
	r.Method = "PUT"
	assert.Equal(t, "operator:cf:org:"+acme, rego.Confirm(given, r).Policy)

	// What policy or cache allow without a matching grant is refused.
	r.Caller = caller(metrics, billing, globex)
	assert.Equal(t, rego.Decision{Policy: "route:no_matching_grant", Reason: "no_matching_grant", Cache: rego.Shared}, rego.Confirm(given, r))
	r.Caller = caller(frontend, billing, globex)
	assert.False(t, rego.Confirm(given, r).Allow, "another method")

	expiring := request(t, compiled(t, nil), "GET /", `{"source":"cf:any","expires":"2026-05-04T10:16:00Z"}`)
	bound := expiring.Live.Access
	assert.True(t, rego.Confirm(given, expiring).Allow)
	expiring.Live = bound.Live(now.Add(18*time.Second), nil)
	assert.False(t, rego.Confirm(given, expiring).Allow, "the grant has expired")
	assert.False(t, decide(t, expiring).Allow, "and never reaches the policy")

	denial := denied("policy:one", "freeze")
	assert.Equal(t, denial, rego.Confirm(denial, expiring), "a denial stands as it is")
}

func TestAPolicyIsSharedByManyRequestsAtOnce(t *testing.T) {
	policy := compiled(t, files{
		"data.json":   `{"blocked":{"` + metrics + `":true}}`,
		"policy.rego": "package site.check.blocked\nallow if not data.blocked[input.caller.app]\n",
	})
	requests := make([]*rego.Request, 8)
	for i := range requests {
		requests[i] = request(t, policy, fmt.Sprintf("GET /%d", i), "cf:any")
		if i%2 == 1 {
			requests[i].Caller = caller(metrics, shop, acme)
		}
	}
	done := make(chan error)
	for i, r := range requests {
		go func() {
			var wrong error
			for range 50 {
				if decision, err := policy.Decide(context.Background(), r); err != nil || decision.Allow != (i%2 == 0) {
					wrong = fmt.Errorf("request %d: %v %w", i, decision, err)
				}
			}
			done <- wrong
		}()
	}
	for range requests {
		assert.NoError(t, <-done)
	}
}

func TestWhatAPolicySaysOfItself(t *testing.T) {
	alone, other := compiled(t, nil), compiled(t, check(`allow := true`))
	assert.Equal(t, time.UTC, alone.Zone())
	assert.Equal(t, fmt.Sprintf("%x", alone.Digest())[:32], alone.Revision())
	assert.NotEqual(t, alone.Digest(), other.Digest())
	assert.Empty(t, alone.Site().Grants)

	_, err := rego.Compile(t.Context(), rego.Config{Bundle: directory(t, check(`allow := "yes"`))})
	assert.ErrorIs(t, err, rego.ErrBundle)
}

func TestTiers(t *testing.T) {
	for tier, name := range map[rego.Tier]string{rego.NotCached: "none", rego.Miss: "miss", rego.Local: "local", rego.Shared: "shared"} {
		assert.Equal(t, name, tier.String())
	}
}
