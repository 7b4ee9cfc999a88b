// Package report says of bound routes who can reach them, for people: it reads what
// is known around many routes in a few queries, and makes of each what
// [effective.Access] is.
//
// It decides nothing and trusts the store. What it cannot read is an error, never
// taken for "nobody".
package report

import (
	"context"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// Bounds of what is read for one report.
const (
	// MaxRefusals bounds the refusals of one route, maxRefusals those of all.
	MaxRefusals = 20
	maxRefusals = 2000
	// maxCalled bounds the routes whose callers are read, maxHomes the apps and the
	// spaces whose homes are, maxSiblings the routes of all instances.
	maxCalled   = 50
	maxHomes    = 10_000
	maxSiblings = 5000
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Facts are the time and the policy in force.
	Facts func() effective.Facts
	// NotBound says why requests to a route, host[/path], do not come to the
	// gateway, as the self-test found; "": they do. Nil: nobody knows.
	NotBound func(route string) string
}

// Reporter makes reports. It is safe for concurrent use.
type Reporter struct{ Config }

// New returns a Reporter.
func New(cfg Config) *Reporter { return &Reporter{cfg} }

// A Report is what is known around some bound routes.
type Report struct {
	// Refusals are the last ones of all routes, the newest first.
	Refusals []sightings.Sighting

	reporter *Reporter
	facts    effective.Facts
	siblings map[string]map[route.Route]bool // by instance; nil: not known
	callers  map[string][]effective.Caller   // by binding
	refused  map[string][]effective.Caller
}

// Bare is a report in which nobody has called and no instance's routes are known.
// maxGrants bounds the grants of each route; 0: all are shown.
func (r *Reporter) Bare(maxGrants int) *Report {
	facts := r.Facts()
	facts.MaxGrants = maxGrants
	return &Report{reporter: r, facts: facts}
}

// Read is a report of these routes; callers are those of the first fifty.
func (r *Reporter) Read(ctx context.Context, bound []store.BoundRoute, maxGrants int) (*Report, error) {
	p := r.Bare(maxGrants)
	p.callers, p.refused = map[string][]effective.Caller{}, map[string][]effective.Caller{}
	ids := make([]string, len(bound))
	for i, b := range bound {
		ids[i] = b.ID
	}
	seen := r.Store.Sightings().Fresh(ctx)
	callers, err := seen.Callers(ctx, ids[:min(len(ids), maxCalled)]...)
	if err != nil {
		return nil, err
	}
	for _, one := range callers {
		p.callers[one.Binding] = append(p.callers[one.Binding], Caller(one))
	}
	if p.Refusals, err = seen.Refusals(ctx, min(maxRefusals, len(ids)*MaxRefusals*2), ids...); err != nil {
		return nil, err
	}
	for _, one := range p.Refusals {
		if len(p.refused[one.Binding]) < MaxRefusals {
			p.refused[one.Binding] = append(p.refused[one.Binding], Caller(one))
		}
	}
	if err := p.readSiblings(ctx, bound); err != nil {
		return nil, err
	}
	return p, p.readHomes(ctx, bound)
}

// Caller is a sighting as it is shown.
func Caller(s sightings.Sighting) effective.Caller {
	return effective.Caller{
		App: s.App, Space: s.Space, Org: s.Org, Outcome: s.Outcome, Reason: s.Reason, Method: s.Method, Path: s.Path,
		DecisionID: s.DecisionID, Count: s.Times, First: s.First, Last: s.Last,
	}
}

// readSiblings reads the routes of the instances. Where one cannot be read, those
// of its instance are not known.
func (p *Report) readSiblings(ctx context.Context, bound []store.BoundRoute) error {
	instances := map[string]map[route.Route]bool{}
	filter := store.BindingFilter{}
	for _, b := range bound {
		if instances[b.InstanceID] == nil {
			instances[b.InstanceID] = map[route.Route]bool{}
			filter.InstanceIDs = append(filter.InstanceIDs, b.InstanceID)
		}
	}
	if len(instances) == 0 {
		return nil
	}
	all, total, err := p.reporter.Store.BindingIDs(ctx, filter, store.Page{Number: 1, Size: maxSiblings})
	if err != nil || total > len(all) {
		return err
	}
	for _, one := range all {
		parsed, err := route.Parse(one.Route)
		switch siblings := instances[one.InstanceID]; {
		case err != nil:
			instances[one.InstanceID] = nil
		case siblings != nil:
			siblings[parsed] = true
		}
	}
	p.siblings = instances
	return nil
}

// readHomes reads where the apps and the spaces are that the shown grants name.
func (p *Report) readHomes(ctx context.Context, bound []store.BoundRoute) error {
	named := map[grants.Source]bool{}
	ids := map[grants.Kind][]string{}
	for _, b := range bound {
		access := p.reporter.Store.View().Access(b.ID)
		if access == nil {
			continue
		}
		rules := access.Live(p.facts.Now, p.facts.Site).Rules
		if p.facts.MaxGrants > 0 {
			rules = rules[:min(len(rules), p.facts.MaxGrants)]
		}
		for _, rule := range rules {
			if named[rule.Source] || len(named) == maxHomes {
				continue
			}
			named[rule.Source] = true
			ids[rule.Source.Kind] = append(ids[rule.Source.Kind], rule.Source.ID.String())
		}
	}
	homes, err := p.reporter.Store.Sightings().Homes(ctx, ids[grants.App], ids[grants.Space])
	p.facts.Homes = make(map[string]effective.Home, len(homes))
	for id, home := range homes {
		p.facts.Homes[id] = effective.Home{Space: home.Space, Org: home.Org}
	}
	return err
}

// Of says who can reach one of the routes, with the names that somebody may see.
func (p *Report) Of(b store.BoundRoute, labels display.Labels) effective.Access {
	facts := p.facts
	facts.Labels, facts.Callers, facts.Refusals = labels, p.callers[b.ID], p.refused[b.ID]
	r := effective.Route{
		Binding: b.ID, Bound: b.Route, Owner: b.Instance.Owner, CreatedAt: b.CreatedAt, LastUsed: b.LastUsed,
		Plan: b.Instance.Plan, OfInstance: b.Instance.Parameters.Scope, OfBinding: b.Parameters.Scope,
		Access: p.reporter.Store.View().Access(b.ID), Siblings: p.siblings[b.InstanceID], Others: b.Others, Foreign: b.Foreign, ForOwner: b.OwnersView,
	}
	if p.reporter.NotBound != nil {
		r.NotBound = p.reporter.NotBound(b.Route.String())
	}
	return effective.Of(r, facts)
}
