// Package access answers who can reach a route and why: the effective access of
// each bound route, what would become of a request, and why one was refused.
//
// It reads and changes nothing; whoever may read the API may ask. What it says of
// a request comes from the gateway's own walk, so that it cannot say otherwise. It
// trusts the store and the gateway; what has changed since a decision it names
// rather than explain by what was not in force.
package access

import (
	"context"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/report"
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Policy is the policy in force; nil while there is none.
	Policy func() *rego.Policy
	// Explain is the gateway's.
	Explain func(context.Context, gateway.Question) gateway.Explanation
	// Recorded finds a decision that this gateway has in memory; nil: none.
	Recorded func(decisionID string) (replay.Recorded, bool)
	// NotBound says why requests to a route, host[/path], do not come to the
	// gateway, as the self-test found; "": they do. Nil: nobody knows.
	NotBound func(route string) string
	// Labels are names for operators; nil: none.
	Labels display.Labels
	// Foundation is that of the callers.
	Foundation string
	// BaseURL is the prefix of links: https, a host that serves /v1, no path, no
	// slash at its end.
	BaseURL string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Access answers.
type Access struct {
	Config
	reports *report.Reporter
}

// New returns it; see [Access.Add].
func New(cfg Config) *Access {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Access{Config: cfg}
	a.reports = report.New(report.Config{Store: cfg.Store, Facts: a.facts, NotBound: cfg.NotBound})
	return a
}

// Report says who can reach these routes, of each with at most maxGrants grants; 0:
// all of them.
func (a *Access) Report(ctx context.Context, bound []store.BoundRoute, maxGrants int) (*report.Report, error) {
	return a.reports.Read(ctx, bound, maxGrants)
}

// Add adds its endpoints.
func (a *Access) Add(e *envelope.Envelope) {
	e.Handle("/v1/routes", envelope.Methods{http.MethodGet: a.listRoutes})
	e.Handle("/v1/routes/{route...}", envelope.Methods{http.MethodGet: a.showRoute})
	e.Handle("/v1/decisions/{id}", envelope.Methods{http.MethodGet: a.showDecision})
	e.Ask("/v1/decide", a.decide)
}

// facts are those that are the same for all routes.
func (a *Access) facts() effective.Facts {
	f := effective.Facts{Now: a.Now(), Labels: a.Labels}
	if policy := a.Policy(); policy != nil {
		f.Site, f.Policy, f.Checks = policy.Site(), policy.Revision(), policy.Checks()
	}
	return f
}
