package replay_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// through writes the request's decision as a line and reads it again.
func through(t testing.TB, q *rego.Request) replay.Recorded {
	t.Helper()
	r := recording.New(recording.Config{Entries: 100})
	decision, err := rego.Answer(t.Context(), q)
	require.NoError(t, err)
	r.Observe("id", q, decision)
	var line bytes.Buffer
	require.NoError(t, r.Write(&line, recording.Filter{}))
	for recorded, err := range replay.Read(&line) {
		require.NoError(t, err)
		assert.Equal(t, decision.Allow, recorded.Decision.Allow)
		assert.Equal(t, decision.Policy, recorded.Decision.Policy)
		return recorded
	}
	require.Fail(t, "no line")
	return replay.Recorded{}
}

// Whatever was requested and granted, the line decides again as the gateway
// did, under the policy that was in force and under another one.
func TestARecordedRequestIsDecidedAsByTheGateway(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	site := `{"site":{"grants":[{"source":"cf:space:` + shop + `","routes":["*.apps.identity"],"methods":["PUT"]},` +
		`{"source":"cf:org:` + acme + `","paths":["/metrics"]},{"source":"cf:app:` + frontend + `","expires":"2026-05-04T10:15:42Z"}]}}`
	policies := []*rego.Policy{
		compiled(t, nil),
		compiled(t, files{"data.json": site, "p.rego": "package site.check.one\nallow if input.request.method != \"DELETE\"\nreason := \"no_delete\"\n"}),
		compiled(t, files{"p.rego": `package site.check.one
allow if { input.now.minute < 600 }
allow if { some grant in input.grants.apps[input.caller.app]; "GET" in grant.methods }
headers := {"X-Mtls-Authz-Policy-Team": input.route.labels.team}
`}),
	}
	replays := make([]*replay.Replay, len(policies))
	for i, policy := range policies {
		replays[i] = replay.NewReplay(policy)
	}
	outcomes := map[string]int{}
	for range 400 {
		var entries []string
		for _, source := range []string{"cf:app:" + frontend, "cf:app:" + metrics, "cf:space:" + shop, "cf:space:" + billing, "cf:org:" + acme, "cf:any"} {
			if random.IntN(3) == 0 {
				entries = append(entries, fmt.Sprintf(`{"source":"%s"%s%s}`, source,
					pick(`,"methods":["GET"]`, `,"methods":["DELETE","PUT"]`, `,"expires":"2027-01-01T00:00:00Z"`),
					pick(``, `,"paths":["/metrics","/api/**"]`, `,"paths":["/*"]`, `,"routes":["backend.apps.identity/v1"]`)))
			}
		}
		a := access(t, backend, entries...)
		asked := pick("GET", "PUT", "DELETE") + " " + pick("/", "/metrics", "/api/x", "/a b", "//api/")
		// The line is made under one policy and decided under all.
		made := random.IntN(len(policies))
		q := request(policies[made], a, asked)
		q.Now = now.Add(time.Duration(random.IntN(24*60)) * time.Minute)
		q.Live = a.Live(q.Now, policies[made].Site())
		line := through(t, q)
		for i, policy := range policies {
			direct := request(policy, a, asked)
			direct.Now, direct.Live = q.Now, a.Live(q.Now, policy.Site())
			expected, err := rego.Answer(t.Context(), direct)
			require.NoError(t, err)
			if len(line.Omitted) > 0 && expected.Reason == "no_grants" { // cannot be: there are others'
				require.Fail(t, "no grants, and some left out")
			}
			actual, err := replays[i].Decide(t.Context(), line)
			require.NoError(t, err, "%v", line)
			require.Equal(t, expected, actual, "%v %s", entries, asked)
			outcomes[expected.Policy]++
		}
	}
	for _, policy := range []string{
		"route:cf:app:" + frontend, "operator:cf:space:" + shop, "operator:cf:org:" + acme, "route:cf:any",
		"policy:one", "route:no_matching_grant", "route:no_grants",
	} {
		assert.Positive(t, outcomes[policy], "%s was never decided: %v", policy, outcomes)
	}
}

func TestAnotherPolicyBringsItsOwnOperatorsGrants(t *testing.T) {
	a := access(t, backend, "cf:app:"+metrics)
	with, without := compiled(t, operators("cf:space:"+shop)), compiled(t, nil)
	for _, test := range []struct {
		made, asked *rego.Policy
		expected    rego.Decision
	}{
		{with, with, rego.Decision{Allow: true, Policy: "operator:cf:space:" + shop}},
		{with, without, rego.Decision{Policy: "route:no_matching_grant", Reason: "no_matching_grant"}},
		{without, with, rego.Decision{Allow: true, Policy: "operator:cf:space:" + shop}},
	} {
		decision, err := replay.NewReplay(test.asked).Decide(t.Context(), through(t, request(test.made, a, "GET /")))
		require.NoError(t, err)
		assert.Equal(t, test.expected, decision)
	}
	// An owner's grant that says the same as the operator's stays.
	a = access(t, backend, "cf:space:"+shop)
	decision, err := replay.NewReplay(without).Decide(t.Context(), through(t, request(with, a, "GET /")))
	require.NoError(t, err)
	assert.Equal(t, rego.Decision{Allow: true, Policy: "route:cf:space:" + shop}, decision)
}

