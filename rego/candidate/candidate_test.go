package candidate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/candidate"
)

const backend = "backend.apps.identity/v1"

func TestDifferencesByKind(t *testing.T) {
	builtIn := compiled(t, nil)
	gold := `allow := true` + "\n" + `headers := {"X-Mtls-Authz-Policy-Tier": "gold"}`
	app := "cf:app:" + frontend
	for name, test := range map[string]struct {
		active, candidate *rego.Policy
		sources           []string
		expected          candidate.Counts
	}{
		"same":              {builtIn, compiled(t, check(`allow := true`)), []string{app}, candidate.Counts{}},
		"would deny":        {builtIn, compiled(t, check(`allow if input.request.method != "GET"`)), []string{app}, candidate.Counts{WouldDeny: 1}},
		"would allow":       {compiled(t, check(`allow if input.request.method != "GET"`)), builtIn, []string{app}, candidate.Counts{WouldAllow: 1}},
		"other reason":      {compiled(t, check(`allow if false`)), compiled(t, check("allow if false\nreason := \"frozen\"")), []string{app}, candidate.Counts{OtherReason: 1}},
		"other headers":     {builtIn, compiled(t, check(gold)), []string{app}, candidate.Counts{OtherHeaders: 1}},
		"same headers":      {compiled(t, check(gold)), compiled(t, check(gold+"\n# another")), []string{app}, candidate.Counts{}},
		"policy error":      {builtIn, compiled(t, check(`allow if to_number(input.request.method) == 1`)), []string{app}, candidate.Counts{WouldDeny: 1}},
		"new grant":         {builtIn, compiled(t, operators("cf:org:"+acme)), []string{"cf:app:" + shop}, candidate.Counts{WouldAllow: 1}},
		"grant taken away":  {compiled(t, operators("cf:org:"+acme)), builtIn, []string{"cf:app:" + shop}, candidate.Counts{WouldDeny: 1}},
		"last grant":        {compiled(t, operators("cf:org:"+acme)), builtIn, nil, candidate.Counts{WouldDeny: 1}},
		"another's grant":   {compiled(t, operators("cf:org:"+acme)), compiled(t, operators("cf:space:"+shop)), nil, candidate.Counts{OtherReason: 1}},
		"the same operator": {compiled(t, operators("cf:org:"+acme)), compiled(t, operators("cf:org:"+acme)), nil, candidate.Counts{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, test.candidate)
			r := request(test.active, access(t, backend, test.sources...), "GET /v1/x")
			live := r.Live
			report := c.observe("id", r)
			assert.Equal(t, test.expected, report.Counts)
			assert.Equal(t, uint64(1), report.Evaluated)
			assert.Equal(t, test.active.Revision(), report.PolicyRevision)
			assert.Equal(t, test.candidate.Revision(), report.CandidateRevision)
			assert.Equal(t, test.expected != candidate.Counts{}, len(report.Routes) == 1)
			assert.Same(t, live, live.Live(r.Now, test.active.Site()), "requests do not have to make the route's grants anew")
		})
	}
}

func TestExamplesSayWhoAndHowOften(t *testing.T) {
	c := start(t, compiled(t, check("allow if input.request.method == \"PUT\"\nreason := \"put_only\"")))
	active, a := compiled(t, nil), access(t, backend, "cf:space:"+shop)
	for i := range 3 {
		c.observe(fmt.Sprint("get-", i), request(active, a, fmt.Sprint("GET /v1/", i)))
	}
	c.observe("put", request(active, a, "PUT /v1/x"))
	report := c.observe("post", request(active, a, "POST /v1/"+strings.Repeat("x", 1000)))
	require.Len(t, report.Routes, 1)
	assert.Equal(t, backend, report.Routes[0].Route)
	assert.Equal(t, candidate.Counts{WouldDeny: 4}, report.Routes[0].Counts)
	require.Len(t, report.Routes[0].Examples, 2)
	get, post := report.Routes[0].Examples[0], report.Routes[0].Examples[1]
	assert.False(t, get.FirstSeen.After(get.LastSeen))
	get.FirstSeen, get.LastSeen = time.Time{}, time.Time{}
	assert.Equal(t, candidate.Example{
		Kind: "would_deny", DecisionID: "get-0", Caller: candidate.Caller{App: frontend, Space: shop, Org: acme}, Method: "GET", Path: "/v1/0",
		Active: candidate.Outcome{Allow: true, Policy: "route:cf:space:" + shop}, Candidate: candidate.Outcome{Policy: "policy:one", Reason: "put_only"}, Count: 3,
	}, get)
	assert.Equal(t, uint64(1), post.Count)
	assert.Len(t, post.Path, 256)

	written, err := json.Marshal(report)
	require.NoError(t, err)
	for _, name := range []string{`"candidate_revision":"`, `"since":"`, `"evaluated":5`, `"would_deny":4`, `"routes":[{"route":"backend.apps.identity/v1","would_allow":0,`} {
		assert.Contains(t, string(written), name)
	}
}

