// Package access answers who can reach a route and why: the effective access of
// each bound route, what would become of a request, and why one was refused.
//
// It reads and changes nothing; whoever may read the API may ask. What it says of
// a request comes from the gateway's own walk, so that it cannot say otherwise. It
// trusts the store and the gateway; what has changed since a decision it names
// rather than explain by what was not in force.
package access

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Policy is the policy in force; nil while there is none.
	Policy func() *rego.Policy
	// Explain is the gateway's.
	Explain func(context.Context, gateway.Question) gateway.Explanation
	// Recorded finds a decision that this gateway has in memory; nil: none.
	Recorded func(decisionID string) (replay.Recorded, bool)
	// NotBound says why requests to a route, host[/path], do not come to the
	// gateway, as the self-test found; "": they do. Nil: nobody knows.
	NotBound func(route string) string
	// Labels are names for operators; nil: none.
	Labels display.Labels
	// Foundation is that of the callers.
	Foundation string
	// BaseURL is the prefix of links: https, a host that serves /v1, no path, no
	// slash at its end.
	BaseURL string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Access answers.
type Access struct{ Config }

// New returns it; see [Access.Add].
func New(cfg Config) *Access {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Access{cfg}
}

// Add adds its endpoints.
func (a *Access) Add(e *envelope.Envelope) {
	e.Handle("/v1/routes", envelope.Methods{http.MethodGet: a.listRoutes})
	e.Handle("/v1/routes/{route...}", envelope.Methods{http.MethodGet: a.showRoute})
	e.Handle("/v1/decisions/{id}", envelope.Methods{http.MethodGet: a.showDecision})
	e.Ask("/v1/decide", a.decide)
}

// WantsText reports whether a client asks for text rather than JSON.
func WantsText(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		switch kind, _, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.ToLower(kind) {
		case "text/plain":
			return true
		case "application/json", "application/*", "*/*":
			return false
		}
	}
	return false
}

// facts are those that are the same for all routes, without callers.
func (a *Access) facts() effective.Facts {
	f := effective.Facts{Now: a.Now(), Labels: a.Labels}
	if policy := a.Policy(); policy != nil {
		f.Site, f.Policy, f.Checks = policy.Site(), policy.Revision(), policy.Checks()
	}
	return f
}

// routeOf is what the store knows of a binding, without the routes beside it.
func (a *Access) routeOf(b store.BoundRoute) effective.Route {
	r := effective.Route{
		Binding: b.ID, Bound: b.Route, Owner: b.Instance.Owner, CreatedAt: b.CreatedAt, LastUsed: b.LastUsed,
		Plan: b.Instance.Plan, OfInstance: b.Instance.Parameters.Scope, OfBinding: b.Parameters.Scope,
		InstanceGrants: b.Instance.Parameters.Allow, BindingGrants: b.Parameters.Allow,
		Access: a.Store.View().Access(b.ID), Others: b.Others,
	}
	if a.NotBound != nil {
		r.NotBound = a.NotBound(b.Route.String())
	}
	return r
}

const maxRefusals = 20

// Of is the whole effective access of a bound route.
func (a *Access) Of(ctx context.Context, b store.BoundRoute) (effective.Access, error) {
	return a.Report(ctx, b, a.Labels)
}

// Report is the same with the names that somebody may see.
func (a *Access) Report(ctx context.Context, b store.BoundRoute, labels display.Labels) (effective.Access, error) {
	r, f := a.routeOf(b), a.facts()
	f.Labels = labels
	siblings, err := a.Store.Bindings(ctx, b.InstanceID)
	if _, other := envelope.Damages(err); other != nil {
		return effective.Access{}, other
	}
	if err == nil { // else one is damaged, and its route is not known
		r.Siblings = []route.Route{}
	}
	for _, sibling := range siblings {
		if r.Siblings != nil {
			r.Siblings = append(r.Siblings, sibling.Route)
		}
	}
	seen := a.Store.Sightings().Fresh(ctx)
	callers, err := seen.Callers(ctx, b.ID)
	if err != nil {
		return effective.Access{}, err
	}
	refusals, err := seen.Refusals(ctx, maxRefusals, b.ID)
	if err != nil {
		return effective.Access{}, err
	}
	f.Callers, f.Refusals = CallersOf(callers), CallersOf(refusals)
	if f.Homes, err = a.homes(ctx, r, f.Site); err != nil {
		return effective.Access{}, err
	}
	return effective.Of(r, f), nil
}

// CallersOf are sightings as they are shown.
func CallersOf(list []sightings.Sighting) []effective.Caller {
	callers := make([]effective.Caller, len(list))
	for i, s := range list {
		callers[i] = effective.Caller{
			App: s.App, Space: s.Space, Org: s.Org, Outcome: s.Outcome, Reason: s.Reason, Method: s.Method, Path: s.Path,
			Count: s.Times, First: s.First, Last: s.Last,
		}
	}
	return callers
}

// homes are those of the apps and spaces that a route's grants name.
func (a *Access) homes(ctx context.Context, r effective.Route, site *grants.Site) (map[string]effective.Home, error) {
	if r.Access == nil {
		return nil, nil
	}
	var apps, spaces []string
	for _, rule := range r.Access.Live(a.Now(), site).Rules {
		id := rule.Source.ID.String()
		if rule.Source.Kind == grants.App {
			apps = append(apps, id)
		}
		if rule.Source.Kind == grants.Space {
			spaces = append(spaces, id)
		}
	}
	found, err := a.Store.Sightings().Homes(ctx, apps, spaces)
	homes := make(map[string]effective.Home, len(found))
	for id, home := range found {
		homes[id] = effective.Home{Space: home.Space, Org: home.Org}
	}
	return homes, err
}