// What was left out and is read is no decision, least of all "unchanged".
func TestWhatWasNotRecordedIsUnknown(t *testing.T) {
	others := []string{"cf:app:" + frontend, "cf:app:" + metrics, "cf:space:" + billing}
	alone := []string{"cf:app:" + frontend}
	long := "GET /" + strings.Repeat("x", 10_000)
	for _, test := range []struct {
		body    string
		what    string
		entries []string
		unknown bool
	}{
		{`allow := true`, "GET /", others, false},
		{`allow if every grant in input.grants.apps[input.caller.app] { not grant.methods }`, "GET /", others, false},
		{`allow if count(input.grants.apps) == 1`, "GET /", others, true},
		{`allow if count(input.grants.apps) == 1`, "GET /", alone, false},
		{`allow if count(input.grants.orgs) == 0`, "GET /", others, false},
		{`allow if not input.grants.apps["` + metrics + `"]`, "GET /", others, true},
		{`allow if not input.grants.spaces[input.owner.space]`, "GET /", others, true},
		{`allow if input == data.never`, "GET /", others, true},
		{`allow := true`, long, alone, true}, // the grants could have paths
		{`allow := true`, long, []string{`{"source":"cf:app:` + frontend + `","paths":["/*"]}`}, true},
	} {
		bundle := check(test.body)
		bundle["data.json"] = `{"never": 0}`
		policy := compiled(t, bundle)
		line := through(t, request(policy, access(t, backend, test.entries...), test.what))
		decision, err := replay.NewReplay(policy).Decide(t.Context(), line)
		if test.unknown {
			require.ErrorIs(t, err, replay.ErrNotRecorded, test.body)
			assert.Zero(t, decision)
			continue
		}
		require.NoError(t, err, test.body)
		assert.True(t, decision.Allow, test.body)
	}
}

func TestAPolicyThatFailsOnALineSaysSo(t *testing.T) {
	policy := compiled(t, check(`allow if to_number(input.route.labels.team) == 1`))
	q := request(policy, access(t, backend, "cf:any"), "GET /")
	line := through(t, request(compiled(t, nil), access(t, backend, "cf:any"), "GET /"))
	_, err := policy.Decide(t.Context(), q)
	require.ErrorIs(t, err, rego.ErrPolicy)
	decision, err := replay.NewReplay(policy).Decide(t.Context(), line)
	require.ErrorIs(t, err, rego.ErrPolicy)
	assert.Equal(t, rego.Decision{Policy: "gateway:policy_error", Reason: "policy_error"}, decision)
}

func TestTheClockOfALineIsThatOfItsPolicy(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	policy := compiledIn(t, check(`allow if input.now == {"minute": 735, "weekday": "mon", "date": "2026-05-04"}`), berlin)
	line := through(t, request(policy, access(t, backend, "cf:any"), "GET /"))
	for _, zone := range []*time.Location{berlin, time.UTC} { // also where a tool does not know the zone
		same := compiledIn(t, check(`allow if input.now == {"minute": 735, "weekday": "mon", "date": "2026-05-04"}`), zone)
		decision, err := replay.NewReplay(same).Decide(t.Context(), line)
		require.NoError(t, err)
		assert.True(t, decision.Allow)
	}
	line.Input.Now = replay.Now{Minute: 150, Weekday: "sun", Date: "2026-03-29"} // clocks go from 2 to 3
	_, err = replay.NewReplay(policy).Decide(t.Context(), line)
	require.ErrorIs(t, err, replay.ErrMalformed)
	assert.Contains(t, err.Error(), "there is no 2026-03-29 02:30 in the time zone Europe/Berlin")
}

func TestAnInputWrittenByHand(t *testing.T) {
	line := through(t, request(compiled(t, nil), access(t, backend, "cf:app:"+metrics), "GET /"))
	document := fmt.Sprintf(`{"caller":{"kind":"cf","foundation":"local","app":"%s","space":"%s","org":"%s","instance":""},
		"request":{"method":"GET","host":"backend.apps.identity","path":"/v1/x","segments":["v1","x"]},
		"route":{"host":"backend.apps.identity","path":"/v1","binding":"b-1","labels":{}},
		"owner":{"service_instance":"si-1","space":"%s","org":"%s","scope":"%%s"},
		"grants":{"any":[],"apps":{"%s":[{"paths":["/v1/*"]}]},"spaces":{},"orgs":{}},
		"now":{"minute":615,"weekday":"mon","date":"2026-05-04"}}`, frontend, shop, acme, billing, acme, frontend)
	for scope, expected := range map[string]rego.Decision{
		"org":   {Allow: true, Policy: "route:cf:app:" + frontend},
		"space": {Policy: "domain:scope=space", Reason: "scope"},
	} {
		recorded, err := replay.ParseInput([]byte(fmt.Sprintf(document, scope)))
		require.NoError(t, err)
		decision, err := replay.NewReplay(compiled(t, nil)).Decide(t.Context(), recorded)
		require.NoError(t, err)
		assert.Equal(t, expected, decision)
	}
	_, err := replay.ParseInput([]byte(strings.Replace(fmt.Sprintf(document, "org"), `"now"`, `"later"`, 1)))
	require.ErrorIs(t, err, replay.ErrMalformed)
	assert.Equal(t, "b-backend.apps.identity", line.Binding)
}
