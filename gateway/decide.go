package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/rego"
)

// guard is what Go decides alone.
func (x *exchange) guard() error {
	if !x.access.Scope.Admits(x.caller, x.access.Owner) {
		return refusal.ErrScope
	}
	if len(x.live.Rules) == 0 {
		return refusal.ErrNoGrants
	}
	return nil
}

// guarded is guard, and tells of routes without grants: another policy may bring
// grants of the operator.
func (x *exchange) guarded() error {
	err := x.guard()
	if errors.Is(err, refusal.ErrNoGrants) {
		x.tell(x.question(), rego.Decision{Policy: "route:no_grants", Reason: "no_grants"})
	}
	return err
}

// tell hands a decision to whoever wants to know.
func (x *exchange) tell(r *rego.Request, d rego.Decision) {
	if x.g.Decided != nil {
		x.g.Decided(x.id, r, d)
	}
}

// confirm counts what went on: until the router has accepted the request, nobody
// knows whether it was the caller's.
func (x *exchange) confirm() {
	if x.provisional != nil {
		x.tell(x.provisional, x.decision)
	}
	if x.g.Used != nil {
		x.g.Used(x.line.Binding, x.started)
	}
}

// question is what the policy is asked.
func (x *exchange) question() *rego.Request {
	return &rego.Request{
		Policy: x.policy, Live: x.live, Caller: x.caller, Method: x.r.Method,
		Host: x.target.Host, Path: x.target.Path, Segments: x.target.Segments, Now: x.started,
	}
}

// decide asks the policy, and tells what it refused; see [exchange.confirm].
func (x *exchange) decide() error {
	before := x.g.Now()
	request, err := x.ask(x.r.Context())
	x.line.DecideUS = x.g.Now().Sub(before).Microseconds()
	x.line.Cache = x.decision.Cache.String()
	switch {
	case errors.Is(err, refusal.ErrClientGone):
		return err
	case err != nil:
		x.decision = rego.Decision{Policy: "gateway:policy_error", Reason: "policy_error"}
	}
	if !x.decision.Allow { // so it is after an error
		x.tell(request, x.decision)
		return cmp.Or(err, refusal.ErrDenied)
	}
	x.provisional = request
	x.line.Auth, x.line.Policy = "allowed", x.decision.Policy
	return nil
}

// ask asks cache and policy, and confirms what they allow.
func (x *exchange) ask(ctx context.Context) (*rego.Request, error) {
	request := x.question()
	decision, err := x.g.Decider.Decide(ctx, request)
	switch {
	case err == nil:
		decision = rego.Confirm(decision, request)
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", refusal.ErrClientGone, err) // it waited for another's evaluation
	}
	x.decision = decision
	return request, err
}
