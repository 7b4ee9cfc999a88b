package native

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// Import turns route policies into grants.
type Import struct {
	// CLI is asked where routes are bound; nil: only what needs no asking can be
	// imported.
	CLI *cf.CLI
	// Instance is the service instance that gets all of them; "": each route's own.
	Instance string
	// Progress hears of long work, in lines.
	Progress io.Writer
}

// A Plan is what each service instance gets.
type Plan struct {
	targets []*target // in the order in which they came
	// missing are routes that are bound to nothing.
	missing []string
}

// target is a service instance with what it gets.
type target struct {
	cf.Instance
	// given: somebody named it, so that nothing of it was asked.
	given bool
	// alone: the instance has one route, which a grant need not name.
	alone bool
	// has are its grants; already counts the policies that they make needless.
	has     []grants.Grant
	already int
	sources []grants.Source
	routes  map[grants.Source][]route.Route
}

// Plan finds out where the routes are bound, and what is allowed there already.
func (i Import) Plan(ctx context.Context, policies []Policy) (*Plan, error) {
	if i.Instance != "" {
		return i.oneTarget(ctx, policies)
	}
	plan, into := &Plan{}, map[string]*target{}
	guids, err := i.locate(ctx, policies)
	if err != nil {
		return nil, err
	}
	bound, err := i.CLI.BoundTo(ctx, slices.Compact(slices.Sorted(slices.Values(guids)))...)
	if err != nil {
		return nil, err
	}
	for at, p := range policies {
		i.tell(at, len(policies))
		to, ok := bound[guids[at]]
		if !ok {
			plan.missing = append(plan.missing, p.name())
			continue
		}
		if into[to.Instance] == nil {
			if into[to.Instance], err = i.ask(ctx, to.Instance); err != nil {
				return nil, fmt.Errorf("service of route %s: %w", to.Route, err)
			}
			plan.targets = append(plan.targets, into[to.Instance])
		}
		into[to.Instance].add(p.Source, to.Route)
	}
	return plan, nil
}

// tell says how far it is, now and then.
func (i Import) tell(done, total int) {
	const often = 50
	if done > 0 && done%often == 0 {
		fmt.Fprintf(i.Progress, "%d of %d route policies\n", done, total)
	}
}

// oneTarget takes all to one service instance, of which nothing is asked.
func (i Import) oneTarget(ctx context.Context, policies []Policy) (*Plan, error) {
	to := &target{Instance: cf.Instance{Name: i.Instance}, given: true, routes: map[grants.Source][]route.Route{}}
	urls := map[string]string{}
	for at, p := range policies {
		i.tell(at, len(policies))
		if p.URL == "" {
			p.URL = urls[p.RouteGUID]
		}
		if p.URL == "" {
			if i.CLI == nil {
				return nil, fmt.Errorf("route %s has no name: ask with include=route", p.RouteGUID)
			}
			var err error
			if p.URL, err = i.CLI.RouteURL(ctx, p.RouteGUID); err != nil {
				return nil, err
			}
			urls[p.RouteGUID] = p.URL
		}
		parsed, err := route.Parse(p.URL)
		if err != nil {
			return nil, err
		}
		to.add(p.Source, parsed)
	}
	return &Plan{targets: []*target{to}}, nil
}

// locate returns the guids of the policies' routes.
func (i Import) locate(ctx context.Context, policies []Policy) ([]string, error) {
	guids, spots := make([]string, len(policies)), map[cf.Spot]bool{}
	for at, p := range policies {
		if guids[at] = p.RouteGUID; p.RouteGUID == "" {
			spots[p.spot()] = true
		}
	}
	found, err := i.CLI.Find(ctx, slices.Collect(maps.Keys(spots))...)
	for at, p := range policies {
		if guids[at] == "" {
			guids[at] = found[p.spot()]
		}
	}
	return guids, err
}

func (p Policy) spot() cf.Spot { return cf.Spot{Domain: p.Domain, Host: p.Hostname, Path: p.Path} }

// name is the route for people.
func (p Policy) name() string { return cmp.Or(p.URL, p.RouteGUID) }

// ask finds out what an instance has.
func (i Import) ask(ctx context.Context, guid string) (*target, error) {
	in, err := i.CLI.Instance(ctx, guid)
	if err != nil {
		return nil, err
	}
	to := &target{Instance: in, routes: map[grants.Source][]route.Route{}}
	routes, err := i.CLI.RoutesOf(ctx, in)
	if err != nil {
		return nil, err
	}
	to.alone = len(routes) == 1
	raw, err := i.CLI.Parameters(ctx, in)
	if err != nil {
		return nil, err
	}
	var shown struct {
		Allow []json.RawMessage `json:"allow"`
	}
	if err := json.Unmarshal(raw, &shown); err != nil {
		return nil, fmt.Errorf("parameters of %q: %w", in.Name, mistake.OfJSON(err, "the parameters"))
	}
	if to.has, err = grants.ParseList("allow", shown.Allow); err != nil {
		return nil, fmt.Errorf("parameters of %q: %w; is this command as new as the gateway?", in.Name, err)
	}
	return to, nil
}

// add allows a source on a route, where it is not allowed already.
func (t *target) add(source grants.Source, on route.Route) {
	if slices.ContainsFunc(t.has, func(g grants.Grant) bool { return g.Source == source && conditions(g) == "" && appliesTo(g, on) }) {
		t.already++
		return
	}
	if !slices.Contains(t.sources, source) {
		t.sources = append(t.sources, source)
	}
	if !slices.Contains(t.routes[source], on) {
		t.routes[source] = append(t.routes[source], on)
	}
}

func appliesTo(g grants.Grant, on route.Route) bool {
	return g.Terms == nil || g.Terms.Routes == nil || slices.Contains(g.Terms.Routes, on)
}
