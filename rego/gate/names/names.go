// Package names proves that each name which a policy reads is there. A name
// that is not there is undefined, and under negation that allows:
//
//	allow if not data.site.blokced[input.caller.app]
//
// It trusts nothing of the policy and knows all of the data. It fails closed:
// what it cannot prove is refused, with a way to write it so that it can. A key
// that comes from the request, as input.caller.app above, is no name: that it
// is not there is what the policy asks.
package names

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Check refuses, in the modules whose key begins with prefix, names below
// data or input that are not there. The compiler has compiled; it has checked
// the types of input already, but for what is given to functions.
func Check(ctx context.Context, compiler *ast.Compiler, data map[string]any, prefix string) error {
	c := &checker{ctx: ctx, compiler: compiler, data: data, calls: map[string][]call{}, bodies: map[*ast.Rule]*body{}}
	keys := slices.Sorted(maps.Keys(compiler.Modules))
	for _, key := range keys {
		for _, rule := range compiler.Modules[key].Rules {
			for r := rule; r != nil; r = r.Else {
				c.note(r)
			}
		}
	}
	var refusals []*bundle.Refusal
	for _, key := range keys {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		for _, rule := range compiler.Modules[key].Rules {
			for r := rule; r != nil; r = r.Else {
				if refusal := c.checkRule(r); refusal != nil {
					refusals = append(refusals, refusal)
				}
			}
		}
	}
	if ctx.Err() != nil {
		return bundle.Refuse(bundle.StepTime, nil, "looking for names was stopped: %v", context.Cause(ctx))
	}
	return bundle.Join(refusals...)
}

type checker struct {
	ctx      context.Context
	compiler *ast.Compiler
	data     map[string]any
	// calls are those of the bundle's functions, by full name.
	calls  map[string][]call
	bodies map[*ast.Rule]*body
}

// call is one call of a function.
type call struct {
	by   *ast.Rule
	args []*ast.Term
}

// body is what a rule says of its variables.
type body struct {
	// definitions are the terms that a variable is compared with; made are the
	// arguments of the calls whose result it is.
	definitions, made map[ast.Var][]*ast.Term
}

// note collects definitions and calls. Variables of nested bodies have names of
// their own within the rule, so one table serves.
func (c *checker) note(rule *ast.Rule) {
	b := &body{map[ast.Var][]*ast.Term{}, map[ast.Var][]*ast.Term{}}
	c.bodies[rule] = b
	define := func(a, is *ast.Term) {
		if v, ok := a.Value.(ast.Var); ok {
			b.definitions[v] = append(b.definitions[v], is)
		}
	}
	ofRule(rule, func(node any) {
		switch x := node.(type) {
		case *ast.Every:
			if x.Value != nil {
				define(x.Value, elementOf(x.Domain))
			}
		case *ast.Expr:
			terms, ok := x.Terms.([]*ast.Term)
			if !ok || len(terms) < 2 {
				return
			}
			if x.IsEquality() && len(terms) == 3 {
				define(terms[1], terms[2])
				define(terms[2], terms[1])
				return
			}
			c.noteCall(rule, b, terms)
		case ast.Call:
			c.noteCall(rule, b, x)
		}
	})
}

func (c *checker) noteCall(rule *ast.Rule, b *body, terms []*ast.Term) {
	args := terms[1:]
	if ref, ok := terms[0].Value.(ast.Ref); ok {
		c.calls[ref.String()] = append(c.calls[ref.String()], call{rule, args})
	}
	if v, ok := args[len(args)-1].Value.(ast.Var); ok {
		b.made[v] = append(b.made[v], args[:len(args)-1]...)
	}
}

// ofRule visits head and body of one rule, without the rules of its else.
func ofRule(rule *ast.Rule, visit func(any)) {
	visitor := ast.NewGenericVisitor(func(node any) bool {
		if r, ok := node.(*ast.Rule); ok && r != rule {
			return true
		}
		visit(node)
		return false
	})
	visitor.Walk(rule.Head)
	visitor.Walk(rule.Body)
}

// elementOf is any element of a collection.
func elementOf(collection *ast.Term) *ast.Term {
	element := ast.VarTerm(ast.Wildcard.String())
	if ref, ok := collection.Value.(ast.Ref); ok {
		return ast.NewTerm(ref.Append(element)).SetLocation(collection.Location)
	}
	return ast.NewTerm(ast.Ref{collection, element}).SetLocation(collection.Location)
}

// checkRule returns the first thing that cannot be proven in the rule.
func (c *checker) checkRule(rule *ast.Rule) *bundle.Refusal {
	var refusal *bundle.Refusal
	ofRule(rule, func(node any) {
		term, ok := node.(*ast.Term)
		if !ok || refusal != nil || c.ctx.Err() != nil {
			return
		}
		if ref, ok := term.Value.(ast.Ref); ok {
			for _, origin := range c.origins(rule, ref, maxDepth) {
				if refusal = c.checkRef(origin); refusal != nil {
					refusal = refusal.At(term.Location)
					return
				}
			}
		}
	})
	return refusal
}
