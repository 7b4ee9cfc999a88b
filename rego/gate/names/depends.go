package names

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// runtime reports whether a key is known only when a request comes: it depends
// on the input, on data, or on what a reference goes through. A key that is
// written in the policy is a name.
func (c *checker) runtime(rule *ast.Rule, key *ast.Term) bool {
	return c.depends(rule, key, map[dependency]bool{})
}

type dependency struct {
	rule *ast.Rule
	name string
}

func (c *checker) depends(rule *ast.Rule, term *ast.Term, seen map[dependency]bool) bool {
	found := false
	ast.WalkTerms(term, func(t *ast.Term) bool {
		if found {
			return true
		}
		switch value := t.Value.(type) {
		case ast.Ref:
			found = c.refDepends(rule, value, seen)
			return true
		case ast.Var:
			found = c.varDepends(rule, value, seen)
		}
		return found
	})
	return found
}

func (c *checker) refDepends(rule *ast.Rule, ref ast.Ref, seen map[dependency]bool) bool {
	if ref[0].Equal(ast.InputRootDocument) {
		return true
	}
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return c.depends(rule, ref[0], seen) // an element is as its collection, whichever the keys choose
	}
	rules := c.compiler.GetRulesDynamicWithOpts(ref.ConstantPrefix(), ast.RulesOptions{IncludeHiddenModules: true})
	if len(rules) == 0 {
		return true // data
	}
	return slices.ContainsFunc(rules, func(r *ast.Rule) bool { return c.ruleDepends(r, seen) })
}

func (c *checker) ruleDepends(rule *ast.Rule, seen map[dependency]bool) bool {
	at := dependency{rule, ""}
	if seen[at] {
		return false
	}
	seen[at] = true
	found := false
	ofRule(rule, func(node any) {
		if term, ok := node.(*ast.Term); ok && !found {
			if ref, ok := term.Value.(ast.Ref); ok {
				found = c.refDepends(rule, ref, seen)
			}
		}
	})
	return found || rule.Else != nil && c.ruleDepends(rule.Else, seen)
}

func (c *checker) varDepends(rule *ast.Rule, v ast.Var, seen map[dependency]bool) bool {
	at := dependency{rule, string(v)}
	if seen[at] {
		return false
	}
	seen[at] = true
	if v.Equal(ast.InputRootDocument.Value) {
		return true
	}
	given, b := c.given(rule, v), c.bodies[rule]
	if len(given) > 0 { // every call must give what depends on the request
		return !slices.ContainsFunc(given, func(g call) bool { return !c.depends(g.by, g.args[0], seen) })
	}
	defined := b.definitions[v]
	for _, made := range b.results[v] {
		defined = append(slices.Clip(defined), made[1:]...)
	}
	if len(defined) == 0 && len(b.results[v]) == 0 {
		return !v.Equal(ast.DefaultRootDocument.Value) // it goes through what is there
	}
	return slices.ContainsFunc(defined, func(term *ast.Term) bool { return c.depends(rule, term, seen) })
}
