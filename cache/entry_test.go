package cache_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

func offline(t testing.TB) *cache.Shared {
	t.Helper()
	return cache.NewShared(cache.SharedConfig{
		Client: (&redisServer{port: 1}).client(t), MACKey: macKey, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
}

// FuzzSharedEntry: what Redis returns is either byte for byte what this
// gateway wrote for this key, or nothing.
func FuzzSharedEntry(f *testing.F) {
	shared := offline(f)
	ours, end := cache.Key{1}, time.Unix(1_800_000_000, 5)
	decision := rego.Decision{Allow: true, Headers: []rego.Header{{Name: "X-Mtls-Authz-Policy-A", Value: "b"}}}
	genuine := cache.Seal(shared, ours, decision, end)
	f.Add(genuine, byte(1))
	f.Add(genuine, byte(2))
	f.Add(genuine[:31], byte(1))
	f.Add([]byte(nil), byte(1))
	f.Fuzz(func(t *testing.T, value []byte, key byte) {
		found, notAfter, ok := cache.Open(shared, cache.Key{key}, value)
		if !ok {
			require.False(t, key == ours[0] && bytes.Equal(value, genuine))
			return
		}
		require.Equal(t, ours[0], key)
		require.Equal(t, genuine, value)
		require.Equal(t, decision, found)
		require.True(t, end.Equal(notAfter))
	})
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	shared := offline(t)
	for n, decision := range []rego.Decision{
		{},
		{Allow: true},
		{Policy: "policy:one", Reason: "freeze"},
		{Policy: `"\é<>&`, Reason: "\u2028"},
		{Allow: true, Headers: []rego.Header{{Name: "A", Value: "b"}, {Name: "C", Value: strings.Repeat("d", 1024)}}},
	} {
		end := start.Add(time.Duration(n))
		found, notAfter, ok := cache.Open(shared, cache.Key{byte(n)}, cache.Seal(shared, cache.Key{byte(n)}, decision, end))
		require.True(t, ok)
		assert.Equal(t, decision, found)
		assert.True(t, end.Equal(notAfter))
	}
	remembered := rego.Decision{Allow: true, Cache: rego.Shared}
	found, _, _ := cache.Open(shared, cache.Key{}, cache.Seal(shared, cache.Key{}, remembered, start))
	assert.Equal(t, rego.NotCached, found.Cache)
}
