package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// soak is two gateways on a PostgreSQL and a Redis that come and go, with routes
// whose permissions change, under a load of 70 % of what they can carry. Every
// answer is compared with what the oracle knows.
type soak struct {
	*cloud
	postgres *postgres
	redis    *redisServer
	bundle   *liveBundle
	away     outages
	stranger *ca.Authority
	routes   []*soakRoute
	seen     *observations

	// swapping is one policy on its way at a time.
	swapping sync.Mutex
	stopped  chan struct{}
	working  sync.WaitGroup

	mu           sync.Mutex
	certificates map[string]string // of the callers, minted again and again
}

const soakRoutes = 12

// TestSoak is make soak: SOAK_TIME is how long.
func TestSoak(t *testing.T) { // alone
	given := os.Getenv("SOAK_TIME")
	if given == "" {
		t.Skip("make soak takes its time")
	}
	during, err := time.ParseDuration(given)
	require.NoError(t, err)
	s := newSoak(t)
	most := s.capacity(min(10*time.Second, during/8))
	s.seen = newObservations()
	end := s.offer(int(0.7 * most))
	s.trouble(min(time.Minute, during/4))
	s.watch(during)
	close(s.stopped)
	end()
	s.working.Wait()
	s.seen.print(during, most)
	s.judge()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{postgres: ownPostgres(t), redis: startRedis(t), bundle: newLiveBundle(t, freezer, frozen()), stopped: make(chan struct{}), seen: newObservations()}
	database, err := s.postgres.newDatabase()
	require.NoError(t, err)
	cluster, err := newCluster(t.TempDir(), s.postgres.url(database), 2, "POLICY_BUNDLE="+s.bundle.dir, "REDIS_URL="+s.redis.url(), "CACHE_SHARED=always", "CACHE_TTL=5s")
	t.Cleanup(func() { assert.NoError(t, cluster.close()) })
	require.NoError(t, err)
	s.cloud = cluster.play(t)
	s.stranger, err = ca.NewRoot("instanceIdentityCA") // by its name
	require.NoError(t, err)
	s.mint()
	for i := range s.servers {
		s.server(i).passOver()
	}
	for n := range soakRoutes {
		r := &soakRoute{host: fmt.Sprintf("soak%d-%s", n, s.host), service: s.created(onlyFrontend), granted: &fact[grant]{away: &s.away}, frozen: &fact[bool]{}}
		r.granted.begin(frontendOnly, len(s.servers))
		r.granted.acknowledge(0)
		r.frozen.begin(false, len(s.servers))
		for i := range s.servers {
			r.frozen.settle(i)
		}
		s.routes = append(s.routes, r)
		s.bind(r)
	}
	return s
}

// mint gives each caller a new certificate, as the platform does every day; the
// stranger's says that he is the frontend.
func (s *soak) mint() {
	s.t.Helper()
	made := map[string]string{}
	for name, from := range map[string]*ca.Authority{"frontend": s.root, "monitoring": s.root, "stranger": s.stranger} {
		app := playground.Frontend
		if name == "monitoring" {
			app = playground.Monitoring
		}
		credential, err := from.Instance(app.Identity())
		require.NoError(s.t, err)
		made[name] = credential.XFCC()
		s.addSecret(made[name])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificates = made
}

// capacity is how many requests a second are answered when everybody asks at once.
func (s *soak) capacity(during time.Duration) float64 {
	var answered atomic.Int64
	var calling sync.WaitGroup
	began := time.Now()
	for range 32 {
		calling.Go(func() {
			for time.Since(began) < during {
				s.ask()
				answered.Add(1)
			}
		})
	}
	calling.Wait()
	return float64(answered.Load()) / time.Since(began).Seconds()
}

// offer asks at a rate until it is ended.
func (s *soak) offer(rate int) (end func()) {
	due, stop := make(chan struct{}, 256), make(chan struct{})
	var working sync.WaitGroup
	for range 64 {
		working.Go(func() {
			for range due {
				s.ask()
			}
		})
	}
	working.Go(func() {
		defer close(due)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for next := time.Now(); ; {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				for ; next.Before(now); next = next.Add(time.Second / time.Duration(rate)) {
					select {
					case due <- struct{}{}:
					default:
						s.seen.count("requests not sent in time", 1)
					}
				}
			}
		}
	})
	return sync.OnceFunc(func() { close(stop); working.Wait() })
}

// ask is one request of one of the callers, to one of the routes, at one of the
// gateways, and what the oracle says of its answer.
func (s *soak) ask() {
	gateway, r := rand.IntN(len(s.servers)), s.routes[rand.IntN(len(s.routes))]
	caller := [...]string{"frontend", "frontend", "monitoring", "stranger"}[rand.IntN(4)]
	where := r.somewhere()
	s.mu.Lock()
	xfcc := s.certificates[caller]
	s.mu.Unlock()
	from := time.Now()
	reply, err := s.sendAs(s.t.Context(), gateway, xfcc, where.Route+"/", where.url)
	until := time.Now()
	outcome, err := outcomeOf(reply, err)
	if err != nil {
		outcome = err.Error()
	}
	s.seen.answer(outcome, until.Sub(from))
	if right := r.expected(where, caller, gateway, from, until); !right[outcome] {
		what := fmt.Sprintf("%s at gateway %d, %s: %s, right was %v", caller, gateway, from.Format("15:04:05.000"), outcome, right)
		if reply.Status >= http.StatusInternalServerError {
			what += fmt.Sprint("; ", s.server(gateway).decision(s.t, reply.Header.Get(decisionHeader))["detail"])
		}
		s.seen.wrong(what)
	}
}

// every does something again and again until the soak ends.
func (s *soak) every(interval time.Duration, what string, do func()) {
	s.working.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-s.stopped:
				return
			case <-tick.C:
				do()
				s.seen.count(what, 1)
			}
		}
	})
}

// trouble is what happens meanwhile. Each route is changed by one of the
// developers.
func (s *soak) trouble(restarts time.Duration) {
	const developers = 3
	for d := range developers {
		s.every(700*time.Millisecond, "changes by developers", func() {
			s.change(s.routes[d+developers*rand.IntN(len(s.routes)/developers)])
		})
	}
	s.every(restarts/12, "policies swapped", s.swap)
	s.every(restarts/10, "certificates minted again", s.mint)
	s.every(restarts, "Redis restarted", func() {
		s.redis.kill()
		assert.NoError(s.t, s.redis.start())
	})
	s.every(restarts, "PostgreSQL restarted", s.restartPostgres)
}

// restartPostgres ends it, one time as an operator does and one time as a machine
// that fails; it is back when every gateway says that it reaches it.
func (s *soak) restartPostgres() {
	signal := syscall.SIGINT
	if rand.IntN(2) == 0 {
		signal = syscall.SIGQUIT
	}
	s.away.begin()
	s.postgres.stop(signal)
	assert.NoError(s.t, s.postgres.start())
	for i := range s.servers {
		assert.NoError(s.t, until("/readyz", func() error { return s.readiness(i, 200, `"ready":true`) }))
	}
	s.away.end()
}

// watch looks at the gateways' memory and descriptors until the time is over.
func (s *soak) watch(during time.Duration) {
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(min(5*time.Second, during/24)) {
		for i := range s.servers {
			s.seen.sample(i, s.server(i).holds(s.t))
		}
	}
}
