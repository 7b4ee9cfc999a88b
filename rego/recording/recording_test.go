package recording_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// ids are the decision ids that a filter chooses, in their order.
func ids(r *recording.Recording, f recording.Filter) string {
	var list []string
	for recorded := range r.All(f) {
		list = append(list, recorded.DecisionID)
	}
	return strings.Join(list, " ")
}

func TestTheLastDecisionsAreKeptNewestFirst(t *testing.T) {
	policy := compiled(t, nil)
	r := recording.New(recording.Config{Entries: 3})
	assert.Empty(t, ids(r, recording.Filter{}))
	a := access(t, backend, "cf:any")
	for i := range 7 {
		r.Observe(fmt.Sprint(i), request(policy, a, "GET /"), rego.Decision{})
		if i == 1 {
			assert.Equal(t, "1 0", ids(r, recording.Filter{}))
		}
	}
	assert.Equal(t, "6 5 4", ids(r, recording.Filter{}))
	assert.Equal(t, "6 5", ids(r, recording.Filter{Limit: 2}))
}

func TestFilters(t *testing.T) {
	policy := compiled(t, nil)
	r := recording.New(recording.Config{})
	one, two := access(t, backend, "cf:any"), access(t, "other.apps.identity", "cf:any")
	for i := range 100 {
		a := one
		if i%10 == 0 {
			a = two
		}
		q := request(policy, a, "GET /")
		q.Now = now.Add(time.Duration(i) * time.Second)
		r.Observe(fmt.Sprint(i), q, rego.Decision{})
	}
	other := recording.Filter{Route: route.Route{Host: "other.apps.identity"}}
	assert.Equal(t, "90 80 70 60 50 40 30 20 10 0", ids(r, other))
	assert.Equal(t, "90 80", ids(r, recording.Filter{Binding: "b-other.apps.identity", Limit: 2}))
	assert.Equal(t, "99 98 97", ids(r, recording.Filter{Since: now.Add(97 * time.Second)}))
	assert.Empty(t, ids(r, recording.Filter{Route: route.Route{Host: "backend.apps.identity"}}), "the path is part of the route")
	assert.Empty(t, ids(r, recording.Filter{Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}))
	assert.Empty(t, ids(r, recording.Filter{Route: one.Route, Binding: "b-other.apps.identity"}))
}

// What tenants send and grant bounds how far back the recording goes, not how
// much memory it takes.
func TestMemoryIsBounded(t *testing.T) {
	policy := compiled(t, nil)
	kept := func(r *recording.Recording) int { return len(strings.Fields(ids(r, recording.Filter{}))) }
	entries := make([]string, 100)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012d","paths":["/%0900d"]}`, i, i)
	}
	t.Run("long paths", func(t *testing.T) {
		r := recording.New(recording.Config{Bytes: 1 << 20})
		a := access(t, backend, "cf:any")
		for i := range 1000 {
			r.Observe(fmt.Sprint(i), request(policy, a, "GET /"+strings.Repeat("x", 8000)), rego.Decision{})
		}
		assert.InDelta(t, (1<<20)/8400, kept(r), 10)
		for i := range 1000 {
			r.Observe(fmt.Sprint(i), request(policy, a, "GET /"), rego.Decision{})
		}
		assert.GreaterOrEqual(t, kept(r), 1000, "what is forgotten is not counted")
	})
	t.Run("many large sets of grants", func(t *testing.T) {
		r := recording.New(recording.Config{Bytes: 2 << 20})
		for i := range 50 { // each change of the service instance
			r.Observe(fmt.Sprint(i), request(policy, access(t, backend, entries...), "GET /"), rego.Decision{})
		}
		assert.Less(t, kept(r), 20)
		assert.Greater(t, kept(r), 5)
	})
	t.Run("one large set of grants is counted once", func(t *testing.T) {
		r := recording.New(recording.Config{Bytes: 2 << 20})
		a := access(t, backend, entries...)
		for i := range 50 {
			r.Observe(fmt.Sprint(i), request(policy, a, "GET /"), rego.Decision{})
		}
		assert.Equal(t, 50, kept(r))
	})
	t.Run("what alone is too large does not push out the rest", func(t *testing.T) {
		r := recording.New(recording.Config{Bytes: 64 << 10})
		r.Observe("small", request(policy, access(t, backend, "cf:any"), "GET /"), rego.Decision{})
		r.Observe("large", request(policy, access(t, backend, entries...), "GET /"), rego.Decision{})
		assert.Equal(t, "small", ids(r, recording.Filter{}))
	})
}

func TestALineIsExactlyThis(t *testing.T) {
	zone := time.FixedZone("CEST", 2*60*60)
	policy := compiledIn(t, operators(`{"source":"cf:org:`+acme+`","methods":["GET"]}`, "cf:space:"+billing), zone)
	a := access(t, backend, `{"source":"cf:app:`+frontend+`","methods":["GET"],"paths":["/v1/**"],"reason":"INC-1"}`,
		"cf:app:"+metrics, "cf:space:"+billing, `{"source":"cf:any","methods":["HEAD"]}`)
	r := recording.New(recording.Config{})
	q := request(policy, a, "GET //v1/a<b>/")
	r.Observe("6f1c1b1e-52a3-4a43-9d3f-8a2c7f1f5e11", q, rego.Decision{
		Allow: true, Policy: "route:cf:app:" + frontend, Cache: rego.Shared,
		Headers: []rego.Header{{Name: "X-Mtls-Authz-Policy-Tier", Value: "gold"}, {Name: "X-Mtls-Authz-Policy-Who", Value: ""}},
	})
	var line bytes.Buffer
	require.NoError(t, r.Write(&line, recording.Filter{}))
	assert.Equal(t, 1, strings.Count(line.String(), "\n"))
	assert.Contains(t, line.String(), "/v1/a<b>/", "readable")
	expected, err := os.ReadFile("testdata/line.json")
	require.NoError(t, err)
	assert.JSONEq(t, strings.ReplaceAll(string(expected), "REVISION", policy.Revision()), line.String())
}

