package names

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego/gate/names/keys"
)

// taken returns the paths that a call of a builtin takes from its first
// argument. They are optional: a path that is not there gives a default, or
// nothing. But a name that is nowhere is misspelt.
func (c *checker) taken(rule *ast.Rule, terms []*ast.Term) []path {
	if len(terms) < 3 {
		return nil
	}
	var paths []path
	switch terms[0].String() {
	case "object.get":
		c.literals(rule, terms[2], maxDepth, func(by *ast.Rule, key *ast.Term) {
			if list, ok := key.Value.(*ast.Array); ok {
				paths = append(paths, pathIn(by, keys.Elements(list)))
				return
			}
			paths = append(paths, pathIn(by, []*ast.Term{key}))
		})
	case "object.filter", "object.remove", "json.filter", "json.remove":
		c.literals(rule, terms[2], maxDepth, func(by *ast.Rule, given *ast.Term) {
			for _, key := range keys.Elements(given.Value) {
				paths = append(paths, pathIn(by, keys.Split(terms[0].String(), key)))
			}
		})
	}
	return paths
}

// literals visits what a term may be written as, through variables, arguments
// and rules; the term itself, where none of these leads further.
func (c *checker) literals(rule *ast.Rule, term *ast.Term, depth int, visit func(*ast.Rule, *ast.Term)) {
	further := false
	next := func(by *ast.Rule, to *ast.Term) {
		further = true
		c.literals(by, to, depth-1, visit)
	}
	switch value := term.Value.(type) {
	case ast.Var:
		for _, definition := range c.bodies[rule].definitions[value] {
			if depth > 0 && !isRoot(term) {
				next(rule, definition)
			}
		}
		for _, given := range c.given(rule, value) {
			if depth > 0 {
				next(given.by, given.args[0])
			}
		}
	case ast.Ref:
		for _, to := range c.compiler.GetRulesExact(value) {
			for r := to; r != nil && depth > 0; r = r.Else {
				next(r, r.Head.Value)
			}
		}
	}
	if !further {
		visit(rule, term)
	}
}

// takesApart reports whether a pattern has objects with variables, and what it
// is compared with is made of data.
func (c *checker) takesApart(rule *ast.Rule, pattern, of *ast.Term) bool {
	found := false
	ast.WalkTerms(pattern, func(t *ast.Term) bool {
		switch value := t.Value.(type) {
		case *ast.Array:
			return false
		case ast.Object:
			value.Foreach(func(_, member *ast.Term) { _, isVar := member.Value.(ast.Var); found = found || isVar })
			return false
		}
		return true
	})
	if !found {
		return false
	}
	v, ok := of.Value.(ast.Var)
	if !ok {
		return c.flow(rule, []*ast.Term{of})
	}
	b := c.bodies[rule]
	others := slices.DeleteFunc(slices.Concat(b.definitions[v], b.members[v]), func(t *ast.Term) bool { return t == pattern })
	for _, made := range b.results[v] {
		others = append(others, made[1:]...)
	}
	for _, given := range c.given(rule, v) {
		if c.flow(given.by, given.args) {
			return true
		}
	}
	return c.flow(rule, others)
}
