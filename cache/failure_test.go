package cache_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

// connected makes the instance use Redis once, with nothing left to write.
func connected(t *testing.T, server *redisServer, i *instance, p *rego.Policy) {
	t.Helper()
	r := request(p, access(t, 7, allowFrontend), "/", start)
	i.decides(t, r, true, rego.Miss)
	stored(t, server, r)
}

// failing demands that requests go on without Redis, that the breaker opens
// after one of them has waited, and that Redis is left alone then.
func failing(t *testing.T, i *instance, p *rego.Policy) {
	t.Helper()
	a := access(t, 7, allowFrontend)
	before := i.calls.Load()
	for n := range 50 {
		i.decides(t, request(p, a, fmt.Sprintf("/failing/%p/%d", t, n), start), true, rego.Miss)
	}
	assert.False(t, i.shared.Available())
	// One call finds out; a few more are trials, for which no request waits.
	assert.LessOrEqual(t, i.calls.Load()-before, int64(5))
	assert.Equal(t, 1, i.log.count("redis does not answer"), "one line for each transition")
}

// recovers demands that Redis is used again by itself.
func recovers(t *testing.T, i *instance, p *rego.Policy) {
	t.Helper()
	a, n := access(t, 7, allowFrontend), 0
	require.Eventually(t, func() bool {
		n++
		i.decides(t, request(p, a, fmt.Sprintf("/recovering/%d", n), start), true, rego.Miss)
		return i.shared.Available()
	}, 20*time.Second, 20*time.Millisecond)
	assert.Equal(t, 1, i.log.count("redis is back"))
}

func TestAStoppedRedisCostsOneWait(t *testing.T) {
	server, p := startRedis(t), policy(t, readsPath)
	i := newInstance(t, server, macKey, cache.Config{})
	connected(t, server, i, p)
	server.signal(t, syscall.SIGSTOP)
	failing(t, i, p)
	server.signal(t, syscall.SIGCONT)
	recovers(t, i, p)
	r := request(p, access(t, 7, allowFrontend), "/after", start)
	i.decides(t, r, true, rego.Miss)
	stored(t, server, r)
	found(t, func() redis.UniversalClient { return server.client(t) }, cache.Config{}, r, true)
}

func TestAKilledRedisComesBack(t *testing.T) {
	server, p := startRedis(t), policy(t, readsPath)
	i := newInstance(t, server, macKey, cache.Config{})
	connected(t, server, i, p)
	server.kill()
	failing(t, i, p)
	require.True(t, server.start(t))
	recovers(t, i, p)
}

func TestARedisThatWasNeverThere(t *testing.T) {
	i := newInstance(t, &redisServer{port: freePort(t)}, macKey, cache.Config{})
	failing(t, i, policy(t, readsPath))
}

// Reads go on where only writes fail, and writes are tried again.
func TestARedisThatTakesNoEntries(t *testing.T) {
	p, a := policy(t, readsPath), access(t, 7, allowFrontend)
	for why, test := range map[string]struct{ fail, mend func(*redisServer) }{
		"OOM": { // full, and evicts nothing
			func(s *redisServer) { s.configure(t, "maxmemory-policy", "noeviction", "maxmemory", "1") },
			func(s *redisServer) { s.configure(t, "maxmemory", "0") },
		},
		"READONLY": { // demoted in a failover
			func(s *redisServer) { require.NoError(t, s.client(t).SlaveOf(t.Context(), "127.0.0.1", "1").Err()) },
			func(s *redisServer) { require.NoError(t, s.client(t).SlaveOf(t.Context(), "no", "one").Err()) },
		},
	} {
		server := startRedis(t)
		i := newInstance(t, server, macKey, cache.Config{})
		connected(t, server, i, p)
		test.fail(server)
		n := 0
		require.Eventually(t, func() bool {
			n++
			i.decides(t, request(p, a, fmt.Sprintf("/refused/%d", n), start), true, rego.Miss)
			return strings.Contains(i.shared.Reason(), why)
		}, 20*time.Second, 5*time.Millisecond)
		assert.Equal(t, 1, i.log.count("redis takes no entries"), i.log.text())
		found(t, func() redis.UniversalClient { return server.client(t) }, cache.Config{}, request(p, a, "/", start), true)
		test.mend(server)
		require.Eventually(t, i.shared.Available, 20*time.Second, 5*time.Millisecond)
		assert.Equal(t, 1, i.log.count("redis takes entries again"))
		r := request(p, a, "/after/"+why, start)
		i.decides(t, r, true, rego.Miss)
		stored(t, server, r)
	}
}

func TestAFlushedRedisCostsMisses(t *testing.T) {
	server, p := startRedis(t), policy(t, readsPath)
	i := newInstance(t, server, macKey, forgetful)
	r := request(p, access(t, 7, allowFrontend), "/", start)
	connected(t, server, newInstance(t, server, macKey, cache.Config{}), p)
	i.reads(t, r, true, rego.Shared)
	require.NoError(t, server.client(t).FlushAll(t.Context()).Err())
	i.reads(t, r, true, rego.Miss)
	assert.Zero(t, i.badMACs(t))
}

// While Redis comes and goes, requests go on, and it is left alone for longer.
func TestARedisThatFlaps(t *testing.T) {
	server, p, times := startRedis(t), policy(t, readsPath), 2
	if os.Getenv("MTLS_AUTHZ_HEAVY") != "" {
		times = 6
	}
	i := newInstance(t, server, macKey, cache.Config{})
	connected(t, server, i, p)
	a, n := access(t, 7, allowFrontend), 0
	decides := func() {
		n++
		i.decides(t, request(p, a, fmt.Sprintf("/flapping/%d", n), start), true, rego.Miss)
	}
	for range times {
		server.signal(t, syscall.SIGSTOP)
		require.Eventually(t, func() bool { decides(); return !i.shared.Available() }, 20*time.Second, time.Millisecond)
		server.signal(t, syscall.SIGCONT)
		require.Eventually(t, func() bool { decides(); return i.shared.Available() }, 60*time.Second, 10*time.Millisecond)
	}
	assert.GreaterOrEqual(t, i.log.count("redis does not answer"), times)
	assert.Equal(t, i.log.count("redis is back"), i.log.count("redis does not answer"))
}

// The client of one request that leaves does not cost the others Redis.
func TestAClientThatLeavesDoesNotOpenTheBreaker(t *testing.T) {
	// A server that accepts and never answers: every call waits.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	i := newInstance(t, &redisServer{port: listener.Addr().(*net.TCPAddr).Port}, macKey, cache.Config{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err = i.Decide(gone, request(policy(t, readsPath), access(t, 7, allowFrontend), "/", start))
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, rego.ErrPolicy, "a client that leaves is no policy that fails")
	assert.Zero(t, i.log.count("redis does not answer"))
}
