package broker

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

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
}

type grantStatus struct {
	Origin string          `json:"origin"`
	Grant  json.RawMessage `json:"grant"`
	// StandsFor is the source by guid where the grant has a name.
	StandsFor string `json:"stands_for,omitempty"`
}

// What an answer shows of many grants: a developer can make their number times
// that of the routes far larger than what fits in memory.
const (
	maxGrantsShown = 200     // of each route
	maxGrantBytes  = 1 << 20 // of all routes
	maxWarnings    = 100
)

func (b *broker) status(instance store.Instance, bindings []store.Binding) *status {
	revision, site := b.Policy()
	s := &status{
		Plan: instance.Plan.String(), Scope: grants.Narrowest(instance.Plan, instance.Parameters.Scope).String(),
		Mode: instance.Parameters.Mode.String(), Policy: revision,
		Routes: []routeStatus{}, Warnings: []string{},
	}
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
		s.Routes = append(s.Routes, routeStatusOf(access.Live(b.Now(), site), &budget))
		s.warnNames(access, b.Now())
	}
	s.warnParameters(instance.Parameters, bound, b.Now())
	for _, binding := range bindings {
		s.warnGrants("binding of "+binding.Route.String()+": ", binding.Parameters.Allow, map[route.Route]bool{binding.Route: true}, b.Now())
	}
	s.warnRoutes()
	return s
}

func routeStatusOf(live *grants.Live, budget *int) routeStatus {
	r := routeStatus{
		Route: live.Route.String(), Binding: live.Binding, Scope: live.Scope.String(), Mode: live.Mode.String(),
		Grants: []grantStatus{}, GrantsTotal: len(live.Rules),
	}
	for _, rule := range live.Rules[:min(len(live.Rules), maxGrantsShown)] {
		grant, _ := rule.Written().MarshalJSON() // strings cannot fail
		if *budget -= len(grant); *budget < 0 {
			break
		}
		r.Grants = append(r.Grants, grantStatus{rule.Origin.String(), grant, standsFor(rule)})
	}
	return r
}

func (s *status) warnParameters(p parameters.Parameters, bound map[route.Route]bool, now time.Time) {
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
func (s *status) warnGrants(where string, list []grants.Grant, bound map[route.Route]bool, now time.Time) {
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

func (s *status) warnRoutes() {
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

func (s *status) warn(format string, args ...any) {
	if len(s.Warnings) >= maxWarnings {
		s.unshown++
		return
	}
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}
