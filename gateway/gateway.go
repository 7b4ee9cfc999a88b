package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/gateway/load"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/gateway/streams"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/gateway/trace"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Gateway is the handler of /r/{binding}/{token}. Create it with [New].
type Gateway struct {
	Config
	proxy   *httputil.ReverseProxy
	load    *load.Load
	streams *streams.Open
	lines   *line.Writer
}

// New returns the gateway.
func New(cfg Config) *Gateway {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Gateway{Config: cfg, load: load.New(cfg.MaxInFlight, cfg.MaxInFlightPerRoute), streams: streams.New(cfg.Metrics)}
	g.lines = line.NewWriter(line.Config{Log: cfg.Log, Metrics: cfg.Metrics, InFlight: g.load.InFlight, AllowedSample: cfg.AllowedSample})
	g.proxy = newProxy(cfg.Router)
	return g
}

// Run cuts open streams whose permission has ended, until ctx ends.
func (g *Gateway) Run(ctx context.Context) { g.streams.Run(ctx) }

// Farewell ends the open streams because this instance goes away, WebSockets
// with a close frame. It takes until ctx ends, and a second, at most.
func (g *Gateway) Farewell(ctx context.Context) { g.streams.Farewell(ctx) }

// exchange is one request on its walk.
type exchange struct {
	g       *Gateway
	w       *answerWriter
	r       *http.Request
	id      string
	started time.Time
	// hop tells that the client sent the hop header, before it was deleted.
	hop bool
	// asked is the question that this exchange answers; nil: it is a request.
	asked *Question

	access *grants.Access
	live   *grants.Live
	policy *rego.Policy
	target target.Target
	// probe answers a probe of the self-test; nil: this is none.
	probe http.Handler
	// verified is whom the certificate names, unverified why it names nobody.
	verified   identity.Caller
	unverified error
	// caller is who calls; zero unless verified behind a trusted router.
	caller   identity.Caller
	decision rego.Decision
	// provisional is the question that was allowed, nil if it was not; the router has to accept it yet.
	provisional *rego.Request
	// assertion is the signed word on the caller; "" if there is none.
	assertion string

	line line.Line
	// recorded tells that the line has been written.
	recorded bool
	// sent is when leg 3 began.
	sent time.Time
	// cut ends what goes on; streamEnds tells that an open stream has ended.
	cut        context.CancelFunc
	streamEnds func()
	// socket is the client's side of an upgraded connection.
	socket atomic.Pointer[streams.WebSocket]
}

// step is one of the walk, with its name in traces.
type step struct {
	name string
	take func(*exchange) error
}

// The steps of the walk, in their order.
var (
	arrival   = []step{{"admit", (*exchange).admit}, {"binding", (*exchange).binding}, {"target", (*exchange).aim}}
	judgement = []step{{"caller", (*exchange).identify}, {"guard", (*exchange).guarded}, {"decide", (*exchange).decide}}
	departure = []step{{"assert", (*exchange).assert}, {"still bound", (*exchange).stillBound}}
)

// ServeHTTP walks one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := g.begin(w, r)
	defer x.end()
	err := x.walk(arrival)
	if err == nil && x.probe != nil {
		x.probe.ServeHTTP(x.w, r)
		return
	}
	if err == nil {
		err = x.judge()
	}
	if err == nil {
		err = x.walk(departure)
	}
	if err != nil {
		x.refuse(err)
		return
	}
	x.forward()
}

// judge is the part of the walk that decides. In report mode its refusal does not
// stop the request.
func (x *exchange) judge() error {
	if err := x.walk(judgement); err != nil && !x.waive(err) {
		return err
	}
	return nil
}

