// Package effective says who can reach a route: the scope and where it comes from,
// every grant with its origin, who has called, and what is wrong, in sentences for
// people.
//
// It decides nothing and looks nothing up: what it is told, it trusts. Where it
// cannot tell whether something is wrong, it says nothing.
package effective

import (
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// A Route is a bound route and all that is known around it.
type Route struct {
	Binding   string
	Bound     route.Route
	Owner     grants.Owner
	CreatedAt time.Time
	// LastUsed is when a request last went on to it; zero: never seen.
	LastUsed time.Time
	// Plan, OfInstance and OfBinding are the scopes that were given.
	Plan, OfInstance, OfBinding grants.Scope
	// InstanceGrants and BindingGrants are those that were given, the expired ones
	// too.
	InstanceGrants, BindingGrants []grants.Grant
	// Access is what is in force; nil: nothing, and nobody gets through.
	Access *grants.Access
	// Siblings are all routes of the service instance; nil: not known.
	Siblings []route.Route
	// Others are the guids of other bindings of the same route.
	Others []string
	// NotBound says why requests to the route do not come to the gateway, as the
	// self-test found; "": they do, or it is not known.
	NotBound string
}

// Facts are what is the same for all routes, and who has called.
type Facts struct {
	Now time.Time
	// Site are the operator's grants, Policy is the revision of the policy in
	// force and Checks are its checks.
	Site   *grants.Site
	Policy string
	Checks []string
	// Homes tell where callers have shown to be: apps and spaces by guid.
	Homes map[string]Home
	// Callers of the route and its last refusals, the newest first.
	Callers, Refusals []Caller
	// Labels are the names that the viewer may see; nil: none.
	Labels display.Labels
}

// Home is the space and the organization of an app, or of a space.
type Home struct{ Space, Org string }

// A Caller is one with an outcome: all its requests, or those that were refused
// alike.
type Caller struct {
	// App, Space and Org are guids; "": nobody was verified.
	App   string `json:"app"`
	Space string `json:"space"`
	Org   string `json:"org"`
	// Name is org/space/app; "": not known, or not for the viewer.
	Name string `json:"name,omitempty"`
	// Outcome is allowed, denied or not_enforced.
	Outcome string `json:"outcome"`
	// Reason, Method and Path are of requests that were refused alike.
	Reason string    `json:"reason,omitempty"`
	Method string    `json:"method,omitempty"`
	Path   string    `json:"path,omitempty"`
	Count  int64     `json:"count"`
	First  time.Time `json:"first_at"`
	Last   time.Time `json:"last_at"`
}

// Access is who can reach a route.
type Access struct {
	Route    string `json:"route"`
	Binding  string `json:"binding_guid"`
	Instance string `json:"service_instance_guid"`
	Space    string `json:"space_guid"`
	Org      string `json:"organization_guid"`
	// Owner is the name of the space, org/space; "": not known.
	Owner string `json:"owner_name,omitempty"`
	Scope Scope  `json:"scope"`
	Mode  string `json:"mode"`
	// Policy is the revision in force; each of its Checks must hold, too.
	Policy string   `json:"policy_revision"`
	Checks []string `json:"checks"`
	// Grants are those in force, ordered by source, then those that have expired.
	Grants []Grant `json:"grants"`
	// Callers are the last ones with each outcome, Denials the last refusals that
	// differ; the newest first.
	Callers  []Caller   `json:"callers"`
	Denials  []Caller   `json:"denials"`
	LastUsed *time.Time `json:"last_used_at"`
	Warnings []string   `json:"warnings"`
}

// Scope is the operator's boundary, and where it comes from.
type Scope struct {
	// Scope is the narrowest that was given; "": nobody.
	Scope string `json:"scope"`
	Plan  string `json:"plan"`
	// From is plan, instance or binding.
	From string `json:"from"`
}

// A Grant is one that applies to the route, or did.
type Grant struct {
	Source string `json:"source"`
	// Name is org/space/app of the source; "": not known, or not for the viewer.
	Name string `json:"name,omitempty"`
	// Grant is the entry in canonical form, as allow_remove takes it.
	Grant  grants.Grant `json:"grant"`
	Origin string       `json:"origin"`
	// Expires is null for never.
	Expires *time.Time `json:"expires"`
	Expired bool       `json:"expired"`
	// Never is why it can match no request; null: it can, as far as is known.
	Never *string `json:"never"`
	// LastAllowed is when a caller that it names was last allowed to the route, by
	// this grant or another, as far as the last callers tell; null: not seen.
	LastAllowed *time.Time `json:"last_allowed_at"`
}

// Of says who can reach a route.
func Of(r Route, f Facts) Access {
	a := Access{
		Route: r.Bound.String(), Binding: r.Binding, Instance: r.Owner.Instance, Space: r.Owner.Space.String(), Org: r.Owner.Org.String(),
		Owner: f.Labels.Name(grants.Space, r.Owner.Space),
		Scope: scopeOf(r), Mode: grants.Enforce.String(), Policy: f.Policy, Checks: append([]string{}, f.Checks...),
		Grants: []Grant{}, Callers: named(f.Callers, f.Labels), Denials: named(f.Refusals, f.Labels), Warnings: []string{},
	}
	if !r.LastUsed.IsZero() {
		a.LastUsed = &r.LastUsed
	}
	w := &warner{route: r, facts: f, scope: grants.Narrowest(r.Plan, r.OfInstance, r.OfBinding)}
	if r.Access != nil {
		live := r.Access.Live(f.Now, f.Site) // exactly as the gateway asks: what it remembers stays
		w.scope, a.Scope.Scope, a.Mode = live.Scope, live.Scope.String(), live.Mode.String()
		for _, rule := range live.Rules {
			a.Grants = append(a.Grants, w.grant(rule, false))
		}
	}
	w.aboutRoute(len(a.Grants), a.Mode)
	for _, rule := range expired(r, f) {
		a.Grants = append(a.Grants, w.grant(rule, true))
	}
	w.aboutConditions()
	a.Warnings = append(a.Warnings, w.warnings...)
	return a
}

func named(list []Caller, labels display.Labels) []Caller {
	callers := append([]Caller{}, list...)
	for i := range callers {
		callers[i].Name = labels.App(callers[i].App)
	}
	return callers
}

func scopeOf(r Route) Scope {
	s := Scope{Scope: grants.Narrowest(r.Plan, r.OfInstance, r.OfBinding).String(), Plan: r.Plan.String(), From: "plan"}
	switch s.Scope {
	case s.Plan:
	case r.OfInstance.String():
		s.From = "instance"
	default:
		s.From = "binding"
	}
	return s
}

// expired are the grants of a route that have ended.
func expired(r Route, f Facts) []grants.Rule {
	ended := func(list []grants.Grant) (past []grants.Grant) {
		for _, one := range list {
			if one.Expired(f.Now) {
				past = append(past, one)
			}
		}
		return past
	}
	var operators grants.Site
	if f.Site != nil {
		operators.Grants = ended(f.Site.Grants)
	}
	past := grants.NewAccess(&grants.Access{Route: r.Bound}, ended(r.InstanceGrants), ended(r.BindingGrants))
	return past.Live(time.Time{}, &operators).Rules // at the zero time nothing has expired
}
