// Package guard tries what must hold of every policy, whatever its checks say:
//
//   - without grants nobody is allowed;
//   - an unknown caller is allowed nothing;
//   - each check can deny alone: undefined, false or not exactly true, it does;
//   - a check never allows what the grants do not;
//   - a decision of another shape denies;
//   - no request takes longer than the limit of an evaluation.
//
// The cases are generated from a fixed seed and from the words that the policy
// itself compares with, so the same policy gets the same cases. It trusts only
// what it sees: a guard that cannot see an allow where there must be one fails
// too. It fails closed: what it could not try within the time is refused.
package guard

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// ErrSlow: an evaluation was cut at its deadline. Config.Ask returns it.
var ErrSlow = errors.New("the evaluation was cut at its deadline")

// Config configures [Check].
type Config struct {
	// Ask evaluates a query, which gives a variable decision, for one input and
	// reports whether that allows. Every error denies; it is an ErrSlow if the
	// deadline was the reason.
	Ask func(ctx context.Context, query string, input *ast.Term) (allow bool, err error)
	// Checks are the names of the operator's checks.
	Checks []string
	// Modules are the operator's; the cases use their words.
	Modules map[string]*ast.Module
}

// Check tries all cases until ctx ends. Its errors are [*bundle.Refusal].
func Check(ctx context.Context, cfg Config) error {
	g := &guard{Config: cfg, ctx: ctx, inputs: generate(cfg.Modules)}
	for _, try := range []func() error{g.canAllow, g.noGrants, g.unknownCallers, g.eachCheckDenies, g.onlyDecisionsCount, g.checksOnlyNarrow, g.inTime} {
		if err := try(); err != nil {
			return err
		}
		if g.slow != nil && ctx.Err() == nil {
			return tooSlow(g.slow)
		}
		if ctx.Err() != nil {
			return bundle.Refuse(bundle.StepTime, nil, "the guard cases were stopped: %v", context.Cause(ctx))
		}
	}
	return nil
}

type guard struct {
	Config
	ctx    context.Context
	inputs []*ast.Term
	// slow is an input that was too slow in every attempt.
	slow *ast.Term
}

const decision = "decision = data.mtls.authz.decision"

func broken(format string, args ...any) error {
	return bundle.Refuse(bundle.StepGuards, nil, format, args...).WithFix("this is a fault of the gateway or of OPA: please report the bundle")
}

// attempts is how often an input may be too slow: a busy machine is slow once,
// a policy always.
const attempts = 5

// allows evaluates; every error denies. What is cut every time has not been
// tried, and is noted.
func (g *guard) allows(query string, input *ast.Term) bool {
	for range attempts {
		allow, err := g.Ask(g.ctx, query, input)
		if !errors.Is(err, ErrSlow) {
			return err == nil && allow
		}
	}
	g.slow = input
	return false
}

// passing is the query with every check forced to be true, but for those given.
func (g *guard) passing(but string, as string) string {
	checks := ast.NewObject()
	for _, name := range g.Checks {
		value := ast.ObjectTerm(ast.Item(ast.StringTerm("allow"), ast.BooleanTerm(true)))
		if name == but {
			value = ast.MustParseTerm(as)
		}
		checks.Insert(ast.StringTerm(name), value)
	}
	if len(g.Checks) == 0 {
		return decision
	}
	return fmt.Sprintf("%s with data.site.check as %s", decision, checks)
}

// canAllow is the control: with a grant and all checks true, somebody is
// allowed. Without it the other cases would prove nothing.
func (g *guard) canAllow() error {
	if !g.allows(g.passing("", ""), typical().term()) && g.slow == nil && g.ctx.Err() == nil {
		return broken("with a grant and every check true, nothing is allowed")
	}
	return nil
}

func (g *guard) noGrants() error {
	for _, input := range g.inputs {
		bare := with(input, "grants", noGrants)
		for _, query := range []string{decision, g.passing("", "")} {
			if g.allows(query, bare) {
				return broken("a request is allowed without any grant: %s", bare)
			}
		}
	}
	return nil
}

func (g *guard) unknownCallers() error {
	base := with(typical().term(), "grants", grantsToAny)
	for _, caller := range nobodies() {
		input := with(base, "caller", caller)
		for _, query := range []string{decision, g.passing("", "")} {
			if g.allows(query, input) {
				return broken("an unknown caller is allowed: %s", caller)
			}
		}
	}
	return nil
}

// notTrue are values of a check that do not allow: no allow at all, and what
// is not exactly true.
var notTrue = []string{`{}`, `{"allow": false}`, `{"allow": "true"}`, `{"allow": 1}`, `{"allow": null}`, `{"allow": [true]}`, `{"allow": {"allow": true}}`, `true`}

func (g *guard) eachCheckDenies() error {
	input := typical().term()
	for _, check := range g.Checks {
		for _, value := range notTrue {
			if g.allows(g.passing(check, value), input) {
				return broken("a request is allowed although check %s is %s", check, value)
			}
		}
	}
	return nil
}

var malformed = []string{
	`true`, `"allow"`, `[true]`, `{"allow": true}`, `{"allow": "true", "policy": "", "reason": "", "headers": {}}`,
	`{"allow": true, "policy": "", "reason": "", "headers": []}`, `{"allow": true, "policy": "", "reason": "", "headers": {"Via": "x"}}`,
	`{"allow": true, "policy": "", "reason": "", "headers": {}, "more": 1}`,
}

func (g *guard) onlyDecisionsCount() error {
	for _, value := range malformed {
		if g.allows(decision+" with data.mtls.authz.decision as "+value, typical().term()) {
			return broken("%s is taken for an allow", value)
		}
	}
	return nil
}

// checksOnlyNarrow: what the policy allows, the grants alone allow.
func (g *guard) checksOnlyNarrow() error {
	for _, input := range g.inputs {
		if g.allows(decision, input) && !g.allows(g.passing("", ""), input) && g.slow == nil && g.ctx.Err() == nil {
			return broken("a request is allowed that no grant matches: %s", input)
		}
	}
	return nil
}

func (g *guard) inTime() error {
	for _, input := range append(g.inputs, largest()) {
		g.allows(decision, input) // the answer is the policy's own; the time counts
		if g.slow != nil {
			break
		}
	}
	return nil
}

func tooSlow(input *ast.Term) error {
	text := input.String()
	if len(text) > 1000 {
		text = text[:1000] + "…"
	}
	return bundle.Refuse(bundle.StepTime, nil, "the decision takes longer than POLICY_TIMEOUT for %s", text).
		WithFix("look values up by key instead of going through lists, or raise POLICY_TIMEOUT")
}
