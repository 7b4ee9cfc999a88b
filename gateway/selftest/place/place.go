// Package place knows where there is something to prove: the domains of the bound
// routes, each behind a router and for each space, and where in them a probe can go.
//
// It trusts the bindings, and the operator's word which router serves a host. It
// fails closed: a host is in the narrowest domain that a router may have settings
// for, and a probe goes nowhere but to hosts of bound routes.
package place

import (
	"crypto/rand"
	lot "math/rand/v2"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Place is a domain behind a router, for the routes of one space: what a verdict
// is about. Whoever owns a route can make its probes end at an app of his own, by
// routes next to it, and there relay, spoil or delay them: so what they prove, and
// that they fail, holds for routes of that space alone.
type Place struct {
	Domain string
	// Router is its address, host:port.
	Router string
	// Space is zero for the gateway's own route.
	Space identity.GUID
}

// String names the place for people.
func (p Place) String() string {
	text := p.Domain + " through " + p.Router
	if !p.Space.IsZero() {
		text += " for routes of space " + p.Space.String()
	}
	return text
}

// OfAll is the place without the space.
func (p Place) OfAll() Place { return Place{Domain: p.Domain, Router: p.Router} }

// A Target is where a probe goes: a host of a bound route, and the path at which
// the route begins. Without a binding it is the gateway's own route.
type Target struct {
	Binding, Host, Path string
	// Space is the route's.
	Space identity.GUID
}

// String is the route as people write it.
func (t Target) String() string { return t.Host + t.Path }

// IsOf reports whether the target was made for a route, host[/path]: it is at the
// route, or at a host that was made up for its wildcard.
func (t Target) IsOf(route string) bool {
	host := t.Host
	if below, wildcard := strings.CutPrefix(route, "*."); wildcard && strings.HasPrefix(host, anyPrefix) {
		_, parent, _ := strings.Cut(host, ".")
		route, host = below, parent
	}
	path, same := strings.CutPrefix(route, host)
	return same && path == t.Path
}

// Domain is what comes after a host's first label: what a router's settings by
// domain, "*." and a domain, can tell from others. A host of two labels or fewer
// is a domain by itself: its parent would be a top-level domain, which many share
// who have nothing in common.
func Domain(host string) string {
	_, parent, _ := strings.Cut(host, ".")
	if !strings.Contains(parent, ".") {
		return host
	}
	return parent
}

// Of is where a host of a space's route is.
func Of(space identity.GUID, host string, address func(host string) string) Place {
	return Place{Domain: Domain(host), Router: address(host), Space: space}
}

// IsBelow reports whether a host lies deeper than one label below the wildcard of
// a route. Such a domain has settings of its own perhaps, and its name is whatever
// a client asks for.
func IsBelow(bound *grants.Access, host string) bool {
	return bound.Route.IsWildcard() && Domain(host) != bound.Route.Host[2:]
}

// TargetFor is where a probe goes on behalf of a request for a host of a bound
// route. Of a wildcard it is a host that nobody else has, so that no other route
// is in its way; or the host itself where the other has another router or domain.
func TargetFor(bound *grants.Access, host string, address func(host string) string) Target {
	if bound.Route.IsWildcard() {
		_, parent, _ := strings.Cut(host, ".")
		if any := anyLabel() + "." + parent; Of(bound.Owner.Space, any, address) == Of(bound.Owner.Space, host, address) {
			host = any
		}
	}
	return Target{bound.Binding, host, bound.Route.Path, bound.Owner.Space}
}

// anyPrefix begins the labels that are made up.
const anyPrefix = "probe-"

func anyLabel() string { return anyPrefix + strings.ToLower(rand.Text()) }

const (
	// maxTargets is how many of a place's routes are kept, drawn by lot.
	maxTargets = 8
	// MaxPlaces bounds what is looked after without being asked.
	MaxPlaces = 15_000
)

// An Index is where the bound routes are.
type Index struct {
	targets map[Place][]Target
	seen    map[Place]int
	address func(string) string
	// Routes counts the bound routes.
	Routes int
}

// NewIndex returns an empty one.
func NewIndex(address func(host string) string) *Index {
	return &Index{targets: map[Place][]Target{}, seen: map[Place]int{}, address: address}
}

// Add adds a bound route.
func (i *Index) Add(bound *grants.Access) {
	i.Routes++
	host := bound.Route.Host
	if bound.Route.IsWildcard() {
		host = anyLabel() + host[1:]
		if IsBelow(bound, host) {
			return // *.tld: each of its hosts is a domain by itself
		}
	}
	i.AddTarget(Target{bound.Binding, host, bound.Route.Path, bound.Owner.Space})
}

// AddTarget adds a target, or lets the lot decide.
func (i *Index) AddTarget(t Target) {
	p := Of(t.Space, t.Host, i.address)
	if i.seen[p] == 0 && len(i.targets) >= MaxPlaces {
		return
	}
	i.seen[p]++
	if len(i.targets[p]) < maxTargets {
		i.targets[p] = append(i.targets[p], t)
	} else if at := lot.IntN(i.seen[p]); at < maxTargets { //nolint:gosec // which are kept is no secret
		i.targets[p][at] = t
	}
}

// Has reports whether there are bound routes at a place.
func (i *Index) Has(p Place) bool { return len(i.targets[p]) > 0 }

// Places returns all of them, in no order.
func (i *Index) Places() []Place {
	places := make([]Place, 0, len(i.targets))
	for p := range i.targets {
		places = append(places, p)
	}
	return places
}

// Some returns a few of a place's targets in the order of a lot.
func (i *Index) Some(p Place, most int) []Target {
	targets := slices.Clone(i.targets[p])
	lot.Shuffle(len(targets), func(a, b int) { targets[a], targets[b] = targets[b], targets[a] }) //nolint:gosec // no secret
	return targets[:min(most, len(targets))]
}
