package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

// slowly is a check that takes milliseconds.
const slowly = "l := [0,1,2,3,4,5,6,7,8,9]\nallow if { count([1 | l[_]; l[_]; l[_]; l[_]]) == 10000; input.request.path != \"/error\" }\n" +
	"allow if { input.request.path == \"/error\"; count([1 | l[_]; l[_]; l[_]; l[_]]) == to_number(input.request.path) }"

// Requests that miss at once with one key share one evaluation.
func TestOneEvaluationServesAllThatWait(t *testing.T) {
	c, p, a := newCache(t, cache.Config{}), policy(t, slowly), access(t, 7, allowFrontend)
	began, started := make(chan struct{}), time.Now()
	gone, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { // the one that evaluates leaves
		close(began)
		_, err := c.Decide(gone, request(p, a, "/", start))
		assert.ErrorIs(t, err, context.Canceled)
	})
	<-began
	leave()
	for range 50 {
		all.Go(func() {
			decision, err := c.Decide(t.Context(), request(p, a, "/", start))
			assert.NoError(t, err)
			assert.True(t, decision.Allow)
		})
	}
	all.Wait()
	shapes := c.Report().Policies[0].Shapes
	require.Len(t, shapes, 1)
	one := time.Duration(shapes[0].Evaluation) * time.Microsecond
	assert.Greater(t, one, time.Millisecond, "too quick for this to say something")
	assert.Less(t, time.Since(started), 25*one, "not fifty evaluations")
}

// An error is told to those that wait for it, and to nobody after them.
func TestErrorsAreSharedOnlyByThoseThatWait(t *testing.T) {
	c, p, a := newCache(t, cache.Config{}), policy(t, slowly), access(t, 7, allowFrontend)
	for range 2 {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				_, err := c.Decide(t.Context(), request(p, a, "/error", start))
				assert.ErrorIs(t, err, rego.ErrPolicy)
			})
		}
		all.Wait()
	}
	assert.Zero(t, counter(t, c.registry, "mtls_authz_cache_lookups_total", "local"))
	c.decides(t, request(p, a, "/", start), true, rego.Miss)
}

func TestNobodyWaitsLongerThanTheirOwnContext(t *testing.T) {
	c, p, a := newCache(t, cache.Config{}), policy(t, slowly), access(t, 7, allowFrontend)
	var leader sync.WaitGroup
	leader.Go(func() { c.decides(t, request(p, a, "/", start), true, rego.Miss) })
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err := c.Decide(gone, request(p, a, "/", start))
	if err != nil { // the leader may have been so quick
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, rego.ErrPolicy)
	}
	leader.Wait()
}

// Both bounds hold, whichever is reached first.
func TestTheTierInMemoryIsBoundedByBytes(t *testing.T) {
	const bytes = 40_000
	header := fmt.Sprintf("headers := {%q: concat(\"\", [\"%01000d\", input.request.path])}", "X-Mtls-Authz-Policy-A", 0)
	c := newCache(t, cache.Config{Entries: 1000, Bytes: bytes})
	p, a := policy(t, "allow := true\n"+header), access(t, 7, allowFrontend)
	for n := range 300 {
		c.decides(t, request(p, a, fmt.Sprintf("/%d", n), start), true, rego.Miss)
	}
	assert.Eventually(t, func() bool { return c.Report().Bytes <= bytes && c.Report().Entries < 40 }, 10*time.Second, time.Millisecond)
	assert.Positive(t, counter(t, c.registry, "mtls_authz_cache_evictions_total", ""))

	_, err := cache.New(cache.Config{Entries: 100, Bytes: 99, Metrics: prometheus.NewRegistry()})
	require.Error(t, err)
}

func TestTheReport(t *testing.T) {
	c := newCache(t, cache.Config{Version: "1"})
	p, plain, conditions := policy(t, `allow if input.caller.org != "x"`), access(t, 7, allowFrontend), access(t, 8, `[{"source":"cf:any","paths":["/a"]}]`)
	assert.Equal(t, cache.Report{Policies: []cache.PolicyReport{}}, c.Report())
	for n := range 4 {
		_, err := c.Decide(t.Context(), request(p, plain, fmt.Sprintf("/%d", n), start))
		require.NoError(t, err)
	}
	c.decides(t, request(p, conditions, "/a", start), true, rego.Miss)
	raw, err := json.Marshal(c.Report())
	require.NoError(t, err)
	var report cache.Report
	require.NoError(t, json.Unmarshal(raw, &report))
	require.Len(t, report.Policies, 1)
	assert.Equal(t, p.Revision(), report.Policies[0].Revision)
	shapes := report.Policies[0].Shapes
	require.Len(t, shapes, 2)
	for i := range shapes {
		assert.Positive(t, shapes[i].Evaluation)
		shapes[i].Evaluation = 0
	}
	assert.Equal(t, []cache.ShapeReport{
		{Grants: "app", Key: []string{"input.caller.app", "input.caller.org"}, Local: 3, Misses: 1, HitRatio: 0.75},
		{Grants: "any+paths", Key: []string{"input.caller.org", "input.request.segments"}, Misses: 1},
	}, shapes)
	assert.Equal(t, 2, report.Entries)
	assert.Eventually(t, func() bool { return c.Report().Bytes > 0 }, 10*time.Second, time.Millisecond)
}

// A cheap policy does not ask Redis, a dear one does; a policy that takes the
// whole request in hand, and long texts, stay out of it.
func TestRedisIsAskedWhereThatPays(t *testing.T) {
	server := startRedis(t)
	a := access(t, 7, allowFrontend)
	i := newInstanceUsing(t, server.client(t), cache.Auto)
	skipped := func(reason string) int {
		return counter(t, i.registry, "mtls_authz_cache_shared_skipped_total", reason)
	}
	running(t, i)
	require.Eventually(t, func() bool { return i.Report().Shared.RoundTrip > 0 }, 20*time.Second, time.Millisecond)
	dear := policy(t, slowly)
	var r *rego.Request
	for n, at := 0, server.client(t); r == nil || at.DBSize(t.Context()).Val() == 0; n++ {
		require.Less(t, n, 2000, "redis is never asked")
		r = request(dear, a, fmt.Sprintf("/%d", n), start)
		i.decides(t, r, true, rego.Miss)
	}
	assert.GreaterOrEqual(t, skipped("cheap"), 8, "until it is known what evaluating takes")

	before := skipped("request")
	i.decides(t, request(policy(t, readsAll), a, "/", start), true, rego.Miss)
	assert.Equal(t, before+1, skipped("request"))
	i.decides(t, request(dear, a, fmt.Sprintf("/%01100d", 1), start), true, rego.Miss)
	assert.GreaterOrEqual(t, skipped("request")+skipped("cheap")+skipped("unavailable"), before+2)

	never := newInstanceUsing(t, server.client(t), cache.Never)
	never.decides(t, r, true, rego.Miss)
	assert.Equal(t, "CACHE_SHARED=never", never.Report().Policies[0].Shapes[0].NotShared)
	for _, word := range []string{"auto", "always", "never"} {
		use, err := cache.ParseUse(word)
		require.NoError(t, err)
		assert.Equal(t, word, use.String())
	}
	_, err := cache.ParseUse("often")
	assert.ErrorContains(t, err, "expected auto, always or never")
}

// Another version of the gateway may make another input of the same request.
func TestVersionsShareNothing(t *testing.T) {
	r := request(policy(t, ""), access(t, 7, allowFrontend), "/", start)
	assert.NotEqual(t, cache.VersionKeyOf(r, "1"), cache.VersionKeyOf(r, "2"))
}
