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
	// definitions are the terms that a variable is compared with.
	definitions map[ast.Var][]*ast.Term
	// results are the calls whose result it is: the function and its arguments.
	results map[ast.Var][][]*ast.Term
	// members are the collections whose keys it goes through: members of a set.
	members map[ast.Var][]*ast.Term
}

// note collects definitions and calls. Variables of nested bodies have names of
// their own within the rule, so one table serves.
func (c *checker) note(rule *ast.Rule) {
	b := &body{map[ast.Var][]*ast.Term{}, map[ast.Var][][]*ast.Term{}, map[ast.Var][]*ast.Term{}}
	c.bodies[rule] = b
	ofRule(rule, func(node any) {
		switch x := node.(type) {
		case *ast.Every:
			b.define(x.Value, elementOf(x.Domain))
		case *ast.Expr:
			terms, ok := x.Terms.([]*ast.Term)
			if !ok || len(terms) < 2 {
				return
			}
			if x.IsEquality() && len(terms) == 3 {
				b.define(terms[1], terms[2])
				b.define(terms[2], terms[1])
				return
			}
			c.noteCall(rule, b, terms)
		case ast.Call:
			c.noteCall(rule, b, x)
		case *ast.Term:
			ref, _ := x.Value.(ast.Ref)
			for i, element := range ref {
				if v, ok := element.Value.(ast.Var); ok && i > 0 {
					b.members[v] = append(b.members[v], ast.NewTerm(ref[:i]))
				}
			}
		}
	})
}

// define notes what a variable is; one in a pattern is some part of the value.
func (b *body) define(a, is *ast.Term) {
	if a == nil {
		return
	}
	switch value := a.Value.(type) {
	case ast.Var:
		b.definitions[value] = append(b.definitions[value], is)
	case *ast.Array:
		value.Foreach(func(part *ast.Term) { b.define(part, elementOf(is)) })
	case ast.Object:
		value.Foreach(func(_, part *ast.Term) { b.define(part, elementOf(is)) })
	}
}

func (c *checker) noteCall(rule *ast.Rule, b *body, terms []*ast.Term) {
	args := terms[1:]
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok {
		return
	}
	c.calls[ref.String()] = append(c.calls[ref.String()], call{rule, args})
	if len(args) > c.arity(ref) {
		result := args[len(args)-1]
		if v, ok := result.Value.(ast.Var); ok {
			b.results[v] = append(b.results[v], terms[:len(terms)-1])
		}
	}
}

// arity is how many arguments a function has; one more is its result.
func (c *checker) arity(ref ast.Ref) int {
	if rules := c.compiler.GetRulesExact(ref); len(rules) > 0 {
		return len(rules[0].Head.Args)
	}
	if builtin, ok := ast.BuiltinMap[ref.String()]; ok {
		return builtin.Decl.Arity()
	}
	return 0
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
	prove := func(at *ast.Location, origins []origin, optional int) {
		for _, origin := range origins {
			if origin.optional = optional; refusal == nil {
				if refusal = c.checkRef(origin); refusal != nil {
					refusal = refusal.At(at)
				}
			}
		}
	}
	ofRule(rule, func(node any) {
		if refusal != nil || c.ctx.Err() != nil {
			return
		}
		switch x := node.(type) {
		case *ast.Term:
			if _, ok := x.Value.(ast.Ref); ok {
				prove(x.Location, c.origins(rule, x, path{}), 0)
			}
		case *ast.Expr:
			if terms, ok := x.Terms.([]*ast.Term); ok {
				if x.IsEquality() && len(terms) == 3 && (c.takesApart(rule, terms[1], terms[2]) || c.takesApart(rule, terms[2], terms[1])) {
					refusal = refuse("an object of data is taken apart; names that it does not have would be undefined").
						WithFix("write each name where it is read, such as data.lists.blocked").At(x.Location)
					return
				}
				for _, taken := range c.taken(rule, terms) {
					prove(x.Location, c.origins(rule, terms[1], taken), len(taken.elements))
				}
			}
		case ast.Call:
			for _, taken := range c.taken(rule, x) {
				prove(x[0].Location, c.origins(rule, x[1], taken), len(taken.elements))
			}
		}
	})
	return refusal
}
