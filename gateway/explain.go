package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// A Question is a request that nobody has sent.
type Question struct {
	// Binding is the guid of the binding whose route is called.
	Binding string
	// Access is what applies to it, not the one in force but a copy; nil: the one
	// in force now.
	Access *grants.Access
	// Caller is who would call; nobody would present no certificate.
	Caller      identity.Caller
	Method, URL string
	// At is when, of a question with an Access; zero: now.
	At time.Time
}

// An Explanation is what would become of a request, as its decision line would
// say it.
type Explanation struct {
	// Line has the outcome: Auth, Policy, Reason, Detail.
	Line line.Line
	// Status of the refusal; 0: the request would go on to the route.
	Status int
	// Request is what the policy is asked; nil: the walk ended before.
	Request *rego.Request
}

// Explain walks a request without forwarding it, by the steps of a real one from
// the binding on, without a trace: nothing is remembered, counted, told, logged or
// probed. What only the request itself can show, its certificate and headers, it
// takes for good; and the place that it would need among those in flight. Of the
// route's router it takes what the self-test knows already; with an Access of its
// own, that the router was proven: whoever asks knows how it was.
func (g *Gateway) Explain(ctx context.Context, q Question) Explanation {
	x := g.question(ctx, q)
	e := Explanation{}
	err := x.ready()
	if err == nil {
		err = x.lookUp(q.Binding)
	}
	if err == nil {
		err = x.aim()
	}
	if err == nil {
		err = x.judge()
	}
	if err != nil {
		e.Status = x.note(err).Status
	}
	if x.live != nil {
		e.Request = x.question()
	}
	e.Line = x.line
	return e
}

// unremembered asks the policy and no cache.
type unremembered struct{}

func (unremembered) Decide(ctx context.Context, r *rego.Request) (rego.Decision, error) {
	return r.Policy.Decide(ctx, r)
}

// question makes the exchange of a request that nobody has sent.
func (g *Gateway) question(ctx context.Context, q Question) *exchange {
	quiet := *g
	quiet.Decider, quiet.Decided, quiet.Probe = unremembered{}, nil, nil
	if g.Proven != nil {
		quiet.Trust = func(_ context.Context, bound *grants.Access, host string) error { return g.Proven(bound, host) }
	}
	r := (&http.Request{Method: q.Method, Header: http.Header{
		headers.ForwardedURL: {q.URL}, headers.Signature: {"-"}, headers.Metadata: {"-"},
	}}).WithContext(ctx)
	x := &exchange{g: &quiet, r: r, asked: &q, started: g.Now(), line: line.Begin("", r)}
	if q.Access != nil {
		quiet.Access = func(string) *grants.Access { return q.Access }
		quiet.Trust = func(context.Context, *grants.Access, string) error { return nil }
		if !q.At.IsZero() {
			x.started = q.At
		}
	}
	return x
}
