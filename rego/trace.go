package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// traceTimeout bounds one [Policy.Trace], which is far slower than a decision.
const traceTimeout = 5 * time.Second

// Trace evaluates one reference, such as data.site.check.one.allow, for a
// request, and returns its value: nil if it is undefined. Every step is shown to
// the tracer, if there is one; no rule is passed over because an index says that
// it cannot hold. It is for people: nothing is decided by it.
func (p *Policy) Trace(ctx context.Context, r *Request, ref ast.Ref, tracer topdown.QueryTracer) (value ast.Value, err error) {
	defer func() {
		if v := recover(); v != nil {
			value, err = nil, fmt.Errorf("%w: panic: %v", ErrPolicy, v)
		}
	}()
	result := ast.VarTerm("value")
	query, err := p.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(result, ast.NewTerm(ref))))
	if err != nil {
		return nil, errors.Join(ErrPolicy, err)
	}
	cancel := topdown.NewCancel()
	deadline := time.AfterFunc(traceTimeout, cancel.Cancel)
	defer deadline.Stop()
	q := p.newQuery(query, r.input(newRouteInput(r.Live), p.zone)).WithCancel(cancel).WithIndexing(false).WithEarlyExit(false)
	if tracer != nil {
		q = q.WithQueryTracer(tracer)
	}
	err = q.Iter(ctx, func(found topdown.QueryResult) error {
		value = found[result.Value.(ast.Var)].Value
		return nil
	})
	if err != nil {
		return nil, errors.Join(ErrPolicy, err)
	}
	return value, nil
}

// Input is the input document of a request, as JSON has it.
func (r *Request) Input() (any, error) {
	return ast.JSON(r.input(newRouteInput(r.Live), r.Policy.zone).Value)
}
