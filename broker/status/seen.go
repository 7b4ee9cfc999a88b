package status

import (
	"context"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// Bounds of what a status says of callers: Cloud Controller passes it on as a
// whole.
const (
	maxDenialsShown = 20 // of the instance
	maxCallersShown = 5  // of each route
	maxRoutesSeen   = 50 // of which callers are shown
	maxRoutesRead   = 1000
	maxHomes        = 1000
)

// callerStatus is a caller of a route with an outcome.
type callerStatus struct {
	// App, Space and Org are guids; "": nobody was verified.
	App   string `json:"app"`
	Space string `json:"space"`
	Org   string `json:"org"`
	// Name is org/space/app, if it is in the own org.
	Name    string    `json:"name,omitempty"`
	Outcome string    `json:"outcome"`
	Count   int64     `json:"count"`
	Last    time.Time `json:"last_at"`
}

// denialStatus are requests that were refused alike.
type denialStatus struct {
	callerStatus
	Route  string `json:"route"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// known is who has called the routes of an instance, and where callers are.
type known struct {
	callers map[string][]callerStatus // by binding
	denials []denialStatus
	homes   map[string]effective.Home
}

func callerOf(s sightings.Sighting, labels display.Labels) callerStatus {
	return callerStatus{s.App, s.Space, s.Org, labels.App(s.App), s.Outcome, s.Times, s.Last}
}

// known reads it. Without it, the status is what it is: nil.
func (b *Reporter) known(ctx context.Context, instance store.Instance, bindings []store.Binding) *known {
	k := &known{callers: map[string][]callerStatus{}, denials: []denialStatus{}, homes: map[string]effective.Home{}}
	routes, ids := map[string]string{}, []string{}
	for _, binding := range bindings[:min(len(bindings), maxRoutesRead)] {
		routes[binding.ID] = binding.Route.String()
		ids = append(ids, binding.ID)
	}
	seen, labels := b.Store.Sightings().Fresh(ctx), b.Labels.Within(instance.Owner.Org)
	refusals, err := seen.Refusals(ctx, maxDenialsShown, ids...)
	if err == nil {
		err = b.addCallers(ctx, k, labels, ids[:min(len(ids), maxRoutesSeen)])
	}
	if err == nil {
		err = b.addHomes(ctx, k, instance, bindings)
	}
	if err != nil {
		b.Log.Warn("broker: who has called is not known", slog.String("error", err.Error()))
		return nil
	}
	for _, s := range refusals {
		k.denials = append(k.denials, denialStatus{callerOf(s, labels), routes[s.Binding], s.Method, s.Path, s.Reason})
	}
	return k
}

func (b *Reporter) addCallers(ctx context.Context, k *known, labels display.Labels, ids []string) error {
	callers, err := b.Store.Sightings().Callers(ctx, ids...)
	for _, s := range callers {
		if len(k.callers[s.Binding]) < maxCallersShown {
			k.callers[s.Binding] = append(k.callers[s.Binding], callerOf(s, labels))
		}
	}
	return err
}

func (b *Reporter) addHomes(ctx context.Context, k *known, instance store.Instance, bindings []store.Binding) error {
	var apps, spaces []string
	add := func(list []grants.Grant) {
		for _, grant := range list {
			switch id := grant.Source.ID.String(); {
			case grant.Source.Kind == grants.App && len(apps) < maxHomes:
				apps = append(apps, id)
			case grant.Source.Kind == grants.Space && len(spaces) < maxHomes:
				spaces = append(spaces, id)
			}
		}
	}
	add(instance.Parameters.Allow)
	for _, binding := range bindings {
		add(binding.Parameters.Allow)
	}
	homes, err := b.Store.Sightings().Homes(ctx, apps, spaces)
	for id, home := range homes {
		k.homes[id] = effective.Home{Space: home.Space, Org: home.Org}
	}
	return err
}
