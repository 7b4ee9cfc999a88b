package selftest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/grants"
)

const (
	// sweepEvery is how often the routine looks for what is due, maxSweep how much
	// of that it begins at once: fifty rounds a second renew 15,000 verdicts within
	// their life, and are no storm. maxAtOnce bounds those under way.
	sweepEvery = time.Second
	maxSweep   = 50
	maxAtOnce  = 32
	// indexEvery is how often the bound routes are looked through.
	indexEvery = 5 * time.Second
	// listenEvery is how often alarms of others are listened for.
	listenEvery = 2 * time.Second
)

// Run probes every domain of the bound routes at once and then every minute,
// listens to other instances and tells them, until ctx ends.
func (t *SelfTest) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	t.listen(ctx, true)
	t.reindex()
	running.Go(func() { every(ctx, listenEvery, func() { t.listen(ctx, false); t.flush(ctx) }) })
	running.Go(func() { every(ctx, indexEvery, t.reindex) })
	turns := make(chan struct{}, maxAtOnce)
	sweep := func() {
		for _, s := range t.due() {
			select {
			case turns <- struct{}{}:
			default:
				return // the rest comes later
			}
			running.Go(func() {
				defer func() { <-turns }()
				_, _, _ = t.flight.Do(s.place.String(), func() (any, error) {
					t.judge(ctx, s, request{})
					return nil, nil
				})
			})
		}
	}
	sweep()
	every(ctx, sweepEvery, sweep)
}

// every calls f at each tick until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// due are the places whose turn it is, the longest overdue first. Those that are
// only asked for, such as domains deep below wildcards, are not among them.
func (t *SelfTest) due() []*state {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.Now()
	var due []*state
	for p, s := range t.states {
		if t.index.Has(p) && !now.Before(s.routine.next) {
			due = append(due, s)
		}
	}
	slices.SortFunc(due, func(a, b *state) int { return a.routine.next.Compare(b.routine.next) })
	due = due[:min(len(due), maxSweep)]
	for _, s := range due {
		s.routine.next = now.Add(probeTimeout + sweepEvery) // until its round says otherwise
	}
	return due
}

// reindex looks through the bound routes, and forgets what is bound no more.
func (t *SelfTest) reindex() {
	index, bound := place.NewIndex(t.Router.Address), t.watched()
	t.Bound(func(access *grants.Access) bool {
		index.Add(access)
		if _, ok := bound[access.Binding]; ok {
			bound[access.Binding] = true
		}
		return true
	})
	if index.Routes == 0 {
		index.AddTarget(place.Target{Host: t.Host})
		bound[""] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.index = index
	for _, p := range index.Places() {
		if t.states[p] == nil {
			t.states[p] = &state{place: p}
		}
	}
	for p, s := range t.states {
		if !index.Has(p) && !t.stands(s.verdict) && t.Now().Sub(s.onDemand.next) > verdictLife {
			delete(t.states, p)
		}
		if s.last != nil && !bound[s.last.Binding] {
			s.last = nil
		}
		if s.suspect != nil && !bound[s.suspect.Binding] {
			s.suspect = nil
		}
	}
	t.unbound.Keep(func(binding string) bool { return bound[binding] })
}

// watched are the bindings of which something is kept.
func (t *SelfTest) watched() map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	watched := map[string]bool{}
	for _, s := range t.states {
		for _, target := range []*place.Target{s.last, s.suspect} {
			if target != nil {
				watched[target.Binding] = false
			}
		}
	}
	for _, binding := range t.unbound.Bindings() {
		watched[binding] = false
	}
	return watched
}

// soon is a moment within the next few seconds: what all instances hear at once
// they do not all look into at once.
func (t *SelfTest) soon() time.Time {
	return t.Now().Add(rand.N(5 * time.Second)) //nolint:gosec // no secret
}