// The input that is written is the one that the policy was given: a policy that
// compares them says so.
func TestTheInputIsWhatThePolicySees(t *testing.T) {
	zone := time.FixedZone("CEST", 2*60*60)
	a := access(t, backend, `{"source":"cf:app:`+frontend+`","methods":["GET","PUT"],"paths":["/v1/**","/metrics"]}`,
		`{"source":"cf:app:`+frontend+`","methods":["POST"]}`, "cf:space:"+shop, "cf:org:"+acme, `{"source":"cf:any","paths":["/*/*/"]}`)
	q := request(compiledIn(t, nil, zone), a, "GET //v1/a b/")
	r := recording.New(recording.Config{})
	r.Observe("id", q, rego.Decision{})
	for recorded := range r.All(recording.Filter{}) {
		assert.Empty(t, recorded.Omitted)
		input, err := json.Marshal(recorded.Input)
		require.NoError(t, err)
		comparing := compiledIn(t, files{
			"data.json": `{"expected":` + string(input) + `}`, "policy.rego": "package site.check.one\nallow if input == data.expected\n",
		}, zone)
		assert.True(t, decide(t, request(comparing, a, "GET //v1/a b/")).Allow)
		assert.False(t, decide(t, request(comparing, a, "GET /v1/a b/")).Allow, "it compares")
	}
}

func TestGrantsOfOthersAreLeftOutAndNamed(t *testing.T) {
	own := []string{"cf:app:" + frontend, "cf:space:" + shop, "cf:org:" + acme}
	for _, test := range []struct {
		entries, omitted []string
	}{
		{own, []string{}},
		{[]string{`{"source":"cf:any","methods":["GET"]}`}, []string{}},
		{append([]string{"cf:app:" + metrics}, own...), []string{"grants.apps"}},
		{[]string{"cf:app:" + metrics}, []string{"grants.apps"}},
		{[]string{"cf:space:" + billing, "cf:org:" + globex}, []string{"grants.spaces", "grants.orgs"}},
	} {
		r := recording.New(recording.Config{})
		r.Observe("id", request(compiled(t, nil), access(t, backend, test.entries...), "GET /"), rego.Decision{})
		var line bytes.Buffer
		require.NoError(t, r.Write(&line, recording.Filter{}))
		for recorded, err := range replay.Read(&line) {
			require.NoError(t, err)
			assert.Equal(t, test.omitted, recorded.Omitted)
			written, err := json.Marshal(recorded.Input.Grants)
			require.NoError(t, err)
			for _, guid := range []string{metrics, billing, globex} {
				assert.NotContains(t, string(written), guid)
			}
		}
	}
}

func TestALongPathIsLeftOutAndNamed(t *testing.T) {
	r := recording.New(recording.Config{})
	a := access(t, backend, "cf:any")
	r.Observe("long", request(compiled(t, nil), a, "GET /"+strings.Repeat("x", 8<<10)), rego.Decision{})
	r.Observe("most", request(compiled(t, nil), a, "GET /"+strings.Repeat("x", 8<<10-1)), rego.Decision{})
	all := slices.Collect(r.All(recording.Filter{}))
	assert.Empty(t, all[0].Omitted)
	assert.Len(t, all[0].Input.Request.Path, 8<<10)
	assert.Equal(t, []string{"request.path", "request.segments"}, all[1].Omitted)
	assert.Empty(t, all[1].Input.Request.Path)
	assert.Empty(t, all[1].Input.Request.Segments)
}

func TestWhatIsReadStaysWhileItsPlaceIsTaken(t *testing.T) {
	policy := compiled(t, nil)
	a := access(t, backend, "cf:any")
	r := recording.New(recording.Config{Entries: 2})
	r.Observe("0", request(policy, a, "GET /first"), rego.Decision{})
	r.Observe("1", request(policy, a, "GET /other"), rego.Decision{})
	var paths []string
	for recorded := range r.All(recording.Filter{}) {
		paths = append(paths, recorded.Input.Request.Path)
		r.Observe("2", request(policy, a, "GET /later"), rego.Decision{})
		r.Observe("3", request(policy, a, "GET /later"), rego.Decision{})
	}
	assert.Equal(t, []string{"/other", "/first"}, paths)
}

// Requests go on while a slow reader reads, and nothing is torn.
func TestReadingWhileRequestsGoOn(t *testing.T) {
	policy := compiled(t, nil)
	r := recording.New(recording.Config{Entries: 100, Bytes: 200 << 10})
	routes := make([]*grants.Access, 5)
	for i := range routes {
		routes[i] = access(t, fmt.Sprintf("app-%d.apps.identity", i), "cf:app:"+frontend)
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 2000 {
				a := routes[(w+i)%len(routes)]
				r.Observe(a.Route.Host, request(policy, a, "GET /"+a.Route.Host+strings.Repeat("x", i%400)), rego.Decision{Reason: a.Route.Host})
			}
		})
	}
	for range 50 {
		for recorded := range r.All(recording.Filter{}) {
			host := recorded.DecisionID
			if recorded.Route != host || recorded.Decision.Reason != host || !strings.HasPrefix(recorded.Input.Request.Path, "/"+host) {
				t.Fatal("torn", recorded)
			}
		}
	}
	writers.Wait()
	assert.Len(t, slices.Collect(r.All(recording.Filter{})), 100)
}
