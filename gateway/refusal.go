package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/request"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// The refusals that arise here; those of the other packages arise there.
var (
	// ErrNotReady: no policy or state yet, or the state is too old.
	ErrNotReady = errors.New("not ready")
	// ErrOverloaded: more requests in flight than allowed.
	ErrOverloaded = errors.New("overloaded")
	// ErrUnknownBinding: the token is wrong or the binding is not there.
	ErrUnknownBinding = errors.New("unknown binding")
	// ErrLoop: the request has passed the gateway before.
	ErrLoop = errors.New("request loop")
	// ErrRouteMismatch: the forwarded URL is not of this binding's route.
	ErrRouteMismatch = errors.New("forwarded url is not of this binding")
	// ErrRouterUntrusted: the self-test has not proven that the router strips
	// forged caller certificates.
	ErrRouterUntrusted = errors.New("router not proven to strip forged certificates")
	// ErrScope: the caller is outside the route's scope.
	ErrScope = errors.New("outside the scope")
	// ErrNoGrants: the route allows nobody.
	ErrNoGrants = errors.New("no grants")
	// ErrDenied: the policy denies; the decision says why.
	ErrDenied = errors.New("denied by policy")
	// ErrUpstreamUnreachable: the router or the app could not be reached.
	ErrUpstreamUnreachable = errors.New("upstream unreachable")
	// ErrUpstreamTimeout: no answer in time.
	ErrUpstreamTimeout = errors.New("upstream timeout")
	// ErrClientGone: the client went away; nobody hears the answer.
	ErrClientGone = errors.New("client closed the request")
)

// answer is what a client hears of a refusal.
type answer struct {
	when   error
	status int
	reason string
	title  string
	// upstream: the request was allowed, and what failed came after.
	upstream bool
}

// answers is the one table from sentinel to answer. Reasons of ErrDenied and
// the status of leg3.ErrRejected come from the decision and the router.
var answers = []answer{
	{ErrNotReady, http.StatusServiceUnavailable, "not_ready", "The gateway is not ready.", false},
	{ErrOverloaded, http.StatusServiceUnavailable, "overloaded", "The gateway has too many requests in flight.", false},
	{ErrUnknownBinding, http.StatusForbidden, "unknown_binding", "The route is not bound to this gateway.", false},
	{request.ErrMalformed, http.StatusBadRequest, "malformed_request", "The request cannot be forwarded safely.", false},
	{target.ErrMalformed, http.StatusBadRequest, "malformed_request", "The request cannot be forwarded safely.", false},
	{ErrLoop, http.StatusBadRequest, "loop", "The request has passed this gateway before.", false},
	{ErrRouteMismatch, http.StatusForbidden, "route_mismatch", "The request is not for the route of this binding.", false},
	{ErrRouterUntrusted, http.StatusServiceUnavailable, "router_untrusted", "The router of this domain is not proven to be configured safely.", false},
	{identity.ErrNoCertificate, http.StatusForbidden, "no_certificate", "The caller presented no certificate.", false},
	{identity.ErrUntrustedCertificate, http.StatusForbidden, "untrusted_certificate", "The caller's certificate is not trusted.", false},
	{identity.ErrIdentityExtraction, http.StatusForbidden, "identity_extraction", "The caller's certificate names no app.", false},
	{ErrScope, http.StatusForbidden, "scope", "The caller is outside the scope of this route.", false},
	{ErrNoGrants, http.StatusForbidden, "no_grants", "Nobody is allowed to call this route.", false},
	{ErrDenied, http.StatusForbidden, "", "The caller is not allowed to make this request.", false},
	{rego.ErrPolicy, http.StatusForbidden, "policy_error", "The policy gave no decision.", false},
	{leg3.ErrRejected, http.StatusBadGateway, "router_rejected", "The router refused to deliver the request.", false},
	{ErrUpstreamUnreachable, http.StatusBadGateway, "upstream_unreachable", "The router or the app could not be reached.", true},
	{ErrUpstreamTimeout, http.StatusGatewayTimeout, "upstream_timeout", "The app did not answer in time.", true},
	{front.ErrSlow, http.StatusRequestTimeout, "request_timeout", "The body of the request comes too slowly.", true},
	{ErrClientGone, 499, "client_gone", "The client closed the request.", true},
}

var internalError = answer{nil, http.StatusInternalServerError, "internal_error", "The gateway failed.", false}

func answerTo(err error) answer {
	for _, a := range answers {
		if errors.Is(err, a.when) {
			return a
		}
	}
	return internalError
}

// leftoverTimeout is how long the rest of a refused request's body may take.
const leftoverTimeout = time.Second

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Status     int    `json:"status"`
	Title      string `json:"title"`
	Reason     string `json:"reason"`
	DecisionID string `json:"decision_id"`
}

// refuse answers with the one shape of refusal.
func (x *exchange) refuse(err error) {
	a := x.note(err)
	h := x.w.Header()
	clear(h)
	if x.r.ContentLength != 0 {
		// net/http reads what is left of a body before it lets the client have a
		// short answer; a client that sends nothing would hold the connection.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(leftoverTimeout))
	}
	if errors.Is(err, ErrClientGone) {
		x.w.WriteHeader(a.status)
		return
	}
	if a.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	x.w.WriteHeader(a.status)
	_ = json.NewEncoder(x.w).Encode(problem{a.status, a.title, a.reason, x.id})
}

// upstreamError names what went wrong on leg 3.
func upstreamError(r *http.Request, err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, leg3.ErrRejected), errors.Is(err, request.ErrMalformed):
		return err
	case front.Slow(r):
		return errors.Join(front.ErrSlow, err)
	case r.Context().Err() != nil && errors.Is(context.Cause(r.Context()), context.Canceled):
		return errors.Join(ErrClientGone, err)
	case errors.Is(err, leg3.ErrTimeout), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errors.Join(ErrUpstreamTimeout, err)
	}
	return errors.Join(ErrUpstreamUnreachable, err)
}
