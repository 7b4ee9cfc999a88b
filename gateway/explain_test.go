package gateway_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/rego"
)

// asked is the question about a request of the frontend.
func asked(method, url string) gateway.Question {
	return gateway.Question{Binding: binding, Caller: callerOf(frontend), Method: method, URL: url}
}

func callerOf(id ca.Identity) identity.Caller {
	c := identity.Caller{Foundation: "local"}
	_ = errors.Join(c.App.UnmarshalText([]byte(id.App)), c.Space.UnmarshalText([]byte(id.Space)), c.Org.UnmarshalText([]byte(id.Org)))
	return c
}

// policies of operators, among them some whose checks read what grants do not.
var policies = []map[string]string{
	nil,
	{"a.rego": "package site.check.writes\n\nimport rego.v1\n\ndefault allow := false\n\nreason := \"read_only\"\n\nallow if input.request.method in {\"GET\", \"HEAD\"}\n"},
	{"a.rego": "package site.check.paths\n\nimport rego.v1\n\ndefault allow := false\n\nallow if not startswith(input.request.path, \"/admin\")\n"},
	{"data.json": `{"site":{"grants":[{"source":"cf:org:` + frontend.Org + `","paths":["/metrics"]}]}}`},
}

var compiledPolicies = sync.OnceValue(func() (compiled []*rego.Policy) {
	for _, files := range policies {
		cfg := rego.Config{Timeout: 10 * time.Second}
		if files != nil {
			dir, err := os.MkdirTemp("", "policy")
			if err != nil {
				panic(err)
			}
			defer os.RemoveAll(dir)
			cfg.Bundle = dir
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					panic(err)
				}
			}
		}
		policy, err := rego.Compile(context.Background(), cfg)
		if err != nil {
			panic(err)
		}
		compiled = append(compiled, policy)
	}
	return compiled
})

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomParameters are of an instance.
func randomParameters(r *rand.Rand) string {
	var allow []string
	seen := map[string]bool{}
	for range r.IntN(5) {
		source := pick(r, "cf:app:"+frontend.App, "cf:app:"+owner.App, "cf:space:"+frontend.Space, "cf:org:"+frontend.Org, "cf:app:"+playground.Intruder.Identity().App)
		if seen[source] {
			continue
		}
		seen[source] = true
		conditions := pick(r, "", "", "", `,"methods":["GET","POST"]`, `,"paths":["/api/**"]`, `,"methods":["DELETE"],"paths":["/*"]`, `,"routes":["other.apps.identity"]`,
			`,"expires":"2020-01-01T00:00:00Z"`)
		allow = append(allow, `{"source":"`+source+`"`+conditions+`}`)
	}
	return `{"allow":[` + strings.Join(allow, ",") + `]` + pick(r, "", `,"scope":"space"`) + pick(r, "", "", `,"mode":"report"`) + `}`
}

// What would become of a request is what becomes of it: for whatever grants,
// policy, caller, method and URL.
func TestExplainSaysWhatARequestGets(t *testing.T) {
	seed, rounds := uint64(7), 2500 // the same requests every time
	if os.Getenv("MTLS_AUTHZ_HEAVY") != "" {
		seed, rounds = uint64(time.Now().UnixNano()), 20_000
	}
	r := rand.New(rand.NewPCG(seed, 1))
	var policy *rego.Policy
	var trusted error
	w := newWorld(t, nil, func(c *gateway.Config) {
		c.Router = answerNothing{}
		c.Policy = func() *rego.Policy { return policy }
		c.Trust = func(context.Context, *grants.Access, string) error { return trusted }
		c.OwnApp = callerOf(playground.Monitoring.Identity()).App
	})
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	require.NoError(t, w.config.Verifier.SetCAs([]*x509.Certificate{root.Certificate()}))
	credentials := map[string]*ca.Credential{}
	callers := []ca.Identity{frontend, owner, playground.Intruder.Identity(), playground.Monitoring.Identity(), {}}
	for _, id := range callers[:4] {
		credentials[id.App], err = root.Instance(id)
		require.NoError(t, err)
	}
	w.credential = credentials[frontend.App]
	outcomes := map[string]int{}
	for round := range rounds {
		policy, trusted = pick(r, compiledPolicies()...), pick(r, nil, nil, nil, nil, errors.New("forged"))
		given, route := randomParameters(r), pick(r, "backend.apps.identity", "backend.apps.identity/api", "*.apps.identity")
		w.bind(route, given)
		if r.IntN(20) == 0 {
			w.unbind()
		}
		who := pick(r, callers...)
		method := pick(r, "GET", "GET", "GET", "POST", "POST", "DELETE", "DELETE", "TRACE", "get")
		url := "https://" + pick(r, "backend.apps.identity", "backend.apps.identity", "backend.apps.identity", "backend.apps.identity", "other.apps.identity", "backend.apps.identity:8443") +
			pick(r, "", "/", "/api/x", "/api/x", "/api/a/b", "/admin", "/metrics", "/metrics", "/a//b", "/a;b", "/..", "/%2e%2e/x", "/a%2fb") + pick(r, "", "?q=1")
		request := w.request()
		request.Method = method
		request.Header.Set("X-CF-Forwarded-Url", url)
		request.Header.Del(identity.Header)
		if who.App != "" {
			request.Header.Set(identity.Header, credentials[who.App].XFCC())
		}
		got := w.send(request)
		q := asked(method, url)
		q.Caller = callerOf(who)
		told := w.gateway.(*gateway.Gateway).Explain(t.Context(), q)
		what := fmt.Sprintf("seed %d round %d: %s %s by %q to %s with %s: %v", seed, round, method, url, who.App, route, given, got.line)
		require.Equal(t, []any{got.line["mtls_auth"], got.line["mtls_policy"], got.line["mtls_denied_reason"]}, []any{told.Line.Auth, told.Line.Policy, told.Line.Reason}, what)
		require.Equal(t, got.Code, cmp.Or(told.Status, http.StatusNoContent), what)
		require.Zero(t, w.lines.Len(), "nothing is logged")
		outcomes[told.Line.Auth+" "+told.Line.Reason]++
	}
	for _, outcome := range []string{
		"allowed ", "denied scope", "denied no_grants", "denied no_matching_grant", "denied read_only", "denied policy_denied", "not_enforced scope",
		"denied malformed_request", "denied route_mismatch", "denied no_certificate", "denied router_untrusted", "denied unknown_binding", "denied loop",
	} {
		assert.Contains(t, outcomes, outcome, "the random requests cover it")
	}
}

