// Package status makes the read-only status of a service instance: what cf service
// NAME --params shows a developer of what is in force, who has called, who was
// refused, and what is wrong.
//
// It trusts the store and decides nothing. Its answers are bounded, whatever
// developers and callers do; what it cannot read it names as not known.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
)

// Status is the read-only part of an instance's parameters: what is in force.
type Status struct {
	Plan string `json:"plan"`
	// Scope is the instance's: the narrower of plan and parameters.
	Scope  string `json:"scope"`
	Mode   string `json:"mode"`
	Policy string `json:"policy"`
	// Checks of the policy, each of which must hold, too.
	Checks []string      `json:"checks"`
	Routes []routeStatus `json:"routes"`
	// Denials are the last refusals that differ, of all routes, the newest first.
	Denials []denialStatus `json:"denials"`
	// Warnings are sentences for the developer, at most maxWarnings and one
	// that counts the rest.
	Warnings []string `json:"warnings"`

	unshown int
}

type routeStatus struct {
	Route   string `json:"route"`
	Binding string `json:"binding"`
	Scope   string `json:"scope"`
	Mode    string `json:"mode"`
	// Grants in force, the first of GrantsTotal.
	Grants      []grantStatus `json:"grants"`
	GrantsTotal int           `json:"grants_total"`
	// Callers are the last ones.
	Callers []callerStatus `json:"callers"`
}

type grantStatus struct {
	Origin string `json:"origin"`
	// Name is org/space/app of the source, if it is in the own org.
	Name  string          `json:"name,omitempty"`
	Grant json.RawMessage `json:"grant"`
	// StandsFor is the source by guid where the grant has a name.
	StandsFor string `json:"stands_for,omitempty"`
	// Never is why it can match no request.
	Never string `json:"never,omitempty"`
}

