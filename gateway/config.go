package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/gateway/assertion"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/store"
)

// A Decider decides a request: the policy itself, or a cache in front of it.
type Decider interface {
	Decide(ctx context.Context, r *rego.Request) (rego.Decision, error)
}

// Config configures [New]. Fields without a default are required.
type Config struct {
	// Access returns what applies to a binding as far as memory knows, nil if
	// there is none.
	Access func(bindingID string) *grants.Access
	// Lookup asks the store about a binding that memory does not know, since
	// another instance may just have made it. Nil: memory knows all.
	Lookup func(ctx context.Context, bindingID string) (*grants.Access, error)
	Tokens store.TokenKey
	// Ready returns why nothing can be decided yet; nil: ready.
	Ready    func() error
	Verifier *identity.Verifier
	// Format is the form of the certificate header, by host.
	Format target.ByHost[identity.Format]
	// Trust returns why the router of a host of a bound route is not proven; nil:
	// it is.
	Trust func(ctx context.Context, bound *grants.Access, host string) error
	// Proven says the same of what is known already, and never has a router probed;
	// nil: Trust, which then has no effects.
	Proven func(bound *grants.Access, host string) error
	// Probe returns what answers a request to a URL of a binding's route if it is
	// a probe of the self-test, nil if it is not. Nil: nothing is probed.
	Probe func(binding string, r *http.Request, to *url.URL) http.Handler
	// OwnApp is the gateway's own app guid; zero outside Cloud Foundry.
	OwnApp identity.GUID
	// Policy returns the policy in force.
	Policy  func() *rego.Policy
	Decider Decider
	// Assert signs the caller assertion for routes that ask for it.
	Assert func(assertion.Request) (string, error)
	// Router is leg 3.
	Router http.RoundTripper
	// MaxInFlight bounds requests in flight, MaxInFlightPerRoute those of one
	// binding; MaxURIBytes the forwarded URL, where 0 is [target.DefaultMax].
	MaxInFlight, MaxInFlightPerRoute, MaxURIBytes int
	// MaxStream bounds one forwarded request, answer and stream included.
	MaxStream time.Duration
	// Used is told of each request that the router has accepted for the route of a
	// binding. Nil: nobody wants to know.
	Used func(bindingID string, at time.Time)
	// Decided is told what the policy said, and Go confirmed: of a refusal at once,
	// of an allow when the router has accepted the request; also of routes without
	// grants, where the policy is not asked. It must not wait, nor change anything.
	// Nil: nobody wants to know.
	Decided func(decisionID string, r *rego.Request, d rego.Decision)
	// Recorded is told of each request when its line is written, also of what is
	// refused before the policy is asked. The line's texts may be parts of the
	// request: what is kept must be copied. It must not wait. Nil: nobody wants to
	// know.
	Recorded func(l *line.Line, at time.Time)
	// AllowedSample is the share of the lines of allowed requests that is written,
	// up to 1; 0 means all. Other lines always are.
	AllowedSample float64
	// Log gets the decision lines.
	Log *slog.Logger
	// Metrics gets the gateway's collectors.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}