// Whoever can make differences cannot make the report grow.
func TestTheReportIsBounded(t *testing.T) {
	c := start(t, compiled(t, check("allow if false\nreason := concat(\"\", [\"r\", trim_prefix(input.request.path, \"/\")])")))
	active := compiled(t, nil)
	a := access(t, backend, "cf:any")
	for i := range 30 {
		c.observe("id", request(active, a, fmt.Sprintf("GET /%d", i)))
	}
	report := c.observe("id", request(active, a, "GET /0"))
	assert.Len(t, report.Routes[0].Examples, 20)
	assert.Equal(t, uint64(31), report.Routes[0].WouldDeny, "all are counted")
	assert.Equal(t, uint64(2), report.Routes[0].Examples[0].Count)
	if os.Getenv("MTLS_AUTHZ_HEAVY") == "" {
		return // the pauses between evaluations make the rest slow
	}
	for i := range 510 {
		report = c.observe("id", request(active, access(t, fmt.Sprintf("app-%d.apps.identity", i), "cf:any"), "GET /"))
	}
	assert.Len(t, report.Routes, 500)
	assert.Equal(t, uint64(11), report.Unlisted)
	assert.Equal(t, uint64(541), report.WouldDeny)
}

func TestTheReportStartsAnewWithAnotherPolicy(t *testing.T) {
	first := compiled(t, nil)
	second := compiled(t, check(`allow := true`))
	denying := check(`allow if false`)
	a := access(t, backend, "cf:any")
	c := start(t, compiled(t, denying))
	assert.Nil(t, c.Report().Since)
	c.observe("id", request(first, a, "GET /"))
	late := request(first, a, "GET /")
	report := c.observe("id", request(first, a, "GET /"))
	assert.Equal(t, uint64(2), report.WouldDeny)

	c.policy.Store(compiled(t, denying)) // loaded again, unchanged
	assert.Equal(t, uint64(3), c.observe("id", request(first, a, "GET /")).WouldDeny)

	report = c.observe("id", request(second, a, "GET /"))
	assert.Equal(t, uint64(1), report.WouldDeny)
	assert.Equal(t, second.Revision(), report.PolicyRevision)

	// A request that was under way during the change does not change it back.
	c.Observe("late", late, rego.Decision{})
	report = c.observe("id", request(second, a, "GET /"))
	assert.Equal(t, uint64(2), report.Evaluated)
	assert.Equal(t, second.Revision(), report.PolicyRevision)

	report = c.observe("id", request(first, a, "GET /"))
	assert.Equal(t, first.Revision(), report.PolicyRevision, "the former policy is in force again")
	c.policy.Store(compiled(t, check(`allow := true`)))
	report = c.observe("id", request(first, a, "GET /"))
	assert.Equal(t, candidate.Counts{}, report.Counts)
}

func TestDifferencesAreLoggedOnceWithTheirNumber(t *testing.T) {
	c := start(t, compiled(t, check("allow if input.request.method == \"PUT\"\nreason := \"put_only\"")))
	active, a, b := compiled(t, nil), access(t, backend, "cf:space:"+shop), access(t, "b.apps.identity", "cf:any")
	for i := range 3 {
		c.observe(fmt.Sprint("a-", i), request(active, a, fmt.Sprint("GET /", i)))
	}
	c.observe("b-0", request(active, b, "POST /"))
	c.observe("b-1", request(active, b, "PUT /"))
	assert.Empty(t, c.log.String(), "a minute has not passed")
	c.stop()
	log := strings.Split(strings.TrimSpace(c.log.String()), "\n")
	require.Len(t, log, 2)
	for i, expected := range []string{
		`"route":"b.apps.identity","kind":"would_deny","mtls_policy":"route:cf:any","mtls_denied_reason":"","candidate_policy":"policy:one","candidate_reason":"put_only","count":1,"decision_id":"b-0"`,
		`"route":"backend.apps.identity/v1","kind":"would_deny","mtls_policy":"route:cf:space:` + shop + `","mtls_denied_reason":"","candidate_policy":"policy:one","candidate_reason":"put_only","count":3,"decision_id":"a-0"`,
	} {
		assert.Contains(t, log[i], expected)
		assert.Contains(t, log[i], `"msg":"policy candidate","candidate_revision":"`)
	}
}

