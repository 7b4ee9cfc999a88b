package cache_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// BenchmarkLocalHit is what a remembered decision costs; the target is 2 µs and
// 2 allocations.
func BenchmarkLocalHit(b *testing.B) {
	c := newCache(b, cache.Config{})
	r := request(policy(b, readsPath), access(b, 7, allowFrontend), "/api/v1/orders/17", time.Now())
	c.decides(b, r, true, rego.Miss)
	c.decides(b, r, true, rego.Local)
	b.ReportAllocs()
	for b.Loop() {
		if decision, err := c.Decide(b.Context(), r); err != nil || !decision.Allow {
			b.Fatal(decision, err)
		}
	}
	b.StopTimer()
	c.decides(b, r, true, rego.Local)
}

// BenchmarkSharedHit is a decision from Redis on loopback.
func BenchmarkSharedHit(b *testing.B) {
	server, p, a := startRedis(b), policy(b, ""), access(b, 7, allowFrontend)
	r := request(p, a, "/api/v1/orders/17", start)
	newInstance(b, server, macKey, cache.Config{}).decides(b, r, true, rego.Miss)
	stored(b, server, r)
	// A life of a nanosecond: nothing is found in memory.
	i, hits := newInstance(b, server, macKey, cache.Config{TTL: 1}), 0
	b.ReportAllocs()
	for b.Loop() {
		decision, err := i.Decide(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		if decision.Cache == rego.Shared { // else a busy machine took longer than a request waits
			hits++
		}
	}
	b.ReportMetric(100*float64(hits)/float64(b.N), "%hits")
}

// BenchmarkMAC is what the MAC adds to a shared hit, and to a write.
func BenchmarkMAC(b *testing.B) {
	shared := offline(b)
	decision := rego.Decision{Allow: true}
	value := cache.Seal(shared, cache.Key{1}, decision, start)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok := cache.Open(shared, cache.Key{1}, value); !ok {
				b.Fatal("bad MAC")
			}
		}
	})
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cache.Seal(shared, cache.Key{1}, decision, start)
		}
	})
}

// traffic is a Zipf mix of 10,000 callers, 1,000 routes and 100,000 paths, the
// same in every run. Of ten routes seven allow apps, two a space, and one has
// paths as well.
func traffic(b *testing.B, p *rego.Policy, n int) []*rego.Request {
	random := rand.New(rand.NewPCG(1, 2))
	zipf := func(most uint64) *rand.Zipf { return rand.NewZipf(random, 1.1, 1, most-1) }
	callers, routes, paths := zipf(10_000), zipf(1_000), zipf(100_000)
	lives := make([]*grants.Live, 1_000)
	for i := range lives {
		allow := allowFrontend
		switch i % 10 {
		case 7, 8:
			allow = `["cf:space:` + shop + `"]`
		case 9:
			allow = `["cf:app:` + frontend + `",{"source":"cf:org:` + acme + `","paths":["/api/**"]}]`
		}
		a := access(b, int64(i), allow)
		a.Binding = fmt.Sprintf("b-%d", i)
		lives[i] = a.Live(start, p.Site())
	}
	list := make([]*rego.Request, n)
	for i := range list {
		path := fmt.Sprintf("/api/orders/%d", paths.Uint64())
		app := identity.GUID{0: 1}
		number := callers.Uint64()
		binary.BigEndian.PutUint64(app[8:], number)
		list[i] = &rego.Request{
			Policy: p, Live: lives[routes.Uint64()], Method: "GET", Host: "backend.apps.identity", Path: path, Segments: route.Segments(path), Now: start,
			Caller: identity.Caller{Foundation: "local", App: app, Space: guid(shop), Org: guid(acme), Instance: fmt.Sprintf("i-%d", number)},
		}
	}
	return list
}

// BenchmarkHitRatio compares keys of what the policy reads with keys of the
// whole request. Nothing ends meanwhile.
func BenchmarkHitRatio(b *testing.B) {
	for _, test := range []struct{ name, body string }{{"derived", ""}, {"check-of-method", `allow if input.request.method != "DELETE"`}, {"whole-request", readsAll}} {
		b.Run(test.name, func(b *testing.B) {
			requests := traffic(b, policy(b, test.body), 50_000)
			hits, all := 0, 0
			for b.Loop() {
				c := newCache(b, cache.Config{Now: func() time.Time { return start }})
				for _, r := range requests {
					decision, err := c.Decide(b.Context(), r)
					if err != nil {
						b.Fatal(err)
					}
					all++
					if decision.Cache == rego.Local {
						hits++
					}
				}
			}
			b.ReportMetric(100*float64(hits)/float64(all), "%hits")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(all), "ns/decision")
		})
	}
}

// BenchmarkThroughput is the same policies without a cache, with a cold one,
// with what another instance left in Redis, and with what is in memory.
func BenchmarkThroughput(b *testing.B) {
	server := startRedis(b)
	for _, test := range []struct{ name, body string }{{"built-in", ""}, {"dear", "allow if { l := [0,1,2,3,4,5,6,7,8,9]; count([1 | l[_]; l[_]; l[_]]) == 1000; input.request.path != \"/never\" }"}} {
		p := policy(b, test.body)
		requests := traffic(b, p, 20_000)
		run := func(name string, decide func(*rego.Request) (rego.Decision, error)) {
			b.Run(test.name+"/"+name, func(b *testing.B) {
				var n, hits atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						decision, err := decide(requests[int(n.Add(1))%len(requests)])
						if err != nil {
							b.Error(err)
						}
						if decision.Cache > rego.Miss {
							hits.Add(1)
						}
					}
				})
				b.ReportMetric(100*float64(hits.Load())/float64(b.N), "%hits")
			})
		}
		through := func(c *cache.Cache) func(*rego.Request) (rego.Decision, error) {
			return func(r *rego.Request) (rego.Decision, error) { return c.Decide(b.Context(), r) }
		}
		ended, kept := cache.Config{TTL: 1, DenyTTL: 1}, cache.Config{TTL: time.Hour, DenyTTL: time.Hour}
		run("no-cache", func(r *rego.Request) (rego.Decision, error) { return p.Decide(b.Context(), r) })
		run("cold", through(newCache(b, ended).Cache)) // what is remembered has ended at once
		writer := running(b, newInstanceOf(b, server.client(b), macKey, kept))
		for _, r := range requests {
			_, err := writer.Decide(b.Context(), r)
			require.NoError(b, err)
		}
		run("warm-shared", through(running(b, newInstanceOf(b, server.client(b), macKey, ended)).Cache))
		warm := newCache(b, kept)
		for _, r := range requests {
			_, err := warm.Decide(b.Context(), r)
			require.NoError(b, err)
		}
		run("warm-local", through(warm.Cache))
	}
}
