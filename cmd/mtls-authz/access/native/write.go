// Package native is the way to Cloud Foundry's own route policies (RFC-0055) and
// back: it writes what is allowed here as commands for cf, and reads what cf shows
// of route policies.
//
// A command that it writes allows at most what is allowed now. What a route policy
// cannot express becomes a comment that says so, and so does what it cannot tell
// for sure. What it reads is outside text: whatever is not of the one expected form
// is an error.
package native

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// A Bound is a bound route with what is in force on it.
type Bound struct {
	Route route.Route
	// Scope is the narrowest of plan, instance and binding.
	Scope grants.Scope
	// Reports: the route is in report mode.
	Reports bool
	Owner   grants.Owner
	Grants  []InForce
}

// InForce is a grant in force.
type InForce struct {
	// Grant has its source by guid, as cf add-route-policy takes it.
	grants.Grant
	// Written is the source as its owner wrote it by name; "": as in Grant.
	Written string
}

// Export is what [Export.Write] writes.
type Export struct {
	Routes []Bound
	// Checks are the names of the operator's checks.
	Checks []string
	// Domains are those of the routes; none: the first label of each route is its
	// hostname.
	Domains []string
}

// Write writes commands for cf.
func (x Export) Write(w io.Writer) error {
	out := &strings.Builder{}
	out.WriteString("# Route policies (RFC-0055) for what mtls-authz allows. A command here allows at most what\n" +
		"# is allowed now; comments are what a route policy cannot express.\n")
	if len(x.Checks) > 0 {
		fmt.Fprintf(out, "# The policy has the checks %s, which narrow every grant.\n", strings.Join(x.Checks, ", "))
	}
	routes := slices.SortedStableFunc(slices.Values(x.Routes), func(a, b Bound) int { return strings.Compare(a.Route.String(), b.Route.String()) })
	places := make([]place, len(routes))
	domains := []string{}
	for i, bound := range routes {
		places[i] = x.place(bound.Route)
		if domain := places[i].domain; domain != "" && !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	for _, domain := range slices.Sorted(slices.Values(domains)) {
		x.domain(out, domain, routes, places)
	}
	for i, bound := range routes {
		if places[i].domain == "" {
			fmt.Fprintf(out, "\n# %s: in none of the domains that were named\n", bound.Route)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// place is a route as cf names it.
type place struct{ domain, hostname string }

// place splits a host; the zero place is unknown.
func (x Export) place(r route.Route) (found place) {
	if len(x.Domains) == 0 {
		hostname, domain, _ := strings.Cut(r.Host, ".")
		return place{domain, hostname}
	}
	for _, domain := range x.Domains {
		hostname, ok := strings.CutSuffix("."+r.Host, "."+domain)
		hostname = strings.TrimPrefix(hostname, ".")
		if ok && len(domain) > len(found.domain) && !strings.Contains(hostname, ".") {
			found = place{domain, hostname}
		}
	}
	return found
}

// domain writes the routes of one domain. Its scope is the widest of theirs, so
// what a narrower route allows is a command only if it lies within that route's.
func (x Export) domain(out *strings.Builder, domain string, routes []Bound, places []place) {
	scope := grants.ScopeSpace
	for i, bound := range routes {
		if places[i].domain == domain {
			scope = max(scope, bound.Scope)
		}
	}
	fmt.Fprintf(out, "\n# Domain %s. The commands mean what they should only on a domain that was made with\n#   %s\n", domain,
		cf.Quote("cf", "create-shared-domain", domain, "--enforce-route-policies", "--scope", scope.String()))
	for i, bound := range routes {
		if places[i].domain != domain {
			continue
		}
		fmt.Fprintf(out, "# %s\n", bound.Route)
		if len(bound.Grants) == 0 {
			out.WriteString("#   nobody may call it\n")
		}
		why := x.unlike(bound, routes, places[i])
		x.grants(out, bound, places[i], func(g InForce) string {
			if why != "" {
				return why
			}
			if bound.Scope != scope && !within(g.Source, bound) {
				return fmt.Sprintf("the scope here is %s, and that of the domain would be %s", bound.Scope, scope)
			}
			return ""
		})
	}
}

// grants writes those of a route.
func (x Export) grants(out *strings.Builder, bound Bound, at place, unlike func(InForce) string) {
	written := []grants.Source{}
	for _, g := range slices.SortedStableFunc(slices.Values(bound.Grants), widestFirst) {
		why := conditions(g.Grant)
		if why == "" {
			why = unlike(g)
		}
		switch {
		case g.Source.Kind == grants.Named:
			why = "cf takes guids, and what this stands for is not known"
		case why == "" && slices.Contains(written, g.Source):
			continue
		case why == "" && slices.Contains(written, grants.Source{Kind: grants.Any}):
			why = "cf:any includes it, and Cloud Controller takes no other source beside cf:any"
		}
		if why != "" {
			fmt.Fprintf(out, "#   %s: %s\n", g.words(), why)
			continue
		}
		written = append(written, g.Source)
		args := []string{"cf", "add-route-policy", at.domain, "--source", g.Source.String(), "--hostname", at.hostname}
		if bound.Route.Path != "" {
			args = append(args, "--path", bound.Route.Path)
		}
		if g.Written != "" {
			fmt.Fprintf(out, "#   %s stands for the next one now; a route policy follows no name\n", g.Written)
		}
		out.WriteString(cf.Quote(args...) + "\n")
	}
}

// words name the source for people.
func (g InForce) words() string {
	if g.Written == "" {
		return g.Source.String()
	}
	return fmt.Sprintf("%s (%s)", g.Source, g.Written)
}

// widestFirst puts cf:any before all others: beside it there is no other policy.
func widestFirst(a, b InForce) int {
	width := []grants.Kind{grants.Any, grants.Org, grants.Space, grants.App}
	return slices.Index(width, a.Source.Kind) - slices.Index(width, b.Source.Kind)
}

// unlike says why no grant of a route can be a route policy; "": they can.
func (x Export) unlike(bound Bound, routes []Bound, at place) string {
	same, beside := 0, false
	for _, other := range routes {
		if other.Route == bound.Route {
			same++
		}
		beside = beside || other.Route.Host == bound.Route.Host && other.Route.Path != ""
	}
	switch {
	case same > 1:
		return "the route has several bindings here, of which the platform uses one"
	case bound.Scope == 0:
		return "the route has no scope, which allows nobody"
	case bound.Reports:
		return "the route is in report mode, in which nobody is refused"
	case len(x.Checks) > 0:
		return "only if the checks hold"
	case at.hostname == "":
		return "cf add-route-policy needs a hostname, and takes any route of the domain without one"
	case bound.Route.Path == "" && beside:
		return "cf add-route-policy without --path takes any route of the hostname, and there are others with a path"
	}
	return ""
}

// within reports whether every caller that a source can be is within the scope of
// the route. Of an app that cannot be told here.
func within(s grants.Source, bound Bound) bool {
	inSpace := s.Kind == grants.Space && s.ID == bound.Owner.Space
	if bound.Scope == grants.ScopeOrg {
		return inSpace || s.Kind == grants.Org && s.ID == bound.Owner.Org
	}
	return inSpace
}

// conditions are what a route policy does not have; "": none. The route itself is
// no condition on that route.
func conditions(g grants.Grant) string {
	if g.Terms == nil {
		return ""
	}
	parts := []string{}
	if g.Terms.Methods != nil {
		parts = append(parts, "only "+strings.Join(g.Terms.Methods, ", "))
	}
	if g.Terms.Paths != nil {
		paths := make([]string, len(g.Terms.Paths))
		for i, path := range g.Terms.Paths {
			paths[i] = string(path)
		}
		parts = append(parts, "only paths "+strings.Join(paths, ", "))
	}
	if !g.Terms.Expires.IsZero() {
		parts = append(parts, "only until "+g.Terms.Expires.Format("2006-01-02T15:04:05Z07:00"))
	}
	return strings.Join(parts, "; ")
}
