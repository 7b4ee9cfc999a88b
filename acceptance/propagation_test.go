package acceptance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// freezer is the bundle of these gateways: Go knows nothing of what it refuses,
// so a decision that is remembered too long shows.
const freezer = `package site.check.freezer
import rego.v1
default allow := false
allow if {
	not input.route.labels.closed
	not data.site.frozen[input.route.host]
}
`

// A revoke is in force at once where it was made and within a second elsewhere,
// whatever becomes of Redis and whoever holds it. A bundle comes to each gateway
// by itself: there, from when it says so on.
//
// This test has the machine for itself: the second is the gateways', not what
// other tests leave of it.
func TestARevokeIsInForceHereAtOnceAndElsewhereWithinASecond(t *testing.T) {
	redis := startRedis(t)
	cluster, bundle := threeGateways(t, redis)
	rounds := 1
	if heavy {
		rounds = 10
	}
	for round := range rounds {
		for _, state := range []struct {
			name string
			// begin returns what must be true in the end.
			begin func(p *propagation) (end func())
		}{
			{"up", func(*propagation) func() { return func() {} }},
			{"lying", func(p *propagation) func() { return p.lie(redis) }},
			{"down", func(p *propagation) func() { return p.kill(redis) }},
		} {
			t.Run(fmt.Sprintf("Redis is %s, %d", state.name, round+1), func(t *testing.T) {
				if redis.process == nil {
					require.NoError(t, redis.start())
				}
				require.NoError(t, redis.FlushAll(t.Context()).Err())
				p := &propagation{cloud: cluster.play(t), bundle: bundle}
				p.prepare()
				end := state.begin(p)
				p.revoke()
				end()
				p.crowd.judge()
			})
		}
	}
}

// threeGateways have one database, one Redis and one bundle. They remember
// little themselves, so that Redis is asked often.
func threeGateways(t *testing.T, redis *redisServer) (*cluster, *liveBundle) {
	t.Helper()
	server, err := sharedPostgres()
	require.NoError(t, err)
	database, err := server.newDatabase()
	require.NoError(t, err)
	bundle := newLiveBundle(t, freezer, frozen())
	c, err := newCluster(t.TempDir(), server.url(database), 3, "POLICY_BUNDLE="+bundle.dir, "POLICY_POLL_INTERVAL=10m",
		"REDIS_URL="+redis.url(), "CACHE_SHARED=always", "CACHE_ENTRIES=16", "CACHE_BYTES=4800", "CACHE_DENY_TTL=60s")
	t.Cleanup(func() { require.NoError(t, c.close()) })
	require.NoError(t, err)
	return c, bundle
}

// propagation are revokes under load.
type propagation struct {
	*cloud
	crowd  *crowd
	bundle *liveBundle
	// frozen are the hosts that the bundle refuses.
	frozen []string
}

// kinds are what is revoked, in turns; the refusals afterwards.
var kinds = []struct{ name, refusal string }{
	{"update-service: grant", noMatch},
	{"unbind", unbound},
	{"bundle", closedByPolicy},
	{"update-service: label", closedByPolicy},
	{"unbind", unbound},
	{"bundle", closedByPolicy},
}

const closedByPolicy = "403 policy_denied"

// revokes are how many there are in each state of Redis.
const revokes = 36

// prepare makes the routes, and waits until every gateway allows and remembers.
func (p *propagation) prepare() {
	p.t.Helper()
	asked := make([]float64, len(p.servers))
	for i := range p.servers {
		asked[i] = p.server(i).metric(p.t, fromRedis)
	}
	shared := p.at(p.t, 0).created(onlyFrontend)
	var routes []*revocation
	for i := range revokes {
		kind, there := kinds[i%len(kinds)], p.at(p.t, i%len(p.servers))
		s := shared
		if strings.HasPrefix(kind.name, "update-service") {
			s = there.created(onlyFrontend)
		}
		routes = append(routes, &revocation{
			kind: kind.name, refusal: kind.refusal, service: s, bound: there.bound(s, ""), heard: make([]heard, len(p.servers)), due: make([]time.Time, len(p.servers)),
		})
	}
	p.soon(routes[revokes-1].bound, allowed, noMatch) // and with it all that was made before
	p.crowd = startCrowd(p.cloud, routes)
	p.crowd.await("allowed", func(r *revocation, gateway int) bool { return r.heard[gateway].allowed >= 3 })
	for i := range p.servers {
		require.NoError(p.t, until("allowed from Redis", func() error {
			if p.server(i).metric(p.t, fromRedis) == asked[i] {
				return errors.New("none")
			}
			return nil
		}))
	}
}

