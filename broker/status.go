package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// status is the read-only part of an instance's parameters: what is in force.
type status struct {
	Plan string `json:"plan"`
	// Scope is the instance's: the narrower of plan and parameters.
	Scope  string        `json:"scope"`
	Mode   string        `json:"mode"`
	Policy string        `json:"policy"`
	Routes []routeStatus `json:"routes"`
	// Warnings are sentences for the developer.
	Warnings []string `json:"warnings"`
}

type routeStatus struct {
	Route   string `json:"route"`
	Binding string `json:"binding"`
	Scope   string `json:"scope"`
	Mode    string `json:"mode"`
	// Grants in force, at most maxGrantsShown of GrantsTotal.
	Grants      []grantStatus `json:"grants"`
	GrantsTotal int           `json:"grants_total"`
}

type grantStatus struct {
	Origin string       `json:"origin"`
	Grant  grants.Grant `json:"grant"`
}

const maxGrantsShown = 200

func (b *broker) status(instance store.Instance, bindings []store.Binding) status {
	revision, site := b.Policy()
	s := status{
		Plan: instance.Plan.String(), Scope: grants.Narrowest(instance.Plan, instance.Parameters.Scope).String(),
		Mode: instance.Parameters.Mode.String(), Policy: revision,
		Routes: []routeStatus{}, Warnings: []string{},
	}
	bound := make([]grants.Route, 0, len(bindings))
	for _, binding := range bindings {
		access := b.Store.View().Access(binding.ID)
		if access == nil {
			continue
		}
		if slices.Contains(bound, binding.Route) {
			s.warn("route %s is bound more than once; a failed bind may have left one of the bindings behind", binding.Route)
		}
		bound = append(bound, binding.Route)
		s.Routes = append(s.Routes, routeStatusOf(access, access.Live(b.Now(), site)))
	}
	s.warnings(instance.Parameters, bound, b.Now())
	return s
}

func routeStatusOf(access *grants.Access, live *grants.Live) routeStatus {
	r := routeStatus{
		Route: access.Route.String(), Binding: access.Binding, Scope: access.Scope.String(), Mode: access.Mode.String(),
		Grants: []grantStatus{}, GrantsTotal: len(live.Rules),
	}
	for _, rule := range live.Rules[:min(len(live.Rules), maxGrantsShown)] {
		r.Grants = append(r.Grants, grantStatus{rule.Origin.String(), rule.Grant})
	}
	return r
}

func (s *status) warnings(p grants.Parameters, bound []grants.Route, now time.Time) {
	if len(bound) == 0 {
		s.warn("no route is bound: use cf bind-route-service")
	}
	for i, grant := range p.Allow {
		if grant.Terms == nil {
			continue
		}
		if !grant.Terms.Expires.IsZero() && !now.Before(grant.Terms.Expires) {
			s.warn("allow[%d]: %s expired at %s", i, grant.Source, grant.Terms.Expires.Format(time.RFC3339))
		}
		for _, route := range grant.Terms.Routes {
			if !slices.Contains(bound, route) {
				s.warn("allow[%d]: %s names the route %s, which is not bound", i, grant.Source, route)
			}
		}
	}
	for _, route := range p.ReportRoutes {
		if !slices.Contains(bound, route) {
			s.warn("report_routes names the route %s, which is not bound", route)
		}
	}
	if p.Assert {
		s.warn("assert: this version does not send the caller assertion yet")
	}
	for i, route := range s.Routes {
		if route.GrantsTotal == 0 {
			s.warn("routes[%d]: nobody may call %s; add somebody with allow_add", i, route.Route)
		}
		if route.Mode == grants.Report.String() {
			s.warn("routes[%d]: %s is in report mode: nothing is refused", i, route.Route)
		}
	}
}

func (s *status) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}
