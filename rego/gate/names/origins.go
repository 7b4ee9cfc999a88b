package names

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// maxDepth bounds how many variables and functions a value is followed
	// through, and maxOrigins in how many branches.
	maxDepth   = 8
	maxOrigins = 64
)

// An origin is a reference to data or input, and the rule in which the
// variables of its keys mean something.
type origin struct {
	ref ast.Ref
	// keys are the rules that the elements of ref come from, one each.
	keys []*ast.Rule
}

// origins follows the head of a reference, through variables and the arguments
// of functions, to what it refers to in data and input. What comes from
// elsewhere has no origin.
func (c *checker) origins(rule *ast.Rule, ref ast.Ref, depth int) []origin {
	head, ok := ref[0].Value.(ast.Var)
	if !ok || depth == 0 {
		return nil
	}
	if ref[0].Equal(ast.DefaultRootDocument) || ref[0].Equal(ast.InputRootDocument) {
		return []origin{{ref, slices.Repeat([]*ast.Rule{rule}, len(ref))}}
	}
	var found []origin
	follow := func(by *ast.Rule, term *ast.Term) {
		var next ast.Ref
		switch value := term.Value.(type) {
		case ast.Ref:
			next = value
		case ast.Var:
			if value == head && by == rule {
				return
			}
			next = ast.Ref{term}
		default:
			return
		}
		for _, from := range c.origins(by, next, depth-1) {
			if len(found) == maxOrigins {
				return
			}
			found = append(found, origin{
				slices.Concat(from.ref, ref[1:]), append(slices.Clip(from.keys), slices.Repeat([]*ast.Rule{rule}, len(ref)-1)...),
			})
		}
	}
	for _, definition := range c.bodies[rule].definitions[head] {
		follow(rule, definition)
	}
	for _, given := range c.given(rule, head) {
		follow(given.by, given.args[0])
	}
	return found
}

// given returns what calls give to a parameter, one argument each.
func (c *checker) given(rule *ast.Rule, parameter ast.Var) []call {
	at := slices.IndexFunc(rule.Head.Args, func(arg *ast.Term) bool { return arg.Value.Compare(parameter) == 0 })
	if at < 0 {
		return nil
	}
	var args []call
	for _, made := range c.calls[rule.Ref().String()] {
		if at < len(made.args) {
			args = append(args, call{made.by, made.args[at : at+1]})
		}
	}
	return args
}

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
	defined := slices.Concat(b.definitions[v], b.made[v])
	if len(defined) == 0 && len(b.made[v]) == 0 {
		return !v.Equal(ast.DefaultRootDocument.Value) // it goes through what is there
	}
	return slices.ContainsFunc(defined, func(term *ast.Term) bool { return c.depends(rule, term, seen) })
}
