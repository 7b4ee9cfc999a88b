// Package unbound keeps which routes were found not to be bound in the router: the
// broker was told that the gateway stands before them, and the router sends their
// requests to the app all the same.
//
// It trusts the probes. It is for people: nothing is decided by it.
package unbound

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
)

// maxRoutes bounds what is kept.
const maxRoutes = 1000

// Routes are those found, by binding. It is safe for concurrent use. Create it
// with [New].
type Routes struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	found map[string]finding
}

type finding struct {
	target place.Target
	place  place.Place
	since  time.Time
}

// New returns a Routes that tells a log of what is found, and of what has ended.
func New(log *slog.Logger, now func() time.Time) *Routes {
	return &Routes{log: log, now: now, found: map[string]finding{}}
}

// Found notes that the app itself has answered a probe.
func (r *Routes) Found(p place.Place, target place.Target, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.found[target.Binding]; known || len(r.found) >= maxRoutes {
		return
	}
	r.found[target.Binding] = finding{target, p, r.now()}
	r.log.Warn("router self-test: a route is not bound in the router", slog.String("route", target.String()),
		slog.String("binding", target.Binding), slog.String("reason", reason.Error()))
}

// Ended notes that the gateway has answered a probe.
func (r *Routes) Ended(target place.Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.found[target.Binding]; known {
		delete(r.found, target.Binding)
		r.log.Info("router self-test: the route is bound in the router", slog.String("route", target.String()), slog.String("binding", target.Binding))
	}
}

// At returns one of those at a place, nil if there is none.
func (r *Routes) At(p place.Place) *place.Target {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.found {
		if f.place == p {
			return &f.target
		}
	}
	return nil
}

// Bindings are those of the routes found.
func (r *Routes) Bindings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	bindings := make([]string, 0, len(r.found))
	for binding := range r.found {
		bindings = append(bindings, binding)
	}
	return bindings
}

// Why says of a route, host[/path], that it was found not to be bound in the router;
// "": it was not found, here.
func (r *Routes) Why(route string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.found {
		if f.target.IsOf(route) {
			return f.why()
		}
	}
	return ""
}

func (f finding) why() string {
	return fmt.Sprintf("not bound in the router since %s or before: whoever calls it goes around the gateway; cf bind-route-service", f.since.UTC().Format(time.RFC3339))
}

// Keep forgets the routes whose bindings are not kept.
func (r *Routes) Keep(kept func(binding string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.found, func(binding string, _ finding) bool { return !kept(binding) })
}

// Notes say of each what is wrong, and what to do about it.
func (r *Routes) Notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := make([]string, 0, len(r.found))
	for _, f := range r.found {
		notes = append(notes, fmt.Sprintf("route %s: %s", f.target.String(), f.why()))
	}
	return notes
}