// The metrics that tell what came from Redis, and what was refused there.
const (
	fromRedis = `mtls_authz_cache_lookups_total{tier="shared"}`
	refusals  = "mtls_authz_cache_bad_macs_total"
)

// revoke takes back what each route had, one after the other, at each gateway in
// turn; the bundle changes in the midst of it.
func (p *propagation) revoke() {
	p.t.Helper()
	var byBundle []*revocation
	for _, r := range p.crowd.routes {
		if r.kind == "bundle" {
			byBundle = append(byBundle, r)
		}
	}
	for i, r := range p.crowd.routes {
		if i == revokes/2 {
			p.freeze(byBundle)
		}
		if r.kind != "bundle" {
			p.change(r, i%len(p.servers))
		}
	}
	var last time.Time
	for _, r := range p.crowd.routes {
		last = slices.MaxFunc(append(r.due, last), time.Time.Compare)
	}
	time.Sleep(time.Until(last.Add(200 * time.Millisecond))) // what comes too late must have its time to come
}

// change revokes at one gateway as Cloud Controller does.
func (p *propagation) change(r *revocation, gateway int) {
	p.t.Helper()
	ctx, there := p.t.Context(), p.at(p.t, gateway)
	var answer *controller.Answer
	var err error
	switch r.kind {
	case "unbind":
		answer, err = there.UnbindRoute(ctx, r.bound.Binding)
	case "update-service: label": // which only the policy understands
		answer, err = there.UpdateService(ctx, r.service, controller.Change{Parameters: given(`{"labels":{"closed":"yes"}}`)})
	default:
		answer, err = there.UpdateService(ctx, r.service, controller.Change{Parameters: given(onlyMonitoring)})
	}
	acknowledged := time.Now()
	there.is(200)(answer, err)
	p.crowd.mu.Lock()
	defer p.crowd.mu.Unlock()
	r.acknowledged = acknowledged
	for i := range r.due {
		r.due[i] = acknowledged.Add(time.Second)
	}
	r.due[gateway] = acknowledged
}

// freeze revokes by a bundle, and notes from when on each gateway says that it
// is in force.
func (p *propagation) freeze(routes []*revocation) {
	p.t.Helper()
	for _, r := range routes {
		p.frozen = append(p.frozen, r.bound.Route)
	}
	before := make([]string, len(p.servers))
	for i := range p.servers {
		var err error
		before[i], err = p.server(i).revision()
		require.NoError(p.t, err)
	}
	complete := p.bundle.put(p.t, "data.json", frozen(p.frozen...))
	said, problems := make([]time.Time, len(p.servers)), make([]error, len(p.servers))
	var asking sync.WaitGroup
	for i := range p.servers {
		asking.Go(func() { said[i], problems[i] = p.server(i).awaitRevision(before[i]) })
	}
	asking.Wait()
	require.NoError(p.t, errors.Join(problems...))
	p.crowd.mu.Lock()
	defer p.crowd.mu.Unlock()
	for _, r := range routes {
		r.acknowledged = complete
		copy(r.due, said)
	}
	for i := range said {
		p.t.Logf("gateway %d: the bundle is in force %s after its file was complete", i, said[i].Sub(complete).Round(time.Millisecond))
	}
}

// lie has somebody lie in Redis, which every gateway must notice.
func (p *propagation) lie(redis *redisServer) (end func()) {
	p.t.Helper()
	before := make([]float64, len(p.servers))
	for i := range p.servers {
		before[i] = p.server(i).metric(p.t, refusals)
	}
	l := startLiar(p.t, redis)
	return func() {
		for i := range p.servers {
			assert.NoError(p.t, until("a lie that is noticed", func() error {
				if p.server(i).metric(p.t, refusals) == before[i] {
					return fmt.Errorf("none by gateway %d", i)
				}
				return nil
			}))
		}
		p.t.Logf("%d entries were put back %d times", len(l.seen), l.rounds.Load())
	}
}

// kill ends Redis, which every gateway must notice.
func (p *propagation) kill(redis *redisServer) (end func()) {
	redis.kill()
	return func() {
		for i := range p.servers {
			assert.NoError(p.t, until("a note", func() error { return p.readiness(i, http.StatusOK, "redis: ") }))
		}
	}
}

// frozen is data.json with hosts that are frozen.
func frozen(hosts ...string) string {
	set := map[string]bool{}
	for _, host := range hosts {
		set[host] = true
	}
	text, _ := json.Marshal(map[string]any{"site": map[string]any{"frozen": set}}) // nothing in it can fail
	return string(text)
}
