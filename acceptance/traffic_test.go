package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// developers work until the database is away.
type developers struct {
	t       *testing.T
	list    []*developer
	working sync.WaitGroup
}

func startDevelopers(c *cloud, n int) *developers {
	seeds := rand.New(rand.NewPCG(seedOf(c.t), 0))
	working := &developers{t: c.t}
	for range n {
		d := newDeveloper(c.play(c.t), seeds.Uint64())
		working.list = append(working.list, d)
		working.working.Go(d.work)
	}
	c.t.Cleanup(func() { // also after a failure
		for _, d := range working.list {
			d.rest()
		}
		working.working.Wait()
	})
	return working
}

// goOn waits for more changes of each.
func (d *developers) goOn() {
	d.t.Helper()
	for _, one := range d.list {
		before := one.changes.Load()
		require.NoError(d.t, until("changes", func() error {
			if one.changes.Load() < before+3 {
				return fmt.Errorf("%d changes", one.changes.Load())
			}
			return nil
		}))
	}
}

// check asserts of each that nothing was lost and nothing invented.
func (d *developers) check() {
	d.t.Helper()
	d.working.Wait()
	for _, one := range d.list {
		one.check()
		one.leave()
	}
}

// apps call a route at every gateway, one request after the other.
type apps struct {
	t       *testing.T
	stopped atomic.Bool
	calls   []atomic.Int64
	running sync.WaitGroup
	mu      sync.Mutex
	wrong   map[string]int
}

func startApps(c *cloud, b bound) *apps {
	return startCallers(c.t, len(c.servers), func(gateway int) (string, error) {
		return c.reach(c.t.Context(), gateway, "frontend", b.Route, b.url)
	})
}

// startCallers starts so many that call until they are stopped; every call should
// be allowed.
func startCallers(t *testing.T, callers int, call func(caller int) (string, error)) *apps {
	a := &apps{t: t, wrong: map[string]int{}, calls: make([]atomic.Int64, callers)}
	t.Cleanup(a.end) // also after a failure
	for i := range callers {
		a.running.Go(func() {
			for !a.stopped.Load() {
				got, err := call(i)
				if err != nil || got != allowed {
					a.mu.Lock()
					a.wrong[fmt.Sprint(got, " ", err)]++
					a.mu.Unlock()
				}
				a.calls[i].Add(1)
			}
		})
	}
	return a
}

// goOn waits for more calls of each.
func (a *apps) goOn() {
	a.t.Helper()
	for i := range a.calls {
		before := a.calls[i].Load()
		require.NoError(a.t, until("calls", func() error {
			if a.calls[i].Load() < before+20 {
				return fmt.Errorf("caller %d hears no answers", i)
			}
			return nil
		}))
	}
}

// stop asserts that every call went through.
func (a *apps) stop() {
	a.t.Helper()
	a.end()
	assert.Empty(a.t, a.wrong)
}

func (a *apps) end() {
	a.stopped.Store(true)
	a.running.Wait()
}
