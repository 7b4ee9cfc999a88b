package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

var macKey = []byte("a key that all instances have")

// instance is a gateway's cache with both tiers.
type instance struct {
	*caching
	shared *cache.Shared
	calls  atomic.Int64
	log    lines
}

// lines are what was logged.
type lines struct {
	sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) count(text string) int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.String(), text)
}

func (l *lines) text() string {
	l.Lock()
	defer l.Unlock()
	return l.String()
}

// DialHook, ProcessHook and ProcessPipelineHook count the calls to Redis.
func (i *instance) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *instance) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name == "getrange" || name == "set" {
			i.calls.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (i *instance) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// newInstance starts an instance, which ends with the test.
func newInstance(t testing.TB, server *redisServer, key []byte, cfg cache.Config) *instance {
	t.Helper()
	return running(t, newReader(t, server, key, cfg))
}

// running lets an instance write and try, until the test ends.
func running(t testing.TB, i *instance) *instance {
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { i.shared.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return i
}

// newReader is an instance that never writes to Redis.
func newReader(t testing.TB, server *redisServer, key []byte, cfg cache.Config) *instance {
	t.Helper()
	return newInstanceOf(t, server.client(t), key, cfg)
}

func newInstanceOf(t testing.TB, client redis.UniversalClient, key []byte, cfg cache.Config) *instance {
	t.Helper()
	i := &instance{}
	client.AddHook(i)
	registry := prometheus.NewRegistry()
	i.shared = cache.NewShared(cache.SharedConfig{Client: client, MACKey: key, Use: cache.Always, Log: slog.New(slog.NewTextHandler(&i.log, nil)), Metrics: registry})
	cfg.Shared, cfg.Metrics = i.shared, registry
	made, err := cache.New(cfg)
	require.NoError(t, err)
	i.caching = &caching{made, registry}
	return i
}

// found demands that a new instance finds a decision in Redis: it asks again
// with another one where a busy machine took longer to answer than a request
// waits.
func found(t testing.TB, client func() redis.UniversalClient, cfg cache.Config, r *rego.Request, allow bool) *instance {
	t.Helper()
	for range 20 {
		i := newInstanceOf(t, client(), macKey, cfg)
		decision, err := i.Decide(t.Context(), r)
		require.NoError(t, err)
		if i.log.count("redis does not answer") == 0 {
			assert.Equal(t, rego.Shared.String(), decision.Cache.String())
			assert.Equal(t, allow, decision.Allow)
			return i
		}
	}
	t.Fatal("redis never answered in time")
	return nil
}

// forgetful remembers nothing in memory, and writes nothing.
var forgetful = cache.Config{TTL: 1, DenyTTL: 1}

// reads demands a decision for which Redis was asked: a busy machine may take
// longer to answer than a request waits.
func (i *instance) reads(t testing.TB, r *rego.Request, allow bool, from rego.Tier) {
	t.Helper()
	for {
		require.Eventually(t, i.shared.Available, 20*time.Second, time.Millisecond)
		failures := i.log.count("redis does not answer")
		decision, err := i.Decide(t.Context(), r)
		require.NoError(t, err)
		if i.log.count("redis does not answer") == failures && i.shared.Available() {
			assert.Equal(t, from.String(), decision.Cache.String())
			assert.Equal(t, allow, decision.Allow)
			return
		}
	}
}

func (i *instance) badMACs(t testing.TB) int {
	t.Helper()
	return counter(t, i.registry, "mtls_authz_cache_bad_macs_total", "")
}

// stored waits until Redis has the entry of a request.
func stored(t testing.TB, server *redisServer, r *rego.Request) string {
	t.Helper()
	name, client := cache.NameOf(cache.KeyOf(r)), server.client(t)
	require.Eventually(t, func() bool { return client.Exists(t.Context(), name).Val() == 1 }, 10*time.Second, 5*time.Millisecond)
	value, err := client.Get(t.Context(), name).Result()
	require.NoError(t, err)
	return value
}

func TestInstancesShareDecisions(t *testing.T) {
	server, clock := startRedis(t), newClock()
	one := newInstance(t, server, macKey, cache.Config{Now: clock.now})
	p := policy(t, "default allow := false\nallow if input.request.path != \"/frozen\"\nreason := \"freeze\"\nheaders := {\"X-Mtls-Authz-Policy-Tier\": \"gold\"}")
	a := access(t, 7, allowFrontend)
	for path, life := range map[string]time.Duration{"/": time.Minute, "/frozen": 5 * time.Second} {
		r := request(p, a, path, start)
		first, err := one.Decide(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, rego.Miss, first.Cache)
		stored(t, server, r)
		ttl := server.client(t).PTTL(t.Context(), cache.NameOf(cache.KeyOf(r))).Val()
		assert.LessOrEqual(t, ttl, life)
		assert.Greater(t, ttl, life-5*time.Second)

		two := found(t, func() redis.UniversalClient { return server.client(t) }, cache.Config{Now: clock.now}, r, first.Allow)
		second, err := two.Decide(t.Context(), r)
		require.NoError(t, err)
		first.Cache = rego.Local
		assert.Equal(t, first, second)
		assert.Zero(t, two.badMACs(t))
	}
}

// An instance that remembers for less, or whose clock is behind, does not take
// over the other's end.
func TestASharedEntryDoesNotOutliveTheInstancesOwnLimits(t *testing.T) {
	server, clock := startRedis(t), newClock()
	one := newInstance(t, server, macKey, cache.Config{Now: clock.now})
	r := request(policy(t, ""), access(t, 7, allowFrontend), "/", start)
	one.decides(t, r, true, rego.Miss)
	stored(t, server, r)
	two := found(t, func() redis.UniversalClient { return server.client(t) }, cache.Config{Now: clock.now, TTL: 3 * time.Second}, r, true)
	clock.after(3*time.Second - 1)
	two.decides(t, r, true, rego.Local)
	clock.after(3 * time.Second)
	decision, err := two.Decide(t.Context(), r)
	require.NoError(t, err)
	assert.NotEqual(t, rego.Local, decision.Cache)
}

func TestARevocationIsInForceWhateverRedisHas(t *testing.T) {
	server := startRedis(t)
	one, two := newInstance(t, server, macKey, cache.Config{}), newInstance(t, server, macKey, cache.Config{})
	open, closed := policy(t, `allow := true`), policy(t, `allow := false`)
	r := request(open, access(t, 7, allowFrontend), "/", start)
	one.decides(t, r, true, rego.Miss)
	stored(t, server, r)
	two.decides(t, request(open, access(t, 8, allowMetrics), "/", start), false, rego.Miss)
	two.decides(t, request(closed, access(t, 7, allowFrontend), "/", start), false, rego.Miss)
	two.decides(t, r, true, rego.Shared)
}

func TestForgedEntriesAreMissesAndCounted(t *testing.T) {
	server := startRedis(t)
	p, a := policy(t, readsPath), access(t, 7, allowMetrics) // the frontend is denied
	r, other := request(p, a, "/", start), request(p, access(t, 7, allowFrontend), "/other", start)
	writer := newInstance(t, server, macKey, cache.Config{})
	writer.decides(t, r, false, rego.Miss)
	writer.decides(t, other, true, rego.Miss)
	genuine, swapped := stored(t, server, r), stored(t, server, other)
	stranger := newInstance(t, server, []byte("another key"), cache.Config{})
	allow := rego.Decision{Allow: true}
	forgeries := map[string]string{
		"truncated":       genuine[:len(genuine)-1],
		"only a MAC":      genuine[:32],
		"one byte":        "x",
		"longer":          genuine + " ",
		"swapped":         swapped,
		"another MAC key": string(cache.Seal(stranger.shared, cache.KeyOf(r), allow, time.Now().Add(time.Hour))),
		"no MAC":          strings.Repeat("\x00", 32) + genuine[32:],
		"huge":            strings.Repeat("x", 1<<20),
		"allow for deny":  genuine[:40] + "\x01" + genuine[41:],
	}
	for i := range genuine {
		forgeries[fmt.Sprintf("byte %d flipped", i)] = genuine[:i] + string(genuine[i]^1) + genuine[i+1:]
	}
	client, name, forged := server.client(t), cache.NameOf(cache.KeyOf(r)), 0
	victim := newInstance(t, server, macKey, forgetful)
	for kind, value := range forgeries {
		require.NotEqual(t, genuine, value, kind)
		require.NoError(t, client.Set(t.Context(), name, value, 0).Err())
		victim.reads(t, r, false, rego.Miss)
		forged++
		assert.Equal(t, forged, victim.badMACs(t), kind)
	}
	require.NoError(t, client.Del(t.Context(), name).Err())
	require.NoError(t, client.LPush(t.Context(), name, "a list").Err())
	victim.reads(t, r, false, rego.Miss)
	assert.Equal(t, forged+1, victim.badMACs(t), "another type")
	assert.Zero(t, victim.log.count("redis takes no entries"))

	require.NoError(t, client.Del(t.Context(), name).Err())
	require.NoError(t, client.Set(t.Context(), name, genuine, 0).Err())
	victim.reads(t, r, false, rego.Shared)
}

// An entry that was genuine once is a miss after its end, however long Redis
// keeps it.
func TestAReplayedEntryIsAMiss(t *testing.T) {
	server, clock := startRedis(t), newClock()
	one, two := newInstance(t, server, macKey, cache.Config{Now: clock.now}), newInstance(t, server, macKey, cache.Config{Now: clock.now})
	r := request(policy(t, ""), access(t, 7, allowFrontend), "/", start)
	one.decides(t, r, true, rego.Miss)
	genuine := stored(t, server, r)
	require.NoError(t, server.client(t).Set(t.Context(), cache.NameOf(cache.KeyOf(r)), genuine, 0).Err())
	clock.after(time.Minute - 1)
	found(t, func() redis.UniversalClient { return server.client(t) }, cache.Config{Now: clock.now}, r, true)
	clock.after(time.Minute)
	two.decides(t, r, true, rego.Miss)
}

// A flood of decisions while nobody writes costs entries, not memory or time.
func TestWritesAreBounded(t *testing.T) {
	i := newReader(t, startRedis(t), macKey, cache.Config{}) // Run does not run
	p, a, dropped := policy(t, readsPath), access(t, 7, allowFrontend), "mtls_authz_cache_dropped_writes_total"
	for n := range 1100 {
		i.decides(t, request(p, a, fmt.Sprintf("/%d", n), start), true, rego.Miss)
	}
	// A busy machine may have opened the breaker before; then less waits.
	assert.True(t, counter(t, i.registry, dropped, "") == 1100-1024 || !i.shared.Available())
}

func TestASharedTierNeedsAMACKey(t *testing.T) {
	assert.Panics(t, func() {
		cache.NewShared(cache.SharedConfig{Client: (&redisServer{port: 1}).client(t), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	})
}
