package acceptance_test

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// redisServer is a redis-server of a test's own, on loopback.
type redisServer struct {
	*redis.Client
	port    int
	dir     string
	process *exec.Cmd
}

// startRedis starts a redis-server that ends with the test.
func startRedis(t *testing.T) *redisServer {
	t.Helper()
	port, err := freePort()
	require.NoError(t, err)
	r := &redisServer{port: port, dir: t.TempDir(), Client: redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})}
	t.Cleanup(func() { r.kill(); r.Close() })
	require.NoError(t, r.start())
	return r
}

// start starts it, again and empty after a kill.
func (r *redisServer) start() error {
	r.process = exec.Command("redis-server", "--port", fmt.Sprint(r.port), "--bind", "127.0.0.1", "--save", "", "--dir", r.dir)
	r.process.SysProcAttr = endWithParent()
	if err := r.process.Start(); err != nil {
		return err
	}
	return until("redis-server", func() error { return r.Ping(context.Background()).Err() })
}

func (r *redisServer) kill() {
	if r.process == nil {
		return
	}
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
	r.process = nil
}

// url is REDIS_URL.
func (r *redisServer) url() string { return fmt.Sprintf("redis://127.0.0.1:%d", r.port) }

// contents are all keys and values.
func (r *redisServer) contents(ctx context.Context) (map[string]string, error) {
	keys, err := r.Keys(ctx, "*").Result()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, key := range keys {
		if value, err := r.Get(ctx, key).Result(); err == nil { // else it has ended
			found[key] = value
		}
	}
	return found, nil
}

// liar is somebody who holds Redis. What he has seen while it was true he says
// for ever: under its own key, and under every key that is new.
type liar struct {
	redis  *redisServer
	seen   map[string]string
	rounds atomic.Int64
	stop   func()
}

// startLiar writes down what Redis holds now, and lies until the test ends.
func startLiar(t *testing.T, r *redisServer) *liar {
	t.Helper()
	seen, err := r.contents(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, seen)
	ctx, cancel := context.WithCancel(context.Background())
	l := &liar{redis: r, seen: seen}
	var lying sync.WaitGroup
	lying.Go(func() {
		for ctx.Err() == nil {
			l.lie(ctx)
			time.Sleep(time.Millisecond) // Redis must answer others, too
		}
	})
	l.stop = sync.OnceFunc(func() { cancel(); lying.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *liar) lie(ctx context.Context) {
	keys, err := l.redis.Keys(ctx, "*").Result()
	if err != nil {
		return
	}
	values, turn := slices.Collect(maps.Values(l.seen)), 0
	_, err = l.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for key, value := range l.seen {
			p.Set(ctx, key, value, 0)
		}
		for _, key := range keys {
			if _, old := l.seen[key]; !old {
				p.Set(ctx, key, values[turn%len(values)], 0)
				turn++
			}
		}
		return nil
	})
	if err == nil {
		l.rounds.Add(1)
	}
}
