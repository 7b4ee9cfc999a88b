package names

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// flow reports whether one of the values is made of data. Unlike [runtime] it
// does not ask what a value was chosen by.
func (c *checker) flow(rule *ast.Rule, terms []*ast.Term) bool {
	f := flow{c, map[dependency]bool{}}
	return slices.ContainsFunc(terms, func(term *ast.Term) bool { return f.term(rule, term) })
}

type flow struct {
	*checker
	seen map[dependency]bool
}

func (f flow) term(rule *ast.Rule, term *ast.Term) bool {
	found := false
	ast.WalkTerms(term, func(t *ast.Term) bool {
		if found {
			return true
		}
		switch value := t.Value.(type) {
		case ast.Ref:
			found = f.ref(rule, value)
		case ast.Var:
			found = f.variable(rule, value)
		case *ast.ArrayComprehension:
			found = f.term(rule, value.Term)
		case *ast.SetComprehension:
			found = f.term(rule, value.Term)
		case *ast.ObjectComprehension:
			found = f.term(rule, value.Key) || f.term(rule, value.Value)
		default:
			return false
		}
		return true
	})
	return found
}

func (f flow) ref(rule *ast.Rule, ref ast.Ref) bool {
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return f.term(rule, ref[0])
	}
	rules := f.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
	return len(rules) == 0 || slices.ContainsFunc(rules, f.rule)
}

func (f flow) rule(rule *ast.Rule) bool {
	at := dependency{rule, ""}
	if f.seen[at] {
		return false
	}
	f.seen[at] = true
	terms := slices.Clone(rule.Ref()[1:])
	for _, term := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if term != nil {
			terms = append(terms, term)
		}
	}
	return slices.ContainsFunc(terms, func(term *ast.Term) bool { return f.term(rule, term) }) || rule.Else != nil && f.rule(rule.Else)
}

func (f flow) variable(rule *ast.Rule, v ast.Var) bool {
	at := dependency{rule, string(v)}
	if f.seen[at] {
		return false
	}
	f.seen[at] = true
	if v.Equal(ast.DefaultRootDocument.Value) {
		return true
	}
	b := f.bodies[rule]
	terms := slices.Concat(b.definitions[v], b.members[v])
	for _, made := range b.results[v] {
		if ref, ok := made[0].Value.(ast.Ref); ok && slices.ContainsFunc(f.compiler.GetRulesExact(ref), f.rule) {
			return true
		}
		terms = append(terms, made[1:]...)
	}
	return slices.ContainsFunc(terms, func(term *ast.Term) bool { return f.term(rule, term) }) ||
		slices.ContainsFunc(f.given(rule, v), func(g call) bool { return f.term(g.by, g.args[0]) })
}
