package rego

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/mtls-authz/mtls-authz/rego/gate"
	"github.com/mtls-authz/mtls-authz/rego/gate/guard"
)

// guard tries what must hold of every policy.
func (p *Policy) guard(ctx context.Context, compiled *gate.Compiled) error {
	queries := map[string]ast.Body{}
	return guard.Check(ctx, guard.Config{
		Checks: compiled.Checks, Modules: compiled.Bundle.Modules,
		Ask: func(ctx context.Context, query string, input *ast.Term) (bool, error) {
			body, ok := queries[query]
			if !ok {
				parsed, err := ast.ParseBody(query)
				if err != nil {
					return false, err
				}
				if body, err = p.compiler.QueryCompiler().Compile(parsed); err != nil {
					return false, err
				}
				queries[query] = body
			}
			return p.ask(ctx, body, input)
		},
	})
}

// ask evaluates a query as a request does, for an input that is made up.
func (p *Policy) ask(ctx context.Context, query ast.Body, input *ast.Term) (allow bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			allow, err = false, fmt.Errorf("%w: panic: %v", ErrPolicy, v)
		}
	}()
	var results []ast.Value
	start := time.Now()
	err = p.evaluate(ctx, query, input, func(v ast.Value) { results = append(results, v) })
	switch {
	case topdown.IsCancel(err) && ctx.Err() == nil:
		return false, guard.ErrSlow
	case err != nil:
		return false, err
	// A builtin that does not look at the deadline must not pass for fast.
	case time.Since(start) > 2*p.timeout:
		return false, guard.ErrSlow
	}
	decision, err := decisionOf(results)
	return decision.Allow, err
}