// walk takes steps until one refuses.
func (x *exchange) walk(steps []step) error {
	for _, s := range steps {
		end := trace.Step(x.r.Context(), s.name)
		err := s.take(x)
		end(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// begin deletes forged headers before anything can fail.
func (g *Gateway) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{g: g, r: r, id: uuid.NewString(), started: g.Now()}
	x.line = line.Begin(x.id, r)
	x.w = &answerWriter{ResponseWriter: w, x: x}
	for name := range r.Header {
		x.hop = x.hop || headers.IsHop(name)
	}
	headers.DeleteForged(r.Header)
	return x
}

// admit takes a place among the requests in flight.
func (x *exchange) admit() error {
	if err := x.ready(); err != nil {
		return err
	}
	if front.Surplus(x.r.Context()) {
		return fmt.Errorf("%w: connections", refusal.ErrOverloaded)
	}
	if !x.g.load.Enter() {
		return refusal.ErrOverloaded
	}
	x.w.entered = true
	return nil
}

func (x *exchange) ready() error {
	if err := x.g.Ready(); err != nil {
		return fmt.Errorf("%w: %w", refusal.ErrNotReady, err)
	}
	return nil
}

// binding compares the token in constant time before it looks anything up.
func (x *exchange) binding() error {
	id, token, ok := strings.Cut(strings.TrimPrefix(x.r.URL.EscapedPath(), "/r/"), "/")
	if !x.g.Tokens.Verify(id, token) || !ok {
		return fmt.Errorf("%w: wrong token", refusal.ErrUnknownBinding)
	}
	if err := x.lookUp(id); err != nil {
		return err
	}
	if !x.g.load.EnterRoute(id) {
		return fmt.Errorf("%w: this route", refusal.ErrOverloaded)
	}
	x.w.enteredRoute = id
	return nil
}

// lookUp finds the binding; a request waits for the store only if memory does
// not know a binding whose token is right.
func (x *exchange) lookUp(id string) (err error) {
	x.line.Binding = id
	x.access = x.g.Access(id)
	if x.access == nil && x.g.Lookup != nil {
		if x.access, err = x.g.Lookup(x.r.Context(), id); err != nil {
			return fmt.Errorf("%w: binding not in memory: %w", refusal.ErrNotReady, err)
		}
	}
	if x.access == nil {
		return fmt.Errorf("%w: not bound", refusal.ErrUnknownBinding)
	}
	x.line.Route, x.line.Mode, x.line.Scope, x.line.Revision = x.access.Route.String(), x.access.Mode.String(), x.access.Scope.String(), x.access.Revision
	return nil
}

// aim finds out where the request is going, and that it is going there only.
func (x *exchange) aim() error {
	if err := x.parseTarget(); err != nil || x.isProbe() {
		return err
	}
	x.policy = x.g.Policy()
	x.line.PolicyRevision = x.policy.Revision()
	x.live = x.access.Live(x.started, x.policy.Site())
	if err := x.checkRequest(); err != nil {
		return err
	}
	if x.hop {
		return fmt.Errorf("%w: the request carries %s", refusal.ErrLoop, headers.Hop)
	}
	x.verified, x.unverified = x.verify()
	if !x.verified.App.IsZero() && x.verified.App == x.g.OwnApp {
		return fmt.Errorf("%w: the caller is the gateway", refusal.ErrLoop)
	}
	if !x.access.Route.MatchHost(x.target.Host) || !x.access.Route.MatchPath(x.target.RawPath) {
		return refusal.ErrRouteMismatch
	}
	return nil
}

// isProbe finds out whether the request is a probe of the self-test. It is no
// request to the app: nothing is decided about it, nor forwarded, nor written down.
func (x *exchange) isProbe() bool {
	if x.g.Probe != nil {
		x.probe = x.g.Probe(x.line.Binding, x.r, x.target.URL())
	}
	x.recorded = x.probe != nil
	return x.recorded
}

// verify reads the certificate; of a request that nobody has sent, there is only
// the word on who would call.
func (x *exchange) verify() (identity.Caller, error) {
	if x.asked == nil {
		return x.g.Verifier.Verify(x.r.Header[identity.Header], x.g.Format.For(x.target.Host))
	}
	if x.asked.Caller.IsZero() {
		return identity.Caller{}, &identity.Refusal{Kind: identity.ErrNoCertificate, Detail: "no caller is named"}
	}
	return x.asked.Caller, nil
}

// identify names the caller, if the router can be trusted to tell.
func (x *exchange) identify() error {
	if untrusted := x.g.Trust(x.r.Context(), x.access, x.target.Host); untrusted != nil {
		return fmt.Errorf("%w: %w", refusal.ErrRouterUntrusted, untrusted)
	}
	if x.unverified != nil {
		return x.unverified
	}
	x.caller = x.verified
	x.line.SetCaller(x.caller)
	return nil
}

// waive lets a refusal pass in report mode; what keeps the gateway itself safe was
// refused before.
func (x *exchange) waive(err error) bool {
	if x.access.Mode != grants.Report {
		return false
	}
	x.note(err)
	x.line.Auth = "not_enforced"
	return true
}

// stillBound looks at the binding once more right before leg 3: after an
// unbind the router would hand the signature to the app.
func (x *exchange) stillBound() error {
	now := x.g.Access(x.line.Binding)
	if now == nil || now.Route != x.access.Route {
		return fmt.Errorf("%w: unbound meanwhile", refusal.ErrUnknownBinding)
	}
	return nil
}