// What an answer shows of many grants: a developer can make their number times
// that of the routes far larger than what fits in memory.
const (
	maxGrantsShown = 200     // of each route
	maxGrantBytes  = 1 << 20 // of all routes
	maxWarnings    = 100
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// AllowReport permits report mode. Default: refused.
	AllowReport bool
	// Policy returns the revision of the policy in force and the operator's grants.
	Policy func() (revision string, site *grants.Site)
	// Checks are those of the policy in force; nil: none.
	Checks func() []string
	// NotBound says why requests to a route, host[/path], do not come to the
	// gateway; "": they do. Nil: nobody knows.
	NotBound func(route string) string
	// Labels are names; a developer sees those of the own org. Nil: none.
	Labels display.Labels
	// Log hears what could not be read.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Reporter makes statuses. It is safe for concurrent use.
type Reporter struct{ Config }

// New returns a Reporter.
func New(cfg Config) *Reporter { return &Reporter{cfg} }

// Of is the status of an instance with these bindings.
func (b *Reporter) Of(ctx context.Context, instance store.Instance, bindings []store.Binding) *Status {
	revision, site := b.Policy()
	labels := b.Labels.Within(instance.Owner.Org)
	seen := b.known(ctx, instance, bindings)
	s := &Status{
		Plan: instance.Plan.String(), Scope: grants.Narrowest(instance.Plan, instance.Parameters.Scope).String(),
		Mode: instance.Parameters.Mode.String(), Policy: revision,
		Checks: []string{}, Routes: []routeStatus{}, Denials: []denialStatus{}, Warnings: []string{},
	}
	if b.Checks != nil {
		s.Checks = append(s.Checks, b.Checks()...)
	}
	if seen == nil {
		seen = &known{denials: []denialStatus{}}
		s.warn("who has called is not known at the moment")
	}
	s.Denials = seen.denials
	if instance.Parameters.Reports() && !b.AllowReport {
		s.Mode = grants.Enforce.String()
		s.warn("report mode is switched off by the operator of this platform: every route is enforced")
	}
	bound, budget := make(map[route.Route]bool, len(bindings)), maxGrantBytes
	for _, binding := range bindings {
		if bound[binding.Route] {
			s.warn("route %s is bound more than once; a failed bind may have left one of the bindings behind", binding.Route)
		}
		bound[binding.Route] = true
		access := b.Store.View().Access(binding.ID)
		if access == nil { // unbound since it was read
			continue
		}
		live := access.Live(b.Now(), site)
		shown := routeStatusOf(live, labels, &budget)
		shown.Callers = append(shown.Callers, seen.callers[binding.ID]...)
		s.Routes = append(s.Routes, shown)
		s.warnNever(&s.Routes[len(s.Routes)-1], live, seen.homes)
		s.warnGone(live, labels)
		if b.NotBound != nil {
			if reason := b.NotBound(shown.Route); reason != "" {
				s.warn("requests to %s do not come to the gateway: %s", shown.Route, reason)
			}
		}
		s.warnNames(access, b.Now())
	}
	s.warnParameters(instance.Parameters, bound, b.Now())
	for _, binding := range bindings {
		s.warnGrants("binding of "+binding.Route.String()+": ", binding.Parameters.Allow, map[route.Route]bool{binding.Route: true}, b.Now())
	}
	s.warnRoutes()
	return s
}

func routeStatusOf(live *grants.Live, labels display.Labels, budget *int) routeStatus {
	r := routeStatus{
		Route: live.Route.String(), Binding: live.Binding, Scope: live.Scope.String(), Mode: live.Mode.String(),
		Grants: []grantStatus{}, GrantsTotal: len(live.Rules), Callers: []callerStatus{},
	}
	for _, rule := range live.Rules[:min(len(live.Rules), maxGrantsShown)] {
		grant, _ := rule.Written().MarshalJSON() // strings cannot fail
		if *budget -= len(grant); *budget < 0 {
			break
		}
		r.Grants = append(r.Grants, grantStatus{Origin: rule.Origin.String(), Name: labels.Source(rule.Source), Grant: grant, StandsFor: standsFor(rule)})
	}
	return r
}

// warnNever names the shown grants of a route that can match no request.
func (s *Status) warnNever(r *routeStatus, live *grants.Live, homes map[string]effective.Home) {
	for i := range r.Grants {
		rule := live.Rules[i]
		// The operator's are for many routes, and no fault of this one's owner.
		if r.Grants[i].Never = effective.Never(rule, live, homes); r.Grants[i].Never != "" && rule.Origin != grants.FromOperator {
			s.warn("%s of the %s can never match on %s: %s", rule.Source, rule.Origin, r.Route, r.Grants[i].Never)
		}
	}
}

func (s *Status) warnParameters(p parameters.Parameters, bound map[route.Route]bool, now time.Time) {
	if len(bound) == 0 {
		s.warn("no route is bound: use cf bind-route-service")
	}
	s.warnGrants("", p.Allow, bound, now)
	for _, route := range p.ReportRoutes {
		if !bound[route] {
			s.warn("report_routes names the route %s, which is not bound", route)
		}
	}
}

// warnGrants names the grants of a list that do not apply.
func (s *Status) warnGrants(where string, list []grants.Grant, bound map[route.Route]bool, now time.Time) {
	for i, grant := range list {
		if grant.Terms == nil {
			continue
		}
		if !grant.Terms.Expires.IsZero() && !now.Before(grant.Terms.Expires) {
			s.warn("%sallow[%d]: %s expired at %s", where, i, grant.Source, grant.Terms.Expires.Format(time.RFC3339))
		}
		for _, route := range grant.Terms.Routes {
			if !bound[route] {
				s.warn("%sallow[%d]: %s names the route %s, which is not bound", where, i, grant.Source, route)
			}
		}
	}
}

func (s *Status) warnRoutes() {
	for i, route := range s.Routes {
		if route.GrantsTotal == 0 {
			s.warn("routes[%d]: nobody may call %s; add somebody with allow_add", i, route.Route)
		}
		if route.Mode == grants.Report.String() {
			s.warn("routes[%d]: %s is in report mode: nothing is refused", i, route.Route)
		}
	}
	if s.unshown > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("and %d more", s.unshown))
	}
}

func (s *Status) warn(format string, args ...any) {
	if len(s.Warnings) >= maxWarnings {
		s.unshown++
		return
	}
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}
