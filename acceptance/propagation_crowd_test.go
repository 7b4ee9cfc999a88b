package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// revocation is a route that its caller reaches until something is taken back.
type revocation struct {
	kind    string
	service controller.Service
	bound   bound
	// refusal is what the caller hears afterwards.
	refusal string
	// acknowledged is when whoever took it back knew that it was done.
	acknowledged time.Time
	// due is, by gateway, from when on no request may begin that is allowed.
	due []time.Time
	// heard is what the callers heard, by gateway.
	heard []heard
}

// heard are the answers of one gateway on one route. The times are those at
// which the requests began.
type heard struct {
	allowed, refused         int
	lastAllowed, lastRefused time.Time
}

// crowd are callers at every gateway.
type crowd struct {
	c       *cloud
	routes  []*revocation
	stopped atomic.Bool
	calling sync.WaitGroup

	mu    sync.Mutex
	wrong map[string]int
	calls int
	began time.Time
}

// callersEach is how many callers each gateway has.
const callersEach = 2

func startCrowd(c *cloud, routes []*revocation) *crowd {
	w := &crowd{c: c, routes: routes, wrong: map[string]int{}, began: time.Now()}
	c.t.Cleanup(w.end) // also after a failure
	for gateway := range c.servers {
		for range callersEach {
			w.calling.Go(func() {
				for !w.stopped.Load() {
					w.call(gateway, w.routes[rand.IntN(len(w.routes))])
				}
			})
		}
	}
	return w
}

// call is one request; its answer is one of the two that a route may give.
func (w *crowd) call(gateway int, r *revocation) {
	began := time.Now()
	got, err := w.c.reach(w.c.t.Context(), gateway, "frontend", r.bound.Route, r.bound.url)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	h := &r.heard[gateway]
	switch {
	case err != nil:
		w.wrong[err.Error()]++
	case got == allowed:
		h.allowed++
		if began.After(h.lastAllowed) {
			h.lastAllowed = began
		}
	case got == r.refusal:
		h.refused++
		if began.After(h.lastRefused) {
			h.lastRefused = began
		}
	default:
		w.wrong[r.kind+": "+got]++
	}
}

// await waits until it is true of every route at every gateway.
func (w *crowd) await(what string, true func(r *revocation, gateway int) bool) {
	w.c.t.Helper()
	require.NoError(w.c.t, until(what, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.routes {
			for gateway := range r.heard {
				if !true(r, gateway) {
					return fmt.Errorf("%s: %s at gateway %d: %+v", what, r.kind, gateway, r.heard[gateway])
				}
			}
		}
		return nil
	}))
}

func (w *crowd) end() {
	w.stopped.Store(true)
	w.calling.Wait()
}

// judge asserts that nobody was allowed who came too late, and that somebody
// did come.
func (w *crowd) judge() {
	w.c.t.Helper()
	w.await("refused afterwards", func(r *revocation, gateway int) bool { return r.heard[gateway].lastRefused.After(r.due[gateway]) })
	w.end()
	assert.Empty(w.c.t, w.wrong)
	late := map[string][]time.Duration{}
	for _, r := range w.routes {
		for gateway, h := range r.heard {
			assert.False(w.c.t, h.lastAllowed.After(r.due[gateway]), "%s: gateway %d allowed a request that began %s after the last moment, %s after the acknowledgement",
				r.kind, gateway, h.lastAllowed.Sub(r.due[gateway]), h.lastAllowed.Sub(r.acknowledged))
			late[r.kind] = append(late[r.kind], h.lastAllowed.Sub(r.acknowledged).Round(time.Millisecond))
		}
	}
	w.c.t.Logf("%d requests, %.0f a second", w.calls, float64(w.calls)/time.Since(w.began).Seconds())
	for kind, took := range late {
		slices.Sort(took)
		w.c.t.Logf("%s: %d last allowed requests began after the acknowledgement: %s (median), %s (latest)", kind, len(took), took[len(took)/2], took[len(took)-1])
	}
}
