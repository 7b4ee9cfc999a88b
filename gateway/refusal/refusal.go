// Package refusal is why a request is not let through, or did not get through:
// the sentinels of the gateway's walk, and the one table from each sentinel, also
// of the packages that it asks, to what the client hears.
//
// It fails closed: what is not in the table is refused as an internal error.
package refusal

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/request"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// The refusals that arise in the walk itself; those of the other packages arise there.
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

// An Answer is what a client hears of a refusal.
type Answer struct {
	when   error
	Status int
	// Reason is its id, a contract with log readers and callers.
	Reason string
	Title  string
	// Step of the walk at which it arises: admit, binding, target, caller, guard,
	// decide or forward.
	Step string
	// Upstream: the request was allowed, and what failed came after.
	Upstream bool
}

// answers is the one table from sentinel to answer. Reasons of ErrDenied and
// the status of leg3.ErrRejected come from the decision and the router.
var answers = []Answer{
	{ErrNotReady, http.StatusServiceUnavailable, "not_ready", "The gateway is not ready.", "admit", false},
	{ErrOverloaded, http.StatusServiceUnavailable, "overloaded", "The gateway has too many requests in flight.", "admit", false},
	{ErrUnknownBinding, http.StatusForbidden, "unknown_binding", "The route is not bound to this gateway.", "binding", false},
	{request.ErrMalformed, http.StatusBadRequest, "malformed_request", "The request cannot be forwarded safely.", "target", false},
	{target.ErrMalformed, http.StatusBadRequest, "malformed_request", "The request cannot be forwarded safely.", "target", false},
	{ErrLoop, http.StatusBadRequest, "loop", "The request has passed this gateway before.", "target", false},
	{ErrRouteMismatch, http.StatusForbidden, "route_mismatch", "The request is not for the route of this binding.", "target", false},
	{ErrRouterUntrusted, http.StatusServiceUnavailable, "router_untrusted", "The router of this domain is not proven to be configured safely.", "caller", false},
	{identity.ErrNoCertificate, http.StatusForbidden, "no_certificate", "The caller presented no certificate.", "caller", false},
	{identity.ErrUntrustedCertificate, http.StatusForbidden, "untrusted_certificate", "The caller's certificate is not trusted.", "caller", false},
	{identity.ErrIdentityExtraction, http.StatusForbidden, "identity_extraction", "The caller's certificate names no app.", "caller", false},
	{ErrScope, http.StatusForbidden, "scope", "The caller is outside the scope of this route.", "guard", false},
	{ErrNoGrants, http.StatusForbidden, "no_grants", "Nobody is allowed to call this route.", "guard", false},
	{ErrDenied, http.StatusForbidden, "", "The caller is not allowed to make this request.", "decide", false},
	{rego.ErrPolicy, http.StatusForbidden, "policy_error", "The policy gave no decision.", "decide", false},
	{leg3.ErrRejected, http.StatusBadGateway, "router_rejected", "The router refused to deliver the request.", "forward", false},
	{ErrUpstreamUnreachable, http.StatusBadGateway, "upstream_unreachable", "The router or the app could not be reached.", "forward", true},
	{ErrUpstreamTimeout, http.StatusGatewayTimeout, "upstream_timeout", "The app did not answer in time.", "forward", true},
	{front.ErrSlow, http.StatusRequestTimeout, "request_timeout", "The body of the request comes too slowly.", "forward", true},
	{ErrClientGone, 499, "client_gone", "The client closed the request.", "forward", true},
}

var internalError = Answer{nil, http.StatusInternalServerError, "internal_error", "The gateway failed.", "decide", false}

// Of is the answer to an error; what is not in the table is an internal error.
func Of(err error) Answer {
	for _, a := range answers {
		if errors.Is(err, a.when) {
			return a
		}
	}
	return internalError
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Status     int    `json:"status"`
	Title      string `json:"title"`
	Reason     string `json:"reason"`
	DecisionID string `json:"decision_id"`
}

// Write is the one shape of refusal; a client that went away hears nothing.
func (a Answer) Write(w http.ResponseWriter, decisionID string) {
	if errors.Is(a.when, ErrClientGone) {
		w.WriteHeader(a.Status)
		return
	}
	h := w.Header()
	if a.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(a.Status)
	_ = json.NewEncoder(w).Encode(problem{a.Status, a.Title, a.Reason, decisionID}) // the client may be gone
}

// StepOf is the step at which a reason id arises: those of checks when it is
// decided.
func StepOf(reason string) string {
	for _, a := range answers {
		if a.Reason == reason {
			return a.Step
		}
	}
	return internalError.Step
}

// Reasons are the reason ids of all refusals, in the order of the table.
func Reasons() []string {
	var ids []string
	for _, a := range answers {
		if a.Reason != "" {
			ids = append(ids, a.Reason)
		}
	}
	return ids
}

// Upstream names what went wrong on leg 3.
func Upstream(r *http.Request, err error) error {
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
