package cache_test

import (
	"context"
	"fmt"
	"net"
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
