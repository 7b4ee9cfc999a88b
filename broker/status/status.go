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
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/report"
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
}

type routeStatus struct {
	Route   string `json:"route"`
	Binding string `json:"binding"`
	// Scope is the narrowest of plan, instance and binding, ScopeFrom which of them.
	Scope     string `json:"scope"`
	ScopeFrom string `json:"scope_from"`
	Mode      string `json:"mode"`
	// Grants are those that have not expired: the first of GrantsTotal.
	Grants      []grantStatus `json:"grants"`
	GrantsTotal int           `json:"grants_total"`
	// Callers are the last ones.
	Callers []effective.Caller `json:"callers"`
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

// denialStatus are requests that were refused alike.
type denialStatus struct {
	Route string `json:"route"`
	effective.Caller
}

// What an answer shows: Cloud Controller passes it on as a whole, and a developer
// can make the number of grants times that of the routes far larger than what fits
// in memory.
const (
	maxGrantsShown  = 200     // of each route
	maxGrantBytes   = 1 << 20 // of all routes
	maxCallersShown = 5       // of each route
	maxRoutesRead   = 1000    // of which is told who has called
	maxWarnings     = 100
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
type Reporter struct {
	Config
	reports *report.Reporter
}

// New returns a Reporter.
func New(cfg Config) *Reporter {
	b := &Reporter{Config: cfg}
	b.reports = report.New(report.Config{Store: cfg.Store, Facts: b.facts, NotBound: cfg.NotBound})
	return b
}

func (b *Reporter) facts() effective.Facts {
	f := effective.Facts{Now: b.Now(), Checks: []string{}}
	f.Policy, f.Site = b.Policy()
	if b.Checks != nil {
		f.Checks = append(f.Checks, b.Checks()...)
	}
	return f
}

// Of is the status of an instance with these bindings.
func (b *Reporter) Of(ctx context.Context, instance store.Instance, bindings []store.Binding) *Status {
	facts, labels := b.facts(), b.Labels.Within(instance.Owner.Org)
	s := &Status{
		Plan: instance.Plan.String(), Scope: grants.Narrowest(instance.Plan, instance.Parameters.Scope).String(),
		Mode: instance.Parameters.Mode.String(), Policy: facts.Policy,
		Checks: facts.Checks, Routes: []routeStatus{}, Denials: []denialStatus{}, Warnings: []string{},
	}
	w := warner{}
	bound, known, err := b.read(ctx, instance, bindings)
	if err != nil {
		b.Log.Warn("broker: who has called is not known", slog.String("error", err.Error()))
		w.warn("", "who has called is not known at the moment")
	}
	if instance.Parameters.Reports() && !b.AllowReport {
		s.Mode = grants.Enforce.String()
		w.warn("", "report mode is switched off by the operator of this platform: every route is enforced")
	}
	routes, budget := map[string]string{}, maxGrantBytes
	for _, one := range bound {
		routes[one.ID] = one.Route.String()
		if b.Store.View().Access(one.ID) == nil { // unbound since it was read
			continue
		}
		full := known.Of(one.ForOwner(), labels)
		s.Routes = append(s.Routes, routeOf(full, &budget))
		w.about(full)
	}
	for _, one := range known.Refusals[:min(len(known.Refusals), report.MaxRefusals)] {
		caller := report.Caller(one)
		caller.Name = labels.App(caller.App)
		s.Denials = append(s.Denials, denialStatus{routes[one.Binding], caller})
	}
	w.aboutParameters(instance.Parameters, bound)
	s.Warnings = append(s.Warnings, w.sentences()...)
	return s
}

// read reads what is known around bindings. Where that fails, the bindings are what
// they are.
func (b *Reporter) read(ctx context.Context, instance store.Instance, bindings []store.Binding) (bound []store.BoundRoute, known *report.Report, err error) {
	looked := bindings[:min(len(bindings), maxRoutesRead)]
	if len(looked) > 0 {
		bound, err = b.Store.Around(ctx, instance, looked)
	}
	if err == nil {
		known, err = b.reports.Read(ctx, bound, maxGrantsShown)
	}
	if err != nil {
		bound, known = nil, b.reports.Bare(maxGrantsShown)
	}
	for _, binding := range bindings[len(bound):] {
		bound = append(bound, store.BoundRoute{Binding: binding, Instance: instance})
	}
	return bound, known, err
}

func routeOf(full effective.Access, budget *int) routeStatus {
	r := routeStatus{
		Route: full.Route, Binding: full.Binding, Scope: full.Scope.Scope, ScopeFrom: full.Scope.From, Mode: full.Mode,
		Grants: []grantStatus{}, GrantsTotal: full.GrantsTotal - full.Ended, Callers: full.Callers[:min(len(full.Callers), maxCallersShown)],
	}
	for _, one := range full.Grants {
		if one.Expired { // a warning tells
			continue
		}
		grant, _ := one.Grant.MarshalJSON() // strings cannot fail
		if *budget -= len(grant); *budget < 0 {
			break
		}
		shown := grantStatus{Origin: one.Origin, Name: one.Name, Grant: grant}
		if one.Grant.Source.Kind == grants.Named && one.Never == nil {
			shown.StandsFor = one.Source
		}
		if one.Never != nil {
			shown.Never = *one.Never
		}
		r.Grants = append(r.Grants, shown)
	}
	return r
}