func TestMetricsHaveNoRoute(t *testing.T) {
	c := start(t, compiled(t, check(`allow if input.request.method == "GET"`)))
	active, a := compiled(t, nil), access(t, backend, "cf:any")
	c.observe("id", request(active, a, "GET /"))
	c.observe("id", request(active, a, "PUT /"))
	families, err := c.registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += "{" + label.GetName() + "=" + label.GetValue() + "}"
			}
			found[name] = metric.GetCounter().GetValue()
		}
	}
	assert.Equal(t, map[string]float64{
		"mtls_authz_candidate_decisions_total{result=same}":        1,
		"mtls_authz_candidate_decisions_total{result=would_allow}": 0,
		"mtls_authz_candidate_decisions_total{result=would_deny}":  1,
		"mtls_authz_candidate_decisions_total{result=other}":       0,
		"mtls_authz_candidate_dropped_total":                       0,
	}, found)
}

// endless is a check that takes much longer than any deadline.
const endless = `allow if {
	xs := split("` + "0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9" + `", ",")
	count([1 | some a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs]) == 0
}`

func TestACandidateThatHangsCostsRequestsNothing(t *testing.T) {
	c := start(t, compiledWithin(t, check(endless), 100*time.Millisecond))
	active, a := compiled(t, nil), access(t, backend, "cf:any")
	r := request(active, a, "GET /")
	for range 2000 { // returns, whatever the candidate does
		c.Observe("id", r, rego.Decision{Allow: true, Policy: "route:cf:any"})
	}
	report := c.observe("id", r)
	assert.GreaterOrEqual(t, report.Dropped, uint64(1000))
	assert.Equal(t, report.Evaluated, report.Errors)
	assert.Contains(t, report.LastError, "the policy gave no decision")
	assert.Equal(t, candidate.Outcome{Policy: "gateway:policy_error", Reason: "policy_error"}, report.Routes[0].Examples[0].Candidate)
	c.stop()
	assert.Contains(t, c.log.String(), `"candidate_reason":"policy_error"`)
}

// The request's path and the worker end though the candidate panics; a policy
// that is not there has no grants to read.
func TestACandidateThatPanicsIsAnError(t *testing.T) {
	c := start(t, &rego.Policy{})
	a := access(t, backend, "cf:any")
	report := c.observe("id", request(compiled(t, nil), a, "GET /"))
	assert.Equal(t, uint64(1), report.Errors)
	assert.Contains(t, report.LastError, "panic")
	c.policy.Store(compiled(t, nil))
	assert.Zero(t, c.observe("id", request(compiled(t, check(`allow := true`)), a, "GET /")).Errors, "it goes on")
}

func TestWithoutACandidateNothingIsEvaluated(t *testing.T) {
	c := start(t, nil)
	active, a := compiled(t, nil), access(t, backend, "cf:any")
	for range 1000 {
		c.Observe("id", request(active, a, "GET /"), rego.Decision{})
	}
	c.stop()
	assert.Zero(t, c.Report().Evaluated)
	written, err := json.Marshal(c.Report())
	require.NoError(t, err)
	assert.Contains(t, string(written), `"since":null`)
	assert.Contains(t, string(written), `"routes":[]`)
}

func TestTheShareAndTheRateBoundWhatIsEvaluated(t *testing.T) {
	registry := prometheus.NewRegistry()
	policy := compiled(t, nil)
	c, err := candidate.New(candidate.Config{
		Policy: func() *rego.Policy { return policy }, Rate: 1, Log: slog.New(slog.DiscardHandler), Metrics: registry,
	})
	require.NoError(t, err)
	r := request(policy, access(t, backend, "cf:any"), "GET /")
	const all = 100_000
	for range all { // nobody evaluates: what is chosen and does not fit is dropped
		c.Observe("id", r, rego.Decision{})
	}
	assert.InDelta(t, all*candidate.DefaultShare, float64(c.Report().Dropped+256), all*0.02)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c.Run(ctx)
	assert.Equal(t, uint64(1), c.Report().Evaluated, "one a second")
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	for _, cfg := range []candidate.Config{{Share: -0.1}, {Share: 1.1}, {Share: math.NaN()}, {Rate: -1}} {
		cfg.Metrics = prometheus.NewRegistry()
		_, err := candidate.New(cfg)
		assert.ErrorContains(t, err, "expected a number")
	}
}
