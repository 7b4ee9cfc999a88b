package cache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

func TestDecisionsAreRememberedForTheirTime(t *testing.T) {
	p := policy(t, "")
	for _, test := range []struct {
		allow string
		is    bool
		life  time.Duration
	}{{allowFrontend, true, 60 * time.Second}, {allowMetrics, false, 5 * time.Second}} {
		clock := newClock()
		c := newCache(t, cache.Config{Now: clock.now})
		r := request(p, access(t, 7, test.allow), "/", start)
		c.decides(t, r, test.is, rego.Miss)
		clock.after(test.life - time.Nanosecond)
		c.decides(t, r, test.is, rego.Local)
		clock.after(test.life)
		c.decides(t, r, test.is, rego.Miss)
		c.decides(t, r, test.is, rego.Local)
		assert.Equal(t, 2, counter(t, c.registry, "mtls_authz_cache_lookups_total", "miss"))
		assert.Equal(t, 2, counter(t, c.registry, "mtls_authz_cache_lookups_total", "local"))
		assert.Equal(t, 0, counter(t, c.registry, "mtls_authz_cache_lookups_total", "shared"))
	}
}

func TestOffRemembersNothing(t *testing.T) {
	c := newCache(t, cache.Config{Off: true})
	r := request(policy(t, ""), access(t, 7, allowFrontend), "/", start)
	c.decides(t, r, true, rego.NotCached)
	c.decides(t, r, true, rego.NotCached)
	assert.Equal(t, 0, counter(t, c.registry, "mtls_authz_cache_lookups_total", "miss"))
}

func TestTimesToLiveAreConfigured(t *testing.T) {
	p, clock := policy(t, ""), newClock()
	c := newCache(t, cache.Config{Now: clock.now, TTL: 2 * time.Second, DenyTTL: time.Second})
	granted, refused := request(p, access(t, 7, allowFrontend), "/", start), request(p, access(t, 8, allowMetrics), "/", start)
	c.decides(t, granted, true, rego.Miss)
	c.decides(t, refused, false, rego.Miss)
	clock.after(time.Second)
	c.decides(t, granted, true, rego.Local)
	c.decides(t, refused, false, rego.Miss)
	clock.after(2 * time.Second)
	c.decides(t, granted, true, rego.Miss)
}

func TestARememberedDecisionIsTheSame(t *testing.T) {
	p := policy(t, "default allow := false\nallow if input.request.path != \"/frozen\"\nreason := \"freeze\"\nheaders := {\"X-Mtls-Authz-Policy-Tier\": \"gold\"}")
	c := newCache(t, cache.Config{})
	a := access(t, 7, allowFrontend)
	for path, expected := range map[string]rego.Decision{
		"/":       {Allow: true, Headers: []rego.Header{{Name: "X-Mtls-Authz-Policy-Tier", Value: "gold"}}},
		"/frozen": {Policy: "policy:one", Reason: "freeze"},
	} {
		for _, tier := range []rego.Tier{rego.Miss, rego.Local} {
			decision, err := c.Decide(t.Context(), request(p, a, path, start))
			require.NoError(t, err)
			expected.Cache = tier
			assert.Equal(t, expected, decision)
		}
	}
}

func TestAnEntryEndsWithTheNextGrantThatExpires(t *testing.T) {
	p, clock := policy(t, ""), newClock()
	c := newCache(t, cache.Config{Now: clock.now})
	// The grant that expires is another's: entries end all the same.
	a := access(t, 7, `["cf:app:`+frontend+`",{"source":"cf:app:`+metrics+`","expires":"2026-05-04T10:15:50Z"}]`)
	live := request(p, a, "/", start)
	c.decides(t, live, true, rego.Miss)
	clock.after(8*time.Second - 1)
	c.decides(t, live, true, rego.Local)
	clock.after(8 * time.Second)
	c.decides(t, live, true, rego.Miss)
	c.decides(t, live, true, rego.Miss) // ended when it was made: not remembered
	later := request(p, a, "/", clock.Time)
	c.decides(t, later, true, rego.Miss) // another set of grants
	c.decides(t, later, true, rego.Local)
}

func TestAnEntryEndsWithTheMinuteWhereTheTimeIsRead(t *testing.T) {
	clock := newClock()
	c := newCache(t, cache.Config{Now: clock.now})
	r := request(policy(t, `allow if input.now.minute == 615`), access(t, 7, allowFrontend), "/", start)
	c.decides(t, r, true, rego.Miss)
	clock.after(18*time.Second - 1)
	c.decides(t, r, true, rego.Local)
	r.Now = clock.Time
	c.decides(t, r, true, rego.Local)
	clock.after(18 * time.Second)
	c.decides(t, r, true, rego.Miss)
	r.Now = clock.Time
	c.decides(t, r, false, rego.Miss)
}

func TestErrorsAreNotRemembered(t *testing.T) {
	c := newCache(t, cache.Config{})
	r := request(policy(t, `allow if to_number(input.request.method) == 1`), access(t, 7, allowFrontend), "/", start)
	for range 2 {
		decision, err := c.Decide(t.Context(), r)
		require.ErrorIs(t, err, rego.ErrPolicy)
		assert.Zero(t, decision)
	}
	assert.Equal(t, 0, counter(t, c.registry, "mtls_authz_cache_lookups_total", "local"))
	r.Method = "1"
	c.decides(t, r, true, rego.Miss)
}

// After an update of the binding or another policy, what was remembered cannot
// be reached any more.
func TestARevocationIsInForceAtOnce(t *testing.T) {
	c := newCache(t, cache.Config{})
	open, closed := policy(t, `allow := true`), policy(t, `allow := false`)
	c.decides(t, request(open, access(t, 7, allowFrontend), "/", start), true, rego.Miss)
	c.decides(t, request(open, access(t, 7, allowFrontend), "/", start), true, rego.Local)
	c.decides(t, request(open, access(t, 8, allowMetrics), "/", start), false, rego.Miss)
	c.decides(t, request(closed, access(t, 7, allowFrontend), "/", start), false, rego.Miss)
}

func TestTheTierInMemoryIsBounded(t *testing.T) {
	c := newCache(t, cache.Config{Entries: 10})
	p, a := policy(t, readsPath), access(t, 7, allowFrontend)
	for i := range 500 {
		c.decides(t, request(p, a, fmt.Sprintf("/%d", i), start), true, rego.Miss)
	}
	held := func() (n int) {
		before := counter(t, c.registry, "mtls_authz_cache_lookups_total", "local")
		for i := range 500 {
			_, err := c.Decide(t.Context(), request(p, a, fmt.Sprintf("/%d", i), start))
			require.NoError(t, err)
		}
		return counter(t, c.registry, "mtls_authz_cache_lookups_total", "local") - before
	}
	assert.Eventually(t, func() bool { return held() <= 50 }, 5*time.Second, 10*time.Millisecond)
}