func TestExplainLeavesNoTrace(t *testing.T) {
	var told told
	var proven error
	recorded := 0
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("reached the app") }, func(c *gateway.Config) {
		told.by(c)
		c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) {
			t.Error("the cache was asked")
			return rego.Decision{}, nil
		})
		c.Recorded = func(*line.Line, time.Time) { recorded++ }
		c.MaxInFlight = 0
		c.Trust = func(context.Context, *grants.Access, string) error {
			t.Error("a router was probed")
			return nil
		}
		c.Proven = func(*grants.Access, string) error { return proven }
	})
	site := w.config.Policy().Site()
	before := w.access[binding].Live(time.Now(), site)
	for _, url := range []string{"https://backend.apps.identity/", "https://other.apps.identity/", "rubbish"} {
		e := w.gateway.(*gateway.Gateway).Explain(t.Context(), asked("GET", url))
		assert.Equal(t, strings.Contains(url, "backend"), e.Line.Auth == "allowed", "no place among those in flight is needed")
	}
	proven = errors.New("not probed yet")
	e := w.gateway.(*gateway.Gateway).Explain(t.Context(), asked("GET", "https://backend.apps.identity/"))
	assert.Equal(t, []string{"denied", "router_untrusted"}, []string{e.Line.Auth, e.Line.Reason})
	assert.Contains(t, e.Line.Detail, "not probed yet")
	past := asked("GET", "https://backend.apps.identity/")
	past.Access = w.access[binding]
	e = w.gateway.(*gateway.Gateway).Explain(t.Context(), past)
	assert.Equal(t, "allowed", e.Line.Auth, "of a past decision it is known how the router was")
	assert.Empty(t, told.used)
	assert.Empty(t, told.decided)
	assert.Zero(t, recorded)
	assert.Zero(t, w.lines.Len())
	families, err := w.config.Metrics.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	for _, family := range families {
		assert.NotEqual(t, "mtls_authz_decisions_total", family.GetName(), "nothing is counted")
	}
	assert.Same(t, before, w.access[binding].Live(time.Now(), site))
}

// Each decision is told once, those before the policy included, and those that
// were not enforced as that.
func TestEveryDecisionIsTold(t *testing.T) {
	var lines []line.Line
	w := newWorld(t, ok, func(c *gateway.Config) { c.Recorded = func(l *line.Line, _ time.Time) { lines = append(lines, *l) } })
	for name, c := range map[string]struct {
		given, want string
		forge       func(*http.Request)
	}{
		"allowed":        {`{"allow":["cf:any"]}`, "allowed  " + frontend.App, func(*http.Request) {}},
		"no certificate": {`{"allow":["cf:any"]}`, "denied no_certificate ", func(r *http.Request) { r.Header.Del(identity.Header) }},
		"route":          {`{"allow":["cf:any"]}`, "denied route_mismatch ", func(r *http.Request) { r.Header.Set("X-CF-Forwarded-Url", "https://other.apps.identity/") }},
		"no grants":      {`{}`, "denied no_grants " + frontend.App, func(*http.Request) {}},
		"report":         {`{"mode":"report"}`, "not_enforced no_grants " + frontend.App, func(*http.Request) {}},
		"forged caller":  {`{}`, "denied untrusted_certificate ", func(r *http.Request) { r.Header.Set(identity.Header, "forged") }},
		"wrong token":    {`{}`, "denied unknown_binding ", func(r *http.Request) { r.URL.Path += "x" }},
	} {
		lines = nil
		w.bind("backend.apps.identity", c.given)
		r := w.request()
		c.forge(r)
		got := w.send(r)
		require.Len(t, lines, 1, name)
		assert.Equal(t, c.want, lines[0].Auth+" "+lines[0].Reason+" "+lines[0].App, name)
		assert.Equal(t, got.line["decision_id"], lines[0].DecisionID)
		if name == "wrong token" {
			assert.Empty(t, lines[0].Binding, "whoever does not know the token names no binding")
		}
	}
}
