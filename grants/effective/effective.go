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
	// ForOwner: it is shown to the owner, who may not see what the operator says of
	// others' routes.
	ForOwner bool
	// LastUsed is when a request last went on to it; zero: never seen.
	LastUsed time.Time
	// Plan, OfInstance and OfBinding are the scopes that were given.
	Plan, OfInstance, OfBinding grants.Scope
	// Access is what is in force; nil: nothing, and nobody gets through.
	Access *grants.Access
	// Siblings are all routes of the service instance; nil: not known.
	Siblings map[route.Route]bool
	// Others are the guids of other bindings of the same route; Foreign: there are
	// more, of other service instances, whose guids are not told.
	Others  []string
	Foreign bool
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
	// MaxGrants bounds the grants that are shown and looked at for what is wrong;
	// 0: all are.
	MaxGrants int
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
	Reason string `json:"reason,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	// DecisionID is the newest of them; "": not known.
	DecisionID string    `json:"decision_id,omitempty"`
	Count      int64     `json:"count"`
	First      time.Time `json:"first_at"`
	Last       time.Time `json:"last_at"`
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
	// Grants are those in force, ordered by source, then names that stand for
	// nobody, then those that have expired: the first of GrantsTotal.
	Grants      []Grant `json:"grants"`
	GrantsTotal int     `json:"grants_total"`
	// Ended is how many of them have expired.
	Ended int `json:"-"`
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

// An Entry is a grant as it is shown.
type Entry struct {
	// Source is by guid, but of a name that stands for nobody.
	Source string `json:"source"`
	// Name is org/space/app of the source; "": not known, or not for the viewer.
	Name string `json:"name,omitempty"`
	// Grant is the entry in canonical form, as allow_remove takes it.
	Grant  grants.Grant `json:"grant"`
	Origin string       `json:"origin"`
	// Expires is null for never.
	Expires *time.Time `json:"expires"`
	Expired bool       `json:"expired"`
}

// EntryOf shows a rule, with the names that somebody may see.
func EntryOf(rule grants.Rule, labels display.Labels, expired bool) Entry {
	e := Entry{Source: rule.Source.String(), Name: labels.Source(rule.Source), Grant: rule.Written(), Origin: rule.Origin.String(), Expired: expired}
	if rule.Terms != nil && !rule.Terms.Expires.IsZero() {
		e.Expires = &rule.Terms.Expires
	}
	return e
}

// A Grant is one that applies to the route, or did.
type Grant struct {
	Entry
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
	if r.Access == nil {
		w.aboutRoute(0, a.Mode)
		a.Warnings = append(a.Warnings, w.warnings...)
		return a
	}
	live := r.Access.Live(f.Now, f.Site) // exactly as the gateway asks: what it remembers stays
	idle := r.Access.Idle(f.Now, f.Site)
	w.scope, a.Scope.Scope, a.Mode = live.Scope, live.Scope.String(), live.Mode.String()
	a.Ended = len(idle.Ended)
	a.GrantsTotal = len(live.Rules) + len(idle.Nobody) + a.Ended
	room := func() bool { return f.MaxGrants == 0 || len(a.Grants) < f.MaxGrants }
	for i := 0; i < len(live.Rules) && room(); i++ {
		a.Grants = append(a.Grants, w.grant(live.Rules[i], false))
	}
	w.aboutRoute(len(live.Rules), a.Mode)
	for i := 0; i < len(idle.Nobody) && room(); i++ {
		a.Grants = append(a.Grants, w.nobody(idle.Nobody[i]))
	}
	for i := 0; i < len(idle.Ended) && room(); i++ {
		a.Grants = append(a.Grants, w.grant(idle.Ended[i], true))
	}
	w.aboutNames()
	w.aboutConditions(live.Rules, idle.Elsewhere)
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
