package rego

import (
	"context"
	"slices"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// Under returns the same request as the policy p would get it: p's operator's
// grants stand in the place of those of r's own policy. It does not go through
// [grants.Access.Live], which remembers one site's grants only, those of the
// policy in force.
func (r *Request) Under(p *Policy) *Request {
	under := *r
	under.Policy = p
	operators := func(rule grants.Rule) bool { return rule.Origin == grants.FromOperator }
	if p == r.Policy || len(p.Site().Grants) == 0 && !slices.ContainsFunc(r.Live.Rules, operators) {
		return &under
	}
	lists := map[grants.Origin][]grants.Grant{}
	for _, rule := range r.Live.Rules {
		lists[rule.Origin] = append(lists[rule.Origin], rule.Grant)
	}
	a := r.Live.Access
	under.Live = grants.NewAccess(&grants.Access{
		Binding: a.Binding, Route: a.Route, Owner: a.Owner, Scope: a.Scope, Mode: a.Mode, Assert: a.Assert,
		Labels: a.Labels, Revision: a.Revision,
	}, lists[grants.FromInstance], lists[grants.FromBinding]).Live(r.Now, p.Site())
	return &under
}

// Answer is what the gateway would decide about a verified caller's request:
// Go's guard, the policy, and Go's confirmation. What is no decision is the
// denial policy_error, and the error says why.
func Answer(ctx context.Context, r *Request) (Decision, error) {
	if !r.Live.Scope.Admits(r.Caller, r.Live.Owner) {
		return Decision{Policy: "domain:scope=" + r.Live.Scope.String(), Reason: "scope"}, nil
	}
	if len(r.Live.Rules) == 0 {
		return Decision{Policy: "route:no_grants", Reason: "no_grants"}, nil
	}
	decision, err := r.Policy.Decide(ctx, r)
	if err != nil {
		return Decision{Policy: "gateway:policy_error", Reason: "policy_error"}, err
	}
	return Confirm(decision, r), nil
}

// ReadsAny reports whether the policy can read one of these paths of the input,
// such as "request.path": see [reads.Any].
func (p *Policy) ReadsAny(paths []string) bool { return reads.Any(p.compiler, paths) }
